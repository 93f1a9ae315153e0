"""The search service on the wire: recordings, what they hold, and the sessions that find them."""

from __future__ import annotations

import asyncio

import pytest

from nvr.model.job import PROFILE_TYPE, JobState, RecordingJobState, SourceReference, SourceState, TrackState
from nvr.model.time import format_iso, parse_iso
from nvr.model.timeline import GapReason, Run, Timeline
from nvr.model.tokens import AUDIO001, VIDEO001, JobToken, RecordingToken, TrackKey, TrackToken
from tests.support.soap_house import (
    SoapHouse,
    create_job,
    create_recording,
    end_search,
    find_recordings,
    information_request,
    job_of,
    receiver_of,
    recording_of,
    recording_request,
    results_request,
    source_token,
    source_xml,
    track_xml,
)

START, MIDDLE, END = (
    parse_iso(t) for t in ("2026-03-01T10:00:00.123456789Z", "2026-03-01T10:30:00Z", "2026-03-01T11:00:00.000000001Z")
)
SUMMARY = "<tse:GetRecordingSummary/>"


def has_recorded(house: SoapHouse, recording: str, track: TrackToken, *ranges: tuple[int, int]) -> None:
    runs = [Run(f"run-{start}", start, end, GapReason.JOB_STOPPED) for start, end in ranges]
    house.footage.timelines[TrackKey(RecordingToken(recording), track)] = Timeline.of(runs)


async def search_of(house: SoapHouse, scope: str = "", maximum: int | None = None) -> str:
    return (await house.send(find_recordings(scope, maximum))).text("tse:SearchToken")


async def found(house: SoapHouse, scope: str = "", maximum: int | None = None) -> list[str]:
    reply = await house.send(results_request(await search_of(house, scope, maximum), wait="PT5S"))
    assert reply.text("tse:ResultList/tt:SearchState") == "Completed"
    return reply.texts("tse:ResultList/tt:RecordingInformation/tt:RecordingToken")


# What a recording holds


@pytest.mark.requirement(
    "RS-6.3.1-01", "RS-6.3.1-02", "RS-6.3.1-03", "RS-6.3.1-04", "RS-6.3.1-05", "RS-6.3.1-06", "RS-6.3.1-14",
    "RS-6.3.2-01", "RS-6.3.2-02", "RS-6.3.2-03", "RS-6.3.2-04", "RS-6.3.2-05", "RS-6.3.3-01", "RS-6.3.3-02",
    "RS-6.3.3-03", "RS-6.3.3-04", "RS-6.3.3-05", "RS-6.5-04", "RC-5.3.1-07", "RC-5.3.2-04",
)  # fmt: skip
async def test_information_tells_what_is_configured_and_what_has_been_recorded(house: SoapHouse) -> None:
    source = source_xml("urn:x:1", "Gate &amp; Ü", "Nord", "wide", "http://camera.example/")
    recording = (await house.send(create_recording(source, content="Front &lt;1&gt;"))).text("trc:RecordingToken")
    more = f"<trc:TrackToken>VIDEO001</trc:TrackToken>{track_xml('Video', 'main stream')}"
    await house.send(recording_request("SetTrackConfiguration", recording, more))
    has_recorded(house, recording, VIDEO001, (START, MIDDLE), (MIDDLE + 1, END))
    has_recorded(house, recording, AUDIO001, (MIDDLE, END - 1))
    reply = await house.send(information_request(recording))
    at = "tse:RecordingInformation"
    assert reply.text(f"{at}/tt:RecordingToken") == recording
    assert reply.text(f"{at}/tt:EarliestRecording") == format_iso(START)
    assert reply.text(f"{at}/tt:LatestRecording") == format_iso(END)
    assert reply.text(f"{at}/tt:Content") == "Front <1>"
    names = ("SourceId", "Name", "Location", "Description", "Address")
    values = ["urn:x:1", "Gate & Ü", "Nord", "wide", "http://camera.example/"]
    assert [reply.text(f"{at}/tt:Source/tt:{name}") for name in names] == values
    configured = await house.send(recording_request("GetRecordingConfiguration", recording))
    assert [configured.text(f"trc:RecordingConfiguration/tt:Source/tt:{name}") for name in names] == values
    assert configured.text("trc:RecordingConfiguration/tt:Content") == "Front <1>"
    assert reply.texts(f"{at}/tt:Track/tt:TrackToken") == ["VIDEO001", "AUDIO001"]
    assert reply.texts(f"{at}/tt:Track/tt:TrackType") == ["Video", "Audio"]
    assert reply.texts(f"{at}/tt:Track/tt:Description") == ["main stream", ""]
    track = await house.send(recording_request("GetTrackConfiguration", recording, more.partition("<trc:TrackC")[0]))
    assert track.text("trc:TrackConfiguration/tt:Description") == "main stream"
    assert reply.texts(f"{at}/tt:Track/tt:DataFrom") == [format_iso(START), format_iso(MIDDLE)]
    assert reply.texts(f"{at}/tt:Track/tt:DataTo") == [format_iso(END), format_iso(END - 1)]


