"""The replay plan: which access units, in which order, with which flags (IEC 62676-2-32 8.3.1, 8.5, 8.6, 8.8, 8.9).

A plan is lazy and does no I/O of its own: it reads through `Footage` on whichever thread calls it, and is told the
timelines. It follows from footage and request alone; clocks, sockets and RTP are the player's business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from nvr.media.rtsp.play import FrameSet
from nvr.media.unit import CodecConfiguration
from nvr.model.errors import StorageError
from nvr.model.recording import TrackType
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import Timeline
from nvr.replay.course import Beginning, Course, Search
from nvr.replay.cursor import Cursor, ForwardCursor
from nvr.replay.reverse import ReverseCursor
from nvr.replay.unit import Footage, OpenFragment, Position, Selection, Unit
from nvr.storage.rows import FragmentRef

log = logging.getLogger(__name__)

EDGE_PATIENCE_NS: Final = 4 * NS
"""How far a track at its live edge may lie behind the others before they stop waiting for it.

Tracks are written in fragments of about 2 s, at different moments: within this time their order is kept. A track that
stays silent for longer (metadata without events) holds nobody up; should it speak again, its units come when they come.
"""


BATCH_READS: Final = 16
"""Reads for one batch, of fragments and of tables of files, also where none of them holds what is wanted: about 5 ms.
Who jumps elsewhere, and everybody else in the lane of the recording, waits for the batch that is under way."""


@dataclass(frozen=True, slots=True)
class PlanTrack:
    """One track that takes part. `stream` is the number that its units bear."""

    stream: int
    footage: Footage
    kind: TrackType

    @property
    def video(self) -> bool:
        return self.kind is TrackType.VIDEO


class Plan:
    """Replay of several tracks, multiplexed in recorded order; in reverse in the order of their groups of pictures.

    Making it looks for where replay begins. While that is not found within the reads of one batch it is `opening`, and
    `next_units` goes on looking; `start`, `empty` and `first` are not known before.

    `next_units` returns what can be sent now. An empty list means that nothing more is known: `more` tells that it is
    to be asked again, because it has read enough for one batch; `done` whether it is final or more may be recorded.
    Blocking; one caller at a time, on any thread.
    """

    def __init__(self, tracks: Sequence[PlanTrack], timelines: Sequence[Timeline], selection: Selection) -> None:
        self.unreadable = 0
        """Fragments left out because they could not be read."""
        self.at_end = False
        """The last `next_units` found nothing, and nothing is being recorded that might come."""
        self.more = False
        """The last `next_units` found nothing within its reads, and has not looked at everything."""
        self._skipped_ns = 0
        self._reads = 0
        tracks = [
            replace(t, footage=_Counted(t.footage, self._count, hold=selection.at_once and not _chooses(t, selection)))
            for t in tracks
        ]
        played = [(t, timeline) for t, timeline in zip(tracks, timelines, strict=True) if _has_part(t, selection)]
        self._has_part = tuple(_has_part(t, selection) for t in tracks)
        self._cursors: Sequence[Cursor] = ()
        self.empty = True
        """Nothing can be sent with the footage known at the start."""
        self.start = Position.at(selection.start_ns, selection.reverse)
        """Where the first unit stands that will be sent; the requested start where none is known yet."""
        self.first: dict[int, CodecConfiguration] = {}
        """Of each stream, the configuration of its first unit, where it is known."""
        self._opening = self._open([t for t, _ in played], [timeline for _, timeline in played], selection)
        self.opening = True
        self._go_on_opening()

    def _go_on_opening(self) -> None:
        self._reads = 0
        try:
            next(self._opening)
        except StopIteration:
            self.opening = False

    def _open(self, tracks: Sequence[PlanTrack], timelines: Sequence[Timeline], selection: Selection) -> Search[None]:
        opener = self._open_reverse if selection.reverse else self._open_forward
        cursors = yield from opener(tracks, timelines, selection)
        for cursor, timeline in zip(cursors, timelines, strict=True):
            yield from _find_first(cursor, timeline)
        self._cursors = cursors
        heads = [unit for c in cursors if (unit := c.coming) is not None]
        if heads:
            self.empty = False
            self.start = min(heads, key=_order).position
            self.first = {head.stream: head.configuration for head in heads}

    def _open_forward(
        self, tracks: Sequence[PlanTrack], timelines: Sequence[Timeline], selection: Selection
    ) -> Search[list[Cursor]]:
        firsts: dict[int, Beginning] = {}
        barren: dict[int, Timeline] = {}
        for i, (track, timeline) in enumerate(zip(tracks, timelines, strict=True)):
            if track.video:
                course = Course(track.footage, self._note_unreadable, self._spent)
                found = yield from course.beginning(timeline, selection.start_ns)
                if found is None:
                    barren[i] = timeline
                elif selection.end_ns is None or found.utc_ns < selection.end_ns:
                    firsts[i] = found
        # Audio and metadata cover the same span as the picture (8.5.5): no sound before the first frame, and none of a
        # time that was skipped to reach it.
        common = min((f.utc_ns for f in firsts.values()), default=selection.start_ns)
        return [
            ForwardCursor(
                track.stream,
                track.footage,
                track.kind,
                selection,
                selection.start_ns if track.video else common,
                firsts.get(i),
                self._note_unreadable,
                self._spent,
                barren.get(i),
            )
            for i, track in enumerate(tracks)
        ]

    def _open_reverse(
        self, tracks: Sequence[PlanTrack], timelines: Sequence[Timeline], selection: Selection
    ) -> Search[list[Cursor]]:
        def opened(i: int, start_ns: UtcNs) -> Search[ReverseCursor]:
            track = tracks[i]
            cursor = ReverseCursor(
                track.stream,
                track.footage,
                track.video,
                selection,
                start_ns,
                timelines[i],
                self._note_unreadable,
                self._spent,
            )
            yield from _find_first(cursor, timelines[i])
            return cursor

        cursors: dict[int, Cursor] = {}
        for i, track in enumerate(tracks):
            if track.video:
                cursors[i] = yield from opened(i, selection.start_ns)
        # The others cover the span of the first pictures: the whole group that holds the start, or lies before it.
        reached = [unit.reach_ns for c in cursors.values() if (unit := c.coming) is not None]
        common = max(reached) - 1 if reached else selection.start_ns
        for i, track in enumerate(tracks):
            if not track.video:
                cursors[i] = yield from opened(i, common)
        return [cursors[i] for i in range(len(tracks))]

    @property
    def done(self) -> bool:
        """The end of a closed range, or in reverse that of the footage, is reached in every track."""
        return not self.opening and all(c.done and c.head is None for c in self._cursors)

    def next_units(self, timelines: Sequence[Timeline], maximum_bytes: int) -> list[Unit]:
        """Units in the order of sending, at least one if one can be sent and is found within `BATCH_READS` reads; about
        `maximum_bytes` at most.

        `timelines` are those of all tracks, taken just before.
        """
        if self.opening:
            self._go_on_opening()
            self.more = True
            return []
        played = [timeline for timeline, has_part in zip(timelines, self._has_part, strict=True) if has_part]
        recording = [t.recording for t in played]
        newest = max((t.latest for t in played if t.latest is not None), default=None) if any(recording) else None
        units: list[Unit] = []
        size = 0
        self._reads = 0
        unfinished = False
        while size < maximum_bytes and (not self._spent() or not units):
            for cursor, timeline in zip(self._cursors, played, strict=True):
                if cursor.head is None:
                    cursor.advance(timeline)
            unfinished = any(c.unfinished for c in self._cursors)
            if unfinished:
                break  # what it has not looked at may come before what the others have found
            found = self._next_cursor(recording, newest)
            if found is None:
                break
            head = found.head
            assert head is not None
            if all(c.in_gap or (c.done and c.head is None) for c in self._cursors):
                self._skip_gap(found)
            unit = found.take()
            unit.due_ns -= self._skipped_ns
            unit.shown_ns -= self._skipped_ns
            units.append(unit)
            size += len(unit.data)
        self.more = unfinished and not units
        self.at_end = not units and not unfinished and (self.done or not any(recording))
        return units

    def _next_cursor(self, recording: Sequence[bool], newest: UtcNs | None) -> Cursor | None:
        found: Cursor | None = None
        head: Unit | None = None
        for cursor in self._cursors:
            if cursor.head is not None and (head is None or _order(cursor.head) < _order(head)):
                found, head = cursor, cursor.head
        if head is None or newest is None:
            return found
        for other, is_recording in zip(self._cursors, recording, strict=True):
            if other.head is not None or other.done or not is_recording:
                continue
            behind = newest + other.shift_ns - other.known_until_ns
            if behind < EDGE_PATIENCE_NS and head.due_ns >= other.known_until_ns:
                return None  # its next fragment may hold older units
        return found

    def _skip_gap(self, cursor: Cursor) -> None:
        """Every track is between sections: leave the time without footage out of the playing time (8.6.4)."""
        ends = [c.section_end_ns for c in self._cursors if c.section_end_ns is not None]
        if ends:
            self._skipped_ns += max(0, cursor.head_from_ns - max(ends))

    def _count(self) -> None:
        self._reads += 1

    def _spent(self) -> bool:
        return self._reads >= BATCH_READS

    def _note_unreadable(self, ref: FragmentRef, error: StorageError) -> None:
        self.unreadable += 1
        log.warning(
            "replay leaves out a fragment that cannot be read: file %s, offset %d: %s", ref.file_id, ref.offset, error
        )


class _Counted:
    """Footage whose reads are counted: each fragment, and each file that a walk comes to, whose row and table are read.
    See `Footage`."""

    def __init__(self, footage: Footage, count: Callable[[], None], *, hold: bool) -> None:
        self._footage = footage
        self._count = count
        self._hold = hold

    def fragments(
        self, from_ns: UtcNs, until_ns: UtcNs | None = None, *, run_id: str | None = None
    ) -> Iterator[FragmentRef]:
        return self._walk(self._footage.fragments(from_ns, until_ns, run_id=run_id))

    def fragments_after(self, ref: FragmentRef) -> Iterator[FragmentRef]:
        return self._walk(self._footage.fragments_after(ref))

    def fragments_before(self, until_ns: UtcNs, *, run_id: str | None = None) -> Iterator[FragmentRef]:
        return self._walk(self._footage.fragments_before(until_ns, run_id=run_id))

    def _walk(self, refs: Iterator[FragmentRef]) -> Iterator[FragmentRef]:
        file_id = None
        for ref in refs:
            if ref.file_id != file_id:
                file_id = ref.file_id
                self._count()
            yield ref
        if file_id is None:
            self._count()  # the index has been asked all the same

    def open(self, ref: FragmentRef) -> OpenFragment | None:
        self._count()
        fragment = self._footage.open(ref)
        if self._hold and fragment is not None:
            fragment.hold()
        return fragment


def _find_first(cursor: Cursor, timeline: Timeline) -> Search[None]:
    """What begins the replay is known before it is answered, however far it is to be looked for."""
    cursor.advance(timeline)
    while cursor.coming is None and cursor.unfinished:
        yield
        cursor.advance(timeline)


def _has_part(track: PlanTrack, selection: Selection) -> bool:
    """Sound is left out in reverse (8.6.2)."""
    return not (selection.reverse and track.kind is TrackType.AUDIO)


def _chooses(track: PlanTrack, selection: Selection) -> bool:
    """Only some of its pictures are sent."""
    return track.video and selection.frames is not FrameSet.ALL


def _order(unit: Unit) -> tuple[int, int]:
    return unit.due_ns, unit.stream
