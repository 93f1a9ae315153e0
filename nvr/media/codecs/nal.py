"""What H.264 (RFC 6184) and H.265 (RFC 7798) share: access units put together from NAL units, and taken apart again.

An access unit ends with the packet that has the marker bit; cameras that never set it are served too: a new RTP time
ends the unit before it. A marker behind nothing but parameter sets ends nothing (cameras that send each NAL unit with
it): what stands before the first slice belongs to the picture that follows, with that picture's time. A camera that
sets the marker inside a picture, which shows when the rest of it follows with the same time, is served by the time from
then on.

Losses. A unit that misses a packet is dropped whole. The unit behind a loss is delivered only when its beginning is
there: its first slice begins the picture, and its first NAL unit stands at least as early in the order of an access
unit (delimiter, parameter sets, SEI, slices) as in the last unit of the same kind that was received whole. A stream
with delimiters thus proves each beginning by the delimiter; a stream of bare slices by the slice. The start of a stream
counts as a loss: a client may join in the middle of a unit. Units are `damaged` from a loss to the next clean point.
"""

from __future__ import annotations

import base64
import binascii
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from nvr.media.unit import AccessUnit, CodecConfiguration
from nvr.model.errors import FormatError

LENGTH = struct.Struct(">I")
_SIZE = struct.Struct(">H")
_length = LENGTH.pack

START_CODE = b"\0\0\1"

MAXIMUM_UNIT = 16 << 20
"""Bytes of one access unit; a camera that never ends its units cannot take the memory."""

LONGEST_SET = 2048
"""Bytes of a parameter set that are looked at, so that none holds the event loop. Encoders write fewer than 100."""

MAXIMUM_SET = 0xFFFF
"""Bytes of a parameter set that are kept: the sizes in avcC and hvcC have 16 bits."""

MOST_IDS = 256
"""No type of parameter set has more ids."""

NO_TIME = -1

DELIMITER, VIDEO_SET, SEQUENCE_SET, PICTURE_SET, PREFIX, SLICE, OTHER = range(7)
"""Role of a NAL unit, in the order in which they may begin an access unit."""


