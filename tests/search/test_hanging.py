"""Searches of footage on a disk that does not answer: of other users, of the index, and the stop."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from nvr.model import xpath
from nvr.model.search import EventFilter, SearchInterval, SearchLimits, SearchScope, SearchWish
from nvr.model.time import NS
from nvr.search import shares
from nvr.search.sessions import SearchSessions
from nvr.storage.footage import Footage
from nvr.storage.volume import VolumeHangs
from tests.search.test_metadata import ONE, Told
from tests.support.footage import START
from tests.support.metadata import a_document, a_fragment, an_event, an_object
from tests.support.recorded import opened
from tests.support.search import fetched

ALL = SearchInterval(0, None)


async def test_hanging_reads_of_two_users_take_nothing_from_a_third_and_no_stop_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, hanging = threading.Event(), 0
    both = asyncio.Event()
    loop = asyncio.get_running_loop()
    read, section = Footage.read, Footage.section

    def one_more() -> None:
        nonlocal hanging
        hanging += 1
        if hanging == 2:
            both.set()

    def hang(footage: Footage, ref: Any) -> Any:
        loop.call_soon_threadsafe(one_more)
        go_on.wait()
        return read(footage, ref)

    def hang_at(footage: Footage, at_ns: int, run_id: str) -> Any:
        go_on.wait()
        return section(footage, at_ns, run_id)

    async with opened(tmp_path) as store:
        await store.record(a_fragment([(START, a_document(an_object(), an_event(START)))]), end=True, key=ONE)
        await store.indexer.catch_up()
        told = Told(store)
        searches = SearchSessions(told, told, archive=store.index, files=store.files)
        monkeypatch.setattr(Footage, "read", hang)
        monkeypatch.setattr(Footage, "section", hang_at)
        monkeypatch.setattr(shares, "LATE_S", 0.0)
        filter_ = xpath.parse("boolean(//Object)")
        tokens = {
            user: await searches.find_metadata(ALL, SearchScope(), filter_, SearchLimits(None, 600 * NS, user))
            for user in "ab"
        }
        waiting = [
            asyncio.create_task(searches.metadata_results(token, SearchWish(wait_ns=60 * NS, user=user)))
            for user, token in tokens.items()
        ]
        await both.wait()

        events = await searches.find_events(ALL, SearchScope(), EventFilter(), False, SearchLimits(None, 600 * NS))
        assert START in [e.time_ns for e in await fetched(searches.event_results, events)]

        monkeypatch.setattr("nvr.search.attributes.PATIENCE_S", 0.01)
        (told,) = await searches.media_attributes([], START, "c")
        assert (told.from_ns, told.until_ns) == (START, START)

        monkeypatch.setattr(shares, "STOP_S", 0.0)
        await searches.stop()
        assert [found for _, found in await asyncio.gather(*waiting)] == [[], []]
        assert not len(searches)
        ends = [work.thread_ended for work in searches._shares.at_work]
        assert len(ends) == 3
        go_on.set()
        await asyncio.gather(*ends)


async def test_a_search_whose_read_hangs_ends_with_that_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(shares, "GIVE_UP_S", 0.0)

    def hang(search: Any, wanted: int) -> None:
        go_on.wait()

    monkeypatch.setattr("nvr.search.metadata.MetadataSearch._go_on", hang)
    async with opened(tmp_path) as store:
        told = Told(store)
        searches = SearchSessions(told, told, archive=store.index, files=store.files)
        filter_ = xpath.parse("boolean(//Object)")
        token = await searches.find_metadata(ALL, SearchScope(), filter_, SearchLimits(None, 600 * NS))
        with pytest.raises(VolumeHangs, match="has not come back"):
            await searches.metadata_results(token, SearchWish(wait_ns=60 * NS))
        assert not len(searches), "Completed would hide what is missing"
        ends = [work.thread_ended for work in searches._shares.at_work]
        go_on.set()
        await asyncio.gather(*ends)
        await searches.stop()
