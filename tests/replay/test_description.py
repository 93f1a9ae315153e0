"""The session description over the wire, and what a decoder makes of parameter sets that changed."""

from __future__ import annotations

import base64
import ipaddress
import re
import socket

import av
import pytest

from nvr.media.codecs import depacketizer_for
from nvr.media.codecs.h264 import H264Packetizer
from nvr.media.codecs.h265 import H265Packetizer
from nvr.media.unit import Sample
from nvr.model.recording import Recording, RecordingConfiguration, Track, TrackConfiguration, TrackType
from nvr.model.time import NS
from nvr.model.tokens import AUDIO001, VIDEO001, TrackKey
from nvr.replay.mounts import Mounts, RecordingMounts
from nvr.replay.server import RtspServer
from tests.replay.conftest import PATH, TEN, TOKEN, Serve, worked_example
from tests.support.replay_store import MemoryStore, MemoryTrack, PlainAudio, plain_packetizer
from tests.support.rtp_streams import encode_video, feed, nals_of, packets_of, sample_form
from tests.support.rtsp_client import RtspClient


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.requirement("PB-8.2-10")
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")),
    ],
)
async def test_every_address_is_of_the_family_of_the_connection(host: str) -> None:
    types = {VIDEO001: TrackType.VIDEO, AUDIO001: TrackType.AUDIO}
    recording = Recording(
        TOKEN, RecordingConfiguration(), tuple(Track(t, TrackConfiguration(k)) for t, k in types.items())
    )
    sound = MemoryTrack(PlainAudio()).starting_at(TEN).with_gop(["a"]).with_end()
    store = MemoryStore({TrackKey(TOKEN, VIDEO001): worked_example(), TrackKey(TOKEN, AUDIO001): sound})
    server = RtspServer(Mounts(RecordingMounts(lambda token: recording, store, 1)), packetizers=plain_packetizer(100))
    await server.start(host, 0)
    client = await RtspClient.connect(server.port, host=host)
    answer = await client.request("DESCRIBE", PATH)
    lines = answer.body.decode().split("\r\n")
    version = ipaddress.ip_address(host).version
    addresses = [line.split(" ")[-2:] for line in lines if line.startswith(("o=", "c="))]
    assert len(addresses) >= 2
    for kind, address in addresses:
        assert kind == f"IP{version}"
        assert ipaddress.ip_address(address).version == version
    assert next(line for line in lines if line.startswith("o=")).endswith(f" IP{version} {host}")
    assert answer["Content-Base"] == f"{client.base}{PATH}/"
    assert not [line for line in lines if line.startswith("a=control:") and "://" in line], "all are relative"
    await client.close()
    await server.stop()


SETS = {"H264": {7, 8}, "H265": {32, 33, 34}}
PACKETIZERS = {"H264": H264Packetizer, "H265": H265Packetizer}


def without_sets(encoding: str, data: bytes) -> bytes:
    kinds = SETS[encoding]
    return sample_form(
        *(n for n in nals_of(data) if (n[0] & 31 if encoding == "H264" else n[0] >> 1 & 63) not in kinds)
    )


def a_track_of(encoding: str, *sizes: tuple[int, int]) -> MemoryTrack:
    """Five pictures of each size, one a second, the parameter sets in the configuration only."""
    encoder, options = {
        "H264": ("libx264", {"bf": "0", "x264-params": "repeat-headers=1:threads=1"}),
        "H265": ("libx265", {"x265-params": "repeat-headers=1:bframes=0:pools=1:frame-threads=1:log-level=none"}),
    }[encoding]
    track = None
    for width, height in sizes:
        depacketizer, make = depacketizer_for(encoding, 90_000), PACKETIZERS[encoding]
        units = feed(depacketizer, packets_of(make(1400), encode_video(encoder, 5, options, width, height).units))
        track = track or MemoryTrack(units[0].configuration).starting_at(TEN)
        track.with_configuration(units[0].configuration)
        at = track.at_ns
        track.with_unit_list(
            [Sample(at + i * NS, without_sets(encoding, u.data), u.clean_point) for i, u in enumerate(units)],
            at + 5 * NS,
        )
    assert track is not None
    return track.with_end()


async def pictures(client: RtspClient, encoding: str, count: int, fmtp: str = "") -> list[tuple[int, int]]:
    """Sizes of the pictures that a new client decodes of the next `count` units; it knows this a=fmtp or nothing."""
    parameters = dict(p.strip().split("=", 1) for p in fmtp.split(";") if p)
    depacketizer = depacketizer_for(encoding, 90_000, fmtp=parameters)
    decoder = av.CodecContext.create({"H264": "h264", "H265": "hevc"}[encoding], "r")
    sets = [base64.b64decode(t) for n, v in parameters.items() if n.startswith("sprop-") for t in v.split(",")]
    units: list[bytes] = []
    while len(units) < count:
        p = await client.packet()
        units += [u.data for u in depacketizer.push(memoryview(p.payload), 0, len(p.payload), p.rtp_time, p.marker)]
    units[0] = sample_form(*sets) + units[0]
    parts = [av.Packet(b"".join(b"\0\0\0\1" + n for n in nals_of(data))) for data in units]
    return [(f.width, f.height) for part in (*parts, None) for f in decoder.decode(part)]


@pytest.mark.requirement("PB-8.1-29")
@pytest.mark.parametrize("encoding", ["H264", "H265"])
async def test_a_change_of_resolution_is_decoded_from_each_side_of_it(serve: Serve, encoding: str) -> None:
    small, large = (160, 96), (192, 112)
    track = a_track_of(encoding, small, large, small)
    client = await (await serve({VIDEO001: track}, payload=None)).client()
    description = (await client.request("DESCRIBE", PATH)).body.decode()
    await client.set_up(PATH, VIDEO001)
    known = re.search(r"a=fmtp:96 (.*)\r\n", description)
    assert known is not None
    await client.request("PLAY", PATH, Rate_Control="no")
    assert await pictures(client, encoding, 15, known[1]) == [small] * 5 + [large] * 5 + [small] * 5
    # Behind each jump to other parameter sets than the last ones a decoder needs none of the description.
    await client.request("PLAY", PATH, Range="clock=20260101T100006Z-", Rate_Control="no")
    assert await pictures(client, encoding, 10) == [large] * 5 + [small] * 5
    await client.request("PLAY", PATH, Range="clock=20260101T100005Z-20260101T100010Z", Rate_Control="no")
    assert await pictures(client, encoding, 5) == [large] * 5
    await client.request("PLAY", PATH, Range="clock=20260101T100000Z-", Rate_Control="no")
    assert await pictures(client, encoding, 15) == [small] * 5 + [large] * 5 + [small] * 5, "back to the first ones"