class NalDepacketizer(ABC):
    """Access unit assembly. A codec adds its payload structures, its slices and its parameter sets."""

    __slots__ = (
        "_begins",
        "_damaged",
        "_dirty",
        "_ended",
        "_first_role",
        "_fragment",
        "_fragment_from",
        "_fragment_type",
        "_gap",
        "_known",
        "_markers",
        "_opening",
        "_parts",
        "_proof",
        "_sets",
        "_size",
        "_skipping",
        "_time",
        "_vcl",
        "configuration",
        "dropped",
        "last_error",
        "middle",
    )

    middle: bytes
    """While a fragmented NAL unit is in hand: how the payloads of its middle begin, those that are neither its first
    nor its last. A caller may hand over many of them at once by `goes_on`. Empty while there is none."""

    _parts: list[bytes]
    _size: int
    _time: int
    _skipping: bool
    _proof: bool
    _fragment: int
    _fragment_from: int
    _fragment_type: int
    _first_role: int
    _vcl: bool
    _begins: bool

    HEADER: ClassVar[int]
    """Bytes of the NAL unit header."""
    ROLES: ClassVar[tuple[int, ...]]
    """Role of each NAL unit type that may stand in a payload or an aggregate; -1 for those that may not."""

    def __init__(self) -> None:
        self.dropped = 0
        self.configuration: CodecConfiguration | None = None
        self.last_error: str | None = None
        self._sets: dict[tuple[int, int], bytes] = {}
        """By type and id, those received last at the end."""
        self._known: frozenset[bytes] = frozenset()
        self._dirty = False
        self._gap = True
        self._damaged = True
        self._opening = {False: SLICE, True: SLICE}
        self._markers: bool | None = None
        self._ended = NO_TIME
        self._reset()

    def push(
        self, buffer: memoryview, start: int, end: int, rtp_time: int, marker: bool
    ) -> list[AccessUnit] | tuple[()]:
        """One payload; see Depacketizer. A codec answers the middle of a fragmented NAL unit by itself before this."""
        if start >= end:
            return ()  # nothing but padding: no part of any unit (RFC 3550 5.1)
        done: list[AccessUnit] | tuple[()] = ()
        if rtp_time != self._time:
            if self._time != NO_TIME:
                done = self._time_changed()
            self._time = rtp_time
            if not self._parts:
                self._proof, self._gap = self._gap, False
        if self._skipping:
            self._gap = False  # what was lost lies inside the unit passed over
        else:
            try:
                self._payload(buffer, start, end)
                if self._size > MAXIMUM_UNIT:
                    raise FormatError(f"an access unit of more than {MAXIMUM_UNIT} bytes")
                if marker and self._fragment >= 0:
                    raise FormatError("the marker bit inside a fragmented NAL unit")
            except FormatError as e:
                self._bad(str(e))
        if marker:
            if self._skipping:
                self._reset()
            elif self._vcl and self._markers is not False:
                self._markers = True
                return [*done, *self._complete()]
        return done

    def goes_on(self, parts: list[bytes], size: int) -> None:
        """Payloads that follow the one pushed last, with its time, without marker, each beginning with `middle`;
        `parts` is what stands behind that, `size` bytes in all. A unit that becomes too large is refused by the `push`
        that follows."""
        self._parts += parts
        self._size += size

    def lost(self, packets: int) -> None:
        """Packets are missing: the unit that was being received is dropped."""
        if packets > 0:
            self._break_off()
            self._gap = True

    def flush(self) -> list[AccessUnit] | tuple[()]:
        """The unit in hand. Where units end with markers, one without is cut off; else all that came of it is there."""
        done: list[AccessUnit] | tuple[()] = ()
        if self._markers and self._vcl:
            self._break_off()
        elif self._time != NO_TIME:
            done = self._time_changed()
        self._reset()
        self._gap = self._damaged = True
        return done

    # -- the unit in hand ------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._parts = []
        self._size = 0
        self._time = NO_TIME
        self._skipping = False
        self._proof = False
        self._fragment = -1
        self._fragment_from = 0
        self._fragment_type = -1
        self.middle = b""
        self._first_role = -1
        self._vcl = False
        self._begins = False

    def _break_off(self) -> None:
        """Drop the unit in hand and pass over what is left of it."""
        self._damaged = True
        if self._time == NO_TIME or self._skipping:
            return
        self.dropped += 1
        at = self._time
        self._reset()
        self._time = at
        self._skipping = True

    def _bad(self, why: str) -> None:
        self.last_error = why
        self._break_off()

    def _time_changed(self) -> list[AccessUnit] | tuple[()]:
        """A packet with another time has come without a marker before it."""
        if self._skipping:
            self._reset()
            return ()
        if self._fragment >= 0:
            self._bad("a fragmented NAL unit without its end")
            self._reset()
            return ()
        if self._vcl:
            return self._complete()
        return ()  # parameter sets or SEI alone: they go with the picture that comes now

    def _complete(self) -> list[AccessUnit] | tuple[()]:
        if not self._begins and not self._proof and self._time == self._ended:
            self._markers = False  # the unit before this was the first part of the same picture
        self._ended = self._time
        clean = self._begins and self._random_access()
        whole = not self._proof or (self._begins and self._first_role <= self._opening[clean])
        if whole and self._first_role == DELIMITER:
            self._opening = {False: DELIMITER, True: DELIMITER}
        elif whole:
            self._opening[clean] = self._first_role
        configuration = self._configured() if whole else None
        if configuration is None:
            self.dropped += 1
            self._damaged = True
            self._reset()
            return ()
        unit = AccessUnit(self._time, b"".join(self._parts), clean, self._judge(clean), configuration)
        self._reset()
        return [unit]

    def _judge(self, clean: bool) -> bool:
        """Whether the unit in hand is damaged, and what it means for those behind it."""
        if clean:
            self._damaged = False
        return self._damaged

    def _configured(self) -> CodecConfiguration | None:
        """The configuration, brought up to date; None while the parameter sets needed are not known.

        Sets of which none can be made leave the last good one: they stand in band as well, so decoders have them.
        """
        if self._dirty:
            self._dirty = False
            try:
                found = self._build()
            except FormatError as e:
                self.last_error = str(e)
                return self.configuration
            if found is not None and found != self.configuration:
                self.configuration = found
        if self.configuration is None:
            self.last_error = "no parameter sets so far"
        return self.configuration

    # -- NAL units -------------------------------------------------------------------------------------------------

    def _nal(self, buffer: memoryview, start: int, end: int) -> None:
        """A whole NAL unit."""
        if end - start <= self.HEADER:
            raise FormatError(f"a NAL unit of {end - start} bytes")
        kind = self._type(buffer[start])
        self._note(kind, buffer, start + self.HEADER, end)
        nal = bytes(buffer[start:end])
        if VIDEO_SET <= self.ROLES[kind] <= PREFIX:
            self._before_slices(kind, nal)
        else:
            self._add(nal)

    def _add(self, nal: bytes) -> None:
        self._parts += (_length(len(nal)), nal)
        self._size += len(nal)

    def _before_slices(self, kind: int, nal: bytes) -> None:
        """A parameter set or SEI. Some cameras put several sets into one packet, with the start codes of a byte stream
        (Annex B) between them, which can stand in no NAL unit: they are told apart here."""
        others: list[bytes] = []
        if self.ROLES[kind] != PREFIX and START_CODE in nal:
            nal, *others = (part.rstrip(b"\0") for part in nal.split(START_CODE))
        self._add(nal)
        self._whole(kind, nal)
        for other in others:
            self._nal(memoryview(other), 0, len(other))

    def _aggregate(self, buffer: memoryview, start: int, end: int, between: int = 0) -> None:
        """NAL units behind 16-bit sizes, with `between` bytes of order numbers from the second one on."""
        while start < end:
            if start + 2 > end:
                raise FormatError("an aggregation packet with a byte left over")
            (size,) = _SIZE.unpack_from(buffer, start)
            start += 2
            if start + size > end:
                raise FormatError(f"a NAL unit of {size} bytes in an aggregation packet with {end - start} left")
            self._nal(buffer, start, start + size)
            start += size + (between if start + size < end else 0)

    def _fragment_starts(
        self, kind: int, header: bytes, middle: bytes, buffer: memoryview, start: int, end: int
    ) -> None:
        """First fragment of a NAL unit, its payload in `buffer[start:end]`; `header` is that of the NAL unit."""
        if self._fragment >= 0:
            raise FormatError("a fragmented NAL unit begins inside another")
        self._note(kind, buffer, start, end)
        self._fragment = len(self._parts)
        self._fragment_from = self._size
        self._fragment_type = kind
        self.middle = middle
        self._parts += (b"", header, bytes(buffer[start:end]))
        self._size += len(header) + end - start

    def _fragment_goes_on(self, kind: int, buffer: memoryview, start: int, end: int, last: bool) -> None:
        if self._proof and not self._parts:
            self._break_off()  # the rest of a unit that began before the loss: no error of the camera
            return
        if self._fragment < 0 or kind != self._fragment_type:
            raise FormatError("a fragment of a NAL unit whose beginning is missing")
        self._parts.append(bytes(buffer[start:end]))
        self._size += end - start
        if last:
            at, self._fragment, self._fragment_type, self.middle = self._fragment, -1, -1, b""
            if VIDEO_SET <= self.ROLES[kind] <= PREFIX:
                nal = b"".join(self._parts[at + 1 :])
                del self._parts[at:]
                self._size = self._fragment_from
                self._before_slices(kind, nal)
            else:
                self._parts[at] = _length(self._size - self._fragment_from)

    def _note(self, kind: int, buffer: memoryview, start: int, end: int) -> None:
        """A NAL unit begins; `start` is the byte behind its header."""
        role = self.ROLES[kind]
        if role < 0:
            raise FormatError(f"a NAL unit of type {kind} where none can stand")
        if self._first_role < 0:
            self._first_role = role
        if role == SLICE:
            self._vcl = True
            # first_mb_in_slice is 0, or first_slice_segment_in_pic_flag is 1: both are one bit set.
            if start < end and buffer[start] & 0x80:
                self._begins = True
            self._slice(kind, buffer, start, end)

    def _whole(self, kind: int, nal: bytes) -> None:
        """A parameter set or SEI is there as a whole."""
        if self.ROLES[kind] == PREFIX:
            self._prefix(kind, nal)
            return
        nal = nal.rstrip(b"\0")  # some cameras leave zero bytes of a byte stream behind it
        if len(nal) > MAXIMUM_SET:
            raise FormatError(f"a parameter set of {len(nal)} bytes, which no sample entry can hold")
        if nal not in self._known:
            key = kind, self._set_id(kind, nal)
            self._sets.pop(key, None)
            self._sets[key] = nal
            self._known = frozenset(self._sets.values())
            self._dirty = True

    def _set_of(self, kind: int, maximum: int = MOST_IDS) -> tuple[bytes, ...]:
        """The parameter sets of one type, by rising id; the `maximum` received last where there are more."""
        found = [item for item in self._sets.items() if item[0][0] == kind]
        return tuple(nal for _, nal in sorted(found[-maximum:]))

    def _from_description(self, sets: Mapping[str, str | None], names: tuple[str, ...]) -> None:
        """Parameter sets from the SDP. What is broken there is passed over: they may still come in band."""
        for name in names:
            for nal in parameter_sets(sets.get(name) or ""):
                try:
                    if len(nal) <= self.HEADER or not (VIDEO_SET <= self.ROLES[self._type(nal[0])] <= PICTURE_SET):
                        raise FormatError("no parameter set")
                    self._whole(self._type(nal[0]), nal)
                except FormatError as e:
                    self.last_error = f"{name} in the session description: {e}"
        try:
            self.configuration = self._build() if self._sets else None
        except FormatError as e:
            self.last_error = f"session description: {e}"
            self._sets, self._known = {}, frozenset()
        self._dirty = False
        self._reset()  # they are no part of the first unit

    # -- what a codec knows ----------------------------------------------------------------------------------------

    @abstractmethod
    def _payload(self, buffer: memoryview, start: int, end: int) -> None:
        """Take one RTP payload apart. Raises FormatError."""

    @abstractmethod
    def _type(self, first: int) -> int:
        """NAL unit type from the first byte of the header."""

    @abstractmethod
    def _slice(self, kind: int, buffer: memoryview, start: int, end: int) -> None:
        """A slice begins."""

    @abstractmethod
    def _prefix(self, kind: int, nal: bytes) -> None:
        """A SEI message or the like is there as a whole."""

    @abstractmethod
    def _set_id(self, kind: int, nal: bytes) -> int:
        """Id of a parameter set. Raises FormatError when it cannot be read."""

    @abstractmethod
    def _random_access(self) -> bool:
        """Whether decoding can start at the unit in hand."""

    @abstractmethod
    def _build(self) -> CodecConfiguration | None:
        """The configuration of the parameter sets known, or None when some are missing. Raises FormatError."""


