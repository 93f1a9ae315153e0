"""RTP over UDP: what is recorded of what a network does to datagrams, whose they must be, and when TCP takes over."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.ingest.engine import IngestEngine
from nvr.ingest.settings import IngestSettings
from nvr.ingest.stream import StreamReceiver
from nvr.ingest.udp import PATIENCE_NS, UdpMedia
from nvr.media import codecs
from nvr.media.rtcp import ReceiverReport
from nvr.model.errors import SourceError
from nvr.model.job import RecordingJobState
from nvr.model.receiver import ReceiverState, Reception, TransportProtocol
from nvr.model.timeline import GapReason
from nvr.model.tokens import JobToken, ReceiverToken
from tests.ingest.test_transports import has_ipv6, server_context
from tests.support.camera import Camera, UdpLeg, h264_track, key_frame, pcmu_track, picture
from tests.support.ingest import MS, QUICK, FakeStorage, a_job, a_receiver, a_recording, a_source, key, until

JOB, RECEIVER = JobToken("job-1"), ReceiverToken("rcv-1")
HOST = "127.0.0.1"


# -- the sockets alone, under a clock that the test moves --------------------------------------------------------------


class Wire:
    """One H.264 stream between a camera's sockets and ours."""

    def __init__(self, settings: IngestSettings | None = None, *, announced: bool = True) -> None:
        self.track = h264_track()
        depacketizer = codecs.depacketizer_for("H264", 90_000, None, dict(p.split("=", 1) for p in self._fmtp()))
        self.receiver = StreamReceiver(96, 90_000, depacketizer)
        self.receiver.take = True
        self.rtcp: list[bytes] = []
        self.media = UdpMedia(
            (HOST, 0), (HOST, 554), settings or IngestSettings(), lambda receiver, data: self.rtcp.append(data)
        )
        self.ports = self.media.open(self.receiver)
        self.camera = UdpLeg.towards(HOST, self.ports)
        self.media.answered(
            self.receiver, self.camera.server_ports() if announced else None, None, self.track.ssrc, 0x77
        )
        self.now = 1000 * MS
        self.buffer = memoryview(bytearray(1 << 20))

    def _fmtp(self) -> list[str]:
        assert self.track.fmtp is not None
        return self.track.fmtp.split(";")

    def visit(self, after_ms: int = 0) -> None:
        self.now += after_ms * MS
        while self.media.drain(self.buffer, self.now):
            pass

    def taken(self) -> list[bytes]:
        return [u.data for u in self.receiver.units]

    def close(self) -> None:
        self.media.close()
        self.camera.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


def test_ports_are_an_even_one_and_the_next(wire: Wire) -> None:
    first, second = wire.ports
    assert first % 2 == 0
    assert second == first + 1


def test_packets_that_arrive_out_of_order_are_put_in_order(wire: Wire) -> None:
    wire.camera.send(wire.track.unit(picture(0), 0)[0])
    packets = wire.track.unit(key_frame(1, 6000), 3600)
    for n in (1, 0, 3, 2, *range(4, len(packets))):
        wire.camera.send(packets[n])
    wire.visit()
    assert wire.taken() == [picture(0), key_frame(1, 6000)]
    assert wire.receiver.lost == 0
    assert wire.receiver.order.reordered == 2


def test_a_packet_that_is_late_by_one_visit_is_waited_for(wire: Wire) -> None:
    packets = wire.track.unit(key_frame(1, 6000), 0)
    for packet in (*packets[:2], *packets[3:]):
        wire.camera.send(packet)
    wire.visit()
    assert wire.taken() == []
    wire.camera.send(packets[2])
    wire.visit(after_ms=30)
    assert wire.taken() == [key_frame(1, 6000)]
    assert wire.receiver.lost == 0


def test_a_packet_that_does_not_come_is_given_up_behind_its_time(wire: Wire) -> None:
    wire.camera.send(wire.track.unit(picture(0), 0)[0])
    wire.track.skip(1)
    wire.camera.send(wire.track.unit(picture(2), 7200)[0])
    wire.visit()
    assert (wire.receiver.lost, len(wire.taken())) == (0, 1)
    wire.visit(after_ms=99)
    assert wire.receiver.lost == 0
    wire.visit(after_ms=1)
    assert wire.receiver.lost == 1
    assert [u.damaged for u in wire.receiver.units] == [True, True]


