"""The replay plan: which access units, in which order, with which flags (IEC 62676-2-32 8.3.1, 8.5, 8.8, 8.9).

A plan is lazy and does no I/O of its own: it reads through `Footage` on whichever thread calls it, and is told the
timelines. It follows from footage and request alone; clocks, sockets and RTP are the player's business.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nvr.model.errors import StorageError
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import Timeline
from nvr.replay.cursor import CleanPoint, TrackCursor, find_clean_point
from nvr.replay.unit import Footage, Selection, Unit
from nvr.storage.rows import FragmentRef

log = logging.getLogger(__name__)

EDGE_PATIENCE_NS: Final = 4 * NS
"""How far a track at its live edge may lie behind the others before they stop waiting for it.

Tracks are written in fragments of about 2 s, at different moments: within this time their order is kept. A track that
stays silent for longer (metadata without events) holds nobody up; should it speak again, its units come when they come.
"""


@dataclass(frozen=True, slots=True)
class PlanTrack:
    """One track that takes part. `stream` is the number that its units bear."""

    stream: int
    footage: Footage
    video: bool


class ForwardPlan:
    """Forward replay of several tracks, multiplexed in recorded order.

    `next_units` returns what can be sent now; an empty list means that nothing more is known: `done` tells whether that
    is final or whether more may be recorded. Blocking; one caller at a time, on any thread.
    """

    def __init__(self, tracks: Sequence[PlanTrack], timelines: Sequence[Timeline], selection: Selection) -> None:
        self.unreadable = 0
        """Fragments left out because they could not be read."""
        self._tracks = tuple(tracks)
        self._skipped_ns = 0
        self._cursors = self._open(timelines, selection)
        for cursor, timeline in zip(self._cursors, timelines, strict=True):
            cursor.advance(timeline)
        heads = [c.head for c in self._cursors if c.head is not None]
        first = min(heads, key=_order) if heads else None
        self.start_ns: UtcNs = first.utc_ns if first is not None else selection.start_ns
        """Time of the first unit that will be sent; the requested start where none is known yet."""

    def _open(self, timelines: Sequence[Timeline], selection: Selection) -> list[TrackCursor]:
        firsts: dict[int, CleanPoint] = {}
        for i, (track, timeline) in enumerate(zip(self._tracks, timelines, strict=True)):
            if track.video:
                found = find_clean_point(track.footage, timeline, selection.start_ns, self._note_unreadable)
                if found is not None and (selection.end_ns is None or found.utc_ns < selection.end_ns):
                    firsts[i] = found
        # Audio and metadata cover the same span as the picture (8.5.5): no sound before the first frame, and none of a
        # time that was skipped to reach it.
        common = min((f.utc_ns for f in firsts.values()), default=selection.start_ns)
        cursors = []
        for i, track in enumerate(self._tracks):
            first = firsts.get(i)
            from_ns = first.ref.start_ns if first is not None else selection.start_ns if track.video else common
            cursors.append(
                TrackCursor(track.stream, track.footage, track.video, selection, from_ns, first, self._note_unreadable)
            )
        return cursors

    @property
    def empty(self) -> bool:
        """Nothing can be sent with the footage known at the start."""
        return all(c.head is None for c in self._cursors)

    @property
    def done(self) -> bool:
        """The end of a closed range is reached in every track."""
        return all(c.done and c.head is None for c in self._cursors)

    def next_units(self, timelines: Sequence[Timeline], maximum_bytes: int) -> list[Unit]:
        """Units in the order of sending, at least one if one can be sent, about `maximum_bytes` at most."""
        units: list[Unit] = []
        size = 0
        while size < maximum_bytes:
            for cursor, timeline in zip(self._cursors, timelines, strict=True):
                if cursor.head is None:
                    cursor.advance(timeline)
            cursor_or_none = self._next_cursor(timelines)
            if cursor_or_none is None:
                break
            cursor = cursor_or_none
            head = cursor.head
            assert head is not None
            if all(c.in_gap or (c.done and c.head is None) for c in self._cursors):
                self._skip_gap(head)
            unit = cursor.take()
            unit.skipped_ns = self._skipped_ns
            units.append(unit)
            size += len(unit.data)
        return units

    def _next_cursor(self, timelines: Sequence[Timeline]) -> TrackCursor | None:
        candidates = [(c.head, c) for c in self._cursors if c.head is not None]
        if not candidates:
            return None
        head, cursor = min(candidates, key=lambda pair: _order(pair[0]))
        newest = max((t.latest for t in timelines if t.latest is not None), default=head.decode_ns)
        for other, timeline in zip(self._cursors, timelines, strict=True):
            if other.head is not None or other.done or not timeline.recording:
                continue
            behind = newest - other.known_until_ns
            if behind < EDGE_PATIENCE_NS and head.decode_ns >= other.known_until_ns:
                return None  # its next fragment may hold older units
        return cursor

    def _skip_gap(self, head: Unit) -> None:
        """Every track is between sections: leave the time without footage out of the playing time (8.6.4)."""
        ends = [c.section_end_ns for c in self._cursors if c.section_end_ns is not None]
        if ends:
            self._skipped_ns += max(0, head.decode_ns - max(ends))

    def _note_unreadable(self, ref: FragmentRef, error: StorageError) -> None:
        self.unreadable += 1
        log.warning(
            "replay leaves out a fragment that cannot be read: file %s, offset %d: %s", ref.file_id, ref.offset, error
        )


def _order(unit: Unit) -> tuple[UtcNs, int]:
    return unit.decode_ns, unit.stream
