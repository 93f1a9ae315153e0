"""Recording control on the wire: configurations that are read and replaced, tracks, options."""

from __future__ import annotations

import pytest

from tests.support.soap_house import (
    AUTO_SOURCE,
    SoapHouse,
    create_job,
    information_request,
    job_of,
    job_request,
    job_xml,
    receiver_of,
    recording_of,
    recording_request,
    source_token,
    source_xml,
    tokens,
    track_xml,
)


def configuration_xml(name: str, content: str = "", retention: str = "PT0S") -> str:
    return (
        f"<trc:RecordingConfiguration>{source_xml(name=name)}<tt:Content>{content}</tt:Content>"
        f"<tt:MaximumRetentionTime>{retention}</tt:MaximumRetentionTime></trc:RecordingConfiguration>"
    )


async def announced(house: SoapHouse) -> dict[str, str]:
    """The capabilities of the recording service."""
    (capabilities,) = (await house.send("<trc:GetServiceCapabilities/>")).all("trc:Capabilities")
    return {str(name): str(value) for name, value in capabilities.attrib.items()}


def track_request(operation: str, recording: str, track: str, more: str = "") -> str:
    return recording_request(operation, recording, f"<trc:TrackToken>{track}</trc:TrackToken>{more}")


@pytest.mark.requirement("RC-5.3.1-01", "RC-5.8-04")
async def test_a_recording_configuration_is_replaced_and_read_back(house: SoapHouse) -> None:
    recording = await recording_of(house)
    done = await house.send(
        recording_request("SetRecordingConfiguration", recording, configuration_xml("Yard", "Gate <!-- x -->", "P2D"))
    )
    assert (done.name, len(done.element)) == ("SetRecordingConfigurationResponse", 0)
    read = await house.send(recording_request("GetRecordingConfiguration", recording))
    assert read.text("trc:RecordingConfiguration/tt:Source/tt:Name") == "Yard"
    assert read.text("trc:RecordingConfiguration/tt:Content") == "Gate "
    assert read.text("trc:RecordingConfiguration/tt:MaximumRetentionTime") == "P2D"
    listed = await house.send("<trc:GetRecordings/>")
    assert listed.text("trc:RecordingItem/tt:Configuration/tt:Source/tt:Name") == "Yard"


@pytest.mark.requirement("RC-5.7-03")
@pytest.mark.parametrize(
    "configuration",
    [
        configuration_xml("n" * 65),
        configuration_xml("Yard", retention="P"),
        configuration_xml("Yard", retention="-P1D"),
    ],
    ids=["a name too long", "a duration that is none", "a negative duration"],
)
async def test_an_invalid_recording_configuration_changes_nothing(house: SoapHouse, configuration: str) -> None:
    recording = await recording_of(house)
    before = await house.send("<trc:GetRecordings/>")
    reply = await house.send(recording_request("SetRecordingConfiguration", recording, configuration))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/BadConfiguration")
    assert (await house.send("<trc:GetRecordings/>")).xml == before.xml


@pytest.mark.requirement("RC-5.3.1-08")
async def test_texts_beyond_what_is_stored_are_cut_alike_for_all_getters(house: SoapHouse) -> None:
    recording = await recording_of(house)
    sent = {"Source/tt:Location": "l" * 10_240, "Source/tt:Description": "d" * 10_240, "Content": "c" * 10_240}
    source = source_xml("", "Yard", sent["Source/tt:Location"], sent["Source/tt:Description"])
    long = configuration_xml("Yard", sent["Content"]).replace(source_xml(name="Yard"), source)
    assert (await house.send(recording_request("SetRecordingConfiguration", recording, long))).fault is None
    answers = [
        (await house.send(recording_request("GetRecordingConfiguration", recording)), "trc:RecordingConfiguration"),
        (await house.send("<trc:GetRecordings/>"), "trc:RecordingItem/tt:Configuration"),
        (await house.send(information_request(recording)), "tse:RecordingInformation"),
    ]
    for name, text in sent.items():
        kept = {reply.text(f"{at}/tt:{name}") for reply, at in answers}
        assert kept == {text[:4096]}


# Tracks


