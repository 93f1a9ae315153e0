"""CPU per second of video of 4 Mbit/s, to build its fragments and write them; beside PyAV's fragmented MP4 muxer.

    .venv/bin/python -m benchmarks.fragment

The stream: 25 access units of 20 kB a second, a clean point every 2 seconds, no B-frames. Ours is what the writer
thread does: fragment box, prft, moof, checksum, one write. The peer writes the same units through libavformat with one
fragment per clean point, without checksum or exact times. Both write to a temporary directory (set TMPDIR to choose
the disk); nothing is forced to the disk. The best of several rounds counts. `time` is CPU of user and kernel together.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from zlib import crc32

import av

from nvr.media.bmff.fragment import FragmentBuilder
from nvr.media.codecs.h264 import H264Configuration
from nvr.media.unit import Fragment, Sample
from nvr.model.time import NS
from nvr.model.tokens import VIDEO001, RecordingToken, TrackKey
from nvr.storage.disk import Disk
from nvr.storage.rows import FileState, TrackFileRow
from nvr.storage.track_file import TrackFileWriter, track_file_path

SECONDS = 60
RATE = 25
UNIT = 20_000
GOP = 50
ROUNDS = 5
START = 1_767_225_600 * NS
KEY = TrackKey(RecordingToken("rec-benchmark"), VIDEO001)
CONFIGURATION = H264Configuration((bytes.fromhex("674d001f965402802dc8"),), (bytes.fromhex("68ee3c80"),))


def fragments(unit_size: int = UNIT) -> list[Fragment]:
    found = []
    data = [bytes([0, 0, 0, 0]) + random.Random(1).randbytes(unit_size - 4) for _ in range(GOP)]
    for first in range(0, SECONDS * RATE, GOP):
        samples = [Sample(START + (first + i) * NS // RATE + i * 37, data[i], i == 0) for i in range(GOP)]
        found.append(Fragment(CONFIGURATION, samples, START + (first + GOP) * NS // RATE))
    return found


def a_row() -> TrackFileRow:
    file_id = "0" * 32
    path = track_file_path(KEY, file_id, START)
    return TrackFileRow(
        file_id=file_id,
        volume_id="1" * 32,
        recording=KEY.recording,
        track=KEY.track,
        run_id="2" * 32,
        run_place=0,
        path=path,
        start_ns=START,
        end_ns=START,
        state=FileState.OPEN,
        encoding="H264",
    )


def ours(root: Path, stream: list[Fragment]) -> Path:
    writer = TrackFileWriter(Disk(), root, a_row(), CONFIGURATION)
    for fragment in stream:
        writer.append(fragment)
    return writer.path


def build(_: Path, stream: list[Fragment]) -> None:
    builder = FragmentBuilder(START, 90_000)
    for fragment in stream:
        builder.build(fragment)


def checksums(_: Path, stream: list[Fragment]) -> None:
    for fragment in stream:
        crc = 0
        for sample in fragment.samples:
            crc = crc32(sample.data, crc)


def peer(root: Path, stream: list[Fragment], template: Path) -> None:
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    with av.open(str(template)) as head, av.open(str(root / "peer.mp4"), "w", options=options) as container:
        track = container.add_stream_from_template(head.streams.video[0])
        number = 0
        for fragment in stream:
            for sample in fragment.samples:
                packet = av.Packet(sample.data)
                packet.stream, packet.time_base = track, Fraction(1, 90_000)
                packet.pts = packet.dts = number * 3600
                packet.duration, packet.is_keyframe = 3600, sample.clean_point
                container.mux(packet)
                number += 1


def cost(what: Callable[[Path, list[Fragment]], object], stream: list[Fragment]) -> float:
    """Microseconds of CPU per second of video, best round."""
    found = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as directory:
            start = time.process_time()
            what(Path(directory), stream)
            found.append(time.process_time() - start)
    return min(found) / SECONDS * 1e6


def main() -> None:
    stream, small = fragments(), fragments(8)
    with tempfile.TemporaryDirectory() as directory:
        template = ours(Path(directory), fragments()[:2])
        figures = {
            "ours: build and write": cost(ours, stream),
            "ours: build only": cost(build, stream),
            "ours: build with units of 8 bytes": cost(build, small),
            "the checksum alone": cost(checksums, stream),
            "PyAV: mux and write": cost(lambda root, s: peer(root, s, template), stream),
        }
    for name, figure in figures.items():
        print(f"{name:36} {figure:8.1f} us of CPU per second of video")
    print(f"ratio to PyAV {figures['ours: build and write'] / figures['PyAV: mux and write']:.2f}")


if __name__ == "__main__":
    main()
