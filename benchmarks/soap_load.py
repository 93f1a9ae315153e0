"""What clients get from a recorder at work, and what they cost it: SOAP requests while 32 streams are recorded.

    .venv/bin/python -m benchmarks.soap_load [--streams 32] [--seconds 10]

One `nvr serve` records the camera of `benchmarks.ingest` (4 Mbit/s a stream) into ten recordings of three or four video
tracks. Four keep-alive connections, HTTP Digest with a nonce count, send one kind of request after the other, each as
fast as it is answered: requests/s, the median and p99 of the time to the answer. Creation is durable: the answer comes
when the recording is on the disk. The bare disk stands beside it: a file of 4 KiB written and synced, one at a time.

What it costs: the delay of the daemon's loop (it probes itself ten times a second; p99 over the probes of the whole
run), access units and packets lost while the requests ran, CPU of the daemon. Without streams the same is measured for
comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from benchmarks.ingest import cpu_seconds, start_camera
from benchmarks.observed import LoopDelays, metrics
from nvr.soap.names import PREFIXES

CONNECTIONS = 4
RECORDINGS = 10
WARM_UP_S = 8
USER, PASSWORD = "admin", "benchmark"
CONFIGURATION = "[control]\nrecordings = 1000000\n"
LOSSES = (
    "nvr_receiver_lost_total",
    "nvr_receiver_dropped_units_total",
    "nvr_storage_refused_fragments_total",
    "nvr_storage_lost_fragments_total",
)
DECLARED = " ".join(f'xmlns:{prefix}="{namespace}"' for namespace, prefix in PREFIXES.items())
CREATE = (
    "<trc:CreateRecording><trc:RecordingConfiguration><tt:Source><tt:SourceId/><tt:Name>Gate</tt:Name><tt:Location/>"
    "<tt:Description/><tt:Address/></tt:Source><tt:Content/><tt:MaximumRetentionTime>PT0S</tt:MaximumRetentionTime>"
    "</trc:RecordingConfiguration></trc:CreateRecording>"
)
KINDS = {
    "GetServiceCapabilities": "<trc:GetServiceCapabilities/>",
    "GetRecordings": "<trc:GetRecordings/>",
    "CreateRecording": CREATE,  # the last: it makes the answers of GetRecordings longer
}


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


class Client:
    """One keep-alive connection that answers one Digest challenge, and counts its nonce."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._challenge = ("", "")
        self._count = 0

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        head, _ = await self._send("/onvif/recording_service", b"")
        realm, nonce = re.search(rb'realm="([^"]*)"', head), re.search(rb'nonce="([^"]*)"', head)
        if realm is None or nonce is None:
            raise RuntimeError(f"the recorder sent no challenge: {head[:80]!r}")
        self._challenge = (realm[1].decode(), nonce[1].decode())

    def close(self) -> None:
        self._writer.close()

    async def call(self, body: str) -> bytes:
        service = {"trc": "recording", "trv": "receiver"}[body[1:4]]
        envelope = f"<env:Envelope {DECLARED}><env:Body>{body}</env:Body></env:Envelope>"
        head, answer = await self._send(f"/onvif/{service}_service", envelope.encode())
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the recorder answered {head[:40]!r} {answer[-400:]!r}")
        return answer

    async def _send(self, path: str, body: bytes) -> tuple[bytes, bytes]:
        lines = [f"POST {path} HTTP/1.1", "Host: recorder", "Content-Type: application/soap+xml; charset=utf-8"]
        lines.append(f"Content-Length: {len(body)}")
        realm, nonce = self._challenge
        if nonce:
            self._count += 1
            secret, what = md5(f"{USER}:{realm}:{PASSWORD}"), md5(f"POST:{path}")
            response = md5(f"{secret}:{nonce}:{self._count:08x}:c:auth:{what}")
            lines.append(
                f'Authorization: Digest username="{USER}", realm="{realm}", nonce="{nonce}", uri="{path}", qop=auth, '
                f'nc={self._count:08x}, cnonce="c", response="{response}", algorithm=MD5'
            )
        self._writer.write("\r\n".join((*lines, "", "")).encode() + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        return head, await self._reader.readexactly(length)


async def text_of(client: Client, body: str, name: str) -> str:
    found = etree.fromstring(await client.call(body)).find(f".//{{*}}{name}")
    if found is None or not found.text:
        raise RuntimeError(f"no {name} in the answer")
    return str(found.text)


async def record(client: Client, camera_port: int, streams: int) -> None:
    """Ten recordings of three video tracks or, where streams are left over, four; a job each, a receiver a stream."""
    for n in range(RECORDINGS):
        recording = await text_of(client, CREATE, "RecordingToken")
        token = f"<trc:RecordingToken>{recording}</trc:RecordingToken>"
        for track in ("AUDIO001", "META001"):
            await client.call(f"<trc:DeleteTrack>{token}<trc:TrackToken>{track}</trc:TrackToken></trc:DeleteTrack>")
        mine = range(n, streams, RECORDINGS)
        for _ in range(max(3, len(mine)) - 1):
            await client.call(
                f"<trc:CreateTrack>{token}<trc:TrackConfiguration><tt:TrackType>Video</tt:TrackType><tt:Description/>"
                "</trc:TrackConfiguration></trc:CreateTrack>"
            )
        sources = ""
        for place, stream in enumerate(mine, 1):
            receiver = await text_of(
                client,
                "<trv:CreateReceiver><trv:Configuration><tt:Mode>AutoConnect</tt:Mode>"
                f"<tt:MediaUri>rtsp://127.0.0.1:{camera_port}/{stream}</tt:MediaUri><tt:StreamSetup><tt:Stream>"
                "RTP-Unicast</tt:Stream><tt:Transport><tt:Protocol>RTSP</tt:Protocol></tt:Transport></tt:StreamSetup>"
                "</trv:Configuration></trv:CreateReceiver>",
                "Token",
            )
            sources += (
                f"<tt:Source><tt:SourceToken><tt:Token>{receiver}</tt:Token></tt:SourceToken><tt:Tracks><tt:SourceTag/>"
                f"<tt:Destination>VIDEO{place:03d}</tt:Destination></tt:Tracks></tt:Source>"
            )
        if sources:
            await client.call(
                f"<trc:CreateRecordingJob><trc:JobConfiguration><tt:RecordingToken>{recording}</tt:RecordingToken>"
                f"<tt:Mode>Active</tt:Mode><tt:Priority>1</tt:Priority>{sources}</trc:JobConfiguration>"
                "</trc:CreateRecordingJob>"
            )


@dataclass(slots=True)
class Load:
    """Times to the answer of one kind of request, and what the daemon felt meanwhile. Seconds."""

    elapsed_s: float
    times_s: list[float]
    delays: LoopDelays
    cpu_s: float = 0.0

    def __str__(self) -> str:
        return (
            f"{len(self.times_s) / self.elapsed_s:7.0f}/s   median {statistics.median(self.times_s) * 1000:6.2f} ms   "
            f"p99 {p99(self.times_s) * 1000:6.2f} ms   loop {self.delays}   "
            f"CPU {self.cpu_s / self.elapsed_s * 100:3.0f} %"
        )


def p99(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


async def apply_load(clients: list[Client], body: str, seconds: float, http: str, pid: int) -> Load:
    times: list[float] = []

    async def drive(client: Client) -> None:
        until = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < until:
            await client.call(body)
            times.append(time.perf_counter() - begin)

    loop = await asyncio.to_thread(LoopDelays.read, http)
    before, start = cpu_seconds(pid), time.perf_counter()
    await asyncio.gather(*map(drive, clients))
    elapsed_s, cpu_s = time.perf_counter() - start, cpu_seconds(pid) - before
    return Load(elapsed_s, times, (await asyncio.to_thread(LoopDelays.read, http)).since(loop), cpu_s)


async def measure(http: str, pid: int, camera_port: int, streams: int, seconds: float) -> None:
    host, _, port = http.removeprefix("http://").rstrip("/").partition(":")
    clients = [Client(host, int(port)) for _ in range(CONNECTIONS)]
    for client in clients:
        await client.open()
    await record(clients[0], camera_port, streams)
    await asyncio.sleep(WARM_UP_S)
    before = await asyncio.to_thread(metrics, http)
    connected = int(before.get("nvr_receiver_connected", 0))
    if connected != streams:
        raise RuntimeError(f"{connected} of {streams} streams are being recorded")
    loop = await asyncio.to_thread(LoopDelays.read, http)
    for name, body in KINDS.items():
        load = await apply_load(clients, body, seconds, http, pid)
        print(f"  {name:23} {load}", flush=True)
    print(f"  loop delay: {(await asyncio.to_thread(LoopDelays.read, http)).since(loop)}")
    for client in clients:
        client.close()
    after = await asyncio.to_thread(metrics, http)
    lost = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in LOSSES if name in after}
    if streams:
        print("  lost meanwhile: " + ", ".join(f"{name} {value:.0f}" for name, value in lost.items()))


def with_daemon(directory: Path, run: Callable[[str, int], Awaitable[None]]) -> None:
    configuration = directory / "nvr.toml"
    configuration.write_text(CONFIGURATION)
    command = [sys.executable, "-m", "nvr", "serve", "--data", str(directory / "data"), "--config", str(configuration)]
    command += ["--http", "127.0.0.1:0", "--rtsp", "127.0.0.1:0"]
    environment = {**os.environ, "NVR_ADMIN_PASSWORD": PASSWORD}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        assert process.stdout is not None
        http = next(word for word in process.stdout.readline().split() if word.startswith("http"))

        async def main() -> None:
            await run(http, process.pid)

        asyncio.run(main())
        process.terminate()
        process.wait(30)
    finally:
        process.kill()
        process.wait()


def bare_disk(directory: Path, seconds: float = 2) -> float:
    """How often a second 4 KiB are appended and synced."""
    done, until = 0, time.perf_counter() + seconds
    with (directory / "bare").open("wb", buffering=0) as file:
        while time.perf_counter() < until:
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            done += 1
    return done / seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--seconds", type=int, default=10)
    arguments = parser.parse_args()
    length = arguments.seconds * len(KINDS) + WARM_UP_S + 40
    process, port, size, _ = start_camera(length)
    try:
        for streams in (0, arguments.streams):
            with tempfile.TemporaryDirectory() as name:
                load, syncs = os.getloadavg()[0], bare_disk(Path(name))
                print(f"{streams} streams of {size * 8 / 1e6:.1f} Mbit/s, {CONNECTIONS} connections, ", end="")
                print(f"{arguments.seconds} s each; load {load:.1f}, bare disk {syncs:.0f} syncs/s", flush=True)
                with_daemon(
                    Path(name),
                    lambda http, pid, streams=streams: measure(http, pid, port, streams, arguments.seconds),  # type: ignore[misc]
                )
    finally:
        process.kill()
        process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
