"""Replay without rate control to one client over loopback, beside a bare sendall of the same bytes in the same run.

    .venv/bin/python -m benchmarks.replay

The footage: one video track of 25 access units of 20 kB a second (4 Mbit/s), a clean point every 2 seconds, written by
the storage engine into files of 5 minutes and read back by replay: checksum, packets of 1400 bytes, header extension on
each unit. The client is a process of its own that throws away what it reads. The peer is a blocking socket that sends
the bytes of the same replay, kept in memory, to the same client: what the machine can do at all. The best of several
rounds counts. CPU is that of the serving process, threads included.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import socket
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from nvr.media.codecs.h264 import H264Configuration
from nvr.media.unit import Fragment, Sample
from nvr.model.recording import Recording, RecordingConfiguration, Track, TrackConfiguration, TrackType
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.model.tokens import VIDEO001, RecordingToken, TrackKey
from nvr.replay.mounts import Mounts, RecordingMounts
from nvr.replay.server import RtspServer
from nvr.storage.engine import StorageEngine
from nvr.storage.index import SqlFootageIndex
from nvr.storage.settings import StorageSettings, VolumeSettings

SECONDS = 600
RATE = 25
UNIT = 20_000
GOP = 50
ROUNDS = 3
CHUNK = 1 << 20
START = 1_767_225_600 * NS
KEY = TrackKey(RecordingToken("rec-benchmark"), VIDEO001)
CONFIGURATION = H264Configuration((bytes.fromhex("674d001f965402802dc8"),), (bytes.fromhex("68ee3c80"),))
PACKETS_OF_UNIT = -(-(UNIT - 5) // (1400 - 2))
TOTAL = SECONDS * RATE * (UNIT - 5 + PACKETS_OF_UNIT * (16 + 2) + 16)
"""Bytes on the wire: FU-A takes the NAL header and the length away and adds 2; 16 of frame and RTP; 16 of extension."""


def drain(host: str, port: int, request: bytes, total: int, pipe: Connection) -> None:
    """The client's process: sends `request`, reads at least `total` bytes, reports seconds and bytes."""
    with socket.create_connection((host, port)) as client:
        client.sendall(request)
        buffer = bytearray(CHUNK)
        received = client.recv_into(buffer)
        began = time.perf_counter()
        while received < total:
            received += client.recv_into(buffer)
        pipe.send((time.perf_counter() - began, received))
        pipe.recv()


async def record(engine: StorageEngine) -> None:
    recorder = engine.recorder(KEY, TrackType.VIDEO)
    data = [
        (UNIT - 4).to_bytes(4, "big") + bytes([0x65 if i == 0 else 0x41]) + random.Random(i).randbytes(UNIT - 5)
        for i in range(GOP)
    ]
    for first in range(0, SECONDS * RATE, GOP):
        samples = [Sample(START + (first + i) * NS // RATE, data[i], i == 0) for i in range(GOP)]
        assert recorder.append(Fragment(CONFIGURATION, samples, START + (first + GOP) * NS // RATE))
        if first % 1000 == 0:  # the queue of the writer is bounded, and this camera is faster than the disk
            await engine.flush()
    recorder.end_run(GapReason.JOB_STOPPED)
    await engine.flush()


async def replayed(port: int) -> tuple[float, int, float]:
    """Seconds, bytes and CPU seconds of one replay of everything."""
    uri = f"rtsp://127.0.0.1:{port}/replay/{KEY.recording}"
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=talk, args=("127.0.0.1", port, uri, TOTAL, there))
    child.start()
    there.close()  # should it end, reading tells
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, here.recv)
    before = time.process_time()
    seconds, received = await loop.run_in_executor(None, here.recv)
    cpu = time.process_time() - before
    here.send(None)
    await loop.run_in_executor(None, child.join)
    return seconds, received, cpu


def talk(host: str, port: int, uri: str, total: int, pipe: Connection) -> None:
    """The client's process for RTSP: SETUP, PLAY, and then as `drain`."""
    with socket.create_connection((host, port)) as client:
        setup = f"SETUP {uri}/{VIDEO001} RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"
        client.sendall(setup.encode())
        answer = client.recv(4096).decode()
        session = next(line for line in answer.split("\r\n") if line.startswith("Session:")).partition(";")[0]
        pipe.send(None)
        client.sendall(f"PLAY {uri} RTSP/1.0\r\nCSeq: 2\r\n{session}\r\nRate-Control: no\r\n\r\n".encode())
        buffer = bytearray(CHUNK)
        began = time.perf_counter()
        received = 0
        while received < total:
            received += client.recv_into(buffer)
        pipe.send((time.perf_counter() - began, received))
        pipe.recv()


def bare(block: bytes) -> tuple[float, int, float]:
    """The same number of bytes from memory by sendall."""
    here, there = multiprocessing.Pipe()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        child = multiprocessing.get_context("spawn").Process(
            target=drain, args=("127.0.0.1", port, b"go", TOTAL, there)
        )
        child.start()
        there.close()  # should it end, reading tells
        peer, _ = server.accept()
        with peer:
            peer.recv(2)
            before = time.process_time()
            sent = 0
            view = memoryview(block)
            while sent < TOTAL:
                peer.sendall(view[: min(len(block), TOTAL - sent)])
                sent += min(len(block), TOTAL - sent)
            seconds, received = here.recv()
            cpu = time.process_time() - before
            here.send(None)
        child.join()
    return seconds, received, cpu


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        settings = StorageSettings((VolumeSettings(data / "volume", 0),), data / "volumes.json")
        index = SqlFootageIndex.open(data / "index.db")
        engine = StorageEngine(settings, index)
        await engine.start()
        await record(engine)
        track = Track(VIDEO001, TrackConfiguration(TrackType.VIDEO))
        recording = Recording(KEY.recording, RecordingConfiguration(), (track,))
        server = RtspServer(Mounts(RecordingMounts(lambda _: recording, engine)))
        await server.start("127.0.0.1", 0)
        try:
            ours = [await replayed(server.port) for _ in range(ROUNDS)]
        finally:
            await server.stop()
            await engine.stop()
            index.shut()
    peer = [bare(random.Random(0).randbytes(64 * 1024)) for _ in range(ROUNDS)]
    packets = SECONDS * RATE * PACKETS_OF_UNIT
    for what, rounds in (("replay", ours), ("sendall", peer)):
        seconds, received, cpu = min(rounds)
        rate = received / seconds / 1e6
        print(f"{what:8} {rate:7.0f} MB/s   CPU {cpu:5.2f} s per {received / 1e6:.0f} MB", end="")
        print(f"   {cpu / packets * 1e6:.2f} us a packet" if what == "replay" else "")
    print(f"ratio    {min(peer)[0] / min(ours)[0]:7.2f}")


if __name__ == "__main__":
    asyncio.run(main())
