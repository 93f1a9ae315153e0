from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from nvr.model.errors import BadConfiguration, FormatError, LimitReached, UnknownToken
from nvr.model.job import JobState, RecordingJob, RecordingJobState, SourceReference, SourceState
from nvr.model.recording import Recording, TrackType
from nvr.model.search import (
    RecordingInformation,
    RecordingStatus,
    RecordingSummary,
    SearchLimits,
    SearchScope,
    SearchState,
    SearchWish,
)
from nvr.model.time import NS
from nvr.model.timeline import Extent, GapReason, Run, Timeline
from nvr.model.tokens import AUDIO001, META001, VIDEO001, JobToken, RecordingToken, SearchToken, TrackKey
from nvr.search.session import Looks, Session
from nvr.search.sessions import SearchSessions, SearchSettings
from nvr.search.shares import Shares
from nvr.storage.footage import Footage
from tests.support.configuration import a_job, a_recording

NOW = 1_700_000_000 * NS
EVERYTHING = SearchScope()
SEARCHING, COMPLETED = SearchState.SEARCHING, SearchState.COMPLETED
Runs = list[tuple[int, int]]


class Recorder:
    """A recorder as search sees it, with a clock that only tests move."""

    def __init__(self, *recordings: Recording, settings: SearchSettings | None = None) -> None:
        self.configured = {r.token: r for r in recordings}
        self.jobs_configured: list[RecordingJob] = []
        self.states: dict[JobToken, RecordingJobState] = {}
        self.runs: dict[TrackKey, Runs] = {}
        self.clock_ns = 0
        self.searches = SearchSessions(self, self, settings, monotonic=lambda: self.clock_ns, now=lambda: NOW)

    def find(
        self, scope: SearchScope, max_matches: int | None, keep_alive_ns: int, user: str | None = None
    ) -> SearchToken:
        return self.searches.find_recordings(scope, SearchLimits(max_matches, keep_alive_ns, user))

    async def results(
        self, token: SearchToken, minimum: int | None, maximum: int | None, wait_ns: int | None
    ) -> tuple[SearchState, list[RecordingInformation]]:
        return await self.searches.recording_results(token, SearchWish(minimum, maximum, wait_ns))

    def recordings(self) -> list[Recording]:
        return list(self.configured.values())

    def recording(self, token: RecordingToken) -> Recording:
        if token not in self.configured:
            raise UnknownToken("Recording", token)
        return self.configured[token]

    def jobs(self) -> list[RecordingJob]:
        return self.jobs_configured

    def job_state(self, token: JobToken) -> JobState:
        if token not in self.states:
            raise UnknownToken("RecordingJob", token)
        source = SourceState(SourceReference("rcv-1"), (), self.states[token])
        return JobState(RecordingToken("rec-1"), (source,))

    def has_source(self, source: SourceReference) -> bool:
        return source == SourceReference("rcv-unused")

    def extent(self, key: TrackKey) -> Extent | None:
        return self.timeline(key).extent

    def timeline(self, key: TrackKey) -> Timeline:
        runs = (Run(str(i), a, b, GapReason.UNKNOWN) for i, (a, b) in enumerate(self.runs.get(key, [])))
        return Timeline.of(runs)

    def configuration(self, key: TrackKey) -> None:
        """There are no files."""

    def footage(self, key: TrackKey) -> Footage:
        raise AssertionError("there are no files")

    def recorded(self, recording: str, track: str, *runs: tuple[int, int]) -> None:
        token = RecordingToken(recording)
        self.runs[self.configured[token].key(next(t for t in self.configured[token].tracks if t.token == track))] = (
            list(runs)
        )

    def job(self, token: str, recording: str, receiver: str, state: RecordingJobState) -> None:
        job = a_job(token, recording, receiver)
        self.jobs_configured.append(job)
        self.states[job.token] = state


def tokens(found: list[RecordingInformation]) -> list[str]:
    return [information.token for information in found]


async def all_of(recorder: Recorder, scope: SearchScope, max_matches: int | None = None) -> list[str]:
    search = recorder.find(scope, max_matches, 10 * NS)
    state, found = await recorder.results(search, None, None, None)
    assert state is COMPLETED
    return tokens(found)


def a_recorder(number: int, settings: SearchSettings | None = None) -> Recorder:
    return Recorder(*(a_recording(f"rec-{n}") for n in range(number)), settings=settings)


# Information


