"""Reading of bit fields, big end first, as the codecs' parameter sets and headers are written."""

from __future__ import annotations

from nvr.model.errors import FormatError


class Bits:
    """A cursor over the bits of some bytes. Reading past the end raises FormatError."""

    __slots__ = ("_left", "_value", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8
        self._what = what

    @property
    def left(self) -> int:
        """Bits not yet read."""
        return self._left

    def u(self, count: int) -> int:
        """Unsigned integer of `count` bits: u(n)."""
        self._left -= count
        if self._left < 0:
            raise FormatError(f"{self._what} ends inside a field")
        return (self._value >> self._left) & ((1 << count) - 1)

    def flag(self) -> bool:
        return self.u(1) == 1

    def skip(self, count: int) -> None:
        self.u(count)

    def ue(self) -> int:
        """Unsigned Exp-Golomb code: ue(v) (ITU-T H.264 9.1)."""
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > 32:
                raise FormatError(f"{self._what} holds an Exp-Golomb code of more than 32 bits")
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """Signed Exp-Golomb code: se(v) (ITU-T H.264 9.1.1)."""
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def without_emulation(nal: bytes) -> bytes:
    """The RBSP of a NAL unit: each 0x03 of 0x000003 taken out (ITU-T H.264 7.3.1, H.265 7.3.1.1)."""
    return nal.replace(b"\0\0\3", b"\0\0")
