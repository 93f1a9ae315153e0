"""A session under a simulated clock: what is due, what times out, where samples go while the clock is unknown."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.ingest.arbiter import SourceStream
from nvr.ingest.connection import CameraConnection
from nvr.ingest.drain import Drain
from nvr.ingest.handshake import PlayingSession
from nvr.ingest.offer import OfferedStream
from nvr.ingest.pipeline import TrackPipeline
from nvr.ingest.session import Session, SessionStream
from nvr.ingest.settings import IngestSettings, Times
from nvr.ingest.stream import StreamReceiver
from nvr.media import codecs
from nvr.media.rtcp import ReceiverReport, ReportBlock, SourceDescription, parse_compound
from nvr.media.rtsp.message import Response
from nvr.media.unit import CodecConfiguration, Fragment, Sample
from nvr.model.errors import SourceError
from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from tests.support.camera import CameraTrack, h264_track, key_frame, metadata_track, pcmu_track, picture
from tests.support.ingest import MS, FakeRecorder

START = 1_800_000_000 * NS


@dataclass
class FakeConnection:
    """What a session needs of a connection; packets are handed in by the test."""

    endpoint: str = "camera:554"
    running: bool = True
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    status: int = 200
    silent: bool = False
    closed: bool = False
    bytes_received: int = 0

    def take_over(self, receive_buffer: int | None) -> bool:
        return False

    def send_frame(self, channel: int, data: bytes) -> None:
        self.frames.append((channel, data))

    async def request(self, method: str, uri: str, headers: dict[str, str], *, timeout_ns: int) -> Response:
        self.requests.append((method, uri))
        if self.silent:
            raise SourceError("camera:554 did not answer")
        return Response(self.status)

    def abort(self) -> None:
        self.closed = True


class Stage:
    """A session with the given tracks, each recorded into a fake recorder, at a time that the test moves."""

    def __init__(self, *tracks: CameraTrack, timeout_s: int = 60, public: str = "GET_PARAMETER") -> None:
        self.mono = 500 * NS
        self.utc = START
        self.tracks = tracks
        self.connection = FakeConnection()
        times = Times(lambda: self.utc, lambda: self.mono)
        self.drain = Drain(times.monotonic)
        self.session = Session(IngestSettings(), times, self.drain, "rcv-1@nvr", 0x77)
        kinds = {"video": TrackType.VIDEO, "audio": TrackType.AUDIO, "application": TrackType.METADATA}
        offered = []
        for n, track in enumerate(tracks):
            encoding, rate = track.rtpmap.split("/")
            parameters = dict(p.split("=", 1) for p in track.fmtp.split(";")) if track.fmtp else {}
            depacketizer = codecs.depacketizer_for(encoding, int(rate), None, parameters)
            receiver = StreamReceiver(track.payload_type, int(rate), depacketizer)
            info = SourceStream(n, kinds[track.kind], encoding.upper())
            offered.append(OfferedStream(info, f"rtsp://camera/{n}", receiver, rtcp_channel=2 * n + 1))
        self.session.prepare(
            PlayingSession(
                cast(CameraConnection, self.connection),
                "rtsp://camera/s",
                "abc",
                timeout_s * NS,
                frozenset([public]),
                offered,
            )
        )
        self.recorders = []
        for stream in self.session.streams:
            recorder = FakeRecorder()
            assert stream.info.track_type is not None
            self.session.attach(stream, TrackPipeline(recorder, stream.info.track_type))
            self.recorders.append(recorder)

    @property
    def stream(self) -> SessionStream:
        return self.session.streams[0]

    def packets(self, packets: list[bytes], n: int = 0) -> None:
        for packet in packets:
            self.connection.bytes_received += len(packet)
            view = memoryview(packet)
            self.session.streams[n].receiver.irregular(view, 0, len(view))

    def pictures(self, count: int, first: int = 0) -> None:
        """Pictures at 25 a second that arrive as time goes on; a key frame every second."""
        for number in range(first, first + count):
            data = key_frame(number) if number % 25 == 0 else picture(number)
            self.packets(self.tracks[0].unit(data, number * 3600))
            self.visit()
            self.pass_ns(40 * MS)

    def report(self, utc_ns: int, rtp: int, n: int = 0) -> None:
        self.session.on_rtcp(self.session.streams[n].receiver, self.tracks[n].sender_report(utc_ns, rtp))

    def visit(self) -> None:
        self.session.visit(memoryview(bytearray(0)))

    def pass_ns(self, ns: int) -> None:
        self.mono += ns
        self.utc += ns

    def error(self) -> str | None:
        return str(self.session.closed.result()) if self.session.closed.done() else None


async def settle() -> None:
    """Let the tasks that have been started run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_samples_wait_for_the_first_report_and_then_have_true_times() -> None:
    stage = Stage(h264_track())
    stage.pictures(60)
    assert stage.recorders[0].events == []
    stage.report(START - 250 * MS, 0)
    stage.pictures(20, first=60)
    assert [s.utc_ns for s in stage.recorders[0].samples[:3]] == [START + (40 * n - 250) * MS for n in range(3)]
    assert len(stage.recorders[0].samples) == 75


