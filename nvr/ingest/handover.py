"""Tracks on their way from one receiver to another: the old one records on until the new one has its first picture.

A job that is outranked is still Active, and its camera still sends; ending its run at once would cost the footage of a
connection and of a group of pictures. A job that is set Idle or deleted hands nothing over: it stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nvr.ingest.arbiter import Feed
from nvr.ingest.assignment import Assignment, Binding
from nvr.model.tokens import ReceiverToken, RecordingToken, TrackKey


@dataclass(slots=True)
class _Passing:
    feed: Feed
    """What fed the track, and does until the other one begins."""
    binding: Binding
    to: ReceiverToken
    deadline: asyncio.TimerHandle


class HandOvers:
    """`let_go` is called when a receiver shall end its run in a track: the other one begins, or its time is over."""

    def __init__(self, patience_ns: int, let_go: Callable[[ReceiverToken], None]) -> None:
        self._patience_ns = patience_ns
        self._let_go = let_go
        self._passing: dict[TrackKey, _Passing] = {}

    def bindings(self, receiver: ReceiverToken) -> Iterator[Binding]:
        """The tracks that this receiver feeds only until another one begins."""
        return (p.binding for p in self._passing.values() if p.feed.receiver == receiver)

    def begin(self, key: TrackKey, feed: Feed, binding: Binding, to: ReceiverToken) -> None:
        """A track has been won by the receiver `to`. Without effect where it is on its way already."""
        if key in self._passing or not self._patience_ns:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.call_later(self._patience_ns / 1e9, self._end, key)
        self._passing[key] = _Passing(feed, binding, to, deadline)

    def settled(self, recording: RecordingToken, assignment: Assignment) -> None:
        """The winners of a recording may have changed: what nobody hands over or takes any more ends."""
        for key, passing in list(self._passing.items()):
            if key.recording != recording:
                continue
            winner = assignment.winner(key)
            if winner is not None and winner.receiver == passing.feed.receiver:
                self._forget(key)  # it has won its track back
            elif winner is None or not assignment.competes(passing.feed):
                self._end(key)
            else:
                passing.to = winner.receiver

    def started(self, receiver: ReceiverToken, key: TrackKey) -> None:
        """The first sample of this receiver is about to be recorded in the track."""
        passing = self._passing.get(key)
        if passing is not None and passing.to == receiver:
            self._end(key)

    def drop(self, receiver: ReceiverToken | None = None) -> None:
        """This receiver (or every one) is at its end anyway."""
        for key, passing in list(self._passing.items()):
            if receiver is None or passing.feed.receiver == receiver:
                self._forget(key)

    def _forget(self, key: TrackKey) -> _Passing:
        passing = self._passing.pop(key)
        passing.deadline.cancel()
        return passing

    def _end(self, key: TrackKey) -> None:
        self._let_go(self._forget(key).feed.receiver)
