"""What happens around the recorder while `soak.py` watches it: cameras that lose packets and tell of motion, jobs that
change places, a volume that goes and comes back."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nvr.model.time import NS
from tests.e2e.test_event_recording import TOPIC, motion
from tests.support.camera import Camera, h264_track, key_frame, metadata_track, picture
from tests.support.flow import Flow

PICTURES_A_SECOND = 10
LOST_OF = 50
"""One picture of so many is lost on the way, or a packet of it."""


class ActingCamera:
    """Pictures with a key frame a second, documents beside them, and motion that begins and ends every few seconds."""

    def __init__(self, rng: random.Random) -> None:
        self.told: Counter[str] = Counter()
        self.ready = asyncio.Event()
        self._rng = rng
        self._camera = Camera([h264_track(), metadata_track()])

    @property
    def uri(self) -> str:
        return self._camera.uri

    async def act(self) -> None:
        """For ever."""
        async with self._camera as camera:
            self.ready.set()
            moving, turn_s = False, 0.0
            while True:
                try:
                    reported = 0
                    while True:
                        await asyncio.sleep(1 / PICTURES_A_SECOND)
                        if not self._plays():
                            reported = 0
                            continue
                        now_ns = time.time_ns()
                        n = now_ns * PICTURES_A_SECOND // NS
                        if n // 10 != reported:
                            reported = n // 10
                            for track in camera.tracks:
                                camera.send_report(track, now_ns, n * 9_000)
                        self._shoot(n)
                        if time.monotonic() > turn_s:
                            turn_s = time.monotonic() + self._rng.uniform(3, 9)
                            moving = not moving
                            self.told["motions"] += moving
                            state = motion(now_ns, "front", str(moving).lower())
                            camera.send_unit(camera.tracks[1], state, n * 9_000)
                except (AssertionError, OSError):  # the recorder has hung up in this very moment
                    self.told["hung up on"] += 1

    def _plays(self) -> bool:
        camera = self._camera
        writer = camera._writer
        if writer is None or writer.is_closing():
            return False
        return all(t.channel is not None or t.udp is not None for t in camera.tracks)

    def _shoot(self, n: int) -> None:
        video = self._camera.tracks[0]
        number = n & 0xFFFF_FFFF
        packets = video.unit(key_frame(number, 6_000) if n % 10 == 0 else picture(number, 1_500), n * 9_000)
        if self._rng.randrange(LOST_OF) == 0:
            del packets[self._rng.randrange(len(packets))]
            self.told["packets lost"] += 1
        self._camera.send_packets(video, packets)


def record_on_motion(flow: Flow, uri: str) -> tuple[str, str]:
    """Recording and receiver of a job that records while something moves, with two seconds before and one after."""
    recording = flow.create_recording("on motion")
    answer = flow.recording.CreateRecordingJob(
        JobConfiguration={
            "RecordingToken": recording,
            "Mode": "Active",
            "Priority": 5,
            "Source": [{"AutoCreateReceiver": True, "Tracks": [{"SourceTag": "", "Destination": "VIDEO001"}]}],
            "EventFilter": {"Filter": [{"Topic": TOPIC}], "Before": "PT2S", "After": "PT1S"},
        }
    )
    receiver = str(answer.JobConfiguration.Source[0].SourceToken.Token)
    flow.configure(receiver, uri)
    return recording, receiver


def rival(flow: Flow, recording: str, receiver: str) -> str:
    """A job of higher priority for the pictures of a recording, from another receiver; idle."""
    answer = flow.recording.CreateRecordingJob(
        JobConfiguration={
            "RecordingToken": recording,
            "Mode": "Idle",
            "Priority": 9,
            "Source": [{"SourceToken": {"Token": receiver}, "Tracks": [{"SourceTag": "", "Destination": "VIDEO001"}]}],
        }
    )
    return str(answer.JobToken)


async def change_places(call: Callable[[Callable[[], Any]], Any], flow: Flow, job: str, rng: random.Random) -> None:
    """Once: the job takes its track, and gives it back."""
    for mode in ("Active", "Idle"):
        await call(lambda mode=mode: flow.recording.SetRecordingJobMode(JobToken=job, Mode=mode))  # type: ignore[misc]
        await asyncio.sleep(rng.uniform(2, 6))


async def come_and_go(volume: Path, counted: Counter[str], rng: random.Random) -> None:
    """For ever: the directory of a volume is not where it was, as behind a mount that is lost, and then is again."""
    away = volume.with_name(volume.name + "-away")
    try:
        while True:
            await asyncio.sleep(rng.uniform(8, 15))
            await asyncio.to_thread(volume.rename, away)
            counted["volume gone"] += 1
            await asyncio.sleep(rng.uniform(7, 12))
            await asyncio.to_thread(away.rename, volume)
    finally:
        _put_back(volume, away)


def _put_back(volume: Path, away: Path) -> None:
    if away.exists():
        away.rename(volume)
