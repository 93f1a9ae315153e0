"""From access units to RTP packets of one stream (RFC 3550 5.1; IEC 62676-2-32 8.3; RFC 2326 10.12).

Sans-I/O. The packets of a unit are appended to a list of buffers that the transport writes in one go, so that each
byte of payload is copied once between footage and socket.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nvr.media.replay_extension import CLEAN_POINT, DISCONTINUITY, END_OF_SECTION, PROFILE, TERMINAL, WORDS
from nvr.media.replay_extension import PACK as EXTENSION
from nvr.media.rtp import EXTENSION_BIT, HEADER, HEADER_SIZE, MARKER_BIT, PLAIN
from nvr.media.unit import CodecConfiguration, Packetizer
from nvr.model.errors import FormatError
from nvr.model.recording import TrackType
from nvr.model.time import ntp_from_utc
from nvr.replay.unit import Unit

_FRAMED = struct.Struct(">BBHBBHII")

Buffer = bytes | memoryview
PacketizerFactory = Callable[[CodecConfiguration], Packetizer]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the numbers of an RTP stream begin; random, so that they cannot be guessed (RFC 3550 5.1)."""

    ssrc: int
    sequence: int
    rtp_time: int

    @classmethod
    def random(cls) -> Origin:
        return cls(secrets.randbits(32), secrets.randbits(16), secrets.randbits(32))


