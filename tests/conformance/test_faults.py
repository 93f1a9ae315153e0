"""Every fault that the 2019 edition lists for an operation of recording control, search, receiver and replay.

`faults.csv` is the list: a row either has a case below that provokes it, or says why it cannot occur here, or belongs
to an operation that the service declares as missing. Each case is judged alike: code chain, HTTP status, a reason in
English, and that the device is afterwards as it was.
"""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import pytest_asyncio

from nvr.control.state import ControlSettings
from nvr.events.filters import ITEM_FILTER
from nvr.replay.udp import UdpPorts
from nvr.soap.names import ENV, PREFIXES, TER, XML
from nvr.soap.recording import RecordingService
from nvr.soap.rtsp_address import RtspAddress
from tests.support.soap_house import (
    AUTO_SOURCE,
    SoapHouse,
    create_job,
    create_recording,
    end_search,
    find_events,
    find_metadata,
    find_positions,
    find_recordings,
    get_replay_uri,
    information_request,
    job_of,
    job_request,
    job_xml,
    receiver_of,
    receiver_request,
    receiver_xml,
    recording_of,
    recording_request,
    results_request,
    source_token,
    source_xml,
    stream_setup_xml,
    tokens,
    topic_xml,
    track_xml,
)

LIMITS = ControlSettings(recordings=3, jobs=3, receivers=4, tracks_per_type=2)
SEARCHES = 4
"""Search sessions that the house may have open."""
NO_SUCH = "nosuch"

Row = tuple[str, str]
"""`trc:CreateRecording` and `Receiver/Action/MaxRecordings`."""


def listed() -> dict[Row, str]:
    """The list, with the reason why a fault cannot occur, which is empty for those that can."""
    with (Path(__file__).with_name("faults.csv")).open(encoding="utf-8", newline="") as file:
        return {(f"{r['service']}:{r['operation']}", r["fault"]): r["cannot_occur"] for r in csv.DictReader(file)}


@dataclass(frozen=True, slots=True)
class Device:
    """A house in which something exists to be refused: a recording with an idle job over a receiver of its own."""

    house: SoapHouse
    recording: str
    other: str
    job: str
    used: str
    """The receiver of the job."""
    free: str
    """A receiver that no job refers to."""
    ended: str
    """The token of a search that is over."""
    ports: UdpPorts = field(default_factory=lambda: UdpPorts(maximum_streams=1))
    """For replay by UDP."""


Body = Callable[[Device], str]


@dataclass(frozen=True, slots=True)
class Case:
    """A fault, how the device is filled before, and the requests that each must be answered with it."""

    fault: str
    bodies: Sequence[Body]
    full: str = ""
    """What exists up to its limit: recordings, tracks, jobs, receivers, searches, UDP ports. Or `fixed`: the operator
    has set that clients do not create and delete recordings and tracks."""


def of(operation: str, more: str = "", token: str = NO_SUCH, track: str = "") -> Body:
    """A request of recording control that begins with the token of a recording."""
    named = f"<trc:TrackToken>{track}</trc:TrackToken>" if track else ""
    return lambda d: recording_request(operation, d.recording if token == "recording" else token, named + more)


def raw(body: str) -> Body:
    return lambda d: body


CONFIGURATION = (
    f"<trc:RecordingConfiguration>{source_xml()}<tt:Content/><tt:MaximumRetentionTime>PT0S</tt:MaximumRetentionTime>"
    "</trc:RecordingConfiguration>"
)
NEGATIVE = CONFIGURATION.replace("PT0S", "-PT1S")
NO_DURATION = CONFIGURATION.replace("PT0S", "1 hour")
LONG_NAME = CONFIGURATION.replace(">Gate<", f">{'n' * 65}<")
PROFILE = (
    '<tt:Source><tt:SourceToken Type="http://www.onvif.org/ver10/schema/Profile"><tt:Token>profile</tt:Token>'
    "</tt:SourceToken></tt:Source>"
)
NEITHER = "<tt:Source/>"


