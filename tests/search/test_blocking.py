"""How long result calls of slow searches block, in simulated time: a search of each kind that looks for ten seconds
for each match."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from nvr.model.errors import UnknownToken
from nvr.model.search import EventFilter, SearchInterval, SearchLimits, SearchScope, SearchState, SearchWish
from nvr.model.time import NS
from nvr.model.tokens import SearchToken
from nvr.search.session import Looks
from nvr.search.sessions import SearchSessions
from nvr.search.steps import SteppedSearch
from tests.search.test_waiting import events, metadata, positions, recordings
from tests.support.configuration import a_recording
from tests.support.loops import now_ns, run_simulated
from tests.support.search import Searched

SEARCHING, COMPLETED = SearchState.SEARCHING, SearchState.COMPLETED
Call = Callable[..., Awaitable[tuple[SearchState, int, float]]]
EVERY_S = 10
"""A match is found so often."""


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six matches, one every ten seconds of looking, in steps of a second; the search is over a minute later."""

    async def step(search: Any, wanted: int) -> None:
        await asyncio.sleep(1)
        search.steps = getattr(search, "steps", 0) + 1
        if search.steps % EVERY_S == 0 and search.steps <= 6 * EVERY_S:
            search.found.append(search.steps)
        search.exhausted = search.steps == 12 * EVERY_S

    monkeypatch.setattr(SteppedSearch, "step", step)
    monkeypatch.setattr(Looks, "step", step)


KINDS = [(recordings, "recording_results"), (events, "event_results")]
KINDS += [(positions, "position_results"), (metadata, "metadata_results")]


class Client:
    def __init__(self, searches: SearchSessions, token: SearchToken, results: str) -> None:
        self.searches = searches
        self.token = token
        self._results = getattr(searches, results)

    async def call(
        self, minimum: int | None = None, maximum: int | None = None, wait_s: float | None = None
    ) -> tuple[SearchState, int, int]:
        """State, number of results, and the seconds that it took."""
        began_ns = now_ns()
        wish = SearchWish(minimum, maximum, None if wait_s is None else round(wait_s * NS))
        state, found = await self._results(self.token, wish)
        return state, len(found), (now_ns() - began_ns) // NS


def with_a_client(
    find: Callable[[SearchSessions], Awaitable[SearchToken]], results: str, body: Callable[[Client], Awaitable[None]]
) -> None:
    async def main() -> None:
        recorder = Searched(a_recording("rec-1"))
        searches = SearchSessions(recorder, recorder, archive=recorder.archive, monotonic=now_ns)
        token = await find(searches)
        assert now_ns() == 0, "a search is not waited for when it is asked for"
        await body(Client(searches, token, results))
        await searches.stop()

    run_simulated(main())


@pytest.mark.requirement("RS-6.1-01", "RS-6.7-06", "RS-6.9-05", "RS-6.11-05", "RS-6.13-04")
@pytest.mark.requirement("RS-6.8-06", "RS-6.8-07", "RS-6.8-08", "RS-6.8-09")
@pytest.mark.requirement("RS-6.10-06", "RS-6.10-07", "RS-6.10-08", "RS-6.10-09")
@pytest.mark.requirement("RS-6.12-06", "RS-6.12-07", "RS-6.12-08", "RS-6.12-09")
@pytest.mark.requirement("RS-6.14-06", "RS-6.14-07", "RS-6.14-08", "RS-6.14-09")
@pytest.mark.parametrize(("find", "results"), KINDS)
def test_a_call_blocks_until_the_first_of_its_bounds(
    find: Callable[[SearchSessions], Awaitable[SearchToken]], results: str
) -> None:
    async def body(client: Client) -> None:
        assert await client.call(wait_s=0.5) == (SEARCHING, 0, 0), "the time is over in the midst of a step"
        assert await client.call(wait_s=3.5) == (SEARCHING, 0, 3)
        state, found, took_s = await client.call(maximum=1)
        assert (state, found) == (SEARCHING, 1)
        assert took_s <= EVERY_S - 4, "it has not waited for a result behind MaxResults"
        assert await client.call(minimum=2) == (SEARCHING, 2, 2 * EVERY_S)
        assert await client.call(minimum=5, maximum=1) == (SEARCHING, 1, EVERY_S)
        assert await client.call(minimum=1, maximum=5, wait_s=60) == (SEARCHING, 1, EVERY_S)
        assert await client.call(maximum=100, wait_s=12) == (SEARCHING, 1, 12)
        assert await client.call(minimum=100, wait_s=60) == (COMPLETED, 0, 58), "the search has come to its end"
        with pytest.raises(UnknownToken):
            await client.call()

    with_a_client(find, results, body)


@pytest.mark.requirement("RS-6.15-04", "RS-6.2.3-06")
@pytest.mark.parametrize(("find", "results"), KINDS)
def test_the_end_of_a_session_ends_the_waiting_at_once(
    find: Callable[[SearchSessions], Awaitable[SearchToken]], results: str
) -> None:
    async def body(client: Client) -> None:
        longest = asyncio.create_task(client.call(2_000_000_000, wait_s=1e9))
        await asyncio.sleep(5.5)
        client.searches.end(client.token)
        assert await longest == (SEARCHING, 0, 5)
        with pytest.raises(UnknownToken):
            await client.call()

    with_a_client(find, results, body)


@pytest.mark.parametrize(("find", "results"), KINDS)
def test_the_waiting_time_counts_also_while_another_call_is_answered(
    find: Callable[[SearchSessions], Awaitable[SearchToken]], results: str
) -> None:
    async def body(client: Client) -> None:
        first = asyncio.create_task(client.call(minimum=3, wait_s=60))
        await asyncio.sleep(0.5)
        assert await client.call(minimum=1, wait_s=20) == (SEARCHING, 0, 20)
        behind = asyncio.create_task(client.call(minimum=1, wait_s=15))
        assert await first == (SEARCHING, 3, 30)
        assert await behind == (SEARCHING, 0, 15), "nine seconds behind the other call, six for a match that came not"
        assert (await client.call(minimum=1))[:2] == (SEARCHING, 1), "no result has gone with the calls that gave up"

    with_a_client(find, results, body)


def test_what_nobody_collects_is_forgotten_without_another_request() -> None:
    async def body(client: Client) -> None:
        sessions = client.searches._sessions
        other = Client(client.searches, await events(client.searches), "event_results")
        await asyncio.sleep(59)
        assert len(sessions) == 2
        await other.call(wait_s=0)
        await asyncio.sleep(2)
        assert list(sessions) == [other.token]
        await asyncio.sleep(60)
        assert not sessions

    with_a_client(events, "event_results", body)


def test_a_short_session_is_forgotten_in_its_time_beside_one_that_lives_long() -> None:
    async def body(client: Client) -> None:
        sessions = client.searches._sessions
        nothing = SearchInterval(0, 9), SearchScope(), EventFilter(), False
        for _ in range(20):
            await client.searches.find_events(*nothing, SearchLimits(None, NS))
        assert len(sessions) == 21
        await asyncio.sleep(2)
        assert list(sessions) == [client.token]

    with_a_client(events, "event_results", body)


def test_a_session_is_not_forgotten_while_a_call_waits() -> None:
    async def body(client: Client) -> None:
        client.searches._settings = client.searches._settings.__class__(longest_wait_ns=1000 * NS)
        assert await client.call(minimum=7) == (COMPLETED, 6, 120)

    with_a_client(events, "event_results", body)
