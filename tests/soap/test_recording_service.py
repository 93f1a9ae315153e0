"""Recording control on the wire: what clients send, what they are told, and what is refused."""

from __future__ import annotations

import pytest

from nvr.control.state import ControlSettings
from nvr.model.job import JobState, RecordingJobState, SourceReference, SourceState, TrackState
from nvr.model.tokens import AUDIO001, VIDEO001, JobToken, RecordingToken
from nvr.storage.changes import StoredConfiguration
from tests.support.configuration import a_recording
from tests.support.control import FakeStore
from tests.support.soap_house import (
    AUTO_SOURCE,
    SoapHouse,
    create_job,
    create_recording,
    find_recordings,
    get_replay_uri,
    job_of,
    job_request,
    receiver_of,
    receiver_xml,
    recording_of,
    recording_request,
    source_token,
    source_xml,
    tokens,
    track_xml,
)

RECEIVER = "http://www.onvif.org/ver10/schema/Receiver"


# Recordings


@pytest.mark.requirement("RC-5.4-09", "RC-5.4-11", "RC-5.6-03", "RC-5.6-04")
async def test_each_new_recording_is_listed_with_the_default_tracks(house: SoapHouse) -> None:
    assert (await house.send("<trc:GetRecordings/>")).all("trc:RecordingItem") == []
    first, second = await recording_of(house), await recording_of(house)
    assert first != second
    assert max(len(first), len(second)) <= 64
    listed = await house.send("<trc:GetRecordings/>")
    assert sorted(listed.texts("trc:RecordingItem/tt:RecordingToken")) == sorted([first, second])
    for item in listed.all("trc:RecordingItem"):
        tracks = [
            (t.findtext("{*}TrackToken"), t.findtext("{*}Configuration/{*}TrackType"))
            for t in item.iterfind("{*}Tracks/{*}Track")
        ]
        assert tracks == [("VIDEO001", "Video"), ("AUDIO001", "Audio"), ("META001", "Metadata")]
        assert [d.text for d in item.iterfind("{*}Tracks/{*}Track/{*}Configuration/{*}Description")] == [None] * 3


@pytest.mark.requirement("RC-5.3.1-09", "RC-5.3.1-10", "RC-5.3.1-11")
async def test_descriptive_fields_come_back_as_they_were_sent(house: SoapHouse) -> None:
    long_id, address = "urn:x:" + "i" * 122, "http://camera.example/" + "a" * 106
    source = source_xml(
        long_id, "Tor Süd &lt;1&gt; &amp; Innenhof Nord", "Größe ½ 監視", "  two  spaces\ttab ", address
    )
    await house.send(create_recording(source, content="&lt;b&gt; &#x1F3A5;"))
    listed = await house.send("<trc:GetRecordings/>")
    at = "trc:RecordingItem/tt:Configuration"
    assert listed.text(f"{at}/tt:Source/tt:SourceId") == long_id
    assert listed.text(f"{at}/tt:Source/tt:Name") == "Tor Süd <1> & Innenhof Nord"
    assert listed.text(f"{at}/tt:Source/tt:Location") == "Größe ½ 監視"
    assert listed.text(f"{at}/tt:Source/tt:Description") == "  two  spaces\ttab "
    assert listed.text(f"{at}/tt:Source/tt:Address") == address
    assert listed.text(f"{at}/tt:Content") == "<b> \U0001f3a5"


@pytest.mark.requirement("RC-5.4-13")
@pytest.mark.parametrize(("sent", "answered"), [("PT0S", "PT0S"), ("PT1H", "PT1H"), ("P1DT0.5S", "P1DT0.5S")])
async def test_the_retention_time_is_kept(house: SoapHouse, sent: str, answered: str) -> None:
    await house.send(create_recording(retention=sent))
    listed = await house.send("<trc:GetRecordings/>")
    assert listed.text("trc:RecordingItem/tt:Configuration/tt:MaximumRetentionTime") == answered


@pytest.mark.requirement("RC-5.4-04")
@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(create_recording(retention="soon"), id="a retention time that is no duration"),
        pytest.param(create_recording(retention="-PT1S"), id="a negative retention time"),
        pytest.param(create_recording(source_xml(name="n" * 65)), id="a name of 65 characters"),
    ],
)
async def test_an_invalid_configuration_is_refused_and_creates_nothing(house: SoapHouse, request_: str) -> None:
    reply = await house.send(request_)
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/BadConfiguration")
    assert await tokens(house, "recordings") == []


