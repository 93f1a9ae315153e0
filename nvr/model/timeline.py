"""What footage a track has: runs of uninterrupted recording, and the gaps between them with their reasons."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

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
    """The runs of one track, in ascending order of their start."""

    runs: tuple[Run, ...] = ()

    @classmethod
    def of(cls, runs: Iterable[Run]) -> Timeline:
        return cls(tuple(sorted(runs, key=lambda r: (r.start_ns, r.end_ns))))

    @property
    def earliest(self) -> UtcNs | None:
        return self.runs[0].start_ns if self.runs else None

    @property
    def latest(self) -> UtcNs | None:
        return max((r.end_ns for r in self.runs), default=None)

    @property
    def recording(self) -> bool:
        """Whether a run is still being recorded."""
        return any(r.end_reason is None for r in self.runs)

    @property
    def extent(self) -> Extent | None:
        """None where there are no runs."""
        earliest, latest = self.earliest, self.latest
        return None if earliest is None or latest is None else Extent(earliest, latest, self.recording)

    def run_at(self, at_ns: UtcNs) -> Run | None:
        """The run that holds this instant, or None in a gap."""
        i = bisect_right(self.runs, at_ns, key=lambda r: r.start_ns) - 1
        while i >= 0:
            run = self.runs[i]
            if at_ns < run.end_ns:
                return run
            i -= 1
        return None

    def since(self, limit_ns: UtcNs) -> Timeline:
        """What of it is not older than the limit."""
        runs = [r for r in self.runs if r.end_ns > limit_ns]
        return Timeline.of(r if r.start_ns >= limit_ns else replace(r, start_ns=limit_ns) for r in runs)

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
