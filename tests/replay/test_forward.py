"""Forward replay byte by byte, over a real socket."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from nvr.media.codecs.metadata import MetadataConfiguration
from nvr.media.rtcp import SenderReport, SourceDescription, parse_compound
from nvr.model.errors import StorageError
from nvr.model.time import NS, ntp_from_utc, parse_clock, unwrap, utc_from_ntp
from nvr.model.timeline import GapReason, Run
from nvr.model.tokens import AUDIO001, META001, VIDEO001, RecordingToken, TrackKey
from nvr.storage.rows import FragmentRef
from tests.replay.conftest import ORIGIN, PATH, TEN, TOKEN, Serve, worked_example
from tests.support.replay_store import MemoryTrack, ParameterVideo, PlainAudio
from tests.support.rtsp_client import Answer, Packet, RtspClient


async def playing(client: RtspClient, *tracks: str, **headers: str) -> Answer:
    await client.set_up(PATH, *(tracks or (VIDEO001,)))
    answer = await client.request("PLAY", PATH + "/", **{"Rate_Control": "no", **headers})
    assert answer.status == 200
    return answer


def flags_of(packets: list[Packet]) -> str:
    return " ".join(p.payload.decode() + ("" if p.word3 is None else ":" + p.flags) for p in packets)


@pytest.mark.requirement(
    "PB-8.1-24", "PB-8.3.1-01", "PB-8.3.1-02", "PB-8.3.1-03", "PB-8.3.1-04", "PB-8.3.1-05", "PB-8.3.1-08",
    "PB-8.3.1-09", "PB-8.3.1-10", "PB-8.3.1-11", "PB-8.3.1-12", "PB-8.3.1-13", "PB-8.6.4-01",
)  # fmt: skip
async def test_the_worked_example_goes_over_the_wire_as_the_standard_writes_it(serve: Serve) -> None:
    served = await serve({VIDEO001: worked_example()}, origin=lambda: ORIGIN)
    client = await served.client()
    await client.set_up(PATH, VIDEO001)
    client.cseq = 299
    answer = await client.request("PLAY", PATH + "/", Rate_Control="no", Require="onvif-replay")
    assert answer["CSeq"] == "300"
    assert answer["Range"] == "clock=20260101T100000Z-"
    assert answer["RTP-Info"] == f"url={client.base}{PATH}/VIDEO001;seq=5000;rtptime=1000000"
    packets = await client.packets(16)
    assert flags_of(packets) == ("I0..:C .. P1: P2: I3..:C .. P4: P5:E I6..:C .. P7: P8: I9..:C .. P10: P11:ET")
    assert [p.seq for p in packets] == list(range(5000, 5016))
    section = [1_000_000 + 90_000 * s for s in (0, 0, 1, 2, 3, 3, 4, 5)]
    assert [p.rtp_time for p in packets] == section + [t + 5_400_000 for t in section]
    assert [p.marker for p in packets] == [False, True, True, True] * 4
    seconds = [p.ntp >> 32 for p in packets if p.ntp is not None]
    assert seconds == [0xED00C420 + s for s in (*range(6), *range(60, 66))]
    assert {p.word3[1:] for p in packets if p.word3 is not None} == {b"\x2c\0\0"}
    assert [p.word3[0] for p in packets if p.word3 is not None] == [
        0x80, 0, 0, 0x80, 0, 0x40, 0x80, 0, 0, 0x80, 0, 0x50,
    ]  # fmt: skip
    assert packets[0].raw == bytes.fromhex("90601388 000f4240 1a2b3c4d abac0003 ed00c420 00000000 802c0000") + b"I0.."
    assert {(p.version, p.cc, p.payload_type, p.ssrc, p.channel) for p in packets} == {(2, 0, 96, 0x1A2B3C4D, 0)}


@pytest.mark.requirement("PB-8.3.1-13")
async def test_the_terminal_flag_stands_in_the_last_packet_of_the_terminal_unit(serve: Serve) -> None:
    track = MemoryTrack().starting_at(TEN).with_gop(["I0", "P1..2..3.."]).with_end()
    client = await (await serve({VIDEO001: track})).client()
    await playing(client)
    packets = await client.packets(4)
    assert flags_of(packets) == "I0:C P1..:E 2..3 ..:ET"
    assert packets[1].ntp == packets[3].ntp


@pytest.mark.requirement("PB-8.5.3-05", "PB-8.1-09", "PB-8.3.1-15")
async def test_two_tracks_are_interleaved_in_recorded_order_on_their_channels(serve: Serve) -> None:
    sound = MemoryTrack(PlainAudio()).starting_at(TEN).with_gop([f"a{i}" for i in range(6)], NS // 2).with_end()
    track = MemoryTrack().starting_at(TEN).with_gop(["I0", "P1", "P2"]).with_end()
    client = await (await serve({VIDEO001: track, AUDIO001: sound})).client()
    answer = await playing(client, VIDEO001, AUDIO001)
    packets = await client.packets(9)
    assert [p.payload for p in packets] == [b"I0", b"a0", b"a1", b"P1", b"a2", b"a3", b"P2", b"a4", b"a5"]
    assert {p.channel for p in packets if p.payload[:1] == b"a"} == {2}
    times = [p.ntp for p in packets]
    assert times == sorted(times, key=lambda t: t or 0)
    assert "C" in packets[1].flags
    infos = answer["RTP-Info"].split(",")
    assert [i.split(";")[0].rpartition("/")[2] for i in infos] == [VIDEO001, AUDIO001]


async def nothing_comes(client: RtspClient) -> list[Packet]:
    """What arrived before the answer to a keep-alive: media of the same connection stand before it."""
    before = len(client.log)
    for _ in range(3):
        await client.request("GET_PARAMETER", PATH)
    return [e for e in client.log[before:] if isinstance(e, Packet)]


@pytest.mark.requirement("PB-8.5.1-01", "PB-8.5.1-06", "PB-8.5.1-07", "PB-8.5.2-01", "PB-8.5.2-10", "PB-8.5.2-12")
@pytest.mark.parametrize(
    ("start", "first"),
    [
        ("20260101T100000Z", "I0.."),
        ("20260101T100004Z", "I3.."),
        ("20260101T100004.3Z", "I3.."),
        ("20260101T100003.000000000Z", "I3.."),
        ("20260101T100002.999999999Z", "I0.."),
        ("20260101T100030Z", "I6.."),
        ("20000101T000000Z", "I0.."),
    ],
)
async def test_the_answer_states_where_playback_really_begins(serve: Serve, start: str, first: str) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    answer = await playing(client, Range=f"clock={start}-")
    packet = await client.packet()
    assert packet.payload.decode() == first
    stated = parse_clock(answer["Range"].removeprefix("clock=").removesuffix("-"))
    assert packet.ntp == ntp_from_utc(stated)
    assert f";seq={packet.seq};rtptime={packet.rtp_time}" in answer["RTP-Info"]


@pytest.mark.requirement("PB-8.5.2-02", "PB-8.5.2-05", "PB-8.9-01")
async def test_a_closed_range_stops_by_itself_and_a_new_play_works_at_once(serve: Serve) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    answer = await playing(client, Range="clock=20260101T100001Z-20260101T100004Z")
    assert answer["Range"] == "clock=20260101T100000Z-20260101T100004Z"
    assert flags_of(await client.packets(6)) == "I0..:C .. P1: P2: I3..:C .."
    assert await nothing_comes(client) == []
    answer = await client.request("PLAY", PATH, Range="clock=20260101T100103Z-", Rate_Control="no")
    assert answer.status == 200
    assert flags_of(await client.packets(4)) == "I9..:CD .. P10: P11:ET"


@pytest.mark.requirement("PB-8.5.1-09", "PB-8.9-01", "PB-8.9-03")
async def test_the_session_stays_playing_at_the_end_of_footage(serve: Serve) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    await playing(client)
    await client.packets(16)
    assert await nothing_comes(client) == []
    assert (await client.request("PAUSE", PATH)).status == 200
    reports = [e[1] for e in client.log if isinstance(e, tuple)]
    assert [type(p) for data in reports for p in parse_compound(data)] == [SenderReport, SourceDescription]  # no BYE


@pytest.mark.requirement("PB-8.5.2-08")
@pytest.mark.parametrize(
    ("npt", "first", "told"),
    [
        ("npt=0-", "I0..", "npt=0-"),
        ("npt=0.000-", "I0..", "npt=0-"),
        ("npt=4-", "I3..", "npt=3-"),
        ("npt=4-5", "I3..", "npt=3-5"),
        ("npt=5.999-", "I3..", "npt=3-"),
        ("npt=6-", "I6..", "npt=6-"),
        ("npt=10-11.5", "I9..", "npt=9-11.500"),
        ("npt=now-", "I9..", "npt=9-"),
        ("npt=3976250404.5-", "I3..", "clock=20260101T100003Z-"),
        ("npt=3976250404.5-3976250405.5", "I3..", "clock=20260101T100003Z-20260101T100005.500Z"),
    ],
)
async def test_plain_players_get_the_recording_by_npt(serve: Serve, npt: str, first: str, told: str) -> None:
    """Time without footage is not counted: the second section begins at 6, though a minute after the first."""
    client = await (await serve({VIDEO001: worked_example()})).client()
    answer = await playing(client, Range=npt)
    assert answer["Range"] == told
    packet = await client.packet()
    assert packet.payload.decode() == first
    assert f"rtptime={packet.rtp_time}" in answer["RTP-Info"]


async def test_an_end_in_npt_at_a_gap_is_the_end_before_it(serve: Serve) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    await playing(client, Range="npt=3-6")
    assert flags_of(await client.packets(4)) == "I3..:C .. P4: P5:E"
    assert await nothing_comes(client) == []


async def test_npt_is_playing_time_over_a_gap(serve: Serve) -> None:
    """What a player makes of Range, RTP-Info and RTP times together is the npt of each unit, also of a later PLAY."""
    client = await (await serve({VIDEO001: worked_example()})).client()
    await client.set_up(PATH, VIDEO001)
    found = []
    for start in (0, 4, 8):
        answer = await client.request("PLAY", PATH, Range=f"npt={start}-", Scale="32", Immediate="yes")
        begins = float(answer["Range"].removeprefix("npt=").removesuffix("-"))
        base = int(answer["RTP-Info"].rpartition("=")[2])
        packets = [await client.packet()]
        while packets[-1].word3 is None or "T" not in packets[-1].flags:
            packets.append(await client.packet())
        found.append([round(begins + (p.rtp_time - base) * 32 / 90_000, 3) for p in packets if p.payload != b".."])
    assert found == [[*range(12)], [*range(3, 12)], [*range(6, 12)]]


@pytest.mark.requirement("PB-8.5.1-06")
@pytest.mark.parametrize("where", ["SETUP", "PLAY"])
async def test_who_requires_onvif_replay_is_answered_in_absolute_times_also_about_npt(serve: Serve, where: str) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    required = {"Require": "onvif-replay"}
    await client.set_up(PATH, VIDEO001, **(required if where == "SETUP" else {}))
    answer = await client.request("PLAY", PATH, Range="npt=4-", **(required if where == "PLAY" else {}))
    assert answer["Range"] == "clock=20260101T100003Z-"
    assert (await client.request("PAUSE", PATH))["Range"].startswith("clock=")


async def test_who_asks_in_npt_is_told_so_about_pause_and_resume_until_asking_in_clock(serve: Serve) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    await client.set_up(PATH, VIDEO001)
    await client.request("PLAY", PATH, Range="npt=10-")
    await client.packets(2)
    assert (await client.request("PAUSE", PATH))["Range"] == "npt=10-"
    assert (await client.request("PLAY", PATH))["Range"] == "npt=10-"
    answer = await client.request("PLAY", PATH, Range="clock=20260101T100003Z-", Immediate="yes")
    assert answer["Range"] == "clock=20260101T100003Z-"
    assert (await client.request("PAUSE", PATH))["Range"].startswith("clock=")


async def test_npt_keeps_its_place_when_the_oldest_footage_goes_during_a_session(serve: Serve) -> None:
    track = worked_example()
    served = await serve({VIDEO001: track})
    client = await served.client()
    await playing(client, Range="npt=0-")
    await client.packets(16)
    del track.fragments_[0], track.runs[0]
    track.runs.insert(0, Run("run0", TEN + 3 * NS, TEN + 6 * NS, GapReason.SOURCE_LOST))
    answer = await client.request("PLAY", PATH, Range="npt=6-", Rate_Control="no")
    assert answer["Range"] == "npt=6-"
    assert (await client.packet()).payload == b"I6.."
    fresh = await (await served.client()).request("DESCRIBE", PATH)
    assert b"a=range:npt=0-9\r\n" in fresh.body


@pytest.mark.requirement("PB-8.2-05")
async def test_the_description_states_the_span_absolutely_and_the_time_it_plays(serve: Serve) -> None:
    """In this order: FFmpeg takes the last of them, and of a clock alone makes nonsense; GStreamer takes the first."""
    track = worked_example()
    client = await (await serve({VIDEO001: track})).client()
    body = (await client.request("DESCRIBE", PATH)).body.decode()
    spans = [line for line in body.split("\r\n") if line.startswith("a=range")]
    assert spans == ["a=range:clock=20260101T100000Z-20260101T100106Z", "a=range:npt=0-12"]
    track.with_gop(["I12", "P13"])
    body = (await client.request("DESCRIBE", PATH)).body.decode()
    spans = [line for line in body.split("\r\n") if line.startswith("a=range")]
    assert spans == ["a=range:clock=20260101T100000Z-", "a=range:npt=0-14"]


def long_track(seconds: int = 300, size: int = 1000) -> MemoryTrack:
    track = MemoryTrack().starting_at(TEN)
    for i in range(0, seconds, 2):
        track.with_gop([f"I{i}".ljust(size, "."), f"P{i + 1}".ljust(size, ".")])
        if i % 10 == 8:
            track.with_rotation()
    return track.with_end()


@pytest.mark.requirement("PB-8.5.1-09", "PB-8.5.1-10", "PB-8.6.3-02")
async def test_pause_and_resume_lose_and_repeat_nothing(serve: Serve) -> None:
    client = await (await serve({VIDEO001: long_track(600, 40_000)}, payload=10_000)).client(1 << 14)
    await playing(client)
    found: list[Packet] = []
    for _ in range(4):
        found += await client.packets(7)
        before = len(client.log)
        answer = await client.request("PAUSE", PATH)
        assert answer.status == 200
        found += [e for e in client.log[before:] if isinstance(e, Packet)]
        assert await nothing_comes(client) == []
        answer = await client.request("PLAY", PATH, Rate_Control="no")
        assert answer.status == 200
        following = await client.packet()
        assert f";seq={following.seq};" in answer["RTP-Info"]
        assert following.word3 is not None
        assert following.word3[1] == client.cseq & 0xFF
        assert "D" not in following.flags
        found.append(following)
    while len(found) < 2400:
        found.append(await client.packet())
    assert [p.seq for p in found] == [(found[0].seq + i) & 0xFFFF for i in range(len(found))]
    assert len({p.ssrc for p in found}) == 1
    names = [p.payload.decode().rstrip(".")[1:] for p in found if p.payload[:1] in b"IP"]
    assert names == [str(i) for i in range(600)]


@pytest.mark.requirement("PB-8.3.1-07", "PB-8.3.1-10", "PB-8.10-01", "PB-8.10-02", "PB-8.10-05", "PB-8.6.3-02")
async def test_an_immediate_jump_ends_the_old_data_before_its_answer(serve: Serve) -> None:
    client = await (await serve({VIDEO001: long_track(1000, 40_000)}, payload=10_000)).client(1 << 14)
    await playing(client)
    await client.packets(5)
    answer = await client.request("PLAY", PATH, Range="clock=20260101T101001Z-", Rate_Control="no", Immediate="yes")
    last_of_old = [e for e in client.log if isinstance(e, Packet)][-1]
    packets = await client.packets(40)
    assert packets[0].flags == "CD"
    assert packets[0].payload.decode().rstrip(".") == "I600"
    assert packets[0].seq == (last_of_old.seq + 1) & 0xFFFF
    assert f";seq={packets[0].seq};rtptime={packets[0].rtp_time}" in answer["RTP-Info"]
    assert {p.word3[1] for p in packets if p.word3 is not None} == {client.cseq & 0xFF}
    assert ["D" in p.flags for p in packets if p.word3 is not None].count(True) == 1


@pytest.mark.requirement("PB-8.10-06")
async def test_many_jumps_in_quick_order_are_all_answered_and_the_last_wins(serve: Serve) -> None:
    client = await (await serve({VIDEO001: long_track()}, payload=1000)).client()
    await playing(client)
    sent = [
        client.write("PLAY", PATH, Range=f"clock=20260101T1000{i:02}Z-", Rate_Control="no", Immediate="yes")
        for i in range(50)
    ]
    assert [int((await client.answer())["CSeq"]) for _ in sent] == sent
    packets = await client.packets(5)
    assert packets[0].payload.decode().startswith("I48.")
    assert {p.word3[1] for p in packets if p.word3 is not None} == {sent[-1] & 0xFF}


@pytest.mark.requirement("PB-8.5.1-17")
async def test_a_pause_point_is_reached_and_resumed_at(serve: Serve) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    await client.set_up(PATH, VIDEO001)
    # Two requests at once, so that the pause point is known before the first unit behind it could be sent.
    client.write("PLAY", PATH)
    client.write("PAUSE", PATH, Range="clock=20260101T100001Z")
    assert (await client.answer()).status == 200
    paused = await client.answer()
    assert paused.status == 200
    assert paused["Range"] == "clock=20260101T100001Z-"
    sent = [e for e in client.log if isinstance(e, Packet)] or await client.packets(2)
    assert sent[0].payload == b"I0.."
    async with asyncio.timeout(5):
        while (await client.request("PAUSE", PATH)).status != 200:
            pass
    await client.request("PLAY", PATH, Rate_Control="no")
    assert flags_of(await client.packets(2)) == "P1: P2:"


async def test_a_pause_point_outside_of_what_is_played_is_refused(serve: Serve) -> None:
    client = await (await serve({VIDEO001: long_track()}, payload=1000)).client()
    await playing(client, Range="clock=20260101T100100Z-20260101T100300Z", Rate_Control="yes")
    await client.packet()
    for point in ("20260101T100000Z", "20260101T100500Z"):
        assert (await client.request("PAUSE", PATH, Range=f"clock={point}")).status == 457
    assert (await client.request("PAUSE", PATH, Range="npt=5-")).status == 457


@pytest.mark.requirement("PB-8.5.1-15")
async def test_sessions_on_one_recording_do_not_influence_each_other(serve: Serve) -> None:
    """Each has a position, a pace and a choice of frames of its own; one pauses and resumes, another ends."""
    served = await serve({VIDEO001: worked_example()})
    first, second, third = [await served.client() for _ in range(3)]
    for client in (first, second, third):
        await client.set_up(PATH, VIDEO001)
    assert (await first.request("PLAY", PATH)).status == 200
    began = [await first.packet(), await first.packet()]
    assert (await third.request("PLAY", PATH, Rate_Control="no", Frames="intra")).status == 200
    assert (await second.request("PLAY", PATH, Rate_Control="no", Range="clock=20260101T100103Z-")).status == 200
    await first.request("PAUSE", PATH)
    assert flags_of(await second.packets(4)) == "I9..:C .. P10: P11:ET"
    assert (await second.request("TEARDOWN", PATH)).status == 200
    assert flags_of(await third.packets(8)) == "I0..:C .. I3..:CE .. I6..:C .. I9..:CE ..:CET"
    assert (await first.request("PLAY", PATH, Rate_Control="no")).status == 200
    rest = await first.packets(14)
    assert b"".join(p.payload for p in (*began, *rest)) == b"I0....P1P2I3....P4P5I6....P7P8I9....P10P11"
    assert [p.seq for p in rest] == [(began[-1].seq + 1 + i) & 0xFFFF for i in range(14)]
    assert len({c.session for c in (first, second, third)}) == 3


@pytest.mark.requirement("PB-8.5.4-03")
@pytest.mark.parametrize("scale", ["1.0", "-1.0"])
@pytest.mark.parametrize(("short_ns", "chosen"), [(0, 4), (1_000, 4), (125_000, 4), (126_000, 5), (250_000, 5)])
async def test_an_interval_of_intra_frames_is_counted_in_whole_milliseconds(
    serve: Serve, scale: str, short_ns: int, chosen: int
) -> None:
    """A camera's seconds come out a little short: four of them are 4000 ms as long as they round to that."""
    track = MemoryTrack().starting_at(TEN)
    for i in range(20):
        track.with_gop([str(i)], NS - short_ns)
    client = await (await serve({VIDEO001: track.with_end()})).client()
    await playing(
        client, Frames="intra/4000", Scale=scale, Range="clock=20260101T100100Z-" if scale < "0" else "npt=0-"
    )
    numbers = [int(p.payload) for p in await client.packets(4)]
    assert numbers == ([19 - chosen * n for n in range(4)] if scale < "0" else [chosen * n for n in range(4)])


