"""Hours of a recorder in minutes: does anything grow?

    python -m tests.e2e.soak --minutes 15 [--cameras 3] [--seed N]

Files rotate every few seconds, cameras flap (a relay in front of each cuts its connections and refuses new ones for a
while), one sends over UDP and loses packets, one is recorded while something moves; jobs take tracks from each other,
one of two volumes goes and comes back, retention deletes by quota, recordings come and go, clients search recordings
and events, replay, watch live and hang up. Taken every two seconds: memory, descriptors, threads, tasks of the event
loop, what is queued and held. Judged in the end: memory in the last third against the middle third, what is queued and
held against its bounds, everything else at rest against the state at rest before the clients came; whether the daemon
ends in order, what errors it has logged, and what `nvr check` finds.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import statistics
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from nvr.checking import Reported, Request, check_footage
from nvr.config import load
from tests.e2e.crash import camera
from tests.e2e.soak_actors import ActingCamera, change_places, come_and_go, record_on_motion, rival
from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess
from tests.support.flow import Flow
from tests.support.rtsp_client import RtspClient

CONFIG = """
[storage]
rotation = "3s"
recording_quota = "2MB"
memory = "32MiB"
queue = "8MiB"
retry_limit = "4s"

[[storage.volumes]]
root = "volumes/default"
minimum_free = "64MiB"

[[storage.volumes]]
root = "volumes/second"
minimum_free = "64MiB"

