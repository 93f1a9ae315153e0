"""Reverse reading of one track: groups of pictures backwards, their units forwards (IEC 62676-2-32 8.6.2).

The next group is known before the last unit of one is delivered: only then is it known whether its section ends there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nvr.media.bmff.fragment import Place
from nvr.media.rtsp.play import FrameSet
from nvr.model.timeline import Timeline
from nvr.replay.course import Course, Unreadable
from nvr.replay.groups import Group, Groups
from nvr.replay.unit import Footage, Selection, Unit
from nvr.storage.rows import FragmentRef


class ReverseCursor:
    """See `cursor.Cursor`. Places are negative times: they rise as play goes back. It never waits for recording.

    `start_ns` may be later than that of the selection, where other tracks cover the time of the first pictures.
    """

    def __init__(
        self,
        stream: int,
        footage: Footage,
        video: bool,
        selection: Selection,
        start_ns: int,
        timeline: Timeline,
        unreadable: Unreadable,
        spent: Callable[[], bool],
    ) -> None:
        self.head: Unit | None = None
        self.head_from_ns = 0
        self.done = False
        self.unfinished = False
        self.in_gap = True
        self.section_end_ns: int | None = None
        self.known_until_ns = 0
        self.shift_ns = 0
        self._stream = stream
        self._video = video
        self._selection = selection
        self._course = Course(footage, unreadable, spent)
        self._groups = Groups(footage, self._course, timeline, start_ns, spent, alone=not video)
        self._intra_until_ns: int | None = None
        """Intra frames later than this are too near to the one sent last."""
        self._section = -1
        self._placed_end_ns: int | None = None
        self._pending: tuple[Unit, Group, int] | None = None
        self._head_end_ns = 0
        self._units = self._chosen()

    @property
    def coming(self) -> Unit | None:
        if self.head is None and self.unfinished and self._pending is not None:
            return self._pending[0]
        return self.head

    def take(self) -> Unit:
        unit = self.head
        assert unit is not None
        self.head = None
        self.in_gap = unit.end
        if unit.end:
            self.section_end_ns = self._head_end_ns
        return unit

    def advance(self, timeline: Timeline) -> None:
        self.unfinished = False
        while self.head is None and not self.done:
            try:
                found = next(self._units)
            except StopIteration:
                self.done = True
                self._release(end=True, terminal=True)
                return
            if found is None:
                self.unfinished = True
                return
            unit, group = found
            before = self._pending
            if unit is None:  # the end of the range
                self.done = True
                self._release(end=before is not None and before[1].section != group.section)
                return
            self._release(end=before is not None and before[1].section != group.section)
            self._pending = unit, group, self.shift_ns

    def _release(self, *, end: bool, terminal: bool = False) -> None:
        """Make the pending unit the head."""
        if self._pending is None:
            return
        unit, group, shift_ns = self._pending
        unit.end = end
        unit.terminal = terminal
        self.head, self._pending = unit, None
        self.head_from_ns = shift_ns - group.end_ns
        self._head_end_ns = shift_ns - group.start_ns

    def _chosen(self) -> Iterator[tuple[Unit | None, Group] | None]:
        """Units in the order of sending; None with the first group that lies beyond the range. None without a group
        where enough has been read for now."""
        end_ns = self._selection.end_ns
        for group in self._groups.walk(self._may_hold_wanted):
            if group is None:
                yield None
                continue
            if end_ns is not None and group.end_ns <= end_ns:
                yield None, group
                return
            self._place(group)
            first = True
            for ref, sample, data in self._samples(group):
                unit = Unit(
                    self._stream,
                    sample.utc_ns,
                    self.shift_ns - group.latest_ns,
                    self.shift_ns - sample.utc_ns,
                    data,
                    ref.configuration,
                    sample.clean_point,
                    discontinuity=first,
                    reach_ns=group.end_ns,
                )
                first = False
                yield unit, group

    def _place(self, group: Group) -> None:
        if group.section != self._section:
            self._section = group.section
            behind = self._placed_end_ns
            self.shift_ns = 0 if behind is None else max(0, behind + group.end_ns)
            self._intra_until_ns = self._intra_until_ns if self.shift_ns == 0 else None
        self._placed_end_ns = self.shift_ns - group.start_ns

    def _may_hold_wanted(self, ref: FragmentRef) -> bool:
        return self._intra_until_ns is None or ref.start_ns <= self._intra_until_ns

    def _samples(self, group: Group) -> Iterator[tuple[FragmentRef, Place, bytes | memoryview]]:
        """The units of a group that are wanted. Of those behind what has gone meanwhile none can be decoded."""
        which = self._selection.frames if self._video else FrameSet.ALL
        seen_ns: int | None = None
        for part in group.parts:
            fragment, part.fragment = part.fragment or self._course.open(part.ref), None
            if fragment is None:
                return
            for index in range(part.first, part.last):
                place = fragment.places[index]
                reordered = seen_ns is not None and place.utc_ns < seen_ns
                seen_ns = place.utc_ns if seen_ns is None else max(seen_ns, place.utc_ns)
                if which is FrameSet.INTRA:
                    if not place.clean_point:
                        return
                    if self._intra_until_ns is not None and place.utc_ns > self._intra_until_ns:
                        return
                elif reordered and which is not FrameSet.ALL:
                    continue
                data = self._course.data(part.ref, fragment, index)
                if data is None:
                    return
                if which is FrameSet.INTRA:
                    self._intra_until_ns = place.utc_ns - self._selection.interval_ns
                # A view keeps all that was read with it, which is sent as well unless only some pictures are.
                yield part.ref, place, data if which is FrameSet.ALL else bytes(data)
                if which is FrameSet.INTRA:
                    return
