"""A track's recorder behind the gate of its job: fragments of wanted spans go through, others wait in memory as long as
an event may still ask for them, then they are dropped. Sans-I/O.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from nvr.ingest.gate import LATE_NS, EventGate
from nvr.ingest.memory import HeldMemory
from nvr.ingest.pipeline import Recorder
from nvr.media.unit import Fragment, Sample
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import GapReason
from nvr.model.tokens import TrackKey

logger = logging.getLogger(__name__)

BURST_BYTES: Final = 1 << 20
"""So much of what has waited is handed to storage at a time, or one fragment: forty cameras that see the same lightning
must not overflow its queue."""
_FOREVER: Final = 1 << 63
_LAST: Final = (GapReason.JOB_STOPPED, GapReason.DAEMON_STOPPED)
"""Behind these nothing waits any longer: the track is somebody else's."""


@dataclass(slots=True)
class _Group:
    """Fragments from a clean point to the next one: what is wanted of it is wanted whole."""

    gap: GapReason | None
    """Why the stream had a gap in front of it."""
    fragments: deque[Fragment] = field(default_factory=deque)
    wanted: bool = False
    headless: bool = False
    """Its beginning is missing from what is recorded."""
    set_back_ns: int = 0
    """So far has the clock been set back behind it."""

    def span(self) -> tuple[UtcNs, UtcNs]:
        """First start and latest end of what there is of it, by the clock as it is now."""
        end_ns = max(f.end_ns for f in self.fragments)
        return self.fragments[0].start_ns - self.set_back_ns, end_ns - self.set_back_ns


class StoredTrack(Recorder, Protocol):
    """What storage offers for one track."""

    def correct_gap(self, reason: GapReason) -> None:
        """No run is under way: the gap since the last one has another reason than it began with."""


