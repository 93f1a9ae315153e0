"""Forward reading of one track: from fragments to access units with their flags C, E, D and T (IEC 62676-2-32 8.3.1).

A unit is delivered when it is known what comes behind it, because only then is it known whether it ends a section. At
the live edge the newest unit is therefore held back until its successor is on the disk or the recording has stopped
(8.8).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from nvr.media.rtsp.play import FrameSet
from nvr.media.unit import Sample
from nvr.model.errors import StorageError
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import Timeline
from nvr.replay.unit import Footage, Selection, Unit
from nvr.storage.rows import FragmentRef

LOOK_BACK_NS = 4 * NS
"""First step back in search of a clean point; each further one is four times as wide. A fragment holds about 2 s."""

Unreadable = Callable[[FragmentRef, StorageError], None]
"""Is told of each fragment that could not be read; the plan goes on behind it."""


class CleanPoint:
    """The unit with which a video track begins: the sample at `index` of the fragment `ref`."""

    __slots__ = ("index", "ref", "utc_ns")

    def __init__(self, ref: FragmentRef, index: int, utc_ns: UtcNs) -> None:
        self.ref = ref
        self.index = index
        self.utc_ns = utc_ns


def find_clean_point(
    footage: Footage, timeline: Timeline, start_ns: UtcNs, unreadable: Unreadable
) -> CleanPoint | None:
    """Where video begins for a forward start at `start_ns` (8.5.5), or None when nothing decodable follows. Blocking.

    In footage it is the last clean point at or before the start; in a gap, or where the section has none that early,
    the first clean point after it.
    """
    run = timeline.run_at(start_ns)
    if run is not None:
        back = LOOK_BACK_NS
        seen: tuple[str, int] | None = None
        while True:
            floor = max(run.start_ns, start_ns - back)
            refs: list[FragmentRef] = []
            for ref in footage.fragments(floor, start_ns + 1):
                if (ref.file_id, ref.offset) == seen or ref.start_ns > start_ns:
                    break
                if ref.run_id == run.run_id:
                    refs.append(ref)
            for ref in reversed(refs):
                found = _last_clean(footage, ref, start_ns, unreadable) if ref.clean_point else None
                if found is not None:
                    return found
            if floor <= run.start_ns:
                break
            if refs:
                seen = (refs[0].file_id, refs[0].offset)
            back *= 4
    for ref in footage.fragments(start_ns):
        for index, sample in enumerate(_read(footage, ref, unreadable) if ref.clean_point else ()):
            if sample.clean_point and sample.utc_ns >= start_ns:
                return CleanPoint(ref, index, sample.utc_ns)
    return None


def _last_clean(footage: Footage, ref: FragmentRef, start_ns: UtcNs, unreadable: Unreadable) -> CleanPoint | None:
    found = None
    for index, sample in enumerate(_read(footage, ref, unreadable)):
        if sample.clean_point and sample.utc_ns <= start_ns:
            found = CleanPoint(ref, index, sample.utc_ns)
    return found


def _read(footage: Footage, ref: FragmentRef, unreadable: Unreadable) -> list[Sample]:
    try:
        return footage.read(ref)
    except StorageError as e:
        unreadable(ref, e)
        return []


class TrackCursor:
    """One track, forward. `head` is the next unit with its flags decided, or None: nothing to deliver now.

    `from_ns` is where reading begins; `first` the clean point of a video track, whose fragment holds `from_ns`.
    Only video waits for a clean point at the start of a section; every unit of audio and metadata stands alone.
    """

    def __init__(
        self,
        stream: int,
        footage: Footage,
        video: bool,
        selection: Selection,
        from_ns: UtcNs,
        first: CleanPoint | None,
        unreadable: Unreadable,
    ) -> None:
        self.head: Unit | None = None
        self.done = False
        """The end of a closed range is reached: nothing more will ever come."""
        self.in_gap = True
        """The unit delivered last ended its section, or none has been delivered."""
        self.known_until_ns: UtcNs = from_ns
        """End of the newest fragment seen: what comes later in this track is not older."""
        self.section_end_ns: UtcNs | None = None
        """End of the section that the unit taken last has ended."""
        self._stream = stream
        self._footage = footage
        self._video = video
        self._selection = selection
        self._from_ns = from_ns
        self._first = first
        self._unreadable = unreadable
        self._fragments: Iterator[FragmentRef] | None = None
        self._last: FragmentRef | None = None
        self._samples: deque[tuple[Sample, UtcNs]] = deque()
        self._section = 0
        self._broken = True
        """The next fragment starts a section: another run, or something before it could not be read."""
        self._needs_clean = video
        self._pending: Unit | None = None
        self._pending_section = 0
        self._pending_end_ns: UtcNs = from_ns
        self._pending_run = ""
        self._head_end_ns: UtcNs = from_ns
        self._discontinuity = selection.discontinuity
        self._next_intra_ns: UtcNs | None = None
        self._beyond = False
        """A unit at or after the end of the range was seen: its section goes on there."""

    def take(self) -> Unit:
        """The head, which must be there; `advance` fills it again."""
        unit = self.head
        assert unit is not None
        self.head = None
        self.in_gap = unit.end
        if unit.end:
            self.section_end_ns = self._head_end_ns
        return unit

    def advance(self, timeline: Timeline) -> None:
        """Fill `head` if the footage known now allows it. Blocking. `timeline` says which runs have ended."""
        while self.head is None and not self.done:
            if self._beyond and not self._samples:
                # B-frames: units within the range may stand behind one beyond it, but not in a later fragment.
                self.done = True
                self._release(end=False)
                return
            if not self._samples and not self._next_fragment():
                self._release_at_edge(timeline)
                return
            if not self._samples:
                continue
            sample, decode_ns = self._samples.popleft()
            self._consider(sample, decode_ns)

    def _consider(self, sample: Sample, decode_ns: UtcNs) -> None:
        assert self._last is not None
        ref = self._last
        if self._pending is not None and self._section != self._pending_section:
            self._release(end=True)
        if not self._wanted(sample):
            # It still belongs to the section of the pending unit: with frames left out the last one sent gets E.
            self._pending_end_ns = ref.end_ns
            return
        unit = Unit(
            self._stream,
            sample.utc_ns,
            decode_ns,
            sample.data,
            ref.configuration,
            sample.clean_point,
            discontinuity=self._discontinuity,
        )
        self._discontinuity = False
        self._release(end=False)
        self._pending = unit
        self._pending_section = self._section
        self._pending_end_ns = ref.end_ns
        self._pending_run = ref.run_id

    def _wanted(self, sample: Sample) -> bool:
        selection = self._selection
        if selection.end_ns is not None and sample.utc_ns >= selection.end_ns:
            self._beyond = True
            return False
        if not self._video:
            return sample.utc_ns >= self._from_ns
        if self._needs_clean and not sample.clean_point:
            return False
        self._needs_clean = False
        if selection.frames is FrameSet.ALL:
            return True
        if not sample.clean_point or (self._next_intra_ns is not None and sample.utc_ns < self._next_intra_ns):
            return False
        self._next_intra_ns = sample.utc_ns + selection.interval_ns
        return True

    def _release(self, *, end: bool, terminal: bool = False) -> None:
        """Make the pending unit the head."""
        if self._pending is None:
            return
        self._pending.end = end
        self._pending.terminal = terminal
        self._head_end_ns = self._pending_end_ns
        self.head, self._pending = self._pending, None

    def _release_at_edge(self, timeline: Timeline) -> None:
        """No fragment follows yet. If the run is over the pending unit was its last (8.8, 8.9)."""
        if self._pending is None:
            return
        run = next((r for r in timeline.runs if r.run_id == self._pending_run), None)
        if run is None or run.end_reason is None:
            return  # younger than the timeline, or still being recorded
        last = timeline.runs[-1].run_id == run.run_id
        self._release(end=True, terminal=last and not timeline.recording)

    def _next_fragment(self) -> bool:
        """Read the next fragment that is not yet seen. False: none is there now."""
        if self._fragments is None:
            self._fragments = self._unseen()
        ref = next(self._fragments, None)
        if ref is None:
            self._fragments = None
            return False
        end_ns = self._selection.end_ns
        last = self._last
        if self._broken or last is None or ref.run_id != last.run_id:
            # Runs that touch leave no gap (another codec configuration from one picture to the next), and no E.
            if self._broken or last is None or ref.start_ns > last.end_ns:
                self._section += 1
            self._broken = False
            self._needs_clean = self._video
        if end_ns is not None and ref.start_ns >= end_ns:
            # No need to read it: nothing of it is wanted, and its run tells whether the pending unit ends a section.
            self.done = True
            self._release(end=self._section != self._pending_section)
            return True
        self._last = ref
        self.known_until_ns = max(self.known_until_ns, ref.end_ns)
        try:
            samples = self._footage.read(ref)
        except StorageError as e:
            self._unreadable(ref, e)
            self._broken = True
            self._first = None
            return True
        self._broken = not samples  # deleted meanwhile
        # Presentation times in rising order are decode times up to a constant (ISO/IEC 14496-12 8.6.1).
        decode = sorted(s.utc_ns for s in samples)
        pairs = list(zip(samples, decode, strict=True))
        if self._first is not None:
            pairs = pairs[self._first.index :]
            self._first = None
        self._samples.extend(pairs)
        return True

    def _unseen(self) -> Iterator[FragmentRef]:
        if self._last is None:
            first = self._first
            if first is None:
                yield from self._footage.fragments(self._from_ns)
                return
            fragments = self._footage.fragments(first.ref.start_ns)
            for ref in fragments:
                if (ref.file_id, ref.offset) == (first.ref.file_id, first.ref.offset):
                    yield ref
                    yield from fragments
                    return
            self._first = None  # deleted since it was found: begin with what is there now
            yield from self._footage.fragments(self._from_ns)
            return
        last = self._last
        behind: list[FragmentRef] = []
        fragments = self._footage.fragments(last.start_ns)
        for ref in fragments:
            if (ref.file_id, ref.offset) == (last.file_id, last.offset):
                yield from fragments
                return
            if ref.start_ns > last.start_ns:
                behind.append(ref)
        # The last one is gone (retention): all that starts behind it is new.
        yield from behind
