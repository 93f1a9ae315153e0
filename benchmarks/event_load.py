"""Events indexed beside recording: 2,000 a second from 8 cameras, while 32 video streams are recorded.

    python -m benchmarks.event_load [--streams 32] [--events 2000] [--seconds 15]

One `nvr serve` records the camera of `ingest` by 32 receivers and 8 cameras that send metadata alone, ten documents a
second each. The peer is the same daemon with the same streams and without the events. Told: CPU of both, the delay of
the event loop, losses, how far the index is behind at the end, and whether every event that was recorded is in it,
each once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ingest import CONNECT_S, PROBE_S, WARM_UP_S, cpu_seconds, peak_memory, start_camera
from benchmarks.observed import LoopDelays, metrics
from nvr.model.time import format_iso
from nvr.operations.control_socket import ask_daemon
from tests.support.camera import Camera, metadata_track

CAMERAS = 8
DOCUMENTS_A_SECOND = 10


def a_document(utc_ns: int, events: int) -> bytes:
    """A camera's motion detector, with so many rules that each tell something."""
    message = (
        "<wsnt:NotificationMessage><wsnt:Topic>tns1:RuleEngine/CellMotionDetector/Motion</wsnt:Topic><wsnt:Message>"
        f'<tt:Message UtcTime="{format_iso(utc_ns)}" PropertyOperation="Changed"><tt:Source><tt:SimpleItem Name="Rule"'
        ' Value="{}"/></tt:Source><tt:Data><tt:SimpleItem Name="IsMotion" Value="{}"/></tt:Data></tt:Message>'
        "</wsnt:Message></wsnt:NotificationMessage>"
    )
    state = "true" if utc_ns // 10**8 % 2 else "false"
    return (
        '<tt:MetadataStream xmlns:tt="http://www.onvif.org/ver10/schema" xmlns:wsnt="http://docs.oasis-open.org/wsn/b-2"'
        ' xmlns:tns1="http://www.onvif.org/ver10/topics"><tt:Event>'
        + "".join(message.format(f"rule {n}", state) for n in range(events))
        + "</tt:Event></tt:MetadataStream>"
    ).encode()


@dataclass
class Teller:
    """One camera that sends metadata; `told` counts its events."""

    camera: Camera
    events: int
    """In a document."""
    told: int = 0

    async def run(self, until: asyncio.Event) -> None:
        await self.camera.playing()
        track = self.camera.tracks[0]
        start_ns, number = time.time_ns(), 0
        while not until.is_set():
            at_ns = start_ns + number * 10**9 // DOCUMENTS_A_SECOND
            ticks = number * 90_000 // DOCUMENTS_A_SECOND
            if number % 50 == 0:
                self.camera.send_report(track, at_ns, ticks)
            self.camera.send_unit(track, a_document(at_ns, self.events), ticks)
            self.told += self.events
            number += 1
            await asyncio.sleep(max(0.0, (at_ns - time.time_ns()) / 1e9))


def start_recorder(directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nvr", "serve", "--data", str(directory)]
    command += ["--http", "127.0.0.1:0", "--rtsp", "127.0.0.1:0"]
    environment = {**os.environ, "NVR_ADMIN_PASSWORD": "benchmark"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)


async def measure(
    process: subprocess.Popen[str], port: int, streams: int, events: int, seconds: float, directory: Path
) -> None:
    """Events and streams in one daemon; without `events` the streams alone."""
    ending = asyncio.Event()
    tellers: list[Teller] = []
    try:
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            assert process.stdout is not None
            line = await asyncio.to_thread(process.stdout.readline)
            http = next(word for word in line.split() if word.startswith("http"))
            uris = [f"rtsp://127.0.0.1:{port}/{n}" for n in range(streams)]
            for _ in range(CAMERAS if events else 0):
                camera = await stack.enter_async_context(Camera([metadata_track()]))
                tellers.append(Teller(camera, events // CAMERAS // DOCUMENTS_A_SECOND))
                uris.append(camera.uri)
            for n, uri in enumerate(uris):
                what = {"name": f"camera {n}", "uri": uri, "transport": "tcp"}
                await asyncio.to_thread(ask_daemon, directory, "camera add", what)
            for teller in tellers:
                tasks.create_task(teller.run(ending))
            deadline = time.monotonic() + CONNECT_S
            while (await asyncio.to_thread(metrics, http)).get("nvr_receiver_connected", 0) != len(uris):
                if time.monotonic() > deadline:
                    raise SystemExit("not all cameras are connected")
                await asyncio.sleep(PROBE_S)
            await asyncio.sleep(WARM_UP_S)
            loop = await asyncio.to_thread(LoopDelays.read, http)
            cpu, began, before = cpu_seconds(process.pid), time.monotonic(), sum(t.told for t in tellers)
            await asyncio.sleep(seconds)
            cpu, took = cpu_seconds(process.pid) - cpu, time.monotonic() - began
            rate = (sum(t.told for t in tellers) - before) / took
            loop = (await asyncio.to_thread(LoopDelays.read, http)).since(loop)
            told = await asyncio.to_thread(metrics, http)
            ending.set()
        lost = told["nvr_receiver_lost_total"] + told["nvr_storage_refused_fragments_total"]
        memory = peak_memory(process.pid)
        process.terminate()
        await asyncio.to_thread(process.wait, 60)
        print(
            f"{streams} streams, {rate:6.0f} events/s: {cpu / took:6.1%} of a core, {memory:.0f} MB, "
            f"loop {loop}, lost {lost:.0f}, "
            f"tracks behind {told['nvr_metadata_tracks_behind']:.0f} (load {os.getloadavg()[0]:.1f})",
            flush=True,
        )
        if tellers:
            tell_index(directory / "events.db", sum(t.told for t in tellers))
    finally:
        process.kill()
        process.wait()


def tell_index(path: Path, told: int) -> None:
    """What is in the index when the daemon has ended; the rest of what was recorded follows at its next start."""
    with sqlite3.connect(path) as connection:
        query = "SELECT count(*), count(DISTINCT stream || ' ' || time_ns) FROM camera_events"
        rows, distinct = connection.execute(query).fetchone()
    connection.close()
    print(f"sent {told} events, {rows} indexed when the daemon ended ({rows / told:.1%}), {rows - distinct} twice")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--events", type=int, default=2000, help="a second")
    parser.add_argument("--seconds", type=int, default=15)
    options = parser.parse_args()
    camera, port, _, _ = start_camera(2 * (options.seconds + WARM_UP_S + CONNECT_S) + 60)
    try:
        for events in (0, options.events):
            with tempfile.TemporaryDirectory() as directory:
                process = start_recorder(Path(directory))
                asyncio.run(measure(process, port, options.streams, events, options.seconds, Path(directory)))
    finally:
        camera.kill()
        camera.wait()


if __name__ == "__main__":
    main()
