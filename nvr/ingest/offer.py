"""What a session description offers: its sections as streams, and which payload type of each can be stored."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nvr.ingest.arbiter import SourceStream
from nvr.ingest.stream import StreamReceiver
from nvr.media import codecs
from nvr.media.sdp import Media, PayloadFormat, resolve_control
from nvr.media.unit import Depacketizer
from nvr.model.errors import FormatError
from nvr.model.recording import TrackType

_KINDS = {"video": TrackType.VIDEO, "audio": TrackType.AUDIO, "application": TrackType.METADATA}


@dataclass(slots=True)
class OfferedStream:
    """One section of the session description, and what SETUP made of it."""

    info: SourceStream
    uri: str
    receiver: StreamReceiver
    rtcp_channel: int | None = None
    """Of the interleaved connection; 0 on UDP, which has none. None while it is not set up."""
    problem: str | None = None
    """Why it cannot be recorded, one sentence."""


def offered(index: int, media: Media, base: str) -> OfferedStream:
    uri = without_credentials(resolve_control(media.control, base))
    chosen, depacketizer, problem = _choose(media)
    track_type = _KINDS.get(media.kind)
    if track_type is TrackType.METADATA and depacketizer is None:
        track_type = None  # application data of other kinds belongs in no track
    names = [media.onvif_track, media.attribute("mid"), media.attribute("label"), media.control, uri]
    names.append(uri.rstrip("/").rpartition("/")[2])
    info = SourceStream(
        index=index,
        track_type=track_type,
        encoding=codecs.stored_as(chosen.encoding) or f"payload type {chosen.payload_type}",
        names=tuple(dict.fromkeys(n for n in names if n)),
        supported=depacketizer is not None,
    )
    receiver = StreamReceiver(chosen.payload_type, chosen.clock_rate or 90_000, depacketizer)
    return OfferedStream(info, uri, receiver, problem=problem)


def _choose(media: Media) -> tuple[PayloadFormat, Depacketizer | None, str | None]:
    """The first payload type that can be stored; otherwise the first, without a depacketizer and with the reason."""
    problem = f"the {media.kind} section names no payload type"
    for offered in media.formats:
        if not offered.clock_rate:
            problem = f"payload type {offered.payload_type} is explained nowhere in the session description"
            continue
        try:
            depacketizer = codecs.depacketizer_for(
                offered.encoding, offered.clock_rate, offered.channels, {**_sizes(media), **offered.parameters}
            )
        except FormatError as e:
            problem = str(e)
        else:
            return offered, depacketizer, None
    first = media.formats[0] if media.formats else PayloadFormat(0, "", 0)
    return first, None, problem


def _sizes(media: Media) -> dict[str, str]:
    """Attributes that tell the size of pictures, for codecs whose packets cannot (RTP/JPEG above 2040 pixels)."""
    return {name: value for name in ("x-dimensions", "framesize") if (value := media.attribute(name))}


def without_credentials(uri: str) -> str:
    """Some cameras echo the URI with credentials, also with `@` in a password; they are sent in headers only."""
    return re.sub(r"(?<=://)[^/?#]*@", "", uri, count=1)
