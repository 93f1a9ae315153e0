"""PLAY requests behind PLAY requests (RFC 2326 10.5, 10.6; IEC 62676-2-32 8.10)."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from nvr.model.tokens import VIDEO001
from nvr.replay import reader
from nvr.replay.plan import Plan
from nvr.replay.session import QUEUE_LENGTH
from tests.replay.conftest import PATH, TEN, Serve, flags_of, worked_example
from tests.support.replay_store import ManualClock, MemoryTrack
from tests.support.rtsp_client import Answer, Packet, RtspClient, until


def clock(start: str, end: str = "") -> str:
    return f"clock=20260101T10{start}Z-" + (f"20260101T10{end}Z" if end else "")


async def playing_slowly(
    serve: Serve, track: MemoryTrack | None = None, **headers: str
) -> tuple[RtspClient, ManualClock]:
    """A paced PLAY whose first unit has come: nothing more comes until the clock moves."""
    hands = ManualClock()
    client = await (await serve({VIDEO001: worked_example()}, clock=hands)).client()
    await client.set_up(PATH, VIDEO001)
    assert (await client.request("PLAY", PATH, **headers)).status == 200
    await client.packets(2)
    return client, hands


@pytest.mark.requirement("PB-8.10-03")
async def test_a_range_without_immediate_waits_for_the_one_before_it(serve: Serve) -> None:
    client, hands = await playing_slowly(serve, Range=clock("0000", "0002"))
    answer = await client.request("PLAY", PATH, Range=clock("0103", "0104"), Rate_Control="no")
    assert answer.status == 200
    assert answer["Range"] == "clock=20260101T100103Z-20260101T100104Z"
    assert answer["RTP-Info"] == f"url={client.base}{PATH}/VIDEO001"
    third = await client.request("PLAY", PATH, Range=clock("0110", "0100"), Rate_Control="no", Scale="-1")
    assert third["Scale"] == "-1.0"
    before = len([e for e in client.log if isinstance(e, Packet)])
    hands.advance(10**9)
    found = await client.packets(1 + 2 + 8)
    assert before == 2
    assert flags_of(found) == "P1: I9..:CD .. I9..:CD .. P10: P11: I6..:CD .. P7: P8:E"
    cseq = [p.word3[1] for p in found if p.word3 is not None]
    assert cseq == [2, 3, *[4] * 6]
    assert [p.seq for p in found] == [(found[0].seq + i) & 0xFFFF for i in range(len(found))]


async def test_what_is_queued_holds_no_footage_until_its_turn(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan holds a fragment of each track, and a client may have sixteen of them."""
    plans: weakref.WeakSet[Plan] = weakref.WeakSet()

    class Watched(Plan):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            plans.add(self)

    monkeypatch.setattr(reader, "Plan", Watched)
    client, hands = await playing_slowly(serve, Range=clock("0000", "0002"))
    for _ in range(4):
        answer = await client.request("PLAY", PATH, Range=clock("0103", "0104"), Rate_Control="no")
        assert answer.status == 200

    def one_is_left() -> bool:
        gc.collect()
        return len(plans) == 1

    await until(one_is_left)  # the thread that made one may let go of it last
    hands.advance(10**9)
    assert flags_of(await client.packets(1 + 4 * 2)) == "P1:" + 4 * " I9..:CD .."


async def test_an_open_range_ends_for_what_is_queued_with_the_footage(serve: Serve) -> None:
    client, hands = await playing_slowly(serve, Range=clock("0104"), Scale="32")
    for start in ("0000", "0004"):
        assert (await client.request("PLAY", PATH, Range=clock(start), Rate_Control="no")).status == 200
    for _ in range(10):
        hands.advance(10**9)
    found = await client.packets(2 + 16 + 12)
    assert [p.payload for p in found if "T" in (p.flags if p.word3 else "")] == [b"P11"] * 3
    assert found[18].payload == b"I3.."


async def test_while_something_is_recorded_an_open_range_has_no_end(serve: Serve) -> None:
    track = MemoryTrack().starting_at(TEN).with_gop(["I0", "P1"])
    client = await (await serve({VIDEO001: track})).client()
    await client.set_up(PATH, VIDEO001)
    await client.request("PLAY", PATH, Rate_Control="no")
    await client.packet()
    assert (await client.request("PLAY", PATH, Range="npt=0-", Rate_Control="no")).status == 200
    track.with_gop(["I2"])
    assert flags_of(await client.packets(1)) == "P1:"
    track.with_end()
    assert flags_of(await client.packets(4)) == "I2:CET I0:CD P1: I2:CET"


