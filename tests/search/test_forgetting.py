"""FindEvents over the real index while retention takes footage away between two pages, against a naive reference."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvr.media.onvif_metadata import MetadataContent
from nvr.model.coverage import GROWING
from nvr.model.recorded import CameraEvent
from nvr.model.search import EventFilter, FoundEvent, SearchInterval, SearchScope, SearchState, SearchWish
from nvr.model.time import NS
from nvr.model.tokens import RecordingToken, TrackKey
from nvr.search.sessions import SearchSessions
from nvr.storage.event_rows import Documents
from nvr.storage.events import EventIndex
from tests.model.test_coverage import joined
from tests.search.test_events import KEYS, WORLDS, World, content_filter, reference, told
from tests.support.configuration import a_recording
from tests.support.recorded import an_empty_index
from tests.support.search import NOW, Searched, a_message

COUNT = itertools.count()
TELLS_A = content_filter('boolean(//SimpleItem[@Name="State" and @Value="a"])')
SPAN = 7
"""Instants whose events stand in one file."""
Told = tuple[int, str, str, object]


@dataclass
class Recorder:
    """A world that loses its beginning, its index, and the sessions that search there."""

    world: World
    index: EventIndex
    searched: Searched
    limit: int = -1

    @classmethod
    def of(cls, world: World, index: EventIndex, forgetful: bool) -> Recorder:
        searched = Searched(a_recording("rec-1"), a_recording("rec-2"))
        searched.forgetful = forgetful
        searched.searches = SearchSessions(
            searched, searched, archive=index, monotonic=lambda: searched.clock_ns, now=lambda: NOW
        )
        recorder = cls(world, index, searched)
        for key in KEYS:
            for file in recorder._files(key):
                contents = [
                    (at, MetadataContent((CameraEvent(a_message(value), at),)))
                    for of, at, value in world.camera
                    if of == key and at // SPAN == file
                ]
                index.add(Documents(key, f"{key} {file}", 0, 1, True, tuple(contents)))
        recorder.forget(-1, at_once=False)
        return recorder

    def _files(self, key: TrackKey) -> list[int]:
        return sorted({at // SPAN for of, at, _ in self.world.camera if of == key})

    def forget(self, limit: int, *, at_once: bool) -> None:
        """What lies before the limit is gone; its rows at once, or a while later."""
        self.limit = limit
        now = self.now
        for key, runs in now.runs.items():
            self.searched.recorded(*key, *runs, growing=now.growing)
        if at_once:
            self.index.forget([f"{key} {n}" for key in KEYS for n in self._files(key) if (n + 1) * SPAN <= limit])

    @property
    def now(self) -> World:
        """What is left. The run that is being recorded never goes."""
        left = {}
        for key, runs in self.world.runs.items():
            ordered = sorted(runs)
            grows = ordered[-1:] if self.world.growing else []
            left[key] = sorted((max(a, min(self.limit, b)), b) for a, b in ordered if b > self.limit or (a, b) in grows)
        return replace(self.world, runs=left)


def states(world: World, at: int) -> list[Told]:
    """What cameras have said last, as long as they could tell."""
    found: list[Told] = []
    for key, runs in world.runs.items():
        last = len(runs) - 1
        ordered = [(a, GROWING if world.growing and i == last else b) for i, (a, b) in enumerate(runs)]
        for begin, end in joined(ordered):
            said = [(t, n, value) for n, (of, t, value) in enumerate(world.camera) if of == key and begin <= t <= at]
            if begin <= at < end and said:
                found.append((at, key.recording, f"camera {key.track}", max(said)[2]))
    return found


@pytest.mark.requirement("RS-6.17-14", "RS-6.2.1-05")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    world=WORLDS, start=st.integers(-1, 37), end=st.one_of(st.none(), st.integers(-1, 37)), page=st.integers(1, 4),
    by_content=st.booleans(), scope=st.sampled_from([(), ("rec-1",), ("rec-2",)]), forgetful=st.booleans(),
    astray=st.sampled_from([0, 1000]),
    steps=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=6),
)  # fmt: skip
def test_results_that_were_given_stay_and_what_is_gone_is_found_no_more(
    world: World, start: int, end: int | None, page: int, by_content: bool, scope: tuple[str, ...],
    forgetful: bool, astray: int, steps: list[tuple[int, bool]], tmp_path: Path,
) -> None:  # fmt: skip
    world = replace(world, camera=sorted(world.camera, key=lambda event: (KEYS.index(event[0]), event[1])))
    interval = SearchInterval(start, end)
    index = an_empty_index(tmp_path / f"{next(COUNT)}.db")
    recorder = Recorder.of(world, index, forgetful)
    before = recorder.now
    ends = [interval.start_ns, *([interval.earliest_ns] if interval.backward else [])]

    def wanted(events: list[Told]) -> list[Told]:
        return [e for e in events if (not scope or e[1] in scope) and (not by_content or e[3] == "a")]

    def stored(of: World) -> list[Told]:
        return wanted(reference(of, interval))

    async def main() -> list[FoundEvent]:
        chosen = SearchScope(recordings=tuple(map(RecordingToken, scope)))
        what = TELLS_A if by_content else EventFilter()
        token = await recorder.searched.open(start, end, scope=chosen, wanted=what, start_state=True)
        search = recorder.searched.searches._sessions[token][1].search
        found: list[FoundEvent] = []
        state, left = SearchState.SEARCHING, steps[::-1]
        while state is SearchState.SEARCHING:
            waiting = Counter(map(told, search.found))
            wish = SearchWish(maximum=page, wait_ns=20 * NS)
            state, some = await recorder.searched.searches.event_results(token, wish)
            here = Counter(stored(recorder.now)) + Counter(wanted([s for at in ends for s in states(recorder.now, at)]))
            for event in some:
                if isinstance(event.event, CameraEvent) or (not event.start_state and told(event)[3] is False):
                    assert told(event) in waiting or told(event) in here, "its footage has gone"
            found += some
            recorder.searched.between()
            if left:
                by, at_once = left.pop()
                recorder.forget(recorder.limit + by, at_once=at_once)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nvr.search.events.ASTRAY", astray)
        patch.setattr("nvr.search.steps.STEP_NS", 0)  # one look a step: it stands in the midst of everything
        found = asyncio.run(main())
    index.shut()

    virtual, real = ([e for e in found if e.start_state is is_state] for is_state in (True, False))
    times = [e.time_ns for e in real]
    assert times == sorted(times, reverse=interval.backward)

    # What was there all the time is told once, and what has gone meanwhile at most once.
    cameras = Counter(told(e) for e in real if isinstance(e.event, CameraEvent))
    assert cameras <= Counter(e for e in stored(before) if e[2].startswith("camera"))
    assert cameras >= Counter(e for e in stored(recorder.now) if e[2].startswith("camera"))
    history = Counter(told(e) for e in real if not isinstance(e.event, CameraEvent))
    assert set(history.values()) <= {1}
    assert set(history) >= {e for e in stored(recorder.now) if e[0] > recorder.limit and not e[2].startswith("camera")}
    for _, recording, what, value in set(history):
        times = sorted(t for t, *which in history if which == [recording, what, value])
        border = {t for t, *which in stored(before) if which == [recording, what, value]}
        assert len(times) <= len(border) + (value is True), "a beginning that moves on is told once"

    # The states at the ends: those of the world as it was when they were told.
    said = Counter(told(e) for e in virtual if isinstance(e.event, CameraEvent))
    assert said <= Counter(wanted([s for at in ends for s in states(before, at)]))
    assert said >= Counter(wanted([s for at in ends for s in states(recorder.now, at)]))
    if not by_content:
        properties = Counter((e.time_ns, e.recording, e.track) for e in virtual if not isinstance(e.event, CameraEvent))
        expected = [
            (at, r, t)
            for at in ends
            for r in ("rec-1", "rec-2")
            if not scope or r in scope
            for t in (None, *(t.token for t in a_recording(r).tracks))
        ]
        assert properties == Counter(expected)
