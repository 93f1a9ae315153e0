"""GStreamer replays a recording of the daemon by every way, with Digest: as an ONVIF client and as a plain player."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from nvr.model.time import NS
from tests.e2e.conftest import Stocked
from tests.support.daemon import ADMIN, PASSWORD
from tests.support.footage import START
from tests.support.gstreamer import SYSTEM_PYTHON, client_missing
from tests.support.programs import run
from tests.support.rtp_streams import burnt_in

GST = shutil.which("gst-launch-1.0")
CLIENT = Path(__file__).parents[1] / "support" / "gst_onvif_client.py"
MISSING = client_missing()

pytestmark = [pytest.mark.skipif(MISSING is not None, reason=str(MISSING)), pytest.mark.timeout(100)]

END = START + 26 * NS
GROUPS = [[*range(first, first + 10)] for first in range(50, -1, -10)]
Seek = tuple[tuple[str, str, str, str, str], list[int]]
"""What gst_onvif_client.py takes, and the pictures that are to be seen behind it."""


def way(stocked: Stocked, name: str, credentials: bool = True) -> tuple[str, str]:
    """URI and protocols for rtspsrc, which tunnels where the scheme is rtsph."""
    daemon = stocked.daemon
    base, protocols = {
        "tcp": (daemon.rtsp, "tcp"),
        "udp": (daemon.rtsp, "udp"),
        "tunnel at the HTTP port": (daemon.http.replace("http:", "rtsph:"), "http+tcp"),
        "rtsps": (daemon.rtsps, "tcp"),
    }[name]
    return stocked.uri(base, credentials), protocols


async def shown(stocked: Stocked, name: str, rate_control: str, seeks: list[Seek]) -> None:
    """Asserts that each seek shows its pictures, and those only, up to the last.

    What was on its way when a seek was made may still come out before them; the last one must not be among that.
    """
    uri, protocols = way(stocked, name)
    arguments = [a for seek, _ in seeks for a in seek]
    output = await run(str(SYSTEM_PYTHON), str(CLIENT), uri, protocols, rate_control, *arguments)
    played = [part.split() for part in output.split("seek")[1:]]
    found = [p[-len(wanted) :] for p, (_, wanted) in zip(played, seeks, strict=True)]
    assert found == [[str(n) for n in wanted] for _, wanted in seeks], output


def backwards(way: str, last: int) -> list[int]:
    """Pictures from `last` to 0. By UDP rtspsrc 1.22 tells its decoder nothing of the direction, which then shows them
    as they are sent: groups backwards, pictures forwards (8.6.2). A group is sent whole."""
    if way != "udp":
        return [*range(last, -1, -1)]
    seen = [n for group in GROUPS for n in group if group[0] <= last]
    return seen[: seen.index(0) + 1]  # with which the next seek is made


@pytest.mark.parametrize("way", ["tcp", "udp", "tunnel at the HTTP port", "rtsps"])
@pytest.mark.requirement(
    "PB-8.1-01", "PB-8.1-02", "PB-8.4-03", "PB-8.5.1-02", "PB-8.5.2-02", "PB-8.5.2-04", "PB-8.5.3-07", "PB-8.5.4-01",
    "PB-8.5.4-03",
)  # fmt: skip
async def test_an_onvif_client_shows_each_picture_in_both_directions(stocked: Stocked, way: str) -> None:
    """One RTSP session that seeks while it plays: backwards, backwards over key frames, and forwards again."""
    end, start, middle = str(END + 4 * NS), str(START), str(START + 24_510_000_000)
    seeks: list[Seek] = [
        (("-1.0", end, start, "all", "0"), backwards(way, 59)),
        (("-1.0", middle, start, "all", "0"), backwards(way, 45 if way != "udp" else 49)),
        (("-1.0", end, start, "key", "0"), [50, 40, 30, 20, 10, 0]),
        (("-1.0", end, start, "key/2000", "0"), [50, 30, 20, 0]),
        (("-1.0", end, start, "key/4000", "20"), [50, 20]),
        (("1.0", str(START + 1_510_000_000), "-", "all", "59"), [*range(10, 60)]),
        (("1.0", start, "-", "key/2000", "50"), [0, 20, 30, 50]),
        (("1.0", start, "-", "key/4000", "30"), [0, 30]),
    ]
    await shown(stocked, way, "no", seeks)


async def test_an_onvif_client_with_rate_control_is_shown_each_picture(stocked: Stocked) -> None:
    """That pictures come at their pace is shown elsewhere, by a clock that is turned by hand. By UDP it works as well,
    but not on a machine so slow that GStreamer 1.22 flushes before it has read what has come."""
    forward: Seek = ("1.0", str(START + 2_310_000_000), "-", "all", "36"), [*range(20, 37)]
    reverse: Seek = ("-1.0", str(START + 23_600_000_000), str(START), "all", "30"), [*range(36, 29, -1)]
    await shown(stocked, "tcp", "yes", [forward, reverse])


@pytest.mark.skipif(GST is None, reason="gst-launch-1.0 (gstreamer1.0-tools) is not installed")
@pytest.mark.requirement("PB-8.5.2-08")
async def test_a_plain_pipeline_plays_the_same_uris(stocked: Stocked, tmp_path: Path) -> None:
    """Without ONVIF mode it has the recording from its beginning, in real time; four ways in one pipeline."""
    assert GST is not None
    ways = ("tcp", "udp", "tunnel at the HTTP port", "rtsps")
    last = 34  # behind the gap, which is not waited for
    branches: list[str] = []
    for n, name in enumerate(ways):
        uri, protocols = way(stocked, name, credentials=False)
        branches += [
            "rtspsrc", f"location={uri}", f"protocols={protocols}", f"user-id={ADMIN}", f"user-pw={PASSWORD}",
            "latency=200", "tls-validation-flags=0", "!", "rtph264depay", "!",
            "video/x-h264,stream-format=byte-stream,alignment=au", "!", "identity", f"eos-after={last + 2}", "!",
            "filesink", f"location={tmp_path / str(n)}",
        ]  # fmt: skip
    output = await run(GST, "-q", *branches)
    for n, name in enumerate(ways):
        data = await asyncio.to_thread((tmp_path / str(n)).read_bytes)
        assert burnt_in("h264", data) == [*range(last + 1)], (name, output)