@pytest.mark.requirement("PB-8.10-01")
async def test_immediate_drops_what_is_played_and_what_is_queued(serve: Serve) -> None:
    client, _ = await playing_slowly(serve)
    await client.request("PLAY", PATH, Range=clock("0103"))
    answer = await client.request("PLAY", PATH, Range=clock("0104"), Immediate="yes", Rate_Control="no")
    found = await client.packets(4)
    assert flags_of(found) == "I9..:CD .. P10: P11:ET"
    assert f";seq={found[0].seq};rtptime={found[0].rtp_time}" in answer["RTP-Info"]
    assert (await client.request("PAUSE", PATH)).status == 200


async def test_pause_drops_what_is_queued(serve: Serve) -> None:
    client, _ = await playing_slowly(serve)
    await client.request("PLAY", PATH, Range=clock("0103"))
    assert (await client.request("PAUSE", PATH))["Range"] == "clock=20260101T100001Z-"
    await client.request("PLAY", PATH, Rate_Control="no")
    assert flags_of(await client.packets(2)) == "P1: P2:"


@pytest.mark.requirement("PB-8.5.1-17")
async def test_a_pause_point_may_lie_in_what_is_queued(serve: Serve) -> None:
    client, hands = await playing_slowly(serve, Range=clock("0000", "0002"))
    for start, end in (("0100", "0103"), ("0003", "0005")):
        await client.request("PLAY", PATH, Range=clock(start, end), Rate_Control="no")
    assert (await client.request("PAUSE", PATH, Range=clock("0050"))).status == 457
    assert (await client.request("PAUSE", PATH, Range=clock("0101"))).status == 200
    hands.advance(10**9)
    assert flags_of(await client.packets(3)) == "P1: I6..:CD .."
    assert (await client.request("PAUSE", PATH))["Range"] == "clock=20260101T100101Z-"
    await client.request("PLAY", PATH, Rate_Control="no")
    assert flags_of(await client.packets(2)) == "P7: P8:"


async def test_a_play_that_asks_for_nothing_else_is_a_sign_of_life(serve: Serve) -> None:
    client, hands = await playing_slowly(serve)
    assert (await client.request("PLAY", PATH)).status == 200
    hands.advance(10**9)
    packet = await client.packet()
    assert flags_of([packet]) == "P1:"
    assert packet.word3 is not None
    assert packet.word3[1] == 2  # of the PLAY that it belongs to


@pytest.mark.requirement("PB-8.5.3-08")
async def test_nothing_is_inherited_but_the_position(serve: Serve) -> None:
    client, _ = await playing_slowly(serve, Scale="1")
    await client.request("PLAY", PATH, Rate_Control="no")
    assert flags_of(await client.packets(2)) == "P1: P2:"
    await client.request("PLAY", PATH, Frames="intra", Rate_Control="no", Immediate="yes", Range=clock("0000"))
    assert flags_of(await client.packets(4)) == "I0..:CD .. I3..:CE .."
    await client.request("PLAY", PATH, Range=clock("0000"), Immediate="yes")
    assert flags_of(await client.packets(2)) == "I0..:CD .."
    before = len(client.log)
    for _ in range(3):
        await client.request("GET_PARAMETER", PATH)
    assert not any(isinstance(e, Packet) for e in client.log[before:])  # P1 is due a second later


async def test_the_queue_is_bounded_and_let_go_with_the_session(serve: Serve) -> None:
    hands = ManualClock()
    served = await serve({VIDEO001: worked_example()}, clock=hands)
    client = await served.client()
    await client.set_up(PATH, VIDEO001)
    await client.request("PLAY", PATH)
    await client.packets(2)
    answers: list[Answer] = [await client.request("PLAY", PATH, Range=clock("0003")) for _ in range(QUEUE_LENGTH + 1)]
    assert [a.status for a in answers] == [200] * QUEUE_LENGTH + [503]
    assert sum(served.store.subscriptions.values()) == QUEUE_LENGTH + 1
    assert (await client.request("TEARDOWN", PATH)).status == 200
    await until(lambda: sum(served.store.subscriptions.values()) == 0)


@pytest.mark.requirement("PB-8.6.1-02")
async def test_the_direction_changes_where_it_is(serve: Serve) -> None:
    client, _ = await playing_slowly(serve, Range=clock("0104"))
    answer = await client.request("PLAY", PATH, Scale="-1", Rate_Control="no")
    assert answer["Range"] == "clock=20260101T100103Z-"
    assert flags_of(await client.packets(4)) == "I9..:CD .. P10: P11:"


