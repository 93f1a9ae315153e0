"""SOAP services without HTTP: raw envelopes and zeep clients reach them through `Soap.answer`, and every answer is held
against the official schema."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lxml import etree

from nvr.auth.access import Role, Verdict
from nvr.control.device import DeviceMemory
from nvr.control.receivers import Receivers
from nvr.control.recordings import RecordingControl
from nvr.control.replay import ReplayConfiguration
from nvr.control.state import ControlSettings, ControlState, Store
from nvr.model.device import DeviceState
from nvr.model.time import NS
from nvr.model.timeline import Extent, Timeline
from nvr.model.tokens import TrackKey
from nvr.model.topics import CONCRETE_SET
from nvr.search.sessions import SearchSessions, SearchSettings
from nvr.soap.names import ENV, PREFIXES
from nvr.soap.protocol import Request, Soap
from nvr.soap.receiver import ReceiverService
from nvr.soap.recording import RecordingService
from nvr.soap.replay import ReplayService
from nvr.soap.rtsp_address import RtspAddress
from nvr.soap.search import SearchService
from nvr.soap.security import Security
from nvr.soap.service import Service
from nvr.storage.footage import Footage
from tests.support.control import FakeEngine, FakeFootage, FakeStore
from tests.support.device import a_device_service
from tests.support.official_schema import official_client, own_client, validate_response
from tests.support.recorded import Store as Recorded
from tests.support.search import ArchiveInMemory

NAMESPACES = {prefix: namespace for namespace, prefix in PREFIXES.items()}
_TIMES = re.compile(rb"\d{4}-\d\d-\d\dT[^<\"]*")
HOST = "recorder.example:8080"


class NamedUsers:
    """Verification that believes the name in the header: `Named administrator`, `Named operator`, `Named user`."""

    def challenges(self, now_ns: int, *, stale: bool = False) -> list[str]:
        return ['Named realm="test"']

    def verify(self, method: str, uri: str, authorization: str, now_ns: int) -> Verdict:
        return Verdict(authorization.removeprefix("Named "))


def believing_security() -> Security:
    return Security(Role, NamedUsers(), None, lambda: 0)  # type: ignore[arg-type]


class MonotonicClock:
    """Nanoseconds; time passes when a test says so."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += int(seconds * NS)