def bad_jobs(operation: Callable[[Device, str], str]) -> list[Body]:
    """Job configurations that are invalid (5.3.3), inside a request of this operation."""

    def wrong(**parts: str) -> Body:
        return lambda d: operation(d, job_xml(d.recording, **parts))

    def elsewhere(d: Device) -> str:
        to = "<tt:Tracks><tt:SourceTag/><tt:Destination>VIDEO009</tt:Destination></tt:Tracks></tt:Source>"
        return operation(d, job_xml(d.recording, source_token(d.used).replace("</tt:Source>", to)))

    return [
        wrong(mode="idle"),
        wrong(mode="Foo"),
        wrong(priority="-1"),
        wrong(priority="high"),
        wrong(source=NEITHER),
        wrong(source=PROFILE),
        wrong(source=source_token(NO_SUCH)),
        elsewhere,
    ]


def set_job(d: Device, configuration: str, token: str = "") -> str:
    return job_request("SetRecordingJobConfiguration", token or d.job, configuration)


BAD_RECEIVERS = [
    receiver_xml(mode="Foo"),
    receiver_xml(mode="Unknown"),
    receiver_xml("http://camera.example/"),
    receiver_xml("rtsp://"),
    receiver_xml(stream="RTP-Multicast"),
    receiver_xml(protocol="Foo"),
]
REPLAY_TIMEOUT = (
    "<trp:SetReplayConfiguration><trp:Configuration><tt:SessionTimeout>{}</tt:SessionTimeout></trp:Configuration>"
    "</trp:SetReplayConfiguration>"
)
LONG_AGO = "2020-01-01T00:00:00Z"
MEDIA_ATTRIBUTES = (
    f"<tse:GetMediaAttributes><tse:RecordingTokens>{NO_SUCH}</tse:RecordingTokens><tse:Time>{LONG_AGO}</tse:Time>"
    "</tse:GetMediaAttributes>"
)
NO_RECORDING, NO_TRACK = "Sender/InvalidArgVal/NoRecording", "Sender/InvalidArgVal/NoTrack"
NO_JOB, BAD = "Sender/InvalidArgVal/NoRecordingJob", "Sender/InvalidArgVal/BadConfiguration"
INVALID_TOKEN, UNKNOWN_TOKEN = "Sender/InvalidArgVal/InvalidToken", "Sender/InvalidArgVal/UnknownToken"
MODE_IDLE = "<trc:Mode>Idle</trc:Mode>"

NOT_OFFERED = "Receiver/ActionNotSupported/NotImplemented"