async def test_without_any_report_arrival_is_taken_behind_the_hold() -> None:
    stage = Stage(h264_track())
    stage.pictures(150)
    assert [s.utc_ns for s in stage.recorders[0].samples[:2]] == [START, START + 40 * MS]
    assert stage.recorders[0].reasons == []


async def test_what_is_held_is_kept_when_the_source_is_lost() -> None:
    stage = Stage(h264_track())
    stage.pictures(10)
    stage.session.finish(GapReason.SOURCE_LOST)
    assert len(stage.recorders[0].samples) == 10
    assert stage.recorders[0].reasons == [GapReason.SOURCE_LOST]


async def test_the_drain_is_quick_until_the_clock_is_fixed_and_while_somebody_watches() -> None:
    stage = Stage(h264_track())
    assert stage.session.interval_ns == 30 * MS
    stage.pictures(1)
    stage.report(START, 0)
    assert stage.session.interval_ns == 250 * MS
    stage.session.attach(stage.stream, None, tap := lambda s, c: None)
    assert stage.session.interval_ns == 30 * MS
    stage.session.detach(stage.stream, None, tap)
    assert stage.session.interval_ns == 250 * MS


async def test_a_jump_of_the_cameras_clock_ends_the_run() -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    stage.report(START, 0)
    stage.pictures(49, first=1)
    stage.report(START + 5 * NS, 50 * 3600)  # 3 s ahead of where it should be
    stage.pictures(30, first=50)
    assert stage.recorders[0].reasons == [GapReason.CLOCK_JUMP]
    times = [s.utc_ns - START for s in stage.recorders[0].samples]
    assert times[49] == 49 * 40 * MS
    assert times[50] == 5 * NS


async def test_a_lying_camera_is_recorded_at_the_recorders_time_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    stage.report(1000 * NS, 3600)
    stage.pictures(60, first=1)
    stage.report(1002 * NS + 400 * MS, 61 * 3600)
    assert stage.recorders[0].samples[0].utc_ns == pytest.approx(START, abs=MS)
    assert [r.levelname for r in caplog.records if "overruled" in r.message] == ["WARNING"]
    assert stage.session.clock.overruled


async def test_a_restarted_rtp_clock_ends_the_run() -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    stage.report(START, 0)
    stage.pictures(30, first=1)
    stage.pictures(130, first=1_000_000)
    assert stage.recorders[0].reasons == [GapReason.CLOCK_JUMP]
    later = [s.utc_ns for s in stage.recorders[0].samples[31:]]
    assert later[0] == pytest.approx(START + 31 * 40 * MS, abs=MS)


async def test_a_jump_of_the_recorders_clock_begins_a_new_run_where_arrival_is_the_measure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage(h264_track())
    stage.pictures(150)
    stage.utc += 3600 * NS
    stage.pictures(150, first=150)
    assert stage.recorders[0].reasons == [GapReason.CLOCK_JUMP]
    assert stage.recorders[0].samples[-1].utc_ns > START + 3600 * NS
    assert "the clock of this recorder has jumped by 3600.0 s" in caplog.text


async def test_the_recorders_clock_may_jump_while_reports_are_the_measure() -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    stage.report(START, 0)
    stage.pictures(25, first=1)
    stage.utc += 2 * NS  # within the tolerance: the camera is as right as before
    stage.visit()
    stage.report(START + 26 * 40 * MS, 26 * 3600)
    stage.pictures(25, first=26)
    assert stage.recorders[0].reasons == []


