"""The session description of a presentation (RFC 2326 C.1; IEC 62676-2-32 8.2)."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import quote

from nvr.media.codecs.jpeg import JpegConfiguration
from nvr.media.sdp import STATIC_FORMATS, Attribute, Media, PayloadFormat, SessionDescription
from nvr.media.unit import CodecConfiguration
from nvr.model.recording import TrackType
from nvr.replay.mounts import Presentation, PresentedStream

_KIND: Final = {TrackType.VIDEO: "video", TrackType.AUDIO: "audio", TrackType.METADATA: "application"}
_FIRST_DYNAMIC: Final = 96


_LAST_DYNAMIC: Final = 127
_FIRST_TYPES: Final = 12
"""So many dynamic types at least are kept for the first formats of streams; those behind are for further formats."""
_SOUNDS: Final = 4
"""Streams of sound that may have further formats, five each."""


def payload_types(presentation: Presentation, index: int) -> tuple[tuple[CodecConfiguration, int], ...]:
    """What is described of a stream, each with its payload type.

    They follow from the stream and its formats alone, so that SETUP finds what DESCRIBE said, whatever other streams
    have come or gone between. A format for which no type is left is not described.
    """
    found = _formats(presentation.streams[index], presentation.numbers)
    return tuple((configuration, fmt.payload_type) for configuration, fmt in found)


def describe(presentation: Presentation, local_address: str) -> bytes:
    """`local_address`: the literal address that the client is connected to; its family goes into o= and c=."""
    address = ipaddress.ip_address(local_address.partition("%")[0])
    v6 = address.version == 6
    media = tuple(
        Media(
            _KIND[stream.configuration.track_type],
            tuple(f for _, f in _formats(stream, presentation.numbers)),
            control=quote(stream.name),
            onvif_track=stream.onvif_track,
            attributes=_size(stream.configuration),
        )
        for stream in presentation.streams
    )
    ranges = tuple(("range", range_) for range_ in presentation.ranges)
    return bytes(
        SessionDescription(
            media,
            origin=f"- {presentation.reference_ns // 1000} 1 IN {'IP6' if v6 else 'IP4'} {address}",
            name="nvr",
            connection="IN IP6 ::" if v6 else "IN IP4 0.0.0.0",
            control="*",
            attributes=ranges,
        )
    )


def _size(configuration: CodecConfiguration) -> tuple[Attribute, ...]:
    """The size of JPEG images that RTP/JPEG cannot tell, for players that know no ONVIF: GStreamer reads it here."""
    if isinstance(configuration, JpegConfiguration) and not configuration.told_by_rtp:
        return (("x-dimensions", f"{configuration.width},{configuration.height}"),)
    return ()


def _formats(stream: PresentedStream, numbers: int) -> list[tuple[CodecConfiguration, PayloadFormat]]:
    """The static type of RFC 3551 where there is one, else a dynamic one of the stream's own: the first format has one
    from below, further ones from above. No two streams share one: FFmpeg would give both the parameters of one."""
    found: list[tuple[CodecConfiguration, PayloadFormat]] = []
    lowest = _FIRST_DYNAMIC + max(numbers, _FIRST_TYPES)
    further = iter(range(_LAST_DYNAMIC - stream.sound, lowest - 1, -_SOUNDS) if stream.sound < _SOUNDS else ())
    for place, configuration in enumerate((stream.configuration, *stream.others)):
        fmt = _static(configuration)
        if fmt is None:
            dynamic = next(further, None) if place else min(_FIRST_DYNAMIC + stream.number, _LAST_DYNAMIC)
            if dynamic is None:
                continue
            fmt = PayloadFormat.of(dynamic, configuration.rtpmap(), configuration.fmtp())
        found.append((configuration, fmt))
    return found


def _static(configuration: CodecConfiguration) -> PayloadFormat | None:
    fmt = PayloadFormat.of(_FIRST_DYNAMIC, configuration.rtpmap(), configuration.fmtp())
    if fmt.fmtp is not None:
        return None
    wanted = fmt.encoding, fmt.clock_rate, fmt.channels or 1
    return next((s for s in STATIC_FORMATS.values() if (s.encoding, s.clock_rate, s.channels or 1) == wanted), None)
