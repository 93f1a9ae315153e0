"""The registry: from an encoding of the session description, a configuration or a sample entry to the codec's file.

Each codec stands in a file of its name: its configuration, its depacketizer, its packetizer. What would make that too
long stands beside it: av1_obu.py, jpeg_headers.py, jpeg_depacketizer.py. A new one is a file and a few lines here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeAlias

from nvr.media.codecs import aac, av1, g711, g726, h264, h265, jpeg, jpeg_depacketizer, l16, metadata, mpeg4, opus, pcm
from nvr.media.codecs.esds import JPEG as JPEG_OBJECT
from nvr.media.codecs.esds import MPEG4_VISUAL, parse_esds
from nvr.media.codecs.sample_entry import parse_sample_entry, sample_entry_body
from nvr.media.unit import CodecConfiguration, Depacketizer, Packetizer
from nvr.model.errors import UnsupportedCodec
from nvr.model.recording import TrackType

__all__ = [
    "ENCODINGS",
    "Parameters",
    "UnsupportedCodec",
    "depacketizer_for",
    "from_sample_entry",
    "packetizer_for",
    "packetizer_of",
    "stored_as",
    "told_as",
    "track_type_of",
]

Parameters: TypeAlias = Mapping[str, str | None]
"""Parameters of a=fmtp, names in lower case; None where a name stands without a value."""


class _Codec(NamedTuple):
    track_type: TrackType
    depacketizer: Callable[[int, int, Parameters], Depacketizer]
    """Of clock rate, channels and parameters."""


def _aac(clock_rate: int, channels: int, parameters: Parameters) -> Depacketizer:
    return aac.AacDepacketizer(aac.configuration(clock_rate, channels, parameters), parameters)


def _pcmu(clock_rate: int, channels: int, parameters: Parameters) -> Depacketizer:
    return pcm.SampleDepacketizer(g711.PcmuConfiguration(clock_rate, channels))


def _pcma(clock_rate: int, channels: int, parameters: Parameters) -> Depacketizer:
    return pcm.SampleDepacketizer(g711.PcmaConfiguration(clock_rate, channels))


def _l16(clock_rate: int, channels: int, parameters: Parameters) -> Depacketizer:
    return pcm.SampleDepacketizer(l16.L16Configuration(clock_rate, channels))


def _g726(encoding: str) -> Callable[[int, int, Parameters], Depacketizer]:
    return lambda clock_rate, channels, _: g726.G726Depacketizer(g726.configuration(encoding, clock_rate, channels))


def _opus(clock_rate: int, channels: int, parameters: Parameters) -> Depacketizer:
    return opus.OpusDepacketizer(opus.configuration(clock_rate, parameters))


def _jpeg(clock_rate: int, channels: int, parameters: Parameters) -> Depacketizer:
    _video_clock("JPEG", clock_rate)
    return jpeg_depacketizer.JpegDepacketizer(jpeg.told_size(parameters))


def _mpeg4(clock_rate: int, channels: int, parameters: Parameters) -> Depacketizer:
    return mpeg4.Mpeg4Depacketizer(clock_rate, parameters)


def _av1(clock_rate: int, channels: int, parameters: Parameters) -> Depacketizer:
    _video_clock("AV1", clock_rate)
    return av1.Av1Depacketizer()


def _metadata(clock_rate: int, channels: int, parameters: Parameters) -> Depacketizer:
    return metadata.MetadataDepacketizer(metadata.MetadataConfiguration(clock_rate))


def _gzip_metadata(clock_rate: int, channels: int, parameters: Parameters) -> Depacketizer:
    return metadata.MetadataDepacketizer(metadata.GzipMetadataConfiguration(clock_rate))


def _h264(clock_rate: int, channels: int, parameters: Parameters) -> Depacketizer:
    _video_clock("H264", clock_rate)
    return h264.H264Depacketizer(parameters)


def _h265(clock_rate: int, channels: int, parameters: Parameters) -> Depacketizer:
    _video_clock("H265", clock_rate)
    return h265.H265Depacketizer(parameters)


def _video_clock(encoding: str, clock_rate: int) -> None:
    if clock_rate != 90_000:
        raise UnsupportedCodec(f"{encoding} with a clock rate of {clock_rate} Hz instead of 90000")


_CODECS = {
    "H264": _Codec(TrackType.VIDEO, _h264),
    "H265": _Codec(TrackType.VIDEO, _h265),
    "JPEG": _Codec(TrackType.VIDEO, _jpeg),
    "MP4V-ES": _Codec(TrackType.VIDEO, _mpeg4),
    "AV1": _Codec(TrackType.VIDEO, _av1),
    "MPEG4-GENERIC": _Codec(TrackType.AUDIO, _aac),
    "PCMU": _Codec(TrackType.AUDIO, _pcmu),
    "PCMA": _Codec(TrackType.AUDIO, _pcma),
    "L16": _Codec(TrackType.AUDIO, _l16),
    **{name: _Codec(TrackType.AUDIO, _g726(name)) for name in g726.CONFIGURATIONS},
    "OPUS": _Codec(TrackType.AUDIO, _opus),
    "VND.ONVIF.METADATA": _Codec(TrackType.METADATA, _metadata),
    "VND.ONVIF.METADATA.GZIP": _Codec(TrackType.METADATA, _gzip_metadata),
    "VND.ONVIF.METADATA+GZIP": _Codec(TrackType.METADATA, _gzip_metadata),
}

ENCODINGS = tuple(_CODECS)
"""RTP encoding names that are taken, in upper case."""

_PACKETIZERS: dict[str, Callable[[int], Packetizer]] = {
    "H264": h264.H264Packetizer,
    "H265": h265.H265Packetizer,
    "JPEG": jpeg.JpegPacketizer,
    "MP4V-ES": mpeg4.Mpeg4Packetizer,
    "AV1": av1.Av1Packetizer,
    "MPEG4-GENERIC": aac.AacPacketizer,
    "PCMU": pcm.SamplePacketizer,
    "PCMA": pcm.SamplePacketizer,
    "L16": pcm.SamplePacketizer,
    **{name: partial(g726.G726Packetizer, kind) for name, kind in g726.CONFIGURATIONS.items()},
    "OPUS": opus.OpusPacketizer,
    "VND.ONVIF.METADATA": metadata.MetadataPacketizer,
    "VND.ONVIF.METADATA.GZIP": metadata.MetadataPacketizer,
}


def _mp4v(entry: bytes) -> CodecConfiguration:
    """MPEG-4 Visual and JPEG share a sample entry (ISO/IEC 14496-14 5.6)."""
    found = parse_esds(parse_sample_entry(entry, visual=True).boxes.get(b"esds", b""))
    if found.object_type == JPEG_OBJECT:
        return jpeg.JpegConfiguration.from_sample_entry(entry)
    if found.object_type == MPEG4_VISUAL:
        return mpeg4.Mpeg4Configuration.from_sample_entry(entry)
    raise UnsupportedCodec(f"a sample entry mp4v with object type {found.object_type:#04x}")


_SAMPLE_ENTRIES: dict[bytes, Callable[[bytes], CodecConfiguration]] = {
    **dict.fromkeys(h264.SAMPLE_ENTRIES, h264.H264Configuration.from_sample_entry),
    **dict.fromkeys(h265.SAMPLE_ENTRIES, h265.H265Configuration.from_sample_entry),
    aac.SAMPLE_ENTRY: aac.AacConfiguration.from_sample_entry,
    av1.SAMPLE_ENTRY: av1.Av1Configuration.from_sample_entry,
    jpeg.SAMPLE_ENTRY: _mp4v,
    l16.SAMPLE_ENTRY: l16.L16Configuration.from_sample_entry,
    g726.SAMPLE_ENTRY: g726.from_sample_entry,
    opus.SAMPLE_ENTRY: opus.OpusConfiguration.from_sample_entry,
    g711.PcmuConfiguration.SAMPLE_ENTRY: g711.from_sample_entry,
    g711.PcmaConfiguration.SAMPLE_ENTRY: g711.from_sample_entry,
    metadata.SAMPLE_ENTRY: metadata.from_sample_entry,
}


def depacketizer_for(
    encoding: str, clock_rate: int, channels: int | None = None, fmtp: Parameters | None = None
) -> Depacketizer:
    """A new depacketizer of a stream, from its a=rtpmap and a=fmtp; case does not matter.

    Raises UnsupportedCodec for an encoding or a mode that is not taken, FormatError for parameters that make no sense.
    """
    parameters = {name.lower(): value for name, value in (fmtp or {}).items()}
    return _codec(encoding).depacketizer(clock_rate, channels or 1, parameters)


def packetizer_for(configuration: CodecConfiguration, maximum_payload: int) -> Packetizer:
    """A packetizer whose payloads (prefix and slice together) have at most `maximum_payload` bytes."""
    return packetizer_of(configuration.encoding, maximum_payload)


def packetizer_of(encoding: str, maximum_payload: int) -> Packetizer:
    """As `packetizer_for`, by the name that configurations have for the encoding. Raises UnsupportedCodec."""
    if encoding not in _PACKETIZERS:
        raise UnsupportedCodec(f"encoding {encoding!r} is not sent")
    return _PACKETIZERS[encoding](maximum_payload)


def from_sample_entry(entry: bytes) -> CodecConfiguration:
    """The configuration that a sample entry was made of. Raises UnsupportedCodec, FormatError."""
    kind, _ = sample_entry_body(entry)
    parse = _SAMPLE_ENTRIES.get(kind)
    if parse is None:
        raise UnsupportedCodec(f"a sample entry of type {kind!r}")
    return parse(entry)


def track_type_of(encoding: str) -> TrackType:
    """Type of the track that takes this encoding. Raises UnsupportedCodec."""
    return _codec(encoding).track_type


def told_as(encoding: str) -> str:
    """The name by which clients are told of an encoding: the words of tt:VideoEncoding and tt:AudioEncoding, otherwise
    IANA's media subtype (IEC 62676-2-32 5.24, 6.3.5)."""
    name = encoding.upper()
    return "G726" if name in g726.CONFIGURATIONS else _WORDS.get(name, name)


_WORDS = {"MP4V-ES": "MPEG4", "MPEG4-GENERIC": "AAC", "PCMU": "G711", "PCMA": "G711", "OPUS": "opus"}


def stored_as(encoding: str) -> str:
    """The name that configurations have for an encoding, where cameras use several for the same; upper case."""
    name = encoding.upper()
    return "VND.ONVIF.METADATA.GZIP" if name == "VND.ONVIF.METADATA+GZIP" else name


def _codec(encoding: str) -> _Codec:
    name = encoding.upper()
    codec = _CODECS.get(name)
    if codec is None:
        why = " (EXI is not taken; let the camera send plain or gzip metadata)" if ".EXI" in name else ""
        raise UnsupportedCodec(f"encoding {encoding!r} is not supported{why}")
    return codec
