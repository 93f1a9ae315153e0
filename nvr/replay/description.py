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


def payload_type(index: int, stream: PresentedStream) -> int:
    """The static type of RFC 3551 where there is one, else a dynamic one of the stream's own."""
    return _format(index, stream).payload_type


def describe(presentation: Presentation, local_address: str) -> bytes:
    """`local_address`: the literal address that the client is connected to; its family goes into o= and c=."""
    address = ipaddress.ip_address(local_address.partition("%")[0])
    v6 = address.version == 6
    media = tuple(
        Media(
            _KIND[stream.configuration.track_type],
            (_format(i, stream),),
            control=quote(stream.name),
            onvif_track=stream.onvif_track,
            attributes=_size(stream.configuration),
        )
        for i, stream in enumerate(presentation.streams)
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


def _format(index: int, stream: PresentedStream) -> PayloadFormat:
    configuration = stream.configuration
    fmt = PayloadFormat.of(_FIRST_DYNAMIC + index, configuration.rtpmap(), configuration.fmtp())
    for static in STATIC_FORMATS.values():
        same = (static.encoding, static.clock_rate, static.channels or 1) == (
            fmt.encoding,
            fmt.clock_rate,
            fmt.channels or 1,
        )
        if same and fmt.fmtp is None:
            return static
    return fmt