def test_what_waits_for_a_late_packet_is_kept_at_the_end(wire: Wire) -> None:
    wire.camera.send(wire.track.unit(picture(0), 0)[0])
    wire.track.skip(1)
    wire.camera.send(wire.track.unit(picture(2), 7200)[0])
    wire.visit()
    wire.receiver.flush()
    assert wire.taken() == [picture(0), picture(2)]


def test_datagrams_that_come_twice_are_taken_once(wire: Wire) -> None:
    for packet in wire.track.unit(key_frame(0), 0):
        wire.camera.send(packet)
        wire.camera.send(packet)
    wire.visit()
    assert wire.taken() == [key_frame(0)]
    assert wire.receiver.order.duplicates + wire.receiver.order.late == wire.receiver.packets


def test_what_is_no_rtp_is_counted_and_disturbs_nothing(wire: Wire) -> None:
    packets = wire.track.unit(key_frame(0), 0)
    junk = [b"", b"$", b"\x80", b"\x00" * 40, b"$\x00\x00\x10" + b"\x80" * 60, b"RTSP/1.0 200 OK\r\n\r\n"]
    for packet in packets:
        for datagram in junk:
            wire.camera.send(datagram)
        wire.camera.send(packet)
    wire.visit()
    assert wire.taken() == [key_frame(0)]
    assert wire.media.bad == len(junk) * len(packets)


def test_datagrams_of_others_are_left_aside_before_and_after_the_camera_is_known(wire: Wire) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.2", 0))
        forged = bytes(wire.track.unit(picture(99), 0)[0])
        wire.track.skip(-1)
        for _ in range(2):
            stranger.sendto(forged, (HOST, wire.ports[0]))
        wire.camera.send(wire.track.unit(picture(0), 0)[0])
        stranger.sendto(forged, (HOST, wire.ports[0]))
        wire.visit()
        assert wire.taken() == [picture(0)]
        assert wire.media.foreign == 3
        for _ in range(3):
            stranger.sendto(forged, (HOST, wire.ports[0]))
            stranger.sendto(wire.track.sender_report(0, 0), (HOST, wire.ports[1]))
        wire.camera.send(wire.track.unit(picture(1), 3600)[0])
        wire.visit()
    assert wire.taken() == [picture(0), picture(1)]
    assert wire.rtcp == []


def test_an_older_session_of_the_same_camera_is_not_taken_for_the_new_one(wire: Wire) -> None:
    older = UdpLeg.towards(HOST, wire.ports)
    old = h264_track(ssrc=0x4444)
    try:
        for n in range(3):
            older.send(old.unit(picture(100 + n), n * 3600)[0])
        wire.visit()
        wire.camera.send(wire.track.unit(picture(0), 0)[0])
        older.send(old.unit(picture(103), 0)[0])
        wire.visit(after_ms=30)
    finally:
        older.close()
    assert wire.taken() == [picture(0)]


