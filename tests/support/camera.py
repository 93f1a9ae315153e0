"""A camera with a script: an RTSP server of our own that sends exactly what a test tells it, faults included.

TCP interleaved and UDP unicast, several tracks, Basic and Digest. What it answers can be bent for each method:

    camera = Camera([h264_track()])
    camera.answers["DESCRIBE"] = lambda request, response: bytes(response)[:20]      # half a reply
    async with camera:
        ... connect to camera.uri ...
        await camera.playing()
        camera.send(track.unit(KEY_FRAME, rtp_time=0))
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from nvr.auth.challenge import parse_parameters
from nvr.auth.digest import Algorithm, ha1, response_hex
from nvr.media import codecs
from nvr.media.codecs.metadata import MetadataConfiguration
from nvr.media.rtcp import Bye, ReceiverReport, RtcpPacket, SenderReport, SourceDescription, parse_compound
from nvr.media.rtp import RtpExtension, RtpPacket
from nvr.media.rtsp.headers import Headers
from nvr.media.rtsp.message import Interleaved, MessageParser, Request, Response, frame_header
from nvr.media.unit import Packetizer
from nvr.model.time import ntp_from_utc

Answer = Callable[[Request, Response], bytes | None]
"""From the request and the answer that would be sent to the bytes that are sent; None for silence."""

SPS = bytes.fromhex("6742c01ed903c56840000003004000000c03c58b92")
PPS = bytes.fromhex("68cb8cb2")


def sample_form(*nals: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(n)) + n for n in nals)


def key_frame(number: int = 0, size: int = 3000) -> bytes:
    """An IDR picture in sample form, told apart by its number; too large for one packet by default."""
    return sample_form(b"\x65\x88" + struct.pack(">I", number) + b"\x5a" * size)


def picture(number: int = 0, size: int = 200) -> bytes:
    """A picture that refers to others."""
    return sample_form(b"\x41\x9a" + struct.pack(">I", number) + b"\xa5" * size)


@dataclass(eq=False)
class UdpLeg:
    """The sockets of one stream on the side of the camera, and where they send to."""

    rtp: socket.socket
    rtcp: socket.socket
    host: str
    ports: tuple[int, int]

    @classmethod
    def towards(cls, host: str, ports: tuple[int, int]) -> UdpLeg:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        pair = []
        for _ in range(2):
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.bind((host, 0))
            sock.setblocking(False)
            pair.append(sock)
        return cls(pair[0], pair[1], host, ports)

    def server_ports(self) -> tuple[int, int]:
        return self.rtp.getsockname()[1], self.rtcp.getsockname()[1]

    def send(self, packet: bytes, *, rtcp: bool = False) -> None:
        sock = self.rtcp if rtcp else self.rtp
        sock.sendto(packet, (self.host, self.ports[rtcp]))

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


@dataclass(eq=False)
class CameraTrack:
    """One stream: how it is described, and the running numbers of its packets."""

    kind: str
    rtpmap: str
    fmtp: str | None = None
    payload_type: int = 96
    control: str = "trackID=1"
    lines: tuple[str, ...] = ()
    ssrc: int = 0x1234_5678
    sequence: int = 65_530
    """Near the wrap, so that every test goes through it."""
    packetizer: Packetizer | None = None
    channel: int | None = None
    """The channel that was set up."""
    udp: UdpLeg | None = None
    """The sockets, where UDP was set up."""

    def describe(self) -> str:
        text = f"m={self.kind} 0 RTP/AVP {self.payload_type}\r\na=rtpmap:{self.payload_type} {self.rtpmap}\r\n"
        if self.fmtp is not None:
            text += f"a=fmtp:{self.payload_type} {self.fmtp}\r\n"
        return text + "".join(f"{line}\r\n" for line in self.lines) + f"a=control:{self.control}\r\n"

    def packet(
        self, payload: bytes, rtp_time: int, marker: bool = False, extension: RtpExtension | None = None
    ) -> bytes:
        """The next RTP packet."""
        sequence, self.sequence = self.sequence, (self.sequence + 1) & 0xFFFF
        return bytes(
            RtpPacket(
                self.payload_type, sequence, rtp_time & 0xFFFF_FFFF, self.ssrc, payload, marker, extension=extension
            )
        )

    def skip(self, packets: int) -> None:
        """So many packets are lost on the way."""
        self.sequence = (self.sequence + packets) & 0xFFFF

    def unit(self, data: bytes, rtp_time: int) -> list[bytes]:
        """The RTP packets of one access unit."""
        assert self.packetizer is not None
        parts = self.packetizer.packetize(memoryview(data))
        last = len(parts) - 1
        return [
            self.packet(prefix + bytes(part), rtp_time, i == last and self.packetizer.marker_on_last)
            for i, (prefix, part) in enumerate(parts)
        ]

    def frames(self, packets: Sequence[bytes], *, rtcp: bool = False) -> bytes:
        """Packets as interleaved frames on the channel that was set up."""
        assert self.channel is not None, "not set up"
        channel = self.channel + rtcp
        return b"".join(frame_header(channel, len(p)) + p for p in packets)

    def sender_report(self, utc_ns: int, rtp_time: int) -> bytes:
        return bytes(SenderReport(self.ssrc, ntp_from_utc(utc_ns), rtp_time & 0xFFFF_FFFF)) + bytes(
            SourceDescription.cname(self.ssrc, "camera")
        )

    def bye(self, reason: str = "") -> bytes:
        return bytes(ReceiverReport(self.ssrc)) + bytes(Bye((self.ssrc,), reason))


def h264_track(control: str = "trackID=1", *, parameter_sets: bool = True, ssrc: int = 0x1000) -> CameraTrack:
    sets = ",".join(base64.b64encode(n).decode() for n in (SPS, PPS))
    fmtp = "packetization-mode=1" + (f";sprop-parameter-sets={sets}" if parameter_sets else "")
    track = CameraTrack("video", "H264/90000", fmtp, 96, control, ssrc=ssrc)
    depacketizer = codecs.depacketizer_for("H264", 90_000, None, {"sprop-parameter-sets": sets})
    assert depacketizer.configuration is not None, "the parameter sets of the test are not understood"
    track.packetizer = codecs.packetizer_for(depacketizer.configuration, 1400)
    return track


def pcmu_track(control: str = "trackID=2") -> CameraTrack:
    return CameraTrack("audio", "PCMU/8000", None, 0, control, ssrc=0x2000)


def metadata_track(control: str = "trackID=3") -> CameraTrack:
    track = CameraTrack("application", "vnd.onvif.metadata/90000", None, 107, control, ssrc=0x3000)
    track.packetizer = codecs.packetizer_for(MetadataConfiguration(), 1400)
    return track


@dataclass
class Camera:
    """The server. `requests` holds all that came, in order; `connections` counts them."""

    tracks: Sequence[CameraTrack]
    answers: dict[str, Answer] = field(default_factory=dict)
    username: str = ""
    password: str = ""
    schemes: tuple[str, ...] = ()
    """Challenges: `Basic`, `Digest`; none means an open camera."""
    public: str | None = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"
    session_timeout: int = 60
    content_base: str | None = None
    session_lines: str = "a=control:*\r\n"
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    reports: list[tuple[int, list[RtcpPacket]]] = field(default_factory=list)
    """RTCP that came, with its channel."""
    raw_reports: list[tuple[int, bytes]] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    transports: tuple[str, ...] = ("TCP", "UDP")
    """What SETUP is answered for; 461 else."""
    silent_udp: bool = False
    """A firewall on the way: no datagram arrives."""

    async def __aenter__(self) -> Camera:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self._changed = asyncio.Condition()
        self._writer: asyncio.StreamWriter | None = None
        self._plays = 0
        self._tasks: set[asyncio.Task[None]] = set()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for track in self.tracks:
            self._close_udp(track)
        await self._server.wait_closed()

    @property
    def uri(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rtsps' if self.tls else 'rtsp'}://{host}:{self.port}/stream"

    def methods(self) -> list[str]:
        return [r.method for r in self.requests]

    async def playing(self, times: int = 1) -> None:
        """Until PLAY has been answered so often."""
        await self._until(lambda: self._plays >= times)

    async def requested(self, method: str, times: int = 1) -> None:
        """Until this request has come so often."""
        await self._until(lambda: self.methods().count(method) >= times)

    async def reported(self, times: int = 1) -> None:
        """Until so many RTCP packets have come."""
        await self._until(lambda: len(self.raw_reports) >= times)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(condition)

    def send(self, data: bytes) -> None:
        """Bytes on the connection that plays."""
        assert self._writer is not None
        self._writer.write(data)

    def send_packets(self, track: CameraTrack, packets: Sequence[bytes], *, rtcp: bool = False) -> None:
        """Over whatever transport was set up, in this order."""
        if track.udp is None:
            self.send(track.frames(packets, rtcp=rtcp))
        elif not self.silent_udp:
            for packet in packets:
                track.udp.send(packet, rtcp=rtcp)

    def send_unit(self, track: CameraTrack, data: bytes, rtp_time: int) -> None:
        self.send_packets(track, track.unit(data, rtp_time))

    def send_report(self, track: CameraTrack, utc_ns: int, rtp_time: int) -> None:
        self.send_packets(track, [track.sender_report(utc_ns, rtp_time)], rtcp=True)

    def hang_up(self, *, reset: bool = False) -> None:
        """Close the connection that plays; `reset` without the ordinary goodbye."""
        assert self._writer is not None
        if reset:
            sock = self._writer.get_extra_info("socket")
            sock.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER: RST
            self._writer.transport.abort()
        else:
            self._writer.close()

    # -- server ------------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        parser = MessageParser()
        try:
            while data := await reader.read(65_536):
                parser.feed(data)
                for event in parser.events():
                    if isinstance(event, Request):
                        self._request(event, writer)
                    elif isinstance(event, Interleaved):
                        self.raw_reports.append((event.channel, event.payload))
                        self.reports.append((event.channel, parse_compound(event.payload)))
                    async with self._changed:
                        self._changed.notify_all()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    def _request(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.requests.append(request)
        self.answering = writer
        response = self._respond(request)
        response.headers.set("CSeq", str(request.cseq))
        bend = self.answers.get(request.method)
        answer = bytes(response) if bend is None else bend(request, response)
        if request.method == "PLAY" and response.ok:
            self._writer = writer
            self._plays += 1
        if answer is not None:
            writer.write(answer)

    def _respond(self, request: Request) -> Response:
        if self.schemes and not self._authorized(request):
            return Response(401, Headers([("WWW-Authenticate", self._challenge(s)) for s in self.schemes]))
        method = request.method
        if method == "OPTIONS":
            return Response(200, Headers([("Public", self.public)] if self.public else []))
        if method == "DESCRIBE":
            headers = Headers([("Content-Type", "application/sdp")])
            if self.content_base is not None:
                headers.add("Content-Base", self.content_base)
            sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\n" + self.session_lines
            return Response(200, headers, (sdp + "".join(t.describe() for t in self.tracks)).encode())
        session = ("Session", f"abc;timeout={self.session_timeout}")
        if method == "SETUP":
            track = next((t for t in self.tracks if request.uri.endswith(t.control)), None)
            if track is None:
                return Response(404)
            transport = request.headers.get("Transport") or ""
            if ("TCP" if "/TCP" in transport else "UDP") not in self.transports:
                return Response(461)
            self._close_udp(track)
            if "client_port=" in transport:
                return Response(200, Headers([("Transport", self._setup_udp(track, transport)), session]))
            track.channel = int(transport.rpartition("interleaved=")[2].split("-")[0])
            return Response(200, Headers([("Transport", transport), session]))
        if method in ("PLAY", "TEARDOWN", "GET_PARAMETER"):
            return Response(200, Headers([session]))
        return Response(501)

    def _setup_udp(self, track: CameraTrack, transport: str) -> str:
        first, _, second = transport.partition("client_port=")[2].partition("-")
        leg = track.udp = UdpLeg.towards(self.host, (int(first), int(second)))
        asyncio.get_running_loop().add_reader(leg.rtcp, self._rtcp_came, leg)
        ports = leg.server_ports()
        return f"{transport};server_port={ports[0]}-{ports[1]};ssrc={track.ssrc:08X}"

    def _rtcp_came(self, leg: UdpLeg) -> None:
        try:
            packet = leg.rtcp.recv(2048)
        except OSError:  # what the kernel tells of a port that has been closed
            return
        self.raw_reports.append((1, packet))
        self.reports.append((1, parse_compound(packet)))
        task = asyncio.get_running_loop().create_task(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _close_udp(self, track: CameraTrack) -> None:
        if track.udp is not None:
            asyncio.get_running_loop().remove_reader(track.udp.rtcp)
            track.udp.close()
            track.udp = None

    def _challenge(self, scheme: str) -> str:
        if scheme == "Basic":
            return 'Basic realm="camera"'
        return 'Digest realm="camera", nonce="n0nce", algorithm=MD5, qop="auth"'

    def _authorized(self, request: Request) -> bool:
        value = request.headers.get("Authorization")
        if value is None:
            return False
        if value.startswith("Basic "):
            return base64.b64decode(value[6:]).decode() == f"{self.username}:{self.password}"
        given = parse_parameters(value)[0]
        secret = ha1(Algorithm.MD5, self.username, "camera", self.password)
        qop = ("auth", given.get("nc") or "", given.get("cnonce") or "")
        expected = response_hex(Algorithm.MD5, secret, request.method, request.uri, "n0nce", qop)
        return given.get("response") == expected and given.get("uri") == request.uri