@pytest.mark.requirement("PB-8.8-02", "PB-8.8-03", "PB-8.9-02")
async def test_playing_goes_on_with_what_is_recorded_and_after_recording_resumes(serve: Serve) -> None:
    track = MemoryTrack().starting_at(TEN).with_gop(["I0", "P1"])
    client = await (await serve({VIDEO001: track})).client()
    await playing(client)
    assert flags_of([await client.packet()]) == "I0:C"
    assert await nothing_comes(client) == []
    track.with_gop(["I2", "P3"])
    assert flags_of(await client.packets(2)) == "P1: I2:C"
    track.with_end()
    assert flags_of(await client.packets(1)) == "P3:ET"
    track.with_gap(TEN + 60 * NS).with_gop(["I4", "P5"]).with_gop(["I6"])
    assert flags_of(await client.packets(2)) == "I4:C P5:"


@pytest.mark.requirement("PB-8.1-29")
async def test_once_changed_parameter_sets_go_before_each_picture_that_needs_them(serve: Serve) -> None:
    track = MemoryTrack(ParameterVideo(sets="AQID")).starting_at(TEN).with_gop(["\0\0\0\1A"])
    track.with_configuration(ParameterVideo(sets="BAUG,Bw==")).with_gop(["\0\0\0\1B"]).with_gop(["\0\0\0\1C"])
    track.with_configuration(ParameterVideo(sets="AQID")).with_gop(["\0\0\0\1D"]).with_end()
    client = await (await serve({VIDEO001: track}, payload=100)).client()
    await playing(client)
    assert [p.payload for p in await client.packets(4)] == [
        b"\0\0\0\1A",
        b"\0\0\0\3\4\5\6\0\0\0\1\7\0\0\0\1B",
        b"\0\0\0\3\4\5\6\0\0\0\1\7\0\0\0\1C",
        b"\0\0\0\3\1\2\3\0\0\0\1D",
    ]
    await client.request("PLAY", PATH, Range="clock=20260101T100001Z-", Rate_Control="no")
    assert (await client.packet()).payload.startswith(b"\0\0\0\3\4\5\6")


