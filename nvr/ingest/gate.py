"""Recording while an event lasts: RecordingEventFilter with Before and After (Recording Control 5.3.4). Sans-I/O.

A gate belongs to a job. It is told when one of the job's conditions begins and ceases to hold, and keeps the spans of
time that are wanted. In front of the recorder of each track that the job feeds stands a `GatedRecorder`: fragments of
wanted spans go through, others wait in memory as long as an event may still ask for them, then they are dropped.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Protocol

from nvr.ingest.pipeline import Recorder
from nvr.media.unit import Fragment, Sample
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import GapReason
from nvr.model.tokens import JobToken, ReceiverToken

logger = logging.getLogger(__name__)

LATE_NS: Final = 5 * NS
"""So long behind the present may an event lie and still find what was before it: fragments, documents of metadata and
events of this recorder come on different ways."""
BURST_BYTES: Final = 1 << 20
"""So much of what has waited is handed to storage at a time, or one fragment: forty cameras that see the same lightning
must not overflow its queue."""
MOST_HELD: Final = 1024
"""Properties that hold a gate at the same time; what comes beside them counts as an event without length."""
_KEPT_NS: Final = 60 * NS
_FOREVER: Final = 1 << 63
_LAST: Final = (GapReason.JOB_STOPPED, GapReason.DAEMON_STOPPED)
"""Behind these nothing waits any longer: the track is somebody else's."""


@dataclass(slots=True)
class _Span:
    """[start_ns, end_ns)"""

    start_ns: UtcNs
    end_ns: UtcNs


class Gates(Protocol):
    """What the engine asks about event-driven jobs. Called on the loop; nothing in it may block or raise."""

    def gate(self, job: JobToken, /) -> EventGate | None:
        """None for a job that records always. The same gate as long as the job's filter is the same."""

    def hears(self, receiver: ReceiverToken, /) -> bool:
        """Whether events of this receiver matter to a job."""

    def heard(self, receiver: ReceiverToken, sample: Sample, /) -> None:
        """A document of its metadata streams."""


class NoGates:
    """Every job records always."""

    def gate(self, _: JobToken) -> EventGate | None:
        return None

    def hears(self, _: ReceiverToken) -> bool:
        return False

    def heard(self, receiver: ReceiverToken, sample: Sample) -> None:
        raise AssertionError("nobody listens")


class EventGate:
    """Which time a job's event filter wants recorded. `before_ns` and `after_ns` are durations."""

    def __init__(self, before_ns: int, after_ns: int) -> None:
        self.before_ns = before_ns
        self.after_ns = after_ns
        self._holding: set[Hashable] = set()
        self._ended: UtcNs = 0
        """The latest end of what held, or pulse, in the last span: news come in any order."""
        self._spans: deque[_Span] = deque()
        self._recorders: list[GatedRecorder] = []

    @property
    def holds(self) -> bool:
        """Whether a condition holds now."""
        return bool(self._holding)

    def begin(self, condition: Hashable, at_ns: UtcNs) -> None:
        """A condition has begun to hold; nothing where it held already."""
        if condition in self._holding:
            return
        if len(self._holding) >= MOST_HELD:  # a camera whose sources never repeat: it would hold for ever
            self.pulse(at_ns)
            return
        self._holding.add(condition)
        self._want(at_ns, _FOREVER)

    def end(self, condition: Hashable, at_ns: UtcNs) -> None:
        """A condition holds no longer; nothing where it did not."""
        if condition not in self._holding:
            return
        self._holding.discard(condition)
        self._ended = max(self._ended, at_ns)
        if not self._holding:
            span = self._spans[-1]
            span.end_ns = max(self._ended + self.after_ns, span.start_ns + self.before_ns + 1)
            self._tell()

    def end_all(self, which: Callable[[Hashable], bool], at_ns: UtcNs) -> None:
        """These conditions hold no longer: who told of them is not asked any more."""
        for condition in [c for c in self._holding if which(c)]:
            self.end(condition, at_ns)

    def pulse(self, at_ns: UtcNs) -> None:
        """An event that is no property is an interval of no length, between Before and After."""
        self._want(at_ns, at_ns + self.after_ns + 1)
        self._ended = max(self._ended, at_ns)

    def wants(self, fragment: Fragment) -> bool:
        """Whether some of the fragment lies in a wanted span."""
        return any(s.start_ns < fragment.end_ns and fragment.start_ns < s.end_ns for s in reversed(self._spans))

    def attach(self, recorder: GatedRecorder) -> None:
        """Told from now on when more or less is wanted."""
        self._recorders.append(recorder)

    def detach(self, recorder: GatedRecorder) -> None:
        """The counterpart of `attach`."""
        self._recorders.remove(recorder)

    def _want(self, at_ns: UtcNs, end_ns: UtcNs) -> None:
        start_ns = at_ns - self.before_ns
        while self._spans and self._spans[0].end_ns < start_ns - LATE_NS - _KEPT_NS:
            self._spans.popleft()
        last = self._spans[-1] if self._spans else None
        if last is not None and start_ns <= last.end_ns:
            last.start_ns, last.end_ns = min(last.start_ns, start_ns), max(last.end_ns, end_ns)
        else:
            self._spans.append(_Span(start_ns, end_ns))
            self._ended = 0
        self._tell()

    def _tell(self) -> None:
        for recorder in self._recorders:
            recorder.settle()