async def test_an_incomplete_configuration_is_no_valid_argument(house: SoapHouse) -> None:
    reply = await house.send(create_recording().replace("<tt:Content></tt:Content>", ""))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgs")
    assert "Content" in reply.reason
    assert await tokens(house, "recordings") == []


@pytest.mark.requirement("RC-5.4-03", "RC-5.24-08")
async def test_one_recording_above_the_announced_maximum_is_refused(house: SoapHouse) -> None:
    capabilities = (await house.send("<trc:GetServiceCapabilities/>")).all("trc:Capabilities")[0]
    maximum = float(capabilities.attrib["MaxRecordings"])
    assert maximum == 3
    made = [await recording_of(house) for _ in range(3)]
    reply = await house.send(create_recording())
    assert (reply.status, reply.fault) == (500, "Receiver/Action/MaxRecordings")
    assert sorted(await tokens(house, "recordings")) == sorted(made)
    await house.send(f"<trc:DeleteRecording><trc:RecordingToken>{made[0]}</trc:RecordingToken></trc:DeleteRecording>")
    assert (await house.send(create_recording())).fault is None


@pytest.mark.requirement("RC-5.4-10", "RC-5.5-10", "RC-5.24-04")
async def test_recordings_are_dynamic_as_announced(house: SoapHouse) -> None:
    capabilities = (await house.send("<trc:GetServiceCapabilities/>")).all("trc:Capabilities")[0]
    assert capabilities.attrib["DynamicRecordings"] == "true"
    token = await recording_of(house)
    deleted = await house.send(
        f"<trc:DeleteRecording><trc:RecordingToken>{token}</trc:RecordingToken></trc:DeleteRecording>"
    )
    assert (deleted.name, len(deleted.element)) == ("DeleteRecordingResponse", 0)


@pytest.mark.requirement("RC-5.5-08", "RC-5.5-09")
async def test_a_deleted_recording_takes_its_jobs_and_their_automatic_receivers_along(house: SoapHouse) -> None:
    doomed, other = await recording_of(house), await recording_of(house)
    job = await house.send(create_job(doomed))
    automatic = job.text("trc:JobConfiguration/tt:Source/tt:SourceToken/tt:Token")
    manual = await receiver_of(house)
    await job_of(house, doomed, source_token(manual))
    kept = await job_of(house, other, source_token(manual))
    await house.send(f"<trc:DeleteRecording><trc:RecordingToken>{doomed}</trc:RecordingToken></trc:DeleteRecording>")
    assert await tokens(house, "recordings") == [other]
    assert await tokens(house, "jobs") == [kept]
    assert await tokens(house, "receivers") == [manual]
    assert automatic != manual
    state = await house.send(
        f"<trc:GetRecordingJobState><trc:JobToken>{job.text('trc:JobToken')}</trc:JobToken></trc:GetRecordingJobState>"
    )
    assert state.fault == "Sender/InvalidArgVal/NoRecordingJob"


# Jobs


@pytest.mark.requirement("RC-5.13-07", "RC-5.13-09", "RC-5.15-03")
async def test_a_job_is_answered_and_listed_with_the_configuration_in_effect(house: SoapHouse) -> None:
    recording, receiver = await recording_of(house), await receiver_of(house)
    source = (
        f'<tt:Source><tt:SourceToken Type="{RECEIVER}"><tt:Token>{receiver}</tt:Token></tt:SourceToken>'
        "<tt:Tracks><tt:SourceTag>left</tt:SourceTag><tt:Destination>VIDEO001</tt:Destination></tt:Tracks>"
        "<tt:Tracks><tt:SourceTag/><tt:Destination>META001</tt:Destination></tt:Tracks></tt:Source>"
    )
    answer = await house.send(create_job(recording, source, "Idle", 7))
    listed = await house.send("<trc:GetRecordingJobs/>")
    assert listed.texts("trc:JobItem/tt:JobToken") == [answer.text("trc:JobToken")]
    for reply, at in ((answer, "trc:JobConfiguration"), (listed, "trc:JobItem/tt:JobConfiguration")):
        assert reply.text(f"{at}/tt:RecordingToken") == recording
        assert reply.text(f"{at}/tt:Mode") == "Idle"
        assert reply.text(f"{at}/tt:Priority") == "7"
        assert reply.text(f"{at}/tt:Source/tt:SourceToken/tt:Token") == receiver
        assert reply.all(f"{at}/tt:Source/tt:SourceToken")[0].attrib == {"Type": RECEIVER}
        assert reply.texts(f"{at}/tt:Source/tt:Tracks/tt:SourceTag") == ["left", ""]
        assert reply.texts(f"{at}/tt:Source/tt:Tracks/tt:Destination") == ["VIDEO001", "META001"]
        assert not reply.all(f"{at}/tt:Source/tt:AutoCreateReceiver")