@pytest.mark.requirement("PB-8.3.2-03")
async def test_a_unit_has_the_same_times_in_every_unthrottled_replay(serve: Serve) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    await playing(client)
    first = {p.payload: (p.ntp, p.rtp_time) for p in await client.packets(16) if p.word3 is not None}
    await client.request("PLAY", PATH, Range="clock=20260101T100004Z-", Rate_Control="no")
    second = {p.payload: (p.ntp, p.rtp_time) for p in await client.packets(12) if p.word3 is not None}
    assert len(second) == 9
    assert second.items() <= first.items()


@pytest.mark.requirement("PB-8.11-02", "PB-8.3.2-04", "PB-8.11-04")
async def test_a_sender_report_states_the_wall_clock_when_rate_control_is_on(serve: Serve) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    await playing(client, Rate_Control="yes")
    channel, report = await client.report()
    packet = await client.packet()
    assert channel == 1
    kind, ssrc, ntp, rtp_time = struct.unpack_from(">xBxxIQI", report)
    assert (kind, ssrc) == (200, packet.ssrc)
    assert abs(utc_from_ntp(ntp) - time.time_ns()) < 5 * NS
    assert packet.ntp is not None
    assert utc_from_ntp(packet.ntp) == TEN
    assert abs(unwrap(packet.rtp_time, rtp_time) - rtp_time) < 90_000
    client.send(b"$\x01\x00\x08" + struct.pack(">BBHI", 0x80, 201, 1, 7))
    assert (await client.request("OPTIONS", PATH)).status == 200