class ToldFootage(FakeFootage):
    """Storage that has recorded what a test says in `timelines`."""

    def __init__(self) -> None:
        super().__init__()
        self.timelines: dict[TrackKey, Timeline] = {}

    def extent(self, key: TrackKey) -> Extent | None:
        return self.timeline(key).extent

    def timeline(self, key: TrackKey) -> Timeline:
        return self.timelines.get(key, Timeline())

    def configuration(self, key: TrackKey) -> None:
        """What a timeline says has no files."""

    def footage(self, key: TrackKey) -> Footage:
        raise AssertionError("what a timeline says has no files")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that the official schema has accepted. `element` is what stands inside the Body."""

    status: int
    element: etree._Element
    xml: bytes

    @property
    def name(self) -> str:
        return str(etree.QName(self.element).localname)

    @property
    def fault(self) -> str | None:
        """`Sender/InvalidArgVal/NoRecording`, or None."""
        if self.element.tag != f"{{{ENV}}}Fault":
            return None
        values = self.element.findall(f"{{{ENV}}}Code//{{{ENV}}}Value")
        return "/".join((v.text or "").partition(":")[2] for v in values)

    @property
    def reason(self) -> str:
        return str(self.element.findtext(f"{{{ENV}}}Reason/{{{ENV}}}Text") or "")

    def text(self, path: str) -> str:
        """Text at a path with our prefixes, below the body element. Raises AssertionError when nothing is there."""
        found = self.element.findtext(path, namespaces=NAMESPACES)
        assert found is not None, f"{path} is not in {self.xml.decode()}"
        return str(found)

    def texts(self, path: str) -> list[str]:
        return [e.text or "" for e in self.element.findall(path, NAMESPACES)]

    def all(self, path: str) -> list[etree._Element]:
        return list(self.element.findall(path, NAMESPACES))


class SoapHouse:
    """Services behind one `Soap`. Requests are made on the running loop, zeep's calls from a thread.

    `open` builds the rooms below them over an engine, a store and footage that tests look into.
    """

    close: Callable[[], Awaitable[None]]
    engine: FakeEngine
    store: FakeStore
    footage: ToldFootage
    clock: MonotonicClock
    searches: SearchSessions
    archive: ArchiveInMemory

    def __init__(self, services: Sequence[Service]) -> None:
        self.soap = Soap(services, believing_security())
        self._paths = {PREFIXES[s.namespace]: s.path for s in services}

    @classmethod
    async def open(
        cls,
        limits: ControlSettings,
        *,
        store: Store | None = None,
        rtsp: RtspAddress | None = None,
        recorded: Recorded | None = None,
    ) -> SoapHouse:
        """Without a store the configuration lives as long as the house; with `recorded` its footage is real."""
        kept = FakeStore() if store is None else store
        engine, footage = FakeEngine(), ToldFootage()
        state = await ControlState.load(kept, engine, limits)
        control = RecordingControl(state, footage if recorded is None else recorded.storage)
        control.start()
        clock = MonotonicClock()
        archive = ArchiveInMemory()
        limited = SearchSettings(sessions=6, sessions_per_user=4)
        if recorded is None:
            searches = SearchSessions(control, footage, limited, archive=archive, monotonic=clock)
        else:
            real = {"archive": recorded.index, "files": recorded.files}
            searches = SearchSessions(control, recorded.storage, limited, monotonic=clock, **real)  # type: ignore[arg-type]
        services: list[Service] = [
            RecordingService(control, limits),
            SearchService(searches),
            ReceiverService(Receivers(state), limits),
            ReplayService(
                control,
                rtsp or RtspAddress(8554),
                ReplayConfiguration(DeviceMemory(DeviceState(), kept, ()), 60 * NS),
                "/websocket",
            ),
        ]
        device = a_device_service(services)
        house = cls([device, *services])
        house.engine, house.footage, house.clock, house.archive = engine, footage, clock, archive
        house.searches = searches

        async def close() -> None:
            await searches.stop()
            await control.stop()

        house.close = close
        if isinstance(kept, FakeStore):
            house.store = kept
        return house

    async def send(
        self, body: str, user: str | None = "administrator", host: str = HOST, scheme: str = "http"
    ) -> Reply:
        """The body element as XML with our prefixes; the service is the one of its prefix."""
        prefix = body.lstrip("<").partition(":")[0]
        declared = " ".join(f'xmlns:{p}="{n}"' for p, n in NAMESPACES.items())
        envelope = f"<env:Envelope {declared}><env:Body>{body}</env:Body></env:Envelope>"
        status, xml = await self._exchange(self._paths[prefix], envelope.encode(), user, host, scheme)
        assert all(time.endswith(b"Z") for time in _TIMES.findall(xml)), "a time in an answer is not UTC with Z (6.2.6)"
        return Reply(status, validate_response(xml), xml)

    async def _exchange(
        self, path: str, envelope: bytes, user: str | None, host: str = HOST, scheme: str = "http"
    ) -> tuple[int, bytes]:
        request = Request(
            method="POST",
            uri=path,
            content_type="application/soap+xml",
            authorization=None if user is None else f"Named {user}",
            origin=f"{scheme}://{host}",
            host=host.rpartition(":")[0],
            peer="test",
            body=envelope,
        )
        answer = await self.soap.answer(path, request)
        return answer.status, answer.body

    def zeep(self, service: str, user: str = "administrator", *, own: bool = False) -> ZeepCalls:
        """A client from the official WSDL, or from our own. To be awaited on the loop that is running now."""
        loop = asyncio.get_running_loop()
        path = f"/onvif/{service}_service"

        def post(address: str, message: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
            exchange = self._exchange(path, message, user)
            return asyncio.run_coroutine_threadsafe(exchange, loop).result(10)

        make = own_client if own else official_client
        return ZeepCalls(make(service, f"http://{HOST}{path}", post=post))


class ZeepCalls:
    """`await calls.CreateRecording(...)`: zeep blocks, so each call runs in a thread."""

    def __init__(self, proxy: Any) -> None:
        self._proxy = proxy

    def __getattr__(self, operation: str) -> Any:
        async def call(**arguments: Any) -> Any:
            return await asyncio.to_thread(getattr(self._proxy, operation), **arguments)

        return call


# Bodies of requests. Texts are put in as they are: `&lt;` is up to the caller.


def source_xml(
    source_id: str = "", name: str = "Gate", location: str = "", description: str = "", address: str = ""
) -> str:
    return (
        f"<tt:Source><tt:SourceId>{source_id}</tt:SourceId><tt:Name>{name}</tt:Name>"
        f"<tt:Location>{location}</tt:Location><tt:Description>{description}</tt:Description>"
        f"<tt:Address>{address}</tt:Address></tt:Source>"
    )


def create_recording(source: str = "", content: str = "", retention: str = "PT0S") -> str:
    return (
        f"<trc:CreateRecording><trc:RecordingConfiguration>{source or source_xml()}<tt:Content>{content}</tt:Content>"
        f"<tt:MaximumRetentionTime>{retention}</tt:MaximumRetentionTime>"
        "</trc:RecordingConfiguration></trc:CreateRecording>"
    )


AUTO_SOURCE = "<tt:Source><tt:AutoCreateReceiver>true</tt:AutoCreateReceiver></tt:Source>"


def create_job(recording: str, source: str = AUTO_SOURCE, mode: str = "Idle", priority: object = 1) -> str:
    return f"<trc:CreateRecordingJob>{job_xml(recording, source, mode, priority)}</trc:CreateRecordingJob>"


def receiver_xml(
    uri: str = "rtsp://camera.example/live",
    mode: str = "AutoConnect",
    stream: str = "RTP-Unicast",
    protocol: str = "RTSP",
) -> str:
    return (
        f"<trv:Configuration><tt:Mode>{mode}</tt:Mode><tt:MediaUri>{uri}</tt:MediaUri>"
        f"{stream_setup_xml(stream, protocol, 'tt')}</trv:Configuration>"
    )


def stream_setup_xml(stream: str = "RTP-Unicast", protocol: str = "RTSP", prefix: str = "trp") -> str:
    return (
        f"<{prefix}:StreamSetup><tt:Stream>{stream}</tt:Stream>"
        f"<tt:Transport><tt:Protocol>{protocol}</tt:Protocol></tt:Transport></{prefix}:StreamSetup>"
    )


def get_replay_uri(recording: str, stream: str = "RTP-Unicast", protocol: str = "RTSP") -> str:
    return (
        f"<trp:GetReplayUri>{stream_setup_xml(stream, protocol)}"
        f"<trp:RecordingToken>{recording}</trp:RecordingToken></trp:GetReplayUri>"
    )


def set_mode(job: str, mode: str) -> str:
    return (
        f"<trc:SetRecordingJobMode><trc:JobToken>{job}</trc:JobToken><trc:Mode>{mode}</trc:Mode>"
        "</trc:SetRecordingJobMode>"
    )


def find_recordings(scope: str = "", maximum: int | None = None, keep_alive: str = "PT10S") -> str:
    limit = "" if maximum is None else f"<tse:MaxMatches>{maximum}</tse:MaxMatches>"
    return (
        f"<tse:FindRecordings><tse:Scope>{scope}</tse:Scope>{limit}"
        f"<tse:KeepAliveTime>{keep_alive}</tse:KeepAliveTime></tse:FindRecordings>"
    )


def find_in_time(
    operation: str,
    start: str,
    end: str | None = None,
    *,
    more: str = "",
    scope: str = "",
    maximum: int | None = None,
    keep_alive: str = "PT10S",
) -> str:
    """FindEvents, FindPTZPosition or FindMetadata; `more` stands between Scope and MaxMatches."""
    until = "" if end is None else f"<tse:EndPoint>{end}</tse:EndPoint>"
    limit = "" if maximum is None else f"<tse:MaxMatches>{maximum}</tse:MaxMatches>"
    return (
        f"<tse:{operation}><tse:StartPoint>{start}</tse:StartPoint>{until}<tse:Scope>{scope}</tse:Scope>{more}{limit}"
        f"<tse:KeepAliveTime>{keep_alive}</tse:KeepAliveTime></tse:{operation}>"
    )


def find_events(
    start: str,
    end: str | None = None,
    *,
    wanted: str = "",
    start_state: bool = False,
    scope: str = "",
    maximum: int | None = None,
    keep_alive: str = "PT10S",
) -> str:
    virtual = "true" if start_state else "false"
    more = f"<tse:SearchFilter>{wanted}</tse:SearchFilter><tse:IncludeStartState>{virtual}</tse:IncludeStartState>"
    return find_in_time("FindEvents", start, end, more=more, scope=scope, maximum=maximum, keep_alive=keep_alive)


def find_positions(
    start: str,
    end: str | None = None,
    *,
    least: str = "",
    most: str = "",
    enter_or_exit: bool = False,
    scope: str = "",
    maximum: int | None = None,
    keep_alive: str = "PT10S",
) -> str:
    """`least` and `most` are the content of the two corners."""
    changes = "true" if enter_or_exit else "false"
    more = (
        f"<tse:SearchFilter><tt:MinPosition>{least}</tt:MinPosition><tt:MaxPosition>{most}</tt:MaxPosition>"
        f"<tt:EnterOrExit>{changes}</tt:EnterOrExit></tse:SearchFilter>"
    )
    return find_in_time("FindPTZPosition", start, end, more=more, scope=scope, maximum=maximum, keep_alive=keep_alive)


def find_metadata(
    start: str,
    end: str | None = None,
    *,
    wanted: str = "boolean(//Object)",
    scope: str = "",
    maximum: int | None = None,
    keep_alive: str = "PT10S",
) -> str:
    expression = wanted.replace("&", "&amp;").replace("<", "&lt;")
    more = f"<tse:MetadataFilter><tt:MetadataStreamFilter>{expression}</tt:MetadataStreamFilter></tse:MetadataFilter>"
    return find_in_time("FindMetadata", start, end, more=more, scope=scope, maximum=maximum, keep_alive=keep_alive)


def topic_xml(expression: str, dialect: str = CONCRETE_SET) -> str:
    return f'<wsnt:TopicExpression Dialect="{dialect}">{expression}</wsnt:TopicExpression>'


def recording_request(operation: str, recording: str, more: str = "") -> str:
    """A request of recording control that begins with a RecordingToken."""
    return f"<trc:{operation}><trc:RecordingToken>{recording}</trc:RecordingToken>{more}</trc:{operation}>"


def job_request(operation: str, job: str, more: str = "") -> str:
    return f"<trc:{operation}><trc:JobToken>{job}</trc:JobToken>{more}</trc:{operation}>"


def receiver_request(operation: str, receiver: str, more: str = "") -> str:
    return f"<trv:{operation}><trv:ReceiverToken>{receiver}</trv:ReceiverToken>{more}</trv:{operation}>"


def track_xml(track_type: str = "Video", description: str = "") -> str:
    return (
        f"<trc:TrackConfiguration><tt:TrackType>{track_type}</tt:TrackType>"
        f"<tt:Description>{description}</tt:Description></trc:TrackConfiguration>"
    )


def job_xml(recording: str, source: str = AUTO_SOURCE, mode: str = "Idle", priority: object = 1) -> str:
    return (
        f"<trc:JobConfiguration><tt:RecordingToken>{recording}</tt:RecordingToken>"
        f"<tt:Mode>{mode}</tt:Mode><tt:Priority>{priority}</tt:Priority>{source}</trc:JobConfiguration>"
    )


def source_token(token: str) -> str:
    return f"<tt:Source><tt:SourceToken><tt:Token>{token}</tt:Token></tt:SourceToken></tt:Source>"


async def recording_of(house: SoapHouse) -> str:
    return (await house.send(create_recording())).text("trc:RecordingToken")


async def job_of(house: SoapHouse, recording: str, source: str = AUTO_SOURCE) -> str:
    return (await house.send(create_job(recording, source))).text("trc:JobToken")


async def receiver_of(house: SoapHouse) -> str:
    created = await house.send(f"<trv:CreateReceiver>{receiver_xml()}</trv:CreateReceiver>")
    return created.text("trv:Receiver/tt:Token")


async def tokens(house: SoapHouse, what: str) -> list[str]:
    """Tokens of all recordings, jobs or receivers."""
    request, path = {
        "recordings": ("<trc:GetRecordings/>", "trc:RecordingItem/tt:RecordingToken"),
        "jobs": ("<trc:GetRecordingJobs/>", "trc:JobItem/tt:JobToken"),
        "receivers": ("<trv:GetReceivers/>", "trv:Receivers/tt:Token"),
    }[what]
    return (await house.send(request)).texts(path)


def information_request(recording: str) -> str:
    return (
        f"<tse:GetRecordingInformation><tse:RecordingToken>{recording}</tse:RecordingToken>"
        "</tse:GetRecordingInformation>"
    )


def results_request(
    search: str, minimum: int | None = None, maximum: int | None = None, wait: str = "PT0S", what: str = "Recording"
) -> str:
    least = "" if minimum is None else f"<tse:MinResults>{minimum}</tse:MinResults>"
    most = "" if maximum is None else f"<tse:MaxResults>{maximum}</tse:MaxResults>"
    return (
        f"<tse:Get{what}SearchResults><tse:SearchToken>{search}</tse:SearchToken>{least}{most}"
        f"<tse:WaitTime>{wait}</tse:WaitTime></tse:Get{what}SearchResults>"
    )


def end_search(search: str) -> str:
    return f"<tse:EndSearch><tse:SearchToken>{search}</tse:SearchToken></tse:EndSearch>"
