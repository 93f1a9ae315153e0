"""A fragment read in windows is what it is when it is read whole, and as well checked."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.bmff import windows as module
from nvr.media.bmff.fragment import FragmentBox, FragmentBuilder, parse_places
from nvr.media.bmff.windows import Window, windows
from nvr.media.codecs.h264 import H264Configuration
from nvr.media.unit import Fragment, Sample
from nvr.model.errors import FormatError
from nvr.model.time import NS

START = 1_767_225_600 * NS
VIDEO = H264Configuration((bytes.fromhex("674d001f965402802dc8"),), (bytes.fromhex("68ee3c80"),))

SAMPLES = st.lists(st.binary(max_size=60), min_size=1, max_size=20)


def built(data: list[bytes]) -> tuple[FragmentBox, bytes]:
    samples = [Sample(START + i * NS, d, i == 0) for i, d in enumerate(data)]
    made = FragmentBuilder(START, 90_000).build(Fragment(VIDEO, samples, START + len(data) * NS))
    header = FragmentBox.parse(made.head)
    assert header is not None
    return header, b"".join(made.body)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW_BYTES", 100)


@given(SAMPLES)
@settings(deadline=None)
def test_windows_hold_all_samples_in_order_and_each_can_be_checked_by_itself(data: list[bytes]) -> None:
    header, body = built(data)
    places = parse_places(header, body, START, 90_000)
    assert [body[p.at : p.at + p.size] for p in places] == data
    found = windows(header, body, places)
    assert [i for w in found for i in range(w.first, w.last)] == list(range(len(data)))
    for window in found:
        window.check(body[window.start : window.end])
        assert window.end - window.start < 100 + 60


@given(SAMPLES, st.data())
@settings(deadline=None)
def test_a_flipped_byte_is_noticed_when_it_is_opened_and_when_a_window_is_read_again(
    data: list[bytes], draw: st.DataObject
) -> None:
    header, body = built(data)
    found = windows(header, body, parse_places(header, body, START, 90_000))
    at = draw.draw(st.integers(0, len(body) - 1))
    damaged = bytearray(body)
    damaged[at] ^= draw.draw(st.integers(1, 255))

    def fails(window: Window) -> bool:
        with suppress(FormatError):
            window.check(damaged[window.start : window.end])
            return False
        return True

    assert [fails(w) for w in found] == [w.start <= at < w.end for w in found]
    with pytest.raises(FormatError):
        windows(header, bytes(damaged), parse_places(header, bytes(damaged), START, 90_000))
    with pytest.raises(FormatError, match="cut off"):
        windows(header, body[:-1], parse_places(header, body, START, 90_000))