@pytest.mark.requirement("PB-8.4-03", "PB-8.5.4-01", "PB-8.5.4-03", "PB-8.5.4-04")
@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ({"Frames": "all"}, [f"{'I' if i % 2 == 0 else 'P'}{i}" for i in range(20)]),
        ({"Frames": "intra"}, [f"I{i}" for i in range(0, 20, 2)]),
        ({"Frames": "intra/4000"}, [f"I{i}" for i in range(0, 20, 4)]),
        ({"Frames": "intra/4000", "Rate_Control": "yes", "Scale": "32"}, [f"I{i}" for i in range(0, 20, 4)]),
    ],
)
async def test_frames_chooses_pictures_on_the_timeline_of_the_recording(
    serve: Serve, headers: dict[str, str], names: list[str]
) -> None:
    client = await (await serve({VIDEO001: long_track(20, 10)}, payload=100)).client()
    await playing(client, **headers)
    packets = await client.packets(len(names))
    assert [p.payload.decode().rstrip(".") for p in packets] == names
    assert packets[-1].flags in ("CET", "ET")


@pytest.mark.requirement("PB-8.1-25")
async def test_sequence_numbers_and_rtp_times_begin_anywhere(serve: Serve) -> None:
    served = await serve({VIDEO001: worked_example()})
    starts = set()
    for _ in range(4):
        client = await served.client()
        await playing(client)
        packet = await client.packet()
        starts.add((packet.seq, packet.rtp_time, packet.ssrc))
    assert [len({s[i] for s in starts}) for i in range(3)] == [4, 4, 4]


