"""The registry: what is taken, what is refused and how it says so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.media import codecs
from nvr.media.bmff.boxes import box
from nvr.media.codecs import (
    UnsupportedCodec,
    depacketizer_for,
    from_sample_entry,
    packetizer_for,
    told_as,
    track_type_of,
)
from nvr.media.codecs.esds import esds_box
from nvr.media.codecs.g711 import PcmaConfiguration
from nvr.media.sdp import SessionDescription
from nvr.model.errors import FormatError
from nvr.model.recording import TrackType
from tests.support.rtp_streams import feed, packets_of


@pytest.mark.parametrize(
    ("encoding", "track_type"),
    [
        ("H264", TrackType.VIDEO),
        ("h265", TrackType.VIDEO),
        ("mpeg4-generic", TrackType.AUDIO),
        ("PCMU", TrackType.AUDIO),
        ("PCMA", TrackType.AUDIO),
        ("jpeg", TrackType.VIDEO),
        ("MP4V-ES", TrackType.VIDEO),
        ("av1", TrackType.VIDEO),
        ("L16", TrackType.AUDIO),
        ("G726-40", TrackType.AUDIO),
        ("aal2-g726-16", TrackType.AUDIO),
        ("opus", TrackType.AUDIO),
        ("vnd.onvif.metadata", TrackType.METADATA),
        ("vnd.onvif.metadata.gzip", TrackType.METADATA),
        ("vnd.onvif.metadata+gzip", TrackType.METADATA),
    ],
)
def test_each_encoding_has_its_track_type(encoding: str, track_type: TrackType) -> None:
    assert track_type_of(encoding) is track_type


@pytest.mark.parametrize("encoding", ["JPEG2000", "VP8", "G726-48", "", "MP4A-LATM"])
def test_an_unknown_encoding_is_refused_by_name(encoding: str) -> None:
    for ask in (track_type_of, lambda name: depacketizer_for(name, 90000)):
        with pytest.raises(UnsupportedCodec, match=f"encoding '{encoding}' is not supported"):
            ask(encoding)


@pytest.mark.requirement("RS-6.3.5-04", "RS-6.3.5-05")
@pytest.mark.parametrize(
    ("encoding", "word"),
    [
        ("H264", "H264"),
        ("H265", "H265"),
        ("jpeg", "JPEG"),
        ("MP4V-ES", "MPEG4"),
        ("AV1", "AV1"),
        ("PCMA", "G711"),
        ("PCMU", "G711"),
        ("G726-16", "G726"),
        ("AAL2-G726-32", "G726"),
        ("mpeg4-generic", "AAC"),
        ("opus", "opus"),
        ("L16", "L16"),
    ],
)
def test_clients_are_told_the_words_of_the_schema_or_iana_s(encoding: str, word: str) -> None:
    assert told_as(encoding) == word


def test_a_refusal_is_an_error_of_the_peers_format() -> None:
    assert issubclass(UnsupportedCodec, FormatError)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (b"", "0 bytes are not one sample entry"),
        (b"\0\0\0\x08avc3", "8 bytes are not one sample entry"),
        (box(b"vp08", bytes(78)), "type b'vp08'"),
        (box(b"mp4v", bytes(78)), "without the descriptor of tag 3"),
        (box(b"mp4v", bytes(78), esds_box(0x61, 4)), "mp4v with object type 0x61"),
        (box(b"av01", bytes(78)), "without an av1C"),
        (box(b"Opus", bytes(28)), "without dOps"),
        (box(b"ms\0\x45", bytes(28)), "G.726 with 0 channels"),
        (box(b"avc3", bytes(78)), "without avcC"),
        (box(b"hev1", bytes(78)), "without hvcC"),
        (box(b"avc3", bytes(20)), "cut short"),
        (box(b"mp4a", bytes(28)), "without the descriptor of tag 3"),
        (box(b"avc3", bytes(78)) * 2, "not one sample entry"),
    ],
)
def test_a_sample_entry_of_another_kind_is_refused(entry: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        from_sample_entry(entry)


@given(
    st.one_of(
        st.binary(max_size=120),
        st.tuples(
            st.sampled_from(
                [b"avc3", b"hev1", b"mp4a", b"mp4v", b"av01", b"twos", b"Opus", b"ms\0\x45", b"ulaw", b"metx"]
            ),
            st.binary(max_size=150),
        ).map(lambda parts: box(*parts)),
    )
)
def test_any_sample_entry_is_read_or_refused(entry: bytes) -> None:
    try:
        from_sample_entry(entry)
    except FormatError:
        return


NAMES = (
    "packetization-mode", "sprop-parameter-sets", "sprop-vps", "sprop-sps", "sprop-pps", "sprop-max-don-diff",
    "tx-mode", "mode", "config", "sizelength", "indexlength", "indexdeltalength", "maxdisplacement",
    "sprop-stereo", "x-dimensions", "framesize",
)  # fmt: skip


@given(
    st.sampled_from(sorted(codecs.ENCODINGS)),
    st.sampled_from([0, 8000, 48000, 90000, 2**31]),
    st.sampled_from([None, 0, 1, 2, 100_000]),
    st.dictionaries(
        st.sampled_from(NAMES),
        st.one_of(st.none(), st.text(max_size=12), st.sampled_from(["0", "1", "AAC-hbr", "1190"])),
    ),
)
def test_any_parameters_are_taken_or_refused(
    encoding: str, rate: int, channels: int | None, fmtp: dict[str, str | None]
) -> None:
    try:
        depacketizer_for(encoding, rate, channels, fmtp)
    except FormatError:
        return


def test_streams_of_a_session_description_find_their_codecs() -> None:
    description = SessionDescription.parse(
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
        b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
        b"a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z00AH5ZUAoAtyA==,aO48gA==\r\n"
        b"m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/16000/1\r\n"
        b"a=fmtp:97 streamtype=5;mode=AAC-hbr;config=1408;SizeLength=13;IndexLength=3;IndexDeltaLength=3\r\n"
        b"m=audio 0 RTP/AVP 8\r\n"
        b"m=application 0 RTP/AVP 98\r\na=rtpmap:98 vnd.onvif.metadata/90000\r\n"
    )
    found = []
    for media in description.media:
        [form] = media.formats
        made = depacketizer_for(form.encoding, form.clock_rate, form.channels, form.parameters)
        assert made.configuration is not None
        found.append((made.configuration.encoding, made.configuration.clock_rate))
    assert found == [("H264", 90000), ("MPEG4-GENERIC", 16000), ("PCMA", 8000), ("VND.ONVIF.METADATA", 90000)]


def test_the_packetizer_of_a_configuration_is_the_inverse_of_its_depacketizer() -> None:
    packets = packets_of(packetizer_for(PcmaConfiguration(), 1400), [(0, b"a" * 160), (160, b"b" * 160)])
    assert [u.data for u in feed(depacketizer_for("PCMA", 8000), packets)] == [b"a" * 160, b"b" * 160]
