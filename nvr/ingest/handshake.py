"""From a media URI to a session that plays: OPTIONS, DESCRIBE, SETUP of every stream worth it, PLAY (RFC 2326 10)."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from nvr.ingest.connection import CameraConnection
from nvr.ingest.endpoint import Endpoint
from nvr.ingest.offer import OfferedStream, offered, without_credentials
from nvr.ingest.settings import IngestSettings
from nvr.ingest.stream import StreamReceiver
from nvr.ingest.trust import Trust
from nvr.ingest.udp import UdpMedia
from nvr.media.rtsp.message import Response
from nvr.media.sdp import SessionDescription, control_base, resolve_control
from nvr.model.errors import CredentialsRefused, FormatError, SourceError
from nvr.model.receiver import TransportProtocol
from nvr.model.time import NS

logger = logging.getLogger(__name__)

DEFAULT_SESSION_TIMEOUT_S = 60
"""RFC 2326 12.37."""
_REDIRECTS = frozenset({301, 302, 303, 305})
_INTERLEAVED = re.compile(r'interleaved\s*=\s*"?\s*(\d+)\s*(?:-\s*(\d+))?', re.ASCII | re.I)
_SERVER_PORT = re.compile(r'server_port\s*=\s*"?\s*(\d{1,5})\s*(?:-\s*(\d{1,5}))?', re.ASCII | re.I)
_SOURCE = re.compile(r';\s*source\s*=\s*"?([^;,"\s]+)', re.ASCII | re.I)
_SSRC = re.compile(r';\s*ssrc\s*=\s*"?\s*(?:0x)?([0-9a-f]{1,8})\b', re.ASCII | re.I)
_REFUSED = frozenset({400, 406, 461, 462, 500, 501, 551})
"""What cameras answer to a SETUP whose transport they do not have; 461 is the right one."""
_OTHER = {TransportProtocol.UDP: TransportProtocol.RTSP, TransportProtocol.RTSP: TransportProtocol.UDP}
"""What is tried where a transport is refused. A tunnel has been asked for because nothing else gets through."""
_CARRIER = {TransportProtocol.UDP: "UDP", TransportProtocol.RTSP: "TCP", TransportProtocol.HTTP: "HTTP"}
_TIMEOUT = re.compile(r";\s*timeout\s*=\s*(\d+)", re.ASCII | re.I)


@dataclass(slots=True)
class PlayingSession:
    """What the handshake found out."""

    connection: CameraConnection
    uri: str
    """The aggregate URI: PLAY, keep-alive and TEARDOWN go there."""
    session_id: str | None = None
    timeout_ns: int = DEFAULT_SESSION_TIMEOUT_S * NS
    public: frozenset[str] = frozenset()
    streams: list[OfferedStream] = field(default_factory=list)
    transport: TransportProtocol = TransportProtocol.RTSP
    """How media come."""
    remark: str | None = None
    """One sentence where that is not what was asked for."""
    udp: UdpMedia | None = None
    """Their sockets, on UDP."""

    def headers(self) -> dict[str, str]:
        return {} if self.session_id is None else {"Session": self.session_id}

    async def teardown(self, timeout_ns: int) -> None:
        """End the session at the camera. Whatever it answers, it is over for us; raises SourceError without answer."""
        if self.session_id is not None:
            await self.connection.request("TEARDOWN", self.uri, self.headers(), timeout_ns=timeout_ns)


class TransportRefused(SourceError):
    """The camera does not send over the transport that it was asked for."""


async def open_session(
    endpoint: Endpoint,
    transport: TransportProtocol,
    settings: IngestSettings,
    on_rtcp: Callable[[StreamReceiver, bytes], None],
    prepare: Callable[[PlayingSession], None],
    tls: Callable[[], Awaitable[Trust]],
    ssrc: int = 0,
    label: Callable[[], str] = lambda: "",
) -> PlayingSession:
    """Connect, follow redirects and fall back to the other transport until a session plays.

    `prepare` is called when the streams are set up, before the first packet can come; `tls` where rtsps is met; `ssrc`
    is that of our reports, `label` what log lines call the receiver. Raises SourceError; nothing is left open then.
    """
    redirects = 0
    refused: TransportRefused | None = None
    while True:
        carrier, remark = transport, None
        if refused is not None:
            remark = f"{refused}; media come over {_CARRIER[transport]}"
        elif endpoint.tls and transport is TransportProtocol.UDP:
            # UDP would carry in the clear what rtsps protects: there is no SRTP here.
            carrier, remark = (
                TransportProtocol.RTSP,
                "media of an rtsps source come over its TLS connection, not over UDP",
            )
        connection = CameraConnection(endpoint, on_rtcp, await tls() if endpoint.tls else None)
        handshake = _Handshake(connection, settings, prepare, carrier, ssrc, label)
        handshake.session.remark = remark
        try:
            await connection.open(settings.connect_timeout_ns)
            _heed_cancellation()
            redirect = await handshake.run()
        except TransportRefused as e:
            await _give_up(handshake, settings)
            if refused is not None:
                raise _both(refused, carrier, e) from e
            if not settings.transport_fallback or carrier not in _OTHER or endpoint.tls:
                raise
            refused, transport = e, _OTHER[carrier]
            continue
        except BaseException as e:
            await _give_up(handshake, settings)
            if refused is not None and isinstance(e, SourceError) and not isinstance(e, CredentialsRefused):
                raise _both(refused, carrier, e) from e
            raise
        if redirect is None:
            return handshake.session
        handshake.close()
        redirects += 1
        if redirects > settings.maximum_redirects:
            raise SourceError(f"{endpoint} redirects more than {settings.maximum_redirects} times")
        endpoint = endpoint.redirected(redirect.location, proxy=redirect.proxy)


def _both(refused: SourceError, carrier: TransportProtocol, error: SourceError) -> SourceError:
    return SourceError(f"{refused}; over {_CARRIER[carrier]}: {error}")


async def _give_up(handshake: _Handshake, settings: IngestSettings) -> None:
    """Tell the camera, so that it does not keep a half-made session, and close; the first error is the one to tell."""
    try:
        if handshake.session.connection.running:
            await handshake.session.teardown(settings.teardown_timeout_ns)
    except (SourceError, asyncio.CancelledError):
        pass  # the attempt has failed or was cancelled already, and the connection is closed below in any case
    finally:
        handshake.close()


def _heed_cancellation() -> None:
    """`asyncio.wait_for` of Python 3.11, in aiortsp, swallows a cancellation that comes together with the answer."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@dataclass(frozen=True, slots=True)