@pytest.mark.requirement("PB-8.5.3-08")
async def test_rate_control_is_not_inherited_from_the_play_before(serve: Serve) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    await playing(client)
    await client.packets(16)
    began = asyncio.get_running_loop().time()
    await client.request("PLAY", PATH, Range="clock=20260101T100000Z-", Immediate="yes")
    await client.packets(3)
    assert asyncio.get_running_loop().time() - began >= 0.95


@pytest.mark.requirement("PB-8.5.2-11")
async def test_a_start_in_the_future_of_a_running_recording_waits(serve: Serve) -> None:
    track = MemoryTrack().starting_at(TEN).with_gop(["I0", "P1"])
    client = await (await serve({VIDEO001: track})).client()
    answer = await playing(client, Range="clock=20260101T100003Z-")
    assert answer["Range"] == "clock=20260101T100003Z-"
    assert await nothing_comes(client) == []
    track.with_gop(["I2", "P3"]).with_gop(["I4"])
    assert flags_of(await client.packets(2)) == "I2:C P3:"


@pytest.mark.requirement("PB-8.5.2-09")
async def test_a_start_more_than_a_day_ahead_is_refused_though_something_is_being_recorded(serve: Serve) -> None:
    track = MemoryTrack().starting_at(TEN).with_gop(["I0", "P1"])
    now = TEN + 30 * NS
    client = await (await serve({VIDEO001: track}, utc_ns=lambda: now)).client()
    await client.set_up(PATH, VIDEO001)
    for wanted, status in (
        ("clock=20260102T100030Z-", 200),
        ("clock=20260102T100031Z-", 457),
        ("clock=20400101T000000Z-", 457),
        ("npt=100000-", 457),
    ):
        assert (await client.request("PLAY", PATH, Range=wanted, Immediate="yes")).status == status