def test_a_camera_that_sends_from_another_port_than_it_has_said_is_taken_behind_a_second(wire: Wire) -> None:
    other = UdpLeg.towards(HOST, wire.ports)
    try:
        other.send(wire.track.unit(picture(0), 0)[0])
        wire.visit()
        assert wire.taken() == []
        other.send(wire.track.unit(picture(1), 3600)[0])
        wire.visit(after_ms=PATIENCE_NS // MS)
    finally:
        other.close()
    assert wire.taken() == [picture(1)]


def test_packets_of_ours_open_the_way_and_reports_go_to_the_announced_port(wire: Wire) -> None:
    opening = wire.camera.rtp.recv(100)
    assert opening[0] == 0x80
    assert len(opening) == 12
    assert wire.camera.rtcp.recv(100) == bytes(ReceiverReport(0x77))
    wire.media.send_report(wire.receiver, b"report")
    assert wire.camera.rtcp.recv(100) == b"report"


def test_without_an_announced_port_reports_go_beside_the_port_that_packets_come_from() -> None:
    wire = Wire(announced=False)
    try:
        wire.media.send_report(wire.receiver, b"nowhere yet")
        wire.camera.send(wire.track.unit(picture(0), 0)[0])
        wire.visit()
        [leg] = wire.media._legs
        assert leg.to_rtcp == (HOST, wire.camera.server_ports()[0] + 1)
        assert wire.taken() == [picture(0)]
    finally:
        wire.close()


def test_icmp_answers_of_a_camera_that_is_gone_are_no_fault(wire: Wire) -> None:
    wire.camera.send(wire.track.unit(picture(0), 0)[0])
    wire.visit()
    wire.camera.close()
    for _ in range(3):
        wire.media.punch(0x77)
        wire.media.send_report(wire.receiver, b"x")
        wire.visit()
    assert wire.taken() == [picture(0)]


@given(datagrams=st.lists(st.binary(max_size=60) | st.binary(max_size=60).map(lambda b: b"\x80\x60" + b), max_size=20))
@settings(max_examples=40, deadline=None)
def test_no_datagrams_break_the_loop_and_the_stream_goes_on(datagrams: list[bytes]) -> None:
    wire = Wire()
    try:
        wire.camera.send(wire.track.unit(picture(0), 0)[0])
        wire.visit()
        for datagram in datagrams:
            wire.camera.send(datagram)
            wire.camera.send(datagram, rtcp=True)
        wire.visit()
        for n in range(1, 4):  # a packet that fits nowhere may look like another source until two have followed
            wire.camera.send(wire.track.unit(picture(n), n * 3600)[0])
        wire.visit(after_ms=200)
        assert picture(3) in wire.taken()
    finally:
        wire.close()


def test_more_than_a_batch_is_taken_in_several_turns(wire: Wire) -> None:
    sent = [picture(n, 20) for n in range(600)]
    for n, data in enumerate(sent):
        wire.camera.send(wire.track.unit(data, n * 3600)[0])
    assert wire.media.drain(wire.buffer, wire.now) is True
    wire.visit()
    assert wire.taken() == sent


def test_ports_are_taken_from_the_range_of_the_settings_and_its_end_is_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        base = probe.getsockname()[1] & ~1
    settings = IngestSettings(udp_first_port=base, udp_last_port=base + 1)
    try:
        wire = Wire(settings)
    except SourceError:
        pytest.skip("somebody else has taken the port meanwhile")
    try:
        assert wire.ports == (base, base + 1)
        with pytest.raises(SourceError, match=rf"no pair of UDP ports is free between {base} and {base + 1}"):
            wire.media.open(StreamReceiver(0, 8000, None))
    finally:
        wire.close()


@pytest.mark.parametrize("ports", [(5, 5), (5000, 5000), (6000, 5000), (0, 7000), (65_535, 65_535)])
def test_a_range_without_a_pair_is_refused(ports: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="udp_first_port"):
        IngestSettings(udp_first_port=ports[0], udp_last_port=ports[1])


# -- the engine over UDP -----------------------------------------------------------------------------------------------


class House:
    def __init__(self, settings: IngestSettings = QUICK) -> None:
        self.storage = FakeStorage()
        self.engine = IngestEngine(self.storage, settings)

    def record(self, uri: str, protocol: TransportProtocol = TransportProtocol.UDP, *tracks: tuple[str, str]) -> None:
        lines = tracks or (("", "VIDEO001"),)
        self.engine.apply([a_recording()], [a_job(a_source("rcv-1", *lines))], [a_receiver(uri, protocol=protocol)])

    def state(self) -> tuple[RecordingJobState, str]:
        track = self.engine.job_state(JOB).sources[0].tracks[0]
        return track.state, track.error or ""


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    await house.engine.start()
    yield house
    await house.engine.stop()


def transports(camera: Camera) -> list[str]:
    return [(r.headers.get("Transport") or "").split(";")[0] for r in camera.requests if r.method == "SETUP"]


@pytest.mark.requirement("RX-10.1-06", "RX-10.1-02")
async def test_a_stream_setup_for_udp_is_recorded_over_udp(house: House) -> None:
    video, audio = h264_track(), pcmu_track()
    async with Camera([video, audio]) as camera:
        house.record(camera.uri, TransportProtocol.UDP, ("", "VIDEO001"), ("", "AUDIO001"))
        await camera.playing()
        now = time.time_ns()
        for track in (video, audio):
            camera.send_report(track, now, 0)
        for n in range(60):
            camera.send_unit(video, key_frame(n) if n % 25 == 0 else picture(n), n * 3600)
            camera.send_packets(audio, [audio.packet(bytes([n]) * 160, n * 160)])
        await until(lambda: house.engine.counters()[RECEIVER].packets == 126)
        assert house.state() == (RecordingJobState.ACTIVE, "")
        await house.engine.stop()
        assert camera.methods()[-1] == "TEARDOWN"
    assert transports(camera) == ["RTP/AVP", "RTP/AVP"]
    samples = house.storage.recorders[key()].samples
    assert [s.data for s in samples] == [key_frame(n) if n % 25 == 0 else picture(n) for n in range(60)]
    assert max(abs(s.utc_ns - now - n * 40 * MS) for n, s in enumerate(samples)) <= 1
    assert len(house.storage.recorders[key("AUDIO001")].samples) == 60
    assert house.storage.recorders[key()].reasons == [GapReason.DAEMON_STOPPED]


async def test_reports_go_back_over_udp_and_tell_losses() -> None:
    house = House(dataclasses.replace(QUICK, report_interval_ns=20 * MS))
    await house.engine.start()
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_unit(track, key_frame(0), 0)
        track.skip(5)
        camera.send_unit(track, key_frame(1), 3600)
        camera.send_unit(track, key_frame(2), 7200)

        def told() -> list[int]:
            reports = [p for _, packets in camera.reports for p in packets if isinstance(p, ReceiverReport)]
            return [b.cumulative_lost for r in reports for b in r.blocks if b.ssrc == track.ssrc]

        await until(lambda: 5 in told())
        await house.engine.stop()


def reception(house: House) -> Reception:
    told = house.engine.reception(RECEIVER)
    assert told is not None
    return told


@pytest.mark.parametrize(
    ("asked", "served"), [(TransportProtocol.UDP, "TCP"), (TransportProtocol.RTSP, "UDP")], ids=["no UDP", "no TCP"]
)
async def test_where_a_transport_is_refused_the_other_one_is_taken_and_told(
    house: House, asked: TransportProtocol, served: str, caplog: pytest.LogCaptureFixture
) -> None:
    track = h264_track()
    async with Camera([track], transports=(served,)) as camera:
        house.record(camera.uri, asked)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        await until(lambda: house.state()[0] is RecordingJobState.ACTIVE)
        remark = reception(house).remark or ""
        assert "461 Unsupported transport" in remark
        assert f"media come over {served}" in remark
        assert reception(house).transport is {"UDP": TransportProtocol.UDP, "TCP": TransportProtocol.RTSP}[served]
        assert remark in caplog.text
    assert sorted(transports(camera)) == ["RTP/AVP", "RTP/AVP/TCP"]


async def test_without_fall_back_a_refused_transport_is_an_error() -> None:
    house = House(dataclasses.replace(QUICK, transport_fallback=False))
    await house.engine.start()
    async with Camera([h264_track()], transports=("TCP",)) as camera:
        house.record(camera.uri)
        await until(lambda: house.state()[0] is RecordingJobState.ERROR)
        assert "461" in house.state()[1]
        await house.engine.stop()
    assert set(transports(camera)) == {"RTP/AVP"}


async def test_where_nothing_comes_over_udp_tcp_is_taken_until_the_receiver_is_configured_anew() -> None:
    house = House(dataclasses.replace(QUICK, udp_silence_ns=50 * MS, back_off_ns=60_000 * MS))
    await house.engine.start()
    track = h264_track()
    async with Camera([track], silent_udp=True) as camera:
        house.record(camera.uri)
        await camera.playing(2)
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        await until(lambda: house.state()[0] is RecordingJobState.ACTIVE)
        assert "has sent nothing over UDP for 0.05 s" in (reception(house).remark or "")
        assert transports(camera) == ["RTP/AVP", "RTP/AVP/TCP"]
        house.engine.apply([a_recording()], [], [a_receiver(camera.uri, protocol=TransportProtocol.UDP)])
        await camera.requested("TEARDOWN", 2)
        house.record(camera.uri)
        await camera.playing(3)
        assert transports(camera)[2:] == ["RTP/AVP/TCP"], "it is remembered while the receiver is not needed"
        camera.silent_udp = False
        house.record(f"{camera.uri}?again")
        await camera.playing(4)
        assert transports(camera)[-1] == "RTP/AVP"
        await house.engine.stop()


async def test_reports_and_sound_do_not_hide_that_no_picture_comes_over_udp() -> None:
    house = House(dataclasses.replace(QUICK, udp_silence_ns=50 * MS))
    await house.engine.start()
    video, audio = h264_track(), pcmu_track()
    async with Camera([video, audio]) as camera:
        house.record(camera.uri, TransportProtocol.UDP, ("", "VIDEO001"), ("", "AUDIO001"))
        await camera.playing()
        camera.send_report(video, time.time_ns(), 0)
        camera.send_packets(audio, [audio.packet(bytes(160), 0)])
        await camera.playing(2)
        assert transports(camera)[2:] == ["RTP/AVP/TCP"] * 2
        await house.engine.stop()


async def test_where_tcp_is_refused_and_udp_silent_attempts_have_pauses() -> None:
    patient = dataclasses.replace(QUICK, back_off_ns=60_000 * MS, back_off_maximum_ns=60_000 * MS)
    house = House(dataclasses.replace(patient, udp_silence_ns=30 * MS))
    await house.engine.start()
    async with Camera([h264_track()], silent_udp=True, transports=("UDP",)) as camera:
        house.record(camera.uri, TransportProtocol.RTSP)
        await until(lambda: house.state()[0] is RecordingJobState.ERROR)
        assert "has sent nothing over UDP" in house.state()[1]
        connections = camera.connections
        await camera.requested("TEARDOWN")
        assert camera.connections == connections
        await house.engine.stop()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_a_camera_on_ipv6_is_recorded_over_udp(house: House) -> None:
    track = h264_track()
    async with Camera([track], host="::1") as camera:
        house.record(camera.uri)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        await until(lambda: house.state()[0] is RecordingJobState.ACTIVE)
        assert reception(house) == Reception(TransportProtocol.UDP)


async def test_media_of_an_rtsps_source_do_not_go_over_udp_in_the_clear(tmp_path: Path) -> None:
    context, trusted = server_context(tmp_path)
    house = House(dataclasses.replace(QUICK, tls_ca_file=trusted))
    await house.engine.start()
    async with Camera([h264_track()], tls=context) as camera:
        house.record(camera.uri)
        await camera.playing()
        await until(lambda: house.engine.receiver_state(RECEIVER) is ReceiverState.CONNECTED)
        assert transports(camera) == ["RTP/AVP/TCP"]
        assert "come over its TLS connection, not over UDP" in (reception(house).remark or "")
        await house.engine.stop()


async def test_a_new_ssrc_over_udp_begins_a_new_run(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.record(camera.uri)
        await camera.playing()
        now = time.time_ns()
        camera.send_report(track, now, 0)
        for n in range(5):
            camera.send_unit(track, key_frame(n), n * 3600)
        track.ssrc, track.sequence = 0x9999, 100
        for n in range(5, 8):
            camera.send_unit(track, key_frame(n), 700_000 + n * 3600)
        await until(lambda: house.engine.counters()[RECEIVER].restarts == 1)
        assert house.engine.receiver_state(RECEIVER) is ReceiverState.CONNECTED
        await house.engine.stop()
    recorder = house.storage.recorders[key()]
    assert recorder.reasons == [GapReason.SOURCE_LOST, GapReason.DAEMON_STOPPED]
    assert [s.data for s in recorder.samples] == [key_frame(n) for n in range(8)]