@pytest.mark.requirement("RS-6.3.1-01", "RS-6.3.1-02", "RS-6.3.1-03", "RS-6.3.1-04", "RS-6.3.1-05", "RS-6.3.1-06")
@pytest.mark.requirement("RS-6.3.1-14", "RS-6.3.3-02", "RS-6.3.3-03", "RS-6.3.3-04", "RS-6.3.3-05", "RS-6.2.6-03")
def test_information_lists_tracks_with_data_from_their_first_to_their_last_instant() -> None:
    recorder = Recorder(a_recording("rec-1", name="Gate", location="Basement"))
    recorder.recorded("rec-1", VIDEO001, (1_000_000_001, 2_000_000_000), (5 * NS, 6 * NS + 7))
    recorder.recorded("rec-1", META001, (3, 4))
    found = recorder.searches.information(RecordingToken("rec-1"))
    configuration = recorder.configured[RecordingToken("rec-1")].configuration
    assert (found.token, found.source, found.content) == ("rec-1", configuration.source, configuration.content)
    assert [(t.token, t.track_type, t.description, t.data_from_ns, t.data_to_ns) for t in found.tracks] == [
        (VIDEO001, TrackType.VIDEO, "", 1_000_000_001, 6 * NS + 7),
        (META001, TrackType.METADATA, "", 3, 4),
    ]
    assert (found.earliest_ns, found.latest_ns) == (3, 6 * NS + 7)


@pytest.mark.requirement("RS-6.3.1-08", "RS-6.3.1-09", "RS-6.3.1-10", "RS-6.3.1-13")
def test_the_status_follows_the_life_of_a_recording() -> None:
    recorder = Recorder(a_recording("rec-1"), a_recording("rec-2"))
    token = RecordingToken("rec-1")
    assert recorder.searches.information(token).status is RecordingStatus.INITIATED
    recorder.job("job-1", "rec-1", "rcv-1", RecordingJobState.ERROR)
    recorder.job("job-2", "rec-2", "rcv-1", RecordingJobState.ACTIVE)
    assert recorder.searches.information(token).status is RecordingStatus.INITIATED
    recorder.recorded("rec-1", AUDIO001, (0, 1))
    for state, status in (
        (RecordingJobState.ACTIVE, RecordingStatus.RECORDING),
        (RecordingJobState.PARTIALLY_ACTIVE, RecordingStatus.RECORDING),
        (RecordingJobState.IDLE, RecordingStatus.STOPPED),
        (RecordingJobState.ERROR, RecordingStatus.STOPPED),
    ):
        recorder.states[JobToken("job-1")] = state
        assert recorder.searches.information(token).status is status


@pytest.mark.requirement("RS-6.5-04", "RS-6.3.1-15")
async def test_information_and_search_tell_the_same() -> None:
    recorder = a_recorder(3)
    recorder.recorded("rec-1", VIDEO001, (10, 20))
    recorder.job("job-1", "rec-1", "rcv-1", RecordingJobState.ACTIVE)
    search = recorder.find(EVERYTHING, None, NS)
    _, found = await recorder.results(search, None, None, None)
    assert found == [recorder.searches.information(token) for token in recorder.configured]
    with pytest.raises(UnknownToken):
        recorder.searches.information(RecordingToken("nosuch"))


@pytest.mark.requirement("RS-6.4-03", "RS-6.4-04", "RS-6.4-05")
async def test_the_summary_spans_all_recordings() -> None:
    assert await a_recorder(0).searches.summary() == RecordingSummary(NOW, NOW, 0)
    recorder = a_recorder(3)
    assert await recorder.searches.summary() == RecordingSummary(NOW, NOW, 3)
    recorder.recorded("rec-0", VIDEO001, (30, 40))
    recorder.recorded("rec-2", AUDIO001, (10, 20), (50, 60))
    assert await recorder.searches.summary() == RecordingSummary(10, 60, 3)


# Scope


@pytest.mark.requirement("RS-6.2.4-02", "RS-6.2.4-06", "RS-6.7-06", "RS-6.8-11")
async def test_an_empty_scope_is_everything_once_also_without_data() -> None:
    recorder = a_recorder(3)
    recorder.recorded("rec-1", VIDEO001, (0, 1), (2, 3), (4, 5))
    assert await all_of(recorder, EVERYTHING) == ["rec-0", "rec-1", "rec-2"]
    assert await all_of(a_recorder(0), EVERYTHING) == []


