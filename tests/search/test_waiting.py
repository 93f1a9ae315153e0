"""Result calls of searches whose steps take long: what they wait for, and what ends the waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from nvr.model import xpath
from nvr.model.ptz import PtzFilter, PtzVector
from nvr.model.search import EventFilter, SearchInterval, SearchLimits, SearchScope, SearchState, SearchWish
from nvr.model.time import NS
from nvr.model.tokens import META001, SearchToken
from nvr.search.sessions import SearchSessions
from nvr.search.steps import SteppedSearch
from tests.support.configuration import a_recording
from tests.support.search import Searched

INTERVAL, SCOPE, LIMITS = SearchInterval(5, 100), SearchScope(), SearchLimits(None, 60 * NS)


async def events(searches: SearchSessions) -> SearchToken:
    return await searches.find_events(INTERVAL, SCOPE, EventFilter(), False, LIMITS)


async def positions(searches: SearchSessions) -> SearchToken:
    return await searches.find_positions(INTERVAL, SCOPE, PtzFilter(PtzVector(), PtzVector()), LIMITS)


async def metadata(searches: SearchSessions) -> SearchToken:
    return await searches.find_metadata(INTERVAL, SCOPE, xpath.parse("//A"), LIMITS)


class Slow:
    """Makes every step of every search wait until the test lets it find so many matches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.granted = asyncio.Semaphore(0)

        async def step(search: SteppedSearch[int], wanted: int) -> None:
            await self.granted.acquire()
            search.found.append(len(search.found))

        monkeypatch.setattr(SteppedSearch, "step", step)

    def find(self, number: int) -> None:
        for _ in range(number):
            self.granted.release()


@pytest.mark.requirement("RS-6.15-04", "RS-6.2.3-06")
@pytest.mark.parametrize(
    ("find", "results"), [(events, "event_results"), (positions, "position_results"), (metadata, "metadata_results")]
)
async def test_a_call_returns_at_whichever_bound_comes_first(
    find: Callable[[SearchSessions], Awaitable[SearchToken]], results: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch)
    recorder = Searched(a_recording("rec-1"))
    searches = SearchSessions(recorder, recorder)  # the waiting time is that of the machine
    token = await find(searches)

    async def call(
        minimum: int | None = None, maximum: int | None = None, wait_ns: int | None = None
    ) -> tuple[SearchState, list[int]]:
        return await getattr(searches, results)(token, SearchWish(minimum, maximum, wait_ns))  # type: ignore[no-any-return]

    assert await call(5, 5, NS // 100) == (SearchState.SEARCHING, []), "the waiting time has passed"
    slow.find(3)
    assert await call(minimum=2) == (SearchState.SEARCHING, [0, 1])
    slow.find(3)
    state, found = await call(maximum=2)
    assert (state, len(found)) == (SearchState.SEARCHING, 2)
    blocked = asyncio.create_task(call(minimum=100))
    await asyncio.sleep(0)
    assert not blocked.done()
    searches.end(token)
    state, _ = await blocked
    assert state is SearchState.SEARCHING


async def test_a_step_that_fails_while_nobody_waits_is_told_to_the_next_who_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def step(search: SteppedSearch[int], wanted: int) -> None:
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(SteppedSearch, "step", step)
    searches = Searched(a_recording("rec-1")).searches
    token = await events(searches)
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        await searches.event_results(token, SearchWish())
    assert len(searches) == 0


async def test_a_failure_that_nobody_asks_about_is_logged_when_the_session_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def step(search: SteppedSearch[int], wanted: int) -> None:
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(SteppedSearch, "step", step)
    searches = Searched(a_recording("rec-1")).searches
    token = await events(searches)
    await asyncio.sleep(0)
    searches.end(token)
    await asyncio.sleep(0)
    assert [r.getMessage() for r in caplog.records] == [
        "a search of nobody failed before its results were asked for: the disk is gone"
    ]


async def recordings(searches: SearchSessions) -> SearchToken:
    return searches.find_recordings(SCOPE, LIMITS)


@pytest.mark.requirement("RS-6.3.4-03", "RS-6.3.4-04")
@pytest.mark.parametrize(
    ("find", "results"),
    [
        (recordings, "recording_results"),
        (events, "event_results"),
        (positions, "position_results"),
        (metadata, "metadata_results"),
    ],
)
async def test_a_search_is_searching_until_its_last_answer_and_completed_with_it(
    find: Callable[[SearchSessions], Awaitable[SearchToken]], results: str
) -> None:
    """No other state is told, Unknown in particular, whether something is found or not."""
    recorder = Searched(a_recording("rec-1"), a_recording("rec-2"))
    recorder.recorded("rec-1", META001, (10, 20), (30, 40))
    token = await find(recorder.searches)
    told = [recorder.searches.state(token)]
    while told[-1] is SearchState.SEARCHING and len(told) < 50:
        told.append((await getattr(recorder.searches, results)(token, SearchWish(maximum=1)))[0])
    assert set(told[:-1]) == {SearchState.SEARCHING}
    assert told[-1] is SearchState.COMPLETED