@pytest.mark.requirement("RC-5.3.2-01", "RC-5.9-07", "RC-5.9-09", "RC-5.11-05", "RC-5.24-05")
async def test_a_created_track_is_listed_and_read(house: SoapHouse) -> None:
    assert (await announced(house))["DynamicTracks"] == "true"
    recording = await recording_of(house)
    made = await house.send(recording_request("CreateTrack", recording, track_xml("Audio", "back channel")))
    track = made.text("trc:TrackToken")
    assert track not in ("VIDEO001", "AUDIO001", "META001")
    listed = await house.send("<trc:GetRecordings/>")
    assert track in listed.texts("trc:RecordingItem/tt:Tracks/tt:Track/tt:TrackToken")
    read = await house.send(track_request("GetTrackConfiguration", recording, track))
    assert read.text("trc:TrackConfiguration/tt:TrackType") == "Audio"
    assert read.text("trc:TrackConfiguration/tt:Description") == "back channel"


@pytest.mark.requirement("RC-5.4-12")
async def test_the_description_of_each_default_track_is_the_empty_string(house: SoapHouse) -> None:
    recording = await recording_of(house)
    for track in ("VIDEO001", "AUDIO001", "META001"):
        read = await house.send(track_request("GetTrackConfiguration", recording, track))
        assert read.text("trc:TrackConfiguration/tt:Description") == ""


@pytest.mark.requirement("RC-5.9-05", "RC-5.3.2-02")
@pytest.mark.parametrize("track_type", ["Extended", "Foo", "video", ""])
async def test_a_track_of_no_type_is_refused(house: SoapHouse, track_type: str) -> None:
    recording = await recording_of(house)
    before = await house.send("<trc:GetRecordings/>")
    reply = await house.send(recording_request("CreateTrack", recording, track_xml(track_type)))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/BadConfiguration")
    assert (await house.send("<trc:GetRecordings/>")).xml == before.xml


@pytest.mark.requirement("RC-5.12-06", "RC-5.12-07")
async def test_a_tracks_description_changes_and_its_type_does_not(house: SoapHouse) -> None:
    recording = await recording_of(house)
    done = await house.send(track_request("SetTrackConfiguration", recording, "VIDEO001", track_xml("Audio", "wide")))
    assert (done.name, len(done.element)) == ("SetTrackConfigurationResponse", 0)
    read = await house.send(track_request("GetTrackConfiguration", recording, "VIDEO001"))
    assert read.text("trc:TrackConfiguration/tt:TrackType") == "Video"
    assert read.text("trc:TrackConfiguration/tt:Description") == "wide"


@pytest.mark.requirement("RC-5.12-05")
@pytest.mark.parametrize("configuration", [track_xml("Foo"), track_xml("")], ids=["an unknown type", "an empty type"])
async def test_an_invalid_track_configuration_changes_nothing(house: SoapHouse, configuration: str) -> None:
    recording = await recording_of(house)
    before = await house.send("<trc:GetRecordings/>")
    reply = await house.send(track_request("SetTrackConfiguration", recording, "VIDEO001", configuration))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/BadConfiguration")
    assert (await house.send("<trc:GetRecordings/>")).xml == before.xml


@pytest.mark.requirement("RC-5.9-10", "RC-5.10-08")
async def test_tracks_of_two_recordings_share_tokens_and_are_addressed_apart(house: SoapHouse) -> None:
    assert (await announced(house))["DynamicTracks"] == "true"
    one, other = await recording_of(house), await recording_of(house)
    await house.send(track_request("SetTrackConfiguration", one, "META001", track_xml("Metadata", "one")))
    deleted = await house.send(track_request("DeleteTrack", other, "META001"))
    assert (deleted.name, len(deleted.element)) == ("DeleteTrackResponse", 0)
    read = await house.send(track_request("GetTrackConfiguration", one, "META001"))
    assert read.text("trc:TrackConfiguration/tt:Description") == "one"
    gone = await house.send(track_request("GetTrackConfiguration", other, "META001"))
    assert gone.fault == "Sender/InvalidArgVal/NoTrack"


