"""Sender reports judged by the daemon's clock: every case of docs/design/time.md."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.ingest.clock import ClockSettings, SessionClock, StreamClock, Verdict
from nvr.model.time import NS, UtcNs, ntp_from_utc

NOW = 1_800_000_000 * NS
RATE = 90_000
MS = 1_000_000


def report(session: SessionClock, stream: StreamClock, camera_ns: UtcNs, rtp: int, now_ns: UtcNs) -> Verdict:
    return session.sender_report(stream, ntp_from_utc(camera_ns), rtp & 0xFFFF_FFFF, now_ns)


def fixed(camera_ns: UtcNs = NOW, rtp: int = 0, now_ns: UtcNs = NOW) -> tuple[SessionClock, StreamClock]:
    session = SessionClock()
    stream = session.stream(RATE)
    stream.observe(rtp, now_ns)
    assert report(session, stream, camera_ns, rtp, now_ns) is Verdict.FIXED
    return session, stream


def test_the_first_sane_report_fixes_the_clock_exactly() -> None:
    _, stream = fixed(NOW - 700 * MS)
    assert stream.utc(0) == NOW - 700 * MS
    assert stream.utc(RATE) == NOW + 300 * MS
    assert stream.by_reports


def test_a_camera_is_behind_by_as_much_as_its_times_are_older_than_their_arrival() -> None:
    late, _ = fixed(NOW - 700 * MS)
    assert abs(late.behind_ns - 700 * MS) <= 1
    ahead, _ = fixed(NOW + 700 * MS)
    assert abs(ahead.behind_ns + 700 * MS) <= 1
    overruled, stream = fixed(NOW - 3600 * NS)
    assert overruled.overruled
    assert stream.utc(0) == NOW
    assert abs(overruled.behind_ns) <= 1, "it has got the time of the daemon"


def test_rtp_time_wraps() -> None:
    _, stream = fixed(rtp=0xFFFF_FFFF - RATE + 1)
    assert stream.utc(0) == NOW + NS
    stream.observe(0, NOW + NS)
    assert stream.utc(RATE) == NOW + 2 * NS


def test_a_report_may_come_before_the_first_packet() -> None:
    session = SessionClock()
    stream = session.stream(RATE)
    assert report(session, stream, NOW, 4_000_000_000, NOW) is Verdict.FIXED
    stream.observe(4_000_003_600, NOW + 40 * MS)
    assert stream.utc(4_000_003_600) == NOW + 40 * MS


def test_a_report_before_the_first_packet_that_speaks_of_another_clock_is_forgotten() -> None:
    session = SessionClock()
    stream = session.stream(RATE)
    report(session, stream, NOW, 0, NOW)
    stream.observe(1_000_000_000, NOW + 40 * MS)
    assert not stream.fixed


@pytest.mark.parametrize("drift_ppm", [500, -500, 100])
def test_drift_is_followed_to_within_three_milliseconds_and_time_never_goes_back(drift_ppm: int) -> None:
    session, stream = fixed()
    last, worst = 0, 0
    for picture in range(1, 25 * 600):
        true_ns = NOW + picture * 40 * MS
        rtp = (true_ns - NOW) * (1_000_000 + drift_ppm) * RATE // (NS * 1_000_000)
        stream.observe(rtp & 0xFFFF_FFFF, true_ns)
        utc = stream.utc(rtp & 0xFFFF_FFFF)
        assert utc > last
        last = utc
        worst = max(worst, abs(utc - true_ns))
        if picture % 125 == 0:
            assert report(session, stream, true_ns, rtp, true_ns + 20 * MS) is Verdict.FOLLOWED
    assert worst < 5 * MS
    assert abs(last - true_ns) < 300_000, "behind the first minute the drift itself is known"


def test_jittering_reports_do_not_shake_the_line() -> None:
    session, stream = fixed()
    noise = random.Random(3)
    last = 0
    for picture in range(1, 25 * 300):
        true_ns, rtp = NOW + picture * 40 * MS, picture * 3600
        stream.observe(rtp, true_ns)
        utc = stream.utc(rtp)
        assert 39 * MS < utc - (last or utc - 40 * MS) < 41 * MS
        last = utc
        if picture % 125 == 0:
            report(session, stream, true_ns + noise.randint(-10, 10) * MS, rtp, true_ns)
        assert abs(utc - true_ns) < 20 * MS


def test_a_jump_of_the_camera_within_the_tolerance_is_a_jump() -> None:
    session, stream = fixed()
    stream.observe(5 * RATE, NOW + 5 * NS)
    assert report(session, stream, NOW + 7 * NS, 5 * RATE, NOW + 5 * NS) is Verdict.JUMPED
    assert stream.utc(5 * RATE) == NOW + 7 * NS


@pytest.mark.parametrize("camera_ns", [0, NOW - 3600 * NS, NOW + 86_400 * NS, NOW - 6 * NS])
def test_a_lying_camera_is_overruled_by_arrival_and_told(camera_ns: UtcNs) -> None:
    session, stream = fixed(camera_ns)
    assert session.overruled
    assert session.judgement is not None
    assert "overruled" in session.judgement
    assert abs(stream.utc(0) - NOW) <= 1
    stream.observe(5 * RATE, NOW + 5 * NS)
    assert report(session, stream, camera_ns + 5 * NS, 5 * RATE, NOW + 5 * NS) is Verdict.FOLLOWED
    assert abs(stream.utc(5 * RATE) - NOW - 5 * NS) <= 1


def test_a_camera_that_jumps_away_does_not_tear_its_recording_apart() -> None:
    session, stream = fixed()
    stream.observe(5 * RATE, NOW + 5 * NS)
    assert report(session, stream, NOW - 10**17, 5 * RATE, NOW + 5 * NS) is Verdict.FOLLOWED
    assert session.overruled
    assert stream.utc(5 * RATE) == NOW + 5 * NS


def test_a_camera_that_has_found_the_time_is_believed_again() -> None:
    session, stream = fixed(1000 * NS)
    stream.observe(5 * RATE, NOW + 5 * NS)
    assert report(session, stream, NOW + 5 * NS - 100 * MS, 5 * RATE, NOW + 5 * NS) is Verdict.FOLLOWED
    assert not session.overruled
    assert session.judgement is None
    for n in range(2, 20):
        stream.observe(5 * n * RATE, NOW + 5 * n * NS)
        stream.utc(5 * n * RATE)
        report(session, stream, NOW + 5 * n * NS - 100 * MS, 5 * n * RATE, NOW + 5 * n * NS)
    assert abs(stream.utc(95 * RATE) - (NOW + 95 * NS - 100 * MS)) < 2 * MS


def test_an_overruled_clock_follows_the_daemons_slowly() -> None:
    """The camera's wall clock and its RTP clock run 200 ppm fast together: only the daemon's clock can tell."""
    session, stream = fixed(0)
    error = 0
    for n in range(1, 400):
        true_ns = NOW + 5 * n * NS
        camera = 5 * n * (NS + 200_000)
        rtp = camera * RATE // NS
        stream.observe(rtp & 0xFFFF_FFFF, true_ns)
        assert report(session, stream, camera, rtp, true_ns + 30 * MS) is Verdict.FOLLOWED
        error = stream.utc(rtp & 0xFFFF_FFFF) - true_ns
    assert abs(error) < 80 * MS, "without correction it would be 400 ms"


def test_tracks_of_an_overruled_camera_share_one_offset() -> None:
    session = SessionClock()
    video, audio = session.stream(RATE), session.stream(8000)
    video.observe(0, NOW)
    audio.observe(0, NOW)
    report(session, video, 1000 * NS, 0, NOW)
    report(session, audio, 1000 * NS + 300 * MS, 2400, NOW + 450 * MS)  # comes with 150 ms of delay
    assert audio.utc(0) - video.utc(0) == 0


def test_tracks_whose_reports_disagree_keep_their_own_offsets() -> None:
    session = SessionClock()
    video, audio = session.stream(RATE), session.stream(8000)
    for n in range(3):
        video.observe(5 * n * RATE, NOW + 5 * n * NS)
        audio.observe(5 * n * 8000, NOW + 5 * n * NS)
        report(session, video, 1000 * NS + 5 * n * NS, 5 * n * RATE, NOW + 5 * n * NS)
        report(session, audio, 77 * NS + 5 * n * NS, 5 * n * 8000, NOW + 5 * n * NS)
        assert abs(audio.utc(5 * n * 8000) - video.utc(5 * n * RATE)) <= 2


def test_reports_without_wall_clock_or_of_another_rtp_clock_are_refused() -> None:
    session = SessionClock()
    stream = session.stream(RATE)
    assert session.sender_report(stream, 0, 0, NOW) is Verdict.REFUSED
    stream.observe(500_000_000, NOW)
    assert report(session, stream, NOW, 0, NOW) is Verdict.REFUSED
    assert not stream.fixed
    assert session.refused_reports == 2


def test_without_reports_the_least_delayed_arrival_is_the_anchor() -> None:
    session = SessionClock()
    stream = session.stream(RATE)
    for n, delay in enumerate((80, 35, 60, 5, 50)):
        stream.observe(n * 3600, NOW + n * 40 * MS + delay * MS)
    assert not stream.hold_expired(NOW + 3 * NS)
    assert stream.hold_expired(NOW + 5 * NS)
    stream.fix_by_arrival()
    assert [stream.utc(n * 3600) for n in range(5)] == [NOW + 5 * MS + n * 40 * MS for n in range(5)]
    assert not stream.by_reports


def test_without_reports_drift_is_followed_by_arrival() -> None:
    session = SessionClock()
    stream = session.stream(RATE)
    noise, last = random.Random(5), 0
    for picture in range(25 * 900):
        true_ns = NOW + picture * 40 * MS
        rtp = picture * 3600 * 1_000_500 // 1_000_000  # 500 ppm fast
        stream.observe(rtp & 0xFFFF_FFFF, true_ns + noise.randint(1, 40) * MS)
        if picture == 100:
            stream.fix_by_arrival()
        if picture > 100:
            utc = stream.utc(rtp & 0xFFFF_FFFF)
            assert utc > last
            last = utc
    assert abs(last - true_ns) < 40 * MS, "without following it would be 450 ms"


def test_reports_that_come_after_the_anchor_by_arrival_take_over() -> None:
    session = SessionClock()
    stream = session.stream(RATE)
    stream.observe(0, NOW + 30 * MS)
    stream.fix_by_arrival()
    stream.observe(5 * RATE, NOW + 5 * NS)
    assert report(session, stream, NOW + 5 * NS, 5 * RATE, NOW + 5 * NS) is Verdict.FOLLOWED
    assert stream.by_reports
    assert stream.utc(16 * RATE) == pytest.approx(NOW + 16 * NS, abs=MS)


def test_the_daemons_own_jump_voids_what_was_measured_by_it() -> None:
    session, stream = fixed(0)
    session.rejudge()
    later = NOW + 3600 * NS
    assert report(session, stream, 5 * NS, 5 * RATE, later) is Verdict.JUMPED
    assert abs(stream.utc(5 * RATE) - later) <= 1


def test_a_restarted_rtp_clock_is_noticed_and_holes_and_b_frames_are_not() -> None:
    stream = SessionClock().stream(RATE)
    stream.observe(1_000_000, NOW)
    assert stream.continuous(1_000_000 - RATE // 2, NOW + 40 * MS), "B-frames step back"
    assert stream.continuous(1_000_000 + 30 * RATE, NOW + 30 * NS), "a hole takes the time it claims"
    assert not stream.continuous(1_000_000 + 30 * RATE, NOW + NS)
    assert not stream.continuous(1_000_000 - 10 * RATE, NOW + NS)
    assert not stream.continuous(3_000_000_000, NOW + NS)


def test_a_paused_stream_is_compared_with_nothing_and_keeps_its_clock() -> None:
    session, stream = fixed()
    stream.pause()
    for n in range(1, 100):
        report(session, stream, NOW + 600 * n * NS, 600 * n * RATE, NOW + 600 * n * NS)
    rtp = 600 * 99 * RATE + 3600
    assert stream.continuous(rtp & 0xFFFF_FFFF, NOW + 600 * 99 * NS)
    stream.observe(rtp & 0xFFFF_FFFF, NOW + 600 * 99 * NS + 40 * MS)
    assert abs(stream.utc(rtp & 0xFFFF_FFFF) - (NOW + 600 * 99 * NS + 40 * MS)) < MS


@given(
    st.lists(st.tuples(st.integers(-400, 400), st.integers(1, 50)), min_size=1, max_size=40),
    st.sampled_from([8000, 48_000, 90_000]),
)
def test_whatever_reports_say_below_a_jump_time_grows_with_rtp_time(reports: list[tuple[int, int]], rate: int) -> None:
    session = SessionClock(ClockSettings(jump_ns=10 * NS))
    stream = session.stream(rate)
    stream.observe(0, NOW)
    report(session, stream, NOW, 0, NOW)
    rtp, last = 0, stream.utc(0)
    for error_ms, units in reports:
        for _ in range(units):
            rtp += rate // 25
            now = NOW + rtp * NS // rate
            stream.observe(rtp, now)
            utc = stream.utc(rtp)
            assert utc > last
            last = utc
        report(session, stream, now + error_ms * MS, rtp, now)
