from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.media.bmff.boxes import iter_boxes
from nvr.media.bmff.closing import Closing, build_tail, mfra_size, parse_tail, tail_size
from nvr.media.bmff.fragment import FragmentEntry
from nvr.media.bmff.init import Identity, build_head, parse_head
from nvr.model.errors import FormatError
from nvr.model.timeline import GapReason
from tests.support.footage import PCMU, START, encoded_aac, encoded_h265, video

INT64 = st.integers(-(1 << 62), 1 << 62)
UINT32 = st.integers(0, (1 << 32) - 1)
ENTRIES = st.builds(
    FragmentEntry,
    offset=st.integers(0, 1 << 62),
    length=UINT32,
    moof_distance=UINT32,
    media_time=INT64,
    start_ns=INT64,
    end_ns=INT64,
    samples=st.integers(0, 1 << 20),
    clean_point=st.booleans(),
    damaged=st.booleans(),
    lost_packets=UINT32,
    dropped_units=UINT32,
)
CLOSINGS = st.builds(
    Closing, INT64, st.one_of(st.none(), st.sampled_from([str(r) for r in GapReason])), st.lists(ENTRIES).map(tuple)
)
IDENTITY = Identity("f" * 32, "v" * 32, "rec-1", "VIDEO001", "a" * 32, 3, "source-lost", START, "H264")


@given(CLOSINGS, st.binary(max_size=50))
def test_a_tail_is_found_from_the_end_and_read_back(closing: Closing, before: bytes) -> None:
    tail = build_tail(closing)
    assert tail_size(before + tail) == len(tail)
    assert parse_tail(tail) == closing
    assert [b.type for b in iter_boxes(tail)] == [b"uuid", b"mfra"]


def test_mfra_ends_with_its_size_and_lists_clean_points_only() -> None:
    entry = FragmentEntry(1000, 500, 120, 90_000, START, START, 5, True, False, 0, 0)
    tail = build_tail(Closing(START, None, (entry, replace(entry, offset=1500, clean_point=False))))
    size = mfra_size(tail)
    assert size is not None
    mfra = next(iter_boxes(tail, len(tail) - size))
    tfra = next(iter_boxes(tail, mfra.body, mfra.end))
    contents = tail[tfra.body : tfra.end]
    assert contents[:16].hex() == "01000000000000010000000000000001"
    assert contents[16:].hex() == f"{90_000:016x}{1120:016x}010101"


@given(CLOSINGS, st.data())
def test_any_flipped_byte_of_the_close_box_is_noticed(closing: Closing, data: st.DataObject) -> None:
    tail = bytearray(build_tail(closing))
    close = next(iter_boxes(tail))
    tail[data.draw(st.integers(0, close.end - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FormatError):
        parse_tail(tail)


@given(st.binary(max_size=200))
def test_any_bytes_as_tail_are_refused(data: bytes) -> None:
    assert tail_size(data) is None
    with pytest.raises(FormatError):
        parse_tail(data)


@pytest.mark.parametrize("configuration", [video(), encoded_h265()[0], encoded_aac()[0], PCMU])
def test_a_head_says_whose_it_is_and_how_to_decode(configuration) -> None:  # type: ignore[no-untyped-def]
    data = build_head(configuration, IDENTITY)
    head = parse_head(data + b"what follows")
    assert head is not None
    assert head.identity == IDENTITY
    assert head.timescale == configuration.clock_rate
    assert head.sample_entry == configuration.sample_entry()
    assert head.size == len(data)
    assert [b.type for b in iter_boxes(data)] == [b"ftyp", b"moov", b"uuid"]


def test_a_head_that_is_cut_off_anywhere_is_not_there_yet() -> None:
    data = build_head(video(), IDENTITY)
    for size in range(len(data)):
        assert parse_head(data[:size]) is None


@given(st.data())
def test_a_flipped_byte_in_a_head_is_refused_or_leaves_the_identity_as_it_was(data: st.DataObject) -> None:
    head = bytearray(build_head(video(), IDENTITY))
    head[data.draw(st.integers(0, len(head) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(FormatError):
        found = parse_head(head)
        assert found is None or found.identity == IDENTITY


@given(st.binary(max_size=300))
def test_any_bytes_as_head_are_refused_or_too_short(data: bytes) -> None:
    with suppress(FormatError):
        assert parse_head(data) is None
    with suppress(FormatError):
        assert parse_head(b"\0\0\0\x08ftyp" + data) is None


@pytest.mark.parametrize("fields", [{"file": 5}, {"start_ns": "x"}, {"place": True}, {"gap_before": 1}])
def test_an_identity_with_a_field_of_a_wrong_type_is_refused(fields: dict[str, object]) -> None:
    body = replace(IDENTITY, **fields).to_box()[24:]  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="wrong type"):
        Identity.from_body(body)


def test_an_identity_of_a_newer_version_with_more_fields_is_told_apart() -> None:
    body = bytearray(IDENTITY.to_box()[24:])
    body[0] = 2
    with pytest.raises(FormatError, match="does not match its checksum"):
        Identity.from_body(body)
