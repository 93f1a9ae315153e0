"""Paced viewers of 4 Mbit/s: CPU and memory of each, and how late their pictures come.

    .venv/bin/python -m benchmarks.viewers [--viewers 100 300] [--seconds 10] [--peer-viewers 40]

The footage is that of `benchmarks.replay`, two minutes of it. The viewers are one process of its own; each begins
somewhere else in the footage. CPU is that of the serving process, threads included, and of its loop's thread alone.
A picture counts as late beyond 100 ms. Delay of the loop is how much later than asked for a timer of 10 ms fires in it.

The peer is gst-rtsp-server with the same track file, each viewer from its beginning, without the header extension, in a
process of its own. The recorder is measured with as many viewers, too. Where it is not installed, it is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import multiprocessing
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks import paced_clients, replay
from benchmarks.ingest import cpu_seconds
from benchmarks.paced_clients import Seen
from benchmarks.replay import KEY, START
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
IN_TIME_S = 0.1
GST_SERVER = Path(__file__).parent / "_gst_server.py"
SYSTEM_PYTHON = "/usr/bin/python3"


def somewhere(n: int) -> str:
    """The Range of viewer `n`."""
    return str(ClockRange(START + random.Random(n).randrange(FOOTAGE_S // 3 * NS)))


def from_its_beginning(_: int) -> str:
    return "npt=0-"


def resident() -> float:
    """MB of this process."""
    return resident_of("self")


def resident_of(pid: int | str) -> float:
    """MB of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def begin(
    port: int, path: str, control: str, count: int, range_of: Callable[[int], str], seconds: float
) -> tuple[BaseProcess, Connection]:
    """The viewers' process, and the pipe from it."""
    here, there = multiprocessing.Pipe(duplex=False)
    target = functools.partial(paced_clients.watch, port, path, control, count, range_of, seconds)
    process = multiprocessing.get_context("spawn").Process(target=target, args=(there,))
    process.start()
    there.close()  # should the process end, reading tells
    return process, here


def told(who: str, count: int, seen: Seen, cpu_s: float, elapsed_s: float, memory: float) -> float:
    """Returns seconds of CPU a packet."""
    late = sum(d > IN_TIME_S for d in seen.late)
    of_one = replay.TOTAL / replay.SECONDS  # bytes a second: who gets less than its due does not count whole
    print(
        f"{count:4} viewers of {who}: {seen.received / elapsed_s / 1e6:6.1f} MB/s, CPU {cpu_s / elapsed_s:6.1%}, "
        f"{cpu_s / seen.packets * 1e6:5.1f} us a packet, {seen.received / of_one / cpu_s:4.0f} viewers a core, "
        f"{memory / count:5.2f} MB each; pictures late p99 {seen.late_at(0.99) * 1e3:.0f} ms, worst "
        f"{seen.late_at(1) * 1e3:.0f} ms, by more than {IN_TIME_S * 1e3:.0f} ms {late} of {len(seen.late)}",
        flush=True,
    )
    return cpu_s / seen.packets


async def measured(port: int, count: int, seconds: float) -> float:
    before = resident()
    process, pipe = begin(port, f"/replay/{KEY.recording}", VIDEO001, count, somewhere, seconds)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, pipe.recv)
    delays: list[float] = []

    async def probe() -> None:
        while True:
            began = loop.time()
            await asyncio.sleep(0.01)
            delays.append(loop.time() - began - 0.01)

    probing = asyncio.create_task(probe())
    cpu, own, began = time.process_time(), time.thread_time(), time.perf_counter()
    seen = await loop.run_in_executor(None, pipe.recv)
    cpu, own, elapsed = time.process_time() - cpu, time.thread_time() - own, time.perf_counter() - began
    memory = resident() - before
    probing.cancel()
    await loop.run_in_executor(None, process.join)
    cost = told("the recorder", count, seen, cpu, elapsed, memory)
    delays.sort()
    print(
        f"     of which the loop {own / cpu:.0%}, late itself p99 {delays[len(delays) * 99 // 100] * 1e3:.1f} ms, "
        f"worst {delays[-1] * 1e3:.1f} ms; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    return cost


def measured_peer(data: Path, count: int, seconds: float, ours: float) -> None:
    """`ours`: seconds of CPU that a packet has cost the recorder with as many viewers."""
    movie = max(data.rglob("*.mp4"), key=lambda path: path.stat().st_size)
    try:
        server = subprocess.Popen(
            [SYSTEM_PYTHON, str(GST_SERVER), str(movie)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as e:
        print(f"no peer: {e}")
        return
    with server:
        assert server.stdin is not None
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            print(f"no peer: {SYSTEM_PYTHON} has no gi with GstRtspServer 1.0")
            return
        before = resident_of(server.pid)
        process, pipe = begin(int(line), "/movie", "stream=0", count, from_its_beginning, seconds)
        pipe.recv()
        cpu, began = cpu_seconds(server.pid), time.perf_counter()
        seen = pipe.recv()
        cpu, elapsed = cpu_seconds(server.pid) - cpu, time.perf_counter() - began
        cost = told("gst-rtsp-server", count, seen, cpu, elapsed, resident_of(server.pid) - before)
        print(f"ratio of the recorder's CPU to the peer's with {count} viewers: {ours / cost:.2f}")
        process.join()
        server.stdin.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--viewers", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--peer-viewers", type=int, default=40)
    arguments = parser.parse_args()
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
        peers = arguments.peer_viewers
        most = 2 * max(*arguments.viewers, peers)
        limits = RtspSettings(maximum_connections=most, maximum_connections_per_client=most)
        server = RtspServer(Mounts(RecordingMounts(lambda _: recording, engine)), settings=limits)
        await server.start("127.0.0.1", 0)
        try:
            counts = sorted({*arguments.viewers, *([peers] if peers else [])})
            costs = {count: await measured(server.port, count, arguments.seconds) for count in counts}
            if peers:
                await asyncio.to_thread(measured_peer, data, peers, arguments.seconds, costs[peers])
        finally:
            await server.stop()
            await engine.stop()
            index.shut()


if __name__ == "__main__":
    asyncio.run(main())
