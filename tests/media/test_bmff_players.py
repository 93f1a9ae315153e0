"""Track files in the hands of FFmpeg: closed, growing, adopted; every codec; times and pictures as they went in."""

from __future__ import annotations

import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import pytest

from nvr.media.codecs.metadata import MetadataConfiguration
from nvr.media.unit import CodecConfiguration, Fragment, Sample
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.storage.disk import Disk
from nvr.storage.rows import FileState, TrackFileRow
from nvr.storage.track_file import TrackFileWriter, track_file_path
from tests.support.footage import (
    B_PYRAMID,
    CAMERA,
    PCMU,
    START,
    cut,
    encoded_aac,
    encoded_h264,
    encoded_h265,
)
from tests.support.rtp_streams import decode_video


def write(root: Path, fragments: list[Fragment], *, close: bool = True) -> Path:
    configuration = fragments[0].configuration
    row = TrackFileRow(
        file_id="f" * 32,
        volume_id="v" * 32,
        recording=CAMERA.recording,
        track=CAMERA.track,
        run_id="a" * 32,
        run_place=0,
        path=track_file_path(CAMERA, "f" * 32, START),
        start_ns=fragments[0].start_ns,
        end_ns=fragments[0].start_ns,
        state=FileState.OPEN,
        encoding=configuration.encoding,
    )
    writer = TrackFileWriter(Disk(), root, row, configuration)
    for fragment in fragments:
        writer.append(fragment)
    if close:
        writer.close(GapReason.JOB_STOPPED)
    else:
        shutil.copy(writer.path, root / "growing.mp4")
        writer.close(None)
        return root / "growing.mp4"
    return writer.path


def packets(path: Path) -> list[tuple[int, bytes]]:
    """(nanoseconds since the first time of presentation, data), in the order of the file."""
    with av.open(str(path)) as container:
        found = [(Fraction(p.pts) * p.time_base, bytes(p)) for p in container.demux() if p.size]
    base = min(time for time, _ in found)
    return [(round((time - base) * NS), data) for time, data in found]


def video_of(name: str) -> tuple[CodecConfiguration, tuple[Sample, ...]]:
    if name == "h265":
        return encoded_h265()
    return encoded_h264(75, B_PYRAMID) if name == "h264 pyramid" else encoded_h264()


@pytest.mark.parametrize("close", [True, False], ids=["closed", "growing"])
@pytest.mark.parametrize("name", ["h264", "h264 pyramid", "h265"])
@pytest.mark.parametrize("cuts", [None, [0, 7, 25, 40, 41]], ids=["whole GOPs", "cut GOPs"])
def test_video_comes_back_with_its_times_and_every_picture(
    name: str, cuts: list[int] | None, close: bool, tmp_path: Path
) -> None:
    configuration, samples = video_of(name)
    path = write(tmp_path, cut(configuration, samples, START + 3 * NS, at=cuts), close=close)
    found = packets(path)
    assert [data for _, data in found] == [s.data for s in samples]
    first = min(s.utc_ns for s in samples)
    for (time, _), sample in zip(found, samples, strict=True):
        assert abs(time - (sample.utc_ns - first)) <= NS // 90_000 + 1
    with av.open(str(path)) as container:
        pictures = [bytes(frame.planes[0]) for frame in container.decode(video=0)]
    codec = "hevc" if name == "h265" else "h264"
    assert pictures == decode_video(codec, [s.data for s in samples])


@pytest.mark.parametrize("close", [True, False], ids=["closed", "growing"])
def test_sound_comes_back_with_its_times(close: bool, tmp_path: Path) -> None:
    configuration, samples = encoded_aac()
    path = write(tmp_path, cut(configuration, samples, START + 3 * NS, at=[0, 60, 120]), close=close)
    found = packets(path)
    assert [data for _, data in found] == [s.data for s in samples]
    assert max(abs(t - (s.utc_ns - START)) for (t, _), s in zip(found, samples, strict=True)) <= NS // 48_000 + 1
    with av.open(str(path)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == 1024 * len(samples)


def test_g711_comes_back(tmp_path: Path) -> None:
    samples = [Sample(START + i * 20_000_000, bytes([i]) * 160, True) for i in range(100)]
    path = write(tmp_path, [Fragment(PCMU, samples, START + 2 * NS)])
    with av.open(str(path)) as container:
        assert container.streams[0].codec_context.name == "pcm_mulaw"
        assert sum(frame.samples for frame in container.decode(audio=0)) == 16_000


def test_metadata_documents_are_samples_that_a_player_passes_over_or_delivers(tmp_path: Path) -> None:
    documents = [f'<tt:MetadataStream xmlns:tt="x">{i}</tt:MetadataStream>'.encode() for i in range(5)]
    samples = [Sample(START + i * NS, d, True) for i, d in enumerate(documents)]
    path = write(tmp_path, [Fragment(MetadataConfiguration(), samples, START + 5 * NS)])
    assert [data for _, data in packets(path)] == documents


def test_a_player_seeks_by_the_random_access_table(tmp_path: Path) -> None:
    configuration, samples = encoded_h264(250)
    path = write(tmp_path, cut(configuration, samples, START + 10 * NS))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        container.seek(7 * 90_000 + 9_000, stream=stream)
        packet = next(p for p in container.demux(stream) if p.size)
    assert packet.pts == 7 * 90_000
    assert packet.is_keyframe


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")
@pytest.mark.parametrize("close", [True, False], ids=["closed", "growing"])
def test_ffprobe_has_nothing_to_complain_about(close: bool, tmp_path: Path) -> None:
    configuration, samples = encoded_h264(75, B_PYRAMID)
    path = write(tmp_path, cut(configuration, samples, START + 3 * NS), close=close)
    command = ["ffprobe", "-v", "warning", "-of", "json", "-show_streams", "-count_packets", str(path)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    assert done.stderr == b""
    (stream,) = json.loads(done.stdout)["streams"]
    assert (stream["codec_name"], stream["nb_read_packets"]) == ("h264", "75")
    assert (stream["time_base"], stream["width"]) == ("1/90000", 160)
