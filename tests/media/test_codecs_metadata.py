"""ONVIF metadata: documents over packets, their beginnings and ends, gzip, sample entry."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.codecs import UnsupportedCodec, depacketizer_for, from_sample_entry, packetizer_for, track_type_of
from nvr.media.codecs.metadata import GzipMetadataConfiguration, MetadataConfiguration, MetadataPacketizer
from nvr.model.errors import FormatError
from nvr.model.recording import TrackType
from tests.support.rtp_streams import Packet, feed, packets_of


def document(n: int, size: int = 300) -> bytes:
    head = b'<?xml version="1.0" encoding="UTF-8"?>\n<tt:MetadataStream xmlns:tt="http://www.onvif.org/ver10/schema">'
    return head + f"<tt:Event n='{n}'>".encode() + b"x" * size + b"</tt:Event></tt:MetadataStream>"


def plain():  # type: ignore[no-untyped-def]
    return depacketizer_for("vnd.onvif.metadata", 90000)


def zipped():  # type: ignore[no-untyped-def]
    return depacketizer_for("vnd.onvif.metadata.gzip", 90000)


def test_a_document_is_one_unit_and_its_last_packet_has_the_marker() -> None:
    units = [(n * 9000, document(n, n * 700)) for n in range(4)]
    packets = packets_of(MetadataPacketizer(500), units)
    assert [p.marker for p in packets].count(True) == 4
    found = feed(plain(), packets, flush=False)
    assert [(u.rtp_time, u.data) for u in found] == units
    assert all(u.clean_point and not u.damaged for u in found)


def test_a_loss_at_any_place_drops_only_its_document() -> None:
    for made, units in (
        (plain, [(n * 9000, document(n, n * 400)) for n in range(5)]),
        (zipped, [(n * 9000, gzip.compress(document(n, n * 400), 0)) for n in range(5)]),
    ):
        owner, packets = [], []
        for n, unit in enumerate(units):
            of = packets_of(MetadataPacketizer(400), [unit])
            packets += of
            owner += [n] * len(of)
        for lost in range(len(packets)):
            depacketizer = made()
            found = feed(depacketizer, packets, {lost})
            assert [u.rtp_time for u in found] == [t for n, (t, _) in enumerate(units) if n != owner[lost]], lost
            assert all(u.data == dict(units)[u.rtp_time] for u in found)
            assert depacketizer.dropped == (0 if owner.count(owner[lost]) == 1 else 1), lost
            assert depacketizer.last_error is None


def test_a_stream_joined_in_the_middle_of_a_document_begins_with_the_next() -> None:
    packets = packets_of(MetadataPacketizer(100), [(0, document(0)), (9000, document(1))])
    made = plain()
    assert [u.rtp_time for u in feed(made, packets[2:])] == [9000]
    assert (made.dropped, made.last_error) == (1, None)


def test_without_markers_a_document_ends_with_its_closing_tag() -> None:
    units = [(n * 9000, document(n, 900)) for n in range(3)]
    units.append((27000, b'<tt:MetadataStream xmlns:tt="http://www.onvif.org/ver10/schema"/>\n'))
    packets = [Packet(p.payload, p.rtp_time, False) for p in packets_of(MetadataPacketizer(400), units)]
    assert [(u.rtp_time, u.data) for u in feed(plain(), packets)] == units


def test_without_markers_the_closing_tag_may_be_cut_by_a_packet() -> None:
    text = document(1)
    packets = [Packet(text[:-5], 0, False), Packet(text[-5:], 0, False)]
    assert [u.data for u in feed(plain(), packets)] == [text]


def test_a_document_whose_end_is_missing_is_dropped_at_the_next_time() -> None:
    made = plain()
    found = feed(made, [Packet(document(0)[:-30], 0, False), Packet(document(1), 9000, True)])
    assert [u.rtp_time for u in found] == [9000]
    assert (made.dropped, made.last_error) == (1, "a metadata document without its end")


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"\x80\x01binary", "no VND.ONVIF.METADATA begins with b'\\x80\\x01binary'"),
        (b"<html>", "no VND.ONVIF.METADATA begins with b'<html>'"),
    ],
)
def test_what_is_no_document_is_dropped_and_says_why(payload: bytes, why: str) -> None:
    made = plain()
    found = feed(made, [Packet(document(0), 0, True), Packet(payload, 1, True), Packet(document(2), 2, True)])
    assert [u.rtp_time for u in found] == [0, 2]
    assert (made.dropped, made.last_error) == (1, why)


@pytest.mark.parametrize(
    "head", [b"<MetadataStream>", b"\xef\xbb\xbf<?xml version='1.0'?>", b"\n <tt:MetadataStream xmlns:tt='x'>"]
)
def test_documents_begin_in_several_ways(head: bytes) -> None:
    assert [u.data for u in feed(plain(), [Packet(head + b"...", 0, True)])] == [head + b"..."]


def test_an_empty_packet_may_bring_the_marker_and_padding_changes_nothing() -> None:
    made = plain()
    text = document(1)
    packets = [Packet(text[:200], 0, False), Packet(b"", 5, True), Packet(text[200:], 0, False), Packet(b"", 0, True)]
    assert [u.data for u in feed(made, packets, flush=False)] == [text]
    assert made.dropped == 0


def test_a_document_without_end_is_given_up_at_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    from nvr.media.codecs import metadata

    monkeypatch.setattr(metadata, "MAXIMUM_DOCUMENT", 1000)
    made = plain()
    assert feed(made, packets_of(MetadataPacketizer(100), [(0, document(0, 2000))])) == []
    assert (made.dropped, made.last_error) == (1, "a metadata document of more than 1000 bytes")


@settings(max_examples=150, deadline=None)
@given(size=st.integers(0, 5000), maximum=st.integers(1, 2000))
def test_documents_of_any_size_survive_packets_of_any_size(size: int, maximum: int) -> None:
    data = document(1, size)
    maximum = max(maximum, 120)  # the beginning has to show in the first packet
    packets = packets_of(MetadataPacketizer(maximum), [(7, data)])
    assert max(len(p.payload) for p in packets) <= maximum
    assert [u.data for u in feed(plain(), packets, flush=False)] == [data]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.binary(max_size=20), st.sampled_from([b"<?xml ", b"<MetadataStream>", b"\x1f\x8b\x08"])),
            st.integers(0, 2),
            st.booleans(),
            st.integers(0, 1),
        ),
        max_size=20,
    ),
    st.sampled_from([plain, zipped]),
)
def test_no_payload_raises(packets: list[tuple[bytes, int, bool, int]], made) -> None:  # type: ignore[no-untyped-def]
    depacketizer = made()
    for payload, rtp_time, marker, lost in packets:
        depacketizer.lost(lost)
        assert all(u.data for u in depacketizer.push(memoryview(payload), 0, len(payload), rtp_time, marker))
    depacketizer.flush()


@pytest.mark.parametrize("name", ["vnd.onvif.metadata.gzip", "VND.ONVIF.METADATA+GZIP"])
def test_both_names_of_the_gzip_form_are_taken(name: str) -> None:
    made = depacketizer_for(name, 90000)
    assert made.configuration == GzipMetadataConfiguration()
    data = gzip.compress(document(3))
    assert [u.data for u in feed(made, packets_of(packetizer_for(made.configuration, 50), [(0, data)]))] == [data]


@pytest.mark.parametrize("name", ["vnd.onvif.metadata.exi.onvif", "vnd.onvif.metadata.exi.ext"])
def test_exi_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(UnsupportedCodec, match="EXI is not taken; let the camera send plain or gzip"):
        depacketizer_for(name, 90000)


@pytest.mark.parametrize("configuration", [MetadataConfiguration(), GzipMetadataConfiguration()])
def test_the_configuration_survives_sdp_and_sample_entry(configuration: MetadataConfiguration) -> None:
    entry = configuration.sample_entry()
    assert from_sample_entry(entry) == configuration
    assert entry[4:8] == b"metx"
    encoding = b"gzip" if isinstance(configuration, GzipMetadataConfiguration) else b""
    assert entry[16:] == encoding + b"\0http://www.onvif.org/ver10/schema\0\0"
    name, rate = configuration.rtpmap().split("/")
    assert depacketizer_for(name, int(rate)).configuration == configuration
    assert track_type_of(name) is TrackType.METADATA
    assert MetadataConfiguration() != GzipMetadataConfiguration()


def test_timed_metadata_of_others_is_refused() -> None:
    entry = MetadataConfiguration().sample_entry()
    with pytest.raises(UnsupportedCodec, match="another namespace"):
        from_sample_entry(entry.replace(b"onvif", b"other"))
    with pytest.raises(UnsupportedCodec, match="content encoding b'GZIP'"):
        from_sample_entry(GzipMetadataConfiguration().sample_entry().replace(b"gzip", b"GZIP"))


def test_an_empty_document_is_refused_by_the_packetizer() -> None:
    with pytest.raises(FormatError, match="empty"):
        MetadataPacketizer(100).packetize(memoryview(b""))


def test_another_clock_rate_is_refused() -> None:
    with pytest.raises(UnsupportedCodec, match="1000 Hz"):
        depacketizer_for("VND.ONVIF.METADATA", 1000)