@pytest.mark.requirement("RS-6.2.4-01", "RS-6.2.4-03")
async def test_sources_and_recordings_are_a_union_that_the_filter_narrows() -> None:
    recorder = Recorder(*(a_recording(f"rec-{n}", name=f"Cam {n % 2}", source_id=f"urn:{n}") for n in range(5)))
    recorder.job("job-1", "rec-1", "rcv-1", RecordingJobState.IDLE)
    recorder.job("job-2", "rec-2", "rcv-1", RecordingJobState.IDLE)
    of_receiver, of_id = SourceReference("rcv-1"), SourceReference("urn:4")
    three = (RecordingToken("rec-3"), RecordingToken("rec-3"))
    assert await all_of(recorder, SearchScope((of_receiver,))) == ["rec-1", "rec-2"]
    assert await all_of(recorder, SearchScope((of_receiver, of_id), three)) == ["rec-1", "rec-2", "rec-3", "rec-4"]
    assert await all_of(recorder, SearchScope((SourceReference("rcv-unused"),))) == []
    odd = 'contains(//Source/Name, "1")'
    assert await all_of(recorder, SearchScope((of_receiver, of_id), three, odd)) == ["rec-1", "rec-3"]
    assert await all_of(recorder, SearchScope(filter=odd)) == ["rec-1", "rec-3"]
    assert len(await all_of(recorder, SearchScope(filter=" "))) == 5


@pytest.mark.requirement("RS-6.2.4-04")
async def test_the_filter_can_compare_every_element_of_the_information() -> None:
    recorder = Recorder(
        a_recording("rec-1", name="Gate", source_id="urn:x", location="Basement", description="D", address="A"),
        a_recording("rec-2"),
    )
    recorder.recorded("rec-1", VIDEO001, (NOW, NOW + NS))
    for element, value in {
        "/RecordingInformation/RecordingToken": "rec-1",
        "//Source/SourceId": "urn:x",
        "//Source/Name": "Gate",
        "//Source/Location": "Basement",
        "//Source/Description": "D",
        "//Source/Address": "A",
        "//EarliestRecording": "2023-11-14T22:13:20Z",
        "//LatestRecording": "2023-11-14T22:13:21Z",
        "//Track/TrackToken": "VIDEO001",
        "//Track/TrackType": "Video",
        "//Track/DataFrom": "2023-11-14T22:13:20Z",
        "//Track/DataTo": "2023-11-14T22:13:21Z",
        "//RecordingStatus": "Stopped",
    }.items():
        parent, _, name = element.rpartition("/")
        one = f'boolean({parent}[{name} = "{value}"])' if parent != "/" else f'{element} = "{value}"'
        assert "rec-1" in await all_of(recorder, SearchScope(filter=one)), element
        other = one.replace(value, "other")
        assert await all_of(recorder, SearchScope(filter=other)) == [], element


@pytest.mark.requirement("RS-6.7-03", "RS-6.7-04")
async def test_what_the_scope_names_must_exist_and_its_filter_parse() -> None:
    recorder = a_recorder(2)
    nosuch = SearchScope(recordings=(RecordingToken("rec-1"), RecordingToken("nosuch")))
    with pytest.raises(UnknownToken, match="nosuch"):
        recorder.find(nosuch, None, NS)
    for token in ("nosuch", ""):
        with pytest.raises(BadConfiguration, match="there is no source"):
            recorder.find(SearchScope((SourceReference(token),)), None, NS)
    with pytest.raises(FormatError):
        recorder.find(SearchScope(filter="boolean("), None, NS)
    assert len(recorder.searches) == 0


# Sessions


@pytest.mark.requirement(
    "RS-6.1-03", "RS-6.3.4-01", "RS-6.3.4-02", "RS-6.3.4-03", "RS-6.8-04", "RS-6.8-05", "RS-6.8-06"
)
@pytest.mark.parametrize(
    ("maximum", "portions"), [(3, [3, 3, 3, 1]), (4, [4, 4, 2]), (5, [5, 5]), (10, [10]), (99, [10]), (-1, [10])]
)
async def test_portions_hold_every_result_once_and_only_the_last_is_completed(
    maximum: int, portions: list[int]
) -> None:
    recorder = a_recorder(10)
    search = recorder.find(EVERYTHING, None, 10 * NS)
    found: list[str] = []
    states = []
    for size in portions:
        state, portion = await recorder.results(search, None, maximum, None)
        assert len(portion) == size
        found += tokens(portion)
        states.append(state)
    assert found == [f"rec-{n}" for n in range(10)]
    assert states == [SEARCHING] * (len(portions) - 1) + [COMPLETED]
    with pytest.raises(UnknownToken, match="Search"):
        await recorder.results(search, None, None, None)