class _Redirect:
    location: str
    proxy: bool


class _Redirected(Exception):
    def __init__(self, to: _Redirect) -> None:
        super().__init__(to)
        self.to = to


class _Handshake:
    def __init__(
        self,
        connection: CameraConnection,
        settings: IngestSettings,
        prepare: Callable[[PlayingSession], None],
        transport: TransportProtocol,
        ssrc: int,
        label: Callable[[], str],
    ) -> None:
        self._label = label
        self.session = PlayingSession(connection, connection.endpoint.uri, transport=transport)
        self._connection = connection
        self._peer = connection.endpoint
        self._settings = settings
        self._prepare = prepare
        self._transport = transport
        self._ssrc = ssrc

    def close(self) -> None:
        self._connection.abort()
        if self.session.udp is not None:
            self.session.udp.close()

    async def run(self) -> _Redirect | None:
        """None when the session plays; where to go when the camera redirects."""
        try:
            await self._run()
        except _Redirected as redirected:
            return redirected.to
        return None

    async def _run(self) -> None:
        session = self.session
        answer = await self._request("OPTIONS", session.uri)
        if answer.status == 401 and self._peer.username is not None:
            self._expect(answer, "OPTIONS")  # another request would only count as one more wrong password
        if answer.ok:  # without it OPTIONS itself serves as keep-alive
            public = ",".join(answer.headers.get_all("Public"))
            session.public = frozenset(m.strip().upper() for m in public.split(",") if m.strip())
        answer = await self._request("DESCRIBE", session.uri, {"Accept": "application/sdp"})
        self._expect(answer, "DESCRIBE")
        self._describe(answer)
        if self._transport is TransportProtocol.UDP:
            local, peer = self._connection.addresses
            session.udp = UdpMedia(local, peer, self._settings, self._connection.on_rtcp)
        refused: TransportRefused | None = None
        for stream in self._worth_setting_up():
            try:
                await self._setup(stream)
            except TransportRefused as e:
                if session.udp is not None:
                    raise  # all streams of a session come over one transport
                refused, stream.problem = refused or e, str(e)
        if all(s.rtcp_channel is None for s in session.streams):
            problem = next(s.problem for s in session.streams if s.problem)
            raise refused or SourceError(f"{self._peer}: {problem}")
        self._prepare(session)
        await self._play()

    def _describe(self, answer: Response) -> None:
        try:
            description = SessionDescription.parse(answer.body)
        except FormatError as e:
            raise SourceError(f"{self._peer} answered DESCRIBE without a session description: {e}") from e
        base = control_base(
            self.session.uri, answer.headers.get("Content-Base"), answer.headers.get("Content-Location")
        )
        base = without_credentials(base)
        if not description.media:
            raise SourceError(f"the session description of {self._peer} names no RTP media")
        maximum = self._settings.maximum_streams
        if left_out := description.media[maximum:]:
            kinds = ", ".join(media.kind[:32] for media in left_out[:16])
            logger.warning(
                "receiver %s: %s offers %d streams; the first %d are taken, %s are left out (maximum_streams)",
                self._label(),
                self._peer,
                len(description.media),
                maximum,
                kinds,
            )
        for index, media in enumerate(description.media[:maximum]):
            self.session.streams.append(offered(index, media, base))
        self.session.uri = resolve_control(description.control, base)

    def _worth_setting_up(self) -> list[OfferedStream]:
        """All that can be stored. Where nothing can, all: a receiver connects whatever the encoding (10.4)."""
        streams = self.session.streams
        return [s for s in streams if s.info.supported] or streams

    async def _setup(self, stream: OfferedStream) -> None:
        udp, index = self.session.udp, stream.info.index
        if udp is not None:
            ports = udp.open(stream.receiver)
            wanted = f"RTP/AVP;unicast;client_port={ports[0]}-{ports[1]}"
        else:
            wanted = f"RTP/AVP/TCP;unicast;interleaved={2 * index}-{2 * index + 1}"
        answer = await self._request("SETUP", stream.uri, {"Transport": wanted, **self.session.headers()})
        if not answer.ok:
            if answer.status == 401:
                self._expect(answer, "SETUP")
            told = f"SETUP of stream {index} was answered with {answer.status} {answer.reason}".rstrip()
            if answer.status in _REFUSED:
                raise TransportRefused(f"{self._peer}: {told}")
            stream.problem = told
            return
        transport = answer.headers.get("Transport") or ""
        self._learn_session(answer)
        tcp = "TCP" in transport.upper() or "interleaved" in transport.lower()
        if "multicast" in transport.lower() or (
            tcp if udp is not None else "client_port" in transport.lower() and not tcp
        ):
            raise TransportRefused(
                f"{self._peer}: SETUP of stream {index} was answered with the transport {transport[:80]!r}"
            )
        if udp is not None:
            self._setup_udp(udp, stream, transport)
        else:
            self._setup_interleaved(stream, transport)

    def _setup_udp(self, udp: UdpMedia, stream: OfferedStream, transport: str) -> None:
        server, source, ssrc = None, _SOURCE.search(transport), _SSRC.search(transport)
        if (match := _SERVER_PORT.search(transport)) is not None:
            first = int(match[1])
            second = int(match[2]) if match[2] else first + 1
            if 0 < first <= 65_535 and 0 < second <= 65_535:  # some cameras announce 0-0
                server = first, second
        udp.answered(
            stream.receiver,
            server,
            source[1] if source is not None else None,
            int(ssrc[1], 16) if ssrc is not None else None,
            self._ssrc,
        )
        stream.rtcp_channel = 0

    def _setup_interleaved(self, stream: OfferedStream, transport: str) -> None:
        parser = self._connection.parser
        channel = 2 * stream.info.index
        if (match := _INTERLEAVED.search(transport)) is not None:
            channel = int(match[1])
        rtcp = int(match[2]) if match is not None and match[2] else channel + 1
        if not (channel <= 255 and rtcp <= 255):
            raise SourceError(f"{self._peer} assigns the interleaved channels {channel}-{rtcp}, which do not exist")
        if parser.channels[channel] is not None or channel in parser.rtcp_channels:
            raise SourceError(f"{self._peer} assigns the interleaved channel {channel} to two streams")
        parser.channels[channel] = stream.receiver
        if rtcp != channel:
            parser.rtcp_channels[rtcp] = stream.receiver
        stream.rtcp_channel = rtcp

    def _learn_session(self, answer: Response) -> None:
        value = answer.headers.get("Session")
        if value is None:
            return
        self.session.session_id = value.partition(";")[0].strip()
        if (match := _TIMEOUT.search(value)) is not None and int(match[1][:9]) > 0:
            self.session.timeout_ns = int(match[1][:9]) * NS

    async def _play(self) -> None:
        headers = {**self.session.headers(), "Range": "npt=0.000-"}
        answer = await self._request("PLAY", self.session.uri, headers)
        if answer.status == 459:  # Aggregate operation not allowed
            for stream in self.session.streams:
                if stream.rtcp_channel is not None:
                    self._expect(await self._request("PLAY", stream.uri, headers), "PLAY")
            return
        self._expect(answer, "PLAY")

    async def _request(self, method: str, uri: str, headers: dict[str, str] | None = None) -> Response:
        answer = await self._connection.request(method, uri, headers, timeout_ns=self._settings.request_timeout_ns)
        _heed_cancellation()
        if answer.status in _REDIRECTS and method != "TEARDOWN":
            location = answer.headers.get("Location")
            if not location:
                raise SourceError(f"{self._peer} redirects without saying where to")
            raise _Redirected(_Redirect(location.strip(), answer.status == 305))
        return answer

    def _expect(self, answer: Response, method: str) -> None:
        if answer.ok:
            return
        if answer.status == 401:
            if self._peer.username is None:
                raise SourceError(f"{self._peer} asks for a user name and password, the media URI has none")
            raise CredentialsRefused(f"{self._peer} refuses the user name or password (401 to {method})")
        if answer.status == 404:
            raise SourceError(f"{self._peer} knows no stream at this path (404 to {method})")
        raise SourceError(f"{self._peer} answered {method} with {answer.status} {answer.reason}".rstrip())
