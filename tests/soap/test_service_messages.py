"""Every operation called by zeep, from the official WSDL and from ours, with answers the official schema accepts."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
import requests
import zeep
from lxml import etree
from requests.auth import HTTPDigestAuth

from nvr.model.topics import CONCRETE_SET
from nvr.storage.configuration import ConfigurationStore
from tests.soap.conftest import LIMITS
from tests.support.configuration import XorSealer
from tests.support.official_schema import ValidatingTransport
from tests.support.soap_house import SoapHouse, create_job, job_request, receiver_of, recording_of, source_token
from tests.support.soap_http import PASSWORDS, a_device

SOURCE = {"SourceId": "urn:x:1", "Name": "Gate", "Location": "", "Description": "", "Address": "http://camera.example/"}
CONFIGURATION = {"Source": SOURCE, "Content": "", "MaximumRetentionTime": "P30D"}
SETUP = {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}}
LONGEST_TOKEN = 64
"""Characters; of tt:ReferenceToken."""

both = pytest.mark.parametrize("own", [False, True], ids=["official WSDL", "own WSDL"])


@both
@pytest.mark.requirement(
    "RC-5.4-01", "RC-5.5-01", "RC-5.6-01", "RC-5.7-01", "RC-5.8-01", "RC-5.9-01", "RC-5.10-01", "RC-5.11-01",
    "RC-5.12-01", "RC-5.20-01", "RC-5.24-01", "RX-B.5-01",
)  # fmt: skip
async def test_recordings_and_tracks(house: SoapHouse, own: bool) -> None:
    call = house.zeep("recording", own=own)
    capabilities = await call.GetServiceCapabilities()
    assert (capabilities.DynamicRecordings, capabilities.DynamicTracks, capabilities.Options) == (True, True, True)
    assert capabilities.MaxRecordings == 3
    recording = await call.CreateRecording(RecordingConfiguration=CONFIGURATION)
    (item,) = await call.GetRecordings()
    assert item.RecordingToken == recording
    assert [t.TrackToken for t in item.Tracks.Track] == ["VIDEO001", "AUDIO001", "META001"]
    changed = {**CONFIGURATION, "Content": "yard"}
    await call.SetRecordingConfiguration(RecordingToken=recording, RecordingConfiguration=changed)
    read = await call.GetRecordingConfiguration(RecordingToken=recording)
    assert (read.Content, read.MaximumRetentionTime.days) == ("yard", 30)
    options = await call.GetRecordingOptions(RecordingToken=recording)
    assert (options.Job.Spare, options.Track.SpareTotal) == (3, 3)
    track = await call.CreateTrack(
        RecordingToken=recording, TrackConfiguration={"TrackType": "Video", "Description": "low"}
    )
    await call.SetTrackConfiguration(
        RecordingToken=recording, TrackToken=track, TrackConfiguration={"TrackType": "Video", "Description": "lower"}
    )
    assert max(len(recording), len(track)) <= LONGEST_TOKEN
    described = await call.GetTrackConfiguration(RecordingToken=recording, TrackToken=track)
    assert (described.TrackType, described.Description) == ("Video", "lower")
    await call.DeleteTrack(RecordingToken=recording, TrackToken=track)
    await call.DeleteRecording(RecordingToken=recording)
    assert not await call.GetRecordings()


@both
@pytest.mark.requirement(
    "RC-5.13-01", "RC-5.14-01", "RC-5.15-01", "RC-5.16-01", "RC-5.17-01", "RC-5.18-01", "RC-5.19-01", "RX-B.5-01",
)  # fmt: skip
async def test_recording_jobs(house: SoapHouse, own: bool) -> None:
    call = house.zeep("recording", own=own)
    recording = await call.CreateRecording(RecordingConfiguration=CONFIGURATION)
    configuration: dict[str, Any] = {
        "RecordingToken": recording,
        "Mode": "Idle",
        "Priority": 1,
        "Source": [
            {"AutoCreateReceiver": True, "Tracks": [{"SourceTag": "", "Destination": "VIDEO001"}]},
        ],
    }
    made = await call.CreateRecordingJob(JobConfiguration=configuration)
    (item,) = await call.GetRecordingJobs()
    assert (item.JobToken, item.JobConfiguration.Mode) == (made.JobToken, "Idle")
    assert len(made.JobToken) <= LONGEST_TOKEN
    await call.SetRecordingJobMode(JobToken=made.JobToken, Mode="Active")
    read = await call.GetRecordingJobConfiguration(JobToken=made.JobToken)
    assert read.Mode == "Active"
    state = await call.GetRecordingJobState(JobToken=made.JobToken)
    assert (state.RecordingToken, state.State) == (recording, "Idle")
    (source,) = state.Sources
    assert source.SourceToken.Token == read.Source[0].SourceToken.Token
    configuration["Source"] = [{"SourceToken": {"Token": source.SourceToken.Token}}]
    in_effect = await call.SetRecordingJobConfiguration(JobToken=made.JobToken, JobConfiguration=configuration)
    assert in_effect.Source[0].SourceToken.Token == source.SourceToken.Token
    await call.DeleteRecordingJob(JobToken=made.JobToken)
    assert not await call.GetRecordingJobs()


@both
@pytest.mark.requirement(
    "RX-10.5.1-01", "RX-10.5.2-01", "RX-10.5.3-01", "RX-10.5.4-01", "RX-10.5.5-01", "RX-10.5.6-01", "RX-10.5.7-01",
    "RX-10.6-01", "RX-B.4-01", "RX-B.5-01",
)  # fmt: skip
async def test_receivers(house: SoapHouse, own: bool) -> None:
    call = house.zeep("receiver", own=own)
    capabilities = await call.GetServiceCapabilities()
    assert (capabilities.SupportedReceivers, capabilities.RTP_RTSP_TCP) == (LIMITS.receivers, True)
    made = await call.CreateReceiver(
        Configuration={"Mode": "NeverConnect", "MediaUri": "rtsp://camera.example/1", "StreamSetup": SETUP}
    )
    assert len(made.Token) <= LONGEST_TOKEN
    await call.SetReceiverMode(ReceiverToken=made.Token, Mode="AutoConnect")
    await call.ConfigureReceiver(
        ReceiverToken=made.Token,
        Configuration={"Mode": "AlwaysConnect", "MediaUri": "rtsp://camera.example/2", "StreamSetup": SETUP},
    )
    read = await call.GetReceiver(ReceiverToken=made.Token)
    assert (read.Configuration.Mode, read.Configuration.MediaUri) == ("AlwaysConnect", "rtsp://camera.example/2")
    assert [r.Token for r in await call.GetReceivers()] == [made.Token]
    state = await call.GetReceiverState(ReceiverToken=made.Token)
    assert (state.State, state.AutoCreated) == ("NotConnected", False)
    await call.DeleteReceiver(ReceiverToken=made.Token)
    assert not await call.GetReceivers()


@both
@pytest.mark.requirement("RS-6.4-01", "RS-6.5-01", "RS-6.7-01", "RS-6.8-01", "RS-6.15-01", "RS-6.16-01")
@pytest.mark.requirement(
    "RS-6.9-01",
    "RS-6.10-01",
    "RS-6.1-04",
    "RS-6.6-01",
    "RS-6.11-01",
    "RS-6.12-01",
    "RS-6.13-01",
    "RS-6.14-01",
    "RS-B.2-01",
    "RX-B.5-01",
)
async def test_searches(house: SoapHouse, own: bool) -> None:
    call = house.zeep("search", own=own)
    recording = await recording_of(house)
    capabilities = await call.GetServiceCapabilities()
    assert (capabilities.MetadataSearch, capabilities.GeneralStartEvents) == (True, True)
    assert (await call.GetRecordingSummary()).NumberRecordings == 1
    information = await call.GetRecordingInformation(RecordingToken=recording)
    assert (information.RecordingToken, information.RecordingStatus) == (recording, "Initiated")
    search = await call.FindRecordings(Scope={}, KeepAliveTime="PT10S")
    assert len(search) <= LONGEST_TOKEN
    found = await call.GetRecordingSearchResults(SearchToken=search, MinResults=1, MaxResults=10, WaitTime="PT5S")
    assert (found.SearchState, [r.RecordingToken for r in found.RecordingInformation]) == ("Completed", [recording])
    topic = (
        '<wsnt:TopicExpression xmlns:wsnt="http://docs.oasis-open.org/wsn/b-2" '
        'xmlns:tns1="http://www.onvif.org/ver10/topics" '
        f'Dialect="{CONCRETE_SET}">tns1:RecordingHistory//.</wsnt:TopicExpression>'
    )
    search = await call.FindEvents(
        StartPoint="2026-01-01T00:00:00Z",
        EndPoint="2025-01-01T00:00:00Z",
        Scope={},
        SearchFilter={"_value_1": [etree.fromstring(topic)]},
        IncludeStartState=True,
        KeepAliveTime="PT10S",
    )
    assert await call.GetSearchState(SearchToken=search) == "Searching"
    events = await call.GetEventSearchResults(SearchToken=search, MaxResults=100, WaitTime="PT5S")
    assert (events.SearchState, len(events.Result)) == ("Completed", 8)
    assert {e.StartStateEvent for e in events.Result} == {True}
    when = {"StartPoint": "2026-01-01T00:00:00Z", "EndPoint": "2026-01-02T00:00:00Z", "Scope": {}}
    corner = {"PanTilt": {"x": 0.5, "y": -0.5}, "Zoom": {"x": 1, "space": "urn:mine"}}
    volume = {"MinPosition": corner, "MaxPosition": {}, "EnterOrExit": True}
    search = await call.FindPTZPosition(**when, SearchFilter=volume, MaxMatches=5, KeepAliveTime="PT10S")
    positions = await call.GetPTZPositionSearchResults(SearchToken=search, MinResults=1, WaitTime="PT5S")
    assert (positions.SearchState, positions.Result) == ("Completed", [])
    filter_ = {"MetadataStreamFilter": "boolean(//Object)"}
    search = await call.FindMetadata(**when, MetadataFilter=filter_, MaxMatches=5, KeepAliveTime="PT10S")
    metadata = await call.GetMetadataSearchResults(SearchToken=search, MaxResults=5, WaitTime="PT5S")
    assert (metadata.SearchState, metadata.Result) == ("Completed", [])
    assert not await call.GetMediaAttributes(RecordingTokens=[recording], Time="2026-01-01T00:00:00Z")
    search = await call.FindRecordings(Scope={"IncludedRecordings": [recording]}, MaxMatches=1, KeepAliveTime="PT10S")
    assert (await call.EndSearch(SearchToken=search)).tzinfo is not None


@both
@pytest.mark.requirement("RP-7.1-01", "RP-7.3-01", "RP-7.4-01")
async def test_replay(house: SoapHouse, own: bool) -> None:
    call = house.zeep("replay", own=own)
    recording = await recording_of(house)
    assert (await call.GetServiceCapabilities()).RTP_RTSP_TCP is True
    uri = await call.GetReplayUri(StreamSetup=SETUP, RecordingToken=recording)
    assert uri == f"rtsp://recorder.example:8554/replay/{recording}"
    configuration = await call.GetReplayConfiguration()
    assert configuration.SessionTimeout.total_seconds() == 60
    await call.SetReplayConfiguration(Configuration=configuration)


@pytest.mark.requirement("RC-5.24-03", "RS-6.16-03", "RX-10.6-03", "RP-7.5-08", "RC-5.24-26")
async def test_get_services_repeats_the_capabilities_of_each_service(house: SoapHouse) -> None:
    listed = await house.send("<tds:GetServices><tds:IncludeCapability>true</tds:IncludeCapability></tds:GetServices>")
    services = {
        s.findtext("{*}Namespace"): dict(s.find("{*}Capabilities")[0].attrib) for s in listed.all("tds:Service")
    }
    for prefix in ("trc", "tse", "trv", "trp"):
        answer = await house.send(f"<{prefix}:GetServiceCapabilities/>", None)
        (capabilities,) = answer.all(f"{prefix}:Capabilities")
        assert services[capabilities.nsmap[prefix]] == dict(capabilities.attrib)
        await recording_of(house) if prefix == "trc" else None
        assert (await house.send(f"<{prefix}:GetServiceCapabilities/>", None)).xml == answer.xml
    recording = services["http://www.onvif.org/ver10/recording/wsdl"]
    assert float(recording["MaxRecordings"]) >= 1
    assert recording["Encoding"].split()


@pytest.mark.requirement("RC-5.2-01", "RC-5.2-02", "RX-10.3-01", "RX-10.3-02")
async def test_what_has_been_answered_is_there_again_after_a_crash(tmp_path: Path) -> None:
    """The files are copied while the recorder runs: what a killed process leaves behind."""
    data = tmp_path / "data"
    await asyncio.to_thread(data.mkdir)
    store = await asyncio.to_thread(ConfigurationStore.open, data / "config.db", XorSealer())
    house = await SoapHouse.open(LIMITS, store=store)
    recording, manual = await recording_of(house), await receiver_of(house)
    job = await house.send(create_job(recording))
    await house.send(create_job(recording, source_token(manual), priority=5))
    mode = "<trc:Mode>Active</trc:Mode>"
    await house.send(job_request("SetRecordingJobMode", job.text("trc:JobToken"), mode))
    questions = ("<trc:GetRecordings/>", "<trc:GetRecordingJobs/>", "<trv:GetReceivers/>")
    before = [(await house.send(question)).xml for question in questions]
    left_behind = await asyncio.to_thread(shutil.copytree, data, tmp_path / "left-behind")
    again = await asyncio.to_thread(ConfigurationStore.open, left_behind / "config.db", XorSealer())
    restarted = await SoapHouse.open(LIMITS, store=again)
    assert [(await restarted.send(question)).xml for question in questions] == before
    for opened, kept in ((house, store), (restarted, again)):
        await opened.close()
        await asyncio.to_thread(kept.close)


async def test_clients_are_built_from_the_served_wsdl_and_talk_to_the_address_in_it(house: SoapHouse) -> None:
    """Over HTTP with Digest; files come from nowhere but the device itself."""
    recording, receiver = await recording_of(house), await receiver_of(house)
    services = [house.soap.service(path).service for path in house.soap.paths if "device" not in path]

    def talk(base: str) -> None:
        with requests.Session() as session:
            session.auth = HTTPDigestAuth("otto", PASSWORDS["otto"])

            def service(name: str) -> Any:
                transport = ValidatingTransport(session=session)
                return zeep.Client(f"{base}/onvif/{name}_service?wsdl", transport=transport).service

            assert service("recording").GetRecordings()[0].RecordingToken == recording
            assert service("search").GetRecordingSummary().NumberRecordings == 1
            assert service("receiver").GetReceivers()[0].Token == receiver
            uri = service("replay").GetReplayUri(StreamSetup=SETUP, RecordingToken=recording)
            assert uri == f"rtsp://127.0.0.1:8554/replay/{recording}"

    async with a_device(services=services) as device:
        await asyncio.to_thread(talk, device.base)
