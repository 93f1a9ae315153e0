"""FFmpeg plays and seeks in a recording of the daemon by every way, with Digest and without any header of ONVIF's."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import av
import pytest

from nvr.demo.picture import read_number
from tests.e2e.conftest import Stocked
from tests.support.programs import run
from tests.support.rtp_streams import burnt_in

pytestmark = pytest.mark.timeout(100)


def way(stocked: Stocked, name: str) -> tuple[str, dict[str, str]]:
    """URI and options."""
    daemon = stocked.daemon
    certificate = str(daemon.data / "tls" / "certificate.pem")
    base, options = {
        "tcp": (daemon.rtsp, {"rtsp_transport": "tcp"}),
        "udp": (daemon.rtsp, {"rtsp_transport": "udp"}),
        "tunnel at the RTSP port": (daemon.rtsp, {"rtsp_transport": "http"}),
        "tunnel at the HTTP port": (daemon.http.replace("http:", "rtsp:"), {"rtsp_transport": "http"}),
        "tunnel at the HTTPS port": (
            daemon.https.replace("https:", "rtsp:"),
            {"rtsp_transport": "https", "ca_file": certificate},
        ),
        "rtsps": (daemon.rtsps, {"rtsp_transport": "tcp", "ca_file": certificate}),
    }[name]
    return stocked.uri(base), options


def shown(uri: str, options: dict[str, str], starts: list[float]) -> tuple[float, list[list[tuple[float, int | None]]]]:
    """The duration that FFmpeg believes in, and for each seek in one session the times and numbers of three pictures.

    FFmpeg gives no time to the first picture behind a jump; the second tells.
    """
    found: list[list[tuple[float, int | None]]] = []
    with av.open(uri, options={**options, "analyzeduration": "300000"}, timeout=(20, 10)) as container:
        assert container.duration is not None
        for start in starts:
            container.seek(round(start * av.time_base))
            seen: list[tuple[float, int | None]] = []
            for frame in container.decode(video=0):
                plane = frame.planes[0]
                seen.append((frame.time or 0.0, read_number(bytes(plane), plane.line_size, frame.width)))
                if len(seen) == 3:
                    break
            found.append(seen)
        return container.duration / av.time_base, found


@pytest.mark.requirement("PB-8.1-01", "PB-8.1-02", "PB-8.5.2-08")
async def test_it_plays_from_the_beginning_and_seeks_over_a_gap_by_every_way(stocked: Stocked) -> None:
    """Seconds are those of playing time: the gap of 20 s before picture 30 is not counted."""
    ways = ["tcp", "udp", "tunnel at the RTSP port", "tunnel at the HTTP port", "tunnel at the HTTPS port", "rtsps"]
    starts = [4.5, 1.5, 3.0, 5.95]
    played = await asyncio.gather(*(asyncio.to_thread(shown, *way(stocked, name), starts) for name in ways))
    for name, (duration, found) in zip(ways, played, strict=True):
        assert duration == pytest.approx(6), name
        assert [[n for _, n in seen] for seen in found] == [[f, f + 1, f + 2] for f in (40, 10, 30, 50)], name
        assert [seen[1][0] for seen in found] == pytest.approx([4.1, 1.1, 3.1, 5.1]), name


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
async def test_the_command_cuts_the_pictures_that_were_asked_for(stocked: Stocked, tmp_path: Path) -> None:
    """Behind the gap; from the clean point at the time asked for, and all of them to the end of what it wants."""
    clips = {"tcp": tmp_path / "tcp.h264", "udp": tmp_path / "udp.h264"}
    said = await asyncio.gather(
        *(
            run(
                "ffmpeg", "-v", "error", "-rtsp_transport", name, "-ss", "4", "-i", way(stocked, name)[0], "-t", "1",
                "-map", "0:v", "-c", "copy", str(clip),
            )
            for name, clip in clips.items()
        )
    )  # fmt: skip
    for clip in clips.values():
        numbers = burnt_in("h264", await asyncio.to_thread(clip.read_bytes))
        assert numbers[:10] == [*range(40, 50)], said
        assert numbers == [*range(40, 40 + len(numbers))]
        assert len(numbers) <= 12
