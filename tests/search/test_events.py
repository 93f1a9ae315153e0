"""FindEvents: the history of recordings and the events of cameras, in both directions, page by page."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.model import topics, xpath
from nvr.model.coverage import GROWING
from nvr.model.errors import UnknownToken
from nvr.model.event import TOPIC_NAMESPACE, Event, PropertyOperation
from nvr.model.recorded import CameraEvent
from nvr.model.search import EventFilter, FoundEvent, SearchInterval, SearchScope, SearchState, SearchWish
from nvr.model.time import NS
from nvr.model.tokens import META001, VIDEO001, RecordingToken, TrackKey
from nvr.search.chosen import ChosenRecordings
from nvr.search.events import ASTRAY
from nvr.search.session import AHEAD
from nvr.storage.event_rows import EventRow
from tests.model.test_coverage import RUNS, joined
from tests.support.configuration import a_recording
from tests.support.search import NOW, VENDOR, Searched, a_message

SCOPE: dict[str | None, str] = {"tns1": TOPIC_NAMESPACE, "v": "http://vendor.example/topics"}


def topic_filter(text: str) -> EventFilter:
    return EventFilter((topics.parse(text, topics.CONCRETE_SET, SCOPE),))


def content_filter(text: str) -> EventFilter:
    return EventFilter(contents=(xpath.parse(text),))


def told(found: FoundEvent) -> tuple[int, str, str, object]:
    """Time, recording, what has happened to what, and the new value."""
    event = found.event
    if isinstance(event, Event):
        what = f"{event.topic.names[1]} {found.track or ''}".strip()
        return found.time_ns, found.recording, what, next(iter(event.data.values()))
    return found.time_ns, found.recording, f"camera {found.track}", event.message.data[0].value


# Directions and borders


@pytest.mark.requirement(
    "RS-6.2.1-01", "RS-6.9-12", "RS-6.9-13", "RS-6.17-04", "RS-6.17-05", "RS-6.17-06", "RS-6.17-07"
)
async def test_a_recording_begins_before_its_tracks_and_ends_behind_them_in_both_directions() -> None:
    recorder = Searched(a_recording("rec-1"))
    recorder.recorded("rec-1", VIDEO001, (10, 20), (30, 40))
    recorder.recorded("rec-1", META001, (10, 25))
    expected = [
        (10, "rec-1", "Recording", True),
        (10, "rec-1", "Track META001", True),
        (10, "rec-1", "Track VIDEO001", True),
        (20, "rec-1", "Track VIDEO001", False),
        (25, "rec-1", "Track META001", False),
        (25, "rec-1", "Recording", False),
        (30, "rec-1", "Recording", True),
        (30, "rec-1", "Track VIDEO001", True),
        (40, "rec-1", "Track VIDEO001", False),
        (40, "rec-1", "Recording", False),
    ]
    forward = await recorder.events(0, 100)
    assert [told(e) for e in forward] == expected
    assert await recorder.events(100, 0) == forward[::-1]
    assert all(e.event.operation is PropertyOperation.CHANGED for e in forward if isinstance(e.event, Event))


@pytest.mark.requirement("RS-6.2.1-04", "RS-6.2.1-05", "RS-6.2.1-02")
async def test_both_ends_belong_to_the_interval() -> None:
    recorder = Searched(a_recording("rec-1"))
    key = recorder.recorded("rec-1", META001, (10, 20))
    recorder.archive.add(key, 10, a_message())
    recorder.archive.add(key, 20, a_message("false"))
    forward = await recorder.events(10, 20)
    assert [told(e)[0] for e in forward] == [10, 10, 10, 20, 20, 20]
    assert await recorder.events(20, 10) == forward[::-1]
    assert await recorder.events(10) == forward
    assert [told(e)[0] for e in await recorder.events(20, 20)] == [20, 20, 20]
    assert await recorder.events(11, 19) == []
    assert await recorder.events(21) == []


@pytest.mark.requirement("RS-6.2.1-03", "RS-6.9-07")
async def test_the_newest_match_is_the_first_of_a_backward_search() -> None:
    recorder = Searched(a_recording("rec-1"))
    key = recorder.recorded("rec-1", META001, (10, 20), growing=True)
    for at in (12, 14, 16):
        recorder.archive.add(key, at, a_message(str(at)))
    (newest,) = await recorder.events(NOW, 0, max_matches=1)
    assert told(newest) == (16, "rec-1", "camera META001", "16")


@pytest.mark.requirement("RS-6.2.6-04")
async def test_bounds_far_from_any_data_are_bounds_like_others() -> None:
    recorder = Searched(a_recording("rec-1"))
    recorder.recorded("rec-1", VIDEO001, (NOW - 5, NOW))
    first, last = -(1 << 63) + 1, (1 << 63) - 1
    assert len(await recorder.events(first, last)) == len(await recorder.events(last, first)) == 4
    assert await recorder.events(last) == []


@pytest.mark.requirement("RS-6.17-13", "RS-6.17-14")
async def test_the_history_is_trimmed_with_the_data_and_begins_with_true() -> None:
    recorder = Searched(a_recording("rec-1"), a_recording("rec-2"))
    recorder.recorded("rec-1", VIDEO001, (10, 20), (30, 40))
    assert {told(e)[1] for e in await recorder.events(0, 100)} == {"rec-1"}, "without data there is no event"
    recorder.recorded("rec-1", VIDEO001, (35, 40))
    assert [told(e) for e in await recorder.events(0, 100)] == [
        (35, "rec-1", "Recording", True),
        (35, "rec-1", "Track VIDEO001", True),
        (40, "rec-1", "Track VIDEO001", False),
        (40, "rec-1", "Recording", False),
    ]


# Against a naive reference


@dataclass(frozen=True)
class World:
    runs: dict[TrackKey, list[tuple[int, int]]]
    growing: bool
    camera: list[tuple[TrackKey, int, str]]


KEYS = [TrackKey(RecordingToken(r), t) for r in ("rec-1", "rec-2") for t in (VIDEO001, META001)]
WORLDS = st.builds(
    World,
    st.fixed_dictionaries(dict.fromkeys(KEYS, RUNS)),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 36), st.sampled_from("ab")), max_size=12),
)


def reference(world: World, interval: SearchInterval) -> list[tuple[int, str, str, object]]:
    """Every event of a world that lies in the interval, by looking at everything."""
    found: list[tuple[tuple[object, ...], tuple[int, str, str, object]]] = []
    for recording in ("rec-1", "rec-2"):
        of_tracks: list[tuple[int, int]] = []
        for key, runs in world.runs.items():
            if key.recording != recording:
                continue
            ordered = [
                (a, GROWING if world.growing and i == len(runs) - 1 else b) for i, (a, b) in enumerate(sorted(runs))
            ]
            of_tracks += ordered
            stretches = joined(ordered)
            for a, b in stretches:
                found.append(((a, 2, recording, key.track), (a, recording, f"Track {key.track}", True)))
                found.append(((b, 4, recording, key.track), (b, recording, f"Track {key.track}", False)))
            for place, (of, at, value) in enumerate(world.camera):
                if of == key and any(a <= at <= b for a, b in stretches):
                    found.append(((at, 3, 0, place), (at, recording, f"camera {key.track}", value)))
        for a, b in joined(of_tracks):
            found.append(((a, 1, recording, ""), (a, recording, "Recording", True)))
            found.append(((b, 5, recording, ""), (b, recording, "Recording", False)))
    inside = [f for f in sorted(found) if f[1][0] != GROWING and interval.holds(f[1][0])]
    return [event for _, event in (inside[::-1] if interval.backward else inside)]


@pytest.mark.requirement(
    "RS-6.2.1-01", "RS-6.2.1-04", "RS-6.2.1-05", "RS-6.9-06", "RS-6.9-12", "RS-6.10-05", "RS-6.10-06"
)
@settings(max_examples=60, deadline=None)
@given(
    WORLDS, st.integers(-1, 37), st.one_of(st.none(), st.integers(-1, 37)),
    st.one_of(st.none(), st.integers(1, 5)), st.one_of(st.none(), st.integers(1, 9)), st.booleans(),
)  # fmt: skip
def test_every_search_finds_what_a_naive_reference_finds(
    world: World, start: int, end: int | None, page: int | None, max_matches: int | None, forgetful: bool
) -> None:
    recorder = Searched(a_recording("rec-1"), a_recording("rec-2"))
    recorder.forgetful = forgetful
    for key, runs in world.runs.items():
        recorder.recorded(*key, *sorted(runs), growing=world.growing)
    for place, (key, at, value) in enumerate(world.camera):
        recorder.archive.add(key, at, a_message(value), place=place)
    expected = reference(world, SearchInterval(start, end))[:max_matches]
    found = asyncio.run(recorder.events(start, end, page=page, max_matches=max_matches))
    assert [told(e) for e in found] == expected


# Filters and scope


@pytest.mark.requirement("RS-6.9-14", "RS-6.2.2-01", "RS-6.2.2-02", "RS-6.17-02", "RS-6.2.5-01")
async def test_topics_and_contents_choose_among_the_events() -> None:
    recorder = Searched(a_recording("rec-1"), a_recording("rec-2"))
    key = recorder.recorded("rec-1", META001, (10, 20))
    other = recorder.recorded("rec-2", META001, (10, 20))
    recorder.archive.add(key, 12, a_message("true"))
    recorder.archive.add(key, 13, a_message("false"))
    recorder.archive.add(key, 14, a_message("crossed", VENDOR, None))
    recorder.archive.add(other, 15, a_message("true"))

    async def times(wanted: EventFilter, scope: SearchScope | None = None) -> list[int]:
        return [e.time_ns for e in await recorder.events(0, 100, wanted=wanted, scope=scope)]

    assert await times(topic_filter("tns1:RecordingHistory//.")) == [10, 10, 10, 10, 20, 20, 20, 20]
    assert await times(topic_filter("tns1:RecordingHistory/Track/State")) == [10, 10, 20, 20]
    assert await times(topic_filter("tns1:VideoSource/MotionAlarm")) == [12, 13, 15]
    assert await times(topic_filter("tns1:VideoSource//.")) == [12, 13, 14, 15]
    assert await times(topic_filter("tns1:VideoSource/v:LineCrossed|tns1:Nothing")) == [14]
    assert await times(topic_filter("v:Nothing//.")) == []
    state = 'boolean(//tt:SimpleItem[@Name="{}" and @Value="{}"])'
    assert await times(content_filter(state.format("State", "true"))) == [12, 15]
    assert await times(content_filter(state.format("IsDataPresent", "true"))) == [10, 10]
    assert await times(content_filter('//Message/@UtcTime = "1970-01-01T00:00:00.000000013Z"')) == [13]
    both = EventFilter(
        topic_filter("tns1:VideoSource//.").topics, content_filter(state.format("State", "true")).contents
    )
    assert await times(both, SearchScope(recordings=(RecordingToken("rec-2"),))) == [15]
    odd = SearchScope(filter='boolean(//RecordingInformation[RecordingToken = "rec-2"])')
    assert await times(both, odd) == [15]


async def test_an_event_whose_footage_has_gone_is_not_found() -> None:
    recorder = Searched(a_recording("rec-1"))
    key = recorder.recorded("rec-1", META001, (10, 20))
    recorder.archive.add(key, 12, a_message())
    motion = topic_filter("tns1:VideoSource//.")
    assert len(await recorder.events(0, 100, wanted=motion)) == 1
    recorder.recorded("rec-1", META001, (15, 20))
    assert await recorder.events(0, 100, wanted=motion) == []


# While the search runs


@pytest.mark.requirement("RS-6.2.1-02")
async def test_footage_that_comes_while_the_search_runs_is_found() -> None:
    recorder = Searched(a_recording("rec-1"))
    recorder.recorded("rec-1", VIDEO001, *((n * 10, n * 10 + 5) for n in range(60)))
    token = await recorder.open(0)
    found = []
    for page in range(1000):
        state, some = await recorder.searches.event_results(token, SearchWish(maximum=40, wait_ns=NS))
        found += some
        if page == 0:
            key = recorder.recorded("rec-1", META001, (700, 710))
            recorder.archive.add(key, 705, a_message())
        if state is SearchState.COMPLETED:
            break
    assert [told(e)[2] for e in found][-5:] == [
        "Recording", "Track META001", "camera META001", "Track META001", "Recording",
    ]  # fmt: skip
    assert len(found) == 60 * 4 + 5


async def test_a_recording_that_is_deleted_while_the_search_runs_is_left() -> None:
    recorder = Searched(a_recording("rec-1"), a_recording("rec-2"))
    for recording in ("rec-1", "rec-2"):
        recorder.recorded(recording, VIDEO001, *((n * 10, n * 10 + 5) for n in range(60)))
    token = await recorder.open(0)
    _, first = await recorder.searches.event_results(token, SearchWish(maximum=100, wait_ns=NS))
    del recorder.configured[RecordingToken("rec-2")]
    state, rest = await recorder.searches.event_results(token, SearchWish(wait_ns=NS))
    assert state is SearchState.COMPLETED
    assert {e.recording for e in first} == {"rec-1", "rec-2"}
    assert {e.recording for e in rest[20:]} == {"rec-1"}


# Virtual events


@pytest.mark.requirement("RS-6.9-15", "RS-6.9-16", "RS-6.9-17", "RS-6.9-18", "RS-6.9-21", "RS-6.2.2-03", "RS-6.3.6-05")
@pytest.mark.requirement("RS-6.9-20")
async def test_virtual_events_tell_the_state_of_every_property_at_the_ends() -> None:
    recorder = Searched(a_recording("rec-1"), a_recording("rec-2"))
    recorder.recorded("rec-1", VIDEO001, (10, 30))
    of_tracks = [("Track VIDEO001", True), ("Track AUDIO001", False), ("Track META001", False)]
    nothing = [("Recording", False), *((name, False) for name, _ in of_tracks)]
    forward = await recorder.events(15, 20, start_state=True)
    assert [told(e)[2:] for e in forward] == [("Recording", True), *of_tracks, *nothing]
    assert {(e.time_ns, e.start_state) for e in forward} == {(15, True)}
    assert {(e.event.utc_ns, e.event.operation) for e in forward if isinstance(e.event, Event)} == {
        (15, PropertyOperation.INITIALIZED)
    }
    backward = await recorder.events(20, 5, start_state=True)
    assert [told(e) for e in backward] == [
        *((20, "rec-1", *e) for e in [("Recording", True), *of_tracks]),
        *((20, "rec-2", *e) for e in nothing),
        (10, "rec-1", "Track VIDEO001", True),
        (10, "rec-1", "Recording", True),
        *((5, r, *e) for r in ("rec-1", "rec-2") for e in nothing),
    ]
    assert [e.start_state for e in backward] == [True] * 8 + [False] * 2 + [True] * 8
    virtual = [e for e in backward if e.start_state and isinstance(e.event, Event)]
    assert [(e.event.utc_ns, e.event.operation) for e in virtual] == [
        (e.time_ns, PropertyOperation.INITIALIZED) for e in virtual
    ]
    assert not any(e.start_state for e in await recorder.events(20, 5))
    tracks = await recorder.events(15, 20, start_state=True, wanted=topic_filter("tns1:RecordingHistory/Track//."))
    assert {told(e)[2].split()[0] for e in tracks} == {"Track"}
    one = await recorder.events(15, 20, start_state=True, scope=SearchScope(recordings=(RecordingToken("rec-2"),)))
    assert {e.recording for e in one} == {"rec-2"}


@pytest.mark.requirement("RS-6.9-19")
async def test_virtual_events_tell_what_a_camera_said_last_while_it_could_tell() -> None:
    recorder = Searched(a_recording("rec-1"))
    key = recorder.recorded("rec-1", META001, (10, 30), (40, 60))
    recorder.archive.add(key, 12, a_message("true"))
    recorder.archive.add(key, 13, a_message("crossed", VENDOR, None))
    recorder.archive.add(key, 20, a_message("false"))
    motion = topic_filter("tns1:VideoSource//.")

    async def states(at_ns: int) -> list[tuple[int, object]]:
        found = await recorder.events(at_ns, at_ns, start_state=True, wanted=motion)
        events = [e for e in found if e.start_state and isinstance(e.event, CameraEvent)]
        assert {e.event.message.operation for e in events if isinstance(e.event, CameraEvent)} <= {
            PropertyOperation.INITIALIZED
        }
        assert {e.event.utc_ns for e in events} <= {at_ns}
        return [told(e)[::3] for e in events]

    assert await states(11) == []
    assert await states(12) == [(12, "true")]
    assert await states(19) == [(19, "true")]
    assert await states(25) == [(25, "false")]
    assert await states(35) == []
    assert await states(45) == [], "nobody knows what has changed in between"


# By the messages that have an item, or by streams

TRUE = 'boolean(//SimpleItem[@Name="State" and @Value="true"])'


@pytest.mark.parametrize(("start", "end"), [(0, None), (9000, 0)])
async def test_what_all_cameras_tell_is_sought_in_the_scope_alone(start: int, end: int | None) -> None:
    recorder = Searched(a_recording("rec-1"), a_recording("rec-2"))
    wanted = recorder.recorded("rec-1", META001, (0, 9000))
    other = recorder.recorded("rec-2", META001, (0, 9000))
    for at_ns in range(4000):
        recorder.archive.add(other, at_ns, a_message("true"))
    times = [1, 2000, 3998, 5000]
    for at_ns in times:
        recorder.archive.add(wanted, at_ns, a_message("true"))
    scope = SearchScope(recordings=(RecordingToken("rec-1"),))
    found = await recorder.events(start, end, wanted=content_filter(TRUE), scope=scope)
    assert [e.time_ns for e in found] == sorted(times, reverse=end == 0)
    assert recorder.archive.fetched < ASTRAY + 500


async def test_what_few_messages_tell_is_sought_by_them_in_one_recording_as_well() -> None:
    recorder = Searched(a_recording("rec-1"), a_recording("rec-2"))
    for name in ("rec-1", "rec-2"):
        key = recorder.recorded(name, META001, (0, 9000))
        for at_ns in range(500):
            recorder.archive.add(key, at_ns, a_message(f"{name} AB {at_ns}"))
        recorder.archive.add(key, 600, a_message("true"))
    scope = SearchScope(recordings=(RecordingToken("rec-1"),))
    found = await recorder.events(0, wanted=content_filter(TRUE), scope=scope)
    assert [e.time_ns for e in found] == [600]
    assert recorder.archive.fetched == 2


async def test_an_event_is_not_lost_whose_stream_comes_up_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Searched(a_recording("rec-1"), a_recording("rec-2"))
    first, second = (recorder.recorded(name, META001, (0, 9000)) for name in ("rec-1", "rec-2"))
    recorder.archive.add(first, 10, a_message("true"))
    events = recorder.archive.events

    def indexed_meanwhile(*how: object) -> list[EventRow]:
        if len(recorder.archive.rows) == 1:
            recorder.archive.add(second, 20, a_message("true"))
        return events(*how)  # type: ignore[arg-type]

    monkeypatch.setattr(recorder.archive, "events", indexed_meanwhile)
    found = await recorder.events(0, wanted=content_filter(TRUE))
    assert [(e.time_ns, e.recording) for e in found] == [(10, "rec-1"), (20, "rec-2")]


# Sessions


@pytest.mark.requirement("RS-6.15-05", "RS-6.15-06", "RS-6.15-07", "RS-6.9-08")
async def test_the_end_point_tells_how_far_the_search_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvr.search.steps.STEP_NS", 60 * NS)  # a step ends with its answer, on any machine
    recorder = Searched(a_recording("rec-1"))
    recorder.recorded("rec-1", VIDEO001, *((n * 10, n * 10 + 5) for n in range(1, 400)))
    token = await recorder.open(7, 8000)
    assert recorder.searches.end(token) == 7, "it has not begun"
    token = await recorder.open(7, 8000)
    await recorder.searches.event_results(token, SearchWish(maximum=40, wait_ns=NS))
    assert 7 < recorder.searches.end(token) < 4000
    token = await recorder.open(3000, 2990)
    await recorder.searches.event_results(token, SearchWish(maximum=0, wait_ns=NS))
    assert recorder.searches.end(token) == 2990
    with pytest.raises(UnknownToken):
        recorder.searches.end(token)


@pytest.mark.requirement("RS-6.1-02")
async def test_a_session_is_read_by_its_own_kind_and_its_own_user() -> None:
    recorder = Searched(a_recording("rec-1"))
    token = await recorder.open(0, user="one")
    with pytest.raises(UnknownToken):
        await recorder.searches.recording_results(token, SearchWish(user="one"))
    for call in (recorder.searches.state, recorder.searches.end):
        with pytest.raises(UnknownToken):
            call(token, "other")
    with pytest.raises(UnknownToken):
        await recorder.searches.event_results(token, SearchWish(user="other"))
    assert recorder.searches.state(token, "one") is SearchState.SEARCHING
    state, _ = await recorder.searches.event_results(token, SearchWish(user="one", wait_ns=NS))
    assert state is SearchState.COMPLETED


async def test_what_nobody_collects_runs_ahead_by_one_answer_and_expires() -> None:
    recorder = Searched(a_recording("rec-1"))
    recorder.recorded("rec-1", VIDEO001, *((n * 10, n * 10 + 5) for n in range(1, 2000)))
    tokens = [await recorder.open(0, user=str(n)) for n in range(20)]
    token = tokens[0]
    await recorder.searches.event_results(token, SearchWish(maximum=1, wait_ns=NS, user="0"))
    found = [session.search.found for _, session in recorder.searches._sessions.values()]
    assert all(len(f) <= AHEAD for f in found)
    recorder.clock_ns += 10 * NS
    assert len(recorder.searches) == 0


async def test_random_pages_of_a_long_history_repeat_and_lose_nothing() -> None:
    recorder = Searched(a_recording("rec-1"))
    recorder.recorded("rec-1", VIDEO001, *((n * 10, n * 10 + 5) for n in range(1000)))
    token = await recorder.open(0)
    chance = random.Random(1)
    found: list[FoundEvent] = []
    state = SearchState.SEARCHING
    while state is not SearchState.COMPLETED:
        wish = SearchWish(minimum=chance.randint(0, 50), maximum=chance.randint(1, 500), wait_ns=NS)
        state, some = await recorder.searches.event_results(token, wish)
        found += some
    assert len(found) == 4000
    assert [e.time_ns for e in found] == sorted(e.time_ns for e in found)


# Under a retention time


@pytest.mark.requirement("RS-6.17-14", "RS-6.2.1-05")
@pytest.mark.parametrize(("start", "end"), [(0, 1000), (1000, 0), (0, None)])
async def test_every_state_is_told_once_while_retention_moves_the_beginning_on(
    start: int, end: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit moves on with every look of the search."""
    monkeypatch.setattr("nvr.search.steps.STEP_NS", 0)
    limit_ns, timeline, refresh = 0, Searched.timeline, ChosenRecordings.refresh
    monkeypatch.setattr(Searched, "timeline", lambda recorder, key: timeline(recorder, key).since(limit_ns))
    recorder = Searched(a_recording("rec-1"))
    for track in (VIDEO001, META001):
        recorder.recorded("rec-1", track, (0, 500), (600, 700))

    async def later(chosen: ChosenRecordings) -> None:
        nonlocal limit_ns
        limit_ns += 7
        await refresh(chosen)

    monkeypatch.setattr(ChosenRecordings, "refresh", later)
    found = await recorder.events(start, end)
    assert limit_ns >= 70
    begin = [("Recording", True), ("Track META001", True), ("Track VIDEO001", True)]
    ended = [("Track META001", False), ("Track VIDEO001", False), ("Recording", False)]
    backward = end == 0
    assert [told(e)[2:] for e in (found[::-1] if backward else found)] == [*begin, *ended] * 2
    assert [e.time_ns for e in found] == sorted((e.time_ns for e in found), reverse=backward)
