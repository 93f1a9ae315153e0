"""Clients that are silent, wrong, slow or gone: time-outs, broken requests, back-pressure."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from nvr.model.time import NS
from nvr.model.tokens import VIDEO001, RecordingToken
from nvr.replay.connection import Connection
from nvr.replay.methods import Methods
from nvr.replay.server import RtspSettings
from tests.replay.conftest import PATH, TEN, Serve, big_track, worked_example
from tests.support.replay_store import ManualClock, MemoryTrack
from tests.support.rtsp_client import Answer, Packet, until


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """When the server has seen a sign of life, by its monotonic clock."""
    times: list[int] = []
    original = Connection._heard

    def told(connection: Connection) -> None:
        original(connection)
        times.append(connection._heard_ns)

    monkeypatch.setattr(Connection, "_heard", told)
    return times


class TestTime:
    @pytest.mark.requirement("PB-8.7-06")
    async def test_a_silent_client_loses_its_session_and_then_its_connection(self, serve: Serve) -> None:
        clock = ManualClock()
        served = await serve({VIDEO001: worked_example()}, clock=clock)
        client = await served.client()
        await client.set_up(PATH, VIDEO001)
        await client.request("PLAY", PATH, Rate_Control="no")
        clock.advance(61 * NS)
        await until(lambda: not sum(served.store.subscriptions.values()))
        assert (await client.request("PLAY", PATH)).status == 454
        clock.advance(61 * NS)
        assert await client.at_end()

    @pytest.mark.requirement("RP-7.3-04")
    async def test_the_timeout_of_replay_holds_for_sessions_that_are_set_up_from_then_on(self, serve: Serve) -> None:
        clock, timeout_ns = ManualClock(), [60 * NS]
        served = await serve({VIDEO001: worked_example()}, clock=clock, replay_timeout_ns=lambda: timeout_ns[0])
        before, after = await served.client(), await served.client()
        assert (await before.set_up(PATH, VIDEO001))["Session"].endswith(";timeout=60")
        timeout_ns[0] = 30_500_000_000
        assert (await after.set_up(PATH, VIDEO001))["Session"].endswith(";timeout=30")
        assert (await before.request("GET_PARAMETER", PATH))["Session"].endswith(";timeout=60")
        for client in (before, after):
            await client.request("PLAY", PATH, Rate_Control="no")
        clock.advance(31 * NS)
        await until(lambda: sum(served.store.subscriptions.values()) == 1)
        assert (await after.request("PLAY", PATH)).status == 454
        assert (await before.request("GET_PARAMETER", PATH)).status == 200

    @pytest.mark.requirement("PB-8.7-06")
    async def test_each_session_of_a_connection_has_its_own_timeout(self, serve: Serve) -> None:
        clock, timeout_ns = ManualClock(), [30 * NS]
        served = await serve({VIDEO001: worked_example()}, clock=clock, replay_timeout_ns=lambda: timeout_ns[0])
        client = await served.client()
        sessions = []
        for seconds in (30, 60):
            timeout_ns[0] = seconds * NS
            client.session = None
            await client.set_up(PATH, VIDEO001)
            await client.request("PLAY", PATH, Rate_Control="no")
            sessions.append(client.session)
        clock.advance(31 * NS)
        await until(lambda: sum(served.store.subscriptions.values()) == 1)
        client.session = sessions[0]
        assert (await client.request("PAUSE", PATH)).status == 454
        client.session = sessions[1]
        assert (await client.request("PAUSE", PATH)).status == 200

    @pytest.mark.parametrize("data", ["80c90001 00000007 81cb0001 00000007", "80c90009 00000007", "80000001 00000000"])
    async def test_a_goodbye_and_what_is_no_report_keeps_nothing(self, serve: Serve, data: str) -> None:
        clock = ManualClock()
        served = await serve({VIDEO001: worked_example()}, clock=clock)
        client = await served.client()
        await client.set_up(PATH, VIDEO001)
        clock.advance(40 * NS)
        payload = bytes.fromhex(data)
        client.send(b"$\1" + len(payload).to_bytes(2, "big") + payload + b"RTSP/1.0 200 OK\r\n\r\n")
        for _ in range(20):  # the server reads it; an answer there is none
            await asyncio.sleep(0)
        clock.advance(21 * NS)
        for _ in range(20):
            await asyncio.sleep(0)
        assert (await client.request("PLAY", PATH)).status == 454

    @pytest.mark.requirement("PB-8.7-07")
    @pytest.mark.parametrize("state", ["paused", "stalled"])
    async def test_requests_keep_a_session_that_is_paused_or_whose_client_does_not_read(
        self, serve: Serve, heard: list[int], state: str
    ) -> None:
        clock = ManualClock()
        served = await serve({VIDEO001: big_track()}, payload=50_000, clock=clock)
        client = await served.client(1 << 14)
        await client.set_up(PATH, VIDEO001)
        await client.request("PLAY", PATH, Rate_Control="no")
        sent = 1
        if state == "paused":
            assert (await client.request("PAUSE", PATH)).status == 200
            sent = sum(isinstance(e, Packet) for e in client.log)
        cseqs = []
        for _ in range(5):  # three time-outs and more
            clock.advance(40 * NS)
            cseqs.append(client.write("OPTIONS", PATH))
            # That its answer has been read is not what counts.
            await until(lambda: clock.monotonic_ns() in heard)
        assert sum(served.store.subscriptions.values()) == 1
        answered: list[int] = []
        packets = sent if state == "paused" else 0
        while len(answered) < 5:
            event = await client.event()
            if isinstance(event, Answer):
                assert event.status == 200
                answered.append(int(event["CSeq"]))
            packets += isinstance(event, Packet)
        assert answered == cseqs
        if state == "paused":
            assert (await client.request("PLAY", PATH, Rate_Control="no")).status == 200
        while packets < 400:
            await client.packet()
            packets += 1

    @pytest.mark.requirement("PB-8.7-04", "PB-8.7-05", "PB-8.11-04")
    @pytest.mark.parametrize("sign", ["OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "PLAY", "PAUSE", "RTCP"])
    async def test_any_request_and_any_receiver_report_keeps_the_session(
        self, serve: Serve, heard: list[int], sign: str
    ) -> None:
        clock = ManualClock()
        client = await (await serve({VIDEO001: worked_example()}, clock=clock)).client()
        await client.set_up(PATH, VIDEO001)
        await client.request("PLAY", PATH, Rate_Control="no")
        await client.packets(16)
        for _ in range(6):
            clock.advance(40 * NS)
            if sign == "RTCP":
                client.send(bytes.fromhex("24010008 80c90001 00000007"))
                await until(lambda: clock.monotonic_ns() in heard)  # an answer there is none
            else:
                assert (await client.request(sign, PATH)).status == 200
        assert (await client.request("PAUSE", PATH)).status == 200


class TestHostility:
    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"\x16\x03\x01\x02\x00", 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"OPTIONS " + b"x" * 5000, 414),
            (b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: many\r\n\r\n", 400),
            (b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length 5\r\n\r\n", 400),
            (b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 99999999\r\n\r\n", 413),
        ],
    )
    async def test_what_cannot_be_framed_is_answered_and_the_connection_ends(
        self, serve: Serve, data: bytes, status: int
    ) -> None:
        served = await serve({VIDEO001: worked_example()})
        good, bad = await served.client(), await served.client()
        await good.set_up(PATH, VIDEO001)
        bad.send(data)
        answer = await bad.answer()
        assert (answer.status, answer.header("CSeq")) == (status, "1" if b"CSeq: 1" in data else None)
        assert await bad.at_end()
        assert (await good.request("PLAY", PATH, Rate_Control="no")).status == 200
        await good.packets(16)

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"OPTIONS * RTSP/1.0\r\n\r\n", 400),
            (b"OPTIONS * RTSP/1.0\r\nCSeq: many\r\n\r\n", 400),
            (b"OPTIONS * RTSP/2.0\r\nCSeq: 1\r\n\r\n", 505),
            (b"OPTIONS * RTSP/1.0\r\nCSeq 1\r\n\r\n", 400),
            (b"OPTIONS * RTSP/1.0\r\nno header\r\nCSeq: 7\r\n\r\n", 400),
            (b"PAUSE * RTSP/1.0\r\nCSeq: 7\r\nX: " + b"y" * 5000 + b"\r\n\r\n", 413),
            (b"SET_PARAMETER * RTSP/1.0\r\nCSeq: 7\r\nA B: c\r\nContent-Length: 4\r\n\r\n$\0\0\xff", 400),
            (b"DESCRIBE rtsp://h\0/replay/rec-1 RTSP/1.0\r\nCSeq: 7\r\n\r\n", 400),
            (b"PLAY\r\nCSeq: 7\r\n\r\n", 400),
            (b"OPTIONS * RTSP/1.0\r\nCSeq: 7\r\n" + b"X: y\r\n" * 100 + b"\r\n", 413),
        ],
    )
    async def test_a_bad_request_that_can_be_framed_ends_neither_the_connection_nor_its_sessions(
        self, serve: Serve, data: bytes, status: int
    ) -> None:
        client = await (await serve({VIDEO001: worked_example()})).client()
        await client.set_up(PATH, VIDEO001)
        client.send(data)
        answer = await client.answer()
        assert answer.status == status
        assert answer.header("CSeq") == ("7" if b"CSeq: 7" in data else answer.header("CSeq"))
        assert (await client.request("PLAY", PATH, Rate_Control="no")).status == 200
        await client.packets(16)

    async def test_frames_and_answers_that_nobody_asked_for_are_passed_over(self, serve: Serve) -> None:
        client = await (await serve({})).client()
        client.send(b"$\x00\x00\x03abcRTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\n")
        assert (await client.request("OPTIONS", "*")).status == 200

    async def test_a_connection_that_never_finishes_a_request_ends(self, serve: Serve) -> None:
        clock = ManualClock()
        served = await serve({}, clock=clock)
        client = await served.client()
        client.send(b"OPTIONS * RTSP/1.0\r\nCSeq:")
        await until(lambda: served.server.connections == 1)
        await client.writer.drain()
        for _ in range(5):
            await asyncio.sleep(0)
        clock.advance(61 * NS)
        assert await client.at_end()

    async def test_too_many_connections_are_turned_away(self, serve: Serve) -> None:
        served = await serve({}, settings=RtspSettings(maximum_connections=2))
        first, second = await served.client(), await served.client()
        await first.request("OPTIONS", "*")
        await second.request("OPTIONS", "*")
        third = await served.client()
        assert (await third.answer()).status == 503
        assert await third.at_end()
        assert served.server.refused_connections == 1
        assert (await first.request("OPTIONS", "*")).status == 200

    async def test_too_many_sessions_are_refused(self, serve: Serve) -> None:
        served = await serve({VIDEO001: worked_example()}, settings=RtspSettings(maximum_sessions=2))
        client = await served.client()
        for status in (200, 200, 503):
            answer = await client.request("SETUP", f"{PATH}/{VIDEO001}", Transport="RTP/AVP/TCP")
            assert answer.status == status

    async def test_a_fault_of_the_server_is_answered_500_and_ends_nothing(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        served = await serve({VIDEO001: worked_example()})
        client = await served.client()
        del served.store.tracks[next(iter(served.store.tracks))].fragments_
        assert (await client.request("DESCRIBE", PATH)).status == 500
        assert "DESCRIBE fails" in caplog.text
        assert (await client.request("OPTIONS", "*")).status == 200

    async def test_a_fault_in_the_watch_over_silence_ends_the_connection_and_is_told(
        self, serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: object) -> int:
            raise ArithmeticError("time has run out")

        served = await serve({VIDEO001: worked_example()})
        monkeypatch.setattr(Methods, "remaining_ns", fails)
        client = await served.client()
        client.send(b"OPTIONS * RTSP/1.0\r\n")
        assert await client.at_end()
        assert "the connection is given up" in caplog.text
        assert "time has run out" in caplog.text


class TestBackPressure:
    @pytest.mark.requirement("PB-8.5.3-03", "PB-8.5.3-04", "PB-8.7-01")
    async def test_a_stalled_reader_stops_the_reading_of_footage_and_loses_nothing(self, serve: Serve) -> None:
        track = MemoryTrack().starting_at(TEN)
        for i in range(600):
            track.with_gop([f"I{i}".ljust(100_000, ".")])
        other = worked_example()
        served = await serve({VIDEO001: track.with_end()}, payload=50_000)
        served.add({VIDEO001: other}, RecordingToken("rec-2"))
        stalled = await served.client(1 << 14)
        await stalled.set_up(PATH, VIDEO001)
        await stalled.request("PLAY", PATH, Rate_Control="no")
        reads = -1
        async with asyncio.timeout(10):
            while reads != track.reads:  # until the server has stopped reading ahead
                reads = track.reads
                await asyncio.sleep(0.1)
        assert reads < 300  # kernel buffers, the write buffer and two batches, not 60 MB
        # Others are served meanwhile, and so are requests of the client that does not read.
        free = await served.client()
        await free.set_up("/replay/rec-2", VIDEO001)
        await free.request("PLAY", "/replay/rec-2", Rate_Control="no")
        assert len(await free.packets(12)) == 12
        cseq = stalled.write("GET_PARAMETER", PATH)
        packets: list[Packet] = []
        answered = False
        while len(packets) < 1200 or not answered:
            event = await stalled.event()
            if isinstance(event, Packet):
                packets.append(event)
            else:
                answered = answered or (not isinstance(event, tuple) and event["CSeq"] == str(cseq))
        assert [p.seq for p in packets] == [(packets[0].seq + i) & 0xFFFF for i in range(1200)]

    @pytest.mark.requirement("PB-8.7-01")
    async def test_a_stalled_reader_can_tear_its_session_down(self, serve: Serve) -> None:
        served = await serve({VIDEO001: big_track()}, payload=50_000)
        client = await served.client(1 << 14)
        await client.set_up(PATH, VIDEO001)
        await client.request("PLAY", PATH, Rate_Control="no")
        client.write("TEARDOWN", PATH)
        await until(lambda: not sum(served.store.subscriptions.values()))
        assert (await client.answer()).status == 200

    @pytest.mark.requirement("PB-8.7-08")
    async def test_a_lost_connection_frees_everything(self, serve: Serve) -> None:
        served = await serve({VIDEO001: big_track()}, payload=50_000)
        client = await served.client(1 << 14)
        await client.set_up(PATH, VIDEO001)
        await client.request("PLAY", PATH, Rate_Control="no")
        client.writer.transport.abort()
        await until(lambda: not served.server.connections)
        assert sum(served.store.subscriptions.values()) == 0

    async def test_stop_ends_players_and_stalled_connections_without_cutting_them_off(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("nvr.replay.server.STOP_S", 60)
        served = await serve({VIDEO001: big_track()}, payload=50_000)
        stalled, idle = await served.client(1 << 14), await served.client()
        await stalled.set_up(PATH, VIDEO001)
        await stalled.request("PLAY", PATH, Rate_Control="no")
        await idle.request("OPTIONS", "*")
        async with asyncio.timeout(30):
            await served.server.stop()
        assert served.server.connections == 0
        assert await idle.at_end()

    async def test_stop_cuts_off_what_does_not_end(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("nvr.replay.server.STOP_S", 0.05)
        at_end = asyncio.Event()
        running: list[int] = []

        async def stubborn(self: Connection) -> None:
            running.append(1)
            while not at_end.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await at_end.wait()

        monkeypatch.setattr(Connection, "run", stubborn)
        served = await serve({})
        client = await served.client()
        client.write("OPTIONS")
        await until(lambda: running == [1])
        async with asyncio.timeout(30):
            await served.server.stop()
        assert await client.at_end()
        assert "1 RTSP connections do not end and are cut off" in caplog.text
        at_end.set()
        await until(lambda: served.server.connections == 0)
