"""A camera of GStreamer's makers sends JPEG, MPEG-4 Visual, Opus, L16 and G.726: recorded into track files, and decoded
there by FFmpeg, picture by picture and sample by sample."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import AsyncExitStack
from pathlib import Path

import av
import pytest

from nvr.ingest.engine import IngestEngine
from nvr.model.time import NS
from nvr.model.tokens import TrackKey
from nvr.storage.engine import StorageEngine
from tests.support.footage_index import IndexInMemory
from tests.support.gstreamer import GstCamera, missing
from tests.support.ingest import QUICK, a_job, a_receiver, a_recording, a_source, key, until
from tests.support.rtp_streams import decode_pictures, luma, moving_picture
from tests.support.volumes import settings_in

pytestmark = [pytest.mark.skipif(missing() is not None, reason=str(missing())), pytest.mark.timeout(120)]

PAIRS = {"jpeg-large+opus": "mjpeg", "mpeg4+l16": "mpeg4", "jpeg-422+g726": "mjpeg"}
SECONDS = 2


def part_of(whole: bytes, part: bytes) -> bool:
    return len(part) > 0 and part in whole


@pytest.mark.requirement("PG-20", "RC-5.24-12")
async def test_every_picture_and_all_sound_of_gstreamer_stand_in_the_track_files(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        movie = tmp_path / "movie.mp4"
        mpeg4_movie(movie)
        camera = stack.enter_context(GstCamera(tmp_path / "sent", ",".join(PAIRS), f"file={movie}"))
        storage = StorageEngine(settings_in(tmp_path / "data", rotation_ns=60 * NS), IndexInMemory())
        await storage.start()
        stack.push_async_callback(storage.stop)
        engine = IngestEngine(
            storage, dataclasses.replace(QUICK, request_timeout_ns=20 * NS, connect_timeout_ns=20 * NS)
        )
        await engine.start()
        numbers = range(len(PAIRS))
        lines = (("", "VIDEO001"), ("", "AUDIO001"))
        jobs = [a_job(a_source(f"rcv-{n}", *lines), token=f"job-{n}", recording=f"rec-{n}") for n in numbers]
        engine.apply(
            [a_recording(f"rec-{n}") for n in numbers],
            jobs,
            [a_receiver(u, f"rcv-{n}") for n, u in enumerate(camera.uris)],
        )

        def long_enough(k: TrackKey) -> bool:
            runs = storage.timeline(k).runs
            return bool(runs) and runs[-1].end_ns - runs[0].start_ns >= SECONDS * NS

        tracks = [key(track, f"rec-{n}") for n in numbers for track in ("VIDEO001", "AUDIO001")]
        await until(lambda: all(map(long_enough, tracks)), 30)
        await engine.stop()
        await storage.flush()
        for n, decoder in zip(numbers, PAIRS.values(), strict=True):
            video, audio = camera.sent(n)
            # The movie's VOPs have no headers of their own: they stand in the session description alone.
            pictures = decoded(movie) if n == 1 else decode_pictures(decoder, [s.data for s in video])
            assert len(set(pictures)) == len(pictures)  # the burnt-in time tells them apart
            footage = storage.footage(key("VIDEO001", f"rec-{n}"))
            refs = list(footage.fragments(0))
            headers = refs[0].configuration.in_band()
            units = [s.data for ref in refs for s in footage.read(ref)]
            recorded = decode_pictures(decoder, [headers + units[0], *units[1:]])
            first = pictures.index(recorded[0])
            if n == 1:  # it ends between a P-VOP and the B-VOPs that are shown before it
                recorded = recorded[:-3]
            assert recorded == pictures[first : first + len(recorded)]
            assert len(recorded) > 10  # a slow machine makes fewer pictures a second
            # Of open groups of pictures a file has not what its first B-VOPs lean on, if it begins with such a group.
            played = [pictures.index(p) for p in decoded(*files(tmp_path, f"rec-{n}", "VIDEO001")) if p in pictures]
            assert played == sorted(set(played))
            assert len(played) > len(recorded) // 2
            found = await asyncio.to_thread(packets, *files(tmp_path, f"rec-{n}", "AUDIO001"))
            # GStreamer's encoder of G.726 has the packing of files, and its payloader turns it into that of RFC 3551.
            sent = [s.data for s in audio]
            assert part_of(b"".join(sent), b"".join(found))


def mpeg4_movie(path: Path) -> None:
    """Five seconds, with B-VOPs."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25, options={"g": "12", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for picture in [*moving_picture(125), None]:
            output.mux(stream.encode(picture))


def files(root: Path, recording: str, track: str) -> list[Path]:
    return sorted((root / "data").glob(f"**/{recording}/{track}/**/*.mp4"))


def decoded(*paths: Path) -> list[bytes]:
    pictures = []
    for path in paths:
        with av.open(str(path)) as container:
            pictures += [luma(f) for f in container.decode(video=0)]
    return pictures


def packets(*paths: Path) -> list[bytes]:
    found = []
    for path in paths:
        with av.open(str(path)) as container:
            found += [bytes(p) for p in container.demux(audio=0) if p.size]
    return found