class NalPacketizer(ABC):
    """NAL units behind 4-byte lengths to single NAL unit packets and fragments, none above `maximum` bytes."""

    marker_on_last = True
    HEADER: ClassVar[int]

    def __init__(self, maximum: int) -> None:
        if maximum < 16:
            raise ValueError(f"a maximum payload of {maximum} bytes leaves no room for fragments")
        self._maximum = maximum

    def packetize(self, data: memoryview) -> list[tuple[bytes, memoryview]]:
        """See Packetizer. Raises FormatError when the lengths do not fit the data."""
        payloads: list[tuple[bytes, memoryview]] = []
        at, total, maximum, header = 0, len(data), self._maximum, self.HEADER
        while at < total:
            if at + 4 > total:
                raise FormatError(f"{total - at} bytes behind the last NAL unit")
            (size,) = LENGTH.unpack_from(data, at)
            at += 4
            end = at + size
            if size <= header or end > total:
                raise FormatError(f"a NAL unit of {size} bytes in an access unit with {total - at} left")
            first, middle, last = self._prefixes(data, at)
            if size <= maximum:
                payloads.append((b"", data[at:end]))
            else:
                step = maximum - len(first)
                at += header
                payloads.append((first, data[at : at + step]))
                at += step
                while end - at > step:
                    payloads.append((middle, data[at : at + step]))
                    at += step
                payloads.append((last, data[at:end]))
            at = end
        return payloads

    @abstractmethod
    def _prefixes(self, data: memoryview, at: int) -> tuple[bytes, bytes, bytes]:
        """Payload headers of the first, the middle and the last fragments of the NAL unit at `at`. Raises FormatError
        for a type that cannot stand in a packet by itself."""


def parameter_sets(text: str) -> list[bytes]:
    """NAL units of a `sprop-` parameter: base64, separated by commas (RFC 6184 8.1, RFC 7798 7.1).

    What is no base64 is passed over; start codes, which some cameras leave there, are taken out.
    """
    found = []
    for value in text.split(","):
        try:
            data = base64.b64decode(value.strip() + "=" * (-len(value.strip()) % 4), validate=True)
        except (binascii.Error, ValueError):
            continue
        found += [nal for nal in (part.rstrip(b"\0") for part in data.split(START_CODE)) if nal]
    return found
