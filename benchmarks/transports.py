"""One recording without rate control to one client by each transport, beside the interleaved one in the same run.

    .venv/bin/python -m benchmarks.transports

Access units of 20 kB from the storage engine, packets of 1400 bytes; the client is a process of its own that throws
away what it reads. What counts is the CPU of the serving process for a packet, reading and checking the footage
included; the interleaved transport is the peer. UDP is sent as fast as its bucket and the loop's timer allow; "udp
singly" makes one system call a datagram.
"""

from __future__ import annotations

import asyncio
import base64
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from nvr.media.codecs.h264 import H264Configuration
from nvr.media.unit import Fragment, Sample
from nvr.model.recording import Recording, RecordingConfiguration, Track, TrackConfiguration, TrackType
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.model.tokens import VIDEO001, RecordingToken, TrackKey
from nvr.replay import udp
from nvr.replay.mounts import Mounts, RecordingMounts
from nvr.replay.server import RtspServer, RtspSettings
from nvr.replay.websocket import PATH
from nvr.storage.engine import StorageEngine
from nvr.storage.index import SqlFootageIndex
from nvr.storage.settings import StorageSettings, VolumeSettings

RATE = 25
GOP = 50
UNITS = 120 * RATE
UNIT_BYTES = 20_000
PACKETS_OF_UNIT = -(-(UNIT_BYTES - 5) // (1400 - 2))
START = 1_767_225_600 * NS
KEY = TrackKey(RecordingToken("rec-benchmark"), VIDEO001)
CONFIGURATION = H264Configuration((bytes.fromhex("674d001f965402802dc8"),), (bytes.fromhex("68ee3c80"),))
URI = f"rtsp://127.0.0.1/replay/{KEY.recording}"


async def record(engine: StorageEngine) -> None:
    recorder = engine.recorder(KEY, TrackType.VIDEO)
    heads = [(UNIT_BYTES - 4).to_bytes(4, "big") + bytes([0x65 if i == 0 else 0x41]) for i in range(GOP)]
    data = [head + os.urandom(UNIT_BYTES - 5) for head in heads]
    for first in range(0, UNITS, GOP):
        samples = [Sample(START + (first + i) * NS // RATE, data[i], i == 0) for i in range(GOP)]
        assert recorder.append(Fragment(CONFIGURATION, samples, START + (first + GOP) * NS // RATE))
        await engine.flush()
    recorder.end_run(GapReason.JOB_STOPPED)
    await engine.flush()


class Client:
    """RTSP by hand, over whatever `send` and `receive` stand for."""

    def __init__(self, send: Callable[[bytes], object], receive: Callable[[], bytes]) -> None:
        self._send, self._receive = send, receive
        self._session = ""
        self._cseq = 0

    def request(self, method: str, *headers: str) -> str:
        self._cseq += 1
        lines = [f"{method} {URI} RTSP/1.0", f"CSeq: {self._cseq}", *headers, *filter(None, [self._session])]
        self._send(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = b""
        while b"RTSP/1.0" not in answer or b"\r\n\r\n" not in answer:
            answer += self._receive()
        head = answer[answer.index(b"RTSP/1.0") :].partition(b"\r\n\r\n")[0].decode("latin-1")
        assert head.split()[1] == "200", head
        for line in head.split("\r\n"):
            if line.startswith("Session:"):
                self._session = line.partition(";")[0]
        return head


def play(way: str, port: int, pipe: Connection) -> None:
    """The client's process: sets up, says so, plays when told, and reads until nothing more comes."""
    down = socket.create_connection(("127.0.0.1", port))
    transport, media, send = "RTP/AVP/TCP;unicast", down, down.sendall
    if way.startswith("udp"):
        media = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        media.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        media.bind(("127.0.0.1", 0))
        first = media.getsockname()[1]
        transport = f"RTP/AVP;unicast;client_port={first}-{(first + 1) % 65536 or 1024}"
    elif way == "tunnel":
        down.sendall(b"GET / HTTP/1.0\r\nx-sessioncookie: b\r\n\r\n")
        down.recv(4096)
        up = socket.create_connection(("127.0.0.1", port))
        up.sendall(b"POST / HTTP/1.0\r\nx-sessioncookie: b\r\nContent-Length: 32767\r\n\r\n")
        send = lambda data: up.sendall(base64.b64encode(data))  # noqa: E731
    elif way == "websocket":
        head = f"GET {PATH} HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        head += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: rtsp.onvif.org\r\n\r\n"
        down.sendall(head.encode())
        down.recv(4096)
        send = lambda data: down.sendall(b"\x82\xfe" + len(data).to_bytes(2, "big") + bytes(4) + data)  # noqa: E731
    client = Client(send, lambda: down.recv(65536))
    client.request("SETUP", f"Transport: {transport}")
    pipe.send("ready")
    pipe.recv()
    client.request("PLAY", "Rate-Control: no")
    media.settimeout(1.0)
    received, packets, buffer = 0, 0, bytearray(1 << 20)
    began = last = time.perf_counter()
    try:
        while size := media.recv_into(buffer):
            received, packets, last = received + size, packets + 1, time.perf_counter()
    except TimeoutError:
        pass
    pipe.send((last - began, received, packets))


async def one(way: str, server: RtspServer) -> tuple[float, float, int]:
    """Seconds, CPU seconds of this process, and packets that came (of UDP) or that must have come."""
    here, there = multiprocessing.Pipe()
    port = server.port
    if way == "websocket":
        port = await websocket_port(server)
    process = multiprocessing.get_context("spawn").Process(target=play, args=(way, port, there))
    process.start()
    there.close()  # should it end, reading tells
    await asyncio.to_thread(here.recv)
    cpu = time.process_time()
    here.send("go")
    seconds, received, packets = await asyncio.to_thread(here.recv)
    cpu = time.process_time() - cpu
    process.join()
    expected = UNITS * PACKETS_OF_UNIT
    if not way.startswith("udp"):
        assert received >= UNITS * UNIT_BYTES, received
        packets = expected
    return seconds, cpu, packets


async def websocket_port(server: RtspServer) -> int:
    """A listener that hands every connection over, as the HTTP listener does with those that open a WebSocket."""

    class Hand(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            server.adopt(self.transport, data, lambda: None)

    listener = await asyncio.get_running_loop().create_server(Hand, "127.0.0.1", 0)
    return int(listener.sockets[0].getsockname()[1])


async def main() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        root = Path(directory)
        settings = StorageSettings((VolumeSettings(root / "volume", 0),), root / "volumes.json")
        index = SqlFootageIndex.open(root / "index.db")
        engine = StorageEngine(settings, index)
        await engine.start()
        await record(engine)
        recording = Recording(
            KEY.recording, RecordingConfiguration(), (Track(VIDEO001, TrackConfiguration(TrackType.VIDEO)),)
        )
        limits = RtspSettings(udp_rate_bytes=400_000_000)
        server = RtspServer(Mounts(RecordingMounts(lambda _: recording, engine)), settings=limits)
        await server.start("127.0.0.1", 0)
        print(
            f"{os.cpu_count()} cores; microseconds of CPU a packet in the serving process, and the ratio to interleaved"
        )
        peer = 0.0
        for way in ("interleaved", "interleaved", "tunnel", "websocket", "udp", "udp singly", "udp", "udp singly"):
            udp.SEGMENTS = 1 if way == "udp singly" else 64  # type: ignore[misc]
            seconds, cpu, packets = await one(way, server)
            cost = cpu / (UNITS * PACKETS_OF_UNIT) * 1e6
            peer = cost if way == "interleaved" else peer
            lost = UNITS * PACKETS_OF_UNIT - packets
            print(f"{way:12} {cost:6.2f} us  {cost / peer:5.2f}  in {seconds:5.2f} s, {lost} packets lost")
        await server.stop()
        await engine.stop()
        index.shut()


if __name__ == "__main__":
    asyncio.run(main())