CASES = [
    Case(NOT_OFFERED, [raw(create_recording())], full="fixed"),
    Case(NOT_OFFERED, [of("DeleteRecording", token="recording"), of("DeleteRecording")], full="fixed"),
    Case(NOT_OFFERED, [of("CreateTrack", track_xml(), "recording")], full="fixed"),
    Case(NOT_OFFERED, [of("DeleteTrack", token="recording", track="VIDEO001")], full="fixed"),
    Case("Receiver/Action/MaxRecordings", [raw(create_recording())], full="recordings"),
    Case(BAD, [raw(f"<trc:CreateRecording>{c}</trc:CreateRecording>") for c in (NEGATIVE, NO_DURATION, LONG_NAME)]),
    Case(NO_RECORDING, [of("DeleteRecording"), of("DeleteRecording", token="job-0")]),
    Case(BAD, [of("SetRecordingConfiguration", c, "recording") for c in (NEGATIVE, NO_DURATION, LONG_NAME)]),
    Case(NO_RECORDING, [of("SetRecordingConfiguration", CONFIGURATION)]),
    Case(NO_RECORDING, [of("GetRecordingConfiguration")]),
    Case(NO_RECORDING, [of("GetRecordingOptions")]),
    Case(NO_RECORDING, [of("CreateTrack", track_xml())]),
    Case("Receiver/Action/MaxTracks", [of("CreateTrack", track_xml(), "recording")], full="tracks"),
    Case(BAD, [of("CreateTrack", track_xml(kind), "recording") for kind in ("Extended", "video", "Foo")]),
    Case(NO_RECORDING, [of("DeleteTrack", track="VIDEO001")]),
    Case(NO_TRACK, [of("DeleteTrack", token="recording", track="VIDEO009")]),
    Case(NO_RECORDING, [of("GetTrackConfiguration", track="VIDEO001")]),
    Case(NO_TRACK, [of("GetTrackConfiguration", token="recording", track=t) for t in ("VIDEO009", "video001")]),
    Case(NO_RECORDING, [of("SetTrackConfiguration", track_xml(), track="VIDEO001")]),
    Case(NO_TRACK, [of("SetTrackConfiguration", track_xml(), "recording", "VIDEO009")]),
    Case(BAD, [of("SetTrackConfiguration", track_xml("Foo"), "recording", "VIDEO001")]),
    Case(NO_RECORDING, [raw(create_job(NO_SUCH))]),
    Case(BAD, bad_jobs(lambda d, c: f"<trc:CreateRecordingJob>{c}</trc:CreateRecordingJob>")),
    Case("Receiver/Action/MaxRecordingJobs", [lambda d: create_job(d.recording, source_token(d.free))], full="jobs"),
    Case("Receiver/Action/MaxReceivers", [lambda d: create_job(d.recording, AUTO_SOURCE)], full="receivers"),
    Case(NO_JOB, [raw(job_request("DeleteRecordingJob", NO_SUCH))]),
    Case(NO_JOB, [lambda d: set_job(d, job_xml(d.recording, source_token(d.used)), NO_SUCH)]),
    Case(BAD, [*bad_jobs(set_job), lambda d: set_job(d, job_xml(d.other, source_token(d.used)))]),
    Case("Receiver/Action/MaxReceivers", [lambda d: set_job(d, job_xml(d.recording, AUTO_SOURCE))], full="receivers"),
    Case(NO_JOB, [raw(job_request("GetRecordingJobConfiguration", NO_SUCH))]),
    Case(NO_JOB, [raw(job_request("SetRecordingJobMode", NO_SUCH, MODE_IDLE))]),
    Case(
        "Sender/InvalidArgVal/BadMode",
        [
            lambda d: job_request("SetRecordingJobMode", d.job, "<trc:Mode>Foo</trc:Mode>"),
            lambda d: job_request("SetRecordingJobMode", d.job, "<trc:Mode>active</trc:Mode>"),
        ],
    ),
    Case(NO_JOB, [raw(job_request("GetRecordingJobState", NO_SUCH))]),
    Case(INVALID_TOKEN, [raw(information_request(NO_SUCH))]),
    Case(INVALID_TOKEN, [raw(find_recordings("<tt:IncludedRecordings>nosuch</tt:IncludedRecordings>"))]),
    Case(
        "Sender/InvalidArgVal/InvalidSource",
        [raw(find_recordings("<tt:IncludedSources><tt:Token>nosuch</tt:Token></tt:IncludedSources>"))],
    ),
    Case("Receiver/Action/ResourceProblem", [raw(find_recordings())], full="searches"),
    Case(INVALID_TOKEN, [raw(results_request(NO_SUCH)), lambda d: results_request(d.ended)]),
    Case("Receiver/Action/ResourceProblem", [raw(find_events(LONG_AGO))], full="searches"),
    Case(
        "Sender/InvalidArgVal/InvalidFilterFault",
        [
            raw(find_events(LONG_AGO, wanted=topic_xml("tns1:RecordingHistory/"))),
            raw(find_events(LONG_AGO, wanted=topic_xml("nowhere:RecordingHistory"))),
            raw(find_events(LONG_AGO, wanted=topic_xml("tns1:RecordingHistory", "urn:other"))),
            raw(find_events(LONG_AGO, wanted=f'<wsnt:MessageContent Dialect="{ITEM_FILTER}">//</wsnt:MessageContent>')),
            raw(find_events(LONG_AGO, wanted='<wsnt:MessageContent Dialect="urn:x">//A</wsnt:MessageContent>')),
            raw(find_events(LONG_AGO, wanted="<wsnt:ProducerProperties Dialect='urn:x'>a</wsnt:ProducerProperties>")),
        ],
    ),
    Case(INVALID_TOKEN, [raw(MEDIA_ATTRIBUTES)]),
    Case("Receiver/Action/ResourceProblem", [raw(find_positions(LONG_AGO))], full="searches"),
    Case("Receiver/Action/ResourceProblem", [raw(find_metadata(LONG_AGO))], full="searches"),
    *(
        Case(
            INVALID_TOKEN,
            [raw(results_request(NO_SUCH, what=what)), lambda d, what=what: results_request(d.ended, what=what)],
        )
        for what in ("PTZPosition", "Metadata")
    ),
    Case(
        INVALID_TOKEN,
        [raw(results_request(NO_SUCH, what="Event")), lambda d: results_request(d.ended, what="Event")],
    ),
    Case(INVALID_TOKEN, [raw(end_search(NO_SUCH)), lambda d: end_search(d.ended)]),
    Case(UNKNOWN_TOKEN, [raw(receiver_request("GetReceiver", NO_SUCH))]),
    Case(BAD, [raw(f"<trv:CreateReceiver>{c}</trv:CreateReceiver>") for c in (*BAD_RECEIVERS, receiver_xml(""))]),
    Case(
        "Receiver/Action/MaxReceivers",
        [raw(f"<trv:CreateReceiver>{receiver_xml()}</trv:CreateReceiver>")],
        full="receivers",
    ),
    Case(UNKNOWN_TOKEN, [raw(receiver_request("DeleteReceiver", NO_SUCH))]),
    Case("Receiver/Action/CannotDeleteReceiver", [lambda d: receiver_request("DeleteReceiver", d.used)]),
    Case(UNKNOWN_TOKEN, [raw(receiver_request("ConfigureReceiver", NO_SUCH, receiver_xml()))]),
    Case(BAD, [(lambda d, c=c: receiver_request("ConfigureReceiver", d.free, c)) for c in BAD_RECEIVERS]),
    Case(UNKNOWN_TOKEN, [raw(receiver_request("SetReceiverMode", NO_SUCH, "<trv:Mode>NeverConnect</trv:Mode>"))]),
    Case(UNKNOWN_TOKEN, [raw(receiver_request("GetReceiverState", NO_SUCH))]),
    Case(
        "Sender/InvalidArgVal/InvalidStreamSetup",
        [
            lambda d: get_replay_uri(d.recording, stream="RTP-Multicast"),
            lambda d: get_replay_uri(d.recording, protocol="TCP"),
        ],
    ),
    Case(
        "Sender/OperationProhibited/StreamConflict",
        [lambda d: get_replay_uri(d.recording, protocol="UDP")],
        full="UDP ports",
    ),
    Case(NO_RECORDING, [raw(get_replay_uri(NO_SUCH))]),
    Case(
        "Sender/InvalidArgVal/ConfigModify",
        [raw(REPLAY_TIMEOUT.format(t)) for t in ("PT0S", "PT1S", "-PT60S", "a minute")],
    ),
]