async def test_tracks_of_a_session_stay_together() -> None:
    stage = Stage(h264_track(), pcmu_track())
    stage.packets(stage.tracks[0].unit(key_frame(), 1000))
    stage.packets([stage.tracks[1].packet(bytes(160), 77)], 1)
    stage.report(START, 1000)
    stage.report(START, 77, 1)
    stage.visit()
    stage.session.finish(GapReason.JOB_STOPPED)
    assert stage.recorders[0].samples[0].utc_ns == stage.recorders[1].samples[0].utc_ns == START


async def test_a_session_without_data_is_given_up() -> None:
    stage = Stage(h264_track(), pcmu_track())
    stage.pass_ns(10 * NS)
    stage.visit()
    assert stage.error() is None
    stage.pass_ns(MS)
    stage.visit()
    assert stage.error() in ("camera:554 has sent nothing for 10 s", "camera:554 has sent no video for 10 s")


async def test_sound_alone_does_not_hide_that_the_pictures_have_stopped() -> None:
    stage = Stage(h264_track(), pcmu_track())
    stage.pictures(1)
    for n in range(22):
        stage.pass_ns(500 * MS)
        stage.packets([stage.tracks[1].packet(bytes(160), n * 4000)], 1)
        stage.visit()
    assert stage.error() == "camera:554 has sent no video for 10 s"


async def test_silence_and_rare_metadata_are_no_fault() -> None:
    stage = Stage(h264_track(), pcmu_track(), metadata_track())
    stage.pictures(25 * 30)
    assert stage.error() is None


async def test_metadata_alone_may_be_silent_for_two_keep_alives() -> None:
    stage = Stage(metadata_track())
    stage.pass_ns(60 * NS)
    stage.visit()
    assert stage.error() is None
    stage.pass_ns(MS)
    stage.visit()
    assert stage.error() == "camera:554 has sent nothing for 60 s"


async def test_rare_metadata_is_handed_over_without_a_successor() -> None:
    stage = Stage(h264_track(), metadata_track())
    stage.pictures(1)
    stage.packets([stage.tracks[1].packet(b"<tt:MetadataStream/>", 0, marker=True)], 1)
    stage.report(START, 0)
    stage.report(START, 0, 1)
    stage.pictures(50, first=1)
    assert stage.recorders[1].fragments == []
    stage.pictures(60, first=51)
    assert [s.data for s in stage.recorders[1].samples] == [b"<tt:MetadataStream/>"]


@pytest.mark.parametrize(("timeout_s", "expected_s"), [(60, 30), (10, 5), (600, 30)])
async def test_keep_alives_go_at_half_the_time_out_and_at_least_every_30_s(timeout_s: int, expected_s: int) -> None:
    stage = Stage(h264_track(), timeout_s=timeout_s)
    stage.pictures(expected_s * 25)
    await settle()
    assert stage.connection.requests == []
    stage.pictures(1, first=expected_s * 25)
    await settle()
    assert stage.connection.requests == [("GET_PARAMETER", "rtsp://camera/s")]
    stage.pictures(expected_s * 25, first=expected_s * 25 + 1)
    await settle()
    assert len(stage.connection.requests) == 2


async def test_options_serves_where_get_parameter_is_not_offered_or_not_served() -> None:
    stage = Stage(h264_track(), public="PLAY")
    stage.pictures(751)
    await settle()
    assert stage.connection.requests == [("OPTIONS", "rtsp://camera/s")]
    stage = Stage(h264_track())
    stage.connection.status = 501
    stage.pictures(751)
    await settle()
    stage.connection.status = 200
    stage.pictures(751, first=751)
    await settle()
    assert [m for m, _ in stage.connection.requests] == ["GET_PARAMETER", "OPTIONS"]
    assert stage.error() is None


async def test_a_forgotten_session_is_given_up_and_a_silent_camera_that_streams_is_not() -> None:
    stage = Stage(h264_track())
    stage.connection.silent = True
    stage.pictures(751)
    await settle()
    assert stage.error() is None
    stage = Stage(h264_track())
    stage.connection.status = 454
    stage.pictures(751)
    await settle()
    assert stage.error() == "camera:554 has forgotten the session (454 to GET_PARAMETER)"


