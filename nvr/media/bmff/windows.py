"""A fragment in windows: checked once as a whole, and from then on read piece by piece, each piece checked again.

The checksum of a fragment is CRC-32 over all that stands behind its box. It runs through the bytes in order, so its
value at the edges of a window is as strong a check of the window as that at the end is of all. Who keeps these values
needs not keep the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from nvr.media.bmff.boxes import Buffer
from nvr.media.bmff.fragment import FragmentBox, Place
from nvr.model.errors import FormatError

WINDOW_BYTES: Final = 128 << 10
"""A window ends with the sample with which it has so many. Reading twice as much at once costs no less a byte."""


@dataclass(frozen=True, slots=True)
class Window:
    """Samples `first` to `last` (exclusive) and where their bytes stand, counted from the end of the fragment box."""

    first: int
    last: int
    start: int
    end: int
    crc_before: int
    crc: int
    """CRC-32 from the fragment box up to `end`."""

    def check(self, data: Buffer) -> None:
        """Raises FormatError unless these are the bytes that were there before."""
        if crc32(data, self.crc_before) != self.crc:
            raise FormatError(f"samples {self.first} to {self.last - 1} do not match their checksum any more")


def windows(header: FragmentBox, body: Buffer, places: Sequence[Place]) -> list[Window]:
    """Checks `body`, which is all that stands behind the box, and cuts it. Raises FormatError as `check_body` does."""
    if len(body) != header.length:
        raise FormatError(f"fragment of {header.length} bytes is cut off after {len(body)}")
    view = memoryview(body)
    found: list[Window] = []
    first, start = 0, places[0].at
    crc = crc32(view[:start])
    for i, place in enumerate(places):
        end = place.at + place.size
        if end - start >= WINDOW_BYTES or i + 1 == len(places):
            before, crc = crc, crc32(view[start:end], crc)
            found.append(Window(first, i + 1, start, end, before, crc))
            first, start = i + 1, end
    if crc32(view[start:], crc) != header.crc:
        raise FormatError("fragment does not match its checksum")
    return found
