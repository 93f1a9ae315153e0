"""Pacing, RTP time and reports of the player, on clocks that tests turn."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from fractions import Fraction

import pytest

from nvr.media.unit import CodecConfiguration
from nvr.model.time import NS
from nvr.replay.clock import SystemClock
from nvr.replay.player import LATE_NS, TURN_NS, Line, Pacing, Playback, Player
from nvr.replay.sender import Buffer, Origin, RtpStream
from nvr.replay.unit import Position, Unit
from tests.replay.conftest import TEN
from tests.support.replay_store import HandTurnedClock, PlainAudio, PlainVideo, plain_packetizer
from tests.support.rtsp_client import until

RATE = 90_000


class Listed:
    """A source with everything at hand."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self.left = list(units)

    async def units(self) -> Sequence[Unit]:
        units, self.left = self.left, []
        return units

    at_end = False

    def end_with_footage(self) -> None: ...

    def rest(self) -> None: ...

    def close(self) -> None: ...


class Recorded:
    """A transport that keeps packets with the time at which they came; `slow_ns` is what each takes."""

    def __init__(self, clock: HandTurnedClock, slow_ns: int = 0) -> None:
        self.clock = clock
        self.slow_ns = slow_ns
        self.sent: list[tuple[int, bytes]] = []
        self.reports: list[tuple[int, bytes]] = []

    async def send(self, packets: Sequence[Buffer]) -> None:
        self.sent += [(self.clock.now_ns, bytes(p)) for p in packets]
        self.clock.now_ns += self.slow_ns

    async def send_report(self, stream: RtpStream, report: bytes) -> None:
        self.reports.append((self.clock.now_ns, report))

    def close(self) -> None: ...

    @property
    def at_s(self) -> list[float]:
        return [t / NS for t, _ in self.sent]

    @property
    def rtp_times(self) -> list[int]:
        return [struct.unpack_from(">I", p, 4)[0] for _, p in self.sent]


def unit(second: float, name: str = "u", skipped_s: int = 0, configuration: CodecConfiguration | None = None) -> Unit:
    at = TEN + int(second * NS)
    place = at - skipped_s * NS
    return Unit(0, at, place, place, name.encode(), configuration or PlainVideo(), True)


async def play(
    units: Sequence[Unit],
    pacing: Pacing = Pacing.PLAYING_TIME,
    scale: Fraction = Fraction(1),
    slow_ns: int = 0,
    base: int = 0,
    speed: Fraction = Fraction(1),
) -> Recorded:
    clock = HandTurnedClock()
    transport = Recorded(clock, slow_ns)
    stream = RtpStream(PlainVideo(), 96, plain_packetizer(100), Origin(1, 65_535, base), None)
    start = units[0].utc_ns
    playback = Playback(Listed(units), Position.at(start))
    line = Line(start, 0, scale, speed)
    player = Player(playback, {0: stream}, transport, clock, pacing, line, TEN, 7, "here")
    async with asyncio.timeout(5):
        await player.run()
    return transport


