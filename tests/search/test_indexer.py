"""Metadata tracks on the disk become an index: behind the writer, over restarts, and away with their footage."""

from __future__ import annotations

import asyncio
import gzip
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nvr.media.codecs.metadata import GzipMetadataConfiguration
from nvr.model import topics
from nvr.model.event import TOPIC_NAMESPACE, Event
from nvr.model.recorded import CameraEvent
from nvr.model.recording import Recording, RecordingConfiguration, TrackType, default_tracks
from nvr.model.search import EventFilter, SearchLimits, SearchScope
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.model.tokens import VIDEO001, TrackKey
from nvr.search.sessions import SearchSessions
from nvr.storage.events import EventIndex
from tests.support.footage import START, a_track
from tests.support.metadata import a_document, a_fragment, a_position, an_event, an_object
from tests.support.recorded import EVER, KEY, Store, opened
from tests.support.search import Searched, fetched
from tests.support.volumes import until


def a_second(second: int, value: str) -> tuple[int, bytes]:
    at_ns = START + second * NS
    return at_ns, a_document(an_event(at_ns, data={"State": value}))


@pytest.mark.requirement("RS-6.2.2-02")
async def test_what_is_recorded_is_indexed_once_while_its_file_grows_and_when_it_is_closed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.record(a_fragment([a_second(0, "a"), a_second(1, "b")]))
        await store.indexer.catch_up()
        assert store.told() == [(0, "a"), (1, "b")]
        await store.indexer.catch_up()
        await store.record(a_fragment([a_second(2, "c")]), end=True)
        await store.indexer.catch_up()
        await store.indexer.catch_up()
        assert store.told() == [(0, "a"), (1, "b"), (2, "c")]
        (row,) = store.files.files(KEY, 0)
        assert store.index.indexed([row.file_id])[row.file_id].done
        assert "@Name" in store.index.words([row.file_id])[row.file_id]
        await store.record(a_fragment([a_second(9, "d")]))
        await store.indexer.catch_up()
        assert store.told()[3:] == [(9, "d")]
        assert (store.indexer.indexed, store.indexer.unreadable, store.indexer.lag) == (4, 0, 0)


@pytest.mark.requirement("RS-6.17-01")
async def test_a_start_goes_on_where_the_index_ends_and_makes_a_lost_one_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.record(a_fragment([a_second(0, "a")]))
        await store.indexer.catch_up()
        await store.record(a_fragment([a_second(1, "b")]))
        assert await history(store) == [True, True]
    async with opened(tmp_path) as store:
        await until_indexed(store)
        assert store.told() == [(0, "a"), (1, "b")]
        assert await history(store) == [True, True, False, False], "it ended when the daemon did"
        await until_indexed(store)
        assert store.told() == [(0, "a"), (1, "b")]
    async with opened(tmp_path, "another.db") as store:
        await until_indexed(store)
        assert store.told() == [(0, "a"), (1, "b")]


@pytest.mark.requirement("RS-6.17-01")
async def test_kill_9_while_events_are_indexed_loses_none_and_doubles_none(tmp_path: Path) -> None:
    """In a transaction, and in front of the commit of another."""
    everything = [(n, f"v{n}") for n in range(12)]
    async with opened(tmp_path) as store:
        for n in range(0, 12, 2):
            fragment = a_fragment([a_second(n, f"v{n}"), a_second(n + 1, f"v{n + 1}")])
            await store.record(fragment, end=n == 6)
    left_by_kills = []
    for place, number in (("inside", 2), ("before", 3)):
        killed = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "tests.support.killed_indexer", tmp_path, place, str(number)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        index = await asyncio.to_thread(EventIndex.open, tmp_path / "events.db")
        left_by_kills.append(len(index.events([s.id for s in index.streams()], EVER, None, 100)))
        index.shut()
    assert left_by_kills == [2, 6], "whole transactions and nothing else"
    async with opened(tmp_path) as store:
        await until_indexed(store, 12)
        assert store.told() == everything


async def history(store: Store) -> list[object]:
    """The values of the events of 6.17, as a search finds them."""
    recorder = Searched(Recording(KEY.recording, RecordingConfiguration(), default_tracks()))
    searches = SearchSessions(recorder, store.storage, archive=store.index, files=store.files)
    limits = SearchLimits(None, 10 * NS)
    token = await searches.find_events(EVER, SearchScope(), EventFilter(), False, limits)
    found = await fetched(searches.event_results, token)
    return [next(iter(e.event.data.values())) for e in found if isinstance(e.event, Event)]


