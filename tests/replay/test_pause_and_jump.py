"""PAUSE, resume, pause points and jumps: nothing is lost, repeated or stale; sessions side by side."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from nvr.model.time import NS
from nvr.model.tokens import AUDIO001, VIDEO001
from tests.replay.conftest import (
    PATH,
    TEN,
    Serve,
    flags_of,
    long_track,
    nothing_comes,
    playing,
    worked_example,
)
from tests.support.replay_store import ManualClock, MemoryTrack, PlainAudio
from tests.support.rtsp_client import Packet


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


@pytest.mark.requirement("PB-8.1-09", "PB-8.5.1-09", "PB-8.5.1-10", "PB-8.10-02")
async def test_pause_resume_jump_and_teardown_act_on_all_tracks(serve: Serve) -> None:
    clock = ManualClock()
    sound = MemoryTrack(PlainAudio()).starting_at(TEN).with_gop([f"a{i}" for i in range(40)]).with_end()
    served = await serve({VIDEO001: long_track(40, 10), AUDIO001: sound}, payload=100, clock=clock)
    client = await served.client()
    await playing(client, VIDEO001, AUDIO001, Rate_Control="yes")
    began = await client.packets(2)
    assert {p.channel for p in began} == {0, 2}
    assert (await client.request("PAUSE", PATH)).status == 200
    clock.advance(5 * NS)
    assert await nothing_comes(client) == []
    assert (await client.request("PLAY", PATH, Rate_Control="no")).status == 200
    found = [*began, *await client.packets(78)]
    for channel, names in ((0, [f"{'IP'[i % 2]}{i}" for i in range(40)]), (2, [f"a{i}" for i in range(40)])):
        assert [p.payload.decode().rstrip(".") for p in found if p.channel == channel] == names
    await client.request("PLAY", PATH, Range="clock=20260101T100020Z-", Rate_Control="no", Immediate="yes")
    found = await client.packets(40)
    for channel, name in ((0, b"I20"), (2, b"a20")):
        flags = [p.flags for p in found if p.channel == channel]
        assert next(p.payload for p in found if p.channel == channel).startswith(name)
        assert ["D" in f for f in flags] == [True] + [False] * 19
    assert (await client.request("TEARDOWN", PATH)).status == 200
    assert sum(served.store.subscriptions.values()) == 0
    assert (await client.request("PLAY", PATH)).status == 454


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
    clock = ManualClock()
    client = await (await serve({VIDEO001: worked_example()}, clock=clock)).client()
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
    for _ in range(3):
        clock.advance(NS)
        assert await nothing_comes(client) == []
    await client.request("PLAY", PATH, Rate_Control="no")
    assert flags_of(await client.packets(2)) == "P1: P2:"


@pytest.mark.requirement("PB-8.5.1-17")
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
    served = await serve({VIDEO001: worked_example()}, clock=ManualClock())  # what is paced stays where it is
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


@pytest.mark.requirement("PB-8.6.4-05")
async def test_scale_may_change_on_resume_without_a_break(serve: Serve) -> None:
    clock = ManualClock()
    client = await (await serve({VIDEO001: long_track(40, 10)}, payload=100, clock=clock)).client()

    async def stepped(duration_ns: int) -> Packet:
        clock.advance(duration_ns)
        return await client.packet()

    await playing(client, Rate_Control="yes", Scale="32")
    first = await client.packets(1) + [await stepped(NS // 32 + 1) for _ in range(4)]
    answer = await client.request("PLAY", PATH, Scale="16")
    rest = [await stepped(NS // 16 + 1) for _ in range(30)]
    found = [*first, *rest]
    assert [int(p.payload.decode().rstrip(".")[1:]) for p in found] == list(range(35))
    steps = [(b.rtp_time - a.rtp_time) % (1 << 32) for a, b in pairwise(found)]
    assert all(abs(s - 90_000 // 32) <= 1 for s in steps[:5])
    assert all(abs(s - 90_000 // 16) <= 1 for s in steps[5:])
    assert f"rtptime={rest[0].rtp_time}" in answer["RTP-Info"]


@pytest.mark.requirement("PB-8.6.4-05")
async def test_a_jump_does_not_break_the_rtp_times_of_playback(serve: Serve) -> None:
    """Whichever way it goes and however far, the picture there is shown next behind the last one."""
    clock = ManualClock()
    client = await (await serve({VIDEO001: long_track(40, 10)}, payload=100, clock=clock)).client()
    await playing(client, Rate_Control="yes")
    packets = [await client.packet()]
    for start in ("20", "04"):
        for _ in range(3):
            clock.advance(NS)
            packets.append(await client.packet())
        clock.advance(NS // 2)
        wanted = {"Range": f"clock=20260101T1000{start}Z-", "Immediate": "yes"}
        assert (await client.request("PLAY", PATH, **wanted)).status == 200
        packets.append(await client.packet())
    names = [int(p.payload.decode().rstrip(".")[1:]) for p in packets]
    assert names == [0, 1, 2, 3, 20, 21, 22, 23, 4]
    steps = [(b.rtp_time - a.rtp_time) % (1 << 32) for a, b in pairwise(packets)]
    for jump in (7, 3):
        assert 45_000 <= steps.pop(jump) < 90_000 + 9_000, "the time since the last picture, at most that of a picture"
    assert steps == pytest.approx([90_000] * 6, abs=2)


@pytest.mark.requirement("PB-8.5.3-01", "PB-8.5.3-08")
async def test_rate_control_is_not_inherited_from_the_play_before(serve: Serve) -> None:
    clock = ManualClock()
    client = await (await serve({VIDEO001: worked_example()}, clock=clock)).client()
    await playing(client)
    await client.packets(16)
    await client.request("PLAY", PATH, Range="clock=20260101T100000Z-", Immediate="yes")
    await client.packets(2)
    assert await nothing_comes(client) == []
    clock.advance(NS)
    await client.packet()


async def test_a_track_that_is_set_up_behind_pause_is_played_with_the_others(serve: Serve) -> None:
    audio = MemoryTrack(PlainAudio()).starting_at(TEN).with_gop([f"a{i}" for i in range(10)]).with_end()
    client = await (
        await serve({VIDEO001: worked_example(), AUDIO001: audio}, payload=100, clock=ManualClock())
    ).client()
    await playing(client, Rate_Control="yes")
    first = await client.packet()
    assert (await client.request("PAUSE", PATH)).status == 200
    sent = [first, *await client.packets(sum(isinstance(e, Packet) for e in client.log) - 1)]
    joined = await client.request("SETUP", f"{PATH}/{AUDIO001}", Transport="RTP/AVP/TCP;interleaved=2-3")
    assert joined.status == 200
    answer = await client.request("PLAY", PATH, Rate_Control="no")
    streams: dict[int, list[Packet]] = {first.channel: [], 2: []}
    while not all(found and "T" in found[-1].flags for found in streams.values()):
        packet = await client.packet()
        streams[packet.channel].append(packet)
    starts = [int(seq) for seq in re.findall(r"seq=(\d+)", answer["RTP-Info"])]
    assert starts == [found[0].seq for found in streams.values()]
    assert starts[0] == (sent[-1].seq + 1) & 0xFFFF
    assert {p.payload for p in streams[2]} <= {f"a{i}".encode() for i in range(10)}
    # What stands behind it is paused and resumed as before.
    await client.request("PAUSE", PATH)
    assert (await client.request("PLAY", PATH, Rate_Control="no")).status == 200
    assert await nothing_comes(client) == []