@pytest.mark.requirement("RS-6.3.1-14")
@pytest.mark.requirement("RS-6.3.1-08", "RS-6.3.2-01", "RS-6.3.2-02", "RS-6.3.2-03", "RS-6.3.2-04", "RS-6.3.2-05")
async def test_a_recording_without_data_has_neither_times_nor_tracks_but_all_texts(house: SoapHouse) -> None:
    recording = (await house.send(create_recording(source_xml(name="")))).text("trc:RecordingToken")
    reply = await house.send(information_request(recording))
    at = "tse:RecordingInformation"
    assert reply.text(f"{at}/tt:RecordingStatus") == "Initiated"
    for absent in ("EarliestRecording", "LatestRecording", "Track"):
        assert not reply.all(f"{at}/tt:{absent}")
    for present in ("SourceId", "Name", "Location", "Description", "Address"):
        assert reply.text(f"{at}/tt:Source/tt:{present}") == ""


@pytest.mark.requirement("RS-6.3.1-09", "RS-6.3.1-10", "RS-6.3.1-07")
async def test_the_status_follows_the_jobs(house: SoapHouse) -> None:
    recording, receiver = await recording_of(house), await receiver_of(house)
    job = JobToken(await job_of(house, recording, source_token(receiver)))
    lines = (await house.send("<trc:GetRecordingJobs/>")).texts(
        "trc:JobItem/tt:JobConfiguration/tt:Source/tt:Tracks/tt:Destination"
    )

    def engine_reports(state: RecordingJobState) -> None:
        tracks = tuple(TrackState("", TrackToken(line), state) for line in lines)
        source = SourceState(SourceReference(receiver), tracks, state)
        house.engine.job_states[job] = JobState(RecordingToken(recording), (source,))

    async def status() -> str:
        reply = await house.send(information_request(recording))
        return reply.text("tse:RecordingInformation/tt:RecordingStatus")

    assert await status() == "Initiated"
    engine_reports(RecordingJobState.ACTIVE)
    has_recorded(house, recording, VIDEO001, (START, MIDDLE))
    assert await status() == "Recording"
    engine_reports(RecordingJobState.IDLE)
    assert await status() == "Stopped"


@pytest.mark.requirement("RS-6.5-03")
async def test_information_about_an_unknown_recording_is_an_invalid_token(house: SoapHouse) -> None:
    reply = await house.send(information_request("nosuch"))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/InvalidToken")


@pytest.mark.requirement("RS-6.4-03", "RS-6.4-04", "RS-6.4-05", "RS-6.2.6-02")
async def test_the_summary_spans_all_recordings(house: SoapHouse) -> None:
    async def summary() -> tuple[str, str, str]:
        reply = await house.send(SUMMARY)
        fields = ("DataFrom", "DataUntil", "NumberRecordings")
        first, last, number = (reply.text(f"tse:Summary/tt:{field}") for field in fields)
        assert first.endswith("Z")
        assert last.endswith("Z")
        assert parse_iso(first) <= parse_iso(last)
        return first, last, number

    assert (await summary())[2] == "0"
    one, other = await recording_of(house), await recording_of(house)
    assert (await summary())[2] == "2"
    has_recorded(house, one, VIDEO001, (START, MIDDLE))
    has_recorded(house, other, AUDIO001, (MIDDLE, END))
    assert await summary() == (format_iso(START), format_iso(END), "2")


# Sessions


@pytest.mark.requirement("RS-6.7-06", "RS-6.8-04", "RS-6.2.4-02", "RS-6.2.4-06", "RS-6.3.1-15")
async def test_an_empty_scope_finds_every_recording_once_as_information_tells_it(house: SoapHouse) -> None:
    recordings = [await recording_of(house) for _ in range(3)]
    has_recorded(house, recordings[1], VIDEO001, (START, END))
    search = await search_of(house)
    reply = await house.send(results_request(search, wait="PT5S"))
    items = reply.all("tse:ResultList/tt:RecordingInformation")
    assert sorted(i.findtext("{*}RecordingToken") or "" for i in items) == sorted(recordings)
    listed = (await house.send("<trc:GetRecordings/>")).all("trc:RecordingItem")
    configured = {i.findtext("{*}RecordingToken"): i.find("{*}Configuration") for i in listed}
    assert sorted(configured) == sorted(recordings)
    for item in items:
        alone = await house.send(information_request(item.findtext("{*}RecordingToken") or ""))
        fields = [(e.tag, e.text) for e in alone.all("tse:RecordingInformation")[0].iter()][1:]
        assert [(e.tag, e.text) for e in item.iter()][1:] == fields
        configuration = configured[item.findtext("{*}RecordingToken")]
        for name in ("Source", "Content"):
            told, kept = ([(e.tag, e.text) for e in of.find(f"{{*}}{name}").iter()] for of in (item, configuration))
            assert told == kept


