"""Which way and from where a PLAY goes: Scale without rate control, and a new position behind PAUSE, as it is sent."""

from __future__ import annotations

import pytest

from nvr.model.tokens import VIDEO001
from tests.replay.conftest import PATH, Serve, worked_example

FORWARD = b"I0....P1P2I3....P4P5I6....P7P8I9....P10P11"
REVERSE = b"I9....P10P11I6....P7P8I3....P4P5I0....P1P2"


@pytest.mark.requirement("PB-8.5.1-03")
@pytest.mark.parametrize(("scale", "expected"), [(None, FORWARD), ("1", FORWARD), ("1.0", FORWARD), ("-1.0", REVERSE)])
async def test_without_rate_control_scale_gives_the_direction_and_nothing_else(
    serve: Serve, scale: str | None, expected: bytes
) -> None:
    """Every other value is refused on the way there, and sends nothing: the first packet is that of the good PLAY."""
    client = await (await serve({VIDEO001: worked_example()})).client()
    await client.set_up(PATH, VIDEO001)
    for other in ("2.0", "0.5", "-2.0", "-0.25"):
        assert (await client.request("PLAY", PATH, Rate_Control="no", Scale=other)).status == 451
    headers = {} if scale is None else {"Scale": scale}
    answer = await client.request("PLAY", PATH, Rate_Control="no", **headers)
    assert answer.status == 200
    assert answer.header("Scale") == (None if scale is None else f"{float(scale)}")
    packets = await client.packets(16)
    assert b"".join(p.payload for p in packets) == expected
    assert f"seq={packets[0].seq};" in answer["RTP-Info"]


@pytest.mark.requirement("PB-8.5.1-03")
async def test_without_scale_play_is_forward_also_behind_reverse_and_behind_a_faster_one(serve: Serve) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    await client.set_up(PATH, VIDEO001)
    start = "clock=20260101T100000Z-"
    for before in ({"Scale": "-1.0", "Rate_Control": "no"}, {"Scale": "4.0", "Rate_Control": "yes", "Range": start}):
        assert (await client.request("PLAY", PATH, Immediate="yes", **before)).status == 200
        answer = await client.request("PLAY", PATH, Immediate="yes", Rate_Control="no", Range=start)
        assert answer.status == 200
        seq = int(answer["RTP-Info"].partition("seq=")[2].partition(";")[0])
        while (packet := await client.packet()).seq != seq:
            pass
        assert packet.payload + b"".join(p.payload for p in await client.packets(15)) == FORWARD


@pytest.mark.requirement("PB-8.5.1-11")
@pytest.mark.parametrize(("position", "expected"), [("100003Z-", b"I3"), ("100110Z-100100Z", b"I9")])
async def test_play_with_a_range_behind_pause_begins_there_with_d_and_its_own_number(
    serve: Serve, position: str, expected: bytes
) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    await client.set_up(PATH, VIDEO001)
    assert (await client.request("PLAY", PATH)).status == 200
    first = await client.packet()
    assert first.word3 is not None
    assert (first.flags, first.word3[1]) == ("C", client.cseq & 0xFF)
    assert (await client.request("PAUSE", PATH)).status == 200
    scale = "-1.0" if position.count("Z") > 1 else "1.0"
    range_ = "-".join("20260101T" + time if time else "" for time in position.split("-"))
    seek = await client.request("PLAY", PATH, Range=f"clock={range_}", Scale=scale, Rate_Control="no")
    assert seek.status == 200
    packet = await client.packet()
    assert packet.word3 is not None
    assert packet.payload.startswith(expected)
    assert "D" in packet.flags
    assert packet.word3[1] == client.cseq & 0xFF
    assert packet.word3[1] != first.word3[1]
