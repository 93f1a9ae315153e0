"""GetMediaAttributes does not block: where an index, a disk or a turn does not come, From = Until."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nvr.media.codecs.h264 import H264Configuration
from nvr.model import xpath
from nvr.model.errors import StorageError
from nvr.model.recording import TrackType
from nvr.model.search import (
    EventFilter,
    MediaAttributes,
    MetadataAttributes,
    SearchInterval,
    SearchLimits,
    SearchScope,
    TrackAttributes,
    VideoAttributes,
)
from nvr.model.time import NS
from nvr.model.tokens import VIDEO001, RecordingToken, TrackKey
from nvr.search import attributes, shares
from nvr.search.sessions import SearchSessions
from nvr.storage.footage import FileHead, Footage, FootageReader
from nvr.storage.index import SqlFootageIndex
from nvr.storage.rows import FileState, TrackFileRow
from nvr.storage.volume import VolumeHangs
from tests.search.test_metadata import ONE, TWO, Told
from tests.support.configuration import a_recording
from tests.support.footage import START, video
from tests.support.metadata import a_document, a_fragment, an_event, an_object
from tests.support.recorded import Store, opened
from tests.support.search import Searched, fetched

ALL = SearchInterval(0, None)
OBJECTS = xpath.parse("boolean(//Object)")
FILE_NS = 300 * NS
NEVER_S = 600.0
"""Longer than any of these tests."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any machine."""
    monkeypatch.setattr(attributes, "PATIENCE_S", NEVER_S)