@pytest.mark.parametrize(
    ("request_", "subcode"),
    [
        pytest.param(
            recording_request("SetRecordingConfiguration", "nosuch", configuration_xml("Yard")),
            "NoRecording",
            marks=pytest.mark.requirement("RC-5.7-04"),
        ),
        pytest.param(
            recording_request("GetRecordingConfiguration", "nosuch"),
            "NoRecording",
            marks=pytest.mark.requirement("RC-5.8-03"),
        ),
        pytest.param(
            recording_request("CreateTrack", "nosuch", track_xml()),
            "NoRecording",
            marks=pytest.mark.requirement("RC-5.9-03"),
        ),
        pytest.param(
            track_request("DeleteTrack", "nosuch", "VIDEO001"),
            "NoRecording",
            marks=pytest.mark.requirement("RC-5.10-03"),
        ),
        pytest.param(
            track_request("GetTrackConfiguration", "nosuch", "VIDEO001"),
            "NoRecording",
            marks=pytest.mark.requirement("RC-5.11-03"),
        ),
        pytest.param(
            track_request("SetTrackConfiguration", "nosuch", "VIDEO001", track_xml()),
            "NoRecording",
            marks=pytest.mark.requirement("RC-5.12-03"),
        ),
        pytest.param(
            recording_request("GetRecordingOptions", "nosuch"),
            "NoRecording",
            marks=pytest.mark.requirement("RC-5.20-03"),
        ),
        pytest.param(
            job_request("GetRecordingJobConfiguration", "nosuch"),
            "NoRecordingJob",
            marks=pytest.mark.requirement("RC-5.17-03"),
        ),
        pytest.param(
            job_request("SetRecordingJobConfiguration", "nosuch", job_xml("nosuch")),
            "NoRecordingJob",
            marks=pytest.mark.requirement("RC-5.16-03"),
        ),
    ],
)
async def test_an_unknown_token_has_the_fault_of_its_kind(house: SoapHouse, request_: str, subcode: str) -> None:
    await recording_of(house)
    before = await house.send("<trc:GetRecordings/>")
    reply = await house.send(request_)
    assert (reply.status, reply.fault) == (400, f"Sender/InvalidArgVal/{subcode}")
    assert (await house.send("<trc:GetRecordings/>")).xml == before.xml


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param("DeleteTrack", marks=pytest.mark.requirement("RC-5.10-04")),
        pytest.param("GetTrackConfiguration", marks=pytest.mark.requirement("RC-5.11-04")),
        pytest.param("SetTrackConfiguration", marks=pytest.mark.requirement("RC-5.12-04")),
    ],
)
async def test_a_track_that_only_another_recording_has_is_unknown(house: SoapHouse, operation: str) -> None:
    one, other = await recording_of(house), await recording_of(house)
    track = (await house.send(recording_request("CreateTrack", other, track_xml()))).text("trc:TrackToken")
    before = await house.send("<trc:GetRecordings/>")
    for token in ("nosuch", track):
        more = track_xml() if operation == "SetTrackConfiguration" else ""
        reply = await house.send(track_request(operation, one, token, more))
        assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/NoTrack")
    assert (await house.send("<trc:GetRecordings/>")).xml == before.xml


# Options


async def options_of(house: SoapHouse, recording: str) -> dict[str, int]:
    """All attributes of the options; `Spare` is that of Job."""
    reply = await house.send(recording_request("GetRecordingOptions", recording))
    (job,), (track,) = reply.all("trc:Options/trc:Job"), reply.all("trc:Options/trc:Track")
    return {
        name: int(value) for name, value in [*job.attrib.items(), *track.attrib.items()] if name.startswith("Spare")
    }


@pytest.mark.requirement(
    "RC-5.20-04", "RC-5.20-05", "RC-5.20-08", "RC-5.20-09", "RC-5.20-10", "RC-5.20-11", "RC-5.20-12", "RC-5.20-13",
    "RC-5.20-16", "RC-5.9-04", "RC-5.9-08", "RC-5.1-01", "RC-5.1-02", "RC-5.3.2-02", "RC-5.24-10",
)  # fmt: skip
async def test_spare_tracks_are_those_that_can_be_created(house: SoapHouse) -> None:
    capabilities = await announced(house)
    assert (capabilities["Options"], capabilities["DynamicTracks"]) == ("true", "true")
    recording = await recording_of(house)
    spare = await options_of(house, recording)
    assert spare == {"Spare": 3, "SpareTotal": 3, "SpareVideo": 1, "SpareAudio": 1, "SpareMetadata": 1}
    for track_type in ("Video", "Audio", "Metadata"):
        spare[f"Spare{track_type}"] -= 1
        spare["SpareTotal"] -= 1
        assert (await house.send(recording_request("CreateTrack", recording, track_xml(track_type)))).fault is None
        assert await options_of(house, recording) == spare
        before = await house.send("<trc:GetRecordings/>")
        full = await house.send(recording_request("CreateTrack", recording, track_xml(track_type)))
        assert (full.status, full.fault) == (500, "Receiver/Action/MaxTracks")
        assert (await house.send("<trc:GetRecordings/>")).xml == before.xml


