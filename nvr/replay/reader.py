"""Footage for the player: a plan read ahead on a thread, and the wait for what is still being recorded (8.8, 8.9)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from nvr.media.unit import CodecConfiguration
from nvr.model.timeline import Timeline
from nvr.model.tokens import TrackKey
from nvr.replay.plan import Plan, PlanTrack
from nvr.replay.readers import Readers
from nvr.replay.unit import Footage, Position, Selection, Unit
from nvr.storage.rows import FragmentRef

BATCH_BYTES: Final = 128 * 1024
"""Sample data of one batch. A player holds two, the one being sent and the one being read, and a window of a fragment a
track."""
AT_ONCE_BYTES: Final = 256 * 1024
"""The same for who takes units as fast as they come: fewer ways to a thread and back. He holds whole fragments."""

EDGE_POLL_S: Final = 0.5
"""How often a player at the live edge looks whether a run has ended; of new fragments it is told at once."""


class FootageStore(Protocol):
    """The part of the storage engine that replay needs."""

    def timeline(self, key: TrackKey) -> Timeline: ...

    def footage(self, key: TrackKey) -> Footage: ...

    def on_append(self, key: TrackKey, callback: Callable[[FragmentRef], None]) -> Callable[[], None]: ...


class UnitSource(Protocol):
    """Where a player takes its units from."""

    async def units(self) -> Sequence[Unit]:
        """The next units, at least one; waits for them. Empty: nothing more will ever come."""

    @property
    def at_end(self) -> bool:
        """All that there is has been given out, and nothing is being recorded that might come."""

    def end_with_footage(self) -> None:
        """Let that end be the end, instead of waiting for more (RFC 2326 10.5: something is queued behind it)."""

    def rest(self) -> None:
        """Hold no footage until units are wanted; nothing has been given out yet."""

    def close(self) -> None:
        """Let go of everything. May be called twice."""


class PlanReader:
    """A plan as a unit source. Made by `open`; `readers` do all reading, in the lane of the recording."""

    def __init__(
        self,
        store: FootageStore,
        keys: Sequence[TrackKey],
        make: Callable[[Sequence[Timeline]], Plan],
        plan: Plan,
        first: list[Unit],
        batch_bytes: int,
        readers: Readers,
        poll_s: float,
    ) -> None:
        self._store = store
        self._keys = tuple(keys)
        self._make = make
        self._plan: Plan | None = plan
        self._start = plan.start
        self.first: Mapping[int, CodecConfiguration] = plan.first
        """Of each stream, the configuration of its first unit, where it is known."""
        self._first = first
        self._batch_bytes = batch_bytes
        self._readers = readers
        self._poll_s = poll_s
        self._reading: asyncio.Future[list[Unit]] | None = None
        self._appended = asyncio.Event()
        self._to_the_end = False
        self._unsubscribe = [store.on_append(key, self._on_append) for key in self._keys]

    @classmethod
    async def open(
        cls,
        store: FootageStore,
        keys: Sequence[TrackKey],
        tracks: Sequence[PlanTrack],
        selection: Selection,
        readers: Readers,
        poll_s: float = EDGE_POLL_S,
    ) -> PlanReader:
        """Plan the replay of `tracks` of one recording, whose keys are `keys`, and find its first unit."""
        timelines = [store.timeline(key) for key in keys]

        def make(timelines: Sequence[Timeline]) -> Plan:
            return Plan(tracks, timelines, selection)

        def begin() -> tuple[Plan, list[Unit]]:
            # With the first units at once: the way to a thread and back costs as much as they do.
            plan = make(timelines)
            return plan, [] if plan.opening else plan.next_units(timelines, 1)

        plan, first = await readers.run(keys[0].recording, begin, request=True)
        while plan.opening:  # behind the others that wait in this lane
            first = await readers.run(keys[0].recording, lambda: plan.next_units(timelines, 1), request=True)
        batch_bytes = AT_ONCE_BYTES if selection.at_once else BATCH_BYTES
        return cls(store, keys, make, plan, first, batch_bytes, readers, poll_s)

    @property
    def start(self) -> Position:
        """Where the first unit stands, as the answer to PLAY states it."""
        return self._start

    @property
    def hopeless(self) -> bool:
        """There is nothing to send, and nothing is being recorded that might come."""
        plan = self._plan
        if plan is None or not plan.empty:
            return False
        return plan.done or not any(self._store.timeline(key).recording for key in self._keys)

    @property
    def at_end(self) -> bool:
        return self._reading is None and not self._first and self._plan is not None and self._plan.at_end

    def rest(self) -> None:
        """A plan holds a fragment a track. It follows from timelines and request, and is made again when its turn has
        come."""
        self._plan, self._first = None, []

    def end_with_footage(self) -> None:
        """From now on the end of all footage is the end of the units: something is queued behind this (RFC 2326 10.5).

        While something is being recorded it is not the end.
        """
        self._to_the_end = True
        self._appended.set()

    async def units(self) -> Sequence[Unit]:
        if self._first:
            units, self._first = self._first, []
            self._read()
            return units
        while True:
            # A batch that a cancelled caller waited for is not lost: the next call takes it.
            if self._reading is None:
                self._appended.clear()
                self._read()
            assert self._reading is not None
            units = await asyncio.shield(self._reading)
            self._reading = None
            if units:
                self._read()
                return units
            plan = self._plan
            assert plan is not None
            if plan.more:
                continue  # behind the others that wait in this lane
            if plan.done or (self._to_the_end and plan.at_end):
                return ()
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._appended.wait()
            except TimeoutError:
                pass  # time to look at the timelines again

    def close(self) -> None:
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._unsubscribe.clear()
        if self._reading is not None:
            # A thread that reads finishes its batch; a failure nobody waits for any more is of no use to anybody.
            self._reading.add_done_callback(lambda f: f.cancelled() or f.exception())
            self._reading.cancel()
            self._reading = None

    def _read(self) -> None:
        timelines = [self._store.timeline(key) for key in self._keys]

        def read() -> list[Unit]:
            if self._plan is None:
                self._plan = self._make(timelines)
            return self._plan.next_units(timelines, self._batch_bytes)

        self._reading = self._readers.run(self._keys[0].recording, read)

    def _on_append(self, ref: FragmentRef) -> None:
        self._appended.set()