@pytest.mark.requirement("RS-6.7-07")
async def test_max_matches_ends_the_search() -> None:
    recorder = a_recorder(5)
    assert await all_of(recorder, EVERYTHING, 2) == ["rec-0", "rec-1"]
    for no_limit in (None, 0, -1):
        assert len(await all_of(recorder, EVERYTHING, no_limit)) == 5


@pytest.mark.requirement("RS-6.8-08", "RS-6.8-10")
async def test_a_minimum_that_is_never_reached_gives_what_there_is() -> None:
    recorder = a_recorder(3)
    search = recorder.find(EVERYTHING, None, NS)
    state, found = await recorder.results(search, 2_000_000_000, None, 1 << 62)
    assert (state, len(found)) == (COMPLETED, 3)


@pytest.mark.requirement("RS-6.2.3-08")
async def test_a_search_without_matches_waits_to_be_fetched() -> None:
    recorder = a_recorder(0)
    search = recorder.find(EVERYTHING, None, 10 * NS)
    recorder.clock_ns = 9 * NS
    assert await recorder.results(search, None, None, None) == (COMPLETED, [])


@pytest.mark.requirement("RS-6.2.3-02", "RS-6.2.3-03", "RS-6.7-09", "RS-6.7-10")
async def test_the_keep_alive_time_starts_anew_with_each_request_and_then_ends_the_session() -> None:
    recorder = a_recorder(9)
    search = recorder.find(EVERYTHING, None, 10 * NS)
    for _ in range(3):
        recorder.clock_ns += 10 * NS - 1
        state, found = await recorder.results(search, None, 1, None)
        assert (state, len(found)) == (SEARCHING, 1)
    recorder.clock_ns += 10 * NS
    with pytest.raises(UnknownToken):
        await recorder.results(search, None, 1, None)
    with pytest.raises(UnknownToken):
        recorder.searches.end(search)


@pytest.mark.requirement("RS-6.7-11")
async def test_long_keep_alive_times_are_shortened_and_senseless_ones_mended() -> None:
    recorder = a_recorder(1)
    for asked, honoured in ((3600 * NS, 600 * NS), (0, NS), (-5, NS)):
        recorder.find(EVERYTHING, None, asked)
        recorder.clock_ns += honoured - 1
        assert len(recorder.searches) == 1
        recorder.clock_ns += 1
        assert len(recorder.searches) == 0


@pytest.mark.requirement("RS-6.2.3-01", "RS-6.2.3-07")
async def test_tokens_are_never_used_twice() -> None:
    recorder = a_recorder(1)
    seen = set()
    for _ in range(1000):
        search = recorder.find(EVERYTHING, None, NS)
        seen.add(search)
        recorder.searches.end(search)
    assert len(seen) == 1000


@pytest.mark.requirement("RS-6.2.3-05", "RS-6.7-08", "RS-6.15-08", "RS-6.15-09")
async def test_an_ended_session_is_gone_and_its_end_point_is_an_instant() -> None:
    recorder = a_recorder(5)
    search = recorder.find(EVERYTHING, None, NS)
    assert recorder.searches.end(search) == NOW
    with pytest.raises(UnknownToken):
        recorder.searches.end(search)
    with pytest.raises(UnknownToken):
        await recorder.results(search, None, None, None)
    with pytest.raises(UnknownToken):
        recorder.searches.end(SearchToken("nosuch"))
    completed = recorder.find(EVERYTHING, None, NS)
    await recorder.results(completed, None, None, None)
    with pytest.raises(UnknownToken):
        recorder.searches.end(completed)


@pytest.mark.requirement("RS-6.7-05")
async def test_one_session_more_than_the_limit_is_refused_until_one_ends_or_expires() -> None:
    recorder = a_recorder(1, SearchSettings(sessions=2))
    first = recorder.find(EVERYTHING, None, 20 * NS)
    recorder.find(EVERYTHING, None, 10 * NS)
    with pytest.raises(LimitReached) as caught:
        recorder.find(EVERYTHING, None, NS)
    assert caught.value.kind == "Search"
    recorder.searches.end(first)
    recorder.find(EVERYTHING, None, 20 * NS)
    recorder.clock_ns = 10 * NS
    recorder.find(EVERYTHING, None, NS)


