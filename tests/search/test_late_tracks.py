"""Forward searches at the live edge, while tracks are written one later than the other: nothing is passed by."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.model import topics
from nvr.model.event import TOPIC_NAMESPACE
from nvr.model.recorded import CameraEvent
from nvr.model.search import EventFilter, SearchInterval, SearchLimits, SearchScope, SearchState, SearchWish
from nvr.model.time import NS, UtcNs
from nvr.model.tokens import META001, RecordingToken, SearchToken, TrackKey
from nvr.search import steps
from nvr.search.edge import LATE_NS, ON_THE_WAY_NS, Coming, LiveEdge
from nvr.search.sessions import SearchSessions
from tests.support.configuration import a_recording
from tests.support.documents import WANTED, Documented, File
from tests.support.search import NOW, VENDOR, a_message

KEYS = [TrackKey(RecordingToken(f"rec-{n}"), META001) for n in (1, 2)]
TENTH = NS // 10
RESULTS = {"metadata": "metadata_results", "events": "event_results"}


@dataclass
class Late:
    """Documents of a track, each a while on its way; those of a fragment come to the disk together, later still."""

    fragments: list[list[UtcNs]]
    on_the_way_ns: int
    lags_ns: list[int]
    behind_ns: int = 0
    """The clock of the camera."""
    written: int = 0

    def comes_ns(self, time_ns: UtcNs) -> UtcNs:
        return time_ns + self.behind_ns + self.on_the_way_ns

    def held_since(self, now_ns: UtcNs) -> UtcNs | None:
        come = [t for f in self.fragments[self.written :] for t in f if self.comes_ns(t) <= now_ns]
        return min(come, default=None)

    def due(self, now_ns: UtcNs) -> list[list[UtcNs]]:
        """Fragments that come to the disk up to now."""
        begin = self.written
        while self.written < len(self.fragments):
            last_ns = self.fragments[self.written][-1]
            if self.comes_ns(last_ns) + self.lags_ns[self.written] > now_ns:
                break
            self.written += 1
        return self.fragments[begin : self.written]


@st.composite
def tracks(draw: st.DrawFn) -> Late:
    at_ns = NOW + draw(st.integers(-120, 20)) * TENTH
    fragments, lags = [], []
    for _ in range(draw(st.integers(0, 6))):
        times = []
        for _ in range(draw(st.integers(1, 4))):
            times.append(at_ns)
            at_ns += draw(st.integers(1, 8)) * TENTH
        at_ns += draw(st.sampled_from([0, 0, 0, 30])) * TENTH
        fragments.append(times)
        lags.append(draw(st.integers(0, 20)) * TENTH)
    return Late(fragments, draw(st.integers(0, 19)) * TENTH, lags, draw(st.sampled_from([0, 0, 7, 30])) * TENTH)


@dataclass
class World:
    """Time goes on by a tenth of a second whenever a search asks what is on its way, and as a client lets it."""

    tracks: list[Late]
    recorder: Documented = field(default_factory=lambda: Documented(a_recording("rec-1"), a_recording("rec-2")))
    files: dict[TrackKey, File] = field(default_factory=dict)

    def __post_init__(self) -> None:
        coming = Coming(self.behind, self.held_since, lambda key: None)
        recorder = self.recorder
        recorder.searches = SearchSessions(
            recorder, recorder, archive=recorder.archive, files=recorder, edge=LiveEdge(coming=coming),
            monotonic=lambda: recorder.clock_ns, now=lambda: recorder.now_ns,
        )  # fmt: skip
        self.go_on(0)

    def go_on(self, by_ns: int) -> None:
        self.recorder.now_ns += by_ns
        for key, track in zip(KEYS, self.tracks, strict=True):
            for times in track.due(self.recorder.now_ns):
                documents = [(t, True) for t in times]
                if key in self.files:
                    self.files[key].fragments.append(documents)
                else:
                    self.files[key] = self.recorder.add_file(key, [documents], growing=True)
                for t in times:
                    self.recorder.archive.add(key, t, a_message(f"{key.recording}", VENDOR, None), KEYS.index(key), t)

    def behind(self, key: TrackKey) -> int | None:
        self.go_on(TENTH)
        return self.tracks[KEYS.index(key)].behind_ns

    def held_since(self, key: TrackKey) -> UtcNs | None:
        return self.tracks[KEYS.index(key)].held_since(self.recorder.now_ns)

    async def metadata(self, interval: SearchInterval) -> SearchToken:
        return await self.recorder.searches.find_metadata(interval, SearchScope(), WANTED, SearchLimits(None, 60 * NS))

    async def events(self, interval: SearchInterval) -> SearchToken:
        limits = SearchLimits(None, 60 * NS)
        return await self.recorder.searches.find_events(interval, SearchScope(), EventFilter(), False, limits)

    async def found(
        self, token: SearchToken, results: str, page: int | None, pauses: list[int]
    ) -> tuple[list[tuple[UtcNs, RecordingToken]], UtcNs]:
        """What cameras have told, in the order of the results; and the end that the search has had in time."""
        search = self.recorder.searches._sessions[token][1].search
        found, state = [], SearchState.SEARCHING
        while state is SearchState.SEARCHING:
            wish = SearchWish(maximum=page, wait_ns=60 * NS)
            state, some = await getattr(self.recorder.searches, results)(token, wish)
            found += [
                (f.time_ns, f.recording)
                for f in some
                if results == "metadata_results" or isinstance(f.event, CameraEvent)
            ]
            self.recorder.between()
            self.go_on(pauses.pop() * TENTH if pauses else 0)
        return found, search._latest_ns


@pytest.mark.requirement("RS-6.2.1-02")
@pytest.mark.parametrize("kind", ["metadata", "events"])
@settings(max_examples=60, deadline=None)
@given(
    late=st.lists(tracks(), min_size=2, max_size=2),
    start=st.integers(-130, 20),
    end=st.one_of(st.none(), st.integers(-100, 200)),
    page=st.one_of(st.none(), st.integers(1, 3)),
    pauses=st.lists(st.integers(0, 30), max_size=8),
    forgetful=st.booleans(),
)
def test_nothing_that_is_written_while_a_search_runs_is_passed_by(
    kind: str,
    late: list[Late],
    start: int,
    end: int | None,
    page: int | None,
    pauses: list[int],
    forgetful: bool,
) -> None:
    interval = SearchInterval(NOW + start * TENTH, None if end is None else NOW + max(start, end) * TENTH)

    async def main() -> None:
        world = World(late)
        world.recorder.forgetful = forgetful
        begun_ns = world.recorder.now_ns
        token = await getattr(world, kind)(interval)
        found, ended_ns = await world.found(token, RESULTS[kind], page, pauses)
        everything = [
            (t, key.recording) for key, track in zip(KEYS, late, strict=True) for f in track.fragments for t in f
        ]
        told_ns = max([begun_ns, *(t for t, _ in found)])
        assert ended_ns >= min(told_ns, interval.latest_ns)
        assert [t for t, _ in found] == sorted(t for t, _ in found)
        assert sorted(found) == sorted(e for e in everything if interval.holds(e[0]) and e[0] <= ended_ns)
        await world.recorder.searches.stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "PAUSE_S", 0.0)
        patch.setattr(steps, "ON_THE_WAY_NS", 0)  # nobody waits: time goes on when somebody asks
        asyncio.run(main())


@pytest.mark.parametrize(
    ("behind_ns", "held_since", "unwritten_since", "whole_until"),
    [
        (None, None, None, NOW),
        (0, None, None, NOW - ON_THE_WAY_NS),
        (3 * NS, None, None, NOW - ON_THE_WAY_NS - 3 * NS),
        (-3 * NS, None, None, NOW - ON_THE_WAY_NS),
        (0, NOW - NS, None, NOW - ON_THE_WAY_NS),
        (0, NOW - 3 * NS, None, NOW - 3 * NS - 1),
        (0, NOW - 3 * NS, NOW - 5 * NS, NOW - 5 * NS - 1),
        (None, None, NOW - NS, NOW - NS - 1),
        (0, NOW - 11 * NS, None, NOW - LATE_NS),
        (0, None, NOW - 3600 * NS, NOW - LATE_NS),
    ],
)
def test_a_track_is_whole_up_to_what_is_on_its_way_and_that_is_bounded(
    behind_ns: int | None, held_since: UtcNs | None, unwritten_since: UtcNs | None, whole_until: UtcNs
) -> None:
    coming = Coming(lambda _: behind_ns, lambda _: held_since, lambda _: unwritten_since)
    assert LiveEdge(coming=coming).whole_until(KEYS[0], NOW) == whole_until


@pytest.mark.parametrize("kind", ["metadata", "events"])
async def test_a_track_that_never_comes_to_the_disk_is_not_waited_for_without_end(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "PATIENCE_S", 0.0)
    world = World([Late([[NOW - 5 * NS]], 0, [0]), Late([[NOW - 9 * NS], [NOW - 8 * NS]], 0, [0, 1 << 62])])
    monkeypatch.setattr(world, "go_on", lambda by_ns: None)  # the clock of the world stands still
    token = await getattr(world, kind)(SearchInterval(NOW - 60 * NS))
    found, _ = await world.found(token, RESULTS[kind], None, [])
    assert [t for t, _ in found] == [NOW - 9 * NS, NOW - 5 * NS]


async def test_a_search_for_the_history_alone_waits_for_no_metadata() -> None:
    world = World([Late([[NOW - 5 * NS]], 0, [1 << 62]), Late([], 0, [])])
    namespaces: dict[str | None, str] = {"tns1": TOPIC_NAMESPACE}
    history = EventFilter((topics.parse("tns1:RecordingHistory//.", topics.CONCRETE_SET, namespaces),))
    world.recorder.recorded(*KEYS[0], (NOW - 60 * NS, NOW), growing=True)
    searches = world.recorder.searches
    limits = SearchLimits(None, 60 * NS)
    token = await searches.find_events(SearchInterval(NOW - 90 * NS), SearchScope(), history, False, limits)
    state, found = await searches.event_results(token, SearchWish(wait_ns=60 * NS))
    assert (state, [f.time_ns for f in found]) == (SearchState.COMPLETED, [NOW - 60 * NS] * 2)
    assert world.recorder.now_ns == NOW, "nothing was asked of what is on its way"
    await searches.stop()


async def test_a_session_that_waits_at_the_edge_answers_in_its_time_and_ends_at_once() -> None:
    world = World([Late([[NOW - 5 * NS]], 0, [0]), Late([], 0, [])])
    token = await world.events(SearchInterval(NOW - 60 * NS))
    searches = world.recorder.searches
    wish = SearchWish(minimum=1, wait_ns=NS // 100)
    while not (await searches.event_results(token, wish))[1]:
        world.recorder.now_ns = NOW  # it stands still
    waiting = asyncio.create_task(searches.event_results(token, SearchWish(minimum=5, wait_ns=60 * NS)))
    await asyncio.sleep(0)
    assert searches.end(token) >= NOW - 60 * NS
    assert await waiting == (SearchState.SEARCHING, [])
    await searches.stop()


@pytest.mark.parametrize("kind", ["metadata", "events"])
async def test_a_client_that_goes_on_from_the_endpoint_of_a_search_that_has_ended_misses_nothing(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "PAUSE_S", 0.0)
    monkeypatch.setattr(steps, "ON_THE_WAY_NS", 0)
    monkeypatch.setattr(steps, "STEP_NS", 600 * NS)
    world = World([Late([[NOW - 20 * NS], [NOW - 19 * NS], [NOW + 20 * NS]], 0, [0, 0, 0]), Late([], 0, [])])
    token = await getattr(world, kind)(SearchInterval(NOW - 30 * NS, None))
    session = world.recorder.searches._sessions[token][1]
    search = session.search
    assert session._step is not None
    await session._step
    while not search.exhausted:  # it comes to its end while nobody waits for it
        await search.step(10)
    world.go_on(30 * NS)
    endpoint_ns = world.recorder.searches.end(token)
    assert NOW <= endpoint_ns == search._latest_ns < NOW + 20 * NS
    token = await getattr(world, kind)(SearchInterval(endpoint_ns, None))
    found, _ = await world.found(token, RESULTS[kind], None, [])
    assert [time_ns for time_ns, _ in found] == [NOW + 20 * NS]
    await world.recorder.searches.stop()