async def test_reports_go_every_five_seconds_on_the_channel_of_each_stream() -> None:
    stage = Stage(h264_track(), pcmu_track())
    stage.packets([stage.tracks[1].packet(bytes(160), 0)], 1)
    stage.pictures(25 * 11)
    channels = [c for c, _ in stage.connection.frames]
    assert channels == [1, 3, 1, 3]
    report, description = parse_compound(stage.connection.frames[2][1])
    assert isinstance(report, ReceiverReport)
    assert isinstance(description, SourceDescription)
    assert report.blocks[0].ssrc == stage.tracks[0].ssrc
    assert report.blocks[0].cumulative_lost == 0
    assert description.chunks[0][1][0][1] == b"rcv-1@nvr"


async def test_losses_stand_in_the_report() -> None:
    stage = Stage(h264_track())
    stage.pictures(50)
    stage.tracks[0].sequence += 10
    stage.pictures(80, first=50)
    [block] = cast(ReceiverReport, parse_compound(stage.connection.frames[0][1])[0]).blocks
    assert block.cumulative_lost == 10


async def test_a_report_of_another_source_or_a_broken_one_changes_nothing() -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    other = h264_track(ssrc=0x4242)
    stage.session.on_rtcp(stage.stream.receiver, other.sender_report(START, 0))
    assert not stage.stream.clock.fixed
    stage.session.on_rtcp(stage.stream.receiver, b"\x80\xc8\x00\x06\x00")
    assert stage.session.bad_reports == 1
    assert stage.session.clock.refused_reports == 1


async def test_a_fault_of_ours_ends_the_session_and_not_the_drain(caplog: pytest.LogCaptureFixture) -> None:
    stage, other = Stage(h264_track()), Stage(h264_track())
    other.session._drain = stage.drain  # one drain serves all sessions
    for session in (stage.session, other.session):
        stage.drain.add(session)
    stage.pictures(1)
    stage.report(START, 0)

    def broken(sample: Sample, configuration: CodecConfiguration) -> None:
        raise ZeroDivisionError("a fault of ours")

    stage.session.attach(stage.stream, None, broken)
    stage.packets(stage.tracks[0].unit(key_frame(25), 25 * 3600))
    other.packets(other.tracks[0].unit(key_frame(25), 25 * 3600))
    stage.pass_ns(NS)
    while stage.drain.run_slice():
        pass
    assert stage.error() == "camera:554: internal fault: ZeroDivisionError"
    assert "a fault of ours" in caplog.text
    assert other.stream.held, "the others have been visited"
    assert not other.session.closed.done()
    stage.packets(stage.tracks[0].unit(key_frame(50), 50 * 3600))
    stage.session.finish(GapReason.SOURCE_LOST)
    assert stage.recorders[0].reasons == [GapReason.SOURCE_LOST]


async def test_stopping_tears_down_once_and_closes() -> None:
    stage = Stage(h264_track())
    await stage.session.stop()
    assert stage.connection.requests == [("TEARDOWN", "rtsp://camera/s")]
    assert stage.connection.closed


async def test_packets_behind_the_end_reach_no_track() -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    stage.report(START, 0)
    stage.session.finish(GapReason.JOB_STOPPED)
    stage.pictures(30, first=25)
    assert len(stage.recorders[0].samples) == 1
    assert stage.recorders[0].reasons == [GapReason.JOB_STOPPED]


async def test_a_hole_behind_lost_packets_ends_the_run_also_when_it_comes_in_one_visit() -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    stage.report(START, 0)
    stage.pictures(24, first=1)
    stage.pass_ns(4 * NS)
    stage.packets(stage.tracks[0].unit(picture(25), 25 * 3600))
    stage.tracks[0].sequence += 50  # the connection stalled, and the camera's send buffer was full for three seconds
    stage.packets(stage.tracks[0].unit(key_frame(100), 100 * 3600))
    stage.visit()
    stage.session.finish(GapReason.JOB_STOPPED)
    before, after = stage.recorders[0].fragments
    assert stage.recorders[0].reasons == [GapReason.PACKET_LOSS, GapReason.JOB_STOPPED]
    assert before.end_ns == START + 26 * 40 * MS
    assert after.start_ns == START + 100 * 40 * MS
    assert (before.lost_packets, after.lost_packets) == (50, 0)