class Hanging:
    """What blocks whoever calls it, until the test lets go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.calls = 0

        self.loop = asyncio.get_running_loop()
        self.begun = asyncio.Event()

    def __call__(self, *_: Any, **__: Any) -> Any:
        self.calls += 1
        self.loop.call_soon_threadsafe(self.begun.set)
        self.go_on.wait()
        raise StorageError("it has come back, and too late")


async def recorded(store: Store) -> SearchSessions:
    for key in (ONE, TWO):
        documents = [(START + n * NS, a_document(an_object(), an_event(START + n * NS))) for n in range(3)]
        await store.record(a_fragment(documents), end=True, key=key)
    await store.indexer.catch_up()
    told = Told(store)
    return SearchSessions(told, told, archive=store.index, files=store.files)


async def let_go(searches: SearchSessions, hanging: Hanging) -> None:
    ends = [work.thread_ended for work in searches._shares.at_work]
    hanging.go_on.set()
    await asyncio.gather(*ends)
    await searches.stop()


def at_the_instant(told: MediaAttributes, at_ns: int) -> bool:
    return told.from_ns == told.until_ns == at_ns


WHERE: list[Callable[[Store], tuple[object, str]]] = [
    lambda store: (store.files, "files_of_run"),
    lambda store: (store.storage._reader, "head"),
    lambda store: (store.index, "words"),
]


@pytest.mark.requirement("RS-6.6-05", "RS-6.3.5-02")
@pytest.mark.parametrize("where", WHERE, ids=["the index of footage", "the disk", "the index of events"])
async def test_what_does_not_answer_is_not_waited_for_and_the_interval_is_the_instant(
    where: Callable[[Store], tuple[object, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = Hanging()
    async with opened(tmp_path) as store:
        searches = await recorded(store)
        (whole, _) = await searches.media_attributes([], START + NS)
        assert (whole.from_ns, whole.until_ns) == (START, START + 2 * NS + NS // 5)
        store.storage._reader.head.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(attributes, "PATIENCE_S", 0.01)
            patch.setattr(*where(store), hanging)
            told = await searches.media_attributes([], START + NS, "a")
            assert [t.recording for t in told] == [ONE.recording, TWO.recording], "nothing is hidden"
            for of in told:
                assert at_the_instant(of, START + NS)
                (track,) = of.tracks
                assert track.information.data_from_ns == START
                assert track.attributes == MetadataAttributes(True, True, True, ())
        await let_go(searches, hanging)


async def test_where_two_reads_of_a_user_have_not_come_back_no_third_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as store:
        searches = await recorded(store)
        searches._shares.left_behind["a", True] = shares.LEFT_BEHIND
        told = await searches.media_attributes([], START + NS, "a")
        assert [at_the_instant(of, START + NS) for of in told] == [True, True]
        told = await searches.media_attributes([], START + NS, "b")
        assert [at_the_instant(of, START + NS) for of in told] == [False, False]
        await searches.stop()


async def test_no_other_call_waits_behind_one_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = Hanging()
    monkeypatch.setattr(shares, "GIVE_UP_S", NEVER_S)  # the own bound of the call is what ends it
    monkeypatch.setattr(attributes, "PATIENCE_S", 0.01)
    async with opened(tmp_path) as store:
        searches = await recorded(store)
        monkeypatch.setattr(Footage, "section", hanging)
        await searches.media_attributes([], START, "a")
        for user in "ab":
            limits = SearchLimits(None, 600 * NS, user)
            events = await searches.find_events(ALL, SearchScope(), EventFilter(), False, limits)

            def results(token: Any, wish: Any, user: str = user) -> Any:
                return searches.event_results(token, wish.__class__(wish.minimum, wish.maximum, wish.wait_ns, user))

            assert START in [e.time_ns for e in await fetched(results, events)]
        await let_go(searches, hanging)


async def test_a_search_of_the_same_user_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = Hanging()
    async with opened(tmp_path) as store:
        searches = await recorded(store)
        with monkeypatch.context() as patch:
            patch.setattr(shares, "GIVE_UP_S", NEVER_S)
            patch.setattr(attributes, "PATIENCE_S", 0.01)
            patch.setattr("nvr.search.steps.STEP_NS", 60 * NS)  # the first step comes to the read, on any machine
            patch.setattr(Footage, "read", hanging)
            token = await searches.find_metadata(ALL, SearchScope(), OBJECTS, SearchLimits(None, 600 * NS, "a"))
            await hanging.begun.wait()
            told = await searches.media_attributes([], START, "a")
            assert [at_the_instant(of, START) for of in told] == [True, True]
            assert not searches._shares.on_threads._waiting, "nobody stands in the queue for it any more"
        searches.end(token, "a")
        await let_go(searches, hanging)


async def test_what_was_found_out_before_the_time_is_over_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, section = Hanging(), Footage.section

    def hang_at_the_second(footage: Footage, at_ns: int, run_id: str) -> Any:
        return section(footage, at_ns, run_id) if footage.key == ONE else hanging()

    async with opened(tmp_path) as store:
        searches = await recorded(store)
        monkeypatch.setattr(Footage, "section", hang_at_the_second)
        monkeypatch.setattr(attributes, "_from_memory", lambda track: TrackAttributes(track.information, None))
        waiting = asyncio.create_task(searches.media_attributes([], START + NS))
        await hanging.begun.wait()
        for work in searches._shares.at_work:
            work.give_up("does not answer, as the clock would find in some seconds")
        first, second = await waiting
        assert not at_the_instant(first, START + NS)
        assert first.tracks[0].attributes is not None
        assert at_the_instant(second, START + NS)
        await let_go(searches, hanging)


async def test_a_volume_that_is_away_makes_the_interval_of_its_recordings_the_instant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    section = Footage.section

    def away(footage: Footage, at_ns: int, run_id: str) -> Any:
        if footage.key == ONE:
            raise VolumeHangs("volume one hangs")
        return section(footage, at_ns, run_id)

    async with opened(tmp_path) as store:
        searches = await recorded(store)
        monkeypatch.setattr(Footage, "section", away)
        first, second = await searches.media_attributes([], START + NS)
        assert at_the_instant(first, START + NS)
        assert not at_the_instant(second, START + NS)
        assert [r.getMessage() for r in caplog.records if "from memory" in r.getMessage()] == [
            f"GetMediaAttributes tells 1 tracks from memory; of {ONE}: volume one hangs"
        ]
        await searches.stop()


class LongRun(Searched):
    """A video track that has been recorded without interruption, in files of five minutes."""

    def __init__(self, index: SqlFootageIndex, files: int, *, growing: bool = False) -> None:
        super().__init__(a_recording("rec-1"))
        self.until_ns = START + files * FILE_NS
        self.key = self.recorded("rec-1", VIDEO001, (START, self.until_ns), growing=growing)
        (run,) = self.timelines[self.key].runs
        self.rows = 0
        row = TrackFileRow(
            *("", "one", *self.key, run.run_id, 0), path="", start_ns=0, end_ns=0, state=FileState.CLOSED,
            encoding="H264", samples=7500, size=1 << 20,
        )  # fmt: skip
        index.replace_volume("one", [self._file(row, n) for n in range(files)])
        self._index = index
        self._reader = FootageReader(self, {}, lambda _: None, lambda _: video())  # type: ignore[arg-type]
        self._reader.head = lambda volume_id, path: FileHead(START, 90_000, video())  # type: ignore
        self.asked = 0

    @staticmethod
    def _file(row: TrackFileRow, n: int) -> TrackFileRow:
        begin_ns = START + n * FILE_NS
        return row.__class__(
            *(f"{n:032x}", row.volume_id, *row.key, row.run_id, n), path=f"{n}.mp4", start_ns=begin_ns,
            end_ns=begin_ns + FILE_NS, state=row.state, encoding=row.encoding, samples=row.samples, size=row.size,
        )  # fmt: skip

    def files_of_run(self, *asked: Any, **how: Any) -> list[TrackFileRow]:
        """The only thing that is asked of the index."""
        found = self._index.files_of_run(*asked, **how)
        self.asked += 1
        self.rows += len(found)
        return found

    def configuration(self, key: TrackKey) -> H264Configuration:  # type: ignore[override]
        return video()

    def footage(self, key: TrackKey) -> Footage:
        return Footage(key, self._reader)


@pytest.mark.requirement("RS-6.6-05")
async def test_the_interval_of_a_month_without_a_gap_costs_a_page_of_rows(tmp_path: Path) -> None:
    index = SqlFootageIndex.open(tmp_path / "index.db")
    recorder = LongRun(index, files=8640)
    for n in (0, 5000, 8639):
        (told,) = await recorder.searches.media_attributes([], START + n * FILE_NS + 1)
        assert (told.from_ns, told.until_ns) == (START, recorder.until_ns)
        assert told.tracks[0].attributes == VideoAttributes(
            video().width, video().height, "H264", 25.0, round((1 << 20) * 8 / 300 / 1000)
        )
    assert recorder.asked == 3
    assert recorder.rows <= 3 * 16
    await recorder.searches.stop()
    index.shut()


@pytest.mark.parametrize("growing", [True, False])
async def test_pictures_that_are_being_recorded_are_described_from_memory_and_older_ones_are_not(
    growing: bool, tmp_path: Path
) -> None:
    index = SqlFootageIndex.open(tmp_path / "index.db")
    recorder = LongRun(index, files=1, growing=growing)
    recorder._reader.head = lambda volume_id, path: _away()  # type: ignore
    (told,) = await recorder.searches.media_attributes([RecordingToken("rec-1")], START)
    assert at_the_instant(told, START)
    (track,) = told.tracks
    assert track.information.track_type is TrackType.VIDEO
    known = VideoAttributes(video().width, video().height, "H264", 0.0, None)
    assert track.attributes == (known if growing else None)
    await recorder.searches.stop()
    index.shut()


def _away() -> Any:
    raise StorageError("volume one is missing")
