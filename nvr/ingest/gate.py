"""Recording while an event lasts: RecordingEventFilter with Before and After (Recording Control 5.3.4). Sans-I/O.

A gate belongs to a job. It is told when one of the job's conditions begins and ceases to hold, and keeps the spans of
time that are wanted: by the clock of the footage, which may be set back. When the job may give its track away is
reckoned by the monotonic clock, which is never. In front of the recorder of each track that the job feeds stands a
`GatedRecorder` (gated.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Protocol

from nvr.ingest.settings import Times
from nvr.media.unit import Fragment, Sample
from nvr.model.time import NS, UtcNs
from nvr.model.tokens import JobToken, ReceiverToken

LATE_NS: Final = 5 * NS
"""So long behind the present may an event lie and still find what was before it: fragments, documents of metadata and
events of this recorder come on different ways."""
MOST_HELD: Final = 1024
"""Properties that hold a gate at the same time; what comes beside them counts as an event without length."""
_KEPT_NS: Final = 60 * NS
_FOREVER: Final = 1 << 63


@dataclass(slots=True)
class _Span:
    """[start_ns, end_ns)"""

    start_ns: UtcNs
    end_ns: UtcNs
    begun_ns: int
    """When it was asked for, monotonic."""


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


class Behind(Protocol):
    """What stands behind a gate."""

    def settle(self) -> None:
        """The gate wants more or less than before."""


class EventGate:
    """Which time a job's event filter wants recorded. `before_ns` and `after_ns` are durations."""

    def __init__(self, before_ns: int, after_ns: int, times: Times | None = None) -> None:
        self.before_ns = before_ns
        self.after_ns = after_ns
        self._times = times or Times()
        self._holding: set[Hashable] = set()
        self._ended: UtcNs = 0
        """The latest end of what held, or pulse, in the last span: news come in any order."""
        self._spans: deque[_Span] = deque()
        self._recorders: list[Behind] = []
        self._until = 0
        """The end of what events have asked for, and of `take_turn`, monotonic; of no meaning while a condition
        holds."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when more or less is wanted than before; must neither block nor raise."""

    @property
    def holds(self) -> bool:
        """Whether a condition holds now."""
        return bool(self._holding)

    @property
    def waits(self) -> bool:
        """Whether nothing is wanted at present, and up to another event."""
        return self.left_ns is not None and self.left_ns <= 0

    @property
    def left_ns(self) -> int | None:
        """In how long it begins to wait, not above 0 where it does; None while a condition holds."""
        return None if self._holding else self._until - self._times.monotonic()

    def take_turn(self, for_ns: int) -> None:
        """It does not wait for so long: the news of an event comes behind it, and a short one would be over."""
        self._until = max(self._until, self._times.monotonic() + for_ns)

    def prolong(self, for_ns: int) -> None:
        """What is wanted now is wanted for so long at least: the track changes hands, and nobody else records it yet.
        Whether the gate waits is not changed by that."""
        if self._spans and not self._holding:
            self._spans[-1].end_ns = max(self._spans[-1].end_ns, self._times.utc() + for_ns)
            self._tell()

    def set_back(self, from_ns: UtcNs, to_ns: UtcNs) -> None:
        """The clock of the footage has been set back. What was wanted then is wanted now, for as long as it would have
        been; nothing where that has been told already."""
        last = self._spans[-1] if self._spans else None
        if last is not None and from_ns < last.end_ns and to_ns < last.start_ns:
            # The other tracks of the job may go on a little earlier than the first one that tells.
            self._renew(to_ns - self.before_ns - LATE_NS, _FOREVER if self._holding else to_ns + last.end_ns - from_ns)
            self._tell()

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
        if self._is_set_back(at_ns):
            self._renew(at_ns - self.before_ns, _FOREVER)
        self._ended = max(self._ended, at_ns)
        if not self._holding:
            span = self._spans[-1]
            span.end_ns = max(self._ended + self.after_ns, span.start_ns + self.before_ns + 1)
            self._until = self._monotonic(span.end_ns)
            self._tell()
            self.on_change()

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
        return self.wants_any(fragment.start_ns, fragment.end_ns)

    def wants_any(self, start_ns: UtcNs, end_ns: UtcNs) -> bool:
        """Whether some of [start_ns, end_ns) lies in a wanted span."""
        return any(s.start_ns < end_ns and start_ns < s.end_ns for s in reversed(self._spans))

    def attach(self, recorder: Behind) -> None:
        """Told from now on when more or less is wanted."""
        self._recorders.append(recorder)

    def detach(self, recorder: Behind) -> None:
        """The counterpart of `attach`."""
        self._recorders.remove(recorder)

    def _want(self, at_ns: UtcNs, end_ns: UtcNs) -> None:
        start_ns = at_ns - self.before_ns
        last = self._spans[-1] if self._spans else None
        if self._is_set_back(at_ns):
            self._renew(start_ns, _FOREVER if self._holding else end_ns)
        elif last is not None and start_ns <= last.end_ns:
            last.start_ns, last.end_ns = min(last.start_ns, start_ns), max(last.end_ns, end_ns)
        else:
            self._append(start_ns, end_ns)
        if end_ns != _FOREVER:
            self._until = max(self._until, self._monotonic(end_ns))
        self._tell()
        self.on_change()

    def _is_set_back(self, at_ns: UtcNs) -> bool:
        """Whether an event lies so long before what was asked for last that the clock must have been set back."""
        return bool(self._spans) and at_ns < self._spans[-1].start_ns - LATE_NS

    def _renew(self, start_ns: UtcNs, end_ns: UtcNs) -> None:
        """The clock has been set back, and what is wanted now is another span. The last one ends about where the clock
        was: some of its footage may be under way still."""
        last = self._spans[-1]
        was_ns = last.start_ns + self.before_ns + self._times.monotonic() - last.begun_ns
        if last.end_ns == _FOREVER:  # a condition holds all the time: also of what comes before this news
            start_ns -= _KEPT_NS
        last.end_ns = min(last.end_ns, was_ns + LATE_NS + _KEPT_NS)
        self._append(start_ns, end_ns)

    def _append(self, start_ns: UtcNs, end_ns: UtcNs) -> None:
        now_ns = self._times.monotonic()
        self._spans.append(_Span(start_ns, end_ns, now_ns))
        self._ended = 0
        # Footage of a span comes at most so long behind the beginning of the next one.
        kept_ns = self.before_ns + self.after_ns + LATE_NS + _KEPT_NS
        while len(self._spans) > 1 and self._spans[1].begun_ns < now_ns - kept_ns:
            self._spans.popleft()

    def _monotonic(self, end_ns: UtcNs) -> int:
        """The monotonic time of the end of what an event asks for. An event is told at most LATE_NS behind it; where it
        seems to be otherwise, one of the clocks is wrong, and After counts from about now."""
        left_ns = end_ns - self._times.utc()
        left_ns = min(max(left_ns, self.after_ns - LATE_NS, 0), self.after_ns + LATE_NS)
        return self._times.monotonic() + left_ns

    def _tell(self) -> None:
        for recorder in self._recorders:
            recorder.settle()