@pytest.mark.requirement("RC-5.20-06", "RC-5.20-15", "RC-5.13-08")
async def test_spare_jobs_are_those_that_can_be_created(house: SoapHouse) -> None:
    recording = await recording_of(house)
    assert (await options_of(house, recording))["Spare"] == 3
    jobs = []
    for left in (2, 1, 0):
        jobs.append(await job_of(house, recording))
        assert (await options_of(house, recording))["Spare"] == left
    assert (await house.send(create_job(recording))).fault == "Receiver/Action/MaxRecordingJobs"
    await house.send(job_request("DeleteRecordingJob", jobs[0]))
    assert (await options_of(house, recording))["Spare"] == 1


# Job configurations


@pytest.mark.requirement("RC-5.3.3-18", "RC-5.16-08", "RC-5.16-09", "RC-5.16-10", "RC-5.17-04")
async def test_a_replaced_job_configuration_is_answered_as_it_is_in_effect(house: SoapHouse) -> None:
    recording, manual = await recording_of(house), await receiver_of(house)
    job = await job_of(house, recording)
    automatic = next(t for t in await tokens(house, "receivers") if t != manual)
    answer = await house.send(
        job_request("SetRecordingJobConfiguration", job, job_xml(recording, source_token(manual), "Active", 9))
    )
    read = await house.send(job_request("GetRecordingJobConfiguration", job))
    for reply in (answer, read):
        assert reply.text("trc:JobConfiguration/tt:Mode") == "Active"
        assert reply.text("trc:JobConfiguration/tt:Priority") == "9"
        assert reply.text("trc:JobConfiguration/tt:Source/tt:SourceToken/tt:Token") == manual
    assert automatic not in await tokens(house, "receivers")
    again = await house.send(
        job_request("SetRecordingJobConfiguration", job, job_xml(recording, source_token(manual) + AUTO_SOURCE))
    )
    named = again.texts("trc:JobConfiguration/tt:Source/tt:SourceToken/tt:Token")
    assert named == await tokens(house, "receivers")
    assert b"AutoCreateReceiver" not in answer.xml + read.xml + again.xml


@pytest.mark.requirement("RC-5.16-04", "RC-5.16-07")
async def test_an_invalid_job_configuration_changes_nothing(house: SoapHouse) -> None:
    recording, other = await recording_of(house), await recording_of(house)
    job = await job_of(house, recording)
    track = (await house.send(recording_request("CreateTrack", other, track_xml()))).text("trc:TrackToken")
    line = f"<tt:Tracks><tt:SourceTag/><tt:Destination>{track}</tt:Destination></tt:Tracks></tt:Source>"
    before = await house.send("<trc:GetRecordingJobs/>")
    for configuration in (
        job_xml(recording, AUTO_SOURCE.replace("</tt:Source>", line)),
        job_xml(recording, mode="Foo"),
        job_xml(recording, priority=-1),
        job_xml(other),
        job_xml(recording, source="<tt:Source/>"),
    ):
        reply = await house.send(job_request("SetRecordingJobConfiguration", job, configuration))
        assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/BadConfiguration")
    assert (await house.send("<trc:GetRecordingJobs/>")).xml == before.xml


@pytest.mark.requirement("RC-5.16-05")
async def test_a_job_configuration_whose_automatic_receiver_finds_no_room_is_refused(house: SoapHouse) -> None:
    recording, manual = await recording_of(house), await receiver_of(house)
    job = await job_of(house, recording, source_token(manual))
    for _ in range(3):
        await receiver_of(house)
    before = await house.send("<trc:GetRecordingJobs/>")
    reply = await house.send(job_request("SetRecordingJobConfiguration", job, job_xml(recording)))
    assert (reply.status, reply.fault) == (500, "Receiver/Action/MaxReceivers")
    assert (await house.send("<trc:GetRecordingJobs/>")).xml == before.xml
