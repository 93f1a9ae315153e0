"""The camera of the benchmarks, a process of its own: replays an encoded group of pictures at its pace.

    python -m benchmarks.replaying_camera SECONDS [h264|h265]

4 Mbit/s, 25 pictures a second, a key frame every 2 s, FU packets of 1400 bytes, a sender report every 5 s. Interleaved
on TCP or over UDP, as SETUP asks. Paced as a network would: a picture leaves within 20 ms, in four bursts.
Prints its port, the bytes and the packets of a second, then serves until it is killed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import socket
import struct
import sys
import time
from dataclasses import dataclass
from fractions import Fraction

from nvr.media import codecs
from nvr.media.rtcp import SenderReport
from nvr.media.rtp import HEADER
from nvr.media.rtsp.headers import Headers
from nvr.media.rtsp.message import MessageParser, Request, Response
from nvr.model.time import ntp_from_utc
from tests.support.rtp_streams import nals_of_byte_stream, sample_form

PICTURES_A_SECOND = 25
KEY_FRAME_DISTANCE = 50
BURSTS = 4
BURST_S = 0.005
SSRC = 0x1234
_SOL_UDP = 17
_UDP_SEGMENT = 103
"""linux/udp.h"""
_NOBODY = (BlockingIOError, ConnectionRefusedError)
"""A camera sends on, whether somebody listens or not."""


@dataclass
class Stream:
    """What is replayed. `pictures` holds the RTP packets of each."""

    rtpmap: str
    fmtp: str
    pictures: list[list[bytes]]

    @property
    def packets(self) -> int:
        return sum(map(len, self.pictures))

    @property
    def octets(self) -> int:
        """As on TCP, with four bytes in front of each packet."""
        return sum(len(p) + 4 for picture in self.pictures for p in picture)


def encode_group(codec: str) -> tuple[dict[str, str], list[bytes]]:
    """Parameters for a=fmtp, and the units, in sample form, of one group of pictures at about 4 Mbit/s."""
    import av

    width, height = 640, 360
    encoder = av.CodecContext.create("libx264" if codec == "h264" else "libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, PICTURES_A_SECOND), Fraction(PICTURES_A_SECOND, 1)
    common = (
        f"keyint={KEY_FRAME_DISTANCE}:min-keyint={KEY_FRAME_DISTANCE}:bitrate=4000:vbv-maxrate=4000:vbv-bufsize=1000"
    )
    if codec == "h264":
        private = {"x264-params": f"{common}:nal-hrd=cbr:slices=1:threads=1:force-cfr=1"}
    else:
        private = {"x265-params": f"{common}:strict-cbr=1:frame-threads=1:pools=1:log-level=none:bframes=0"}
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", **private}
    noise = random.Random(1)
    packets = []
    for i in range(KEY_FRAME_DISTANCE):
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane in frame.planes:
            plane.update(noise.randbytes(plane.buffer_size // 4) * 4)
        frame.pts = i
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    nals = nals_of_byte_stream(bytes(packets[0]))
    text = {n[0] & 31 if codec == "h264" else n[0] >> 1 & 63: base64.b64encode(n).decode() for n in reversed(nals)}
    if codec == "h264":
        parameters = {"packetization-mode": "1", "sprop-parameter-sets": f"{text[7]},{text[8]}"}
    else:
        parameters = {"sprop-vps": text[32], "sprop-sps": text[33], "sprop-pps": text[34]}
    return parameters, [sample_form(*nals_of_byte_stream(bytes(p))) for p in packets]


def packetize(seconds: int, codec: str) -> Stream:
    parameters, units = encode_group(codec)
    configuration = codecs.depacketizer_for(codec.upper(), 90_000, None, parameters).configuration
    assert configuration is not None
    packetizer = codecs.packetizer_for(configuration, 1400)
    pictures, sequence = [], 0
    for n in range(seconds * PICTURES_A_SECOND):
        parts = packetizer.packetize(memoryview(units[n % len(units)]))
        packets = []
        for i, (prefix, part) in enumerate(parts):
            marker = 0x80 if i == len(parts) - 1 else 0
            header = HEADER.pack(0x80, marker | 96, sequence & 0xFFFF, n * 3600 & 0xFFFFFFFF, SSRC)
            packets.append(header + prefix + part)
            sequence += 1
        pictures.append(packets)
    fmtp = ";".join(f"{name}={value}" for name, value in parameters.items())
    return Stream(f"{codec.upper()}/90000", fmtp, pictures)


def framed(packets: list[bytes], channel: int = 0) -> bytes:
    return b"".join(b"$" + bytes((channel,)) + len(p).to_bytes(2, "big") + p for p in packets)


class Client:
    """One connection that plays."""

    def __init__(self, stream: Stream, tcp: list[list[bytes]], writer: asyncio.StreamWriter) -> None:
        self._stream = stream
        self._tcp = tcp
        self._writer = writer
        self._sockets: list[socket.socket] = []
        self._player: asyncio.Task[None] | None = None

    def setup(self, transport: str) -> str:
        if "client_port=" not in transport:
            return "RTP/AVP/TCP;unicast;interleaved=0-1"
        peer = self._writer.get_extra_info("peername")[0]
        first, _, second = transport.partition("client_port=")[2].partition(";")[0].partition("-")
        for port in (first, second):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            sock.connect((peer, int(port)))
            sock.setblocking(False)
            self._sockets.append(sock)
        ports = "-".join(str(s.getsockname()[1]) for s in self._sockets)
        return f"RTP/AVP;unicast;client_port={first}-{second};server_port={ports}"

    def play(self) -> None:
        self._player = asyncio.get_running_loop().create_task(self._play())

    def close(self) -> None:
        if self._player is not None:
            self._player.cancel()
        for sock in self._sockets:
            sock.close()
        self._writer.close()

    async def _play(self) -> None:
        begin, wall = time.monotonic(), time.time_ns()
        for n, picture in enumerate(self._stream.pictures):
            if self._writer.is_closing():
                return
            if n % (5 * PICTURES_A_SECOND) == 0:
                utc = wall + n * 1_000_000_000 // PICTURES_A_SECOND
                self._report(bytes(SenderReport(SSRC, ntp_from_utc(utc), n * 3600 & 0xFFFFFFFF)))
            share = -(-len(picture) // BURSTS)
            for burst in range(BURSTS):
                if self._sockets:
                    self._send(picture[burst * share : (burst + 1) * share])
                elif self._tcp[n][burst]:
                    self._writer.write(self._tcp[n][burst])
                at = begin + n / PICTURES_A_SECOND + (burst + 1) * BURST_S
                if burst == BURSTS - 1:
                    at = begin + (n + 1) / PICTURES_A_SECOND
                if (delay := at - time.monotonic()) > 0:
                    await asyncio.sleep(delay)

    def _send(self, packets: list[bytes]) -> None:
        """In one call where the kernel can cut it into the datagrams: all but the last have the same size."""
        if not packets:
            return
        size = len(packets[0])
        with contextlib.suppress(*_NOBODY):
            if len(packets[-1]) <= size and all(len(p) == size for p in packets[:-1]):
                cut = [(_SOL_UDP, _UDP_SEGMENT, struct.pack("=H", size))]
                self._sockets[0].sendmsg(packets, cut)
            else:
                for packet in packets:
                    self._sockets[0].send(packet)

    def _report(self, packet: bytes) -> None:
        if self._sockets:
            with contextlib.suppress(*_NOBODY):
                self._sockets[1].send(packet)
        else:
            self._writer.write(framed([packet], 1))


async def serve(seconds: int, codec: str) -> None:
    stream = packetize(seconds, codec)
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "m=video 0 RTP/AVP 96", f"a=rtpmap:96 {stream.rtpmap}"]
    sdp = "\r\n".join((*lines, f"a=fmtp:96 {stream.fmtp}", "a=control:v", ""))
    tcp = []
    for picture in stream.pictures:
        share = -(-len(picture) // BURSTS)
        tcp.append([framed(picture[b * share : (b + 1) * share]) for b in range(BURSTS)])

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser, client = MessageParser(), Client(stream, tcp, writer)
        try:
            while data := await reader.read(65_536):
                parser.feed(data)
                for event in parser.events():
                    if isinstance(event, Request):
                        writer.write(answer(event, client, sdp))
                        if event.method == "PLAY":
                            client.play()
        except ConnectionError:
            pass  # the recorder has been stopped
        finally:
            client.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], stream.octets // seconds, stream.packets // seconds, flush=True)
    await server.serve_forever()


def answer(request: Request, client: Client, sdp: str) -> bytes:
    headers = Headers([("CSeq", str(request.cseq)), ("Session", "1;timeout=60")])
    body = b""
    if request.method == "OPTIONS":
        headers.add("Public", "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER")
    elif request.method == "DESCRIBE":
        headers.add("Content-Type", "application/sdp")
        body = sdp.encode()
    elif request.method == "SETUP":
        headers.add("Transport", client.setup(request.headers.get("Transport") or ""))
    return bytes(Response(200, headers, body))


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "h264"))
