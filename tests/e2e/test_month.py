"""A video management system draws the time line of a month: a daemon on footage of thirty days, asked by a client that
was made from the official WSDLs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from nvr.data_directory import DataDirectory
from nvr.media.codecs.metadata import MetadataConfiguration
from nvr.media.unit import Fragment, Sample
from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.model.tokens import META001, VIDEO001, RecordingToken, TrackKey
from nvr.storage.engine import StorageEngine
from nvr.storage.index import SqlFootageIndex
from tests.e2e.test_profile_g import history_filter
from tests.e2e.test_retention import metric
from tests.support.daemon import DaemonProcess, run_nvr
from tests.support.flow import Flow, until
from tests.support.footage import video
from tests.support.metadata import a_document, a_position, an_event, an_object
from tests.support.volumes import settings_in

pytestmark = pytest.mark.timeout(120)

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 30
WORK = timedelta(hours=8), timedelta(hours=8, seconds=40)
"""Recorded on each day but every seventh, with motion from the 10th to the 20th second, and a person in the 15th."""
TOPIC = "tns1:VideoSource/MotionAlarm"


def at(day: int, second: int) -> datetime:
    return BEGIN + timedelta(days=day) + WORK[0] + timedelta(seconds=second)


def ns(when: datetime) -> int:
    return round((when - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * NS


def recorded_days() -> list[int]:
    return [day for day in range(DAYS) if day % 7 != 6]


def documents(day: int) -> Iterator[Sample]:
    for second in range(0, 40, 5):
        when_ns = ns(at(day, second))
        parts = []
        if second in (0, 10, 20):
            data = {"State": "true" if second == 10 else "false"}
            parts.append(an_event(when_ns, TOPIC, data=data, operation="Initialized" if second == 0 else "Changed"))
        if second in (15, 25):
            parts += [an_object("Human" if second == 15 else "Vehicle"), a_position(0.5 if second == 15 else -0.5)]
        yield Sample(when_ns, a_document(*parts), True)


async def record_a_month(data: Path, recording: RecordingToken) -> None:
    directory = DataDirectory(data)
    index = await asyncio.to_thread(SqlFootageIndex.open, directory.index)
    storage = StorageEngine(settings_in(data / "volumes"), index)
    await storage.start()
    pictures = storage.recorder(TrackKey(recording, VIDEO001), TrackType.VIDEO)
    metadata = storage.recorder(TrackKey(recording, META001), TrackType.METADATA)
    for day in recorded_days():
        start_ns, end_ns = ns(at(day, 0)), ns(at(day, 40))
        assert pictures.append(Fragment(video(), [Sample(start_ns, b"\0\0\0\1\x65", True)], end_ns))
        assert metadata.append(Fragment(MetadataConfiguration(), list(documents(day)), end_ns))
        for recorder in (pictures, metadata):
            recorder.end_run(GapReason.JOB_STOPPED)
    await storage.stop()
    await asyncio.to_thread(index.shut)


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Flow, str]]:
    """The camera is one that nobody answers for: nothing is added to what has been recorded. The index of what it has
    told is lost, and the disk is not mounted at the start: all that follows is found because it is read behind both.
    """
    data = tmp_path_factory.mktemp("month") / "data"
    data.mkdir()
    added = run_nvr("camera", "add", "gate", "rtsp://127.0.0.1:9/stream", "--data", str(data))
    recording = added.stdout.split()[1]
    asyncio.run(record_a_month(data, RecordingToken(recording)))
    root, elsewhere = data / "volumes" / "default", data / "unmounted"
    with DaemonProcess(data) as daemon:  # from now on the volume is known
        until(lambda: metric(daemon, "nvr_metadata_documents_total") == 8 * len(recorded_days()), "the index")
    DataDirectory(data).events.unlink()
    root.rename(elsewhere)
    with DaemonProcess(data) as daemon:
        until(lambda: metric(daemon, "nvr_metadata_tracks_missed") == 1, "the index knows what it lacks")
        elsewhere.rename(root)
        until(lambda: metric(daemon, "nvr_metadata_documents_total") == 8 * len(recorded_days()), "the index")
        until(lambda: metric(daemon, "nvr_metadata_tracks_behind") == 0, "the index")
        yield Flow(daemon), recording


def collected(results: Any, token: str) -> list[Any]:
    """Everything, page by page, as long as it takes."""
    found: list[Any] = []
    while True:
        answer = results(SearchToken=token, MaxResults=40, WaitTime="PT20S")
        found += answer.Result
        if answer.SearchState == "Completed":
            return found


def motion_filter() -> dict[str, Any]:
    topic, content = (
        f'<wsnt:{name} xmlns:wsnt="http://docs.oasis-open.org/wsn/b-2" xmlns:tns1="http://www.onvif.org/ver10/topics" '
        f'Dialect="{dialect}">{expression}</wsnt:{name}>'
        for name, dialect, expression in (
            ("TopicExpression", "http://www.onvif.org/ver10/tev/topicExpression/ConcreteSet", "tns1:VideoSource//."),
            (
                "MessageContent",
                "http://www.onvif.org/ver10/tev/messageContentFilter/ItemFilter",
                'boolean(//tt:SimpleItem[@Name="State" and @Value="true"])',
            ),
        )
    )
    return {"_value_1": [etree.fromstring(topic), etree.fromstring(content)]}


def events(
    flow: Flow, start: datetime, end: datetime, wanted: dict[str, Any] | None = None, *, start_state: bool = False
) -> list[tuple[datetime, str, str, bool]]:
    token = flow.search.FindEvents(
        StartPoint=start, EndPoint=end, Scope={}, SearchFilter=wanted or {}, IncludeStartState=start_state,
        KeepAliveTime="PT60S",
    )  # fmt: skip
    found = []
    for result in collected(flow.search.GetEventSearchResults, token):
        item = result.Event.Message._value_1.Data.SimpleItem[-1]
        found.append((result.Time, result.TrackToken or "", f"{item.Name}={item.Value}", result.StartStateEvent))
    return found


@pytest.mark.requirement("RS-6.4-03", "RS-6.7-06", "RS-6.18-04")
def test_the_recordings_with_pictures_and_their_extent_are_found(month: tuple[Flow, str]) -> None:
    flow, recording = month
    summary = flow.search.GetRecordingSummary()
    extent = at(0, 0), at(recorded_days()[-1], 40)
    assert (summary.DataFrom, summary.DataUntil, summary.NumberRecordings) == (*extent, 1)
    for wanted, expected in (
        ('boolean(//Track[TrackType = "Video"])', [recording]),
        ("boolean(//Track[TrackType = \u201cVideo\u201d])", [recording]),
        ('boolean(//Track[TrackType = "Audio"])', []),
    ):
        token = flow.search.FindRecordings(Scope={"RecordingInformationFilter": wanted}, KeepAliveTime="PT10S")
        answer = flow.search.GetRecordingSearchResults(SearchToken=token, MaxResults=10, WaitTime="PT20S")
        assert answer.SearchState == "Completed"
        assert [i.RecordingToken for i in answer.RecordingInformation] == expected
        for found in answer.RecordingInformation:
            assert (found.EarliestRecording, found.LatestRecording) == extent
            assert [t.TrackToken for t in found.Track] == ["VIDEO001", "META001"]


@pytest.mark.requirement("RS-6.2.1-01", "RS-6.2.1-05", "RS-6.9-12", "RS-6.9-15", "RS-6.9-16", "RS-6.17-01")
def test_a_month_and_each_of_its_days_is_drawn_from_the_history_in_both_directions(month: tuple[Flow, str]) -> None:
    flow, _ = month
    end = BEGIN + timedelta(days=DAYS)
    forward = events(flow, BEGIN, end, history_filter())
    spells = [(t, value) for t, track, value, _ in forward if not track]
    assert spells == [
        (at(day, second), f"IsRecording={value}")
        for day in recorded_days()
        for second, value in ((0, "true"), (40, "false"))
    ]
    assert events(flow, end, BEGIN, history_filter()) == forward[::-1]
    # A view that begins in the midst of a stretch is drawn from the state at its start.
    inside = events(flow, at(1, 20), at(2, 20), history_filter(), start_state=True)
    assert [e for e in inside if not e[1]] == [
        (at(1, 20), "", "IsRecording=true", True),
        (at(1, 40), "", "IsRecording=false", False),
        (at(2, 0), "", "IsRecording=true", False),
    ]
    assert {e[2] for e in events(flow, at(6, 0), at(6, 40), history_filter(), start_state=True) if not e[1]} == {
        "IsRecording=false"
    }
    both_ends = [e for e in events(flow, at(1, 30), at(1, 5), history_filter(), start_state=True) if not e[1]]
    assert both_ends == [(at(1, 30), "", "IsRecording=true", True), (at(1, 5), "", "IsRecording=true", True)]


@pytest.mark.requirement("RS-6.9-14", "RS-6.9-19", "RS-6.2.1-03")
def test_every_motion_of_the_month_is_found_and_whether_there_was_any_at_an_instant(month: tuple[Flow, str]) -> None:
    flow, _ = month
    end = BEGIN + timedelta(days=DAYS)
    motion = events(flow, BEGIN, end, motion_filter())
    assert motion == [(at(day, 10), "META001", "State=true", False) for day in recorded_days()]
    assert events(flow, end, BEGIN, motion_filter()) == motion[::-1]
    assert events(flow, at(3, 12), at(3, 18), motion_filter(), start_state=True) == [
        (at(3, 12), "META001", "State=true", True)
    ]
    assert events(flow, at(3, 22), at(3, 28), motion_filter(), start_state=True) == []


@pytest.mark.requirement("RS-6.11-05", "RS-6.12-04", "RS-6.13-04", "RS-6.14-04", "RS-6.16-04")
def test_where_the_camera_looked_and_what_it_saw_is_found_in_both_directions(month: tuple[Flow, str]) -> None:
    flow, recording = month
    end = BEGIN + timedelta(days=DAYS)
    right = {"MinPosition": {"PanTilt": {"x": 0, "y": -1}}, "MaxPosition": {"PanTilt": {"x": 1, "y": 1}}}
    for start, stop, way in ((BEGIN, end, 1), (end, BEGIN, -1)):
        whole = {"StartPoint": start, "EndPoint": stop, "Scope": {}, "KeepAliveTime": "PT60S"}
        expected = [at(day, 15) for day in recorded_days()][::way]
        token = flow.search.FindPTZPosition(**whole, SearchFilter={**right, "EnterOrExit": False})
        positions = collected(flow.search.GetPTZPositionSearchResults, token)
        assert [(p.Time, p.RecordingToken, p.Position.PanTilt.x) for p in positions] == [
            (t, recording, 0.5) for t in expected
        ]
        human = 'boolean(//Object/Appearance/Class[Type = "Human"])'
        token = flow.search.FindMetadata(**whole, MetadataFilter={"MetadataStreamFilter": human})
        found = collected(flow.search.GetMetadataSearchResults, token)
        assert [(f.Time, f.TrackToken) for f in found] == [(t, "META001") for t in expected]
