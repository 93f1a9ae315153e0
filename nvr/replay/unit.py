"""What a plan delivers, and what it needs from the room that keeps footage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from nvr.media.rtsp.play import FrameSet
from nvr.media.unit import CodecConfiguration, Sample
from nvr.model.time import UtcNs
from nvr.storage.rows import FragmentRef


@dataclass(frozen=True, slots=True)
class Selection:
    """What one PLAY asks for, with its times already absolute.

    `end_ns`: access units at or after it are not sent (8.5.2, half open); None plays on as footage is recorded.
    `discontinuity`: the first unit of each track does not continue what was sent before it (8.10, flag D).
    `interval_ns`: least distance of successive intra frames on the timeline of the recording (8.5.4).
    """

    start_ns: UtcNs
    end_ns: UtcNs | None = None
    discontinuity: bool = False
    frames: FrameSet = FrameSet.ALL
    interval_ns: int = 0


@dataclass(slots=True)
class Unit:
    """One access unit to send. Not frozen: the end of a section is known only when its successor is.

    `stream` is the number of its stream in the presentation. `decode_ns` orders and paces the units of all tracks; it
    rises in decode order where `utc_ns` (presentation) steps back for B-frames. `skipped_ns` is the time of all gaps
    between the start of the plan and this unit in which no track has footage: `utc_ns - skipped_ns` is a time line
    without these gaps.
    """

    stream: int
    utc_ns: UtcNs
    decode_ns: UtcNs
    data: bytes
    configuration: CodecConfiguration
    clean_point: bool
    end: bool = False
    """E: the last of a contiguous section (8.3.1)."""
    discontinuity: bool = False
    """D: does not continue what was sent before it (8.3.1)."""
    terminal: bool = False
    """T: no more data in the direction of play (8.3.1)."""
    skipped_ns: int = 0


class Footage(Protocol):
    """The stored fragments of one track. Every call may block."""

    def fragments(self, from_ns: UtcNs, until_ns: UtcNs | None = None) -> Iterator[FragmentRef]:
        """Ascending, lazily; the first is the one that holds `from_ns`, or the first behind it."""

    def read(self, ref: FragmentRef) -> list[Sample]:
        """The samples in decode order. Raises StorageError for a fragment that is damaged or no longer there."""
