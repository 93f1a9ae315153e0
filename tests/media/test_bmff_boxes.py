from __future__ import annotations

import struct
import uuid
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.media.bmff.boxes import Box, box, find_box, full_box, iter_boxes, read_box, uuid_box
from nvr.model.errors import FormatError

OURS = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
KINDS = st.binary(min_size=4, max_size=4).filter(lambda kind: kind != b"uuid")


@given(st.lists(st.tuples(KINDS, st.binary(max_size=50))))
def test_a_walk_finds_the_boxes_that_were_built(boxes: list[tuple[bytes, bytes]]) -> None:
    data = b"".join(box(kind, contents) for kind, contents in boxes)
    assert [(b.type, data[b.body : b.end]) for b in iter_boxes(data)] == boxes


@given(st.binary(max_size=200), st.booleans())
def test_a_walk_over_any_bytes_ends_with_boxes_inside_them_or_a_format_error(data: bytes, torn: bool) -> None:
    end = 0
    with suppress(FormatError):
        for found in iter_boxes(data, torn=torn):
            assert end == found.offset < found.body <= found.end <= len(data)
            end = found.end


def test_a_box_may_have_a_64_bit_size_or_reach_to_the_end() -> None:
    large = struct.pack(">I4sQ", 1, b"mdat", 20) + b"abcd"
    assert read_box(large, 0, 20) == Box(b"mdat", 0, 16, 20)
    to_the_end = struct.pack(">I4s", 0, b"mdat") + b"abcd"
    assert list(iter_boxes(to_the_end)) == [Box(b"mdat", 0, 8, 12)]


def test_the_extended_type_of_a_uuid_box_is_read() -> None:
    data = uuid_box(OURS, b"ab", b"c")
    assert list(iter_boxes(data)) == [Box(b"uuid", 0, 24, 27, OURS)]


def test_version_and_flags_stand_before_the_contents_of_a_full_box() -> None:
    assert full_box(b"tfdt", 1, 0x020001, b"xy") == b"\0\0\0\x0etfdt\x01\x02\x00\x01xy"


@pytest.mark.parametrize("size", [0, 1, 2, 7, 8, 9, 11])
def test_a_cut_box_is_an_error_or_with_torn_the_end(size: int) -> None:
    data = box(b"free", b"abcd") + box(b"free", b"efgh")[:size]
    if size:
        with pytest.raises(FormatError, match="cut off at"):
            list(iter_boxes(data))
    assert len(list(iter_boxes(data, torn=True))) == 1


@pytest.mark.parametrize("head", [b"\0\0\0\x07free", b"\0\0\0\x01free" + struct.pack(">Q", 15), b"\0\0\0\x10uuid"])
def test_a_size_below_the_header_is_an_error(head: bytes) -> None:
    with pytest.raises(FormatError, match="less than its header"):
        list(iter_boxes(head + bytes(100)))


def test_a_path_of_containers_is_followed() -> None:
    data = box(b"free") + box(b"moov", box(b"mvhd", b"1"), box(b"trak", box(b"tkhd", b"2")))
    assert data[slice(*find_box(data, b"moov/trak/tkhd")[2:4])] == b"2"
    with pytest.raises(FormatError, match="no b'mdia' box"):
        find_box(data, b"moov/trak/mdia")
