"""AAC in RFC 3640 packets, modes AAC-hbr and AAC-lbr (sample entry `mp4a` with esds, ISO/IEC 14496-14 5.6).

Every frame is a clean point. Frames of one packet follow each other by the frame length. Replay always sends AAC-hbr.
Interleaving and decoding time stamps, which RFC 3640 knows and no camera uses, are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from nvr.media.codecs.bits import Bits
from nvr.media.codecs.esds import AAC, STREAM_AUDIO, esds_box, parse_esds
from nvr.media.codecs.sample_entry import audio_sample_entry, parse_sample_entry
from nvr.media.unit import AccessUnit, CodecConfiguration
from nvr.model.errors import FormatError, UnsupportedCodec
from nvr.model.recording import TrackType

SAMPLE_ENTRY = b"mp4a"

_FREQUENCIES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_EXPLICIT = 15
_CHANNELS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 8, 11: 7, 12: 8, 14: 8}
_SBR, _PS, _LD, _ELD = 5, 29, 23, 39
_LONG_FRAMES = frozenset({1, 2, 3, 4, 17, 19})  # Main, LC, SSR, LTP and the error resilient LC and LTP

_MODES = {"aac-hbr": 13, "aac-lbr": 6}
"""Modes and their largest sizelength in RFC 3640 3.3.5, 3.3.6: the default where a camera leaves it out."""
_REFUSED = (
    "ctsdeltalength",
    "dtsdeltalength",
    "randomaccessindication",
    "streamstateindication",
    "auxiliarydatasizelength",
)

HBR_MAXIMUM = (1 << 13) - 1
"""Bytes of a frame that the 13 bits of AAC-hbr can tell."""


@dataclass(frozen=True, slots=True)
class AudioSpecificConfig:
    """ISO/IEC 14496-3 1.6.2.1, as far as it is needed."""

    object_type: int
    """Of the core coder: 2 is AAC LC."""
    frequency: int
    """Hz, of the core coder."""
    channels: int
    """0: told by a program config element in the stream."""
    frame_length: int
    """Samples of a frame at `frequency`: 1024 or 960, of the low delay coders 512 or 480."""
    extension_frequency: int | None = None
    """Hz, with spectral band replication signalled explicitly."""

    @classmethod
    def parse(cls, data: bytes) -> AudioSpecificConfig:
        """Raises FormatError, UnsupportedCodec for other coders than AAC."""
        bits = Bits(data, "AudioSpecificConfig")
        kind = _object_type(bits)
        frequency = _frequency(bits)
        layout = bits.u(4)
        extension = None
        if kind in (_SBR, _PS):
            extension = _frequency(bits)
            kind = _object_type(bits)
        if layout and layout not in _CHANNELS:
            raise FormatError(f"AudioSpecificConfig with the reserved channel configuration {layout}")
        if kind in _LONG_FRAMES:
            length = 960 if bits.flag() else 1024
        elif kind in (_LD, _ELD):
            length = 480 if bits.flag() else 512
        else:
            raise UnsupportedCodec(f"MPEG4-GENERIC with audio object type {kind}, which is no AAC")
        return cls(kind, frequency, _CHANNELS.get(layout, 0), length, extension)


def _object_type(bits: Bits) -> int:
    kind = bits.u(5)
    return 32 + bits.u(6) if kind == 31 else kind


def _frequency(bits: Bits) -> int:
    index = bits.u(4)
    if index == _EXPLICIT:
        frequency = bits.u(24)
    elif index < len(_FREQUENCIES):
        frequency = _FREQUENCIES[index]
    else:
        raise FormatError(f"AudioSpecificConfig with the reserved frequency index {index}")
    if not frequency:
        raise FormatError("AudioSpecificConfig with a frequency of 0 Hz")
    return frequency


@dataclass(frozen=True, slots=True)
class AacConfiguration:
    """`config` is the AudioSpecificConfig; `clock_rate` (Hz, of RTP) and `channels` come from rtpmap."""

    encoding: ClassVar[str] = "MPEG4-GENERIC"
    track_type: ClassVar[TrackType] = TrackType.AUDIO

    config: bytes
    clock_rate: int
    channels: int = 1
    specific: AudioSpecificConfig = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        specific = AudioSpecificConfig.parse(self.config)
        object.__setattr__(self, "specific", specific)
        if specific.channels:  # rtpmap is often wrong about them
            object.__setattr__(self, "channels", specific.channels)
        rates = (specific.frequency, specific.extension_frequency)
        if self.clock_rate <= 0 or (self.clock_rate > 0xFFFF and self.clock_rate not in rates):
            raise FormatError(f"MPEG4-GENERIC with a clock rate of {self.clock_rate} Hz for audio of {rates[0]} Hz")
        if not 0 < self.channels <= 0xFFFF or len(self.config) > 0xFFFF:
            raise FormatError(f"MPEG4-GENERIC with {self.channels} channels and a config of {len(self.config)} bytes")

    @property
    def frame_ticks(self) -> int:
        """RTP ticks of one frame."""
        return self.specific.frame_length * self.clock_rate // self.specific.frequency

    def rtpmap(self) -> str:
        return f"mpeg4-generic/{self.clock_rate}/{self.channels}"

    def fmtp(self) -> str:
        # profile-level-id of ISO/IEC 14496-3 table 1.14: HE-AAC L2, AAC L4, AAC L2.
        level = 0x2C if self.specific.extension_frequency else 0x2A if self.channels > 2 else 0x29
        return (
            f"streamtype=5;profile-level-id={level};mode=AAC-hbr;config={self.config.hex().upper()};"
            "sizelength=13;indexlength=3;indexdeltalength=3"
        )

    def in_band(self) -> bytes:
        return b""

    def sample_entry(self) -> bytes:
        esds = esds_box(AAC, STREAM_AUDIO, self.config)
        return audio_sample_entry(SAMPLE_ENTRY, self.channels, self.clock_rate, esds)

    @classmethod
    def from_sample_entry(cls, entry: bytes) -> AacConfiguration:
        """Inverse of `sample_entry`. Raises FormatError."""
        found = parse_sample_entry(entry, visual=False)
        decoder = parse_esds(found.boxes.get(b"esds", b""))
        if decoder.object_type != AAC:
            raise UnsupportedCodec("a sample entry mp4a with other audio than MPEG-4 AAC")
        config = decoder.specific
        rate = found.sample_rate
        if not rate:
            specific = AudioSpecificConfig.parse(config)
            rate = max(specific.frequency, specific.extension_frequency or 0)
        return cls(config, rate, found.channels)


def configuration(clock_rate: int, channels: int, parameters: Mapping[str, str | None]) -> AacConfiguration:
    """From rtpmap and fmtp. Raises FormatError, UnsupportedCodec."""
    mode = (parameters.get("mode") or "").strip().lower()
    if mode not in _MODES:
        raise UnsupportedCodec(f"MPEG4-GENERIC with mode {mode!r}; AAC-hbr and AAC-lbr are taken")
    text = (parameters.get("config") or "").strip().strip('"')
    if not text:
        raise UnsupportedCodec("MPEG4-GENERIC without a config parameter (RFC 3640 4.1)")
    try:
        config = bytes.fromhex(text)
    except ValueError as e:
        raise FormatError(f"MPEG4-GENERIC with the config {text!r}, which is not hexadecimal") from e
    return AacConfiguration(config, clock_rate, channels)


class AacDepacketizer:
    """AU header section and frames (RFC 3640 3.2), several frames in a packet or one over several packets."""

    __slots__ = (
        "_configuration",
        "_delta_length",
        "_index_length",
        "_parts",
        "_passed",
        "_received",
        "_size_length",
        "_time",
        "_wanted",
        "configuration",
        "dropped",
        "last_error",
    )

    _parts: list[bytes]
    _received: int
    _wanted: int
    _time: int

    def __init__(self, configuration: AacConfiguration, parameters: Mapping[str, str | None]) -> None:
        self.configuration: CodecConfiguration | None = configuration
        self._configuration = configuration
        self.dropped = 0
        self.last_error: str | None = None
        mode = (parameters.get("mode") or "").strip().lower()
        index = 3 if mode == "aac-hbr" else 2
        self._size_length = _number(parameters, "sizelength", _MODES.get(mode, 13))
        self._index_length = _number(parameters, "indexlength", index)
        self._delta_length = _number(parameters, "indexdeltalength", index)
        if not 0 < self._size_length <= 32 or max(self._index_length, self._delta_length) > 32:
            raise UnsupportedCodec(
                f"MPEG4-GENERIC with sizelength {self._size_length}, indexlength {self._index_length} and "
                f"indexdeltalength {self._delta_length}"
            )
        if _number(parameters, "maxdisplacement", 0):
            raise UnsupportedCodec("MPEG4-GENERIC with interleaving (maxDisplacement above 0)")
        for name in _REFUSED:
            if _number(parameters, name, 0):
                raise UnsupportedCodec(f"MPEG4-GENERIC with {name}, which RFC 3640 3.3.5 forbids for AAC")
        self._passed = -1
        self._forget()

    def push(
        self, buffer: memoryview, start: int, end: int, rtp_time: int, marker: bool
    ) -> list[AccessUnit] | tuple[()]:
        if start >= end:
            return ()  # nothing but padding
        try:
            sizes, at = self._headers(buffer, start, end)
            if self._parts and (rtp_time != self._time or sizes != [self._wanted]):
                self._drop("a fragmented frame without its end")
            if len(sizes) == 1 and sizes[0] > end - at:
                return self._fragment(bytes(buffer[at:end]), sizes[0], rtp_time, marker)
            if self._parts:
                self._drop("a fragmented frame without its end")
            return self._frames(buffer, at, end, rtp_time, sizes)
        except FormatError as e:
            self.dropped += 1
            self.last_error = str(e)
            self._forget()
            return ()

    def lost(self, packets: int) -> None:
        """Only a fragmented frame can miss anything: frames lean on nothing before them."""
        if packets > 0 and self._parts:
            self.dropped += 1
            self._passed = self._time
            self._forget()

    def flush(self) -> tuple[()]:
        self.lost(1)
        return ()

    def _headers(self, buffer: memoryview, start: int, end: int) -> tuple[list[int], int]:
        """Sizes of the frames, and where the first one begins."""
        if end - start < 2:
            raise FormatError(f"a payload of {end - start} bytes without AU-headers-length")
        length = buffer[start] << 8 | buffer[start + 1]
        at = start + 2 + (length + 7) // 8
        if at > end:
            raise FormatError(f"AU headers of {length} bits in a payload of {end - start} bytes")
        first = self._size_length + self._index_length
        following = self._size_length + self._delta_length
        if length < first or (length - first) % following:
            raise FormatError(f"AU headers of {length} bits, the first of {first} and others of {following}")
        bits = Bits(bytes(buffer[start + 2 : at]), "AU header section")
        sizes = [bits.u(self._size_length)]
        bits.skip(self._index_length)
        for _ in range((length - first) // following):
            sizes.append(bits.u(self._size_length))
            if bits.u(self._delta_length):
                raise FormatError("interleaved frames (AU-Index-delta above 0), which are not taken")
        return sizes, at

    def _frames(self, buffer: memoryview, at: int, end: int, rtp_time: int, sizes: list[int]) -> list[AccessUnit]:
        configuration = self._configuration
        ticks = configuration.frame_ticks
        units = []
        for n, size in enumerate(sizes):
            if not 0 < size <= end - at:
                self.dropped += 1
                self.last_error = f"a frame of {size} bytes with {end - at} left in the payload"
                break
            frame = bytes(buffer[at : at + size])
            units.append(AccessUnit((rtp_time + n * ticks) & 0xFFFF_FFFF, frame, True, False, configuration))
            at += size
        else:
            if at != end:
                self.last_error = f"{end - at} bytes behind the last frame of a payload"
        return units

    def _fragment(self, data: bytes, size: int, rtp_time: int, marker: bool) -> list[AccessUnit] | tuple[()]:
        if size > HBR_MAXIMUM:
            raise FormatError(f"a frame of {size} bytes, which no AAC coder makes")
        if not self._parts and rtp_time == self._passed:
            return ()  # the rest of a frame that was dropped when a part of it was lost
        self._passed = -1
        self._parts.append(data)
        self._received += len(data)
        self._wanted, self._time = size, rtp_time
        if self._received == size:
            frame = b"".join(self._parts)
            self._forget()
            return [AccessUnit(rtp_time, frame, True, False, self._configuration)]
        if self._received > size or marker:
            raise FormatError(f"fragments of {self._received} bytes for a frame of {size}")
        return ()

    def _drop(self, why: str) -> None:
        self.dropped += 1
        self.last_error = why
        self._forget()

    def _forget(self) -> None:
        self._parts = []
        self._received = self._wanted = 0
        self._time = -1


def _number(parameters: Mapping[str, str | None], name: str, default: int) -> int:
    text = parameters.get(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError as e:
        raise FormatError(f"MPEG4-GENERIC with {name}={text!r}, which is no number") from e


class AacPacketizer:
    """AAC-hbr: one frame a packet, a longer one in fragments."""

    marker_on_last = True

    def __init__(self, maximum: int) -> None:
        if maximum < 16:
            raise ValueError(f"a maximum payload of {maximum} bytes leaves no room for AU headers")
        self._room = maximum - 4

    def packetize(self, data: memoryview) -> list[tuple[bytes, memoryview]]:
        """See Packetizer. Raises FormatError for what is no frame."""
        size = len(data)
        if not 0 < size <= HBR_MAXIMUM:
            raise FormatError(f"a frame of {size} bytes cannot be sent as AAC-hbr")
        prefix = struct.pack(">HH", 16, size << 3)
        return [(prefix, data[at : at + self._room]) for at in range(0, size, self._room)]