async def found_by_topic(store: Store, topic: str) -> list[str]:
    recorder = Searched(Recording(KEY.recording, RecordingConfiguration(), default_tracks()))
    searches = SearchSessions(recorder, store.storage, archive=store.index, files=store.files)
    wanted = EventFilter((topics.parse(topic, topics.CONCRETE_SET, {"tns1": TOPIC_NAMESPACE}),))
    token = await searches.find_events(EVER, SearchScope(), wanted, False, SearchLimits(None, 10 * NS))
    found = await fetched(searches.event_results, token)
    return [e.event.message.data[0].value for e in found if isinstance(e.event, CameraEvent)]


async def until_indexed(store: Store, events: int = 2) -> None:
    """The daemon's task, until it has nothing more to do."""
    task = asyncio.create_task(store.indexer.run())
    await asyncio.sleep(0)
    await store.storage.settled()
    await until(lambda: not store.indexer.lag and len(store.told()) >= events)
    task.cancel()
    await asyncio.wait([task])


async def test_who_searches_at_the_live_edge_does_not_wait_for_the_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nvr.search.indexer.PAUSE_S", 3600)
    monkeypatch.setattr("nvr.search.indexer.REACH_S", 60)
    async with opened(tmp_path) as store:
        task = asyncio.create_task(store.indexer.run())
        for second in range(3):  # each behind the pause that the one before has begun
            await store.record(a_fragment([a_second(second, "a")]))
            await store.indexer.reach()
            assert len(store.told()) == second + 1
        task.cancel()
        await asyncio.wait([task])
        await store.indexer.reach()  # nothing is behind: at once


async def test_who_searches_waits_for_a_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvr.search.indexer.REACH_S", 0.01)
    async with opened(tmp_path) as store:
        await store.record(a_fragment([a_second(0, "a")]))
        await until(lambda: store.indexer.lag)
        await store.indexer.reach()  # nobody reads
        assert store.told() == []


async def test_events_go_with_their_footage(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.record(a_fragment([a_second(0, "a"), (START, a_document(a_position(0.5)))]))
        await store.indexer.catch_up()
        assert store.told() == [(0, "a")]
        await store.storage.delete_track(KEY)
        await store.indexer.catch_up()
        assert store.told() == []
        assert store.index.positions(list(store.index.position_tracks()), EVER, None, 9) == []
        assert store.index.files(KEY) == []


async def test_documents_that_nobody_can_read_are_counted_and_cost_no_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY b "' + b"c" * 100 + b'">]><tt:MetadataStream xmlns:tt="x">&b;</tt:MetadataStream>'
    bad = [b"<tt:MetadataStream", bomb, b"\x1f\x8bnothing"]
    async with opened(tmp_path) as store:
        documents = [a_second(0, "a"), *((START + n, d) for n, d in enumerate(bad)), a_second(1, "b")]
        await store.record(a_fragment(documents))
        await store.indexer.catch_up()
        assert store.told() == [(0, "a"), (1, "b")]
        assert store.indexer.unreadable == 3
    assert caplog.text.count("cannot be read, and are left out") == 1, "once a file"


async def test_packed_documents_positions_and_objects_are_read_and_other_tracks_are_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        packed = gzip.compress(a_document(an_event(START), a_position(0.25, -0.5, 0.125), an_object("Vehicle")))
        await store.record(a_fragment([(START, packed)], GzipMetadataConfiguration()))
        video = TrackKey(KEY.recording, VIDEO001)
        a_track().with_gop(count=2).feed(store.storage.recorder(video, TrackType.VIDEO))
        await store.storage.flush()
        await store.indexer.catch_up()
        assert store.index.tracks() == [KEY]
        assert store.told() == [(0, "true")]
        (found,) = store.index.positions(list(store.index.position_tracks()), EVER, None, 9)
        assert (found.time_ns, found.position.pan_tilt and found.position.pan_tilt.x) == (START, 0.25)
        recorder = store.storage.recorder(KEY, TrackType.METADATA)
        recorder.end_run(GapReason.SOURCE_LOST)
        await store.storage.flush()
        await store.indexer.catch_up()
        (row,) = store.files.files(KEY, 0)
        assert {"Object", "Type=Vehicle", "@right", "PTZStatus"} <= store.index.words([row.file_id])[row.file_id]