[ingest.pipeline]
event_buffer = "8MiB"
"""
MOST = {
    "queued bytes": 16 << 20,
    "held bytes": 32 << 20,
    "event buffers": 8 << 20,
    "documents waiting": 64,
    "searches": 64,
}
"""What these may come to at any time: their settings, with one camera that waits for events."""
SAMPLE_S = 2.0
REST_S = 15.0
"""How long clients are gone before the state at rest is taken: longer than the daemon remembers who has hung up."""
MEMORY_MB = 4.0
MEMORY_PART = 0.04
"""So much may memory grow from the middle third to the last one, the greater of both."""
SPARE = {"file descriptors": 24, "threads": 8, "tasks": 6}
"""How far the state at rest may differ: a camera may be between two connections, pools of threads fill up, and each of
their threads has its connection to a database, two descriptors; a track that was silent has an open file."""


class FlappingRelay:
    """Stands before a camera, and lets it come and go."""

    def __init__(self, target: int, rng: random.Random) -> None:
        self.port = 0
        self.cut = 0
        """Connections cut."""
        self._target = target
        self._rng = rng
        self._refusing = False
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self) -> None:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def flap(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(8, 30))
            self._refusing = self._rng.random() < 0.5
            self._cut()
            if self._refusing:
                await asyncio.sleep(self._rng.uniform(1, 3))
                self._refusing = False

    def _cut(self) -> None:
        for writer in tuple(self._writers):
            self.cut += 1
            writer.transport.abort()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        onward_reader, onward = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, onward}
        try:
            await asyncio.gather(self._copy(reader, onward), self._copy(onward_reader, writer))
        finally:
            self._writers -= {writer, onward}

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()


@dataclass
class Sample:
    at_s: float
    memory_mb: float
    figures: dict[str, float]
    """By name: those of SPARE and the gauges of queues."""
    descriptors: Counter[str]


def _descriptors(directory: Path) -> Counter[str]:
    """What the descriptors of a process are of, numbers left out."""
    found: Counter[str] = Counter()
    for link in directory.iterdir():
        with suppress(OSError):  # it was that of our own looking
            found[re.sub(r"[0-9a-f]{32}|\d{2,}", "N", str(link.readlink()))] += 1
    return found


@dataclass
class Watch:
    """Samples of a daemon."""

    daemon: DaemonProcess
    begin_s: float = field(default_factory=time.monotonic)
    samples: list[Sample] = field(default_factory=list)

    async def take(self) -> Sample:
        metrics = await asyncio.to_thread(self.metrics)
        process = Path(f"/proc/{self.daemon.process.pid}")
        status, descriptors = await asyncio.to_thread(
            lambda: ((process / "status").read_text(), _descriptors(process / "fd"))
        )
        memory_mb = int(status.split("VmRSS:")[1].split()[0]) / 1000
        figures = {
            "file descriptors": float(descriptors.total()),
            "threads": float(status.split("Threads:")[1].split()[0]),
            "tasks": metrics["nvr_tasks"],
            "queued bytes": metrics["nvr_storage_queued_bytes"],
            "held bytes": metrics["nvr_memory_held_bytes"],
            "event buffers": metrics["nvr_event_buffer_bytes"],
            "documents waiting": metrics["nvr_event_documents_waiting"],
            "searches": metrics["nvr_searches"],
            "RTSP connections": metrics["nvr_rtsp_connections"],
            "pending files": metrics["nvr_volume_pending_files"],
            "files of the index missing": metrics["nvr_volume_missing_files"],
        }
        found = Sample(time.monotonic() - self.begin_s, memory_mb, figures, descriptors)
        self.samples.append(found)
        return found

    def metrics(self) -> Counter[str]:
        """Sums over labels, by name."""
        with urllib.request.urlopen(f"{self.daemon.http}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        found: Counter[str] = Counter()
        for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", text, re.MULTILINE):
            found[name] += float(value)  # type: ignore[assignment]
        return found


class Clients:
    """What clients do meanwhile, each for ever; `done` counts, `failed` keeps what went wrong."""

    def __init__(
        self, flow: Flow, recordings: list[str], receivers: list[str], rival: str, rtsp: str, rng: random.Random
    ) -> None:
        """`rival` is a job that takes a track from another one and gives it back."""
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._flow = flow
        self._recordings = recordings
        self._receivers = receivers
        self._rival = rival
        self._rtsp = rtsp
        self._rng = rng
        self._soap = asyncio.Lock()
        """One thread at a time: a zeep proxy is not made for several."""

    def all(self) -> list[Awaitable[None]]:
        works = {
            "replay": self._replay,
            "live": self._live,
            "search": self._search,
            "events": self._find_events,
            "recordings": self._come_and_go,
            "places": self._change_places,
        }
        return [self._for_ever(name, work) for name, work in works.items()]

    async def _for_ever(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
                self.done[name] += 1
            except Exception as e:  # what a client meets while cameras and footage come and go
                self.failed[f"{name}: {type(e).__name__} {str(e)[:80]}"] += 1
            await asyncio.sleep(self._rng.uniform(0, 1))

    async def _call(self, work: Callable[[], object]) -> object:
        async with self._soap:
            return await asyncio.to_thread(work)

    async def _replay(self) -> None:
        recording = self._rng.choice(self._recordings)
        uri = str(await self._call(lambda: self._flow.replay_uri(recording)))
        scale = self._rng.choice(["1.0", "-1.0"])
        await self._play(uri, {"Range": "npt=0-" if scale == "1.0" else "clock=20991231T000000Z-", "Scale": scale})

    async def _live(self) -> None:
        await self._play(f"{self._rtsp}/live/{self._rng.choice(self._receivers)}", {})

    async def _play(self, uri: str, headers: dict[str, str]) -> None:
        parts = urlsplit(uri)
        assert parts.port is not None
        client = await RtspClient.connect(parts.port)
        client.credentials = (ADMIN, PASSWORD)
        try:
            async with asyncio.timeout(20):
                answer = await client.request("DESCRIBE", uri, Accept="application/sdp")
                if answer.status != 200:
                    raise RuntimeError(f"DESCRIBE {answer.status}")
                control = next(re.finditer(r"a=control:(\S*VIDEO\S*|\S*video\S*|\S+=\d+)", answer.body.decode()), None)
                track = control[1].rpartition("/")[2] if control is not None else "VIDEO001"
                await client.set_up(parts.path, track)
                answer = await client.request("PLAY", uri, **headers, Rate_Control="no")
                if answer.status != 200:
                    raise RuntimeError(f"PLAY {answer.status}")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._rng.uniform(0.2, 2)):
                    while True:
                        await client.packet()
            if self._rng.random() < 0.5:
                await client.request("TEARDOWN", uri)
        finally:
            if self._rng.random() < 0.5:
                client.writer.transport.abort()
            await client.close()

    async def _search(self) -> None:
        for recording in self._recordings:
            await self._call(lambda recording=recording: self._flow.information(recording))  # type: ignore[misc]
        token = await self._call(
            lambda: self._flow.search.FindRecordings(Scope={}, MaxMatches=10, KeepAliveTime="PT5S")
        )
        await self._call(
            lambda: self._flow.search.GetRecordingSearchResults(SearchToken=token, MaxResults=10, WaitTime="PT1S")
        )

    async def _find_events(self) -> None:
        begin = datetime.now(UTC) - timedelta(seconds=60)
        search = self._flow.search
        token = await self._call(
            lambda: search.FindEvents(
                StartPoint=begin,
                Scope={},
                SearchFilter={},
                IncludeStartState=True,
                MaxMatches=100,
                KeepAliveTime="PT5S",
            )
        )
        await self._call(lambda: search.GetEventSearchResults(SearchToken=token, MaxResults=50, WaitTime="PT1S"))
        if self._rng.random() < 0.5:
            await self._call(lambda: search.EndSearch(SearchToken=token))

    async def _change_places(self) -> None:
        await change_places(self._call, self._flow, self._rival, self._rng)

    async def _come_and_go(self) -> None:
        recording = str(await self._call(lambda: self._flow.create_recording("for a moment")))
        await self._call(lambda: self._flow.recording.DeleteRecording(RecordingToken=recording))


def judge(begin: Sample, end: Sample, samples: list[Sample]) -> list[str]:
    """What has grown, one sentence each; prints the table."""
    third = max(len(samples) // 3, 1)
    middle = statistics.median(s.memory_mb for s in samples[third : 2 * third] or samples)
    last = statistics.median(s.memory_mb for s in samples[-third:])
    hours = max(samples[-1].at_s - samples[0].at_s, 1) / 3 / 3600
    print(
        f"memory: {begin.memory_mb:.1f} MB at rest; {middle:.1f} in the middle third, {last:.1f} in the last (medians)"
    )
    print(f"        ({(last - middle) / hours:+.1f} MB an hour), {end.memory_mb:.1f} MB at rest in the end")
    wrong = []
    if last - middle > max(MEMORY_MB, middle * MEMORY_PART):
        wrong.append(f"memory has grown from {middle:.1f} to {last:.1f} MB")
    for name, value in end.figures.items():
        under_load = [s.figures[name] for s in samples]
        print(
            f"{name}: {begin.figures[name]:.0f} at rest, at most {max(under_load):.0f}, {value:.0f} at rest in the end"
        )
        if name in MOST:
            if max(under_load) > MOST[name]:
                wrong.append(f"{name}: {max(under_load):.0f}, more than {MOST[name]}")
        elif value > begin.figures[name] + SPARE.get(name, 0):
            wrong.append(f"{name}: {begin.figures[name]:.0f} at rest before, {value:.0f} after")
    for what, more in (end.descriptors - begin.descriptors).items():
        print(f"        {more} descriptors more of {what}")
    if end.figures["queued bytes"] > 1 << 20:
        wrong.append(f"{end.figures['queued bytes']:.0f} bytes are still queued")
    return wrong


async def soak(directory: Path, minutes: float, cameras: int, rng: random.Random) -> list[str]:
    """What is wrong, one sentence each."""
    data = directory / "data"
    async with AsyncExitStack() as stack:
        uri = stack.enter_context(camera())
        daemon = stack.enter_context(DaemonProcess(data, CONFIG))
        flow = await asyncio.to_thread(Flow, daemon)
        target = urlsplit(uri)
        assert target.port is not None
        relays = [FlappingRelay(target.port, rng) for _ in range(cameras)]
        recordings, receivers = [], []
        for relay in relays:
            await relay.serve()
            relayed = f"rtsp://127.0.0.1:{relay.port}{target.path}"
            recording, _, receiver = await asyncio.to_thread(flow.record, relayed)
            recordings.append(recording)
            receivers.append(receiver)
        over_udp, on_motion = ActingCamera(rng), ActingCamera(rng)
        acting = [asyncio.ensure_future(c.act()) for c in (over_udp, on_motion)]
        stack.callback(lambda: [task.cancel() for task in acting])
        for actor in (over_udp, on_motion):
            await actor.ready.wait()
        for recording, receiver in (
            (await asyncio.to_thread(flow.record, over_udp.uri, "UDP"))[::2],
            await asyncio.to_thread(record_on_motion, flow, on_motion.uri),
        ):
            recordings.append(recording)
            receivers.append(receiver)
        places = await asyncio.to_thread(rival, flow, recordings[0], receivers[1])
        for recording in recordings:
            await asyncio.to_thread(flow.until_recorded, recording, 3)
        watch, clients = Watch(daemon), Clients(flow, recordings, receivers, places, daemon.rtsp, rng)
        happened: Counter[str] = Counter()
        begin = await watch.take()
        watch.samples.clear()
        volume = come_and_go(data / "volumes" / "second", happened, rng)
        tasks = [asyncio.ensure_future(w) for w in (*clients.all(), *(relay.flap() for relay in relays), volume)]
        ends_s = time.monotonic() + minutes * 60
        told_s = 0.0
        while time.monotonic() < ends_s:
            sample = await watch.take()
            if sample.at_s - told_s > 60:
                told_s = sample.at_s
                print(f"{sample.at_s:5.0f} s: {sample.memory_mb:.1f} MB, {sample.figures}", flush=True)
            await asyncio.sleep(SAMPLE_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        samples = list(watch.samples)
        await asyncio.sleep(REST_S)
        end = await watch.take()
        wrong = judge(begin, end, samples)
        files = len(list(data.glob("volumes/*/footage/*/*/*/*.mp4")))
        counted = await asyncio.to_thread(watch.metrics)
        cut = sum(relay.cut for relay in relays)
        print(f"over UDP: {dict(over_udp.told)}; on motion: {dict(on_motion.told)}; {dict(happened)}")
        for name in ("nvr_receiver_lost_total", "nvr_receiver_fragments_total", "nvr_volume_failures_total"):
            print(f"{name} {counted[name]:.0f}")
        print(f"clients: {dict(clients.done)}; {cut} connections of cameras cut; {files} files now")
        for name in ("nvr_storage_refused_fragments_total", "nvr_storage_lost_fragments_total"):
            print(f"{name} {counted[name]:.0f}")
        for what, times in clients.failed.most_common(10):
            print(f"a client met {times} times: {what}")
        beside: list[Reported] = []
        outcome = await asyncio.to_thread(check_footage, data, load(None, data), Request(), beside.append)
        wrong += [f"nvr check beside the daemon: {r.finding}" for r in beside] + outcome.unchecked
        if await asyncio.to_thread(daemon.stop) != 0:
            wrong.append("the daemon did not end in order")
        alone: list[Reported] = []
        await asyncio.to_thread(check_footage, data, load(None, data), Request(), alone.append)
        wrong += [f"nvr check: {r.finding}" for r in alone]
        errors = Counter(re.sub(r"[0-9a-f]{32}|\d+", "N", m) for m in re.findall(r" ERROR (.*)", daemon.log))
        for text, times in errors.most_common(10):
            print(f"logged {times} times: {text}")
        if "Traceback" in daemon.log:
            wrong.append("the log has a traceback:\n" + daemon.log[daemon.log.index("Traceback") :][:3000])
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.e2e.soak", description="Does anything grow?")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--seed", type=int, default=None, help="of what clients and cameras do (default: new, printed)")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="nvr-soak-") as directory:
        wrong = asyncio.run(soak(Path(directory), arguments.minutes, arguments.cameras, random.Random(seed)))
    for sentence in wrong:
        print(f"WRONG: {sentence}")
    print("verdict: " + ("it grows, or something else is wrong" if wrong else "nothing grows"))
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
