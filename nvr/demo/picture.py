"""The built-in camera's picture: a moving background, a burnt-in clock, and the frame number as a bar of bits.

Planar YUV 4:2:0, drawn into bytearrays; no image library is needed. The bar survives lossy coding, so that whoever
receives the stream can tell from the pictures alone that every frame arrives once and in order.
"""

from __future__ import annotations

from dataclasses import dataclass

from nvr.model.time import UtcNs, format_iso

BITS = 24
"""The frame number modulo 2**24 stands in the bar, most significant bit left; a leading pair white, black marks it."""

_GLYPHS = {
    "0": "0e1113151911110e",
    "1": "040c04040404040e",
    "2": "0e11010204081f1f",
    "3": "1f0204020101110e",
    "4": "02060a121f020202",
    "5": "1f101e010101110e",
    "6": "0608101e1111110e",
    "7": "1f01020404080808",
    "8": "0e11110e1111110e",
    "9": "0e11110f0101020c",
    ":": "0000040000040000",
    "-": "0000001f00000000",
    ".": "0000000000000c0c",
    "T": "1f04040404040404",
    "Z": "1f0102040810101f",
}
_GLYPH_WIDTH = 6
_GLYPH_HEIGHT = 8


@dataclass(frozen=True, slots=True)
class Planes:
    """One picture: luma of width x height bytes, both chroma planes of a quarter of that."""

    luma: bytearray
    blue: bytearray
    red: bytearray


class Picture:
    """Draws frame after frame of one size. Width and height are even; at least 160 x 64."""

    def __init__(self, width: int, height: int) -> None:
        if width < 160 or height < 64 or width % 2 or height % 2:
            raise ValueError(f"a picture of {width} x {height} is too small or odd")
        self.width = width
        self.height = height
        ramp = bytes(40 + (x * 120 // width) for x in range(width))
        self._ramps = ramp + ramp
        self._cell = width // (BITS + 4)
        self._scale = max(1, (width - 16) // (_GLYPH_WIDTH * 24))

    def draw(self, number: int, utc_ns: UtcNs) -> Planes:
        """Frame `number` with the time `utc_ns` burnt in."""
        width, height = self.width, self.height
        luma = bytearray()
        for band in range(0, height, 16):
            shift = (number * 3 + band * 5) % width
            luma += self._ramps[shift : shift + width] * min(16, height - band)
        self._draw_text(luma, format_iso(utc_ns, 3), 8, height // 2)
        self._draw_bar(luma, number)
        quarter = width * height // 4
        return Planes(luma, bytearray([96 + number % 64]) * quarter, bytearray([160 - number % 64]) * quarter)

    def _draw_bar(self, luma: bytearray, number: int) -> None:
        cell = self._cell
        bits = "10" + format(number % (1 << BITS), f"0{BITS}b")
        row = bytearray()
        for bit in bits:
            row += (b"\xeb" if bit == "1" else b"\x10") * cell
        for y in range(cell):
            luma[y * self.width : y * self.width + len(row)] = row

    def _draw_text(self, luma: bytearray, text: str, left: int, top: int) -> None:
        scale = self._scale
        for row in range(_GLYPH_HEIGHT):
            line = bytearray()
            for character in text:
                bits = int(_GLYPHS[character][row * 2 : row * 2 + 2], 16) << 1
                for column in range(_GLYPH_WIDTH - 1, -1, -1):
                    line += (b"\xeb" if bits >> column & 1 else b"\x10") * scale
            for y in range(top + row * scale, top + (row + 1) * scale):
                start = y * self.width + left
                luma[start : start + len(line)] = line


def read_number(luma: bytes | bytearray | memoryview, line_size: int, width: int) -> int | None:
    """The frame number in a decoded picture's luma plane, or None when the mark does not stand there."""
    cell = width // (BITS + 4)
    row = (cell // 2) * line_size + cell // 2
    values = [luma[row + i * cell] for i in range(BITS + 2)]
    if not (values[0] > 160 and values[1] < 96):
        return None
    number = 0
    for value in values[2:]:
        number = number << 1 | (value > 128)
    return number