@pytest.mark.requirement("RC-5.3.3-17", "RC-5.3.3-18")
async def test_an_automatic_receiver_is_created_unconfigured_and_named_in_the_answer(house: SoapHouse) -> None:
    answer = await house.send(create_job(await recording_of(house)))
    token = answer.text("trc:JobConfiguration/tt:Source/tt:SourceToken/tt:Token")
    receiver = await house.send(f"<trv:GetReceiver><trv:ReceiverToken>{token}</trv:ReceiverToken></trv:GetReceiver>")
    at = "trv:Receiver/tt:Configuration"
    assert receiver.text(f"{at}/tt:MediaUri") == ""
    assert receiver.text(f"{at}/tt:Mode") == "AutoConnect"
    assert receiver.text(f"{at}/tt:StreamSetup/tt:Stream") == "RTP-Unicast"
    assert receiver.text(f"{at}/tt:StreamSetup/tt:Transport/tt:Protocol") == "UDP"
    state = await house.send(
        f"<trv:GetReceiverState><trv:ReceiverToken>{token}</trv:ReceiverToken></trv:GetReceiverState>"
    )
    assert state.text("trv:ReceiverState/tt:AutoCreated") == "true"
    assert state.text("trv:ReceiverState/tt:State") == "NotConnected"
    jobs = await house.send("<trc:GetRecordingJobs/>")
    assert b"AutoCreateReceiver" not in answer.xml + jobs.xml


@pytest.mark.requirement("RC-5.3.3-24")
@pytest.mark.parametrize(
    "given",
    [
        pytest.param(f'<tt:SourceToken Type="{RECEIVER}"/>', id="only a type"),
        pytest.param("<tt:SourceToken><tt:Token/></tt:SourceToken>", id="an empty token"),
        pytest.param("<tt:SourceToken/>", id="nothing in it"),
    ],
)
async def test_an_empty_source_token_counts_as_not_given(house: SoapHouse, given: str) -> None:
    source = f"<tt:Source>{given}<tt:AutoCreateReceiver>true</tt:AutoCreateReceiver></tt:Source>"
    answer = await house.send(create_job(await recording_of(house), source))
    reference = answer.all("trc:JobConfiguration/tt:Source/tt:SourceToken")[0]
    assert reference.attrib == {"Type": RECEIVER}
    assert await tokens(house, "receivers") == [reference.findtext("{*}Token")]


@pytest.mark.requirement("RC-5.3.3-19")
async def test_automatic_creation_has_no_effect_beside_a_source_token(house: SoapHouse) -> None:
    recording, receiver = await recording_of(house), await receiver_of(house)
    both = source_token(receiver).replace(
        "</tt:Source>", "<tt:AutoCreateReceiver>true</tt:AutoCreateReceiver></tt:Source>"
    )
    answer = await house.send(create_job(recording, both))
    assert answer.text("trc:JobConfiguration/tt:Source/tt:SourceToken/tt:Token") == receiver
    assert await tokens(house, "receivers") == [receiver]


@pytest.mark.requirement("RC-5.13-03")
async def test_a_job_for_an_unknown_recording_is_refused(house: SoapHouse) -> None:
    reply = await house.send(create_job("nosuch"))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/NoRecording")
    assert await tokens(house, "receivers") == []


