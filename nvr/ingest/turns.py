"""When events give tracks to jobs, and when these give them back: docs/design/event_recording.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from nvr.ingest.assignment import Assignment
from nvr.ingest.gate import EventGate
from nvr.model.time import NS
from nvr.model.tokens import RecordingToken

SHORTEST_NS: Final = 4 * NS
"""So long an event gives a track to its job: time for a group of pictures to begin."""
_BEHIND_S: Final = 0.1
"""So much later than an event's After is over its job gives its track back."""


class Turns:
    """Watches the gates of jobs that compete for tracks. Belongs to the event loop.

    `changed` is called when a recording is to be settled again.
    """

    def __init__(
        self,
        assignment: Assignment,
        patience_ns: int,
        changed: Callable[[RecordingToken], None],
    ) -> None:
        """`patience_ns`: how long a hand-over may take."""
        self._assignment = assignment
        self._patience_ns = patience_ns
        self._changed = changed
        self._ends: dict[RecordingToken, asyncio.TimerHandle] = {}

    def settled(self, recording: RecordingToken) -> None:
        """The winners of a recording have been found: they are looked for again when an event makes one of its jobs
        record, or wait."""
        timer = self._ends.pop(recording, None)
        if timer is not None:
            timer.cancel()
        ends = []
        for gate in self._assignment.rivals(recording).values():
            gate.on_change = partial(self._told, recording, gate)
            left_ns = gate.left_ns
            if left_ns is not None and left_ns > 0:
                ends.append(left_ns)
        if ends:
            delay_s = min(ends) / NS + _BEHIND_S
            self._ends[recording] = asyncio.get_running_loop().call_later(delay_s, self._changed, recording)

    def handed_over(self, gate: EventGate | None) -> None:
        """A track changes hands: who records for an event does so until the other one has begun."""
        left_ns = None if gate is None else gate.left_ns
        if gate is not None and left_ns is not None and left_ns >= -self._patience_ns:
            gate.prolong(self._patience_ns)

    def stop(self) -> None:
        """Nobody takes a track from now on."""
        for timer in self._ends.values():
            timer.cancel()
        self._ends.clear()

    def _told(self, recording: RecordingToken, gate: EventGate) -> None:
        gate.take_turn(SHORTEST_NS)
        self._changed(recording)
