"""Replay of what is being recorded: on to the live edge, over the end of a job and its return, and over kill -9."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import av
import pytest

from nvr.demo.encoder import VideoEncoder
from nvr.demo.picture import read_number
from nvr.model.time import format_clock
from tests.support.camera import Camera, h264_track
from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess
from tests.support.disk_samples import track_samples
from tests.support.flow import Flow
from tests.support.replayed import ReplayedUnit, replay, utc_of
from tests.support.rtp_streams import nals_of
from tests.support.rtsp_client import RtspClient

pytestmark = pytest.mark.timeout(150)

CONFIG = '[storage]\nfsync = "none"\nrotation = "2s"\n[ingest]\nback_off = "100ms"\n'
STEP_NS = 100_000_000
"""Ten pictures a second."""
GROUP = 5


class Source:
    """A camera whose pictures are numbered by their tenths of a second; whoever receives one can tell its number."""

    def __init__(self) -> None:
        self.track = h264_track(parameter_sets=False)
        self.camera = Camera([self.track])
        self.numbers: dict[bytes, int] = {}
        """By the slices of the picture."""
        self._encoder = VideoEncoder(160, 96, GROUP, 100_000)

    async def run(self) -> None:
        begin_ns, plays, last = time.time_ns(), 0, -1
        while True:
            await asyncio.sleep(0.02)
            methods = self.camera.methods()
            number = (time.time_ns() - begin_ns) // STEP_NS
            if number == last or methods.count("PLAY") <= methods.count("TEARDOWN"):
                continue
            if methods.count("PLAY") > plays:
                plays = methods.count("PLAY")
                await self.camera.playing(plays)
                self.camera.send_report(self.track, begin_ns + number * STEP_NS, number * 9000)
                last = number - 1
            for n in range(last + 1, number + 1):  # a machine that was busy sends none fewer
                data, _ = self._encoder.encode(n, begin_ns + n * STEP_NS)
                self.numbers[slices(nals_of(data))] = n
                self.camera.send_unit(self.track, data, n * 9000)
            last = number

    def number(self, unit: ReplayedUnit) -> int:
        return self.numbers[slices(unit.h264())]


def slices(nals: Sequence[bytes]) -> bytes:
    return b"".join(n for n in nals if n[0] & 31 in (1, 5))


class Viewer:
    """A client in one RTSP session, which takes what comes as units."""

    def __init__(self, client: RtspClient, source: Source) -> None:
        self.client = client
        self.source = source
        self.units: list[ReplayedUnit] = []
        self.numbers: list[int] = []
        self._sequence: int | None = None

    @classmethod
    async def playing(cls, uri: str, source: Source, range_: str, rate_control: str) -> Viewer:
        port = urlsplit(uri).port
        assert port is not None
        client = await RtspClient.connect(port)
        client.credentials = (ADMIN, PASSWORD)
        assert (await client.request("DESCRIBE", uri)).status == 200
        await client.set_up(urlsplit(uri).path, "VIDEO001")
        answer = await client.request("PLAY", uri, Range=range_, Rate_Control=rate_control, Require="onvif-replay")
        assert answer.status == 200, answer
        return cls(client, source)

    async def until(self, number: int) -> None:
        """Until the picture with this number, or a later one, has come; none before it is missing or twice."""
        while not (self.numbers and self.numbers[-1] >= number):
            packet = await self.client.packet()
            assert self._sequence is None or packet.seq == (self._sequence + 1) & 0xFFFF
            self._sequence = packet.seq
            if packet.ntp is not None and (not self.units or self.units[-1].utc_ns != utc_of(packet.ntp)):
                self.units.append(ReplayedUnit(utc_of(packet.ntp), ""))
            self.units[-1].flags += packet.flags if packet.word3 is not None else ""
            self.units[-1].payloads.append(packet.payload)
            if packet.marker:
                self.numbers.append(self.source.number(self.units[-1]))


def decoded(uri: str, wanted: int) -> list[int | None]:
    """The numbers in the first pictures that FFmpeg decodes."""
    scheme, _, where = uri.partition("://")
    with av.open(f"{scheme}://{ADMIN}:{quote(PASSWORD)}@{where}", options={"rtsp_transport": "tcp"}, timeout=20) as c:
        found = []
        for frame in c.decode(video=0):
            found.append(read_number(bytes(frame.planes[0]), frame.planes[0].line_size, frame.width))
            if len(found) == wanted:
                break
        return found


async def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """On a thread: SOAP clients block, and the camera has to go on."""
    return await asyncio.to_thread(function, *arguments, **named)


@pytest.mark.requirement("PB-8.8-01", "PB-8.8-02", "PB-8.8-03", "PB-8.8-04", "PB-8.9-02")
async def test_viewers_stay_with_a_recording_that_goes_on_stops_and_resumes(tmp_path: Path) -> None:
    source = Source()
    async with source.camera, AsyncExitStack() as stack:
        sending = asyncio.create_task(source.run())
        daemon = stack.enter_context(await call(DaemonProcess, tmp_path / "data", CONFIG))
        flow = await call(Flow, daemon)
        recording, job, _ = await call(flow.record, source.camera.uri)
        await call(flow.until_recorded, recording, 2)
        uri = await call(flow.replay_uri, recording)
        now = f"clock={format_clock(time.time_ns() - 10**9)}-"
        fast = await Viewer.playing(uri, source, "npt=0-", "no")
        stack.push_async_callback(fast.client.close)
        paced = await Viewer.playing(uri, source, now, "yes")
        stack.push_async_callback(paced.client.close)
        seen = asyncio.create_task(call(decoded, uri, 30))

        edge = max(source.numbers.values())
        await fast.until(edge + 15)  # recorded since it asked: what comes now comes as it is recorded
        await paced.until(edge + 10)
        for viewer in (fast, paced):
            assert viewer.numbers == [*range(viewer.numbers[0], viewer.numbers[-1] + 1)]
            assert [u.flags for u in viewer.units if "E" in u.flags or "T" in u.flags] == [], "neither at the edge"
        first = fast.numbers[0]
        assert first < paced.numbers[0]
        assert await seen == [*range(first, first + 30)], (
            "a plain player comes to the edge as well, and decodes them all"
        )

        await call(flow.set_idle, job, recording)
        held = [source.numbers[slices(nals_of(s))] for s in track_samples(daemon.data, "VIDEO001")]
        for viewer in (fast, paced):
            await viewer.until(held[-1])
            assert viewer.numbers == held[held.index(viewer.numbers[0]) :]
            assert [(n, "E" in u.flags) for n, u in zip(viewer.numbers, viewer.units, strict=True)][-1] == (
                held[-1],
                True,
            )
            assert (await viewer.client.request("GET_PARAMETER", uri)).status == 200, "the session stays"

        await call(flow.recording.SetRecordingJobMode, JobToken=job, Mode="Active")
        for viewer in (fast, paced):
            await viewer.until(held[-1] + 10)
            assert [n for n in viewer.numbers if n <= held[-1]] == held[held.index(viewer.numbers[0]) :]
            resumed = next(u for u, n in zip(viewer.units, viewer.numbers, strict=True) if n > held[-1])
            assert ("C" in resumed.flags, "D" in resumed.flags) == (True, False)
            behind = viewer.numbers[viewer.numbers.index(held[-1]) + 1 :]
            assert behind == [*range(behind[0], behind[-1] + 1)]

        daemon.kill()
        for viewer in (fast, paced):
            assert await viewer.client.at_end()
        daemon = stack.enter_context(await call(DaemonProcess, tmp_path / "data", CONFIG))
        flow = await call(Flow, daemon)
        uri = await call(flow.replay_uri, recording)
        again = await Viewer.playing(uri, source, "npt=0-", "no")
        stack.push_async_callback(again.client.close)
        await again.until(max(source.numbers.values()) + 10)
        assert again.numbers[: len(fast.numbers)] == fast.numbers, (
            "what has been replayed was on the disk, and still is"
        )
        await call(flow.set_idle, job, recording)
        units = await replay(uri, "VIDEO001")
        assert [u.h264() for u in units] == [nals_of(s) for s in track_samples(daemon.data, "VIDEO001")]
        assert [source.number(u) for u in units][: len(again.numbers)] == again.numbers
        sending.cancel()
        assert await call(daemon.stop) == 0
        assert "Traceback" not in daemon.log
