"""Paced viewers of 4 Mbit/s: CPU and memory of each, and how late the event loop is while it serves them.

    .venv/bin/python -m benchmarks.viewers [VIEWERS] [SECONDS]

The footage is that of `benchmarks.replay`. The viewers are one process of its own, which throws away what it reads;
each begins somewhere else in the footage. CPU is that of the serving process, threads included. Lateness is how much
later than asked for a timer of 10 ms fires in the serving loop. What a packet costs one viewer that reads as fast as it
can, beside a bare sendall, `benchmarks.replay` tells.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks import replay
from benchmarks.replay import KEY, PACKETS_OF_UNIT, RATE, START
from nvr.media.rtsp.range import ClockRange
from nvr.model.recording import Recording, RecordingConfiguration, Track, TrackConfiguration, TrackType
from nvr.model.time import NS
from nvr.model.tokens import VIDEO001
from nvr.replay.mounts import Mounts, RecordingMounts
from nvr.replay.server import RtspServer, RtspSettings
from nvr.storage.engine import StorageEngine
from nvr.storage.index import SqlFootageIndex
from nvr.storage.settings import StorageSettings, VolumeSettings

FOOTAGE_S = 120


async def view(port: int, at_ns: int, received: list[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    uri = f"rtsp://127.0.0.1:{port}/replay/{KEY.recording}"
    writer.write(
        f"SETUP {uri}/{VIDEO001} RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n".encode()
    )
    answer = (await reader.readuntil(b"\r\n\r\n")).decode()
    session = next(line for line in answer.split("\r\n") if line.startswith("Session:")).partition(";")[0]
    play = f"PLAY {uri} RTSP/1.0\r\nCSeq: 2\r\n{session}\r\nRange: {ClockRange(at_ns)}\r\n\r\n"
    writer.write(play.encode())
    while data := await reader.read(1 << 18):
        received[0] += len(data)


def views(port: int, count: int, seconds: float, pipe: Connection) -> None:
    """The viewers' process: says when all are there, and how many bytes came until it was told to end."""

    async def run() -> None:
        rng, received = random.Random(1), [0]
        tasks = [
            asyncio.create_task(view(port, START + rng.randrange(FOOTAGE_S // 3) * NS, received)) for _ in range(count)
        ]
        await asyncio.sleep(3)
        pipe.send(None)
        before = received[0]
        await asyncio.sleep(seconds)
        pipe.send(received[0] - before)
        for task in tasks:
            task.cancel()

    asyncio.run(run())


def resident() -> float:
    """MB of this process."""
    return resident_of("self")


def resident_of(pid: int | str) -> float:
    """MB of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


async def measured(port: int, count: int, seconds: float) -> None:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=views, args=(port, count, seconds, there))
    before = resident()
    process.start()
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, here.recv)
    late: list[float] = []

    async def probe() -> None:
        while True:
            began = loop.time()
            await asyncio.sleep(0.01)
            late.append(loop.time() - began - 0.01)

    probing = asyncio.create_task(probe())
    cpu, began = time.process_time(), time.perf_counter()
    received = await loop.run_in_executor(None, here.recv)
    cpu, elapsed = time.process_time() - cpu, time.perf_counter() - began
    memory = resident() - before
    probing.cancel()
    await loop.run_in_executor(None, process.join)
    packets = received / (replay.TOTAL / (replay.SECONDS * RATE * PACKETS_OF_UNIT))
    late.sort()
    print(
        f"{count:4} viewers: {received / elapsed / 1e6:6.1f} MB/s, CPU {cpu / elapsed:5.1%}, "
        f"{cpu / packets * 1e6:.1f} us a packet, {memory / count:.2f} MB each, "
        f"loop late p99 {late[len(late) * 99 // 100] * 1e3:.1f} ms, worst {late[-1] * 1e3:.1f} ms"
        f"; {count * elapsed / cpu:.0f} viewers a core"
    )


async def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 10
    replay.TOTAL = replay.TOTAL * FOOTAGE_S // replay.SECONDS
    replay.SECONDS = FOOTAGE_S
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        settings = StorageSettings((VolumeSettings(data / "volume", 0),), data / "volumes.json")
        index = SqlFootageIndex.open(data / "index.db")
        engine = StorageEngine(settings, index)
        await engine.start()
        await replay.record(engine)
        track = Track(VIDEO001, TrackConfiguration(TrackType.VIDEO))
        recording = Recording(KEY.recording, RecordingConfiguration(), (track,))
        limits = RtspSettings(maximum_connections=2 * count, maximum_connections_per_client=2 * count)
        server = RtspServer(Mounts(RecordingMounts(lambda _: recording, engine)), settings=limits)
        await server.start("127.0.0.1", 0)
        try:
            await measured(server.port, count, seconds)
        finally:
            await server.stop()
            await engine.stop()
            index.shut()


if __name__ == "__main__":
    asyncio.run(main())
