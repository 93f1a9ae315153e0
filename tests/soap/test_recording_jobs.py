"""Recording jobs on the wire: what clients send, what they are told, and what is refused."""

from __future__ import annotations

import pytest

from nvr.model.job import JobState, RecordingJobState, SourceReference, SourceState, TrackState
from nvr.model.tokens import AUDIO001, META001, VIDEO001, JobToken, RecordingToken, TrackToken
from tests.support.soap_house import (
    AUTO_SOURCE,
    SoapHouse,
    create_job,
    job_of,
    job_request,
    receiver_of,
    recording_of,
    recording_request,
    set_mode,
    source_token,
    tokens,
    track_xml,
)

RECEIVER = "http://www.onvif.org/ver10/schema/Receiver"


@pytest.mark.requirement("RC-5.13-07", "RC-5.13-09", "RC-5.15-03")
async def test_a_job_is_answered_and_listed_with_the_configuration_in_effect(house: SoapHouse) -> None:
    recording, receiver = await recording_of(house), await receiver_of(house)
    source = (
        f'<tt:Source><tt:SourceToken Type="{RECEIVER}"><tt:Token>{receiver}</tt:Token></tt:SourceToken>'
        "<tt:Tracks><tt:SourceTag>left</tt:SourceTag><tt:Destination>VIDEO001</tt:Destination></tt:Tracks>"
        "<tt:Tracks><tt:SourceTag/><tt:Destination>META001</tt:Destination></tt:Tracks></tt:Source>"
    )
    answer = await house.send(create_job(recording, source, "Idle", 7))
    second = await house.send(create_job(recording, source_token(receiver), "Active", 3))
    listed = await house.send("<trc:GetRecordingJobs/>")
    at = "trc:JobItem/tt:JobConfiguration"
    assert listed.texts("trc:JobItem/tt:JobToken") == [r.text("trc:JobToken") for r in (answer, second)]
    assert listed.texts(f"{at}/tt:Mode") == ["Idle", "Active"]
    assert listed.texts(f"{at}/tt:Priority") == ["7", "3"]
    await house.send(job_request("DeleteRecordingJob", second.text("trc:JobToken")))
    alone = await house.send("<trc:GetRecordingJobs/>")
    for reply, at in ((answer, "trc:JobConfiguration"), (alone, "trc:JobItem/tt:JobConfiguration")):
        assert reply.text(f"{at}/tt:RecordingToken") == recording
        assert reply.text(f"{at}/tt:Mode") == "Idle"
        assert reply.text(f"{at}/tt:Priority") == "7"
        assert reply.text(f"{at}/tt:Source/tt:SourceToken/tt:Token") == receiver
        assert reply.all(f"{at}/tt:Source/tt:SourceToken")[0].attrib == {"Type": RECEIVER}
        assert reply.texts(f"{at}/tt:Source/tt:Tracks/tt:SourceTag") == ["left", ""]
        assert reply.texts(f"{at}/tt:Source/tt:Tracks/tt:Destination") == ["VIDEO001", "META001"]
        assert not reply.all(f"{at}/tt:Source/tt:AutoCreateReceiver")


@pytest.mark.requirement("RC-5.3.3-17", "RC-5.3.3-18", "RC-5.1-08")
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
    listed = await house.send("<trv:GetReceivers/>")
    assert listed.text("trv:Receivers/tt:Configuration/tt:MediaUri") == ""
    jobs = await house.send("<trc:GetRecordingJobs/>")
    one = await house.send(job_request("GetRecordingJobConfiguration", answer.text("trc:JobToken")))
    assert b"AutoCreateReceiver" not in answer.xml + jobs.xml + one.xml


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


@pytest.mark.requirement("RC-5.13-04", "RC-5.13-10", "RC-5.3.3-05", "RC-5.3.3-06", "RC-5.3.3-16", "RC-5.3.3-21")
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


@pytest.mark.requirement("RC-5.3.3-21", "RC-5.13-04")
async def test_a_track_that_only_another_recording_has_is_no_destination(house: SoapHouse) -> None:
    recording, other = await recording_of(house), await recording_of(house)
    track = (await house.send(recording_request("CreateTrack", other, track_xml()))).text("trc:TrackToken")
    line = f"<tt:Tracks><tt:SourceTag/><tt:Destination>{track}</tt:Destination></tt:Tracks></tt:Source>"
    source = AUTO_SOURCE.replace("</tt:Source>", line)
    reply = await house.send(create_job(recording, source))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/BadConfiguration")
    assert (await tokens(house, "jobs"), await tokens(house, "receivers")) == ([], [])
    assert (await house.send(create_job(other, source))).fault is None