async def test_a_replay_whose_footage_fails_ends_alone(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    served = await serve({VIDEO001: long_track(60)}, payload=1000)
    served.add({VIDEO001: worked_example()}, RecordingToken("rec-2"))
    good, bad = await served.client(), await served.client()
    await good.set_up("/replay/rec-2", VIDEO001)
    await bad.set_up(PATH, VIDEO001)
    track = served.store.tracks[TrackKey(TOKEN, VIDEO001)]
    answer = await bad.request("PLAY", PATH)
    assert answer.status == 200

    def broken(ref: FragmentRef) -> Iterator[FragmentRef]:
        raise StorageError("the index is gone")
        yield

    track.fragments_after = broken  # type: ignore[method-assign]
    await bad.request("PLAY", PATH, Rate_Control="no")
    track.with_end()
    async with asyncio.timeout(5):
        while (await bad.request("GET_PARAMETER", PATH)).status == 200:
            for callback in track.callbacks:
                callback(track.fragments_[0][0])
    assert "the index is gone" in caplog.text
    assert served.store.subscriptions[TrackKey(TOKEN, VIDEO001)] == 0
    assert (await good.request("PLAY", "/replay/rec-2", Rate_Control="no")).status == 200


@pytest.mark.requirement("PB-8.1-26", "PB-8.1-27", "PB-8.3.1-14")
async def test_metadata_documents_are_units_of_their_own(serve: Serve) -> None:
    configuration = MetadataConfiguration()
    track = MemoryTrack(configuration).starting_at(TEN)
    documents = [f"<tt:MetadataStream xmlns:tt='x' n='{i}'>{'.' * 3000}</tt:MetadataStream>" for i in range(3)]
    track.with_gop(documents).with_end()
    client = await (await serve({META001: track}, payload=None)).client()
    described = (await client.request("DESCRIBE", PATH)).body
    assert b"m=application 0 RTP/AVP 98\r\na=rtpmap:98 vnd.onvif.metadata/90000\r\n" in described
    await playing(client, META001)
    found, document = [], b""
    for _ in range(9):
        packet = await client.packet()
        if not document:
            assert "C" in packet.flags
        document += packet.payload
        if packet.marker:
            found.append(document.decode())
            document = b""
    assert found == documents


@pytest.mark.requirement("PB-8.5.2-07")
async def test_a_range_without_a_start_begins_at_the_beginning(serve: Serve) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    await playing(client, Range="clock=-20260101T100002Z")
    assert flags_of(await client.packets(3)) == "I0..:C .. P1:"
    assert await nothing_comes(client) == []


@pytest.mark.requirement("PB-8.6.4-05")
async def test_scale_may_change_on_resume_without_a_break(serve: Serve) -> None:
    client = await (await serve({VIDEO001: long_track(40, 10)}, payload=100)).client()
    await playing(client, Rate_Control="yes", Scale="32")
    first = await client.packets(5)
    answer = await client.request("PLAY", PATH, Scale="16")
    between = [e for e in client.log if isinstance(e, Packet)][5:]
    rest = await client.packets(30 - len(between))
    found = [*first, *between, *rest]
    assert [int(p.payload.decode().rstrip(".")[1:]) for p in found] == list(range(35))
    steps = [(b.rtp_time - a.rtp_time) % (1 << 32) for a, b in pairwise(found)]
    turn = 4 + len(between)
    assert all(abs(s - 90_000 // 32) <= 1 for s in steps[: turn + 1])
    assert all(abs(s - 90_000 // 16) <= 1 for s in steps[turn + 1 :])
    assert f"rtptime={rest[0].rtp_time}" in answer["RTP-Info"]