@pytest.mark.requirement("RS-6.2.4-01")
async def test_sources_and_recordings_of_the_scope_are_united(house: SoapHouse) -> None:
    first, second, third = [await recording_of(house) for _ in range(3)]
    receiver = await receiver_of(house)
    await job_of(house, second, source_token(receiver))
    source = f"<tt:IncludedSources><tt:Token>{receiver}</tt:Token></tt:IncludedSources>"
    one = f"<tt:IncludedRecordings>{first}</tt:IncludedRecordings>"
    assert await found(house, one) == [first]
    assert await found(house, source) == [second]
    profile = source.replace("<tt:IncludedSources>", f'<tt:IncludedSources Type="{PROFILE_TYPE}">')
    assert await found(house, profile) == [second]
    assert sorted(await found(house, source + one)) == sorted([first, second])
    assert third not in await found(house, source + one)


@pytest.mark.requirement("RS-6.2.4-04", "RS-6.2.4-03", "RS-6.18-01")
async def test_a_filter_narrows_the_scope(house: SoapHouse) -> None:
    first, second, third = [await recording_of(house) for _ in range(3)]
    has_recorded(house, first, AUDIO001, (START, END))
    has_recorded(house, second, VIDEO001, (START, END))
    has_recorded(house, third, AUDIO001, (START, END))
    audio = '<tt:RecordingInformationFilter>boolean(//Track[TrackType = "Audio"])</tt:RecordingInformationFilter>'
    assert sorted(await found(house, audio)) == sorted([first, third])
    two = "".join(f"<tt:IncludedRecordings>{t}</tt:IncludedRecordings>" for t in (first, second))
    assert await found(house, two + audio) == [first]


async def test_a_filter_that_does_not_parse_is_refused(house: SoapHouse) -> None:
    scope = "<tt:RecordingInformationFilter>boolean(//Track[</tt:RecordingInformationFilter>"
    reply = await house.send(find_recordings(scope))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/InvalidFilterFault")


@pytest.mark.requirement("RS-6.7-03", "RS-6.7-04")
@pytest.mark.parametrize(
    ("scope", "subcode"),
    [
        ("<tt:IncludedRecordings>nosuch</tt:IncludedRecordings>", "InvalidToken"),
        ("<tt:IncludedSources><tt:Token>nosuch</tt:Token></tt:IncludedSources>", "InvalidSource"),
    ],
)
async def test_an_unknown_name_in_the_scope_is_refused(house: SoapHouse, scope: str, subcode: str) -> None:
    await recording_of(house)
    reply = await house.send(find_recordings(scope))
    assert (reply.status, reply.fault) == (400, f"Sender/InvalidArgVal/{subcode}")


@pytest.mark.requirement("RS-6.7-05")
async def test_sessions_are_limited(house: SoapHouse) -> None:
    open_ = [await search_of(house) for _ in range(4)]
    assert len(set(open_)) == 4
    reply = await house.send(find_recordings())
    assert (reply.status, reply.fault) == (500, "Receiver/Action/ResourceProblem")
    await house.send(end_search(open_[0]))
    assert (await house.send(find_recordings())).fault is None


async def test_a_user_who_holds_its_share_of_sessions_leaves_places_for_others(house: SoapHouse) -> None:
    for _ in range(4):
        assert (await house.send(find_recordings(), "user")).fault is None
    assert (await house.send(find_recordings(), "user")).fault == "Receiver/Action/ResourceProblem"
    for _ in range(2):
        assert (await house.send(find_recordings(), "operator")).fault is None
    assert (await house.send(find_recordings(), "administrator")).fault == "Receiver/Action/ResourceProblem"


