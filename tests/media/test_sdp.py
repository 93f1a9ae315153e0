"""nvr.media.sdp: what cameras write, what is understood of it, what is written."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.sdp import (
    MAX_SIZE,
    Direction,
    Media,
    PayloadFormat,
    SessionDescription,
    control_base,
    resolve_control,
)
from nvr.model.errors import FormatError

CAMERA = b"""v=0\r
o=- 1453439395764633 1453439395764633 IN IP4 192.0.2.8\r
s=Media Presentation\r
e=NONE\r
b=AS:5050\r
t=0 0\r
a=control:rtsp://192.0.2.8:554/Streaming/Channels/101/\r
a=recvonly\r
a=range:npt=0-\r
m=video 0 RTP/AVP 96\r
c=IN IP4 0.0.0.0\r
b=AS:5000\r
a=control:trackID=1\r
a=rtpmap:96 H264/90000\r
a=fmtp:96 profile-level-id=420029; packetization-mode=1; sprop-parameter-sets=Z01AHppmAgBDL/gLUBAQFAg=,aO48gA==\r
a=x-dimensions:1920,1080\r
m=audio 0 RTP/AVP 8\r
a=control:trackID=2\r
a=sendonly\r
m=application 0 RTP/AVP 107\r
a=control:trackID=3\r
a=rtpmap:107 vnd.onvif.metadata/90000\r
a=Media_header:MEDIAINFO=494D4B48010100;\r
"""


def described(text: str) -> SessionDescription:
    return SessionDescription.parse(text.encode())


def section(*lines: str, kind: str = "video", types: str = "96") -> Media:
    (media,) = described("\n".join(("v=0", f"m={kind} 0 RTP/AVP {types}", *lines))).media
    return media


def test_an_ordinary_camera_is_understood_section_by_section() -> None:
    sdp = SessionDescription.parse(CAMERA)
    assert sdp.faults == ()
    assert sdp.name == "Media Presentation"
    assert sdp.control == "rtsp://192.0.2.8:554/Streaming/Channels/101/"
    assert sdp.attribute("range") == "npt=0-"
    video, audio, metadata = sdp.media
    assert [m.kind for m in sdp.media] == ["video", "audio", "application"]
    assert (video.formats[0].encoding, video.formats[0].clock_rate) == ("H264", 90_000)
    assert video.formats[0].parameters == {
        "profile-level-id": "420029",
        "packetization-mode": "1",
        "sprop-parameter-sets": "Z01AHppmAgBDL/gLUBAQFAg=,aO48gA==",
    }
    assert video.attribute("x-dimensions") == "1920,1080"
    assert video.direction is Direction.RECVONLY, "the session's direction counts where the section has none"
    assert audio.direction is Direction.SENDONLY
    assert audio.formats == (PayloadFormat(8, "PCMA", 8000),)
    assert metadata.formats[0].encoding == "VND.ONVIF.METADATA"
    assert (video.control, audio.control, metadata.control) == ("trackID=1", "trackID=2", "trackID=3")


def test_clock_rate_and_channels_are_not_confused() -> None:
    media = section("a=rtpmap:97 mpeg4-generic/48000/2", kind="audio", types="97")
    assert media.formats == (PayloadFormat(97, "MPEG4-GENERIC", 48_000, 2),)


def test_each_payload_type_keeps_its_own_map_and_parameters() -> None:
    media = section(
        "a=rtpmap:96 H264/90000",
        "a=rtpmap:98 H265/90000",
        "a=fmtp:98 profile-id=1",
        "a=fmtp:96 packetization-mode=1",
        types="98 96 0",
    )
    assert [f.payload_type for f in media.formats] == [98, 96, 0]
    assert [f.encoding for f in media.formats] == ["H265", "H264", "PCMU"]
    assert [f.fmtp for f in media.formats] == ["profile-id=1", "packetization-mode=1", None]
    assert media.format(96) == PayloadFormat(96, "H264", 90_000, None, "packetization-mode=1")
    assert media.format(97) is None


@pytest.mark.parametrize(
    ("value", "parameters"),
    [
        ("96 packetization-mode=1;useinbandfec", {"packetization-mode": "1", "useinbandfec": ""}),
        ('96  A=b=c== ;; b = "q" ;', {"a": "b=c==", "b": "q"}),
        ("96", {}),
        ("96 0-15", {"0-15": ""}),
    ],
)
def test_fmtp_parameters_with_and_without_value(value: str, parameters: dict[str, str]) -> None:
    assert section("a=rtpmap:96 X/90000", f"a=fmtp:{value}").formats[0].parameters == parameters


@pytest.mark.parametrize(
    ("payload_type", "encoding", "clock_rate"),
    [
        (0, "PCMU", 8000),
        (8, "PCMA", 8000),
        (9, "G722", 8000),
        (14, "MPA", 90_000),
        (26, "JPEG", 90_000),
        (33, "MP2T", 90_000),
    ],
)
def test_static_payload_types_need_no_rtpmap(payload_type: int, encoding: str, clock_rate: int) -> None:
    assert section(types=str(payload_type)).formats == (PayloadFormat(payload_type, encoding, clock_rate),)


def test_a_dynamic_payload_type_without_rtpmap_is_there_but_unknown() -> None:
    assert section().formats == (PayloadFormat(96, "", 0),)


def test_an_rtpmap_for_a_type_that_the_m_line_forgot_is_offered_too() -> None:
    assert [f.encoding for f in section("a=rtpmap:97 H264/90000", types="0").formats] == ["PCMU", "H264"]


@pytest.mark.parametrize(
    ("line", "kind", "rate"),
    [
        ("a=rtpmap:96 H264", "video", 90_000),
        ("a=rtpmap:96 H264/", "video", 90_000),
        ("a=rtpmap:96 X/0", "audio", 8000),
        (f"a=rtpmap:96 X/{'9' * 5000}/{'9' * 5000}", "video", 90_000),
    ],
)
def test_a_missing_clock_rate_is_assumed_and_named_as_a_fault(line: str, kind: str, rate: int) -> None:
    sdp = described(f"v=0\nm={kind} 0 RTP/AVP 96\n{line}")
    assert sdp.media[0].formats[0].clock_rate == rate
    assert f"{rate} is assumed" in sdp.faults[0]


def test_sections_that_are_not_rtp_or_not_understood_do_not_leak_into_others() -> None:
    sdp = described(
        "v=0\nm=video 0 RTP/AVP 96\na=control:one\n"
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=control:two\na=rtpmap:96 EVIL/1\n"
        "m=what\na=control:three\nc=IN IP4 1.2.3.4\n"
        "m=audio 0 RTP/AVP 0\na=control:four\n"
    )
    assert [m.control for m in sdp.media] == ["one", "four"]
    assert sdp.media[0].formats == (PayloadFormat(96, "", 0),)
    assert sdp.media[0].connection is None
    assert [lines[0] for lines in sdp.other] == ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "m=what"]
    assert sdp.faults == ("'m=what' is no m= line",)


@pytest.mark.parametrize("protocol", ["RTP/AVP", "rtp/avp", "RTP/AVP/TCP", "TCP/RTP/AVP", "RTP/AVPF"])
def test_every_spelling_of_rtp_opens_a_section(protocol: str) -> None:
    (media,) = described(f"v=0\nm=video 0/2 {protocol} 26\n").media
    assert (media.protocol, media.formats[0].encoding) == (protocol, "JPEG")


def test_an_unknown_kind_of_media_over_rtp_is_a_section_like_the_others() -> None:
    assert section("a=rtpmap:99 smell/1000", kind="odour", types="99").kind == "odour"


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\r\n\r\n", " \r\n", "\n\0"])
def test_odd_line_ends_are_tolerated(end: str) -> None:
    text = end.join(("v=0", "s=x", "m=video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000", "a=control: a b "))
    (media,) = described(text).media
    assert (media.formats[0].encoding, media.control) == ("H264", "a b")


def test_sloppy_lines_are_skipped_and_named() -> None:
    sdp = described(
        "\ufeffv=0\nrubbish\nM=Video 0 rtp/avp 96 x 300\nA=rtpmap:96 h264/90000\na=rtpmap:zz\na=fmtp:q\na=\n"
    )
    assert sdp.media[0].kind == "video"
    assert sdp.media[0].formats == (PayloadFormat(96, "H264", 90_000),)
    assert len(sdp.faults) == 5


def test_digits_of_other_scripts_are_no_payload_types() -> None:
    sdp = SessionDescription.parse(b"v=0\nm=video 0 RTP/AVP 26 \xb97 " + b"9" * 5000)
    assert [f.payload_type for f in sdp.media[0].formats] == [26]
    assert len(sdp.faults) == 2


def test_bytes_beyond_ascii_are_utf8_where_they_can_be_and_else_latin_1() -> None:
    assert SessionDescription.parse(b"v=0\ns=Caf\xc3\xa9\nm=video 0 RTP/AVP 26").name == "Café"
    assert SessionDescription.parse(b"v=0\ns=Caf\xe9\nm=video 0 RTP/AVP 26").name == "Café"


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", b"<html>not found</html>", b"a=control:*\r\n", bytes(100)])
def test_what_is_no_session_description_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="no session description"):
        SessionDescription.parse(data)


def test_an_oversized_description_is_refused() -> None:
    with pytest.raises(FormatError, match="allowed"):
        SessionDescription.parse(b"v=0\n" + b" " * MAX_SIZE)


@settings(max_examples=300)
@given(
    st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            [b"m=", b"a=rtpmap:96 ", b"a=fmtp:", b"\n", b"m=video 0 RTP/AVP 96\n", b"a=control:", b"9/", b"x", b"\xff"]
        )
    ).map(b"".join)
)
def test_any_bytes_give_a_description_or_a_format_error(data: bytes) -> None:
    with suppress(FormatError):
        sdp = SessionDescription.parse(b"v=0\n" + data)
        assert SessionDescription.parse(bytes(sdp)) == SessionDescription.parse(
            bytes(SessionDescription.parse(bytes(sdp)))
        )


texts = st.text("abcXYZ019-_.=:/ ", min_size=1, max_size=12).map(str.strip).filter(bool)
tokens = st.text("abcXYZ019-_", min_size=1, max_size=12)
formats = st.lists(
    st.builds(
        PayloadFormat,
        st.integers(96, 127),
        st.sampled_from(["H264", "MPEG4-GENERIC", "VND.ONVIF.METADATA"]),
        st.integers(1, 200_000),
        st.none() | st.integers(1, 8),
        st.none() | texts,
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda f: f.payload_type,
).map(tuple)
attributes = st.lists(
    st.tuples(st.text("bdgy", min_size=1, max_size=4).map("x-{}".format), st.none() | texts), max_size=3
).map(tuple)
sections = st.builds(
    Media,
    st.sampled_from(["video", "audio", "application"]),
    formats,
    st.integers(0, 65_535),
    st.sampled_from(["RTP/AVP", "RTP/AVP/TCP", "RTP/SAVP"]),
    st.none() | texts,
    st.none() | st.sampled_from(Direction),
    st.none() | tokens,
    st.none() | st.just("IN IP6 ::1"),
    st.lists(st.just("AS:100"), max_size=1).map(tuple),
    attributes,
)


@settings(max_examples=60)
@given(
    st.builds(
        SessionDescription, st.lists(sections, max_size=3).map(tuple), control=st.none() | texts, attributes=attributes
    )
)
def test_what_is_written_is_read_back(sdp: SessionDescription) -> None:
    assert SessionDescription.parse(bytes(sdp)) == sdp
    assert bytes(SessionDescription.parse(bytes(sdp))) == bytes(sdp)


def test_a_line_end_in_a_value_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="line end"):
        bytes(SessionDescription(name="a\r\na=control:evil"))


@pytest.mark.parametrize(
    ("rtpmap", "written"),
    [
        ("H264/90000", "H264/90000"),
        ("mpeg4-generic/48000/2", "mpeg4-generic/48000/2"),
        ("vnd.onvif.metadata/90000", "vnd.onvif.metadata/90000"),
    ],
)
def test_the_rtpmap_of_a_codec_is_written_in_its_registered_spelling(rtpmap: str, written: str) -> None:
    payload_format = PayloadFormat.of(96, rtpmap, "a=b")
    assert payload_format.rtpmap == written
    assert payload_format.fmtp == "a=b"
    with pytest.raises(FormatError):
        PayloadFormat.of(96, "H264")


def test_a_replay_description_is_written_line_by_line() -> None:
    sdp = SessionDescription(
        (
            Media(
                "video",
                (PayloadFormat.of(96, "H264/90000", "packetization-mode=1"),),
                control="VIDEO001",
                onvif_track="VIDEO001",
            ),
        ),
        origin="- 1 1 IN IP4 192.0.2.1",
        connection="IN IP4 0.0.0.0",
        control="*",
        attributes=(("range", "clock=20260101T100000Z-"), ("tool", None)),
    )
    assert str(sdp).split("\r\n") == [
        "v=0",
        "o=- 1 1 IN IP4 192.0.2.1",
        "s=-",
        "c=IN IP4 0.0.0.0",
        "t=0 0",
        "a=control:*",
        "a=range:clock=20260101T100000Z-",
        "a=tool",
        "m=video 0 RTP/AVP 96",
        "a=rtpmap:96 H264/90000",
        "a=fmtp:96 packetization-mode=1",
        "a=control:VIDEO001",
        "a=x-onvif-track:VIDEO001",
        "",
    ]


@pytest.mark.parametrize(
    ("control", "base", "uri"),
    [
        ("*", "rtsp://h/s/", "rtsp://h/s/"),
        (None, "rtsp://h/s", "rtsp://h/s"),
        ("", "rtsp://h/s", "rtsp://h/s"),
        ("trackID=1", "rtsp://h/s/", "rtsp://h/s/trackID=1"),
        ("trackID=1", "rtsp://h/s", "rtsp://h/s/trackID=1"),
        ("/trackID=1", "rtsp://h/s/", "rtsp://h/s/trackID=1"),
        ("trackID=1", "rtsp://h/cam?channel=1&subtype=0", "rtsp://h/cam?channel=1&subtype=0/trackID=1"),
        ("?ctype=video", "rtsp://h/s", "rtsp://h/s?ctype=video"),
        (" rtsp://h/s/track1?x=y ", "rtsp://other/", "rtsp://h/s/track1?x=y"),
        ("RTSP://h/t", "rtsp://h/s", "RTSP://h/t"),
    ],
)
def test_controls_resolve_as_cameras_mean_them(control: str | None, base: str, uri: str) -> None:
    assert resolve_control(control, base) == uri


@pytest.mark.parametrize(
    ("content_base", "content_location", "base"),
    [
        (None, None, "rtsp://h/s"),
        ("rtsp://h/base/", "rtsp://h/location", "rtsp://h/base/"),
        (None, "rtsp://h/location", "rtsp://h/location"),
        ("", " ", "rtsp://h/s"),
        ("sub/", None, "rtsp://h/s/sub/"),
    ],
)
def test_the_base_is_content_base_then_content_location_then_the_request(
    content_base: str | None, content_location: str | None, base: str
) -> None:
    assert control_base("rtsp://h/s", content_base, content_location) == base