class RtpStream:
    """Numbers and packs what one stream sends. `channel` is that of interleaved frames; None makes bare packets.

    Sequence numbers run on over pauses, jumps and discontinuities; the SSRC stays (8.6.3). Sound of each format has a
    payload type of its own, as the session description says: a change of type is a change of format (RFC 3550 5.2).
    What cannot be sent is counted, and told to the receiver by flags: E where sending stops, D where it goes on.
    """

    def __init__(
        self,
        configuration: CodecConfiguration,
        payload_type: int,
        packetizer_for: PacketizerFactory,
        origin: Origin,
        channel: int | None,
        report_channel: int | None = None,
        others: Sequence[tuple[CodecConfiguration, int]] = (),
    ) -> None:
        """`others`: further formats of sound that were described, with their payload types."""
        self.ssrc = origin.ssrc
        self.sequence = origin.sequence
        """Number of the next packet."""
        self.clock_rate = configuration.clock_rate
        """Of what is being sent."""
        self.base_rtp_time = origin.rtp_time
        self.channel = channel
        self.report_channel = report_channel
        """Of RTCP."""
        self.packets = 0
        self.octets = 0
        """Payload octets sent, as a sender report counts them."""
        self.refused = 0
        """Units left out because they cannot be sent; `last_refusal` says why."""
        self.last_refusal = ""
        self._payload_type = payload_type
        self._types = {_format(c): t for c, t in ((configuration, payload_type), *others)}
        self._packetizer_for = packetizer_for
        self._announced = configuration
        """What the receiver's decoder knows: from the session description, then from parameter sets in band."""
        self._repeats = False
        """Parameter sets have changed: they stand before each clean point, since a packet may be lost."""
        self._configuration = configuration
        self._packetizer = packetizer_for(configuration)
        self._muted: CodecConfiguration | None = None
        """What is recorded just now has this configuration, which was not described."""
        self._owes_discontinuity = False
        self._rtp_time: int | None = None
        """Of the last packet."""

    def expect(self, configuration: CodecConfiguration) -> None:
        """What is sent next has this configuration: RTP-Info is given in its clock."""
        if _format(configuration) in self._types:
            self.clock_rate = configuration.clock_rate

    def append(self, unit: Unit, rtp_time: int, cseq: int | None, out: list[Buffer]) -> None:
        """The packets of one unit. With `cseq` (low byte of the PLAY's CSeq) they carry the replay extension.

        C, E, D and the time stand in the first packet of the unit, T only in an extension on its last packet: a stock
        client ends the stream behind the packet with T, and would lose the rest of the unit. Bare packets all have C, E
        and the time: by UDP GStreamer takes the time of a unit from its last packet.
        """
        data, configuration = unit.data, unit.configuration
        if configuration is not self._configuration and not self._take(configuration):
            why = f"{configuration.rtpmap()} where {self._announced.rtpmap()} is announced"
            begins, self._muted = configuration != self._muted, configuration
            self._refuse(unit, why, begins or unit.terminal, rtp_time, cseq, out)
            return
        self._muted = None
        if unit.clean_point and (self._repeats or configuration != self._announced):
            data = configuration.in_band() + data
            self._repeats, self._announced = True, configuration
        try:
            payloads = self._packetizer.packetize(memoryview(data))
        except FormatError as e:
            self._refuse(unit, str(e), unit.end or unit.terminal, rtp_time, cseq, out)
            return
        if not payloads:
            self._refuse(unit, "it has no payload", unit.end or unit.terminal, rtp_time, cseq, out)
            return
        last = len(payloads) - 1
        extensions = self._extensions(unit, cseq, last)
        self._owes_discontinuity = False
        self._rtp_time = rtp_time
        marker = MARKER_BIT if self._packetizer.marker_on_last else 0
        payload_type, sequence, ssrc, channel = self._payload_type, self.sequence, self.ssrc, self.channel
        octets = 0
        for i, (prefix, part) in enumerate(payloads):
            extension = extensions.get(i)
            size = len(prefix) + len(part)
            octets += size
            second = payload_type | (marker if i == last else 0)
            if channel is None:
                head = HEADER.pack(PLAIN | (EXTENSION_BIT if extension else 0), second, sequence, rtp_time, ssrc)
                out.append(b"".join((head, extension or b"", prefix, part)))
            elif extension is None:
                out += (
                    _FRAMED.pack(0x24, channel, HEADER_SIZE + size, PLAIN, second, sequence, rtp_time, ssrc),
                    prefix,
                    part,
                )
            else:
                size += HEADER_SIZE + len(extension)
                out += (
                    _FRAMED.pack(0x24, channel, size, PLAIN | EXTENSION_BIT, second, sequence, rtp_time, ssrc),
                    extension,
                    prefix,
                    part,
                )
            sequence = (sequence + 1) & 0xFFFF
        self.sequence = sequence
        self.packets += len(payloads)
        self.octets += octets

    def _extensions(self, unit: Unit, cseq: int | None, last: int) -> dict[int, bytes]:
        """By packet. JPEG has extensions of its own; where both are needed they are one (8.3.3)."""
        own: dict[int, bytes] = dict(enumerate(getattr(self._packetizer, "extensions", ())))
        if cseq is None:
            return own
        found = own.copy()
        ntp = ntp_from_utc(unit.utc_ns)
        flags = (CLEAN_POINT if unit.clean_point else 0) | (END_OF_SECTION if unit.end else 0)
        terminal = TERMINAL if unit.terminal else 0
        discontinuity = DISCONTINUITY if unit.discontinuity or self._owes_discontinuity else 0
        if self.channel is None and not own:
            found = dict.fromkeys(range(1, last + 1), _replay_extension(ntp, flags, cseq, b""))
        if terminal and last:
            found[last] = _replay_extension(ntp, flags | terminal, cseq, own.get(last, b""))
        first = flags | discontinuity | (0 if last else terminal)
        found[0] = _replay_extension(ntp, first, cseq, own.get(0, b""))
        return found

    def _take(self, configuration: CodecConfiguration) -> bool:
        """Send this configuration from now on. False: the receiver cannot know what it is."""
        payload_type = self._types.get(_format(configuration))
        if payload_type is None:
            return False
        if configuration != self._configuration:
            self._packetizer = self._packetizer_for(configuration)
        self._payload_type, self.clock_rate = payload_type, configuration.clock_rate
        self._configuration = configuration
        return True

    def _refuse(self, unit: Unit, why: str, ends: bool, rtp_time: int, cseq: int | None, out: list[Buffer]) -> None:
        """Leave the unit out. Its flags are not lost with it: D goes to the next unit that is sent, since that does not
        continue what was sent before; `ends`: E, and T, which nothing may follow, go at once in a packet without
        payload."""
        self.refused += 1
        self.last_refusal = why
        self._owes_discontinuity = True
        if cseq is None or not ends:
            return
        flags = END_OF_SECTION | (TERMINAL if unit.terminal else 0)
        extension = _replay_extension(ntp_from_utc(unit.utc_ns), flags, cseq, b"")
        rtp_time = rtp_time if self._rtp_time is None else self._rtp_time
        first, second = PLAIN | EXTENSION_BIT, self._payload_type
        if self.channel is None:
            out.append(HEADER.pack(first, second, self.sequence, rtp_time, self.ssrc) + extension)
        else:
            size = HEADER_SIZE + len(extension)
            head = _FRAMED.pack(0x24, self.channel, size, first, second, self.sequence, rtp_time, self.ssrc)
            out += (head, extension)
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.packets += 1


def _replay_extension(ntp: int, flags: int, cseq: int, jpeg: bytes) -> bytes:
    """The replay extension, with the whole JPEG extension behind its three words where there is one (8.3.3)."""
    return EXTENSION.pack(PROFILE, WORDS + len(jpeg) // 4, ntp, flags, cseq, 0) + jpeg


def _format(configuration: CodecConfiguration) -> tuple[str, ...]:
    """What one payload type stands for. Pictures and documents tell in band whatever changes but the encoding; nothing
    tells of sound with another rate, number of channels or AudioSpecificConfig: that is another format."""
    if configuration.track_type is not TrackType.AUDIO:
        return (configuration.encoding,)
    return configuration.encoding, configuration.rtpmap(), configuration.fmtp() or ""