@pytest.mark.requirement(
    "RS-6.1-03", "RS-6.3.4-01", "RS-6.3.4-02", "RS-6.8-05", "RS-6.8-06", "RS-6.2.3-01", "RS-6.2.3-04", "RS-6.15-08"
)
async def test_results_come_in_portions_and_the_last_one_ends_the_session(house: SoapHouse) -> None:
    recordings = [await recording_of(house) for _ in range(3)]
    search = await search_of(house)
    states, delivered = [], []
    for _ in range(2):
        reply = await house.send(results_request(search, maximum=2, wait="PT5S"))
        portion = reply.texts("tse:ResultList/tt:RecordingInformation/tt:RecordingToken")
        assert len(portion) <= 2
        delivered += portion
        states.append(reply.text("tse:ResultList/tt:SearchState"))
    assert states == ["Searching", "Completed"]
    assert sorted(delivered) == sorted(recordings)
    for request_ in (results_request(search), end_search(search)):
        reply = await house.send(request_)
        assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/InvalidToken")


@pytest.mark.requirement("RS-6.7-07", "RS-6.8-08", "RS-6.8-10")
async def test_a_search_ends_with_as_many_matches_as_were_asked_for(house: SoapHouse) -> None:
    for _ in range(3):
        await recording_of(house)
    assert len(await found(house, maximum=2)) == 2
    search = await search_of(house)
    reply = await house.send(results_request(search, minimum=2_000_000_000, wait="P10Y"))
    assert len(reply.all("tse:ResultList/tt:RecordingInformation")) == 3
    assert reply.text("tse:ResultList/tt:SearchState") == "Completed"


@pytest.mark.requirement("RS-6.8-03", "RS-6.15-03", "RS-6.2.3-05", "RS-6.7-08", "RS-6.15-09")
async def test_a_session_that_was_ended_or_never_was_is_an_invalid_token(house: SoapHouse) -> None:
    search = await search_of(house)
    ended = await house.send(end_search(search))
    assert ended.text("tse:Endpoint").endswith("Z")
    for token in (search, "nosuch"):
        for request_ in (results_request(token), end_search(token)):
            reply = await house.send(request_)
            assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/InvalidToken")


@pytest.mark.requirement("RS-6.2.3-02", "RS-6.2.3-03", "RS-6.7-09", "RS-6.7-10")
async def test_a_session_lives_for_the_keep_alive_time_behind_the_last_request(house: SoapHouse) -> None:
    for _ in range(3):
        await recording_of(house)
    search = await search_of(house)
    for _ in range(3):
        house.clock.advance(9)
        reply = await house.send(results_request(search, maximum=0))
        assert reply.text("tse:ResultList/tt:SearchState") == "Searching"
    house.clock.advance(10.5)
    assert (await house.send(results_request(search))).fault == "Sender/InvalidArgVal/InvalidToken"


@pytest.mark.requirement("RS-6.2.3-08")
async def test_a_session_without_matches_waits_for_its_first_call_and_is_completed_by_it(house: SoapHouse) -> None:
    search = await search_of(house)
    house.clock.advance(9)
    reply = await house.send(results_request(search))
    assert reply.text("tse:ResultList/tt:SearchState") == "Completed"
    assert reply.all("tse:ResultList/tt:RecordingInformation") == []


@pytest.mark.requirement("RS-6.7-11")
async def test_a_long_keep_alive_time_is_accepted(house: SoapHouse) -> None:
    assert (await house.send(find_recordings(keep_alive="PT1H"))).fault is None


async def test_two_clients_that_fetch_from_one_session_share_its_results(house: SoapHouse) -> None:
    recordings = [await recording_of(house) for _ in range(3)]
    search = await search_of(house)
    replies = await asyncio.gather(*(house.send(results_request(search, maximum=1, wait="PT1S")) for _ in range(3)))
    shared = [t for r in replies for t in r.texts("tse:ResultList/tt:RecordingInformation/tt:RecordingToken")]
    assert sorted(shared) == sorted(recordings)


async def test_a_job_without_data_does_not_make_a_recording_recording(house: SoapHouse) -> None:
    recording = await recording_of(house)
    await house.send(create_job(recording, mode="Active"))
    reply = await house.send(information_request(recording))
    assert reply.text("tse:RecordingInformation/tt:RecordingStatus") == "Initiated"


@pytest.mark.requirement("RS-6.16-04")
async def test_metadata_search_is_announced_as_it_is_there(house: SoapHouse) -> None:
    (capabilities,) = (await house.send("<tse:GetServiceCapabilities/>")).all("tse:Capabilities")
    missing = [
        (await house.send(f"<tse:{operation}/>")).fault == "Receiver/ActionNotSupported/NotImplemented"
        for operation in ("FindMetadata", "GetMetadataSearchResults")
    ]
    assert capabilities.attrib["MetadataSearch"] == ("false" if all(missing) else "true")
