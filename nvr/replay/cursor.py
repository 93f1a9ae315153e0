"""Forward reading of one track: from fragments to access units with their flags C, E, D and T (IEC 62676-2-32 8.3.1).

A unit is delivered when it is known what comes behind it, because only then is it known whether it ends a section. At
the live edge the newest unit is therefore held back until its successor is on the disk or the recording has stopped
(8.8).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from nvr.media.bmff.fragment import Place
from nvr.media.rtsp.play import FrameSet
from nvr.model.recording import TrackType
from nvr.model.time import UtcNs
from nvr.model.timeline import GapReason, Run, Timeline
from nvr.replay import course
from nvr.replay.course import Beginning, Course, Search, Unreadable
from nvr.replay.unit import Footage, OpenFragment, Selection, Unit
from nvr.storage.rows import FragmentRef

LATELY: Final = 64
"""Runs played last that are remembered: retention, which moves their starts, gives those that overlap another order."""


class Cursor(Protocol):
    """One track in the direction of play. Places are those of `Unit.due_ns`, before the plan leaves out gaps."""

    head: Unit | None
    """The next unit with its flags decided, or None: nothing to deliver now."""
    head_from_ns: int
    """From which place on the head covers time: the end of a gap where it begins a section."""
    done: bool
    """Nothing more will ever come."""
    unfinished: bool
    """`advance` stopped because it had read enough: called again, it goes on."""
    in_gap: bool
    """The unit delivered last ended its section, or none has been delivered."""
    section_end_ns: int | None
    """End of the section that the unit taken last has ended."""
    known_until_ns: int
    """End of the newest fragment seen: what comes later in this track is not older."""
    shift_ns: int
    """How much later than its time this track is placed, because runs overlap."""

    @property
    def coming(self) -> Unit | None:
        """The next unit, its flags not decided where `advance` is unfinished."""

    def advance(self, timeline: Timeline) -> None:
        """Fill `head` if the footage known now allows it. Blocking. `timeline` says which runs have ended."""

    def take(self) -> Unit:
        """The head, which must be there; `advance` fills it again."""


class ForwardCursor:
    """See `Cursor`. `from_ns` is where reading begins; `first` the beginning of a video track, where it is known;
    `spent` tells that enough has been read for now; `barren` is a timeline in which no beginning has been found.

    Only video waits for a clean point at the start of a section; every unit of audio and metadata stands alone.
    """

    def __init__(
        self,
        stream: int,
        footage: Footage,
        kind: TrackType,
        selection: Selection,
        from_ns: UtcNs,
        first: Beginning | None,
        unreadable: Unreadable,
        spent: Callable[[], bool],
        barren: Timeline | None = None,
    ) -> None:
        self.head: Unit | None = None
        self.head_from_ns = 0
        self.done = False
        self.unfinished = False
        self.in_gap = True
        self.section_end_ns: int | None = None
        self.known_until_ns: int = from_ns
        self.shift_ns = 0
        self._stream = stream
        self._footage = footage
        self._course = Course(footage, unreadable, spent)
        self._spent = spent
        self._video = kind is TrackType.VIDEO
        self._steady = kind is not TrackType.METADATA
        self._selection = selection
        self._from_ns = from_ns
        self._first = first
        self._search: Search[Beginning | None] | None = None
        """For the beginning, where it has been broken off."""
        self._barren = barren
        self._run: Run | None = None
        self._run_from_ns: UtcNs = from_ns
        self._live = False
        """The run was seen while it was being recorded: what is recorded next follows, whatever its time."""
        self._played: deque[str] = deque(maxlen=LATELY)
        self._passed: frozenset[str] = frozenset()
        """Runs that are not wanted, whatever their place: what there was when a clock was set back."""
        self._fragments: Iterator[FragmentRef] | None = None
        self._last: FragmentRef | None = None
        self._fragment: OpenFragment | None = None
        self._samples: deque[tuple[int, int]] = deque()
        """Of `_fragment`, which samples are still to be looked at, and their decode times."""
        self._section = 0
        self._broken = True
        """The next fragment starts a section: another run, or something before it could not be read."""
        self._needs_clean = self._video
        self._asked: tuple[FragmentRef, Search[bool]] | None = None
        """The fragment that comes next, and the search that tells whether a clean point is waited for."""
        self._seen_ns: UtcNs = from_ns - 1
        """Greatest time of presentation read so far in this section."""
        self._pending: Unit | None = None
        self._pending_section = 0
        self._pending_end_ns: int = from_ns
        self._head_end_ns: int = from_ns
        self._discontinuity = selection.discontinuity
        self._next_intra_ns: UtcNs | None = None
        self._beyond = False
        """A unit at or after the end of the range was seen: its section goes on there."""

    @property
    def coming(self) -> Unit | None:
        return self.head or (self._pending if self.unfinished else None)

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
            if self._samples:
                self._consider(*self._samples.popleft())
                if not self._samples:
                    self._fragment = None
            elif self._spent():
                self.unfinished = True
                return
            elif self._asked is not None:
                self._go_on_asking(*self._asked)
            elif self._run is None:
                if not self._begin(timeline):
                    return
            elif (self._beyond or not self._next_fragment(timeline)) and not self._next_run(timeline):
                # B-frames: units within the range may stand behind one beyond it, but not in a later fragment.
                return

    def _begin(self, timeline: Timeline) -> bool:
        """Enter the first run. False: it is not there yet."""
        if self._video:
            first = self._first or self._look_for_beginning(timeline)
            if first is None:
                return False
            if self._selection.end_ns is not None and first.utc_ns >= self._selection.end_ns:
                self.done = True
                return False
            self._first = None
            self._enter(first.run, first.ref.start_ns)
            self._needs_clean = False
            self._load(first.ref, first.fragment, first.index)
            return True
        run = course.first_run_holding(timeline, self._from_ns) or course.first_run_behind(timeline, self._from_ns)
        if run is None:
            return False
        self._enter(run, self._from_ns)
        return True

    def _look_for_beginning(self, timeline: Timeline) -> Beginning | None:
        """None also where the search is `unfinished`."""
        if timeline is self._barren:
            return None
        self._search = self._search or self._course.beginning(timeline, self._from_ns)
        try:
            next(self._search)
        except StopIteration as e:
            self._search = None
            found: Beginning | None = e.value
            self._barren = timeline if found is None else None
            return found
        self.unfinished = True
        return None

    def _enter(self, run: Run, from_ns: UtcNs) -> None:
        self._run = run
        self._run_from_ns = from_ns
        self._fragments = None
        self._beyond = False
        self._played.append(run.run_id)

    def _next_run(self, timeline: Timeline) -> bool:
        """Nothing more of this run is to be read now. False: nothing else is there either (8.8, 8.9)."""
        assert self._run is not None
        run = course.current(timeline, self._run)
        if run is not None and run.end_reason is None and not self._beyond:
            self._live = True
            return False
        following = self._following(timeline)
        end_ns = self._selection.end_ns
        if following is not None and (end_ns is None or following.start_ns < end_ns):
            if self._beyond:  # it overlaps this one, whose rest is not wanted
                self._release(end=self._ended)
                self._broken = self._discontinuity = True
            self._change_run(run or self._run, following)
            return True
        if self._beyond:
            self.done = True
            self._release(end=self._ended)
        elif following is not None:
            self.done = True
            self._release(end=self._ended or self._leaves_gap(following))
        else:
            self._release(end=True, terminal=not timeline.recording)
        return False

    @property
    def _ended(self) -> bool:
        """What was read last belongs to another section than the unit that is held back."""
        return self._broken or self._section != self._pending_section

    def _following(self, timeline: Timeline) -> Run | None:
        assert self._run is not None
        following = course.next_run(timeline, self._run)
        while following is not None and self._is_known(following):
            following = course.next_run(timeline, following)
        if following is None and self._live and timeline.recording:
            # The clock has been set back to before this run. What else there is lies in the past, and is not wanted.
            following = next((r for r in timeline.runs if r.end_reason is None and not self._is_known(r)), None)
            if following is not None:
                self._passed = frozenset(r.run_id for r in timeline.runs)
        return following

    def _is_known(self, run: Run) -> bool:
        return run.run_id in self._played or run.run_id in self._passed

    def _leaves_gap(self, following: Run) -> bool:
        return self._last is None or following.start_ns > self._last.end_ns

    def _change_run(self, run: Run, following: Run) -> None:
        # Runs that touch leave no gap (another codec configuration from one picture to the next), and no E. Where the
        # time steps back a new section begins, which does not continue what was sent.
        if self._leaves_gap(following):
            self._broken = True
        elif following.start_ns <= self._seen_ns:
            self._broken = self._discontinuity = True
            self._next_intra_ns = None
        self._enter(following, following.start_ns)
        # Behind a jump of the clock the stream itself goes on: its pictures refer to those that have been sent.
        goes_on = run.end_reason is GapReason.CLOCK_JUMP and self._last is not None and self._last.run_id == run.run_id
        self._needs_clean = self._video and not goes_on

    def _next_fragment(self, timeline: Timeline) -> bool:
        """Read the next fragment that is not yet seen. False: none is there now."""
        assert self._run is not None
        if self._fragments is None:
            last = self._last
            if last is None or last.run_id != self._run.run_id:
                self._fragments = self._footage.fragments(self._run_from_ns, run_id=self._run.run_id)
            else:
                self._fragments = self._footage.fragments_after(last)
        ref = next(self._fragments, None)
        if ref is None:
            self._fragments = None
            return False
        selection = self._selection
        if selection.end_ns is not None and ref.start_ns >= selection.end_ns:
            self._beyond = True  # nothing of it is wanted: no need to read it
            return True
        if self._missing_before(ref, timeline):
            self._broken = True
            self._needs_clean = self._video
        if self._needs_clean and ref.first_of_run and not ref.clean_point:
            self._asked = ref, self._course.needs_clean(self._run)
        else:
            self._read(ref)
        return True

    def _go_on_asking(self, ref: FragmentRef, search: Search[bool]) -> None:
        """Where the search stops because enough has been read, `_spent` holds as well."""
        try:
            next(search)
        except StopIteration as e:
            self._needs_clean, self._asked = e.value, None
            self._read(ref)

    def _read(self, ref: FragmentRef) -> None:
        if self._next_intra_ns is not None and ref.end_ns <= self._next_intra_ns and not self._broken:
            # No picture of it is wanted, only the time that it covers.
            self._last = ref
            self._seen_ns = max(self._seen_ns, ref.end_ns - 1)
            self._cover(ref)
            return
        fragment = self._course.open(ref)
        self._last, last = ref, self._last
        if fragment is None:
            self._lose()
        else:
            self._load(ref, fragment, 0, last)

    def _lose(self) -> None:
        """What comes next cannot be read, or has been deleted meanwhile."""
        self._broken = True
        self._needs_clean = self._video

    def _missing_before(self, ref: FragmentRef, timeline: Timeline) -> bool:
        """Whether footage stood between what was read last and this that has been deleted, or cannot be read.

        Fragments of pictures and sound touch within a run. Metadata come when something happens: of them only the
        beginning of the run tells, which retention moves.
        """
        last = self._last
        if last is None or ref.start_ns <= max(last.end_ns, self._run_from_ns):
            return False
        if self._steady:
            return True
        assert self._run is not None
        run = course.current(timeline, self._run)
        return run is not None and run.start_ns > last.end_ns

    def _load(self, ref: FragmentRef, fragment: OpenFragment, first: int, last: FragmentRef | None = None) -> None:
        """Take up a fragment from the sample `first` on; `last` is the one before it."""
        self._last = ref
        if self._broken:
            self._section += 1
            self._broken = False
            placed_end = self.shift_ns + last.end_ns if last is not None else ref.start_ns
            self.shift_ns = max(0, placed_end - ref.start_ns)
            self._seen_ns = ref.start_ns - 1
        self._cover(ref)
        # Presentation times in rising order are decode times up to a constant (ISO/IEC 14496-12 8.6.1).
        decode = sorted(p.utc_ns for p in fragment.places)
        self._fragment = fragment
        self._samples.extend(list(enumerate(decode))[first:])

    def _cover(self, ref: FragmentRef) -> None:
        self.known_until_ns = max(self.known_until_ns, ref.end_ns + self.shift_ns)
        if self._section == self._pending_section:
            # The rest of a section belongs to its last unit that is sent, also where no picture of it is.
            self._pending_end_ns = ref.end_ns + self.shift_ns

    def _consider(self, index: int, decode_ns: int) -> None:
        assert self._last is not None
        assert self._fragment is not None
        place = self._fragment.places[index]
        reordered, self._seen_ns = place.utc_ns <= self._seen_ns, max(self._seen_ns, place.utc_ns)
        next_intra_ns = self._next_intra_ns
        if not self._wanted(place, reordered):
            return
        data = self._course.data(self._last, self._fragment, index)
        if data is None:
            self._next_intra_ns = next_intra_ns
            self._samples.clear()
            self._lose()
            return
        unit = Unit(
            self._stream,
            place.utc_ns,
            decode_ns + self.shift_ns,
            place.utc_ns + self.shift_ns,
            # A view keeps all that was read with it, which is sent as well unless only some pictures are.
            bytes(data) if self._video and self._selection.frames is not FrameSet.ALL else data,
            self._last.configuration,
            place.clean_point,
            discontinuity=self._discontinuity,
        )
        self._discontinuity = False
        self._release(end=self._ended)
        self._pending = unit
        self._pending_section = self._section
        self._pending_end_ns = self._last.end_ns + self.shift_ns

    def _wanted(self, sample: Place, reordered: bool) -> bool:
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
        if selection.frames is FrameSet.PREDICTED:
            return not reordered or sample.clean_point
        if not sample.clean_point or (self._next_intra_ns is not None and sample.utc_ns < self._next_intra_ns):
            return False
        self._next_intra_ns = sample.utc_ns + selection.interval_ns
        return True

    def _release(self, *, end: bool, terminal: bool = False) -> None:
        """Make the pending unit the head. Not where a head is already there: then nothing is pending."""
        if self._pending is None:
            return
        self._pending.end = end
        self._pending.terminal = terminal
        self.head, self._pending = self._pending, None
        self.head_from_ns = self.head.due_ns
        self._head_end_ns = self._pending_end_ns
