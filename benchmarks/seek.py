"""From PLAY to its first packet at random times of much footage, forward, in reverse and of intra frames.

    .venv/bin/python -m benchmarks.seek [DAYS] [CLIPS]

Footage of two kinds, each one video track of a small picture every 3 seconds, written by the storage engine: DAYS of
one run, a clean point every 30 seconds, in files of 5 minutes (8640 of them in 30 days); and CLIPS of 12 seconds, one a
minute, each a run and a file of its own, as recording by events leaves them (10,000 are a week). The client is a
process of its own and sends PLAY with Immediate and a minute from a random time on, one after the other; the first
packet counts that bears the CSeq of the PLAY. The catalogue is warm, the machine's cache of files as it comes. Beside
it, on the same connection, OPTIONS: what a request costs that does nothing; and DESCRIBE. At the end three others play
all of it without rate control, as fast as it goes, and DESCRIBE is asked for beside them.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import re
import socket
import struct
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from nvr.media.codecs.h264 import H264Configuration
from nvr.media.rtsp.range import ClockRange
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

STEP_S = 3
PICTURES = 10
GOP_S = STEP_S * PICTURES
SAMPLES = 300
CLIP_S, CLIP_EVERY_S = 12, 60
START = 1_767_225_600 * NS
KEY = TrackKey(RecordingToken("rec-benchmark"), VIDEO001)
CONFIGURATION = H264Configuration((bytes.fromhex("674d001f965402802dc8"),), (bytes.fromhex("68ee3c80"),))
MODES = {
    "forward": "Rate-Control: no",
    "reverse": "Rate-Control: no\r\nScale: -1",
    "intra": "Rate-Control: no\r\nFrames: intra",
    "intra/4000, reverse": "Rate-Control: no\r\nScale: -1\r\nFrames: intra/4000",
}


@dataclass(frozen=True)
class Kind:
    """One kind of footage: `count` fragments of `pictures`, one every `every_s` seconds, each a run where it is one."""

    name: str
    count: int
    pictures: int
    every_s: int
    runs: bool

    @property
    def seconds(self) -> int:
        return self.count * self.every_s


async def record(engine: StorageEngine, kind: Kind) -> None:
    recorder = engine.recorder(KEY, TrackType.VIDEO)
    pictures = [
        (400).to_bytes(4, "big") + bytes([0x65 if i == 0 else 0x41]) + random.Random(i).randbytes(399)
        for i in range(kind.pictures)
    ]
    for number in range(kind.count):
        first = number * kind.every_s
        samples = [Sample(START + (first + i * STEP_S) * NS, data, i == 0) for i, data in enumerate(pictures)]
        assert recorder.append(Fragment(CONFIGURATION, samples, START + (first + kind.pictures * STEP_S) * NS))
        if kind.runs:
            recorder.end_run(GapReason.NO_EVENT)
        if number % (20 if kind.runs else 100) == 0:
            await engine.flush()
    recorder.end_run(GapReason.JOB_STOPPED)
    await engine.flush()


class Client:
    """Blocking, with one buffer for requests, answers and frames."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.uri = f"rtsp://127.0.0.1:{port}/replay/{KEY.recording}"
        self.cseq = 0
        self.session = ""
        self.buffer = b""

    def request(self, method: str, uri: str, *headers: str) -> str:
        """Sends, and gives the answer; frames before it are thrown away."""
        self.cseq += 1
        lines = [f"{method} {uri} RTSP/1.0", f"CSeq: {self.cseq}", *([self.session] if self.session else []), *headers]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        while True:
            if self._need(4)[:1] == b"$":
                self.frame()
                continue
            while b"\r\n\r\n" not in self.buffer:
                self._fill()
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            answer = head.decode()
            body = re.search(r"Content-Length: (\d+)", answer, re.IGNORECASE)
            size = int(body[1]) if body else 0
            self.buffer = self._need(size)[size:]
            return answer

    def set_up(self) -> None:
        answer = self.request("SETUP", f"{self.uri}/{VIDEO001}", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        self.session = next(line for line in answer.split("\r\n") if line.startswith("Session:")).partition(";")[0]

    def frame(self) -> bytes:
        size = int.from_bytes(self._need(4)[2:4], "big") + 4
        frame = self._need(size)[:size]
        self.buffer = self.buffer[size:]
        return frame

    def _need(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self._fill()
        return self.buffer

    def _fill(self) -> None:
        data = self.socket.recv(1 << 16)
        assert data, "the server has closed the connection"
        self.buffer += data

    def seek(self, at_ns: int, mode: str) -> float:
        """Seconds from PLAY to the first packet of it."""
        end_ns = at_ns + (-60 if "-1" in mode else 60) * NS
        began = time.perf_counter()
        answer = self.request("PLAY", self.uri, f"Range: {ClockRange(at_ns, end_ns)}", "Immediate: yes", mode)
        assert " 200 " in answer.partition("\r\n")[0], answer
        while True:
            frame = self.frame()
            if frame[1] == 0 and frame[4] & 0x10 and struct.unpack_from(">B", frame, 4 + 25)[0] == self.cseq & 0xFF:
                return time.perf_counter() - began


def timed(client: Client, method: str, uri: str, samples: int) -> list[float]:
    took = []
    for _ in range(samples):
        began = time.perf_counter()
        client.request(method, uri)
        took.append((time.perf_counter() - began) * 1e3)
    return took


def talk(port: int, seconds: int, pipe: Connection) -> None:
    """The client's process: milliseconds of each sample by mode, then those of OPTIONS and DESCRIBE."""
    client = Client(port)
    client.set_up()
    rng = random.Random(1)
    for mode in MODES.values():
        times = [rng.randrange(3600, seconds - 3600) * NS + START for _ in range(SAMPLES)]
        pipe.send([client.seek(at, mode) * 1e3 for at in times])
    client.request("PAUSE", client.uri)
    pipe.send(timed(client, "OPTIONS", "*", SAMPLES))
    pipe.send(timed(client, "DESCRIBE", client.uri, SAMPLES // 10))
    others = [threading.Thread(target=watch_all, args=(port,), daemon=True) for _ in range(3)]
    for other in others:
        other.start()
    time.sleep(0.5)
    pipe.send(timed(client, "DESCRIBE", client.uri, SAMPLES // 10))


def watch_all(port: int) -> None:
    client = Client(port)
    client.set_up()
    client.request("PLAY", client.uri, "Rate-Control: no")
    while client.socket.recv(1 << 16):
        pass


def told(what: str, values: list[float]) -> None:
    ordered = sorted(values)
    p50, p99 = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    print(f"{what:34} p50 {p50:7.2f} ms   p99 {p99:7.2f} ms   worst {ordered[-1]:7.2f} ms", flush=True)


async def measured(kind: Kind) -> None:
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        settings = StorageSettings((VolumeSettings(data / "volume", 0),), data / "volumes.json")
        index = SqlFootageIndex.open(data / "index.db")
        engine = StorageEngine(settings, index)
        await engine.start()
        began = time.perf_counter()
        await record(engine, kind)
        print(f"{kind.name}, written in {time.perf_counter() - began:.0f} s")
        track = Track(VIDEO001, TrackConfiguration(TrackType.VIDEO))
        recording = Recording(KEY.recording, RecordingConfiguration(), (track,))
        server = RtspServer(Mounts(RecordingMounts(lambda _: recording, engine)))
        await server.start("127.0.0.1", 0)
        here, there = multiprocessing.Pipe()
        child = multiprocessing.get_context("spawn").Process(target=talk, args=(server.port, kind.seconds, there))
        child.start()
        there.close()  # should it end, reading tells
        loop = asyncio.get_running_loop()
        try:
            for what in (*MODES, "OPTIONS, for comparison", "DESCRIBE", "DESCRIBE beside three that play all"):
                told(what, await loop.run_in_executor(None, here.recv))
        finally:
            await loop.run_in_executor(None, child.join)
            await server.stop()
            await engine.stop()
            index.shut()


async def main() -> None:
    days = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    clips = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    if days:
        count = days * 86_400 // GOP_S
        await measured(Kind(f"{days} days of one run in {days * 288} files", count, PICTURES, GOP_S, False))
    if clips:
        await measured(Kind(f"{clips} runs", clips, CLIP_S // STEP_S, CLIP_EVERY_S, True))


if __name__ == "__main__":
    asyncio.run(main())
