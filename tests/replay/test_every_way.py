"""The same packets come by every transport: what is sent does not depend on how it travels."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from nvr.model.tokens import AUDIO001, META001, VIDEO001, TrackToken
from tests.replay.conftest import ORIGIN, PATH, TEN, Serve, Served, sound, worked_example
from tests.support.replay_store import MemoryTrack, PlainMetadata
from tests.support.rtsp_client import Packet, RtspClient
from tests.support.tunnel_client import tunnel
from tests.support.udp_client import ClientPorts

WAYS = ["interleaved", "udp", "tunnel"]


class Viewer:
    """A client with one track set up by one of the ways."""

    def __init__(self, client: RtspClient, ports: ClientPorts | None) -> None:
        self.client = client
        self.ports = ports

    async def packets(self, count: int) -> list[Packet]:
        return await (self.client if self.ports is None else self.ports).packets(count)


@asynccontextmanager
async def viewer(served: Served, way: str, track: TrackToken) -> AsyncIterator[Viewer]:
    if way == "tunnel":
        async with tunnel(served.server.port) as client:
            await client.set_up(PATH, track)
            yield Viewer(client, None)
    elif way == "interleaved":
        client = await served.client()
        await client.set_up(PATH, track)
        yield Viewer(client, None)
    else:
        client = await served.client()
        with ClientPorts() as ports:
            answer = await client.request("SETUP", f"{PATH}/{track}", Transport=ports.transport)
            assert answer.status == 200
            client.session = answer["Session"].partition(";")[0]
            yield Viewer(client, ports)
            await client.request("TEARDOWN", PATH)


def scene() -> MemoryTrack:
    track = MemoryTrack(PlainMetadata()).starting_at(TEN)
    for i in range(6):
        track.with_gop([f"<m{i}......>"])
    return track.with_end()


@pytest.mark.requirement("PB-8.6.2-11")
@pytest.mark.parametrize("way", WAYS)
async def test_metadata_alone_go_backwards_by_every_way(serve: Serve, way: str) -> None:
    served = await serve({META001: scene()})
    async with viewer(served, way, META001) as found:
        assert (await found.client.request("PLAY", PATH, Scale="-1.0", Rate_Control="no")).status == 200
        packets = await found.packets(18)
    documents = [b"".join(p.payload for p in packets[n : n + 3]) for n in range(0, 18, 3)]
    assert documents == [f"<m{i}......>".encode() for i in (5, 4, 3, 2, 1, 0)]
    firsts = packets[::3]
    assert [p.payload.decode() for p in firsts] == [f"<m{i}." for i in (5, 4, 3, 2, 1, 0)]
    assert all("D" in p.flags for p in firsts)
    assert [p.seq for p in packets] == [(packets[0].seq + i) & 0xFFFF for i in range(18)]
    assert [p.flags for p in packets if p.word3 is not None][-1] == "CET"


@pytest.mark.requirement("PB-8.3.1-13")
async def test_reverse_replay_is_the_same_to_the_byte_by_every_way(serve: Serve) -> None:
    """By UDP every packet tells the time of its unit, because GStreamer takes it from the last one."""
    seen: dict[str, list[Packet]] = {}
    for way in WAYS:
        served = await serve({VIDEO001: worked_example()}, origin=lambda: ORIGIN)
        async with viewer(served, way, VIDEO001) as found:
            assert (await found.client.request("PLAY", PATH, Scale="-1", Rate_Control="no")).status == 200
            seen[way] = await found.packets(16)
    assert [p.raw for p in seen["interleaved"]] == [p.raw for p in seen["tunnel"]]
    first: Packet | None = None
    for bare, framed in zip(seen["udp"], seen["interleaved"], strict=True):
        assert (bare.raw[1:12], bare.payload) == (framed.raw[1:12], framed.payload)
        if framed.word3 is None:
            assert first is not None
            assert (bare.ntp, bare.flags) == (first.ntp, first.flags.replace("D", ""))
        else:
            assert bare.raw == framed.raw
            first = bare


@pytest.mark.requirement("PB-8.5.1-17")
@pytest.mark.parametrize("way", ["udp", "interleaved"])
async def test_a_pause_point_is_kept_to_by_every_way(serve: Serve, way: str) -> None:
    served = await serve({VIDEO001: worked_example()})
    async with viewer(served, way, VIDEO001) as found:
        client = found.client
        client.write("PLAY", PATH)
        client.write("PAUSE", PATH, Range="clock=20260101T100001Z")
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
        before = [e for e in client.log if isinstance(e, Packet)]
        before += await found.packets(2 - len(before))
        assert b"".join(p.payload for p in before) == b"I0...."
        while (await client.request("PAUSE", PATH)).status != 200:
            pass
        assert (await client.request("PLAY", PATH, Rate_Control="no")).status == 200
        after = await found.packets(2)
        assert [p.payload for p in after] == [b"P1", b"P2"]
        assert after[0].seq == (before[-1].seq + 1) & 0xFFFF


@pytest.mark.requirement("PG-07")
@pytest.mark.parametrize("way", WAYS)
async def test_range_frames_and_an_immediate_jump_without_rate_control_by_every_way(serve: Serve, way: str) -> None:
    served = await serve({VIDEO001: worked_example()})
    headers = {"Rate_Control": "no", "Require": "onvif-replay"}
    async with viewer(served, way, VIDEO001) as found:
        intra = {"Frames": "intra", "Range": "clock=20260101T100000Z-"}
        assert (await found.client.request("PLAY", PATH, **headers, **intra)).status == 200
        packets = await found.packets(8)
        assert b"".join(p.payload for p in packets) == b"I0....I3....I6....I9...."
        assert [p.flags for p in packets if p.word3 is not None][-1] == "CET"
        jump = {"Frames": "all", "Range": "clock=20260101T100003Z-20260101T100006Z", "Immediate": "yes"}
        assert (await found.client.request("PLAY", PATH, **headers, **jump)).status == 200
        packets = await found.packets(4)
        assert b"".join(p.payload for p in packets) == b"I3....P4P5"
        assert packets[0].flags == "CD"
        assert (await found.client.request("PLAY", PATH, Range="clock=2050-", **headers)).status == 457


@pytest.mark.requirement("PB-8.1-30", "PB-8.5.1-14", "PB-8.5.1-16", "PB-8.5.1-18", "PB-8.7-02")
@pytest.mark.parametrize("tracks", [[META001], [VIDEO001, AUDIO001, META001]], ids=["one track", "three tracks"])
@pytest.mark.parametrize("way", WAYS)
async def test_every_answer_is_complete_by_every_way(serve: Serve, way: str, tracks: list[TrackToken]) -> None:
    served = await serve({VIDEO001: worked_example(), AUDIO001: sound(), META001: scene()})
    async with AsyncExitStack() as stack:
        client = await (stack.enter_async_context(tunnel(served.server.port)) if way == "tunnel" else served.client())
        for track in tracks:
            pair = "interleaved=[0-9]+-[0-9]+"
            offered = "RTP/AVP/TCP;unicast"
            if way == "udp":
                offered = stack.enter_context(ClientPorts()).transport
                pair = f"{offered.split(';')[2]};server_port=[0-9]+-[0-9]+"
            setup = await client.request("SETUP", f"{PATH}/{track}", Transport=offered)
            assert setup["Transport"].startswith(";".join(offered.split(";")[:2]))
            assert re.search(f";{pair};", setup["Transport"] + ";")
            assert re.search("ssrc=[0-9A-F]{8}", setup["Transport"])
            id_, _, timeout = setup["Session"].partition(";timeout=")
            assert (client.session or id_, timeout) == (id_, "60")
            client.session = id_
        play = await client.request("PLAY", PATH, Rate_Control="no")
        assert (play.status, play["Range"]) == (200, "clock=20260101T100000Z-")
        streams = play["RTP-Info"].split(",")
        assert len(streams) == len(tracks)
        for track, stream in zip(tracks, streams, strict=True):
            assert re.fullmatch(rf"url=rtsp://127.0.0.1:\d+{PATH}/{track};seq=\d+;rtptime=\d+", stream)
        answers = [play]
        for method in ("OPTIONS", "DESCRIBE", "GET_PARAMETER", "PAUSE"):
            answers.append(await client.request(method, PATH))
        answers.append(await client.request("PLAY", PATH, Range="clock=2050-"))
        assert [a.status for a in answers] == [200] * 5 + [457]
        answers.append(await client.request("TEARDOWN", PATH))
        for answer in answers:
            assert answer["Session"].partition(";")[0] == client.session
            assert answer["Date"].endswith(" GMT")