@pytest.mark.requirement("RC-5.13-04", "RC-5.3.3-05", "RC-5.3.3-06", "RC-5.3.3-16", "RC-5.3.3-21")
@pytest.mark.parametrize(
    ("mode", "priority", "source"),
    [
        pytest.param("Foo", 1, AUTO_SOURCE, id="unknown mode"),
        pytest.param("idle", 1, AUTO_SOURCE, id="mode in lower case"),
        pytest.param("", 1, AUTO_SOURCE, id="empty mode"),
        pytest.param("Idle", -1, AUTO_SOURCE, id="negative priority"),
        pytest.param("Idle", "high", AUTO_SOURCE, id="priority that is no number"),
        pytest.param("Idle", 1, "<tt:Source/>", id="neither token nor automatic creation"),
        pytest.param("Idle", 1, source_token("nosuch"), id="unknown receiver"),
        pytest.param(
            "Idle",
            1,
            "<tt:Source><tt:AutoCreateReceiver>maybe</tt:AutoCreateReceiver></tt:Source>",
            id="automatic creation neither true nor false",
        ),
        pytest.param(
            "Idle",
            1,
            "<tt:Source><tt:AutoCreateReceiver>true</tt:AutoCreateReceiver><tt:Tracks><tt:SourceTag/>"
            "<tt:Destination>VIDEO999</tt:Destination></tt:Tracks></tt:Source>",
            id="a destination that the recording does not have",
        ),
    ],
)
async def test_an_invalid_job_is_refused_and_creates_nothing(
    house: SoapHouse, mode: str, priority: object, source: str
) -> None:
    reply = await house.send(create_job(await recording_of(house), source, mode, priority))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/BadConfiguration")
    assert await tokens(house, "jobs") == []
    assert await tokens(house, "receivers") == []


async def test_priority_zero_is_accepted(house: SoapHouse) -> None:
    assert (await house.send(create_job(await recording_of(house), priority=0))).fault is None


@pytest.mark.requirement("RC-5.13-05", "RC-5.24-09")
async def test_one_job_above_the_announced_maximum_is_refused(house: SoapHouse) -> None:
    capabilities = (await house.send("<trc:GetServiceCapabilities/>")).all("trc:Capabilities")[0]
    assert capabilities.attrib["MaxRecordingJobs"] == "3"
    recording = await recording_of(house)
    for _ in range(3):
        await job_of(house, recording)
    before = await tokens(house, "receivers")
    reply = await house.send(create_job(recording))
    assert (reply.status, reply.fault) == (500, "Receiver/Action/MaxRecordingJobs")
    assert await tokens(house, "receivers") == before
    assert len(await tokens(house, "jobs")) == 3


@pytest.mark.requirement("RC-5.13-06")
async def test_a_job_whose_automatic_receiver_finds_no_room_is_refused(house: SoapHouse) -> None:
    recording = await recording_of(house)
    for _ in range(4):
        await receiver_of(house)
    reply = await house.send(create_job(recording))
    assert (reply.status, reply.fault) == (500, "Receiver/Action/MaxReceivers")
    assert await tokens(house, "jobs") == []


@pytest.mark.requirement("RC-5.14-05", "RC-5.1-07")
async def test_a_deleted_job_takes_only_automatic_receivers_that_no_other_job_uses(house: SoapHouse) -> None:
    recording, manual = await recording_of(house), await receiver_of(house)
    shared_answer = await house.send(create_job(recording))
    shared = shared_answer.text("trc:JobConfiguration/tt:Source/tt:SourceToken/tt:Token")
    sharing = await job_of(house, recording, source_token(shared))
    third = await job_of(house, recording, source_token(manual))

    async def delete(job: str) -> None:
        await house.send(f"<trc:DeleteRecordingJob><trc:JobToken>{job}</trc:JobToken></trc:DeleteRecordingJob>")

    await delete(shared_answer.text("trc:JobToken"))
    assert sorted(await tokens(house, "receivers")) == sorted([manual, shared])
    await delete(third)
    assert sorted(await tokens(house, "receivers")) == sorted([manual, shared])
    await delete(sharing)
    assert await tokens(house, "receivers") == [manual]
    assert await tokens(house, "jobs") == []


async def test_setting_the_mode_changes_nothing_else(house: SoapHouse) -> None:
    job = await job_of(house, await recording_of(house))
    before = await house.send("<trc:GetRecordingJobs/>")
    done = await house.send(set_mode(job, "Active"))
    after = await house.send("<trc:GetRecordingJobs/>")
    assert done.name == "SetRecordingJobModeResponse"
    assert after.xml == before.xml.replace(b"<tt:Mode>Idle<", b"<tt:Mode>Active<")


