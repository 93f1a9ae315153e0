"""Times and formats as stock players understand them: sound that changes its rate, pictures of many datagrams."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import av
import pytest

from nvr.ingest.pipeline import TrackPipeline
from nvr.media.codecs.l16 import L16Configuration
from nvr.media.unit import Sample
from nvr.model.recording import TrackType
from nvr.model.timeline import GapReason
from nvr.model.tokens import AUDIO001, VIDEO001, TrackKey
from tests.replay.test_players import TOKEN, House, house, run
from tests.support.footage import START, encoded_h264
from tests.support.gstreamer import SYSTEM_PYTHON, client_missing

__all__ = ["house"]

BLOCKS = 10
BLOCK_NS = 20_000_000
CLIENT = Path(__file__).parent.parent / "support" / "gst_times_client.py"


def blocks(rate: int, first: int) -> list[bytes]:
    """Of 20 ms each; every sample bears the number of its block."""
    return [(first + i).to_bytes(2, "big") * (rate // 50) for i in range(BLOCKS)]


PARTS = [(8000, blocks(8000, 1000)), (16_000, blocks(16_000, 2000)), (8000, blocks(8000, 3000))]


async def record(house: House) -> None:
    key = TrackKey(TOKEN, AUDIO001)
    pipeline = TrackPipeline(house.engine.recorder(key, TrackType.AUDIO), TrackType.AUDIO)
    for n, (rate, data) in enumerate(PARTS):
        for i, block in enumerate(data):
            at = START + (n * BLOCKS + i) * BLOCK_NS
            pipeline.push(Sample(at, block, True), L16Configuration(rate))
    pipeline.end_run(GapReason.JOB_STOPPED)
    await house.engine.flush()
    timeline = house.engine.timeline(key)
    assert [run.end_reason for run in timeline.runs] == [GapReason.CONFIGURATION_CHANGED] * 2 + [GapReason.JOB_STOPPED]
    assert timeline.gaps() == ()


def heard(uri: str) -> tuple[int, bytes]:
    data = b""
    with av.open(uri, options={"rtsp_transport": "tcp"}, timeout=(30, 30)) as container:
        rate = container.streams.audio[0].codec_context.sample_rate
        for packet in container.demux(audio=0):
            data += bytes(packet)
            if len(data) >= 2 * BLOCKS * 320:
                break
    return rate, data


async def test_ffmpeg_hears_what_has_the_first_payload_type_at_its_rate(house: House) -> None:
    """It knows one payload type a stream, and would play that with the rate of another one described behind it."""
    await record(house)
    assert await asyncio.to_thread(heard, house.uri()) == (8000, b"".join(PARTS[0][1] + PARTS[2][1]))


@pytest.mark.skipif(client_missing() is not None, reason=str(client_missing()))
async def test_gstreamer_in_onvif_mode_hears_all_of_it_each_part_at_its_rate(house: House) -> None:
    await record(house)
    output = await run(str(SYSTEM_PYTHON), str(CLIENT), house.uri(), "tcp")
    lines = [line.split() for line in output.splitlines()]
    assert [(int(rate), int(number)) for rate, number, _ in lines] == [
        (rate, int.from_bytes(data[:2], "big")) for rate, part in PARTS for data in part
    ], output
    times = [int(at) for _, _, at in lines]
    assert [round((b - a) / BLOCK_NS) for a, b in pairwise(times)] == [1] * (3 * BLOCKS - 1)


@pytest.mark.skipif(client_missing() is not None, reason=str(client_missing()))
async def test_gstreamer_in_onvif_mode_has_the_time_of_each_picture_by_udp(house: House) -> None:
    """It takes the time of a unit from its last datagram, and the first picture takes ten of them."""
    video = encoded_h264(30)
    assert len(video[1][0].data) > 10_000
    await house.record(VIDEO001, video, START + 1_200_000_000)
    output = await run(str(SYSTEM_PYTHON), str(CLIENT), house.uri(), "udp")
    times = [int(line.split()[2]) for line in output.splitlines()]
    assert [round((at - times[0]) / 40_000_000) for at in times] == list(range(30)), output
    assert round(times[0] / 1000) == round((START + 2_208_988_800 * 10**9) / 1000)