async def test_losses_count_in_the_fragment_in_which_they_happened() -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    stage.report(START, 0)
    stage.pictures(24, first=1)
    stage.packets(stage.tracks[0].unit(key_frame(25), 25 * 3600))
    stage.packets(stage.tracks[0].unit(picture(26), 26 * 3600))
    stage.tracks[0].sequence += 7
    stage.packets(stage.tracks[0].unit(picture(28), 28 * 3600))
    stage.packets(stage.tracks[0].unit(key_frame(50), 50 * 3600))
    stage.visit()
    stage.session.finish(GapReason.JOB_STOPPED)
    assert [f.lost_packets for f in stage.recorders[0].fragments] == [0, 7, 0]


async def test_losses_while_the_clock_is_not_known_count_behind_the_units_that_wait() -> None:
    stage = Stage(h264_track())
    stage.pictures(25)
    stage.packets(stage.tracks[0].unit(key_frame(25), 25 * 3600))
    stage.visit()
    stage.tracks[0].skip(7)
    stage.packets(stage.tracks[0].unit(key_frame(50), 50 * 3600))
    stage.visit()
    stage.report(START + 2 * NS, 50 * 3600)
    stage.session.finish(GapReason.JOB_STOPPED)
    assert [f.lost_packets for f in stage.recorders[0].fragments] == [0, 7, 0]
    assert stage.recorders[0].reasons == [GapReason.JOB_STOPPED]


async def test_a_hole_while_the_clock_is_not_known_ends_the_run_where_it_is() -> None:
    stage = Stage(h264_track())
    stage.pictures(10)
    stage.pass_ns(2 * NS)
    stage.tracks[0].skip(100)
    stage.packets(stage.tracks[0].unit(key_frame(75), 75 * 3600))
    stage.visit()
    stage.report(START + 75 * 40 * MS, 75 * 3600)
    stage.session.finish(GapReason.JOB_STOPPED)
    assert stage.recorders[0].reasons == [GapReason.PACKET_LOSS, GapReason.JOB_STOPPED]
    before, after = stage.recorders[0].fragments
    assert (before.end_ns, after.start_ns) == (START + 400 * MS, START + 3 * NS)
    assert (before.lost_packets, after.lost_packets) == (100, 0)


async def test_a_recorder_whose_own_clock_was_hours_off_goes_on_with_the_right_time_in_a_new_run() -> None:
    stage = Stage(h264_track())
    stage.pictures(1)
    stage.report(START, 0)
    stage.pictures(25, first=1)
    stage.utc += 7200 * NS
    stage.visit()
    stage.report(START + 26 * 40 * MS, 26 * 3600)  # the camera's clock is as it was
    stage.pictures(30, first=26)
    stage.session.finish(GapReason.JOB_STOPPED)
    assert stage.recorders[0].reasons == [GapReason.CLOCK_JUMP, GapReason.JOB_STOPPED]
    times = [s.utc_ns - START for s in stage.recorders[0].samples]
    assert times[25] == 25 * 40 * MS
    assert times[26] == 7200 * NS + 26 * 40 * MS
    assert stage.session.clock.overruled


@pytest.mark.parametrize("moment", ["2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"], ids=["spring", "autumn"])
async def test_the_hour_of_summer_time_leaves_no_trace(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from nvr.model.time import parse_iso

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        change = parse_iso(moment)
        before, after = (time.localtime(change // NS + s).tm_hour for s in (-1, 1))
        assert abs(after - before) != 1, "the hour of this day is missing or comes twice"
        stage = Stage(h264_track())
        stage.utc = begin = change - 2 * NS
        stage.pictures(1)
        stage.report(begin, 0)
        stage.pictures(99, first=1)
        stage.session.finish(GapReason.JOB_STOPPED)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [s.utc_ns for s in stage.recorders[0].samples] == [begin + n * 40 * MS for n in range(100)]
    assert stage.recorders[0].reasons == [GapReason.JOB_STOPPED]


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("late"), st.integers(0, 900)),
        st.tuples(st.just("report"), st.integers(-30, 30)),
        st.tuples(st.just("report"), st.integers(-9000, 9000)),
        st.tuples(st.just("own clock"), st.integers(-4000, 4000)),
        # A step back of less than a second could be B-frames: times follow it.
        st.tuples(st.just("rtp"), st.integers(-400_000, -95_000) | st.integers(0, 400_000)),
        st.tuples(st.just("lost"), st.integers(1, 90)),
        st.tuples(st.just("source"), st.integers(1, 1 << 20)),
    ),
    max_size=12,
)


