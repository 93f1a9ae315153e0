"""Recording control on the wire: recordings, and what all operations have in common."""

from __future__ import annotations

import pytest

from nvr.control.state import ControlSettings
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
    receiver_of,
    receiver_xml,
    recording_of,
    recording_request,
    set_mode,
    source_token,
    source_xml,
    tokens,
    track_xml,
)

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


@pytest.mark.requirement("RC-5.3.1-01", "RC-5.3.1-09", "RC-5.3.1-10", "RC-5.3.1-11")
async def test_descriptive_fields_come_back_as_they_were_sent(house: SoapHouse) -> None:
    long_id, address = "urn:x:" + "i" * 122, "http://camera.example/" + "a" * 106
    assert len(long_id) == len(address) == 128
    source = source_xml(
        long_id, "Tor Süd &lt;1&gt; &amp; Innenhof Nord", "Größe ½ 監視", "  two  spaces\ttab ", address
    )
    made = await house.send(create_recording(source, content="&lt;b&gt; &#x1F3A5;", retention="P2D"))
    listed = await house.send("<trc:GetRecordings/>")
    read = await house.send(recording_request("GetRecordingConfiguration", made.text("trc:RecordingToken")))
    for reply, at in ((listed, "trc:RecordingItem/tt:Configuration"), (read, "trc:RecordingConfiguration")):
        assert reply.text(f"{at}/tt:Source/tt:SourceId") == long_id
        assert reply.text(f"{at}/tt:Source/tt:Name") == "Tor Süd <1> & Innenhof Nord"
        assert reply.text(f"{at}/tt:Source/tt:Location") == "Größe ½ 監視"
        assert reply.text(f"{at}/tt:Source/tt:Description") == "  two  spaces\ttab "
        assert reply.text(f"{at}/tt:Source/tt:Address") == address
        assert reply.text(f"{at}/tt:Content") == "<b> \U0001f3a5"
        assert reply.text(f"{at}/tt:MaximumRetentionTime") == "P2D"


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


@pytest.mark.requirement("RC-5.24-03", "RC-5.24-12", "RC-5.24-14")
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


@pytest.mark.requirement("RC-5.4-05", "RC-5.5-04", "RC-5.9-06", "RC-5.10-06", "RC-5.24-04", "RC-5.24-05")
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
