"""What AV1, MPEG-4 Visual and JPEG share: units put together from the packets of one RTP time.

A unit ends with the packet that has the marker bit, or where the next RTP time begins. Losses: a unit that misses a
packet is dropped whole, and the first unit behind a loss needs `_proof` that its beginning is there, which a codec
finds in its content. The start of a stream counts as a loss: a client may join in the middle of a unit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from nvr.media.unit import AccessUnit, CodecConfiguration
from nvr.model.errors import FormatError

_NO_TIME = -1


class UnitAssembly(ABC):
    """How units end and what losses cost. A codec adds `push`, and the unit that it makes of what it has taken."""

    __slots__ = (
        "_damaged",
        "_gap",
        "_markers",
        "_proof",
        "_skipping",
        "_time",
        "configuration",
        "dropped",
        "last_error",
    )

    _time: int
    """RTP time of the unit in hand."""
    _skipping: bool
    """Whether the rest of it is passed over."""
    _proof: bool
    """Whether its beginning is in question."""

    def __init__(self) -> None:
        self.configuration: CodecConfiguration | None = None
        self.dropped = 0
        self.last_error: str | None = None
        self._gap = self._damaged = True
        self._markers = False
        self._reset()

    def lost(self, packets: int) -> None:
        """The unit that was being received is dropped."""
        if packets > 0:
            self._gap = self._damaged = True
            if self._time != _NO_TIME and not self._skipping:
                self._break_off(None)

    def flush(self) -> list[AccessUnit] | tuple[()]:
        """The unit in hand. Where units end with markers, one without is cut off; else all that came of it is there."""
        if self._time != _NO_TIME and not self._skipping and self._markers:
            self._break_off(None)
        done = self._ended()
        self._gap = self._damaged = True
        return done

    def _begin(self, rtp_time: int) -> list[AccessUnit] | tuple[()]:
        """Gives the unit in hand, which another one follows."""
        done = self._ended()
        self._time = rtp_time
        self._proof, self._gap = self._gap, False
        return done

    @abstractmethod
    def _units(self) -> list[AccessUnit]:
        """What the unit in hand, which is at its end, gives: more than one where a packet holds several, none where its
        beginning is not proven. Raises FormatError."""

    @abstractmethod
    def _clear(self) -> None:
        """Forgets the content of the unit in hand."""

    def _reset(self) -> None:
        self._time = _NO_TIME
        self._skipping = False
        self._proof = False
        self._clear()

    def _break_off(self, why: str | None) -> None:
        """The rest of the unit in hand is passed over."""
        self.dropped += 1
        self.last_error = why or self.last_error
        self._damaged = True
        self._skipping = True
        self._clear()

    def _ended(self) -> list[AccessUnit] | tuple[()]:
        """The unit in hand is at its end."""
        units: list[AccessUnit] | tuple[()] = ()
        if self._time != _NO_TIME and not self._skipping:
            try:
                units = self._units()
            except FormatError as e:
                self.last_error = str(e)
            if not units:
                self.dropped += 1
                self._damaged = True
        self._reset()
        return units


class UnitDepacketizer(UnitAssembly):
    """See Depacketizer. A codec adds what it takes from the payload of a packet."""

    __slots__ = ()

    def push(
        self, buffer: memoryview, start: int, end: int, rtp_time: int, marker: bool
    ) -> list[AccessUnit] | tuple[()]:
        if start >= end:
            return ()  # nothing but padding
        done: list[AccessUnit] | tuple[()] = ()
        if rtp_time != self._time:
            done = self._begin(rtp_time)
        if self._skipping:
            self._gap = False
        else:
            try:
                self._take(buffer, start, end)
            except FormatError as e:
                self._break_off(str(e))
        if not marker:
            return done
        self._markers = True
        return [*done, *self._ended()]

    @abstractmethod
    def _take(self, buffer: memoryview, start: int, end: int) -> None:
        """The payload of a packet of the unit in hand. Raises FormatError."""
