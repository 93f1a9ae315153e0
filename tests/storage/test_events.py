"""The index of camera events against one in memory, and what a crash, a deletion and damage leave of it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvr.media.onvif_metadata import MetadataContent
from nvr.model.errors import StorageError
from nvr.model.event import PropertyOperation
from nvr.model.ptz import PanTilt, PtzVector, Zoom
from nvr.model.recorded import CameraEvent, RecordedItem, RecordedMessage
from nvr.model.search import SearchInterval
from nvr.model.tokens import META001, RecordingToken, TrackKey
from nvr.storage.event_rows import Documents, EventRow, IndexedFile, Place
from nvr.storage.event_writing import MAX_SOURCES
from nvr.storage.events import EventIndex
from nvr.storage.message_bodies import ReadMessages, body_of, message_of
from tests.support.recorded import an_empty_index
from tests.support.search import MOTION, VENDOR, ArchiveInMemory, a_message

ONE, TWO = (TrackKey(RecordingToken(f"rec-{n}"), META001) for n in (1, 2))


def told(time_ns: int, *messages: RecordedMessage, position: PtzVector | None = None) -> tuple[int, MetadataContent]:
    events = tuple(CameraEvent(m, time_ns + 1) for m in messages)
    return time_ns, MetadataContent(events, position, frozenset({"Event", "@Name"}))


def a_file(
    key: TrackKey,
    file_id: str,
    *contents: tuple[int, MetadataContent],
    begin: int = 0,
    upto: int = 100,
    done: bool = False,
) -> Documents:
    return Documents(key, file_id, min((t for t, _ in contents), default=0), upto, done, contents, begin)


@pytest.fixture
def index(tmp_path: Path):  # type: ignore[no-untyped-def]
    opened = EventIndex.open(tmp_path / "events.db")
    yield opened
    opened.shut()


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
ITEMS = st.lists(st.builds(RecordedItem, TEXT, TEXT), max_size=3).map(tuple)
DATA = st.lists(st.one_of(st.builds(RecordedItem, TEXT, TEXT), st.builds(RecordedItem, TEXT, element=TEXT)), max_size=3)
OPERATIONS = st.one_of(st.none(), st.sampled_from(PropertyOperation))
MESSAGES = st.builds(RecordedMessage, st.sampled_from([MOTION, VENDOR]), OPERATIONS, ITEMS, ITEMS, DATA.map(tuple))


@given(MESSAGES, MESSAGES)
def test_a_stored_message_is_the_same_and_only_equal_ones_share_their_text(
    one: RecordedMessage, other: RecordedMessage
) -> None:
    assert message_of(body_of(one)) == one
    assert (body_of(one) == body_of(other)) == (one == other)


FILES = st.lists(
    st.tuples(
        st.sampled_from([ONE, TWO]),
        st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abc"), st.sampled_from([MOTION, VENDOR])), max_size=5),
    ),
    max_size=5,
)
COUNT = itertools.count()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=FILES,
    start=st.integers(-1, 10),
    end=st.integers(-1, 10),
    each=st.integers(1, 4),
    after=st.one_of(st.none(), st.builds(Place, st.integers(0, 9), st.integers(0, 5), st.integers(-1, 5))),
    data=st.data(),
)
def test_pages_are_those_of_an_index_in_memory(
    files: list[tuple[TrackKey, list[tuple[int, str, tuple[tuple[str, str], ...]]]]],
    start: int,
    end: int,
    each: int,
    after: Place | None,
    data: st.DataObject,
    tmp_path: Path,
) -> None:
    index = an_empty_index(tmp_path / f"{next(COUNT)}.db")
    memory = ArchiveInMemory()
    for number, (key, events) in enumerate(files, 1):
        ordered = sorted(events, key=lambda e: e[0])
        contents = [told(t, a_message(value, topic)) for t, value, topic in ordered]
        index.add(a_file(key, f"file-{number}", *contents))
        for place, (t, value, topic) in enumerate(ordered):
            memory.add(key, t, a_message(value, topic), number, place)
    numbers = {(s.key, s.topic): s.id for s in index.streams()}
    ours = {s.id: numbers[s.key, s.topic] for s in memory.streams()}
    assert len(numbers) == len(ours)
    chosen = data.draw(st.lists(st.sampled_from(sorted(ours)), unique=True)) if ours else []
    interval = SearchInterval(start, end)

    def seen(rows: list[EventRow]) -> list[tuple[object, ...]]:
        return [(*r.where, index.message(r.message)) for r in rows]

    def expected(rows: list[EventRow]) -> list[tuple[object, ...]]:
        return [(*r.where, memory.message(r.message)) for r in rows]

    mine = [ours[c] for c in chosen]
    assert seen(index.events(mine, interval, after, each)) == expected(memory.events(chosen, interval, after, each))
    assert sorted(seen(index.last_events(mine, end)), key=repr) == sorted(
        expected(memory.last_events(chosen, end)), key=repr
    )
    found = index.messages_with("State", "a", 10) or []
    rows = index.events(found, interval, after, 100, by_message=True)
    every = memory.events(sorted(ours), interval, after, 100)
    assert seen(rows) == [r for r in expected(every) if r[3].data[0].value == "a"]  # type: ignore[attr-defined]
    index.shut()


def test_how_far_a_file_was_read_is_written_with_what_was_read(tmp_path: Path) -> None:
    index = EventIndex.open(tmp_path / "events.db")
    index.add(a_file(ONE, "f", told(5, a_message()), upto=70))
    index.add(a_file(ONE, "f", told(6, a_message("false")), told(6, a_message("x")), begin=70, upto=90, done=True))
    index.shut()
    index = EventIndex.open(tmp_path / "events.db")
    assert index.indexed(["f", "other"]) == {"f": IndexedFile("f", 90, True)}
    (stream,) = index.streams()
    assert (stream.key, stream.topic, stream.is_property) == (ONE, MOTION, True)
    rows = index.events([stream.id], SearchInterval(0, 10), None, 10)
    assert [(r.time_ns, r.place, r.utc_ns) for r in rows] == [(5, 0, 6), (6, 1, 7), (6, 2, 7)]
    assert index.words(["f", "other"]) == {"f": frozenset({"Event", "@Name"})}
    index.shut()


def test_a_file_that_goes_takes_its_events_positions_and_messages_with_it(index: EventIndex) -> None:
    there = PtzVector(PanTilt(0.1, -0.2), Zoom(0.3, "urn:mine"))
    index.add(a_file(ONE, "old", told(5, a_message("plate-1"), position=there), told(6, a_message("again"))))
    index.add(a_file(ONE, "new", told(6, a_message("again")), told(7, a_message("plate-2"), position=there)))
    (number,) = index.position_tracks()
    assert [p.time_ns for p in index.positions([number], SearchInterval(0, 10), None, 10)] == [5, 7]
    index.forget(["old", "never was"])
    (stream,) = index.streams()
    rows = index.events([stream.id], SearchInterval(0, 10), None, 10)
    assert [(r.time_ns, r.file) for r in rows] == [(6, 2), (7, 2)]
    assert [p.position for p in index.positions([number], SearchInterval(0, 10), None, 10)] == [there]
    assert index.messages_with("State", "plate-1", 5) == []
    (kept,) = index.messages_with("State", "again", 5) or []
    assert index.message(kept) == a_message("again")
    assert index.indexed(["old", "new"]).keys() == {"new"}
    # A message that has gone may come again.
    index.add(a_file(ONE, "third", told(9, a_message("plate-1"))))
    assert len(index.messages_with("State", "plate-1", 5) or []) == 1


def test_positions_come_in_both_directions_and_exactly_as_they_were(index: EventIndex) -> None:
    where = [PtzVector(PanTilt(n / 3, -n / 7, None), None) for n in range(4)]
    index.add(a_file(ONE, "f", *(told(n, position=p) for n, p in enumerate(where))))
    (number,) = index.position_tracks()
    forward = index.positions([number], SearchInterval(1, 9), None, 2)
    assert [(p.time_ns, p.position) for p in forward] == [(1, where[1]), (2, where[2])]
    backward = index.positions([number], SearchInterval(9, 1), Place(3, 1, 0), 9)
    assert [p.position for p in backward] == [where[2], where[1]]


def test_sources_without_number_share_a_stream_that_is_no_property(index: EventIndex) -> None:
    messages = [a_message(source=str(n)) for n in range(MAX_SOURCES + 50)]
    index.add(a_file(ONE, "f", *(told(n, m) for n, m in enumerate(messages))))
    listed = index.streams()
    assert len(listed) == MAX_SOURCES + 1
    assert [s.is_property for s in listed] == [True] * MAX_SOURCES + [False]
    assert len(index.events([listed[-1].id], SearchInterval(0, 1000), None, 1000)) == 50


def test_a_damaged_index_is_kept_aside_and_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "events.db"
    path.write_bytes(b"\xa5" * 5000)
    index = EventIndex.open(path)
    assert list(index.streams()) == []
    assert "made again from the footage" in caplog.text
    assert len(list(tmp_path.glob("events.db.damaged-*"))) == 1
    index.shut()


def test_the_tracks_may_be_gone_through_while_another_comes(index: EventIndex) -> None:
    index.add(a_file(ONE, "a", told(1, a_message())))
    before = index._known.tracks
    going = iter(before)
    index.add(a_file(TWO, "b", told(2, a_message())))
    assert list(going) == [ONE]
    assert set(index.position_tracks().values()) == {ONE, TWO}


def test_what_was_read_beside_another_reading_is_refused_and_leaves_nothing(index: EventIndex) -> None:
    """A thread that was left behind in front of a disk, and of which another has taken the place."""
    index.add(a_file(ONE, "a", told(1, a_message()), upto=50))
    late = a_file(ONE, "a", told(1, a_message()), told(2, a_message("late", VENDOR)), upto=60)
    with pytest.raises(StorageError, match="has changed meanwhile"):
        index.add(late)
    with pytest.raises(StorageError):
        index.add(a_file(ONE, "gone", told(9, a_message()), begin=50, upto=60))
    index.add(a_file(ONE, "a", told(2, a_message("false")), begin=50, upto=60, done=True))
    with pytest.raises(StorageError):
        index.add(a_file(ONE, "a", begin=60, upto=60))
    assert index.indexed(["a", "gone"]) == {"a": IndexedFile("a", 60, True)}
    assert [s.topic for s in index.streams()] == [MOTION]
    rows = index.events([s.id for s in index.streams()], SearchInterval(0, 9), None, 9)
    assert [r.time_ns for r in rows] == [1, 2]


def test_messages_are_remembered_in_so_many_bytes_however_long_each_is() -> None:
    known = ReadMessages(100_000)
    long, short = a_message("x" * 40_000), a_message("y")
    for number in range(50):
        known.put(number, long, body_of(long))
    assert (len(known), known.get(49), known.get(40)) == (2, long, None)
    for number in range(1000):
        known.put(number, short, body_of(short))
    assert 20 < len(known) < 80
    assert 90_000 < known.size <= 100_000
    known.put(999, a_message("x" * 200_000), body_of(a_message("x" * 200_000)))
    assert (len(known), known.size) == (0, 0), "one that has no room is not kept"
    known.put(1, short, body_of(short))
    known.forget(1)
    known.forget(2)
    assert (len(known), known.size) == (0, 0)