class GatedRecorder:
    """A track's recorder behind a gate. What waits counts in `memory`, and is bounded by `most_bytes` besides.

    `later` calls back on the loop, a moment from now.
    """

    def __init__(
        self,
        key: TrackKey,
        recorder: StoredTrack,
        gate: EventGate,
        most_bytes: int,
        memory: HeldMemory,
        later: Callable[[Callable[[], None]], object],
    ) -> None:
        self.key = key
        self._held_bytes = 0
        self._recorder = recorder
        self._gate = gate
        self._most = most_bytes
        self._memory = memory
        self._later = later
        self._groups: deque[_Group] = deque()
        """In front those that wait; the newest one stays when all of it has been handed over."""
        self._gap: GapReason | None = None
        """The stream has a gap behind the newest group."""
        self._newest: UtcNs = 0
        """Up to here fragments have come."""
        self._running = False
        self._ended: GapReason | None = None
        """Why the last run ended."""
        self._due = False
        self._handing = False
        """Storage is being given something, and may ask for memory meanwhile: not for what is in our hands."""
        self._refused = False
        self._starved: tuple[UtcNs, UtcNs] | None = None
        """What memory had no room for since the last run: from, until."""
        self._short = False
        """Less than Before has been held since then."""
        gate.attach(self)
        memory.join(self)

    @property
    def held_bytes(self) -> int:
        """Sample data that waits."""
        return self._held_bytes

    def append(self, fragment: Fragment) -> bool:
        """False where storage has refused what was due."""
        if fragment.start_ns < self._newest - LATE_NS:
            self._set_back(fragment.start_ns)
        if not self._groups or fragment.clean_point or self._gap is not None:
            self._groups.append(_Group(self._gap))
            self._gap = None
        self._groups[-1].fragments.append(fragment)
        size = fragment.size
        self._held_bytes += size
        self._memory.add(size)
        self._newest = max(self._newest, fragment.end_ns)
        self.settle()
        if not self._memory.relieve():  # what is wanted does not wait for its turn: storage takes or refuses it
            self._hand_over(_FOREVER)
            self._memory.relieve()
        return not self._refused

    def _set_back(self, to_ns: UtcNs) -> None:
        """The clock has been set back: what waits is as old as before, and an event may ask for it as long."""
        by_ns = self._newest - to_ns
        for group in self._groups:
            group.set_back_ns += by_ns
        if self._starved is not None:
            self._starved = self._starved[0] - by_ns, self._starved[1] - by_ns
        if self._groups and self._gap is None:
            self._gap = GapReason.CLOCK_JUMP
        from_ns, self._newest = self._newest, to_ns
        self._gate.set_back(from_ns, to_ns)

    def end_run(self, reason: GapReason) -> None:
        """The stream has a gap here. At the end of a job nothing waits any longer."""
        if reason in _LAST:
            self._hand_over(_FOREVER)
            while self._groups:
                self._drop()
            self._gap = None
            self._end(reason)
        elif self._gap is None:
            self._gap = reason
            self.settle()

    @property
    def recording(self) -> bool:
        """Whether what comes goes to storage."""
        return self._running or self._gate.holds

    def close(self) -> None:
        """The job lets go of the track; `end_run` has been called."""
        while self._groups:
            self._drop()
        self._gate.detach(self)
        self._memory.leave(self)

    @property
    def oldest_ns(self) -> UtcNs | None:
        """Start of the oldest group, where it waits; None where nothing does, or groups are just being handed over."""
        if self._handing:
            return None
        for group in self._groups:
            if group.fragments:
                return None if group.wanted or self._wants(group) else group.span()[0]
        return None

    def drop_oldest(self) -> None:
        """Memory is full: the oldest group goes although an event could still have asked for it."""
        while not self._groups[0].fragments:
            self._groups.popleft()
        group = self._groups[0]
        start_ns, end_ns = group.span()
        if self._starved is not None:
            start_ns = min(start_ns, self._starved[0])
        self._starved = start_ns, end_ns
        self._memory.dropped(self.key, len(group.fragments))
        if len(self._groups) > 1:
            self._drop()
        else:  # what is still to come of it stays
            self._release(sum(f.size for f in group.fragments))
            group.fragments.clear()
            group.headless = True
        if not self._short:
            self._short = True
            logger.warning("%s", self.short)

    @property
    def short(self) -> str | None:
        """One sentence while less than Before is held because memory is full."""
        if not self._short:
            return None
        return (
            f"{self._memory.label(self.key)}: not all of the {self._gate.before_ns / NS:g} s before an event can be "
            f"held in memory: the oldest is dropped (ingest.pipeline.event_buffer is {self._most} bytes a track, "
            f"storage.memory {self._memory.limit} bytes in all)"
        )

    def settle(self) -> None:
        """Hand over what is wanted, a burst at a time, and drop what can be wanted no more."""
        self._refused = False
        if self._hand_over(BURST_BYTES):
            self._forget()
        elif not self._due:
            self._due = True
            self._later(self._again)

    def _again(self) -> None:
        self._due = False
        self.settle()

    def _hand_over(self, burst: int) -> bool:
        """True where nothing that is wanted waits."""
        self._handing = True
        try:
            return self._hand_over_groups(burst)
        finally:
            self._handing = False

    def _hand_over_groups(self, burst: int) -> bool:
        while self._groups:
            group = self._groups[0]
            if not group.wanted:
                wanted = next((n for n, g in enumerate(self._groups) if self._wants(g)), None)
                if wanted != 0:
                    self._end(group.gap or GapReason.NO_EVENT)
                if wanted is None:
                    return True
                for _ in range(wanted):  # time goes forward only: they are decided on now
                    self._drop()
                group = self._groups[0]
                group.wanted = True
                if group.gap is not None:
                    self._end(group.gap)
                self._tell_starved()
            while group.fragments:
                if burst <= 0:
                    return False
                burst -= self._write(group)
            if len(self._groups) == 1:
                if self._gap is not None:
                    self._end(self._gap)
                return True
            self._groups.popleft()
        return True

    def _wants(self, group: _Group) -> bool:
        if any(map(self._gate.wants, group.fragments)):
            return True
        back_ns = group.set_back_ns
        return back_ns > 0 and any(
            self._gate.wants_any(f.start_ns - back_ns, f.end_ns - back_ns) for f in group.fragments
        )

    def _write(self, group: _Group) -> int:
        """Bytes handed over."""
        fragment = group.fragments.popleft()
        size = fragment.size
        self._release(size)  # before storage takes it: it is in memory once
        if group.headless:
            _mark_damaged(fragment)
        self._running = True
        if not self._recorder.append(fragment):
            self._refused = group.headless = True
        return size

    def _end(self, reason: GapReason) -> None:
        if self._running:
            self._running = False
            self._ended = reason
            self._recorder.end_run(reason)

    def _tell_starved(self) -> None:
        """A run begins. Where memory had no room for some of what the event asks for, that is why there is a gap."""
        starved, self._starved = self._starved, None
        if starved is None or not self._gate.wants_any(*starved):
            return
        logger.error(
            "%s: up to %.1f s of what an event has asked for are missing: memory had no room for them",
            self._memory.label(self.key),
            (starved[1] - starved[0]) / NS,
        )
        if self._ended is GapReason.NO_EVENT and not self._running:
            self._recorder.correct_gap(GapReason.STORAGE)

    def _forget(self) -> None:
        """Drops groups that no event can ask for any more, and the oldest where too much waits."""
        groups = self._groups
        horizon = self._newest - self._gate.before_ns - LATE_NS
        while len(groups) > 1 and not groups[0].wanted:
            if groups[0].fragments:
                if groups[0].span()[1] > horizon:
                    break
                self._short = False  # there was room for all that is younger
            self._drop()
        if self._starved is not None and self._starved[1] <= horizon:
            self._starved = None
        while self._held_bytes > self._most and self.oldest_ns is not None:
            self.drop_oldest()

    def _drop(self) -> None:
        self._release(sum(f.size for f in self._groups.popleft().fragments))

    def _release(self, size: int) -> None:
        self._held_bytes -= size
        self._memory.give(size)


def _mark_damaged(fragment: Fragment) -> None:
    """Up to its first clean point: what these samples refer to is not recorded."""
    for n, sample in enumerate(fragment.samples):
        if sample.clean_point:
            return
        if not sample.damaged:  # other tracks may hold the same samples
            fragment.samples[n] = Sample(sample.utc_ns, sample.data, False, True)
