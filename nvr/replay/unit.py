"""What a plan delivers, and what it needs from the room that keeps footage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from nvr.media.bmff.fragment import Place
from nvr.media.rtsp.play import FrameSet
from nvr.media.unit import CodecConfiguration
from nvr.model.time import UtcNs
from nvr.storage.rows import FragmentRef


@dataclass(frozen=True, slots=True)
class Selection:
    """What one PLAY asks for, with its times already absolute.

    `end_ns`: forward, access units at or after it are not sent (8.5.2, half open); in reverse, groups of pictures that
    end at or before it are not (8.6.1). None plays on: forward as footage is recorded, in reverse to its beginning.
    `discontinuity`: the first unit of each track does not continue what was sent before it (8.10, flag D).
    `at_once`: it is taken as fast as it comes, and not at the pace of the recording.
    `interval_ns`: least distance of successive intra frames on the timeline of the recording (8.5.4).
    """

    start_ns: UtcNs
    end_ns: UtcNs | None = None
    discontinuity: bool = False
    frames: FrameSet = FrameSet.ALL
    interval_ns: int = 0
    reverse: bool = False
    at_once: bool = False


class Position(NamedTuple):
    """Where play stands: the time of a unit, its two places on the line of the plan, and its reach (see `Unit`)."""

    utc_ns: UtcNs
    due_ns: int
    shown_ns: int
    reach_ns: UtcNs

    @classmethod
    def at(cls, utc_ns: UtcNs, reverse: bool = False) -> Position:
        """Where no unit is known yet."""
        place = -utc_ns if reverse else utc_ns
        return cls(utc_ns, place, place, utc_ns)


@dataclass(slots=True)
class Unit:
    """One access unit to send. Not frozen: the end of a section is known only when its successor is.

    `stream` is the number of its stream in the presentation. `due_ns` and `shown_ns` are places on the line of the
    plan, which runs in the direction of play at the pace of the recording and leaves out what nothing was recorded in:
    where the unit is to be sent, and where its picture is to be shown. `due_ns` never falls from unit to unit.
    """

    stream: int
    utc_ns: UtcNs
    due_ns: int
    shown_ns: int
    data: bytes | memoryview
    configuration: CodecConfiguration
    clean_point: bool
    end: bool = False
    """E: the last of a contiguous section (8.3.1)."""
    discontinuity: bool = False
    """D: does not continue what was sent before it (8.3.1)."""
    terminal: bool = False
    """T: no more data in the direction of play (8.3.1)."""
    reach_ns: UtcNs = 0
    """In reverse, where the group of pictures ends that it belongs to (exclusive): groups come with falling reach."""

    @property
    def position(self) -> Position:
        return Position(self.utc_ns, self.due_ns, self.shown_ns, self.reach_ns)


class OpenFragment(Protocol):
    """One fragment: its samples in decode order, and their bytes when they are wanted."""

    @property
    def places(self) -> Sequence[Place]: ...

    def data(self, index: int) -> bytes | memoryview | None:
        """Of one sample. None where it has been deleted meanwhile. Blocking. Raises StorageError."""

    def hold(self) -> None:
        """All bytes are wanted, one sample after the other without a pause."""

    def forget(self) -> None:
        """No bytes are wanted soon."""


class Footage(Protocol):
    """The stored fragments of one track. Every call and every step of an iterator may block and raise StorageError."""

    def fragments(
        self, from_ns: UtcNs, until_ns: UtcNs | None = None, *, run_id: str | None = None
    ) -> Iterator[FragmentRef]:
        """Ascending, lazily; the first is the one that holds `from_ns`, or the first behind it. One run's, or all."""

    def fragments_after(self, ref: FragmentRef) -> Iterator[FragmentRef]:
        """Ascending: what follows `ref` in its run now, whether `ref` itself is still there or not."""

    def fragments_before(self, until_ns: UtcNs, *, run_id: str | None = None) -> Iterator[FragmentRef]:
        """Descending: those that start before `until_ns`."""

    def open(self, ref: FragmentRef) -> OpenFragment | None:
        """None where the fragment has been deleted. Raises StorageError."""
