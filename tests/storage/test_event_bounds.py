"""What the index of camera events keeps stays bounded, and goes with the last thing that uses it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvr.media.onvif_metadata import ANY_WORD, MetadataContent
from nvr.model.errors import StorageError
from nvr.model.event import TOPIC_NAMESPACE, PropertyOperation
from nvr.model.ptz import PanTilt, PtzVector
from nvr.model.recorded import CameraEvent
from nvr.model.search import SearchInterval
from nvr.model.tokens import META001, RecordingToken, TrackKey
from nvr.model.topics import Topic
from nvr.storage import event_forgetting, event_writing
from nvr.storage.event_rows import OTHER_TOPICS, Documents
from nvr.storage.events import EventIndex
from nvr.storage.schema import events as tables
from tests.support.recorded import an_empty_index
from tests.support.search import MOTION, VENDOR, a_message

ONE, TWO = (TrackKey(RecordingToken(f"rec-{n}"), META001) for n in (1, 2))
EVER = SearchInterval(0, 1 << 62)
Content = tuple[int, MetadataContent]


@pytest.fixture
def index(tmp_path: Path):  # type: ignore[no-untyped-def]
    opened = an_empty_index(tmp_path / "events.db")
    yield opened
    opened.shut()


def a_topic(number: int) -> Topic:
    return (TOPIC_NAMESPACE, "Device"), ("", f"T{number}")


def told(time_ns: int, value: str, topic: Topic = MOTION, *, source: str = "V1", words: str = "Event") -> Content:
    message = a_message(value, topic, PropertyOperation.CHANGED, source)
    position = PtzVector(PanTilt(0.5, 0.5))
    return time_ns, MetadataContent((CameraEvent(message, time_ns),), position, frozenset(words.split()))


def add(index: EventIndex, key: TrackKey, file_id: str, *contents: Content, upto: int = 1) -> None:
    known = index.indexed([file_id]).get(file_id)
    begin = 0 if known is None else known.upto
    index.add(Documents(key, file_id, min(t for t, _ in contents), upto, False, contents, begin))


def rows(index: EventIndex) -> dict[str, int]:
    """The number of rows of each table."""
    with index._database.read() as connection:
        return {
            t.name: connection.execute(sa.select(sa.func.count()).select_from(t)).scalar_one()
            for t in tables.sorted_tables
        }


def everything(index: EventIndex) -> list[tuple[object, ...]]:
    """All events as they are told, without the numbers that they have in this index."""
    streams = {s.id: s for s in index.streams()}
    found = index.events(sorted(streams), EVER, None, 1000)
    return sorted((streams[r.stream].key, r.time_ns, str(index.message(r.message))) for r in found)


FILES = st.lists(
    st.tuples(
        st.sampled_from([ONE, TWO]),
        st.lists(
            st.builds(
                told, st.integers(0, 9), st.sampled_from("abc"), st.sampled_from([MOTION, VENDOR, a_topic(1)]),
                source=st.sampled_from("vw"), words=st.sampled_from(["Event", "Object", "Event Object"]),
            ),
            min_size=1, max_size=4,
        ),
        st.booleans(),
    ),
    max_size=5,
)  # fmt: skip
COUNT = itertools.count()


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=FILES)
def test_what_is_left_when_files_go_is_what_an_index_of_the_others_would_hold(
    files: list[tuple[TrackKey, list[Content], bool]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few streams to a track, in slices of two, before and behind a restart."""
    monkeypatch.setattr(event_writing, "MAX_STREAMS", 4)
    monkeypatch.setattr(event_writing, "MAX_SOURCES", 2)
    path = tmp_path / f"{next(COUNT)}.db"
    index, other = an_empty_index(path), an_empty_index(tmp_path / f"{next(COUNT)}.db")
    for number, (key, contents, stays) in enumerate(files):
        for one in contents:  # a vocabulary that grows
            add(index, key, f"file-{number}", one)
            if stays:
                add(other, key, f"file-{number}", one)
    monkeypatch.setattr(event_forgetting, "SLICE", 2)
    index.forget([f"file-{number}" for number, (*_, stays) in enumerate(files) if not stays])
    for _ in range(2):
        assert everything(index) == everything(other)
        ours, theirs = rows(index), rows(other)
        # What came first has streams of its own, and keeps them as long as it is there.
        assert {**ours, "streams": 0} == {**theirs, "streams": 0}
        assert len(index.streams()) == ours["streams"]
        assert set(index.tracks()) == {key for key, _, stays in files if stays}
        index.shut()
        index = EventIndex.open(path)
    for key in (ONE, TWO):
        assert sum(s.key == key for s in index.streams()) <= 4
    index.shut()
    other.shut()