@pytest.mark.requirement("PB-8.5.3-02", "PB-8.6.4-05")
async def test_rate_control_delivers_in_real_time_and_rtp_time_follows() -> None:
    sent = await play([unit(i / 10) for i in range(30)])
    assert sent.at_s == pytest.approx([i / 10 for i in range(30)])
    assert sent.rtp_times == [RATE * i // 10 for i in range(30)]


@pytest.mark.requirement("PB-8.5.1-04")
@pytest.mark.parametrize("scale", [Fraction(1, 4), Fraction(2), Fraction(32)])
async def test_scale_presses_playing_time_and_rtp_time_alike(scale: Fraction) -> None:
    sent = await play([unit(i) for i in range(60)], scale=scale)
    assert 0 <= float(59 / scale) - sent.at_s[-1] < TURN_NS / NS
    assert sent.rtp_times[-1] == pytest.approx(float(59 * RATE / scale), abs=1)


@pytest.mark.requirement("PB-8.5.3-06")
async def test_speed_presses_delivery_and_leaves_rtp_time_alone() -> None:
    sent = await play([unit(i) for i in range(20)], speed=Fraction(4))
    assert sent.at_s == pytest.approx([i / 4 for i in range(20)])
    assert sent.rtp_times == [RATE * i for i in range(20)]
    for at, report in sent.reports:
        assert struct.unpack_from(">I", report, 16)[0] == RATE * 4 * at // NS


@pytest.mark.requirement("PB-8.6.4-07")
async def test_a_gap_is_skipped_under_rate_control() -> None:
    sent = await play([unit(0), unit(1), unit(57, skipped_s=55), unit(58, skipped_s=55)])
    assert sent.at_s == [0, 1, 2, 3]
    assert sent.rtp_times == [0, RATE, 2 * RATE, 3 * RATE]


@pytest.mark.requirement("PB-8.5.3-03", "PB-8.6.4-01")
async def test_without_rate_control_nothing_waits_and_rtp_time_has_the_gaps() -> None:
    sent = await play([unit(5), unit(6), unit(62, skipped_s=55)], Pacing.UNTHROTTLED)
    assert sent.at_s == [0, 0, 0]
    assert sent.rtp_times == [5 * RATE, 6 * RATE, 62 * RATE]
    assert [report[8:20] for _, report in sent.reports] == [bytes(12)]  # it is not known when this is "now"


async def test_rtp_time_and_sequence_numbers_wrap() -> None:
    sent = await play([unit(i) for i in range(3)], Pacing.UNTHROTTLED, base=(1 << 32) - RATE)
    assert sent.rtp_times == [(1 << 32) - RATE, 0, RATE]
    assert [struct.unpack_from(">H", p, 2)[0] for _, p in sent.sent] == [65_535, 0, 1]


async def test_a_client_that_held_up_delivery_gets_what_follows_in_real_time() -> None:
    sent = await play([unit(i / 10) for i in range(100)], slow_ns=3 * LATE_NS)
    assert all(later - earlier >= 3 for earlier, later in zip(sent.at_s, sent.at_s[1:], strict=False))


async def test_units_that_are_due_together_are_written_together() -> None:
    clock = HandTurnedClock()
    transport = Recorded(clock)
    writes: list[int] = []
    original = transport.send

    async def send(packets: Sequence[Buffer]) -> None:
        writes.append(len(packets))
        await original(packets)

    transport.send = send  # type: ignore[method-assign]
    streams = {i: RtpStream(PlainVideo(), 96, plain_packetizer(100), Origin(i, 0, 0), None) for i in range(2)}
    units = []
    for i in range(4):
        for stream in range(2):
            u = unit(i + stream / 1000)
            u.stream = stream
            units.append(u)
    player = Player(
        Playback(Listed(units), Position.at(TEN)), streams, transport, clock, Pacing.PLAYING_TIME,
        Line(TEN, 0, Fraction(1)), TEN, 7, "here",
    )  # fmt: skip
    await player.run()
    assert writes == [2, 2, 2, 2]


@pytest.mark.parametrize("began_ns", [0, 3_000_000, 9_999_999])
async def test_units_leave_at_turns_that_all_players_share_and_never_late(began_ns: int) -> None:
    clock = HandTurnedClock()
    clock.now_ns = began_ns
    transport = Recorded(clock)
    stream = RtpStream(PlainVideo(), 96, plain_packetizer(100), Origin(1, 0, 0), None)
    units = [unit(i / 30) for i in range(90)]
    player = Player(
        Playback(Listed(units), Position.at(TEN)), {0: stream}, transport, clock, Pacing.PLAYING_TIME,
        Line(TEN, 0, Fraction(1)), TEN, 7, "here",
    )  # fmt: skip
    await player.run()
    for at_ns, due_ns in zip([at for at, _ in transport.sent], [u.utc_ns - TEN + began_ns for u in units], strict=True):
        assert at_ns == began_ns or at_ns % TURN_NS == 0
        assert 0 <= due_ns - at_ns < TURN_NS


async def test_who_is_late_sends_what_has_become_due_in_one_write() -> None:
    clock = HandTurnedClock()
    transport = Recorded(clock)
    writes: list[int] = []
    original = transport.send

    async def send(packets: Sequence[Buffer]) -> None:
        writes.append(len(packets))
        await original(packets)
        if len(writes) == 1:
            clock.now_ns += LATE_NS // 2  # the loop was busy with others

    transport.send = send  # type: ignore[method-assign]
    stream = RtpStream(PlainVideo(), 96, plain_packetizer(100), Origin(1, 0, 0), None)
    units = [unit(i / 10) for i in range(10)]
    player = Player(
        Playback(Listed(units), Position.at(TEN)), {0: stream}, transport, clock, Pacing.PLAYING_TIME,
        Line(TEN, 0, Fraction(1)), TEN, 7, "here",
    )  # fmt: skip
    await player.run()
    assert writes == [1, 5, 1, 1, 1, 1]
    assert transport.at_s == [0, *[0.5] * 5, 0.6, 0.7, 0.8, 0.9]


@pytest.mark.requirement("PB-8.11-02")
async def test_reports_tie_rtp_time_to_the_wall_clock_every_five_seconds() -> None:
    sent = await play([unit(i) for i in range(12)])
    assert [t / NS for t, _ in sent.reports] == [0, 5, 10]
    started = HandTurnedClock().started_utc_ns
    for at, report in sent.reports:
        ntp, rtp_time, packets = struct.unpack_from(">QII", report, 8)
        assert (ntp >> 32) - 2_208_988_800 == (started + at) // NS
        assert rtp_time == RATE * at // NS
        assert packets == at // NS
        assert report[28:30] == bytes((0x81, 202))  # SDES behind it: the packet is a compound one


@pytest.mark.requirement("PB-8.11-02")
async def test_reports_go_on_while_the_next_unit_is_far_away() -> None:
    sent = await play([unit(0), unit(12), unit(60)])
    assert sent.at_s == [0, 12, 60]
    assert [t / NS for t, _ in sent.reports] == list(range(0, 61, 5))
    for at, report in sent.reports:
        assert struct.unpack_from(">I", report, 16)[0] == RATE * at // NS


@pytest.mark.requirement("PB-8.11-02")
@pytest.mark.parametrize("pacing", Pacing)
async def test_reports_go_on_while_the_next_unit_is_not_recorded_yet(
    pacing: Pacing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nvr.replay.player.REPORT_NS", NS // 100)
    clock, comes = SystemClock(), asyncio.Event()

    class Edge(Listed):
        async def units(self) -> Sequence[Unit]:
            if len(self.left) == 1:
                await comes.wait()
            return [self.left.pop(0)] if self.left else []

    transport = Recorded(HandTurnedClock())
    stream = RtpStream(PlainVideo(), 96, plain_packetizer(100), Origin(1, 0, 0), None)
    playback = Playback(Edge([unit(0), unit(0.001)]), Position.at(TEN))
    line = Line(TEN, 0, Fraction(1))
    playing = asyncio.create_task(Player(playback, {0: stream}, transport, clock, pacing, line, TEN, 7, "here").run())
    await until(lambda: len(transport.reports) >= 4)
    assert len(transport.sent) == 1
    comes.set()
    await playing
    assert len(transport.sent) == 2


async def test_a_disk_that_times_out_is_no_wait_for_a_report() -> None:
    class Failing(Listed):
        async def units(self) -> Sequence[Unit]:
            if not self.left:
                raise TimeoutError("the disk")
            return await super().units()

    clock = HandTurnedClock()
    stream = RtpStream(PlainVideo(), 96, plain_packetizer(100), Origin(1, 0, 0), None)
    playback, line = Playback(Failing([unit(0)]), Position.at(TEN)), Line(TEN, 0, Fraction(1))
    player = Player(playback, {0: stream}, Recorded(clock), clock, Pacing.LIVE, line, TEN, 7, "here")
    with pytest.raises(TimeoutError, match="the disk"):
        await player.run()


async def test_a_unit_of_another_encoding_than_announced_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    sent = await play([unit(0), unit(1, configuration=PlainAudio()), unit(2)])
    assert [p[24] for _, p in sent.sent] == [0x80, 0x40, 0xA0]  # C, E without a unit, C and D
    assert "X-TEST/8000 where X-TEST/90000 is announced" in caplog.text


async def test_cancelling_at_any_moment_keeps_what_was_not_sent() -> None:
    for turns in range(40):
        clock = HandTurnedClock()
        transport = Recorded(clock)
        stream = RtpStream(PlainVideo(), 96, plain_packetizer(100), Origin(1, 0, 0), None)
        playback = Playback(Listed([unit(i, str(i)) for i in range(10)]), Position.at(TEN))
        for _ in range(2):
            line = Line(playback.position.due_ns, 0, Fraction(1))
            player = Player(playback, {0: stream}, transport, clock, Pacing.PLAYING_TIME, line, TEN, 7, "here")
            task = asyncio.create_task(player.run())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
        player = Player(
            playback, {0: stream}, transport, clock, Pacing.UNTHROTTLED, Line(TEN, 0, Fraction(1)), TEN, 7, "here"
        )
        await player.run()
        assert [p[28:] for _, p in transport.sent] == [str(i).encode() for i in range(10)]
