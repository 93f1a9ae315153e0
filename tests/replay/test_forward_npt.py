"""Normal play time as plain players ask in it, and what they are told."""

from __future__ import annotations

import pytest

from nvr.model.time import NS
from nvr.model.timeline import GapReason, Run
from nvr.model.tokens import VIDEO001
from tests.replay.conftest import (
    PATH,
    TEN,
    Serve,
    flags_of,
    nothing_comes,
    playing,
    worked_example,
)


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