ANYWHERE = Device(None, *"rojufe")  # type: ignore[arg-type]


def operation_of(case: Case) -> str:
    (name,) = {body(ANYWHERE)[1:].partition(">")[0] for body in case.bodies}
    return name


@pytest_asyncio.fixture
async def device() -> AsyncIterator[Device]:
    ports = UdpPorts(maximum_streams=1)
    house = await SoapHouse.open(LIMITS, rtsp=RtspAddress(8554, udp=ports))
    recording, other = await recording_of(house), await recording_of(house)
    used, free = await receiver_of(house), await receiver_of(house)
    job = await job_of(house, recording, source_token(used))
    search = (await house.send(find_recordings())).text("tse:SearchToken")
    await house.send(end_search(search))
    yield Device(house, recording, other, job, used, free, search, ports)
    await house.close()


async def fill(device: Device, what: str) -> None:
    """Makes what is named until its limit is reached."""
    house = device.house
    if what == "recordings":
        while len(await tokens(house, "recordings")) < LIMITS.recordings:
            await recording_of(house)
    elif what == "tracks":
        assert (await house.send(of("CreateTrack", track_xml(), "recording")(device))).fault is None
    elif what == "jobs":
        while len(await tokens(house, "jobs")) < LIMITS.jobs:
            await job_of(house, device.recording, source_token(device.free))
    elif what == "receivers":
        while len(await tokens(house, "receivers")) < LIMITS.receivers:
            await receiver_of(house)
    elif what == "fixed":
        service = house.soap.service("/onvif/recording_service").service
        assert isinstance(service, RecordingService)
        service.limits = replace(LIMITS, dynamic_recordings=False, dynamic_tracks=False)
    elif what == "UDP ports":
        device.ports.taken = device.ports.maximum
    elif what == "searches":
        for _ in range(SEARCHES):
            assert (await house.send(find_recordings())).fault is None


