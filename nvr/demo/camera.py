"""The built-in camera: what the encoder makes, in real time, as a live mount of our RTSP server.

    python -m nvr.demo.camera [--port N]

Prints its URI and serves until SIGTERM. It needs no credentials and listens on the loopback interface only.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from nvr.demo.encoder import (
    AUDIO_FRAME,
    AUDIO_RATE,
    AudioEncoder,
    VideoEncoder,
    frame_time,
    metadata_document,
)
from nvr.media.codecs.aac import AacConfiguration
from nvr.media.codecs.h264 import H264Configuration
from nvr.media.codecs.metadata import MetadataConfiguration
from nvr.media.unit import Sample
from nvr.model.time import NS, UtcNs
from nvr.replay.live import LiveMount, LiveSink, LiveStream
from nvr.replay.mounts import Mounts
from nvr.replay.server import RtspServer

VIDEO, AUDIO, METADATA = range(3)
NAME = "camera"


def configuration_of(sample: bytes) -> H264Configuration:
    """The parameter sets that stand in a clean point in sample form."""
    sets: dict[int, list[bytes]] = {7: [], 8: []}
    at = 0
    while at < len(sample):
        size = int.from_bytes(sample[at : at + 4])
        nal = sample[at + 4 : at + 4 + size]
        sets.get(nal[0] & 31, []).append(nal)
        at += 4 + size
    return H264Configuration(tuple(sets[7]), tuple(sets[8]))


class BuiltInCamera:
    """A LiveSource. `run` makes frames at their times and hands them to whoever has subscribed."""

    def __init__(self) -> None:
        self._video = VideoEncoder()
        self._audio = AudioEncoder()
        probe, _ = VideoEncoder().encode(0, time.time_ns())
        self._streams = (
            LiveStream("video", configuration_of(probe)),
            LiveStream("audio", AacConfiguration(self._audio.specific_config, AUDIO_RATE)),
            LiveStream("metadata", MetadataConfiguration()),
        )
        self._sinks: list[LiveSink] = []

    def streams(self) -> Sequence[LiveStream]:
        return self._streams

    def subscribe(self, sink: LiveSink) -> Callable[[], None]:
        self._sinks.append(sink)

        def unsubscribe() -> None:
            with suppress(ValueError):
                self._sinks.remove(sink)

        return unsubscribe

    async def run(self) -> None:
        """Until cancelled."""
        start_ns = time.time_ns()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._make_video(start_ns))
            tasks.create_task(self._make_audio(start_ns))
            tasks.create_task(self._make_metadata(start_ns))

    async def _make_video(self, start_ns: UtcNs) -> None:
        number = 0
        while True:
            utc_ns = frame_time(start_ns, number, self._video.fps)
            await _sleep_until(utc_ns)
            data, clean = await asyncio.to_thread(self._video.encode, number, utc_ns)
            self._publish(VIDEO, utc_ns, data, clean)
            number += 1

    async def _make_audio(self, start_ns: UtcNs) -> None:
        number = made = 0
        while True:
            # A frame of sound is complete when its last sample has been heard.
            await _sleep_until(frame_time(start_ns, number + 1, AUDIO_RATE, AUDIO_FRAME))
            for data in await asyncio.to_thread(self._audio.encode, number):
                self._publish(AUDIO, frame_time(start_ns, made, AUDIO_RATE, AUDIO_FRAME), data, clean=True)
                made += 1
            number += 1

    async def _make_metadata(self, start_ns: UtcNs) -> None:
        number = 0
        while True:
            utc_ns = frame_time(start_ns, number, 1)
            await _sleep_until(utc_ns)
            self._publish(METADATA, utc_ns, metadata_document(number, utc_ns), clean=True)
            number += 1

    def _publish(self, stream: int, utc_ns: UtcNs, data: bytes, clean: bool) -> None:
        live, sample = self._streams[stream], Sample(utc_ns, data, clean)
        for sink in tuple(self._sinks):
            sink(live.name, sample, live.configuration)


async def _sleep_until(utc_ns: UtcNs) -> None:
    await asyncio.sleep(max(0, utc_ns - time.time_ns()) / NS)


async def serve(port: int) -> None:
    """Serves the camera on the loopback interface until SIGTERM or SIGINT."""
    camera = BuiltInCamera()
    server = RtspServer(Mounts(live={NAME: LiveMount(camera)}))
    await server.start("127.0.0.1", port)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    making = asyncio.create_task(camera.run())
    print(f"rtsp://127.0.0.1:{server.port}/live/{NAME}", flush=True)
    await asyncio.wait({making, asyncio.create_task(stopped.wait())}, return_when=asyncio.FIRST_COMPLETED)
    making.cancel()
    with suppress(asyncio.CancelledError):
        await making
    await server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="nvr.demo.camera", description="The built-in camera, on the loopback interface."
    )
    parser.add_argument("--port", type=int, default=0, help="TCP port (default: a free one)")
    asyncio.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
