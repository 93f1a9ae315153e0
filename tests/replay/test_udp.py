"""UDP: ports, where datagrams may go, how fast they leave, and what comes back from the client."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvr.media.rtcp import Bye, ReceiverReport, SenderReport, parse_compound
from nvr.media.rtsp.transport import parse_transport
from nvr.model.errors import LimitReached, OperatorError
from nvr.model.time import NS
from nvr.model.tokens import AUDIO001, VIDEO001, TrackKey
from nvr.replay.server import RtspSettings
from nvr.replay.status import RequestRefused
from nvr.replay.udp import ANSWER_NS, BURST_BYTES, OVERHEAD, UdpPorts, UdpTransport, Unreachable
from tests.replay.conftest import PATH, TEN, TOKEN, Serve, sound, worked_example
from tests.support.replay_store import ManualClock, MemoryTrack
from tests.support.rtsp_client import Answer, RtspClient, until
from tests.support.udp_client import ClientPorts

SSRC = 0x01020304


@pytest.fixture
def ports() -> Iterator[ClientPorts]:
    with ClientPorts() as pair:
        yield pair


@pytest.fixture
def more_ports() -> Iterator[ClientPorts]:
    with ClientPorts() as pair:
        yield pair


def pair_of(answer: Answer, name: str) -> tuple[int, int]:
    found = re.search(rf"{name}=(\d+)-(\d+)", answer["Transport"])
    assert found is not None, answer["Transport"]
    return int(found[1]), int(found[2])


async def set_up(client: RtspClient, ports: ClientPorts, track: str = VIDEO001, more: str = "") -> Answer:
    """`more`: what is offered behind UDP."""
    answer = await client.request("SETUP", f"{PATH}/{track}", Transport=ports.transport + more)
    assert answer.status == 200
    client.session = answer["Session"].partition(";")[0]
    return answer


class TestSessions:
    @pytest.mark.requirement("PB-8.1-02", "PB-8.1-30", "PB-8.5.3-07")
    async def test_a_recording_comes_by_udp_with_every_packet_and_flag(self, serve: Serve, ports: ClientPorts) -> None:
        client = await (await serve({VIDEO001: worked_example()})).client()
        answer = await set_up(client, ports, more=",RTP/AVP/TCP;unicast;interleaved=0-1")
        assert pair_of(answer, "client_port") == (ports.first, ports.first + 1)
        first, second = pair_of(answer, "server_port")
        assert (first % 2, second) == (0, first + 1)
        ssrc = re.search(r"ssrc=([0-9A-F]{8})", answer["Transport"])
        assert ssrc is not None
        assert "source=127.0.0.1" in answer["Transport"]
        assert (await client.request("PLAY", PATH, Rate_Control="no")).status == 200
        packets = await ports.packets(16)
        assert {p.ssrc for p in packets} == {int(ssrc[1], 16)}
        assert [p.seq for p in packets] == [(packets[0].seq + i) & 0xFFFF for i in range(16)]
        assert b"".join(p.payload for p in packets).startswith(b"I0....P1P2I3....")
        assert [p.flags for p in packets if p.word3 is not None and "E" in p.flags] == ["E", "ET"]

    @pytest.mark.requirement("PB-8.5.1-13")
    async def test_two_tracks_have_ports_of_their_own_and_bye_ends_each(
        self, serve: Serve, ports: ClientPorts, more_ports: ClientPorts
    ) -> None:
        served = await serve({VIDEO001: worked_example(), AUDIO001: sound()})
        client = await served.client()
        await set_up(client, ports)
        await set_up(client, more_ports, AUDIO001)
        assert served.server.udp_streams == 2
        await client.request("PLAY", PATH, Rate_Control="no")
        video, audio = await ports.packets(16), await more_ports.packets(2)
        assert {p.payload_type for p in video} == {96}
        assert {p.payload_type for p in audio} == {97}
        assert (await client.request("TEARDOWN", PATH)).status == 200
        for pair, ssrc in ((ports, video[0].ssrc), (more_ports, audio[0].ssrc)):
            assert isinstance(parse_compound(await pair.report())[0], SenderReport)
            assert parse_compound(await pair.report()) == [ReceiverReport(ssrc, ()), Bye((ssrc,))]
        assert served.server.udp_streams == 0

    @pytest.mark.requirement("PB-8.2-08")
    async def test_what_is_played_of_a_recording_that_is_deleted_meanwhile_is_paused_and_ended(
        self, serve: Serve, ports: ClientPorts
    ) -> None:
        served = await serve({VIDEO001: worked_example()})
        client = await served.client()
        await set_up(client, ports)
        assert (await client.request("PLAY", PATH, Range="npt=0-")).status == 200
        await ports.packet()
        served.recordings.clear()
        del served.store.tracks[TrackKey(TOKEN, VIDEO001)]
        paused = await client.request("PAUSE", PATH)
        assert (paused.status, paused["Range"].partition("=")[0]) == (200, "npt")
        for method in ("PLAY", "DESCRIBE"):
            assert (await client.request(method, PATH)).status == 404
        assert (await client.request("PAUSE", "/replay/another")).status == 454
        assert (await client.request("TEARDOWN", f"{PATH}/VIDEO001")).status == 200
        assert (served.server.udp_streams, sum(served.store.subscriptions.values())) == (0, 0)

    @pytest.mark.requirement("PB-8.11-02")
    async def test_sender_reports_come_on_the_port_above(self, serve: Serve, ports: ClientPorts) -> None:
        client = await (await serve({VIDEO001: worked_example()})).client()
        answer = await set_up(client, ports)
        await client.request("PLAY", PATH)
        report = parse_compound(await ports.report())[0]
        assert isinstance(report, SenderReport)
        packet = await ports.packet()
        assert report.ssrc == packet.ssrc
        assert ports.rtcp.getsockname()[1] == pair_of(answer, "client_port")[1]

    async def test_paced_datagrams_do_not_overtake_the_answer_to_play(self, serve: Serve, ports: ClientPorts) -> None:
        """GStreamer's jitter buffer would take the unit behind the answer for the first of the range, and stop."""
        clock = ManualClock()
        client = await (await serve({VIDEO001: worked_example()}, clock=clock)).client()
        await set_up(client, ports)
        await client.request("PLAY", PATH)
        assert (await client.request("GET_PARAMETER", PATH)).status == 200
        assert ports.waiting() == []
        await client.request("PAUSE", PATH)
        resumed = await client.request("PLAY", PATH)
        assert "20260101T100000Z" in resumed["Range"]
        clock.advance(ANSWER_NS - 1)
        assert (await client.request("GET_PARAMETER", PATH)).status == 200
        assert ports.waiting() == []
        clock.advance(1)
        packets = await ports.packets(2)
        assert b"".join(p.payload for p in packets) == b"I0...."
        assert f"seq={packets[0].seq};" in resumed["RTP-Info"]

    @pytest.mark.requirement("PB-8.7-05", "PB-8.11-04")
    async def test_receiver_reports_alone_keep_the_session_and_silence_ends_it(
        self, serve: Serve, ports: ClientPorts
    ) -> None:
        clock = ManualClock()
        served = await serve({VIDEO001: worked_example()}, clock=clock)
        client = await served.client()
        port = pair_of(await set_up(client, ports), "server_port")[1]
        for _ in range(4):
            clock.advance(40 * NS)
            ports.send_receiver_report(port)
            for _ in range(20):
                await asyncio.sleep(0)
        assert served.server.udp_streams == 1
        ports.rtcp.sendto(b"no RTCP", ("127.0.0.1", port))
        clock.advance(61 * NS)
        await until(lambda: served.server.udp_streams == 0)
        assert (await client.request("PLAY", PATH)).status == 454

    async def test_the_end_of_the_connection_ends_the_datagrams(self, serve: Serve, ports: ClientPorts) -> None:
        served = await serve({VIDEO001: worked_example()})
        client = await served.client()
        await set_up(client, ports)
        await client.request("PLAY", PATH)
        await client.close()
        await until(lambda: served.server.udp_streams == 0)
        while not any(isinstance(p, Bye) for p in parse_compound(await ports.report())):
            pass

    async def test_a_stream_that_is_set_up_again_changes_its_ports(
        self, serve: Serve, ports: ClientPorts, more_ports: ClientPorts
    ) -> None:
        served = await serve({VIDEO001: worked_example()})
        client = await served.client()
        await set_up(client, ports)
        await set_up(client, more_ports)
        assert served.server.udp_streams == 1
        await client.request("PLAY", PATH, Rate_Control="no")
        await more_ports.packets(16)
        assert ports.waiting() == []

    async def test_streams_of_a_session_travel_alike(self, serve: Serve, ports: ClientPorts) -> None:
        served = await serve({VIDEO001: worked_example(), AUDIO001: sound()})
        client = await served.client()
        await set_up(client, ports)
        mixed = await client.request("SETUP", f"{PATH}/{AUDIO001}", Transport="RTP/AVP/TCP;unicast;interleaved=0-1")
        assert mixed.status == 461
        assert served.server.udp_streams == 1

    @pytest.mark.parametrize(
        "transport",
        [
            "RTP/AVP;unicast",
            "RTP/AVP;unicast;client_port=53-54",
            "RTP/AVP;unicast;client_port=0-1",
            "RTP/AVP;unicast;client_port=5000-5000",
            "RTP/AVP;unicast;client_port=5000-5001;destination=192.0.2.1",
            "RTP/AVP;unicast;client_port=5000-5001;destination=somewhere.example",
            'RTP/AVP;unicast;client_port=5000-5001;mode="RECORD"',
        ],
    )
    async def test_nobody_is_sent_what_he_has_not_asked_for(self, serve: Serve, transport: str) -> None:
        served = await serve({VIDEO001: worked_example()})
        client = await served.client()
        assert (await client.request("SETUP", f"{PATH}/{VIDEO001}", Transport=transport)).status == 461
        assert served.server.udp_streams == 0

    async def test_a_client_may_name_itself_as_destination(self, serve: Serve, ports: ClientPorts) -> None:
        client = await (await serve({VIDEO001: worked_example()})).client()
        answer = await client.request(
            "SETUP", f"{PATH}/{VIDEO001}", Transport=f"{ports.transport};destination=127.0.0.1"
        )
        assert answer.status == 200

    async def test_ipv6_has_ports_of_its_own_family(self, serve: Serve) -> None:
        served = await serve({VIDEO001: worked_example()})
        try:
            port = await served.server.start("::1", 0)
        except OperatorError as e:
            pytest.skip(f"no IPv6 here: {e}")
        client = await RtspClient.connect(port, host="::1")
        with ClientPorts("::1") as ports:
            answer = await set_up(client, ports)
            assert "source=::1" in answer["Transport"]
            await client.request("PLAY", PATH, Rate_Control="no")
            assert len(await ports.packets(16)) == 16
        await client.close()

    async def test_there_are_no_more_streams_than_the_settings_allow(self, serve: Serve, ports: ClientPorts) -> None:
        served = await serve({VIDEO001: worked_example()}, settings=RtspSettings(maximum_udp_streams=1))
        client = await served.client()
        for status in (200, 503):
            answer = await client.request("SETUP", f"{PATH}/{VIDEO001}", Transport=ports.transport)
            assert answer.status == status

    async def test_a_pause_in_the_middle_of_a_burst_loses_nothing(self, serve: Serve, ports: ClientPorts) -> None:
        """The picture is larger than what may leave at once, and the clock stands still while PAUSE comes."""
        clock = ManualClock()
        picture = "I0".ljust(3 * BURST_BYTES, ".")
        track = MemoryTrack().starting_at(TEN).with_gop([picture, "P1"]).with_end()
        served = await serve({VIDEO001: track}, payload=1000, clock=clock)
        client = await served.client()
        await set_up(client, ports)
        await client.request("PLAY", PATH, Rate_Control="no")
        first = await ports.packets(10)
        cseq = client.write("PAUSE", PATH)
        payload = b"".join(p.payload for p in first)
        last = first[-1]
        while len(payload) < len(picture):
            for packet in ports.waiting():
                assert packet.seq == (last.seq + 1) & 0xFFFF
                payload, last = payload + packet.payload, packet
            clock.advance(NS // 1000)
            await asyncio.sleep(0)
        answer = await client.answer()
        assert (answer.status, answer["CSeq"]) == (200, str(cseq))
        assert payload.startswith(picture.encode())


class Bare:
    """A transport with one stream, without a server."""

    def __init__(self, ports: ClientPorts, clock: ManualClock, rate: int = 1_000_000) -> None:
        self.heard = 0
        self.transport = UdpTransport(clock, rate, self._hear, "test")
        self.server_ports = UdpPorts(4)
        pair = self.server_ports.open("127.0.0.1", "127.0.0.1", (ports.first, ports.first + 1))
        self.server = pair.ports
        self.transport.add(0, SSRC, pair)

    def _hear(self) -> None:
        self.heard += 1


def packet(number: int, size: int = 1000, ssrc: int = SSRC) -> bytes:
    head = bytes((0x80, 96)) + number.to_bytes(2, "big") + bytes(4) + ssrc.to_bytes(4, "big")
    return head.ljust(size, b".")


class TestRate:
    @pytest.mark.requirement("PB-8.5.3-07")
    async def test_no_more_leaves_than_the_bucket_holds_and_the_rate_fills(self, ports: ClientPorts) -> None:
        clock, step = ManualClock(), NS // 200
        bare = Bare(ports, clock)
        count = 300
        work = asyncio.create_task(bare.transport.send([packet(i) for i in range(count)]))
        came = 0
        steps = 0
        while not work.done():
            for _ in range(5):
                await asyncio.sleep(0)
            came += len(ports.waiting())
            allowed = BURST_BYTES + steps * step * 1_000_000 // NS
            assert came * (1000 + OVERHEAD) <= allowed + 1000 + OVERHEAD
            clock.advance(step)
            steps += 1
        await work
        came += len(ports.waiting())
        assert came == count
        assert bare.transport.lost == 0
        bare.transport.close()

    async def test_a_small_unit_leaves_at_once(self, ports: ClientPorts) -> None:
        bare = Bare(ports, ManualClock())
        await bare.transport.send([packet(1), packet(2)])
        assert [p.seq for p in await ports.packets(2)] == [1, 2]
        bare.transport.close()

    async def test_a_full_send_buffer_is_waited_for_once_and_then_all_of_the_burst_is_given_up(
        self, ports: ClientPorts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """PAUSE and TEARDOWN wait for what is being sent: a wait for each of its packets would be a minute."""
        bare = Bare(ports, ManualClock())
        waits: list[bytes] = []

        async def never(self: UdpTransport, packet: bytes) -> bool:
            waits.append(packet)
            return False

        with monkeypatch.context() as stuck:
            stuck.setattr(UdpTransport, "_until_writable", never)
            stuck.setattr(UdpTransport, "_put", lambda *_: 0)
            await bare.transport.send([packet(i) for i in range(20)])
        assert (bare.transport.lost, len(waits)) == (20, 1)
        await bare.transport.send([packet(20)])
        assert [p.seq for p in await ports.packets(1)] == [20]
        bare.transport.close()

    async def test_who_is_told_twice_to_stop_sends_nothing_more(self, ports: ClientPorts) -> None:
        bare = Bare(ports, ManualClock(), 100_000)
        work = asyncio.create_task(bare.transport.send([packet(i) for i in range(200)]))
        for _ in range(2):
            for _ in range(5):
                await asyncio.sleep(0)
            work.cancel()
        await asyncio.wait({work})
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        bare.transport.close()


class TestSegments:
    @given(st.lists(st.tuples(st.integers(12, 60), st.booleans()), min_size=1, max_size=150))
    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @pytest.mark.parametrize("segments", [True, False])
    async def test_datagrams_are_the_same_however_many_go_in_one_call(
        self, ports: ClientPorts, more_ports: ClientPorts, segments: bool, shape: list[tuple[int, bool]]
    ) -> None:
        bare = Bare(ports, ManualClock())
        other = bare.server_ports.open("127.0.0.1", "127.0.0.1", (more_ports.first, more_ports.first + 1))
        bare.transport.add(1, SSRC + 1, other)
        for _, pair in bare.transport._pairs.values():
            pair.segments = pair.segments and segments
        sent = [packet(i, size, SSRC + second) for i, (size, second) in enumerate(shape)]
        await bare.transport.send(sent)
        came = [p.raw for pair in (ports, more_ports) for p in pair.waiting()]
        assert came == [p for ssrc in (SSRC, SSRC + 1) for p in sent if p[8:12] == ssrc.to_bytes(4, "big")]
        bare.transport.close()
        for pair in (ports, more_ports):  # the BYE
            await pair.report()

    async def test_a_way_that_cannot_have_several_gets_them_one_by_one(
        self, ports: ClientPorts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bare = Bare(ports, ManualClock())
        (pair,) = (pair for _, pair in bare.transport._pairs.values())
        pair.segments = True

        class NoSegments:
            def __init__(self, sock: socket.socket) -> None:
                self.send, self.fileno, self.close = sock.send, sock.fileno, sock.close

            def sendmsg(self, *_: object) -> int:
                raise OSError(errno.EIO, "no checksums")

        pair.rtp = NoSegments(pair.rtp)  # type: ignore[assignment]
        await bare.transport.send([packet(i) for i in range(5)])
        assert [p.seq for p in ports.waiting()] == list(range(5))
        assert (pair.segments, bare.transport.lost) == (False, 0)
        bare.transport.close()


class TestUnreachable:
    async def test_a_port_without_anybody_ends_the_session_behind_ten_seconds_and_not_before(self) -> None:
        clock = ManualClock()
        with ClientPorts() as gone:
            bare = Bare(gone, clock, 100_000_000)
        for number in range(20):
            clock.advance(NS // 4)
            await bare.transport.send([packet(number)])

        async def go_on() -> None:
            for number in range(60):
                clock.advance(NS // 4)
                await bare.transport.send([packet(number)])

        with pytest.raises(Unreachable, match="nobody has listened"):
            await go_on()
        bare.transport.close()
        assert bare.server_ports.taken == 0

    async def test_single_refusals_are_passed_over_for_ever(self) -> None:
        clock = ManualClock()
        with ClientPorts() as gone:
            bare = Bare(gone, clock, 100_000_000)
        for number in range(40):
            clock.advance(3 * NS)
            await bare.transport.send([packet(number)])
        bare.transport.close()

    async def test_a_session_whose_client_has_left_its_ports_is_given_up(self, serve: Serve) -> None:
        clock = ManualClock()
        track = MemoryTrack().starting_at(TEN).with_gop([f"I{i}" for i in range(100)], NS // 4).with_end()
        served = await serve({VIDEO001: track}, clock=clock)
        client = await served.client()
        with ClientPorts() as gone:
            await set_up(client, gone)
        await client.request("PLAY", PATH)
        async with asyncio.timeout(10):
            while served.server.udp_streams:
                clock.advance(NS // 4)
                for _ in range(5):
                    await asyncio.sleep(0)
        assert (await client.request("PAUSE", PATH)).status == 454


class TestReading:
    async def test_only_rtcp_from_the_port_that_was_named_is_a_sign_of_life(
        self, ports: ClientPorts, more_ports: ClientPorts
    ) -> None:
        bare = Bare(ports, ManualClock())
        more_ports.send_receiver_report(bare.server[1])  # somebody else: the kernel drops it
        ports.rtcp.sendto(b"\x80\xc9\x00\x09garbage", ("127.0.0.1", bare.server[1]))
        ports.send_receiver_report(bare.server[1])
        await until(lambda: bare.heard > 0)
        assert bare.heard == 1
        ports.rtcp.sendto(bytes(ReceiverReport(7, ())) + bytes(Bye((7,))), ("127.0.0.1", bare.server[1]))
        ports.send_receiver_report(bare.server[1])  # who says goodbye is not there any more
        await until(lambda: bare.heard == 2)
        bare.transport.close()


def free_range(first: int) -> tuple[int, int] | None:
    """Four ports from `first` on, all free."""
    held = []
    try:
        for port in range(first, first + 4):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            held.append(sock)
            sock.bind(("127.0.0.1", port))
    except OSError:
        return None
    finally:
        for sock in held:
            sock.close()
    return first, first + 3


class TestPorts:
    def opened(self, ports: UdpPorts, count: int) -> Iterator[Callable[[], None]]:
        for _ in range(count):
            yield ports.open("127.0.0.1", "127.0.0.1", (40_000, 40_001)).close

    def test_pairs_come_from_the_range_of_the_settings_and_go_back(self) -> None:
        found = next(r for first in range(20_001, 60_000, 10) if (r := free_range(first)) is not None)
        ports = UdpPorts(10, found)  # an odd first port is left out: one pair and a half
        pair = ports.open("127.0.0.1", "127.0.0.1", (40_000, 40_001))
        assert pair.ports == (found[0] + 1, found[0] + 2)
        with pytest.raises(RequestRefused, match="all of them are taken"):
            ports.open("127.0.0.1", "127.0.0.1", (40_000, 40_001))
        assert ports.taken == 1
        pair.close()
        pair.close()
        assert ports.taken == 0
        ports.open("127.0.0.1", "127.0.0.1", (40_000, 40_001)).close()

    def test_their_number_is_bounded(self) -> None:
        ports = UdpPorts(2)
        closers = list(self.opened(ports, 2))
        with pytest.raises(LimitReached):
            ports.open("127.0.0.1", "127.0.0.1", (40_000, 40_001))
        for close in closers:
            close()

    def test_an_address_that_is_not_ours_is_no_place_to_send_from(self) -> None:
        with pytest.raises(RequestRefused, match="no UDP ports at"):
            UdpPorts(2).open("192.0.2.1", "127.0.0.1", (40_000, 40_001))
        with pytest.raises(RequestRefused, match="no UDP ports at"):
            UdpPorts(2).open("127.0.0.1", "::1", (40_000, 40_001)).close()

    @pytest.mark.parametrize("ports", [(1, 2), (5000,), (5001, 5000), (5000, 70_000), (5001, 5002)])
    def test_a_range_that_is_none_is_refused_at_start(self, ports: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="udp_ports must be"):
            RtspSettings(udp_ports=ports)


def test_what_ffmpeg_and_gstreamer_offer_is_understood() -> None:
    (offer,) = parse_transport("RTP/AVP/UDP;unicast;client_port=15440-15441")
    assert (offer.protocol, offer.client_port) == ("RTP/AVP", (15440, 15441))