@dataclass(slots=True)
class _Group:
    """Fragments from a clean point to the next one: what is wanted of it is wanted whole."""

    gap: GapReason | None
    """Why the stream had a gap in front of it."""
    fragments: deque[Fragment] = field(default_factory=deque)
    wanted: bool = False
    headless: bool = False
    """Its beginning is missing from what is recorded."""


class GatedRecorder:
    """A track's recorder behind a gate. What waits is bounded in bytes of sample data.

    `later` calls back on the loop, a moment from now.
    """

    def __init__(
        self, recorder: Recorder, gate: EventGate, most_bytes: int, later: Callable[[Callable[[], None]], object]
    ) -> None:
        self.overflowed = 0
        """Fragments dropped because memory was full, although an event could still have asked for them."""
        self.held_bytes = 0
        """Sample data that waits."""
        self._recorder = recorder
        self._gate = gate
        self._most = most_bytes
        self._later = later
        self._groups: deque[_Group] = deque()
        """In front those that wait; the newest one stays when all of it has been handed over."""
        self._gap: GapReason | None = None
        """The stream has a gap behind the newest group."""
        self._newest: UtcNs = 0
        """Up to here fragments have come."""
        self._running = False
        self._due = False
        self._refused = False
        gate.attach(self)

    def append(self, fragment: Fragment) -> bool:
        """False where storage has refused what was due."""
        if not self._groups or fragment.clean_point or self._gap is not None:
            self._groups.append(_Group(self._gap))
            self._gap = None
        self._groups[-1].fragments.append(fragment)
        self.held_bytes += fragment.size
        self._newest = max(self._newest, fragment.end_ns)
        self.settle()
        return not self._refused

    def end_run(self, reason: GapReason) -> None:
        """The stream has a gap here. At the end of a job nothing waits any longer."""
        if reason in _LAST:
            self._hand_over(_FOREVER)
            self._groups.clear()
            self.held_bytes = 0
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
        self._gate.detach(self)

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
        return any(map(self._gate.wants, group.fragments))

    def _write(self, group: _Group) -> int:
        """Bytes handed over."""
        fragment = group.fragments.popleft()
        size = fragment.size
        self.held_bytes -= size
        if group.headless:
            _mark_damaged(fragment)
        self._running = True
        if not self._recorder.append(fragment):
            self._refused = group.headless = True
        return size

    def _end(self, reason: GapReason) -> None:
        if self._running:
            self._running = False
            self._recorder.end_run(reason)

    def _forget(self) -> None:
        """Drops groups that no event can ask for any more, and the oldest where memory is full."""
        groups = self._groups
        horizon = self._newest - self._gate.before_ns - LATE_NS
        while len(groups) > 1 and not groups[0].wanted and groups[0].fragments[-1].end_ns <= horizon:
            self._drop()
        while self.held_bytes > self._most and not groups[0].wanted:
            if not self.overflowed:
                logger.warning("what waits for an event exceeds %d bytes: the oldest of it is dropped", self._most)
            self.overflowed += len(groups[0].fragments)
            if len(groups) > 1:
                self._drop()
            else:
                self.held_bytes = 0
                groups[0].fragments.clear()
                groups[0].headless = True

    def _drop(self) -> None:
        self.held_bytes -= sum(f.size for f in self._groups.popleft().fragments)


def _mark_damaged(fragment: Fragment) -> None:
    """Up to its first clean point: what these samples refer to is not recorded."""
    for n, sample in enumerate(fragment.samples):
        if sample.clean_point:
            return
        if not sample.damaged:  # other tracks may hold the same samples
            fragment.samples[n] = Sample(sample.utc_ns, sample.data, False, True)