def set_mode(job: str, mode: str) -> str:
    return (
        f"<trc:SetRecordingJobMode><trc:JobToken>{job}</trc:JobToken><trc:Mode>{mode}</trc:Mode>"
        "</trc:SetRecordingJobMode>"
    )


@pytest.mark.requirement("RC-5.18-04")
@pytest.mark.parametrize("mode", ["Foo", "active", "", " Active"])
async def test_a_mode_that_is_none_is_refused(house: SoapHouse, mode: str) -> None:
    job = await job_of(house, await recording_of(house))
    before = await house.send("<trc:GetRecordingJobs/>")
    reply = await house.send(set_mode(job, mode))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/BadMode")
    assert (await house.send("<trc:GetRecordingJobs/>")).xml == before.xml


@pytest.mark.requirement("RC-5.19-04", "RC-5.19-06", "RC-5.19-07", "RC-5.19-08", "RC-5.19-17")
@pytest.mark.parametrize("mode", ["Idle", "Active"])
async def test_the_state_of_a_job_mirrors_its_configuration(house: SoapHouse, mode: str) -> None:
    recording, receiver = await recording_of(house), await receiver_of(house)
    mapped = source_token(receiver).replace(
        "</tt:Source>",
        "<tt:Tracks><tt:SourceTag>v</tt:SourceTag><tt:Destination>VIDEO001</tt:Destination></tt:Tracks></tt:Source>",
    )
    second = AUTO_SOURCE.replace(
        "</tt:Source>",
        "<tt:Tracks><tt:SourceTag>a</tt:SourceTag><tt:Destination>AUDIO001</tt:Destination></tt:Tracks></tt:Source>",
    )
    answer = await house.send(create_job(recording, mapped + second, mode))
    state = await house.send(
        f"<trc:GetRecordingJobState><trc:JobToken>{answer.text('trc:JobToken')}</trc:JobToken>"
        "</trc:GetRecordingJobState>"
    )
    assert state.text("trc:State/tt:RecordingToken") == recording
    assert state.text("trc:State/tt:State") == "Idle"
    assert state.texts("trc:State/tt:Sources/tt:State") == ["Idle", "Idle"]
    references = state.all("trc:State/tt:Sources/tt:SourceToken")
    assert [r.findtext("{*}Token") for r in references] == answer.texts(
        "trc:JobConfiguration/tt:Source/tt:SourceToken/tt:Token"
    )
    assert {r.attrib["Type"] for r in references} == {RECEIVER}
    tracks = "trc:State/tt:Sources/tt:Tracks/tt:Track"
    assert state.texts(f"{tracks}/tt:SourceTag") == ["v", "a"]
    assert state.texts(f"{tracks}/tt:Destination") == ["VIDEO001", "AUDIO001"]
    assert state.texts(f"{tracks}/tt:State") == ["Idle", "Idle"]


TOKEN_FAULTS = [
    pytest.param(
        "<trc:DeleteRecording><trc:RecordingToken>nosuch</trc:RecordingToken></trc:DeleteRecording>",
        "NoRecording",
        marks=pytest.mark.requirement("RC-5.5-03"),
    ),
    pytest.param(
        "<trc:DeleteRecordingJob><trc:JobToken>nosuch</trc:JobToken></trc:DeleteRecordingJob>",
        "NoRecordingJob",
        marks=pytest.mark.requirement("RC-5.14-03"),
    ),
    pytest.param(set_mode("nosuch", "Active"), "NoRecordingJob", marks=pytest.mark.requirement("RC-5.18-03")),
    pytest.param(
        "<trc:GetRecordingJobState><trc:JobToken>nosuch</trc:JobToken></trc:GetRecordingJobState>",
        "NoRecordingJob",
        marks=pytest.mark.requirement("RC-5.19-03"),
    ),
]


@pytest.mark.parametrize(("request_", "subcode"), TOKEN_FAULTS)
async def test_an_unknown_token_has_the_fault_of_its_kind(house: SoapHouse, request_: str, subcode: str) -> None:
    job = await job_of(house, await recording_of(house))
    reply = await house.send(request_)
    assert (reply.status, reply.fault) == (400, f"Sender/InvalidArgVal/{subcode}")
    assert "nosuch" in reply.reason
    assert await tokens(house, "jobs") == [job]
    assert len(await tokens(house, "recordings")) == 1


