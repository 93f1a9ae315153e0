"""Replay beside recording: what viewers cost a recorder at work, and whether their packets come in time.

    python -m benchmarks.replay_beside_ingest [--streams 32] [--viewers 60] [--seconds 15]

One `nvr serve`, the whole daemon with users and Digest, records the camera of `benchmarks.ingest` (4.25 Mbit/s, a key
frame every 2 s), one recording a stream. When half a minute is there, three runs follow, the recording going on: nobody
watches; paced viewers, each somewhere else in what has been recorded; one client without rate control, who takes half a
minute of one recording on a connection, again and again. The clients are processes of their own. CPU is that of the
daemon, so that the first run is the peer of the others. A picture is late by how much later its last packet comes than
the RTP times say, reckoned from the earliest of its viewer.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.ingest import cpu_seconds, start_camera
from benchmarks.observed import LoopDelays, metrics
from benchmarks.viewers import resident_of
from nvr.auth.client import ClientCredentials
from nvr.media.rtsp.range import ClockRange
from nvr.model.time import NS
from nvr.operations.control_socket import ask_daemon

PASSWORD = "benchmark"
RECORDED_S = 30
CLOCK_RATE = 90_000
IN_TIME_S = 0.1
SILENT_S = 0.2
"""After so long without a byte a range has been played."""
LOSSES = ("nvr_receiver_lost_total", "nvr_storage_refused_fragments_total", "nvr_storage_lost_fragments_total")


class Viewer:
    """One RTSP connection."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._credentials = ClientCredentials("admin", PASSWORD)
        self._session = ""
        self._cseq = 0
        self.received = 0
        self.delays: list[float] = []

    async def request(self, method: str, uri: str, *headers: str) -> None:
        for _ in range(2):
            self._cseq += 1
            lines = [f"{method} {uri} RTSP/1.0", f"CSeq: {self._cseq}", *headers]
            answer = self._credentials.authorization(method, uri)
            lines += ([f"Authorization: {answer}"] if answer else []) + ([self._session] if self._session else [])
            self._writer.write("\r\n".join((*lines, "", "")).encode())
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            if " 401 " not in head.partition("\r\n")[0]:
                break
            if not self._credentials.challenged(re.findall(r"(?im)^WWW-Authenticate: (.*?)\r$", head)):
                break
        if " 200 " not in head.partition("\r\n")[0]:
            raise RuntimeError(f"{method} was answered {head[:200]}")
        session = re.search(r"(?m)^Session: [^;\r]+", head)
        self._session = session[0] if session else self._session

    async def watch(self, *headers: str) -> None:
        host, _, port = self._uri.removeprefix("rtsp://").partition("/")[0].partition(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port))
        await self.request("SETUP", f"{self._uri}/VIDEO001", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        await self.request("PLAY", self._uri, *headers)

    async def count(self) -> None:
        """Reads until the connection ends, and looks at each packet."""
        buffer, offset_s = b"", None
        while data := await self._reader.read(1 << 16):
            now, self.received = time.perf_counter(), self.received + len(data)
            buffer, at = buffer + data, 0
            while len(buffer) - at >= 16:
                end = at + 4 + struct.unpack_from(">H", buffer, at + 2)[0]
                if end > len(buffer):
                    break
                if buffer[at + 1] == 0 and buffer[at + 5] & 0x80:
                    due_s = struct.unpack_from(">I", buffer, at + 8)[0] / CLOCK_RATE
                    offset_s = now - due_s if offset_s is None else min(offset_s, now - due_s)
                    self.delays.append(now - due_s - offset_s)
                at = end
            buffer = buffer[at:]

    async def take(self) -> float:
        """Reads until nothing comes any more; seconds up to the last byte."""
        began = last = time.perf_counter()
        try:
            while True:
                async with asyncio.timeout(SILENT_S):
                    data = await self._reader.read(1 << 18)
                if not data:
                    break
                last, self.received = time.perf_counter(), self.received + len(data)
        except TimeoutError:
            pass  # that was all
        self._writer.close()
        return last - began


def paced(uris: list[str], count: int, begin_ns: int, seconds: float, pipe: Connection) -> None:
    """The viewers' process: tells bytes, packets and those late, and the delays by rank."""

    async def run() -> None:
        rng = random.Random(1)
        viewers = [Viewer(uris[i % len(uris)]) for i in range(count)]
        for viewer in viewers:
            await viewer.watch(f"Range: {ClockRange(begin_ns + rng.randrange(RECORDED_S // 2) * NS)}")
        tasks = [asyncio.create_task(viewer.count()) for viewer in viewers]
        await asyncio.sleep(3)
        for viewer in viewers:
            viewer.received, viewer.delays = 0, []
        pipe.send(None)
        await asyncio.sleep(seconds)
        delays = sorted(d for viewer in viewers for d in viewer.delays)
        pipe.send((sum(viewer.received for viewer in viewers), delays))
        for task in tasks:
            task.cancel()

    asyncio.run(run())


def unpaced(uris: list[str], count: int, begin_ns: int, seconds: float, pipe: Connection) -> None:
    """The process of one client that takes what it gets: tells bytes and the seconds in which they came."""

    async def run() -> None:
        received, taken_s = 0, 0.0
        pipe.send(None)
        ending = time.perf_counter() + seconds
        while time.perf_counter() < ending:
            viewer = Viewer(uris[0])
            await viewer.watch("Rate-Control: no", f"Range: {ClockRange(begin_ns, begin_ns + RECORDED_S * NS)}")
            taken_s += await viewer.take()
            received += viewer.received
        pipe.send((received, taken_s))

    asyncio.run(run())


def run_clients(target: object, *given: object) -> tuple[multiprocessing.Process, Connection]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(*given, there))  # type: ignore[arg-type]
    process.start()
    there.close()  # should it end, reading tells
    here.recv()
    return process, here  # type: ignore[return-value]