@given(events=EVENTS, first_rtp=st.integers(0, (1 << 32) - 1), ppm=st.integers(-500, 500))
@settings(max_examples=60, deadline=None)
def test_whatever_clocks_do_times_never_go_back_inside_a_run_and_nothing_is_lost(
    events: list[tuple[str, int]], first_rtp: int, ppm: int
) -> None:
    sent: list[bytes] = []

    async def scenario() -> list[Fragment | GapReason]:
        stage = Stage(h264_track())
        track, rtp, number = stage.tracks[0], first_rtp, 0
        for what, amount in [*events, ("end", 0)]:
            for _ in range(8):
                sent.append(key_frame(number, 20))
                stage.packets(track.unit(sent[-1], rtp))
                stage.visit()
                stage.pass_ns(40 * MS)
                rtp += 3600 + 3600 * ppm // 1_000_000
                number += 1
            if what == "late":
                stage.pass_ns(amount * MS)
            elif what == "report":
                stage.report(stage.utc + amount * MS, rtp)
            elif what == "own clock":
                stage.utc += amount * MS
            elif what == "rtp":
                rtp += amount
            elif what == "lost":
                track.skip(amount)
            elif what == "source":
                track.ssrc, track.sequence = track.ssrc + amount, amount & 0xFFFF
        stage.session.finish(GapReason.JOB_STOPPED)
        return stage.recorders[0].events

    last: int | None = None
    recorded: list[bytes] = []
    for event in asyncio.run(scenario()):
        if isinstance(event, Fragment):
            for sample in event.samples:
                assert last is None or sample.utc_ns > last
                last = sample.utc_ns
                recorded.append(sample.data)
            assert event.end_ns > last
        else:
            last = None
    assert recorded == sent


def dense(stage: Stage, count: int, first: int = 0) -> None:
    """Pictures of some 50 packets, 25 a second."""
    for number in range(first, first + count):
        stage.packets(stage.tracks[0].unit(key_frame(number, 70_000), number * 3600))
        stage.visit()
        stage.pass_ns(40 * MS)


def a_dense_stage() -> Stage:
    stage = Stage(h264_track())
    stage.packets(stage.tracks[0].unit(key_frame(0, 70_000), 0))
    stage.report(START, 0)
    dense(stage, 75, first=1)
    return stage


@pytest.mark.parametrize("missing", [2999, 3000, 6000, 20_000])
async def test_what_is_missing_is_counted_however_much_it_is(missing: int) -> None:
    stage = a_dense_stage()
    stage.tracks[0].skip(missing)
    gone = missing // 50
    stage.pass_ns(gone * 40 * MS)
    dense(stage, 30, first=76 + gone)
    await stage.session.stop()
    stage.session.finish(GapReason.SOURCE_LOST)
    order = stage.stream.receiver.order
    assert (order.lost, order.restarts) == (missing, 0)
    recorder = stage.recorders[0]
    assert recorder.reasons == [GapReason.PACKET_LOSS, GapReason.SOURCE_LOST]
    assert sum(f.lost_packets for f in recorder.fragments) == missing
    times = [s.utc_ns for s in recorder.samples]
    assert times[-1] - times[0] == pytest.approx((len(times) - 1 + gone) * 40 * MS, abs=50 * MS)
    block = next(p for p in reports_of(stage) if p.highest_sequence)
    assert block.cumulative_lost == missing


def reports_of(stage: Stage) -> list[ReportBlock]:
    statistics = stage.stream.receiver.statistics
    stage.stream.receiver.count()
    return [] if statistics is None else [statistics.report(stage.mono)]


@pytest.mark.parametrize("jump", [3000, 30_000, -5000])
async def test_a_sender_that_begins_anew_with_the_same_ssrc_has_lost_nothing(jump: int) -> None:
    stage = a_dense_stage()
    stage.tracks[0].skip(jump)
    dense(stage, 30, first=5_000_000)  # RTP time begins somewhere else, too
    order = stage.stream.receiver.order
    assert (order.lost, order.restarts) == (0, 1)
    assert stage.recorders[0].reasons == [GapReason.SOURCE_LOST]


async def test_numbers_that_jump_where_no_time_has_passed_are_no_loss() -> None:
    stage = a_dense_stage()
    stage.tracks[0].skip(40_000)
    dense(stage, 30, first=76)  # RTP time goes on: an encoder that takes it from its wall clock
    order = stage.stream.receiver.order
    assert (order.lost, order.restarts) == (0, 1)
