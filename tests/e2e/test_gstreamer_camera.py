"""GStreamer's cameras are recorded, one over each transport, and replayed to FFmpeg and to a client of bytes."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from pathlib import Path
from urllib.parse import quote

import av
import pytest

from nvr.operations.control_socket import ask_daemon
from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess
from tests.support.flow import Flow
from tests.support.gstreamer import GstCamera, Sent, missing
from tests.support.replayed import replay

CONFIG = """
[storage]
rotation = "3s"
"""
SECONDS = 8

pytestmark = [pytest.mark.skipif(missing() is not None, reason=str(missing())), pytest.mark.timeout(180)]


def nal_units(byte_stream: bytes) -> list[bytes]:
    """NAL units of a byte stream (annex B), whose start codes have three or four bytes."""
    return [u.rstrip(b"\0") for u in re.split(b"\0\0\0?\1", byte_stream) if u]


def coded(codec: str, units: list[bytes]) -> list[bytes]:
    """Without delimiters and parameter sets, which payloaders leave out or repeat as they like."""
    kinds = {"h264": lambda u: u[0] & 31 not in (7, 8, 9), "h265": lambda u: u[0] >> 1 & 63 not in (32, 33, 34, 35)}
    return [u.rstrip(b"\0") for u in units if u and kinds[codec](u)]


def position(part: list[list[bytes]], whole: list[list[bytes]]) -> int:
    """Where `part` stands in `whole` without a hole."""
    first = whole.index(part[0])
    assert part == whole[first : first + len(part)]
    return first


def received_by_ffmpeg(uri: str, codec: str, count: int) -> tuple[list[bytes], list[bytes]]:
    """Coded NAL units and frames of sound, at a plain player's pace, until `count` NAL units have come.

    The payloader repeats parameter sets between the slices of a picture, where FFmpeg begins another one: so its
    packets are not compared, but what they hold.
    """
    video: list[bytes] = []
    audio: list[bytes] = []
    with av.open(uri, options={"rtsp_transport": "tcp"}, timeout=15) as container:
        for packet in container.demux():
            if packet.stream.type == "video":
                video += coded(codec, nal_units(bytes(packet)))
                if len(video) >= count:
                    break
            elif packet.size:
                audio.append(bytes(packet))
    return video, audio


CAMERAS = {
    "H.264": ("UDP", "h264"),
    "H.264 with B-frames": ("HTTP", "h264", "bframes"),
    "H.265": ("RTSP", "h265"),
}
"""The transport that the receiver is set to, and what the camera sends."""


@pytest.mark.requirement("PG-20", "RC-5.24-12", "RC-5.26.1-01", "RX-10.1-06", "RX-10.1-07", "RX-10.1-08", "PB-8.3.2-01")
async def test_what_cameras_sent_is_replayed_byte_for_byte_across_files(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path / "data", CONFIG) as daemon:
        async with asyncio.TaskGroup() as group:  # side by side: most of it is waiting for cameras and players
            for name, (protocol, *options) in CAMERAS.items():
                group.create_task(
                    asyncio.to_thread(asyncio.run, recorded_and_replayed(daemon, tmp_path / name, protocol, options))
                )
        assert await asyncio.to_thread(daemon.stop) == 0


def received_metrics(daemon: DaemonProcess) -> list[str]:
    with urllib.request.urlopen(f"{daemon.http}/metrics", timeout=20) as answer:
        return [x for x in answer.read().decode().splitlines() if x.startswith("nvr_receiver_")]


async def recorded_and_replayed(daemon: DaemonProcess, sent: Path, protocol: str, options: list[str]) -> None:
    codec = options[0]
    flow = Flow(daemon)
    with GstCamera(sent, *options) as camera:
        recording, job = flow.record_by_the_example(camera.uri, protocol)
        flow.until_job_is(job, "PartiallyActive")  # these cameras send no metadata
        flow.until_recorded(recording, SECONDS)
        listed = ask_daemon(daemon.data, "camera list", {}) or []
        assert [row["why"] for row in listed if row["job"] == job] == [""], "it came as it was asked for"
        flow.set_idle(job, recording)
        sent_video, sent_audio = camera.sent()
    counted = await asyncio.to_thread(received_metrics, daemon)
    assert [line for line in counted if "_lost_total" in line and not line.endswith(" 0")] == []
    uri = flow.replay_uri(recording)
    for track in ("VIDEO001", "AUDIO001"):
        assert len(list(daemon.data.glob(f"volumes/*/footage/{recording}/{track}/*/*.mp4"))) >= 2

    video = await replay(uri, "VIDEO001")
    whole = [coded(codec, nal_units(s.data)) for s in sent_video]
    replayed = [coded(codec, u.h264() if codec == "h264" else u.h265()) for u in video]
    first = position(replayed, whole)
    there = sent_video[first : first + len(video)]
    assert max(abs(u.utc_ns - s.utc_ns) for u, s in zip(video, there, strict=True)) < 40_000_000
    assert (video[-1].utc_ns - video[0].utc_ns) >= (SECONDS - 2) * 10**9

    audio = await replay(uri, "AUDIO001")
    assert_audio_is_whole(audio_of=[u.aac() for u in audio], times=[u.utc_ns for u in audio], sent=sent_audio)

    in_order = [unit for picture in replayed for unit in picture]
    with_credentials = uri.replace("rtsp://", f"rtsp://{ADMIN}:{quote(PASSWORD)}@")
    units, sound = received_by_ffmpeg(with_credentials, codec, len(in_order))
    assert units == in_order
    # With video, sound begins with the first picture (8.5.5), give or take a frame of 21 ms and B-frames.
    near = [i for i, u in enumerate(audio) if abs(u.utc_ns - video[0].utc_ns) < 150_000_000]
    assert any(sound == [u.aac() for u in audio[i : i + len(sound)]] for i in near)
    assert len(sound) >= 0.9 * (len(audio) - near[-1])


def assert_audio_is_whole(audio_of: list[bytes], times: list[int], sent: list[Sent]) -> None:
    """Silent frames are alike, so the place is sought where the times are near; there every byte must agree.

    On a busy machine the camera's own reports of sound are tens of milliseconds off.
    """
    near = [i for i, s in enumerate(sent) if abs(s.utc_ns - times[0]) < 150_000_000]
    places = [i for i in near if audio_of == [s.data for s in sent[i : i + len(audio_of)]]]
    assert places, f"{len(audio_of)} of {len(sent)} frames of sound, not whole where the times say: {near}"
    first = min(places, key=lambda i: abs(sent[i].utc_ns - times[0]))
    there = sent[first : first + len(audio_of)]
    assert max(abs(t - s.utc_ns) for t, s in zip(times, there, strict=True)) < 150_000_000
