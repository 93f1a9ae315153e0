"""The headers of nvr.media.rtsp: what comes in, its canonical form, its value."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.rtsp.play import (
    Frames,
    FrameSet,
    format_scale,
    format_tags,
    parse_frames,
    parse_scale,
    parse_speed,
    parse_tags,
    parse_yes_no,
)
from nvr.media.rtsp.range import ClockRange, NptRange, UnsupportedRange, parse_range
from nvr.media.rtsp.rtp_info import RtpInfo, format_rtp_info, parse_rtp_info
from nvr.media.rtsp.session import Session, parse_session
from nvr.media.rtsp.transport import TransportSpec, format_transport, parse_transport
from nvr.model.errors import FormatError
from nvr.model.time import NS, parse_iso

T0 = parse_iso("1999-06-15T11:49:00Z")


@pytest.mark.parametrize(
    ("text", "canonical", "value"),
    [
        (
            "RTP/AVP/TCP;unicast;interleaved=0-1",
            "RTP/AVP/TCP;unicast;interleaved=0-1",
            TransportSpec("RTP/AVP/TCP", interleaved=(0, 1)),
        ),
        (
            "rtp/avp/tcp; Interleaved=4",
            "RTP/AVP/TCP;unicast;interleaved=4-5",
            TransportSpec("RTP/AVP/TCP", interleaved=(4, 5)),
        ),
        (
            "RTP/AVP;unicast;client_port=8000-8001;mode=play",
            'RTP/AVP;unicast;client_port=8000-8001;mode="PLAY"',
            TransportSpec(client_port=(8000, 8001), mode="PLAY"),
        ),
        (
            'RTP/AVP/UDP;unicast;client_port=8000-8001;server_port=9000-9001;ssrc=1A2B3C4D;mode="PLAY"',
            'RTP/AVP;unicast;client_port=8000-8001;server_port=9000-9001;ssrc=1A2B3C4D;mode="PLAY"',
            TransportSpec(client_port=(8000, 8001), server_port=(9000, 9001), ssrc=0x1A2B3C4D, mode="PLAY"),
        ),
        (
            "RTP/AVP;multicast;destination=239.0.0.1;port=5000-5001;ttl=16;append",
            "RTP/AVP;multicast;destination=239.0.0.1;port=5000-5001;ttl=16;append",
            TransportSpec(unicast=False, destination="239.0.0.1", port=(5000, 5001), ttl=16, other=("append",)),
        ),
        (
            "RTP/AVP/TCP;unicast;ssrc=0xab;source=10.0.0.1;interleaved=2-3;",
            "RTP/AVP/TCP;unicast;source=10.0.0.1;interleaved=2-3;ssrc=000000AB",
            TransportSpec("RTP/AVP/TCP", interleaved=(2, 3), ssrc=0xAB, source="10.0.0.1"),
        ),
    ],
)
def test_transport_table(text: str, canonical: str, value: TransportSpec) -> None:
    assert parse_transport(text) == (value,)
    assert str(value) == canonical
    assert parse_transport(canonical) == (value,)


def test_several_transports_come_in_order_of_preference_and_a_quoted_comma_splits_nothing() -> None:
    text = 'RTP/AVP;multicast;mode="PLAY,RECORD",RTP/AVP/TCP;unicast;interleaved=0-1, RTP/AVP;unicast;client_port=1-2'
    specs = parse_transport(text)
    assert [spec.tcp for spec in specs] == [False, True, False]
    assert specs[0].mode == "PLAY,RECORD"
    assert parse_transport(format_transport(specs)) == specs


@pytest.mark.parametrize(
    "text",
    [
        "",
        " , ",
        "nonsense",
        "RTP/AVP/TCP;interleaved=0-256",
        "RTP/AVP;client_port=70000-70001",
        "RTP/AVP;client_port=a-b",
        "RTP/AVP;unicast;ssrc=xyz",
        "RTP/AVP/TCP;interleaved=",
    ],
)
def test_malformed_transports_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_transport(text)


@pytest.mark.parametrize(
    ("text", "canonical", "value"),
    [
        ("clock=19990615T114900Z-", "clock=19990615T114900Z-", ClockRange(T0)),
        (
            "clock=19990615T114900Z-19990615T114920Z",
            "clock=19990615T114900Z-19990615T114920Z",
            ClockRange(T0, T0 + 20 * NS),
        ),
        (
            "clock = 19990615T114920.5Z - 19990615T114900Z",
            "clock=19990615T114920.500Z-19990615T114900Z",
            ClockRange(T0 + 20 * NS + NS // 2, T0),
        ),
        ("clock=19990615T114900.299999999Z-", "clock=19990615T114900.299999999Z-", ClockRange(T0 + 299_999_999)),
        ("clock=-19990615T114900Z", "clock=-19990615T114900Z", ClockRange(None, T0)),
        ("clock=19990615T114900Z", "clock=19990615T114900Z-", ClockRange(T0)),
        ("Clock=19990615t114900z-;time=19990615T114900Z", "clock=19990615T114900Z-", ClockRange(T0)),
        ("npt=0-", "npt=0-", NptRange(0)),
        ("npt=0.000-", "npt=0-", NptRange(0)),
        ("npt=10.5-20", "npt=10.500-20", NptRange(10 * NS + NS // 2, 20 * NS)),
        ("npt=1:02:03.25-", "npt=3723.250-", NptRange(3723 * NS + NS // 4)),
        ("npt=now-", "npt=now-", NptRange(None, now=True)),
        ("npt=-5", "npt=-5", NptRange(None, 5 * NS)),
    ],
)
def test_range_table(text: str, canonical: str, value: ClockRange | NptRange) -> None:
    assert parse_range(text) == value
    assert str(value) == canonical
    assert parse_range(canonical) == value


@pytest.mark.parametrize("digits", range(1, 10))
def test_clock_ranges_take_one_to_nine_fraction_digits(digits: int) -> None:
    parsed = parse_range(f"clock=19990615T114900.{'123456789'[:digits]}Z-")
    assert parsed == ClockRange(T0 + int("123456789"[:digits].ljust(9, "0")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "clock=",
        "clock=-",
        "clock=20090230T000000Z-",
        "clock=19990615T114900-",
        "npt=",
        "npt=-",
        "npt=a-b",
        "npt=1:60:00-",
        "clock=19990615T114900Z-garbage",
        "seconds",
        "npt=-now",
    ],
)
def test_malformed_ranges_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_range(text)


def test_other_units_are_told_apart_from_bad_syntax() -> None:
    with pytest.raises(UnsupportedRange, match="smpte"):
        parse_range("smpte=10:07:00-10:07:33:05.01")


@settings(max_examples=200)
@given(
    st.one_of(st.none(), st.integers(0, 4_000_000_000 * NS)), st.one_of(st.none(), st.integers(0, 4_000_000_000 * NS))
)
def test_every_range_comes_back_to_the_nanosecond(start: int | None, end: int | None) -> None:
    if start is None and end is None:
        return
    for value in (ClockRange(start, end), NptRange(start, end)):
        assert parse_range(str(value)) == value


@settings(max_examples=300)
@given(
    st.text(max_size=60),
    st.sampled_from(["", "clock=", "npt=", "RTP/AVP;", "RTP/AVP/TCP;interleaved=", "url=", "intra/"]),
)
def test_any_text_gives_a_value_or_a_format_error(text: str, start: str) -> None:
    for parse in (
        parse_range,
        parse_transport,
        parse_rtp_info,
        parse_session,
        parse_scale,
        parse_speed,
        parse_frames,
    ):
        with suppress(FormatError):
            parse(start + text)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "canonical", "value"),
    [
        (
            "url=rtsp://h/a;seq=5000;rtptime=6670000,url=rtsp://h/b;seq=1;rtptime=2",
            "url=rtsp://h/a;seq=5000;rtptime=6670000,url=rtsp://h/b;seq=1;rtptime=2",
            (RtpInfo("rtsp://h/a", 5000, 6670000), RtpInfo("rtsp://h/b", 1, 2)),
        ),
        (
            "url=trackID=1;seq=1, url=trackID=2",
            "url=trackID=1;seq=1,url=trackID=2",
            (RtpInfo("trackID=1", 1), RtpInfo("trackID=2")),
        ),
        (
            'url="rtsp://h/a";rtptime=0;seq=65535',
            "url=rtsp://h/a;seq=65535;rtptime=0",
            (RtpInfo("rtsp://h/a", 65535, 0),),
        ),
        ("url=rtsp://h/a;ssrc=1;seq=7;", "url=rtsp://h/a;seq=7", (RtpInfo("rtsp://h/a", 7),)),
    ],
)
def test_rtp_info_table(text: str, canonical: str, value: tuple[RtpInfo, ...]) -> None:
    assert parse_rtp_info(text) == value
    assert format_rtp_info(value) == canonical


def test_rtp_info_urls_with_commas_and_semicolons_are_read_whole() -> None:
    assert parse_rtp_info("url=rtsp://h/a,b;c=1;seq=9;rtptime=1,url=x;seq=1") == (
        RtpInfo("rtsp://h/a,b;c=1", 9, 1),
        RtpInfo("x", 1),
    )
    with pytest.raises(ValueError, match="percent-encoding"):
        str(RtpInfo("a,b"))


@pytest.mark.parametrize(
    "text", ["seq=1", "url=;seq=1", "url=a;seq=70000", "url=a;rtptime=-1", "url=a;rtptime=4294967296"]
)
def test_malformed_rtp_info_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_rtp_info(text)


@pytest.mark.parametrize(
    ("text", "canonical", "value"),
    [
        ("12345678", "12345678", Session("12345678")),
        ("12345678;timeout=30", "12345678;timeout=30", Session("12345678", 30)),
        (" abc ; Timeout = 60 ", "abc;timeout=60", Session("abc", 60)),
        ("abc;timeout=0", "abc", Session("abc")),
        ("abc;timeout=soon", "abc", Session("abc")),
    ],
)
def test_session_table(text: str, canonical: str, value: Session) -> None:
    assert parse_session(text) == value
    assert str(value) == canonical


def test_a_header_without_an_id_names_no_session() -> None:
    for text in ("", ";timeout=5", "a b"):
        with pytest.raises(FormatError):
            parse_session(text)


@pytest.mark.parametrize(
    ("text", "canonical", "value"),
    [
        ("-1", "-1.0", Fraction(-1)),
        ("-1.0", "-1.0", Fraction(-1)),
        ("-1.000", "-1.0", Fraction(-1)),
        ("1", "1.0", Fraction(1)),
        ("+2.50", "2.5", Fraction(5, 2)),
        ("0.125", "0.125", Fraction(1, 8)),
        ("-4.", "-4.0", Fraction(-4)),
    ],
)
def test_scale_table(text: str, canonical: str, value: Fraction) -> None:
    assert parse_scale(text) == value
    assert format_scale(value) == canonical


@pytest.mark.parametrize("text", ["", "0", "0.0", "fast", "1e3", "1,5", "nan", "--1"])
def test_malformed_scales_and_speeds_are_refused(text: str) -> None:
    for parse in (parse_scale, parse_speed):
        with pytest.raises(FormatError):
            parse(text)


def test_speed_is_positive() -> None:
    assert parse_speed("2") == 2
    assert parse_speed("0.5") == Fraction(1, 2)
    with pytest.raises(FormatError):
        parse_speed("-1")


@pytest.mark.parametrize(
    ("text", "canonical", "value"),
    [
        (None, "all", Frames()),
        ("all", "all", Frames()),
        ("intra", "intra", Frames(FrameSet.INTRA)),
        ("Intra / 4000", "intra/4000", Frames(FrameSet.INTRA, 4000)),
        ("predicted", "predicted", Frames(FrameSet.PREDICTED)),
    ],
)
def test_frames_table(text: str | None, canonical: str, value: Frames) -> None:
    assert parse_frames(text) == value
    assert str(value) == canonical


@pytest.mark.parametrize("text", ["", "foo", "all/4000", "predicted/1000", "intra/", "intra/-1", "intra/1.5"])
def test_malformed_frames_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_frames(text)


def test_yes_and_no_with_their_defaults() -> None:
    assert parse_yes_no("Rate-Control", None, True) is True
    assert parse_yes_no("Rate-Control", " No ", True) is False
    assert parse_yes_no("Immediate", "yes", False) is True
    with pytest.raises(FormatError, match="Rate-Control"):
        parse_yes_no("Rate-Control", "maybe", True)


def test_tags_of_repeated_headers_come_once_each_in_order() -> None:
    assert parse_tags(["onvif-replay, x", " y ,onvif-replay", ""]) == ("onvif-replay", "x", "y")
    assert format_tags(("OPTIONS", "PLAY")) == "OPTIONS, PLAY"