@pytest.mark.requirement("RC-5.3.3-06")
async def test_priority_zero_is_accepted(house: SoapHouse) -> None:
    answer = await house.send(create_job(await recording_of(house), priority=0))
    assert answer.text("trc:JobConfiguration/tt:Priority") == "0"


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


ACTIVE, IDLE, ERROR = RecordingJobState.ACTIVE, RecordingJobState.IDLE, RecordingJobState.ERROR


PARTLY = RecordingJobState.PARTIALLY_ACTIVE


@pytest.mark.parametrize(
    ("video", "audio", "metadata", "sources", "job"),
    [
        pytest.param(IDLE, IDLE, IDLE, [IDLE, IDLE], IDLE, marks=pytest.mark.requirement("RC-5.19-13")),
        pytest.param(ACTIVE, IDLE, IDLE, [PARTLY, IDLE], PARTLY, marks=pytest.mark.requirement("RC-5.19-14")),
        pytest.param(ACTIVE, IDLE, ACTIVE, [PARTLY, ACTIVE], PARTLY, marks=pytest.mark.requirement("RC-5.19-14")),
        pytest.param(ACTIVE, ACTIVE, IDLE, [ACTIVE, IDLE], PARTLY, marks=pytest.mark.requirement("RC-5.19-14")),
        pytest.param(ACTIVE, ACTIVE, ACTIVE, [ACTIVE, ACTIVE], ACTIVE, marks=pytest.mark.requirement("RC-5.19-15")),
        pytest.param(ACTIVE, ERROR, ACTIVE, [ERROR, ACTIVE], ERROR, marks=pytest.mark.requirement("RC-5.19-16")),
        pytest.param(ACTIVE, ACTIVE, ERROR, [ACTIVE, ERROR], ERROR, marks=pytest.mark.requirement("RC-5.19-16")),
        pytest.param(IDLE, ERROR, IDLE, [ERROR, IDLE], ERROR, marks=pytest.mark.requirement("RC-5.19-10")),
    ],
)
async def test_states_are_gathered_from_the_tracks_upwards(
    house: SoapHouse,
    video: RecordingJobState,
    audio: RecordingJobState,
    metadata: RecordingJobState,
    sources: list[RecordingJobState],
    job: RecordingJobState,
) -> None:
    """Video and audio come from one source, metadata from another."""
    recording, receivers = await recording_of(house), [await receiver_of(house) for _ in range(2)]
    reported: dict[str, list[TrackState]] = {
        receivers[0]: [told(VIDEO001, video), told(AUDIO001, audio)],
        receivers[1]: [told(META001, metadata)],
    }
    given = ""
    for receiver, tracks in reported.items():
        lines = (f"<tt:SourceTag/><tt:Destination>{track.destination}</tt:Destination>" for track in tracks)
        mapped = "".join(f"<tt:Tracks>{line}</tt:Tracks>" for line in lines)
        given += source_token(receiver).replace("</tt:Source>", f"{mapped}</tt:Source>")
    token = await job_of(house, recording, given)
    house.engine.job_states[JobToken(token)] = JobState(
        RecordingToken(recording),
        tuple(SourceState(SourceReference(receiver), tuple(tracks)) for receiver, tracks in reported.items()),
    )
    state = await house.send(job_request("GetRecordingJobState", token))
    assert state.text("trc:State/tt:State") == job
    assert state.texts("trc:State/tt:Sources/tt:State") == sources
    assert state.texts("trc:State/tt:Sources/tt:Tracks/tt:Track/tt:State") == [video, audio, metadata]
    errors = state.texts("trc:State/tt:Sources/tt:Tracks/tt:Track/tt:Error")
    assert errors == ["no data"] * [video, audio, metadata].count(ERROR)


def told(track: TrackToken, state: RecordingJobState) -> TrackState:
    return TrackState("", track, state, "no data" if state is ERROR else None)