async def test_a_recording_that_is_deleted_during_the_search_is_passed_over() -> None:
    recorder = a_recorder(4)
    recorder.job("job-2", "rec-2", "rcv-1", RecordingJobState.ACTIVE)
    search = recorder.find(EVERYTHING, None, NS)
    _, first = await recorder.results(search, None, 1, None)
    del recorder.configured[RecordingToken("rec-2")]
    recorder.states.clear()
    _, rest = await recorder.results(search, None, None, None)
    assert tokens(first + rest) == ["rec-0", "rec-1", "rec-3"]


class Slow:
    """A search of which each look takes `cost_ns` on a clock of its own; every so many looks find a match."""

    def __init__(self, cost_ns: int, looks: Iterator[int], every: int = 1) -> None:
        self.clock_ns = 0
        self._cost_ns = cost_ns
        self._every = every
        search = Looks(map(self._found, looks), Shares(lambda: self.clock_ns).of(None))
        self.session = Session(search, 10 * NS, lambda: self.clock_ns)

    def _found(self, number: int) -> int | None:
        self.clock_ns += self._cost_ns
        return None if number % self._every else number


@pytest.mark.parametrize(
    ("minimum", "maximum", "wait_ns", "expected"),
    [
        (None, 3, None, 3),
        (4, None, None, 4),
        (None, None, 5 * NS, 5),
        (8, 3, None, 3),
        (2, 3, None, 2),
        (9, 9, 2 * NS, 2),
        (0, 3, None, 3),
    ],
)
async def test_a_slow_search_returns_at_whichever_bound_comes_first(
    minimum: int | None, maximum: int | None, wait_ns: int | None, expected: int
) -> None:
    state, found = await Slow(NS, count()).session.results(minimum, maximum, wait_ns)
    assert state is SEARCHING
    assert found == list(range(expected))


async def test_an_answer_ends_where_its_results_weigh_too_much_and_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvr.search.session.HEAVIEST", 10)
    search = Looks(iter([3, 3, 3, 3, 50, 1, 1, 8, 2]), Shares().of(None))
    session = Session(search, 10 * NS, lambda: 0, weigh=lambda weight: weight)
    answers = []
    while not answers or answers[-1][0] is SEARCHING:
        answers.append(await session.results(9, None, None))
    assert [found for _, found in answers] == [[3, 3, 3], [3], [50], [1, 1, 8], [2]]
    assert [state for state, _ in answers] == [SEARCHING] * 4 + [COMPLETED]
    assert (session._weight, list(session._weights)) == (0, [])


async def test_a_search_leaves_the_loop_free_between_slices() -> None:
    slow = Slow(1_000_000, iter(range(100)))
    request = asyncio.create_task(slow.session.results(None, None, None))
    turns = 0
    while not request.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 100 // 4
    assert request.result() == (COMPLETED, list(range(100)))


async def test_looks_without_a_match_leave_the_loop_free_too() -> None:
    slow = Slow(1_000_000, iter(range(100)), every=50)
    request = asyncio.create_task(slow.session.results(None, None, None))
    turns = 0
    while not request.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 100 // 4
    assert request.result() == (COMPLETED, [0, 50])


@pytest.mark.requirement("RS-6.2.3-06", "RS-6.15-04")
async def test_ending_a_session_releases_calls_that_wait_for_it() -> None:
    slow = Slow(1_000_000, count())
    requests = [asyncio.create_task(slow.session.results(None, None, None)) for _ in range(2)]
    for _ in range(3):
        await asyncio.sleep(0)
    slow.session.end()
    answers = await asyncio.gather(*requests)
    assert [state for state, _ in answers] == [SEARCHING, SEARCHING]


async def test_two_calls_at_once_share_the_results_without_repetition() -> None:
    slow = Slow(1_000_000, iter(range(20)))
    answers = await asyncio.gather(*(slow.session.results(None, 10, None) for _ in range(2)))
    assert sorted(n for _, found in answers for n in found) == list(range(20))
    assert [state for state, _ in answers] == [SEARCHING, COMPLETED]


async def test_a_session_does_not_expire_while_a_call_waits_for_its_results() -> None:
    slow = Slow(NS, count())
    request = asyncio.create_task(slow.session.results(30, None, None))
    seen: list[bool] = []
    while not request.done():
        await asyncio.sleep(0)
        seen.append(slow.session.expired)
    assert slow.clock_ns == 30 * NS
    assert not any(seen)