async def everything(device: Device) -> list[object]:
    """What must be the same after a refusal: what clients can ask for, what was stored, what the engine was told."""
    house = device.house
    questions = ["<trc:GetRecordings/>", "<trc:GetRecordingJobs/>", "<trv:GetReceivers/>"]
    questions += ["<trp:GetReplayConfiguration/>", of("GetRecordingOptions", token="recording")(device)]
    questions += [job_request("GetRecordingJobState", device.job)]
    answers: list[object] = [(await house.send(question)).xml for question in questions]
    return [*answers, len(house.store.applied), house.engine.applications, list(house.footage.deleted)]


@pytest.mark.requirement("CO-05")
@pytest.mark.parametrize("case", [pytest.param(c, id=f"{operation_of(c)} {c.fault}") for c in CASES])
async def test_a_listed_fault_is_answered_and_changes_nothing(device: Device, case: Case) -> None:
    await fill(device, case.full)
    before = await everything(device)
    for body in case.bodies:
        reply = await device.house.send(body(device))
        assert reply.fault == case.fault, f"{body(device)}\n{reply.xml.decode()}"
        assert reply.status == (400 if case.fault.startswith("Sender") else 500)
        values = reply.element.findall(f"{{{ENV}}}Code//{{{ENV}}}Value")
        assert len(values) <= 3
        assert [v.nsmap[v.text.partition(":")[0]] for v in values] == [ENV, *[TER] * (len(values) - 1)]
        (text,) = reply.element.findall(f"{{{ENV}}}Reason/{{{ENV}}}Text")
        assert text.get(f"{{{XML}}}lang") == "en"
        assert len(reply.reason.split()) > 2, f"{reply.reason!r} is no sentence"
    assert await everything(device) == before


async def test_every_listed_fault_is_provoked_or_has_a_reason_why_it_cannot_occur(device: Device) -> None:
    """An operation that its service declares as missing answers ActionNotSupported: its other faults wait for it."""
    missing = {
        f"{PREFIXES[service.namespace]}:{name}"
        for path in device.house.soap.paths
        for service in [device.house.soap.service(path).service]
        for name in service.not_implemented
    }
    rows = listed()
    cannot = {row for row, why in rows.items() if why}
    waiting = {row for row in rows if row[0] in missing}
    provoked = {(operation_of(case), case.fault) for case in CASES}
    assert provoked == set(rows) - cannot - waiting
    for operation in sorted({row[0] for row in waiting}):
        reply = await device.house.send(f"<{operation}/>")
        assert (reply.status, reply.fault) == (500, "Receiver/ActionNotSupported/NotImplemented")


async def test_what_is_said_not_to_occur_does_not(device: Device) -> None:
    """The reasons in the list are facts of this device: objects can be deleted, and sessions share nothing."""
    house = device.house
    for track in ("VIDEO001", "AUDIO001", "META001"):
        assert (await house.send(of("DeleteTrack", token="recording", track=track)(device))).fault is None
    for _ in range(16):
        setup = stream_setup_xml()
        uri = f"<trp:GetReplayUri>{setup}<trp:RecordingToken>{device.other}</trp:RecordingToken></trp:GetReplayUri>"
        assert (await house.send(uri)).fault is None
    assert (await house.send(of("DeleteRecording", token="recording")(device))).fault is None