@pytest.mark.requirement("RC-5.24-12", "RC-5.24-14")
async def test_capabilities_are_static_and_do_not_promise_what_is_missing(house: SoapHouse) -> None:
    before = await house.send("<trc:GetServiceCapabilities/>")
    await job_of(house, await recording_of(house))
    assert (await house.send("<trc:GetServiceCapabilities/>")).xml == before.xml
    attributes = dict(before.all("trc:Capabilities")[0].attrib)
    assert attributes["MetadataRecording"] == "true"
    assert attributes["Encoding"] == "H264 H265 JPEG MPEG4 AV1 AAC G711 L16 G726 opus"
    assert "SupportedExportFileFormats" not in attributes
    promised = {
        "DynamicRecordings": ("CreateRecording", "DeleteRecording"),
        "DynamicTracks": ("CreateTrack", "DeleteTrack"),
        "Options": ("GetRecordingOptions",),
    }
    for attribute, operations in promised.items():
        assert attributes[attribute] == "true"
        for operation in operations:
            assert (await house.send(f"<trc:{operation}/>")).fault == "Sender/InvalidArgs", "it is there"
    assert (await house.send("<trc:ExportRecordedData/>")).fault == "Receiver/ActionNotSupported/NotImplemented"


@pytest.mark.requirement("RC-5.4-05", "RC-5.5-04", "RC-5.9-06", "RC-5.10-06")
async def test_fixed_recordings_and_tracks_are_announced_and_cannot_be_made_or_deleted() -> None:
    """Without the capability; one without the other, too."""
    kept = FakeStore(StoredConfiguration(recordings=(a_recording("rec-1"),)))
    track = "<trc:TrackToken>VIDEO001</trc:TrackToken>"
    requests = {
        "DynamicRecordings": [create_recording(), recording_request("DeleteRecording", "rec-1")],
        "DynamicTracks": [
            recording_request("CreateTrack", "rec-1", track_xml()),
            recording_request("DeleteTrack", "rec-1", track),
        ],
    }
    for dynamic in ((), ("DynamicRecordings",), ("DynamicTracks",)):
        limits = ControlSettings(
            dynamic_recordings="DynamicRecordings" in dynamic, dynamic_tracks="DynamicTracks" in dynamic
        )
        house = await SoapHouse.open(limits, store=kept)
        (capabilities,) = (await house.send("<trc:GetServiceCapabilities/>")).all("trc:Capabilities")
        before = (await house.send("<trc:GetRecordings/>")).xml
        for attribute, bodies in requests.items():
            assert capabilities.get(attribute) == ("true" if attribute in dynamic else "false")
            if attribute in dynamic:
                continue
            for body in bodies:
                reply = await house.send(body)
                assert (reply.status, reply.fault) == (500, "Receiver/ActionNotSupported/NotImplemented")
        assert (await house.send("<trc:GetRecordings/>")).xml == before
        (spare,) = (await house.send(recording_request("GetRecordingOptions", "rec-1"))).all("trc:Options/trc:Track")
        assert (spare.get("SpareTotal") == "0") == ("DynamicTracks" not in dynamic)
        await house.close()
    assert kept.applied == []


FOREIGN = '<v:Extra xmlns:v="urn:vendor" v:a="1"><v:Deep>x</v:Deep></v:Extra>'


@pytest.mark.requirement("RX-B.5-02")
async def test_foreign_elements_and_attributes_are_tolerated(house: SoapHouse) -> None:
    def vendored(request_: str, *ends: str) -> str:
        """With a foreign element at the end of each named element, and a foreign attribute on it."""
        for end in ends:
            assert f"</{end}>" in request_
            request_ = request_.replace(f"</{end}>", f"{FOREIGN}</{end}>")
            request_ = request_.replace(f"<{end}>", f'<{end} xmlns:v="urn:vendor" v:note="x">')
        return request_

    made = await house.send(vendored(create_recording(), "tt:Source", "trc:RecordingConfiguration"))
    recording = made.text("trc:RecordingToken")
    extension = AUTO_SOURCE.replace("</tt:Source>", f"<tt:Extension>{FOREIGN}</tt:Extension></tt:Source>")
    job = vendored(create_job(recording, extension), "trc:JobConfiguration")
    receiver = vendored(
        f"<trv:CreateReceiver>{receiver_xml()}</trv:CreateReceiver>", "trv:Configuration", "tt:StreamSetup"
    )
    track = vendored(recording_request("CreateTrack", recording, track_xml()), "trc:TrackConfiguration")
    uri = vendored(get_replay_uri(recording), "trp:StreamSetup")
    scope = find_recordings(f"<tt:Extension>{FOREIGN}</tt:Extension>")
    for request_ in (job, receiver, track, uri, scope):
        assert (await house.send(request_)).fault is None