async def test_a_call_that_is_cancelled_takes_no_results_away() -> None:
    slow = Slow(1_000_000, iter(range(50)))
    request = asyncio.create_task(slow.session.results(None, None, None))
    for _ in range(3):
        await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert await slow.session.results(None, None, None) == (COMPLETED, list(range(50)))


@pytest.mark.parametrize(
    "bad", [lambda: SearchSettings(sessions=0), lambda: SearchSettings(longest_keep_alive_ns=9 * NS)]
)
def test_settings_that_the_standard_does_not_allow_are_refused(bad: Callable[[], SearchSettings]) -> None:
    with pytest.raises(ValueError, match="must"):
        bad()


async def test_one_user_cannot_take_the_places_of_the_others() -> None:
    recorder = a_recorder(1, SearchSettings(sessions=4, sessions_per_user=2))
    find = recorder.find
    first = find(EVERYTHING, None, 10 * NS, "greedy")
    find(EVERYTHING, None, 20 * NS, "greedy")
    with pytest.raises(LimitReached, match="greedy"):
        find(EVERYTHING, None, NS, "greedy")
    find(EVERYTHING, None, 20 * NS, "modest")
    recorder.searches.end(first, "greedy")
    find(EVERYTHING, None, 20 * NS, "greedy")
    find(EVERYTHING, None, 20 * NS, "modest")
    with pytest.raises(LimitReached) as full:
        find(EVERYTHING, None, NS, "third")
    assert full.value.limit == 4
    recorder.clock_ns = 20 * NS
    find(EVERYTHING, None, NS, "greedy")
    assert len(recorder.searches) == 1


async def test_the_searches_of_an_account_end_with_it_and_calls_that_wait_return() -> None:
    recorder = a_recorder(3)
    gone, other = recorder.find(EVERYTHING, None, 10 * NS, "gone"), recorder.find(EVERYTHING, None, 10 * NS, "other")
    nobody = recorder.find(EVERYTHING, None, 10 * NS)
    recorder.searches.end_of(["gone", "unknown"])
    with pytest.raises(UnknownToken):
        recorder.searches.state(gone, "gone")
    assert recorder.searches.state(other, "other") is SEARCHING
    assert recorder.searches.state(nobody) is SEARCHING
    assert len(recorder.searches) == 2


async def test_a_search_that_fails_is_over_and_never_completed() -> None:
    recorder = a_recorder(3)
    search = recorder.find(EVERYTHING, None, 10 * NS)
    _, found = await recorder.results(search, None, 1, None)
    assert tokens(found) == ["rec-0"]

    def broken(key: TrackKey) -> Extent | None:
        raise RuntimeError("the catalogue is gone")

    recorder.extent = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="the catalogue is gone"):
        await recorder.results(search, None, None, None)
    with pytest.raises(UnknownToken):
        await recorder.results(search, None, None, None)
    assert len(recorder.searches) == 0


async def test_who_waits_behind_a_call_that_fails_is_not_told_completed() -> None:
    def failing() -> Iterator[int | None]:
        yield 1
        yield None
        raise RuntimeError("broken")

    clock = count(0, 10 * NS).__next__
    session = Session(Looks(failing(), Shares(clock).of(None)), NS, clock)
    first, second = await asyncio.gather(
        session.results(5, None, None), session.results(5, None, None), return_exceptions=True
    )
    assert isinstance(first, RuntimeError)
    assert second == (SEARCHING, [1])
    assert session.ended


async def test_the_summary_leaves_the_loop_to_others_between_two_slices() -> None:
    recorder = a_recorder(20)
    recorder.recorded("rec-19", VIDEO001, (10, 60))
    steps = count(0, 3_000_000)  # each look at the clock, 3 ms have passed
    searches = SearchSessions(recorder, recorder, monotonic=lambda: next(steps), now=lambda: NOW)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    assert await searches.summary() == RecordingSummary(10, 60, 20)
    assert turns >= 9
    task.cancel()


def test_limits_below_one_are_refused() -> None:
    for settings in ({"sessions": 0}, {"sessions_per_user": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            SearchSettings(**settings)


async def test_a_filter_that_looks_at_too_much_is_refused_and_the_search_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nvr.model.xpath.evaluation.MAX_VISITS", 10)
    recorder = a_recorder(2)
    search = recorder.find(SearchScope(filter="boolean(//*)"), None, 10 * NS)
    with pytest.raises(FormatError, match="more than 10 elements"):
        await recorder.results(search, None, None, None)
    with pytest.raises(UnknownToken):
        await recorder.results(search, None, None, None)
