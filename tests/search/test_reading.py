"""What the index does when a volume is away, a file is damaged, the index cannot be written, or the recorder stops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nvr.media.onvif_metadata import ANY_WORD
from nvr.media.unit import Fragment, Sample
from nvr.model.errors import StorageError
from nvr.model.time import NS
from nvr.model.tokens import META001, RecordingToken, TrackKey
from nvr.search import indexer, reading
from nvr.search.indexer import Completeness
from nvr.storage.event_rows import Documents
from nvr.storage.events import EventIndex
from nvr.storage.footage import Footage
from nvr.storage.rows import FileState, FragmentRef
from nvr.storage.volume import VolumeState
from tests.search.test_indexer import found_by_topic
from tests.support.footage import START
from tests.support.metadata import a_document, a_fragment, an_event
from tests.support.recorded import EVER, KEY, Store, opened
from tests.support.volumes import until

OTHER = TrackKey(RecordingToken("rec-other"), META001)


def a_second(second: int, value: str = "x") -> tuple[int, bytes]:
    at_ns = START + second * NS
    return at_ns, a_document(an_event(at_ns, data={"State": value}))


def seconds(store: Store) -> list[int]:
    return [second for second, _ in store.told()]


def look_at_everything(store: Store) -> None:
    """As a start does."""
    store.indexer._look_at_volumes()
    store.indexer._from_the_beginning()


def values(store: Store) -> list[str]:
    return [value for _, value in store.told()]


def fragments_of_one_file() -> list[Fragment]:
    """Five that touch, each of one document, whose value is its number."""
    times = [START + n * NS // 5 for n in range(5)]
    return [a_fragment([(at, a_document(an_event(at, data={"State": str(n)})))]) for n, at in enumerate(times)]


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def some_files(where: Path, key: TrackKey = KEY, number: int = 3) -> None:
    async with opened(where, "first.db") as store:
        for n in range(number):
            await store.record(a_fragment([a_second(10 * n)]), end=True, key=key)


def gone_and_back(store: Store) -> tuple[Callable[[], None], Callable[[], None]]:
    """As `umount` and `mount` while nobody writes."""
    row = store.files.files(KEY, 0)[0]
    root = store.storage._root_of(row.volume_id)
    assert root is not None
    away = root.with_name("away")
    return lambda: root.rename(away) and None, lambda: away.rename(root) and None


async def test_files_that_cannot_be_read_are_read_when_they_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await some_files(tmp_path, number=6)
    clock = Clock()
    async with opened(tmp_path, monotonic=clock) as store:
        unmount, mount = gone_and_back(store)
        unmount()
        look_at_everything(store)
        await store.indexer.catch_up()
        assert seconds(store) == []
        assert store.indexer.completeness() == Completeness(0, 1, None)
        told = caplog.text.count("is not indexed for now")
        assert told == reading._GIVE_UP, "behind a few files no more of the volume are tried"
        mount()
        await store.indexer.catch_up()
        assert seconds(store) == [], "its time has not come"
        clock.now_s += indexer.FIRST_RETRY_S
        await store.indexer.catch_up()
        assert seconds(store) == [0, 10, 20, 30, 40, 50]
        assert store.indexer.completeness() == Completeness(0, 0, None)
        assert store.indexer._retries == {}
        assert store.indexer.unreadable == 0


async def test_of_a_recording_that_is_deleted_nothing_is_tried_again(tmp_path: Path) -> None:
    await some_files(tmp_path, number=1)
    async with opened(tmp_path, monotonic=Clock()) as store:
        unmount, mount = gone_and_back(store)
        unmount()
        look_at_everything(store)
        await store.indexer.catch_up()
        assert set(store.indexer._retries) == {KEY}
        mount()
        await store.storage.delete_recording(KEY.recording)
        store.indexer.footage_deleted(KEY, 0, START + 60 * NS)
        await store.indexer.catch_up()
        assert (store.indexer._retries, store.indexer._tracks) == ({}, {})


async def test_what_could_not_be_read_before_a_restart_is_read_behind_it(tmp_path: Path) -> None:
    await some_files(tmp_path)
    async with opened(tmp_path) as store:
        unmount, mount = gone_and_back(store)
        unmount()
        look_at_everything(store)
        await store.indexer.catch_up()
        mount()
    async with opened(tmp_path) as store:
        look_at_everything(store)
        await store.indexer.catch_up()
        assert seconds(store) == [0, 10, 20]


async def test_a_volume_that_is_away_is_left_alone_and_read_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await some_files(tmp_path)
    async with opened(tmp_path, monotonic=lambda: 0.0) as store:
        (status,) = store.storage.volumes()
        away = replace(status, state=VolumeState.MISSING)
        monkeypatch.setattr(store.storage, "volumes", lambda: [away])
        monkeypatch.setattr(Footage, "whole_file", lambda *_: pytest.fail("it may not answer"))
        task = asyncio.create_task(store.indexer.run())
        await asyncio.sleep(0)
        await store.storage.settled()
        await until(lambda: not store.indexer.lag and store.indexer.completeness().missed)
        monkeypatch.undo()
        store.indexer.volume_changed(status)
        await until(lambda: seconds(store) == [0, 10, 20])
        task.cancel()
        await asyncio.wait([task])


async def test_other_tracks_go_on_while_one_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await some_files(tmp_path)
    await some_files(tmp_path, OTHER)
    whole_file = Footage.whole_file

    def fails(footage: Footage, row: object) -> object:
        if footage.key == OTHER:
            raise StorageError("no answer")
        return whole_file(footage, row)  # type: ignore[arg-type]

    async with opened(tmp_path) as store:
        monkeypatch.setattr(Footage, "whole_file", fails)
        look_at_everything(store)
        await store.indexer.catch_up()
        assert seconds(store) == [0, 10, 20]
        await store.record(a_fragment([a_second(70)]))
        await store.record(a_fragment([a_second(71)]), key=OTHER)
        await store.indexer.catch_up()
        assert seconds(store) == [0, 10, 20, 70]
        assert store.indexer.completeness().missed == 1


async def test_what_is_damaged_in_a_file_is_left_out_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path, "first.db") as store:
        await store.record(*fragments_of_one_file(), end=True)
        (row,) = store.files.files(KEY, 0)
        refs = list(store.storage.footage(KEY).of_file(row))
        root = store.storage._root_of(row.volume_id)
        assert root is not None
        with (root / row.path).open("r+b") as file:
            for ref in (refs[1], refs[3]):
                file.seek(ref.offset + ref.length - 20)
                file.write(b"damaged")
    async with opened(tmp_path) as store:
        look_at_everything(store)
        await store.indexer.catch_up()
        assert values(store) == ["0", "2", "4"]
        assert store.indexer.unreadable == 2
        assert store.index.indexed([row.file_id])[row.file_id].done
        assert ANY_WORD in store.index.words([row.file_id])[row.file_id], "what is damaged may hold any word"
        assert caplog.text.count("cannot be read, and are left out") == 1
        assert store.indexer.completeness() == Completeness(0, 0, None)


async def test_a_file_whose_head_is_damaged_costs_no_other(tmp_path: Path) -> None:
    await some_files(tmp_path)
    async with opened(tmp_path) as store:
        row = store.files.files(KEY, 0)[1]
        root = store.storage._root_of(row.volume_id)
        assert root is not None
        with (root / row.path).open("r+b") as file:
            file.write(bytes(200))
        store.storage._reader.head.cache_clear()
        look_at_everything(store)
        await store.indexer.catch_up()
        assert seconds(store) == [0, 20]
        assert (store.indexer.unreadable, store.indexer.completeness().missed) == (1, 0)


async def test_a_fragment_that_the_disk_does_not_give_is_tried_a_few_times_and_then_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, "first.db") as store:
        await store.record(*fragments_of_one_file(), end=True)
    read, clock, attempts = Footage.read, Clock(), 0

    def fails(footage: Footage, ref: FragmentRef) -> list[Sample]:
        nonlocal attempts
        if ref.start_ns == START + NS // 5:
            attempts += 1
            raise StorageError("Input/output error")
        return read(footage, ref)

    async with opened(tmp_path, monotonic=clock) as store:
        monkeypatch.setattr(Footage, "read", fails)
        look_at_everything(store)
        await store.indexer.catch_up()
        assert values(store) == ["0"], "what stands in front of it is kept"
        for _ in range(reading._GIVE_UP):
            clock.now_s += indexer.LAST_RETRY_S
            await store.indexer.catch_up()
        assert values(store) == ["0", "2", "3", "4"]
        assert (attempts, store.indexer.unreadable) == (reading._GIVE_UP, 1)
        assert (store.indexer.indexed, store.indexer.completeness().missed) == (4, 0)


async def test_a_file_that_is_not_examined_yet_is_read_when_it_has_been(tmp_path: Path) -> None:
    await some_files(tmp_path)
    clock = Clock()
    async with opened(tmp_path, monotonic=clock) as store:
        row = store.files.files(KEY, 0)[1]
        store.files.reopen(row.file_id)
        look_at_everything(store)
        await store.indexer.catch_up()
        assert seconds(store) == [0, 20]
        store.files.put(replace(row, state=FileState.CLOSED))
        clock.now_s += indexer.FIRST_RETRY_S
        await store.indexer.catch_up()
        assert seconds(store) == [0, 10, 20]


async def test_what_fails_as_a_whole_is_tried_again_after_longer_and_longer_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await some_files(tmp_path)
    clock, attempts, add = Clock(), 0, EventIndex.add

    def fails(index: EventIndex, documents: Documents) -> None:
        nonlocal attempts
        attempts += 1
        raise StorageError("cannot write events.db: disk full")

    async with opened(tmp_path, monotonic=clock) as store:
        monkeypatch.setattr(EventIndex, "add", fails)
        look_at_everything(store)
        for wait_s in (5, 10, 20):
            await store.indexer.catch_up()
            made = attempts
            clock.now_s += wait_s - 1
            await store.record(a_fragment([a_second(60 + wait_s)]))
            await store.indexer.catch_up()
            assert attempts == made, "neither before its time nor with each fragment"
            await store.indexer.reach()  # what fails is not waited for
            clock.now_s += 1
        assert attempts == 3
        assert caplog.text.count("disk full") == 1
        assert store.indexer.completeness().missed == 1
        monkeypatch.setattr(EventIndex, "add", add)
        await store.indexer.catch_up()
        assert seconds(store) == [0, 10, 20, 65, 70, 80]
        assert store.indexer.completeness() == Completeness(0, 0, None)


async def test_an_index_is_made_again_from_the_newest_file_of_each_track_on_all_tracks_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "nvr.search.indexer")
    await some_files(tmp_path)
    await some_files(tmp_path, OTHER)
    monkeypatch.setattr(reading, "_BATCH", 1)
    order: list[tuple[TrackKey, int, int | None]] = []
    add = EventIndex.add

    async with opened(tmp_path) as store:

        def seen(index: EventIndex, documents: Documents) -> None:
            if documents.contents:
                complete = store.indexer.completeness().from_ns
                since = None if complete is None else (complete - START) // NS
                order.append((documents.key, (documents.start_ns - START) // NS, since))
            add(index, documents)

        monkeypatch.setattr(EventIndex, "add", seen)
        look_at_everything(store)
        await store.indexer.catch_up()
        one, two = sorted((KEY, OTHER))
        assert [(key, second) for key, second, _ in order] == [
            (one, 20), (two, 20), (one, 10), (two, 10), (one, 0), (two, 0)
        ]  # fmt: skip
        assert [since for _, _, since in order[2:]] == [20, 20, 20, 10], "an older file counts once it is whole"
        assert store.indexer.lag == 0
    assert "tracks are not complete before 2026" in caplog.text
    assert "is made: 4 older documents" in caplog.text


async def test_a_stop_ends_the_work_behind_the_fragment_that_is_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, fragments, reached = Footage.read, 0, threading.Event()
    async with opened(tmp_path, "first.db") as store:
        await store.record(*fragments_of_one_file(), end=True)
    async with opened(tmp_path) as store:

        def slow(footage: Footage, ref: FragmentRef) -> list[Sample]:
            nonlocal fragments
            fragments += 1
            if fragments == 3:
                reached.set()
                store.indexer._thread._stopping.wait()
            return read(footage, ref)

        monkeypatch.setattr(Footage, "read", slow)
        task = asyncio.create_task(store.indexer.run())
        await asyncio.to_thread(reached.wait)
        task.cancel()
        await asyncio.wait([task])
        assert (fragments, seconds(store)) == (3, [])


async def test_a_volume_that_hangs_is_left_and_what_it_gives_later_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await some_files(tmp_path)
    read, clock = Footage.read, Clock()
    reached, answers, returned = threading.Event(), threading.Event(), threading.Event()

    def hangs(footage: Footage, ref: FragmentRef) -> list[Sample]:
        reached.set()
        answers.wait()
        found = read(footage, ref)
        returned.set()
        return found

    async with opened(tmp_path, monotonic=clock) as store:
        (status,) = store.storage.volumes()
        away = replace(status, state=VolumeState.MISSING)
        monkeypatch.setattr(Footage, "read", hangs)
        look_at_everything(store)
        work = asyncio.create_task(store.indexer.catch_up())
        await asyncio.to_thread(reached.wait)
        monkeypatch.setattr(store.storage, "volumes", lambda: [away])
        store.indexer.volume_changed(away)
        await work  # other volumes would be read now
        assert (seconds(store), store.indexer.completeness().missed) == ([], 1)
        monkeypatch.undo()
        store.indexer.volume_changed(status)
        clock.now_s += indexer.FIRST_RETRY_S
        store.indexer._try_again()
        await store.indexer.catch_up()
        assert seconds(store) == [0, 10, 20]
        answers.set()
        await asyncio.to_thread(returned.wait)
        await store.indexer.catch_up()
        assert seconds(store) == [0, 10, 20]


async def test_a_disk_that_does_not_answer_holds_no_stop_and_what_it_gives_later_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(indexer, "STOP_S", 0.01)
    await some_files(tmp_path, number=1)
    read, reached, answers, added = Footage.read, threading.Event(), threading.Event(), threading.Event()
    refused: list[str] = []
    add = EventIndex.add

    def hangs(footage: Footage, ref: FragmentRef) -> list[Sample]:
        reached.set()
        answers.wait()
        return read(footage, ref)

    def seen(index: EventIndex, documents: Documents) -> None:
        try:
            add(index, documents)
        except StorageError as e:
            refused.append(str(e))
        added.set()

    monkeypatch.setattr(Footage, "read", hangs)
    monkeypatch.setattr(EventIndex, "add", seen)
    async with opened(tmp_path) as store:
        monkeypatch.setattr(store.indexer._reader, "_look", lambda: None)  # it is behind its last look
        task = asyncio.create_task(store.indexer.run())
        await asyncio.to_thread(reached.wait)
        task.cancel()
        await asyncio.wait([task])
        assert "does not end within" in caplog.text
    answers.set()
    await asyncio.to_thread(added.wait)
    (why,) = refused
    assert why.endswith("events.db is closed")
    index = await asyncio.to_thread(EventIndex.open, tmp_path / "events.db")
    assert index.tracks() == []
    index.shut()


async def test_events_of_more_topics_than_are_told_apart_are_found_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("nvr.storage.event_writing.MAX_STREAMS", 5)
    monkeypatch.setattr("nvr.storage.event_forgetting.SLICE", 3)
    async with opened(tmp_path) as store:
        topics = [f"tns1:Device/Odd{n}" for n in range(9)]
        events = [an_event(START, topic, data={"State": topic[-1]}) for topic in topics]
        await store.record(a_fragment([(START, a_document(*events))]), end=True)
        await store.indexer.catch_up()
        assert len(store.index.streams()) == 5
        assert store.indexer.crowded == 5
        assert "more topics and sources than are told apart" in caplog.text
        for n in (0, 3, 4, 8):
            assert await found_by_topic(store, topics[n]) == [str(n)]
        (row,) = store.files.files(KEY, 0)
        store.index.forget([row.file_id])
        assert (store.index.streams(), store.index.tracks(), store.index.position_tracks()) == ((), [], {})
        assert store.index.events(list(range(20)), EVER, None, 9) == []
