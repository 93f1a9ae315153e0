"""What ONVIF Profile G asks of a recorder, called by clients of the official WSDLs on a daemon as it is shipped.

Each operation has tests of its own elsewhere; here all of them stand in one recorder, with footage of several files.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from lxml import etree

from nvr.model.topics import CONCRETE_SET
from tests.e2e.crash import camera
from tests.e2e.test_contract_flow import NOWHERE, job_over
from tests.e2e.test_events import Listener
from tests.e2e.test_restart import device_of
from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess
from tests.support.flow import Flow, until
from tests.support.replayed import replay
from tests.support.rtsp_client import RtspClient

pytestmark = pytest.mark.timeout(150)

CONFIG = '[storage]\nfsync = "none"\nrotation = "1s"\n[ingest]\nback_off = "200ms"\n'
LONG_AGO, FAR_OFF = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
HISTORY = "tns1:RecordingHistory"
TRACKS = ["VIDEO001", "AUDIO001", "META001"]


@pytest.mark.requirement("PG-02", "PG-04", "PG-05", "PG-06", "PG-09", "PG-10", "PG-11", "PG-12", "PG-13", "PG-14")
@pytest.mark.requirement("PG-15", "PG-18", "RC-5.1-10", "RC-5.1-11", "RC-5.1-12", "PB-8.2-02", "RP-7.3-04")
@pytest.mark.requirement("PG-08", "CO-02", "CO-67", "RX-10.1-01")
def test_a_recorder_does_what_profile_g_asks_of_it(tmp_path: Path) -> None:
    with camera() as uri, DaemonProcess(tmp_path / "data", CONFIG) as daemon:
        flow, listener = Flow(daemon), Listener(daemon)
        check_capabilities(daemon, flow, listener)
        check_dynamic_recordings(flow, listener)
        check_receivers(flow, listener)
        recording, spells = check_recording(flow, listener, uri)
        for track in TRACKS[:2]:
            assert len(list(daemon.data.glob(f"volumes/*/footage/{recording}/{track}/*/*.mp4"))) > len(spells), (
                "some rollover"
            )
        check_search(flow, recording, spells)
        check_metadata_search(flow, recording)
        asyncio.run(check_replay(flow, recording))
        check_event_service(daemon, flow, listener, recording)
        assert "Traceback" not in daemon.log
        assert daemon.stop() == 0


def check_capabilities(daemon: DaemonProcess, flow: Flow, listener: Listener) -> None:
    device = device_of(daemon)
    listed = {s.Namespace.removeprefix("http://www.onvif.org/ver10/") for s in device.GetServices(True)}
    wanted = ["events", "recording", "search", "replay", "receiver"]
    assert {"device/wsdl", *(f"{name}/wsdl" for name in wanted)} <= listed
    assert flow.replay.GetServiceCapabilities().ReversePlayback is True
    assert device.GetServiceCapabilities().Security.HttpDigest is True
    recording = flow.recording.GetServiceCapabilities()
    assert (recording.DynamicRecordings, recording.DynamicTracks, recording.Options) == (True, True, True)
    search = flow.search.GetServiceCapabilities()
    assert (search.MetadataSearch, search.GeneralStartEvents) == (True, True)
    assert flow.receiver.GetServiceCapabilities().SupportedReceivers >= 1
    pull_points = re.search(r'MaxPullPoints="(\d+)"', listener.call("<tev:GetServiceCapabilities/>"))
    assert pull_points is not None
    assert int(pull_points[1]) >= 2


def check_dynamic_recordings(flow: Flow, listener: Listener) -> None:
    call, spare = flow.recording, flow.create_recording("spare")
    listener.until("RecordingConfig/CreateRecording", ("RecordingToken", spare))
    video = {"TrackType": "Video", "Description": "low"}
    track = call.CreateTrack(RecordingToken=spare, TrackConfiguration=video)
    listener.until("RecordingConfig/CreateTrack", ("RecordingToken", spare), ("TrackToken", track))
    call.SetTrackConfiguration(
        RecordingToken=spare, TrackToken=track, TrackConfiguration={**video, "Description": "lower"}
    )
    listener.until("RecordingConfig/TrackConfiguration", ("RecordingToken", spare), ("TrackToken", track))
    assert call.GetTrackConfiguration(RecordingToken=spare, TrackToken=track).Description == "lower"
    call.DeleteTrack(RecordingToken=spare, TrackToken=track)
    listener.until("RecordingConfig/DeleteTrack", ("RecordingToken", spare), ("TrackToken", track))
    configuration = call.GetRecordingConfiguration(RecordingToken=spare)
    configuration.Content = "yard"
    configuration.Source.Location = configuration.Source.Description = configuration.Source.Address = ""
    call.SetRecordingConfiguration(RecordingToken=spare, RecordingConfiguration=configuration)
    listener.until("RecordingConfig/RecordingConfiguration", ("RecordingToken", spare))
    assert call.GetRecordingConfiguration(RecordingToken=spare).Content == "yard"
    assert call.GetRecordingOptions(RecordingToken=spare).Track.SpareVideo >= 1
    call.DeleteRecording(RecordingToken=spare)
    listener.until("RecordingConfig/DeleteRecording", ("RecordingToken", spare))
    assert call.GetRecordings() == []


def check_receivers(flow: Flow, listener: Listener) -> None:
    call = flow.receiver
    made = call.CreateReceiver(Configuration={**NOWHERE, "Mode": "NeverConnect"}).Token
    assert [r.Token for r in call.GetReceivers()] == [call.GetReceiver(ReceiverToken=made).Token] == [made]
    flow.configure(made, "rtsp://127.0.0.1:9/other")
    assert call.GetReceiver(ReceiverToken=made).Configuration.MediaUri.endswith("/other")
    call.SetReceiverMode(ReceiverToken=made, Mode="AlwaysConnect")
    listener.until("Receiver/ChangeState", ("ReceiverToken", made))
    listener.until("Receiver/ConnectionFailed", ("ReceiverToken", made))
    assert call.GetReceiverState(ReceiverToken=made).AutoCreated is False
    call.DeleteReceiver(ReceiverToken=made)
    assert call.GetReceivers() == []


def check_recording(flow: Flow, listener: Listener, uri: str) -> tuple[str, list[tuple[datetime, datetime]]]:
    """Records twice, with a pause: the recording, and from when to when its video has footage."""
    call, recording = flow.recording, flow.create_recording()
    made = call.CreateRecordingJob(JobConfiguration=job_over(recording, {"AutoCreateReceiver": True}))
    job = made.JobToken
    flow.configure(made.JobConfiguration.Source[0].SourceToken.Token, uri)
    spells: list[tuple[datetime, datetime]] = []
    for _ in range(2):
        before = spells[-1][1] if spells else LONG_AGO
        call.SetRecordingJobMode(JobToken=job, Mode="Active")
        flow.until_job_is(job, "Active")
        until(lambda before=before: video(flow, recording)[1] > before, "recorded again")
        began = max(video(flow, recording)[0], before)
        until(lambda began=began: video(flow, recording)[1] > began + timedelta(seconds=3.2), "some files")
        flow.set_idle(job, recording)
        spells.append((began, video(flow, recording)[1]))
    listener.until("RecordingConfig/JobState", ("RecordingJobToken", job), ("State", "Active"))
    configuration = call.GetRecordingJobConfiguration(JobToken=job)
    for line in configuration.Source[0].Tracks:
        line.SourceTag = ""
    configuration.Priority = 7
    assert call.SetRecordingJobConfiguration(JobToken=job, JobConfiguration=configuration).Priority == 7
    listener.until("RecordingConfig/RecordingJobConfiguration", ("RecordingJobToken", job))
    assert [(j.JobToken, j.JobConfiguration.Priority) for j in call.GetRecordingJobs()] == [(job, 7)]
    assert call.GetRecordingJobState(JobToken=job).State == "Idle"
    call.DeleteRecordingJob(JobToken=job)
    (listed,) = call.GetRecordings()
    assert (listed.RecordingToken, [t.TrackToken for t in listed.Tracks.Track]) == (recording, TRACKS)
    return recording, spells


def video(flow: Flow, recording: str) -> tuple[datetime, datetime]:
    found = [t for t in flow.information(recording).Track if t.TrackToken == "VIDEO001" and t.DataFrom]
    return (found[0].DataFrom, found[0].DataTo) if found else (LONG_AGO, LONG_AGO)


def history_filter() -> dict[str, Any]:
    topic = (
        '<wsnt:TopicExpression xmlns:wsnt="http://docs.oasis-open.org/wsn/b-2"'
        f' xmlns:tns1="http://www.onvif.org/ver10/topics" Dialect="{CONCRETE_SET}">{HISTORY}//.</wsnt:TopicExpression>'
    )
    return {"_value_1": [etree.fromstring(topic)]}


def collected(results: Any, search: str, member: str = "Result") -> list[Any]:
    """All that a search finds: how much of it comes with which answer is for the machine to say."""
    found: list[Any] = []
    while True:
        answer = results(SearchToken=search, MinResults=1, MaxResults=9, WaitTime="PT5S")
        found += getattr(answer, member)
        if answer.SearchState == "Completed":
            return found


def check_search(flow: Flow, recording: str, spells: list[tuple[datetime, datetime]]) -> None:
    """However many files there are: one recording, and two ranges of each track."""
    call = flow.search
    summary = call.GetRecordingSummary()
    assert summary.NumberRecordings == 1
    information = flow.information(recording)
    assert (summary.DataFrom, summary.DataUntil) == (information.EarliestRecording, information.LatestRecording)
    when = spells[0][0] + timedelta(seconds=1)
    (attributes,) = call.GetMediaAttributes(RecordingTokens=[recording], Time=when)
    assert {a.TrackInformation.TrackToken for a in attributes.TrackAttributes} >= set(TRACKS[:2])

    for expression, found in (('boolean(//Source[Name = "camera"])', [recording]), ("boolean(//Nothing)", [])):
        scope = {"RecordingInformationFilter": expression}
        search = call.FindRecordings(Scope=scope, KeepAliveTime="PT10S")
        informations = collected(call.GetRecordingSearchResults, search, "RecordingInformation")
        assert [r.RecordingToken for r in informations] == found
    search = call.FindRecordings(Scope={}, KeepAliveTime="PT10S")
    assert call.EndSearch(SearchToken=search) >= information.EarliestRecording

    search = call.FindEvents(
        StartPoint=LONG_AGO, EndPoint=FAR_OFF, Scope={"IncludedRecordings": [recording]},
        SearchFilter=history_filter(), IncludeStartState=False, KeepAliveTime="PT10S",
    )  # fmt: skip
    states: dict[str, list[tuple[str, datetime]]] = {}
    for result in collected(call.GetEventSearchResults, search):
        last = result.Event.Message._value_1.Data.SimpleItem[-1]
        states.setdefault(result.TrackToken or "", []).append((f"{last.Name}={last.Value}", result.Time))
    assert set(states) == {"", *TRACKS}
    for token, events in states.items():
        name = "IsDataPresent" if token else "IsRecording"
        assert [value for value, _ in events] == [f"{name}=true", f"{name}=false"] * 2, token
    first, pause, again, last_of_all = (time for _, time in states["VIDEO001"])
    near = timedelta(milliseconds=1)
    assert abs(first - spells[0][0]) < near > abs(pause - spells[0][1])
    assert pause < again < last_of_all
    assert abs(last_of_all - spells[1][1]) < near


def check_metadata_search(flow: Flow, recording: str) -> None:
    call, scope = flow.search, {"IncludedRecordings": [recording]}
    whole = {"StartPoint": LONG_AGO, "EndPoint": FAR_OFF, "Scope": scope, "KeepAliveTime": "PT10S"}
    search = call.FindMetadata(**whole, MetadataFilter={"MetadataStreamFilter": "boolean(//MetadataStream)"})
    found = collected(call.GetMetadataSearchResults, search)
    assert {(r.RecordingToken, r.TrackToken) for r in found} == {(recording, "META001")}
    anywhere = {"MinPosition": {}, "MaxPosition": {}, "EnterOrExit": False}
    search = call.FindPTZPosition(**whole, SearchFilter=anywhere)
    collected(call.GetPTZPositionSearchResults, search)


async def check_replay(flow: Flow, recording: str) -> None:
    configuration = flow.replay.GetReplayConfiguration()
    flow.replay.SetReplayConfiguration(Configuration={"SessionTimeout": timedelta(seconds=90)})
    uri = flow.replay_uri(recording)
    client = await RtspClient.connect(urlsplit(uri).port or 554)
    client.credentials = ADMIN, PASSWORD
    described = (await client.request("DESCRIBE", uri)).body.decode()
    with_data = {t.TrackToken for t in flow.information(recording).Track if t.DataFrom}
    controls = re.findall(r"^a=control:([^*\r]+)", described, re.MULTILINE)
    assert sorted(controls) == sorted(with_data) == sorted(TRACKS), "every track, each once"
    assert described.count("\nm=") == len(TRACKS)
    setup = await client.set_up(uri, "VIDEO001", Require="onvif-replay")
    assert "timeout=90" in setup["Session"]
    headers = {"Rate_Control": "no", "Require": "onvif-replay"}
    latest = flow.information(recording).LatestRecording
    for more in (
        {"Frames": "intra"},
        {"Scale": "-1.0", "Range": f"clock={latest:%Y%m%dT%H%M%S.%fZ}-"},
        {"Range": "npt=0-", "Immediate": "yes"},
    ):
        assert (await client.request("PLAY", uri, **headers, **more)).status == 200
        packet = await client.packet()
        while packet.word3 is None or packet.word3[1] != client.cseq & 0xFF:
            packet = await client.packet()
        assert "C" in packet.flags
    await client.close()
    flow.replay.SetReplayConfiguration(Configuration={"SessionTimeout": configuration.SessionTimeout})

    units = await replay(uri, "VIDEO001")
    assert [bool(u.flags.count("E")) for u in units].count(True) == 2, "files are no sections"
    starts = f"clock={latest:%Y%m%dT%H%M%S.%fZ}-"
    backwards = await replay(uri, "VIDEO001", Scale="-1.0", Range=starts)
    groups: list[list[int]] = []
    for unit in backwards:
        if "C" in unit.flags:
            groups.append([])
        groups[-1].append(unit.utc_ns)
    assert len(groups) > 2
    assert [utc_ns for group in reversed(groups) for utc_ns in group] == [u.utc_ns for u in units], "group by group"
    documents = b"".join(b"".join(u.payloads) for u in await replay(uri, "META001"))
    assert b"MetadataStream" in documents
    assert b"RecordingHistory" not in documents


class Notified(BaseHTTPRequestHandler):
    bodies: list[str]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def a_consumer() -> Iterator[tuple[str, list[str]]]:
    """Its address, and what it has been told."""
    bodies: list[str] = []
    with HTTPServer(("127.0.0.1", 0), type("Handler", (Notified,), {"bodies": bodies})) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", bodies
        finally:
            server.shutdown()
            thread.join()


def check_event_service(daemon: DaemonProcess, flow: Flow, listener: Listener, recording: str) -> None:
    """Two pull points and a consumer at a time; the first of the three is the one that has listened so far."""
    topics = listener.call("<tev:GetEventProperties/>")
    for name in ("JobState", "RecordingConfiguration", "TrackConfiguration", "RecordingJobConfiguration"):
        assert f"<{name} " in topics or f":{name} " in topics, name
    for name in ("CreateRecording", "DeleteRecording", "CreateTrack", "DeleteTrack", "ChangeState", "ConnectionFailed"):
        assert f"<{name} " in topics or f":{name} " in topics, name
    dialect = f'<wsnt:TopicExpression Dialect="{CONCRETE_SET}">'
    chosen = f"<wsnt:Filter>{dialect}{HISTORY}//.|tns1:RecordingConfig/CreateRecording</wsnt:TopicExpression>"
    other = Listener(daemon, chosen.replace("wsnt:Filter>", "tev:Filter>") + "</tev:Filter>")
    with a_consumer() as (address, bodies):
        subscribed = listener.call(
            f"<wsnt:Subscribe><wsnt:ConsumerReference><wsa:Address>{address}</wsa:Address></wsnt:ConsumerReference>"
            f"{chosen}</wsnt:Filter></wsnt:Subscribe>"
        )
        manager = re.search(r"<wsa:Address>(.*?)</wsa:Address>", subscribed)
        assert manager is not None
        made = flow.create_recording("another")
        for each in (listener, other):
            each.until("RecordingConfig/CreateRecording", ("RecordingToken", made))
        until(lambda: any("Notify" in body and made in body for body in bodies), "a Notify")
        assert {m.topic.partition("/")[0] for m in other.told} <= {HISTORY, "tns1:RecordingConfig"}
        assert {m.topic for m in other.told} <= {
            f"{HISTORY}/Recording/State", f"{HISTORY}/Track/State", "tns1:RecordingConfig/CreateRecording"
        }  # fmt: skip
        other.told.clear()
        other.manage("<tev:SetSynchronizationPoint/>")
        told = other.until("RecordingHistory/Recording/State", ("RecordingToken", recording), operation="Initialized")
        assert told.items("Data") == {"IsRecording": "false"}
        other.manage("<wsnt:Renew><wsnt:TerminationTime>PT60S</wsnt:TerminationTime></wsnt:Renew>")
        other.manage("<wsnt:Unsubscribe/>")
        listener.call("<wsnt:Unsubscribe/>", manager[1])
    listener.until("RecordingConfig/CreateRecording", ("RecordingToken", made))