@pytest.mark.requirement("RC-5.5-06")
async def test_a_deleted_recording_is_unknown_to_all_services(house: SoapHouse) -> None:
    recording = await recording_of(house)
    await house.send(recording_request("DeleteRecording", recording))
    control = await house.send(recording_request("GetRecordingConfiguration", recording))
    assert control.fault == "Sender/InvalidArgVal/NoRecording"
    search = await house.send(
        f"<tse:GetRecordingInformation><tse:RecordingToken>{recording}</tse:RecordingToken>"
        "</tse:GetRecordingInformation>"
    )
    assert search.fault == "Sender/InvalidArgVal/InvalidToken"
    replay = await house.send(get_replay_uri(recording))
    assert replay.fault == "Sender/InvalidArgVal/NoRecording"
    assert house.footage.deleted == [recording]


ACTIVE, IDLE, ERROR = RecordingJobState.ACTIVE, RecordingJobState.IDLE, RecordingJobState.ERROR


@pytest.mark.parametrize(
    ("video", "audio", "source", "job"),
    [
        pytest.param(IDLE, IDLE, "Idle", "Idle", marks=pytest.mark.requirement("RC-5.19-13")),
        pytest.param(ACTIVE, IDLE, "PartiallyActive", "PartiallyActive", marks=pytest.mark.requirement("RC-5.19-14")),
        pytest.param(ACTIVE, ACTIVE, "Active", "Active", marks=pytest.mark.requirement("RC-5.19-15")),
        pytest.param(ACTIVE, ERROR, "Error", "Error", marks=pytest.mark.requirement("RC-5.19-16")),
        pytest.param(IDLE, ERROR, "Error", "Error", marks=pytest.mark.requirement("RC-5.19-10")),
    ],
)
async def test_states_are_gathered_from_the_tracks_upwards(
    house: SoapHouse, video: RecordingJobState, audio: RecordingJobState, source: str, job: str
) -> None:
    recording, receiver = await recording_of(house), await receiver_of(house)
    lines = "".join(
        f"<tt:Tracks><tt:SourceTag/><tt:Destination>{track}</tt:Destination></tt:Tracks>"
        for track in ("VIDEO001", "AUDIO001")
    )
    token = await job_of(house, recording, source_token(receiver).replace("</tt:Source>", f"{lines}</tt:Source>"))
    tracks = (TrackState("", VIDEO001, video), TrackState("", AUDIO001, audio, "no data" if audio is ERROR else None))
    house.engine.job_states[JobToken(token)] = JobState(
        RecordingToken(recording), (SourceState(SourceReference(receiver), tracks),)
    )
    state = await house.send(job_request("GetRecordingJobState", token))
    assert state.text("trc:State/tt:State") == job
    assert state.text("trc:State/tt:Sources/tt:State") == source
    assert state.texts("trc:State/tt:Sources/tt:Tracks/tt:Track/tt:State") == [video, audio]
    errors = state.texts("trc:State/tt:Sources/tt:Tracks/tt:Track/tt:Error")
    assert errors == (["no data"] if audio is ERROR else [])


async def test_a_change_that_cannot_be_stored_is_not_made_and_says_nothing_of_the_disk(house: SoapHouse) -> None:
    recording = await recording_of(house)
    before = await house.send("<trc:GetRecordings/>")
    house.store.failing = True
    for request_ in (create_recording(), create_job(recording), recording_request("DeleteRecording", recording)):
        reply = await house.send(request_)
        assert (reply.status, reply.fault) == (500, "Receiver/Action")
        assert "disk" not in reply.reason
    assert (await house.send("<trc:GetRecordings/>")).xml == before.xml
    assert await tokens(house, "receivers") == []