def test_events_of_further_topics_and_sources_share_streams_and_are_counted(
    index: EventIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_writing, "MAX_STREAMS", 4)
    for start in (0, 10):  # in one transaction, and over several
        add(index, ONE, "f", *(told(n, str(n), a_topic(n)) for n in range(start, start + 10)))
    add(index, TWO, "g", told(1, "of another track"))
    assert [s.topic for s in index.streams()] == [a_topic(0), a_topic(1), a_topic(2), OTHER_TOPICS, MOTION]
    assert [s.is_property for s in index.streams()] == [True, True, True, False, True]
    assert len(everything(index)) == 21
    assert index.crowded == 17


def test_a_file_of_too_many_words_holds_every_word(index: EventIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_writing, "MAX_WORDS", 20)
    for n in range(30):
        add(index, ONE, "f", told(n, "x", words=f"Element{n} space=urn:{n}"))
    words = index.words(["f"], whole=False)["f"]
    assert ANY_WORD in words
    assert {w for w in words if w != ANY_WORD} <= {f"space=urn:{n}" for n in range(30)}
    assert len(words) <= event_writing.MAX_SPACES + 1
    assert rows(index)["vocabularies"] == 1, "those that came before have gone"
    monkeypatch.setattr(event_writing, "MAX_TEXT", 1000)
    add(index, ONE, "g", told(40, "x", words="x" * 2000))
    assert index.words(["g"], whole=False)["g"] == {ANY_WORD}


def test_no_number_is_given_twice(index: EventIndex) -> None:
    """A search that stands at what has gone must not take for it what comes."""
    seen: set[tuple[str, int]] = set()
    for n in range(3):
        add(index, ONE, "f", told(n, str(n), a_topic(n)))
        (stream,) = index.streams()
        (row,) = index.events([stream.id], EVER, None, 9)
        (track,) = index.position_tracks()
        new = {("stream", row.stream), ("message", row.message), ("file", row.file), ("track", track)}
        assert not new & seen
        seen |= new
        index.forget(["f"])
        assert index.message(row.message) is None
        assert rows(index) == dict.fromkeys(rows(index), 0)


def test_a_crash_between_two_slices_leaves_the_file_to_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = EventIndex.open(tmp_path / "events.db")
    add(index, ONE, "f", *(told(n, str(n)) for n in range(6)))
    monkeypatch.setattr(event_forgetting, "SLICE", 2)
    assert not index._forget_some("f")
    index.shut()
    index = EventIndex.open(tmp_path / "events.db")
    assert [file_id for file_id, _ in index.files(ONE)] == ["f"]
    assert len(everything(index)) == 4
    index.forget(["f"])
    assert rows(index) == dict.fromkeys(rows(index), 0)
    index.shut()


def test_a_slice_that_fails_forgets_nothing_that_is_still_there(
    index: EventIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(index, ONE, "f", told(1, "a"))

    def fails(*_: object) -> None:
        raise sa.exc.OperationalError("", {}, Exception("disk I/O error"))

    monkeypatch.setattr(event_forgetting, "forget_vocabulary", fails)
    with pytest.raises(StorageError, match="disk I/O error"):
        index.forget(["f"])
    monkeypatch.undo()
    assert len(index.streams()) == 1
    add(index, ONE, "f", told(2, "a"))
    assert [row[1] for row in everything(index)] == [1, 2]


def test_a_closed_index_refuses(tmp_path: Path) -> None:
    index = EventIndex.open(tmp_path / "events.db")
    index.shut()
    for use in (
        lambda: add(index, ONE, "f", told(1, "a")),
        lambda: index.forget(["f"]),
        lambda: index.events([1], EVER, None, 1),
    ):
        with pytest.raises(StorageError, match=r"events\.db is closed"):
            use()
