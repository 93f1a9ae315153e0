"""A track as groups of pictures, the latest first (IEC 62676-2-32 8.6.2). Blocking.

A group is a clean point and the units up to the next one. Where every unit stands alone (sound, metadata, pictures that
are all intra) each is a group. Fragments are opened backwards, each once where groups are no longer than a fragment; of
a longer group it is kept which samples it has, up to a bound, and what is beyond that is opened again when it is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from nvr.media.bmff.fragment import Place
from nvr.model.time import UtcNs
from nvr.model.timeline import Run, Timeline
from nvr.replay import course
from nvr.replay.course import LONGEST_GROUP_NS, REFRESHING_NS, Course, Search
from nvr.replay.unit import Footage, OpenFragment
from nvr.storage.rows import FragmentRef

HELD_SAMPLES: Final = 4096
"""So many are known of a group whose clean point has not been found yet: some hundred bytes each, without data."""


@dataclass(slots=True)
class Part:
    """Samples `first` to `last` (exclusive) of one fragment; None where that is to be opened again."""

    ref: FragmentRef
    first: int
    last: int
    fragment: OpenFragment | None


@dataclass(frozen=True, slots=True)
class Group:
    """One group of pictures in decode order. `end_ns` is where it ends, `latest_ns` its latest time of presentation."""

    section: int
    """Number of the contiguous section that it belongs to, in the order of play."""
    parts: list[Part]
    start_ns: UtcNs
    latest_ns: UtcNs
    end_ns: UtcNs


class Groups:
    """The groups of one track from `start_ns` backwards: the first is the one that holds it, or the last before it.

    `alone`: no unit needs another. Then `start_ns` is the latest time that a unit may have. `spent` tells that enough
    has been read for now.
    """

    def __init__(
        self,
        footage: Footage,
        course_: Course,
        timeline: Timeline,
        start_ns: UtcNs,
        spent: Callable[[], bool],
        *,
        alone: bool,
    ) -> None:
        self._footage = footage
        self._course = course_
        self._timeline = timeline
        self._start_ns = start_ns
        self._spent = spent
        self._alone = alone
        self._section = 0
        self._below_ns: UtcNs | None = None
        """Where the run begins that was walked last: the next one down belongs to the same section if it touches."""

    def walk(self, wanted: Callable[[FragmentRef], bool]) -> Iterator[Group | None]:
        """A fragment that is not wanted is not read: it has no group worth sending. None where enough has been read for
        now: the next step goes on."""
        run = course.last_run_before(self._timeline, self._start_ns)
        while run is not None:
            if self._spent():
                yield None
            if self._below_ns is not None and run.end_ns < self._below_ns:
                self._section += 1
            yield from self._run(run, wanted)
            self._below_ns = run.start_ns
            run = course.previous_run(self._timeline, run)

    def _run(self, run: Run, wanted: Callable[[FragmentRef], bool]) -> Iterator[Group | None]:
        until_ns, cut, sent = yield from self._boundary(run)
        held: list[Part] = []
        refreshing = False
        stepped = self._below_ns is None
        above: FragmentRef | None = None
        for ref in self._footage.fragments_before(until_ns, run_id=run.run_id):
            if self._spent():
                yield None
            if above is not None and not self._alone and ref.end_ns < above.start_ns:
                held = []  # a file between cannot be read
                self._section += 1
            above = ref
            if not wanted(ref):
                held = []
                continue
            fragment = self._course.open(ref)
            if fragment is None:  # what stands behind it up to the next clean point cannot be decoded
                held = []
                self._section += 1
                continue
            samples = fragment.places
            if not stepped:
                stepped = True
                assert self._below_ns is not None
                if run.end_ns > self._below_ns and max(s.utc_ns for s in samples) >= self._below_ns:
                    self._section += 1  # the clock was set back: the time steps up here
            last = len(samples)
            if cut is not None and cut[0] == (ref.file_id, ref.offset):
                last, cut = cut[1], None
            if self._alone:
                last = sum(s.utc_ns <= self._start_ns for s in samples)
            for first in range(last - 1, -1, -1):
                if samples[first].clean_point or self._alone:
                    yield self._group([Part(ref, first, last, fragment), *held], samples)
                    sent = True
                    held, last = [], first
            if last:
                fragment.forget()
                held.insert(0, Part(ref, 0, last, fragment))
                _let_go(held)
                if held[-1].ref.end_ns - ref.start_ns > LONGEST_GROUP_NS:
                    yield self._group(held, samples)
                    refreshing, held = True, []
        if held and (refreshing or not sent) and run.end_ns - run.start_ns >= REFRESHING_NS:
            head = held[0].fragment
            assert head is not None
            yield self._group(held, head.places)

    def _boundary(self, run: Run) -> Search[tuple[UtcNs, tuple[tuple[str, int], int] | None, bool]]:
        """Up to where a run is read: an instant, of one fragment the index behind the last sample, and whether the run
        has a clean point there.

        The group that holds the start is sent whole.
        """
        if run.end_ns <= self._start_ns:
            return run.end_ns, None, False
        if self._alone:
            return self._start_ns + 1, None, False
        until_ns = self._start_ns + 1  # deleted meanwhile up to here: nothing is left of what was asked for
        for ref in self._from(self._start_ns, run):
            if self._spent():
                yield
            until_ns = run.end_ns
            if ref.clean_point and ref.start_ns > self._start_ns:
                return ref.start_ns, None, True
            if ref.start_ns > self._start_ns + LONGEST_GROUP_NS:
                return ref.start_ns, None, False
            fragment = self._course.open(ref)
            for index, sample in enumerate(fragment.places if fragment is not None else ()):
                if sample.clean_point and sample.utc_ns > self._start_ns:
                    return ref.end_ns, ((ref.file_id, ref.offset), index), True
        return until_ns, None, False

    def _from(self, at_ns: UtcNs, run: Run) -> Iterator[FragmentRef]:
        """The fragment that holds an instant of a run, or the last before it, and what follows. Found from behind: that
        costs the same wherever it lies in many files."""
        for ref in self._footage.fragments_before(at_ns + 1, run_id=run.run_id):
            yield ref
            yield from self._footage.fragments_after(ref)
            return

    def _group(self, parts: list[Part], samples: Sequence[Place]) -> Group:
        """`samples` are those of the first part."""
        head, tail = parts[0], parts[-1]
        inside = samples[head.first : head.last]
        latest_ns = max(s.utc_ns for s in inside)
        if tail is not head:
            latest_ns = max(latest_ns, tail.ref.end_ns - 1 if tail.fragment is None else _latest(tail, tail.fragment))
        if self._alone:
            end_ns = latest_ns + 1
        elif tail.last < tail.ref.samples and tail.fragment is not None:
            end_ns = max(tail.fragment.places[tail.last].utc_ns, latest_ns + 1)
        else:
            end_ns = max(tail.ref.end_ns, latest_ns + 1)
        return Group(self._section, list(parts), min(s.utc_ns for s in inside), latest_ns, end_ns)


def _latest(part: Part, fragment: OpenFragment) -> UtcNs:
    return max(s.utc_ns for s in fragment.places[part.first : part.last])


def _let_go(held: list[Part]) -> None:
    """Forget samples beyond the bound, the latest first: they are sent last. Those of the first part are needed."""
    kept = 0
    for part in held:
        if part.fragment is not None:
            kept += len(part.fragment.places)
            if kept > HELD_SAMPLES and part is not held[0]:
                part.fragment = None
