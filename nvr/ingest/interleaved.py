"""RTP, RTCP and RTSP on one TCP connection (RFC 2326 10.12): the loop through which every recorded byte goes. Sans-I/O.

Measured on two cores with 1300-byte packets: the loop alone 0.6 us a packet, 1.4 and more with the H.264 depacketizer.
Hence one `unpack_from` across the `$` header and the RTP header, no object, no call but `push` for a packet in order,
no look at anything that one comparison can rule out; and the middle of a picture in a loop of its own (`_middles`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from struct import Struct

from nvr.ingest.stream import StreamReceiver
from nvr.media.codecs.nal import NalDepacketizer
from nvr.media.rtcp import is_rtcp
from nvr.media.rtsp.message import Limits, Message, MessageError, parse_message
from nvr.model.errors import SourceError

FRAME_AND_RTP = Struct(">BBHBBHII")
"""`$`, channel, length, then the RTP header: V P X CC, M PT, sequence number, time stamp, SSRC."""

MESSAGE_LIMITS = Limits(body=256 * 1024)
MAXIMUM_GARBAGE = 256 * 1024
"""Bytes without one good frame or message behind which a connection is given up."""
_PROBE = 32
_STEP = 4096
"""Bytes that are searched at once for the next frame or message behind garbage."""
_ANSWER = b"RTSP/1."
_STARTS = (b"RTSP/", b"OPTIONS ", b"GET_PARAMETER ", b"SET_PARAMETER ", b"ANNOUNCE ", b"REDIRECT ", b"TEARDOWN ")

_LEAD_AND_SOURCE = Struct(">QQ")
"""All up to the sequence number and that itself; time stamp and SSRC."""


@lru_cache(maxsize=256)
def _frame_of_middle(header: int, size: int) -> Struct:
    """A whole frame of `size` bytes as lead, source, fragment header and what stands behind that."""
    return Struct(f"{_LEAD_AND_SOURCE.format}{header}s{size - _LEAD_AND_SOURCE.size - header}s")


def _middles(stream: StreamReceiver, fragments: NalDepacketizer, view: memoryview, position: int, end: int) -> int:
    """Behind the frame at `position`, which `fragments` has taken and which left a fragmented NAL unit open: all frames
    that are the middle of it, as long as they differ from that frame in nothing but the sequence number, which rises by
    one. Returns the position behind them.

    Most packets of a camera are such, and three comparisons decide about each. Measured with 1300-byte packets: 0.2 us
    each instead of 1.4 to 2.0 by `push`; whole daemon with 32 streams 3.7 us a packet instead of 4.6.
    """
    middle = fragments.middle
    lead: int
    lead, source = _LEAD_AND_SOURCE.unpack_from(view, position)
    size = 4 + (lead >> 32 & 0xFFFF)
    position += size
    parts: list[bytes] = []
    count = min((end - position) // size, 0xFFFF - (lead & 0xFFFF))  # a carry would count up the payload type
    whole = view[position : position + size * count]
    for found, found_source, header, data in _frame_of_middle(len(middle), size).iter_unpack(whole):
        lead += 1
        if found != lead or header != middle or found_source != source:
            break
        parts.append(data)
    count = len(parts)
    if count:
        stream.packets += count
        stream.octets += (size - 4) * count
        stream.order.in_order = (stream.order.in_order + count) & 0xFFFF
        fragments.goes_on(parts, (size - _LEAD_AND_SOURCE.size - len(middle)) * count)
    return position + size * count


class InterleavedParser:
    """Distributes what a buffer holds. `channels` and `rtcp_channels` are filled as SETUP is answered."""

    def __init__(self, on_message: Callable[[Message], None], on_rtcp: Callable[[StreamReceiver, bytes], None]) -> None:
        self.channels: list[StreamReceiver | None] = [None] * 256
        self.rtcp_channels: dict[int, StreamReceiver] = {}
        self.garbage = 0
        """Bytes skipped because they were neither a frame nor a message."""
        self.unknown_channels = 0
        """Frames on channels that nobody set up."""
        self._on_message = on_message
        self._on_rtcp = on_rtcp
        self._garbage_run = 0
        self._evidence = b""

    def parse(self, view: memoryview, end: int) -> int:
        """Handle `view[:end]` up to the last whole frame or message; returns where the rest begins.

        Raises SourceError when the bytes have been garbage for too long.
        """
        unpack = FRAME_AND_RTP.unpack_from
        channels = self.channels
        position = 0
        while end - position >= 16:
            dollar, channel, length, first, second, sequence, rtp_time, ssrc = unpack(view, position)
            if dollar != 0x24:
                after = self._text(view, position, end)
                if after is None:
                    return position
                position = after
                continue
            after = position + 4 + length
            stream = channels[channel]
            if after > end:
                if stream is not None and first >> 6 != 2:  # no frame: do not wait for its end
                    position = self._resynchronise(view, position, end)
                    continue
                return position
            if (
                stream is not None
                and sequence == (order := stream.order).in_order
                and first == 0x80
                and second & 0x7F == stream.payload_type
                and ssrc == order.ssrc
                and length > 12
            ):
                order.in_order = (sequence + 1) & 0xFFFF
                stream.packets += 1
                stream.octets += length
                if stream.take:
                    units = stream.depacketizer.push(view, position + 16, after, rtp_time, second > 127)
                    if units:
                        stream.units.extend(units)
                    elif stream.fragments is not None and stream.fragments.middle:
                        after = _middles(stream, stream.fragments, view, position, end)
                self._garbage_run = 0
                position = after
            else:
                position = self._frame(view, position, after, end)
        while position < end and (view[position] != 0x24 or end - position >= 4):
            # What is left is shorter than a frame with an RTP header: short frames, the ends of messages, the start
            # of what comes next.
            if view[position] == 0x24:
                after = position + 4 + (view[position + 2] << 8 | view[position + 3])
                if after > end:
                    break
                position = self._frame(view, position, after, end)
            else:
                next_position = self._text(view, position, end)
                if next_position is None:
                    break
                position = next_position
        return position

    def _frame(self, view: memoryview, position: int, after: int, end: int) -> int:
        """A frame that the loop does not handle itself; returns the position behind it."""
        start = position + 4
        channel = view[position + 1]
        stream = self.channels[channel]
        if stream is None:
            receiver = self.rtcp_channels.get(channel)
            if receiver is None:
                self.unknown_channels += 1
            elif after - start >= 4:
                self._on_rtcp(receiver, bytes(view[start:after]))
            return after
        if after == start:
            return after  # an empty frame: some cameras keep the connection alive with them
        if view[start] >> 6 != 2:
            # No RTP behind a `$`: either the sender lost its place, or what looks like a frame is none.
            stream.bad_packets += 1
            return self._resynchronise(view, position, end)
        self._garbage_run = 0
        if is_rtcp(view, start, after) and view[start + 1] & 0x7F != stream.payload_type:
            self._on_rtcp(stream, bytes(view[start:after]))
        else:
            stream.irregular(view, start, after)
        return after

    def _text(self, view: memoryview, position: int, end: int) -> int | None:
        """A message, blank lines or garbage at `position`; None when more bytes are needed."""
        while position < end and view[position] in (0x0D, 0x0A):
            position += 1
        if position == end or view[position] == 0x24:
            return position
        head = bytes(view[position : min(position + _PROBE, end)])
        if not any(head.startswith(s) or s.startswith(head) for s in _STARTS):
            return self._resynchronise(view, position, end)
        try:
            found = parse_message(view, position, end, MESSAGE_LIMITS)
        except MessageError:
            return self._resynchronise(view, position, end)
        if found is None:
            return None
        message, after = found
        self._garbage_run = 0
        self._on_message(message)
        return after

    def _resynchronise(self, view: memoryview, position: int, end: int) -> int:
        """The next place where a frame of a known channel or a message seems to begin, or the end."""
        if not self._garbage_run:
            self._evidence = bytes(view[position : min(position + 16, end)])
        after = self._next_start(view, position + 1, end)
        self.garbage += after - position
        self._garbage_run += after - position
        if self._garbage_run > MAXIMUM_GARBAGE:
            raise SourceError(
                f"the source has sent {self._garbage_run} bytes that are neither RTP nor RTSP, "
                f"beginning with {self._evidence.hex(' ')}"
            )
        return after

    def _next_start(self, view: memoryview, position: int, end: int) -> int:
        while position < end:
            # In steps: garbage between good frames must not cost a copy of all that follows each time.
            data = bytes(view[position : min(position + _STEP + len(_ANSWER) - 1, end)])
            text = data.find(_ANSWER)
            limit = text if text >= 0 else len(data)
            at = data.find(b"$", 0, limit)
            while at >= 0:
                if self._plausible(view, position + at, end):
                    return position + at
                at = data.find(b"$", at + 1, limit)
            if text >= 0:
                return position + text
            position += _STEP
        return end

    def _plausible(self, view: memoryview, at: int, end: int) -> bool:
        if end - at < 5:
            return True  # too short to tell; the next bytes will
        channel = view[at + 1]
        if self.channels[channel] is None and channel not in self.rtcp_channels:
            return False
        length = view[at + 2] << 8 | view[at + 3]
        after = at + 4 + length
        return length >= 8 and view[at + 4] >> 6 == 2 and (after >= end or view[after] in b"$R\r\n")
