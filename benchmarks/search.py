"""Searches at size: a month of events of a hundred cameras, recordings by XPath, and what an insertion costs.

.venv/bin/python -m benchmarks.search [--events 1000000 10000000] [--recordings 100] [--without-files]

The events are generated straight into the tables; everything else goes the way that requests go, but for SOAP. Runs of
the tracks are in memory, as storage has them. The last part has the real storage below: the index of a million track
files of 40 cameras (that of benchmarks.startup), with the first number of events.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import resource
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from benchmarks import startup
from nvr.media.onvif_metadata import MetadataContent, read
from nvr.model import topics, xpath
from nvr.model.errors import UnknownToken
from nvr.model.event import TOPIC_NAMESPACE
from nvr.model.job import JobState, RecordingJob, SourceReference
from nvr.model.recorded import CameraEvent, RecordedItem, RecordedMessage
from nvr.model.recording import Recording, RecordingConfiguration, RecordingSourceInformation, default_tracks
from nvr.model.search import EventFilter, SearchInterval, SearchLimits, SearchScope, SearchState, SearchWish
from nvr.model.time import NS
from nvr.model.timeline import Extent, GapReason, Run, Timeline
from nvr.model.tokens import META001, JobToken, RecordingToken, SearchToken, TrackKey
from nvr.search.sessions import SearchSessions
from nvr.storage.engine import StorageEngine
from nvr.storage.event_rows import Documents
from nvr.storage.events import EventIndex
from nvr.storage.footage import Footage
from nvr.storage.index import SqlFootageIndex
from nvr.storage.settings import StorageSettings, VolumeSettings
from tests.support.metadata import a_document, a_fragment, an_object
from tests.support.recorded import KEY, opened

START = 1_767_225_600 * NS
MONTH = 30 * 86_400 * NS
RUNS = 60
MOTION, CROSSED, PLATE = (
    ((TOPIC_NAMESPACE, "RuleEngine"), ("", name)) for name in ("CellMotionDetector", "LineCounter", "LicensePlate")
)
PLATES = 100
"""One event of so many is of a licence plate, each of another."""


class Recorder:
    """Recordings with a month of footage, in memory."""

    def __init__(self, number: int) -> None:
        self._recordings = {}
        for n in range(number):
            source = RecordingSourceInformation(f"urn:{n}", f"Camera {n}", "Basement" if n % 2 else "Roof", "", "")
            recording = Recording(RecordingToken(f"rec-{n:032x}"), RecordingConfiguration(source), default_tracks())
            self._recordings[recording.token] = recording
        length = MONTH // RUNS
        runs = (
            Run(str(r), START + r * length, START + (r + 1) * length - NS, GapReason.SOURCE_LOST) for r in range(RUNS)
        )
        self._timeline = Timeline.of(runs)
        self._extent = self._timeline.extent  # storage has it ready as well

    def add(self, recording: Recording) -> None:
        self._recordings[recording.token] = recording

    def recordings(self) -> list[Recording]:
        return list(self._recordings.values())

    def recording(self, token: RecordingToken) -> Recording:
        if token not in self._recordings:
            raise UnknownToken("Recording", token)
        return self._recordings[token]

    def jobs(self) -> list[RecordingJob]:
        return []

    def job_state(self, token: JobToken) -> JobState:
        raise UnknownToken("RecordingJob", token)

    def has_source(self, source: SourceReference) -> bool:
        return False

    def extent(self, key: TrackKey) -> Extent | None:
        return self._extent

    def timeline(self, key: TrackKey) -> Timeline:
        return self._timeline

    def configuration(self, key: TrackKey) -> None:
        """Without files."""

    def footage(self, key: TrackKey) -> Footage:
        raise NotImplementedError


def a_message(topic: topics.Topic, value: str) -> RecordedMessage:
    return RecordedMessage(topic, None, (RecordedItem("Source", "V1"),), data=(RecordedItem("Value", value),))


def fill(path: Path, events: int, recordings: list[Recording], start_ns: int = START) -> None:
    """Streams and messages the ordinary way, one event of each; the rest of the events in bulk, over a month."""
    index = EventIndex.open(path)
    common = [a_message(topic, value) for topic in (MOTION, CROSSED) for value in ("true", "false")]
    for recording in recordings:
        told = tuple(CameraEvent(m, START) for m in (*common, a_message(PLATE, "none")))
        key = TrackKey(recording.token, META001)
        index.add(Documents(key, recording.token[4:], START, 1, True, ((START, MetadataContent(told)),)))
    plates = [a_message(PLATE, f"AB {n}") for n in range(0, events, PLATES)]
    for at in range(0, len(plates), 2000):
        told = tuple(CameraEvent(m, START) for m in plates[at : at + 2000])
        key = TrackKey(recordings[0].token, META001)
        index.add(Documents(key, f"plates-{at}", START, 1, True, ((START, MetadataContent(told)),)))
    numbers = {(s.key.recording, s.topic): s.id for s in index.streams()}
    index.shut()
    with sqlite3.connect(path) as connection:
        messages = [n for (n,) in connection.execute("SELECT id FROM messages ORDER BY id")]
        connection.execute("DELETE FROM camera_events")
        connection.executemany(
            "INSERT INTO camera_events (stream, time_ns, file, place, message, utc_ns) VALUES (?, ?, 1, ?, ?, ?)",
            rows(events, recordings, numbers, messages, start_ns),
        )
    connection.close()


def rows(
    events: int,
    recordings: list[Recording],
    numbers: dict[tuple[str, topics.Topic], int],
    messages: list[int],
    start_ns: int,
) -> Iterator[tuple[int, ...]]:
    step = MONTH // events
    for n in range(events):
        recording = recordings[n * 7919 % len(recordings)].token
        at_ns = start_ns + n * step
        if n % PLATES:
            topic, message = (MOTION, messages[n % 2]) if n % 3 else (CROSSED, messages[2 + n % 2])
        else:
            topic, message = PLATE, messages[5 + n // PLATES]
        yield numbers[recording, topic], at_ns, n % 1000, message, at_ns


async def timed(
    what: str, work: Callable[[], Awaitable[object]], repeat: int = 9, goes_on: Callable[[], bool] = lambda: True
) -> None:
    times = []
    for _ in range(repeat):
        if not goes_on():
            break
        start = time.perf_counter()
        await work()
        times.append((time.perf_counter() - start) * 1000)
    print(f"{what:62} {statistics.median(times):9.2f} ms   worst {max(times):9.2f} ms", flush=True)


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


async def measure_events(events: int, number: int, directory: Path) -> None:
    recorder = Recorder(number)
    path = directory / f"{events}.db"
    began = time.perf_counter()
    await asyncio.to_thread(fill, path, events, recorder.recordings())
    print(f"\n{events} events, {path.stat().st_size / 1e6:.0f} MB, generated in {time.perf_counter() - began:.0f} s")
    index = await asyncio.to_thread(EventIndex.open, path)
    searches = SearchSessions(recorder, recorder, archive=index)
    await measure_kinds(searches, recorder.recordings(), events, START)
    await measure_insertion(index, recorder)
    await asyncio.to_thread(index.shut)


async def measure_kinds(searches: SearchSessions, recordings: list[Recording], events: int, start_ns: int) -> None:
    before = resident_mb()
    scope = SearchScope(recordings=(recordings[7 % len(recordings)].token,))
    prefix = {"tns1": TOPIC_NAMESPACE}
    history = EventFilter((topics.parse("tns1:RecordingHistory//.", topics.CONCRETE_SET, prefix),))
    motion = EventFilter((topics.parse("tns1:RuleEngine/CellMotionDetector", topics.CONCRETE_SET, prefix),))
    item = '//SimpleItem[@Name="{}" and @Value="{}"]'
    plate = EventFilter(contents=(xpath.parse(f"boolean({item.format('Value', f'AB {events // 2}')})"),))
    value = EventFilter(motion.topics, (xpath.parse('boolean(//SimpleItem[contains(@Value, "tru")])'),))
    common = EventFilter(contents=(xpath.parse(f"boolean({item.format('Value', 'true')})"),))
    middle, end = start_ns + MONTH // 2, start_ns + MONTH
    for what, interval, chosen, wanted in (
        ("everything, forward from the middle", SearchInterval(middle), SearchScope(), EventFilter()),
        ("everything, backward from the end", SearchInterval(end, start_ns), SearchScope(), EventFilter()),
        ("the history alone", SearchInterval(start_ns), SearchScope(), history),
        ("one topic of all", SearchInterval(middle), SearchScope(), motion),
        ("one topic, by content", SearchInterval(middle), SearchScope(), value),
        ("one licence plate in the month", SearchInterval(start_ns), SearchScope(), plate),
        ("one value that all tell, of one recording", SearchInterval(middle), scope, common),
        ("everything of one recording", SearchInterval(middle), scope, EventFilter()),
    ):
        await measure_search(what, searches, interval, chosen, wanted)
    print(f"memory: {resident_mb() - before:.0f} MB more")


async def measure_files(events: int, directory: Path) -> None:
    """The same with real storage: a million rows of track files, whose runs are loaded as at a start."""
    began = time.perf_counter()
    cameras, days = 40, 30
    count = await asyncio.to_thread(startup.make, directory, cameras, days, 0, sparse=False)
    files = await asyncio.to_thread(SqlFootageIndex.open, directory / "index.db")
    storage = StorageEngine(
        StorageSettings((VolumeSettings(directory / "volumes" / "default", 0),), directory / "volumes.json"), files
    )
    await storage.start(recover=False)
    recorder = Recorder(cameras)
    path = directory / "events.db"
    start_ns = time.time_ns() - MONTH
    await asyncio.to_thread(fill, path, events, recorder.recordings(), start_ns)
    print(f"\n{count} track files, {events} events, made in {time.perf_counter() - began:.0f} s")
    archive = await asyncio.to_thread(EventIndex.open, path)
    searches = SearchSessions(recorder, storage, archive=archive, files=files)
    await measure_kinds(searches, recorder.recordings(), events, start_ns)
    await timed("GetRecordingSummary", searches.summary)
    await storage.stop()
    await asyncio.to_thread(archive.shut)
    await asyncio.to_thread(files.shut)


async def measure_search(
    what: str, searches: SearchSessions, interval: SearchInterval, chosen: SearchScope, wanted: EventFilter
) -> None:
    wish = SearchWish(maximum=100)
    opened: list[SearchToken] = []

    async def first() -> None:
        opened.append(await searches.find_events(interval, chosen, wanted, False, SearchLimits(None, 60 * NS)))
        await searches.event_results(opened[-1], wish)

    left = 0

    async def following() -> None:
        nonlocal left
        state, _ = await searches.event_results(opened[-1], wish)
        if state is SearchState.COMPLETED:  # among few events there are not twenty pages: the search before it goes on
            opened.pop()
            left -= 1

    await timed(f"first 100: {what}", first)
    left = len(searches)
    if left:  # else the first answer was the whole
        await timed(f"next 100: {what}", following, 20, lambda: left > 0)
        for token in opened[:left]:
            searches.end(token)


async def measure_insertion(index: EventIndex, recorder: Recorder) -> None:
    """As the indexer does it: parse documents with one event each, a transaction a second and track."""
    document = (
        b'<tt:MetadataStream xmlns:tt="http://www.onvif.org/ver10/schema" '
        b'xmlns:wsnt="http://docs.oasis-open.org/wsn/b-2" '
        b'xmlns:tns1="http://www.onvif.org/ver10/topics"><tt:Event><wsnt:NotificationMessage><wsnt:Topic>'
        b"tns1:RuleEngine/CellMotionDetector</wsnt:Topic><wsnt:Message>"
        b'<tt:Message UtcTime="2026-02-01T00:00:00Z"><tt:Source><tt:SimpleItem Name="Source" Value="V1"/></tt:Source>'
        b'<tt:Data><tt:SimpleItem Name="Value" Value="true"/></tt:Data></tt:Message></wsnt:Message>'
        b"</wsnt:NotificationMessage></tt:Event></tt:MetadataStream>"
    )
    tracks, each = min(32, len(recorder.recordings())), 63

    inserted = itertools.count()

    def insert() -> None:
        upto = next(inserted)
        for n in range(tracks):
            key = TrackKey(recorder.recordings()[n].token, META001)
            told = tuple((START + MONTH + m * NS, read(document, START)) for m in range(each))
            index.add(Documents(key, f"new-{n}", START + MONTH, upto + 1, False, told, upto))

    began = time.process_time()
    await timed(f"insertion of {tracks * each} events of {tracks} tracks", lambda: asyncio.to_thread(insert), 5)
    print(f"insertion: {(time.process_time() - began) / 5 / (tracks * each) * 1e6:.0f} us of CPU an event")


async def measure_recordings(number: int) -> None:
    recorder = Recorder(number)
    searches = SearchSessions(recorder, recorder)
    wanted = 'boolean(//Source[Location = "Basement"]) and boolean(//Track[TrackType = "Video"])'

    async def find(scope: SearchScope) -> None:
        token = searches.find_recordings(scope, SearchLimits(None, 60 * NS))
        await searches.recording_results(token, SearchWish())

    print(f"\n{number} recordings")
    await timed("FindRecordings by XPath, all results", lambda: find(SearchScope(filter=wanted)))
    await timed("FindRecordings, all results", lambda: find(SearchScope()))
    await timed("GetRecordingSummary", searches.summary)


async def measure_metadata(documents: int, directory: Path) -> None:
    """A search that has to read every document, each of which holds two objects."""
    async with opened(directory) as store:
        for at in range(0, documents, 100):
            told = [
                (at_ns, a_document(an_object("Human"), an_object("Vehicle")))
                for at_ns in range(START + at * NS, START + (at + 100) * NS, NS)
            ]
            await store.record(a_fragment(told))
        await store.indexer.catch_up()
        recorder = Recorder(0)
        recorder.add(Recording(KEY.recording, RecordingConfiguration(), default_tracks()))
        searches = SearchSessions(recorder, store.storage, archive=store.index, files=store.files)
        wanted = xpath.parse('boolean(//Object[@ObjectId = "nobody"])')
        began, cpu = time.perf_counter(), time.process_time()
        token = await searches.find_metadata(SearchInterval(START), SearchScope(), wanted, SearchLimits(None, 60 * NS))
        state, found = await searches.metadata_results(token, SearchWish())
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        assert (state, found) == (SearchState.COMPLETED, [])
        print(f"\nFindMetadata that reads {documents} documents: {took:.1f} s, {documents / took:.0f} a second,")
        print(f"{cpu / documents * 1e6:.0f} us of CPU a document (load {os.getloadavg()[0]:.1f})")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search",
        description="Searches at size. Ten million events take 0.9 GB in the directory of temporary files (TMPDIR). "
        "For the figures of docs/design/search.md nothing else may run beside it.",
    )
    parser.add_argument(
        "--events",
        type=int,
        nargs="+",
        default=[1_000_000, 10_000_000],
        help="sizes of the index of camera events, one after the other (default: 1000000 10000000)",
    )
    parser.add_argument("--recordings", type=int, default=100, help="among which they are spread (default: 100)")
    parser.add_argument(
        "--without-files", action="store_true", help="leave out the last part, over a million track files"
    )
    options = parser.parse_args()
    if min(options.events) < 2 * PLATES or options.recordings < 1:
        parser.error(f"at least {2 * PLATES} events and one recording")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    asyncio.run(measure_recordings(1000))
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measure_metadata(20_000, Path(directory)))
    for events in options.events:
        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(measure_events(events, options.recordings, Path(directory)))
    if not options.without_files:
        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(measure_files(options.events[0], Path(directory)))


if __name__ == "__main__":
    main()