def measure(http: str, pid: int, uris: list[str], begin_ns: int, viewers: int, seconds: float) -> None:
    alone_s = 0.0
    memory = resident_of(pid)
    for what, target in (("recording", None), (f"{viewers} paced viewers", paced), ("one without pace", unpaced)):
        child = None if target is None else run_clients(target, uris, viewers, begin_ns, seconds)
        delays, before = LoopDelays.read(http), metrics(http)
        cpu, began = cpu_seconds(pid), time.perf_counter()
        found = None
        if child is None:
            time.sleep(seconds)
        else:
            found = child[1].recv()
        cpu_s, elapsed_s = cpu_seconds(pid) - cpu, time.perf_counter() - began
        alone_s = alone_s or cpu_s / elapsed_s
        print(f"  {what:17} CPU {cpu_s / elapsed_s:6.1%}, loop {LoopDelays.read(http).since(delays)}", end="")
        if target is paced and found is not None:
            late = sum(d > IN_TIME_S for d in found[1])
            more = cpu_s / elapsed_s - alone_s
            print(
                f"; {found[0] / elapsed_s / 1e6:.1f} MB/s, {viewers / more:.0f} viewers a core, "
                f"{(resident_of(pid) - memory) / viewers:.2f} MB each, pictures late p99 "
                f"{found[1][len(found[1]) * 99 // 100] * 1e3:.0f} ms, by more than {IN_TIME_S * 1e3:.0f} ms "
                f"{late} of {len(found[1])}",
                end="",
            )
        elif found is not None:
            print(f"; {found[0] / found[1] / 1e6:.0f} MB/s", end="")
        after = metrics(http)
        print(f"; lost {sum(after.get(n, 0) - before.get(n, 0) for n in LOSSES):.0f}", flush=True)
        if child is not None:
            child[0].join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--viewers", type=int, default=60)
    parser.add_argument("--seconds", type=int, default=15)
    arguments = parser.parse_args()
    camera, port, size, _ = start_camera(3 * arguments.seconds + RECORDED_S + 60)
    try:
        with tempfile.TemporaryDirectory() as name:
            data = Path(name)
            configuration = data / "nvr.toml"
            configuration.write_text("[rtsp]\nmaximum_connections_per_client = 1000\n")
            command = [sys.executable, "-m", "nvr", "serve", "--data", str(data), "--config", str(configuration)]
            command += ["--http", "127.0.0.1:0", "--rtsp", "127.0.0.1:0"]
            environment = {**os.environ, "NVR_ADMIN_PASSWORD": PASSWORD}
            daemon = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
            )
            try:
                assert daemon.stdout is not None
                words = daemon.stdout.readline().split()
                http = next(word for word in words if word.startswith("http"))
                rtsp = next(word for word in words if word.startswith("rtsp")).rstrip("/,.")
                uris = []
                for n in range(arguments.streams):
                    camera_of = {"name": f"camera {n}", "uri": f"rtsp://127.0.0.1:{port}/{n}", "transport": "tcp"}
                    (row,) = ask_daemon(data, "camera add", camera_of)
                    uris.append(f"{rtsp}/replay/{row['recording']}")
                time.sleep(RECORDED_S // 2)  # all are connected, and their clocks known
                begin_ns = time.time_ns()
                time.sleep(RECORDED_S + 3)
                print(
                    f"{arguments.streams} streams of {size * 8 / 1e6:.1f} Mbit/s are recorded, "
                    f"{arguments.seconds} s each; load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )
                measure(http, daemon.pid, uris, begin_ns, arguments.viewers, arguments.seconds)
                daemon.terminate()
                daemon.wait(30)
            finally:
                daemon.kill()
                daemon.wait()
    finally:
        camera.kill()
        camera.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
