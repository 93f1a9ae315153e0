"""What footage a track has: runs of uninterrupted recording, and the gaps between them with their reasons."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import accumulate

from nvr.model.joined import Joined
from nvr.model.time import UtcNs


class GapReason(StrEnum):
    """Why nothing was recorded between two runs. Stands in track files and in the catalogue: values are stable."""

    SOURCE_LOST = "source-lost"
    PACKET_LOSS = "packet-loss"
    STORAGE = "storage"
    JOB_STOPPED = "job-stopped"
    DAEMON_STOPPED = "daemon-stopped"
    CLOCK_JUMP = "clock-jump"
    CONFIGURATION_CHANGED = "configuration-changed"
    NO_EVENT = "no-event"
    """The job records while an event lasts, and none did."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Run:
    """One uninterrupted section of a track: [start_ns, end_ns). `end_reason` is None while it is being recorded."""

    run_id: str
    start_ns: UtcNs
    end_ns: UtcNs
    end_reason: GapReason | None = None

    def __post_init__(self) -> None:
        if self.end_ns < self.start_ns:
            raise ValueError(f"run {self.run_id} ends at {self.end_ns}, before its start at {self.start_ns}")


def in_order(run: Run) -> tuple[UtcNs, UtcNs]:
    """The order of the runs of a track."""
    return run.start_ns, run.end_ns


@dataclass(frozen=True, slots=True)
class Gap:
    """[start_ns, end_ns) without footage, and why."""

    start_ns: UtcNs
    end_ns: UtcNs
    reason: GapReason


@dataclass(frozen=True, slots=True)
class Extent:
    """All that a track has, gaps not shown: [earliest, latest)."""

    earliest: UtcNs
    latest: UtcNs
    recording: bool = False
    """Whether a run is still being recorded."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The runs of one track, in ascending order of their start. What is asked of it costs bisections, not a walk."""

    runs: Sequence[Run] = ()
    reach: Sequence[UtcNs] = field(default=(), compare=False, repr=False)
    """For each run the latest end of it and those before it. Who keeps it beside the runs gives it, and with it
    `recording`; else both are found by a walk."""
    recording: bool = field(default=False, compare=False)
    """Whether a run is still being recorded."""

    def __post_init__(self) -> None:
        if self.runs and not self.reach:
            object.__setattr__(self, "reach", tuple(accumulate((r.end_ns for r in self.runs), max)))
            object.__setattr__(self, "recording", any(r.end_reason is None for r in self.runs))

    @classmethod
    def of(cls, runs: Iterable[Run]) -> Timeline:
        return cls(tuple(sorted(runs, key=in_order)))

    @property
    def earliest(self) -> UtcNs | None:
        return self.runs[0].start_ns if self.runs else None

    @property
    def latest(self) -> UtcNs | None:
        return self.reach[-1] if self.runs else None

    @property
    def extent(self) -> Extent | None:
        """None where there are no runs."""
        earliest, latest = self.earliest, self.latest
        return None if earliest is None or latest is None else Extent(earliest, latest, self.recording)

    def run_at(self, at_ns: UtcNs) -> Run | None:
        """The run that holds this instant, of several the last; None in a gap."""
        return next(self.runs_at(at_ns), None)

    def runs_at(self, at_ns: UtcNs) -> Iterator[Run]:
        """The runs that hold this instant, backwards. Where a clock was set back there are several."""
        i = bisect_right(self.runs, at_ns, key=_start) - 1
        while i >= 0 and self.reach[i] > at_ns:
            run = self.runs[i]
            if run.end_ns > at_ns:
                yield run
            i -= 1

    def since(self, limit_ns: UtcNs) -> Timeline:
        """What of it is not older than the limit."""
        first = bisect_right(self.runs, limit_ns, key=_start)
        over = sorted((replace(run, start_ns=limit_ns) for run in self.runs_at(limit_ns)), key=in_order)
        runs = Joined.behind(over, self.runs, first)
        reach = Joined.behind(list(accumulate((r.end_ns for r in over), max)), self.reach, first)
        # The one that is being recorded is one of the last, where it is shown at all.
        recording = self.recording and any(run.end_reason is None for run in reversed(runs))
        return Timeline(runs, reach, recording)

    def gaps(self) -> tuple[Gap, ...]:
        """The gaps that no run covers; runs that touch or overlap leave none."""
        found: list[Gap] = []
        if not self.runs:
            return ()
        last = self.runs[0]  # of the runs so far, the one that ends last: it may cover runs that began after it
        for run in self.runs[1:]:
            if run.start_ns > last.end_ns:
                found.append(Gap(last.end_ns, run.start_ns, last.end_reason or GapReason.UNKNOWN))
            if run.end_ns >= last.end_ns:
                last = run
        return tuple(found)


def _start(run: Run) -> UtcNs:
    return run.start_ns