@pytest.mark.requirement("PB-8.5.1-03")
@pytest.mark.parametrize("moment", ["fresh", "playing", "paused", "queued"])
async def test_what_cannot_be_played_is_refused_whenever_it_is_asked_for(serve: Serve, moment: str) -> None:
    """With Rate-Control no, Scale tells the direction alone. What is being played goes on as it was."""
    hands = ManualClock()
    client = await (await serve({VIDEO001: worked_example()}, clock=hands)).client()
    await client.set_up(PATH, VIDEO001)
    if moment != "fresh":
        await client.request("PLAY", PATH)
        await client.packets(2)
    if moment == "paused":
        await client.request("PAUSE", PATH)
    more = {"Range": clock("0103")} if moment == "queued" else {}
    answer = await client.request("PLAY", PATH, Scale="2.0", Rate_Control="no", **more)
    assert (answer.status, answer.header("Scale")) == (451, None)
    if moment in ("fresh", "paused"):
        assert (await client.request("PLAY", PATH)).status == 200
    hands.advance(10**9)
    wanted = "I0..:C .." if moment == "fresh" else "P1:"
    assert flags_of(await client.packets(2 if moment == "fresh" else 1)) == wanted


@pytest.mark.parametrize(
    ("asked", "told"), [("npt=1.5", "npt=1.500-"), ("npt=0:00:02-", "npt=2-"), ("npt=3.5-", "npt=3.500-")]
)
async def test_a_pause_point_may_be_given_in_normal_play_time(serve: Serve, asked: str, told: str) -> None:
    client, hands = await playing_slowly(serve, Range="npt=0-")
    answer = await client.request("PAUSE", PATH, Range=asked)
    assert (answer.status, answer["Range"]) == (200, told)
    before = [b"I0..", b"..", b"P1", b"P2", b"I3..", b".."][: 6 if asked == "npt=3.5-" else 3]

    def played() -> list[bytes]:
        return [bytes(e.payload) for e in client.log if isinstance(e, Packet)]

    while len(played()) < len(before):
        hands.advance(10**9)
        await client.request("OPTIONS", "*")
    for _ in range(20):
        hands.advance(10**9)
        await client.request("OPTIONS", "*")
    assert played() == before, "nothing behind the pause point"
    after = {"npt=1.5": "P2:", "npt=0:00:02-": "P2:", "npt=3.5-": "P4:"}[asked]
    assert (await client.request("PLAY", PATH, Rate_Control="no")).status == 200
    assert flags_of(await client.packets(1)) == after


@pytest.mark.parametrize("point", ["npt=now-", "npt=1-2", "npt=-3", "smpte=0:00:01"])
async def test_what_is_no_pause_point_is_refused_and_the_playing_goes_on(serve: Serve, point: str) -> None:
    client, hands = await playing_slowly(serve)
    assert (await client.request("PAUSE", PATH, Range=point)).status == 457
    hands.advance(10**9)
    assert flags_of(await client.packets(1)) == "P1:"


async def test_a_play_behind_a_pause_point_begins_when_that_is_reached(serve: Serve) -> None:
    client, hands = await playing_slowly(serve)
    assert (await client.request("PAUSE", PATH, Range=clock("0002"))).status == 200
    assert (await client.request("PLAY", PATH, Range=clock("0104"), Rate_Control="no")).status == 200
    for _ in range(2):
        hands.advance(10**9)
    assert flags_of(await client.packets(5)) == "P1: I9..:CD .. P10: P11:ET"
    assert (await client.request("SETUP", f"{PATH}/VIDEO001", Transport="RTP/AVP/TCP")).status == 455


@pytest.mark.requirement("PB-8.5.1-11")
async def test_a_range_behind_a_pause_begins_there_with_d_and_the_number_of_its_play(serve: Serve) -> None:
    client, _ = await playing_slowly(serve)
    assert (await client.request("PAUSE", PATH)).status == 200
    answer = await client.request("PLAY", PATH, Range=clock("0103"), Rate_Control="no")
    assert answer["Range"] == "clock=20260101T100103Z-"
    found = await client.packets(4)
    assert flags_of(found) == "I9..:CD .. P10: P11:ET"
    assert {p.word3[1] for p in found if p.word3 is not None} == {client.cseq & 0xFF}
