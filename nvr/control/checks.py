"""What a configuration must be like; each check raises BadConfiguration that names the field, and changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import Enum
from itertools import chain
from typing import TypeVar
from urllib.parse import urlsplit

from nvr.control.state import ControlSettings
from nvr.model.errors import BadConfiguration
from nvr.model.extension import LONGEST, Extension
from nvr.model.job import (
    PROFILE_TYPE,
    RECEIVER_TYPE,
    RecordingEventFilter,
    RecordingJobConfiguration,
    RecordingJobMode,
    RecordingJobSource,
    SourceReference,
)
from nvr.model.receiver import Receiver, ReceiverConfiguration, ReceiverMode, StreamType, TransportProtocol
from nvr.model.recording import Recording, RecordingConfiguration, TrackConfiguration, TrackType
from nvr.model.time import NS
from nvr.model.tokens import ReceiverToken, TrackToken

E = TypeVar("E", bound=Enum)

MAX_NAME = 64
"""tt:Name and tokens (onvif.xsd)."""
MAX_IDENTIFIER = 1024
"""SourceId and Address: clients compare them, so they are refused rather than cut. 5.3.1 asks for 128 at least."""
MAX_TEXT = 4096
"""Descriptions and locations are for people: they are cut, which 5.3.1 allows."""
MAX_SOURCES = 64
MAX_CONDITIONS = 16
"""Of an event filter; each is tried on every event."""
MAX_INT = (1 << 31) - 1
"""xs:int"""
MAX_LONG = (1 << 63) - 1
"""What a column of the database holds."""
MIN_RETENTION_NS = NS
"""No file is shorter: with less, all that has been and will be recorded goes at once, which nobody asks for."""

NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot carry: stored, they would break every later answer."""


def recording_configuration(given: RecordingConfiguration) -> RecordingConfiguration:
    """The configuration as it is stored (5.3.1)."""
    source = given.source
    text("Source/SourceId", source.source_id, MAX_IDENTIFIER)
    text("Source/Name", source.name, MAX_NAME)
    text("Source/Address", source.address, MAX_IDENTIFIER)
    for field, value in (("Location", source.location), ("Description", source.description)):
        text(f"Source/{field}", value)
    text("Content", given.content)
    if not 0 <= given.maximum_retention_ns <= MAX_LONG:
        raise BadConfiguration("MaximumRetentionTime: must be zero or a positive duration below 292 years")
    if 0 < given.maximum_retention_ns < MIN_RETENTION_NS:
        raise BadConfiguration(
            "MaximumRetentionTime: with less than a second nothing is kept; zero sets no limit, the least one is PT1S"
        )
    extensions(given.extensions)
    cut = replace(source, location=source.location[:MAX_TEXT], description=source.description[:MAX_TEXT])
    return replace(given, source=cut, content=given.content[:MAX_TEXT])


def track_configuration(given: TrackConfiguration) -> TrackConfiguration:
    """The configuration as it is stored (5.3.2)."""
    track_type = one_of("TrackType", TrackType, given.track_type)
    if track_type is TrackType.EXTENDED:
        raise BadConfiguration("TrackType: a track is Video, Audio or Metadata")
    text("Description", given.description)
    extensions(given.extensions)
    return replace(given, track_type=track_type, description=given.description[:MAX_TEXT])


def job_configuration(
    given: RecordingJobConfiguration,
    recording: Recording,
    receivers: Mapping[ReceiverToken, Receiver],
    settings: ControlSettings,
) -> RecordingJobConfiguration:
    """The configuration with plain values set right; its sources still ask for receivers (5.3.3)."""
    mode = one_of("Mode", RecordingJobMode, given.mode)
    if not 0 <= given.priority <= MAX_INT:
        raise BadConfiguration(f"Priority: {given.priority} is not between 0 and {MAX_INT}")
    if given.schedule_token is not None:
        text("ScheduleToken", given.schedule_token, MAX_NAME)
    if len(given.sources) > MAX_SOURCES:
        raise BadConfiguration(f"Source: a job has at most {MAX_SOURCES} sources")
    if given.event_filter is not None:
        _event_filter(given.event_filter, settings)
    lines = (line.extensions for source in given.sources for line in source.tracks)
    conditions = () if given.event_filter is None else (c.extensions for c in given.event_filter.conditions)
    extensions(chain(given.extensions, *conditions, *(source.extensions for source in given.sources), *lines))
    fed: set[TrackToken] = set()
    sources = []
    for place, source in enumerate(given.sources):
        where = f"Source[{place}]"
        sources.append(_source(where, source, receivers))
        for line in source.tracks:
            text(f"{where}/Tracks/SourceTag", line.source_tag, MAX_IDENTIFIER)
            if recording.track(line.destination) is None:
                raise BadConfiguration(
                    f"{where}/Tracks/Destination: recording {recording.token} has no track {line.destination!r}"
                )
            if line.destination in fed:
                raise BadConfiguration(f"{where}/Tracks/Destination: track {line.destination} is named twice")
            fed.add(line.destination)
    return replace(given, mode=mode, sources=tuple(sources))


def _event_filter(given: RecordingEventFilter, settings: ControlSettings) -> None:
    """That its expressions can be parsed has been seen where they were read."""
    if not 1 <= len(given.conditions) <= MAX_CONDITIONS:
        raise BadConfiguration(f"EventFilter/Filter: a job has 1 to {MAX_CONDITIONS} conditions")
    limits = (("Before", given.before_ns, settings.before_event_ns), ("After", given.after_ns, settings.after_event_ns))
    for name, value, most in limits:
        if value is not None and not 0 <= value <= most:
            raise BadConfiguration(f"EventFilter/{name}: must be zero to {most // NS} s")


def _source(where: str, source: RecordingJobSource, receivers: Mapping[ReceiverToken, Receiver]) -> RecordingJobSource:
    reference = source.source if source.source is not None and source.source.token else None
    implied = not source.tracks
    if reference is None:
        if not source.auto_create_receiver:
            raise BadConfiguration(f"{where}: has neither a SourceToken nor AutoCreateReceiver true")
        if source.source is not None and source.source.type != RECEIVER_TYPE:
            raise BadConfiguration(f"{where}/SourceToken/@Type: AutoCreateReceiver makes receivers only")
        return replace(source, source=None, implied_tracks=implied)
    if reference.type not in (RECEIVER_TYPE, PROFILE_TYPE):
        raise BadConfiguration(f"{where}/SourceToken/@Type: {reference.type!r} is not known")
    receiver = source_receiver(reference, receivers)
    if receiver is None:
        kind = "receiver" if reference.type == RECEIVER_TYPE else "media profile"
        raise BadConfiguration(f"{where}/SourceToken: {kind} {reference.token!r} does not exist")
    # A profile is a receiver, which is what is recorded from, and what the job names from now on.
    named = SourceReference(receiver.token)
    return replace(source, source=named, auto_create_receiver=False, implied_tracks=implied)


def source_receiver(reference: SourceReference, receivers: Mapping[ReceiverToken, Receiver]) -> Receiver | None:
    """The receiver that a client means: by its own token, or by that of the media profile that shows it."""
    found = receivers.get(ReceiverToken(reference.token))
    if found is None or reference.type == RECEIVER_TYPE:
        return found
    return found if reference.type == PROFILE_TYPE and found.may_connect else None


def receiver_configuration(given: ReceiverConfiguration, settings: ControlSettings) -> ReceiverConfiguration:
    """The configuration with plain values set right. An empty MediaUri leaves the receiver unconfigured (clause 10)."""
    mode = receiver_mode(given.mode)
    setup = given.stream_setup
    stream = one_of("StreamSetup/Stream", StreamType, setup.stream)
    if stream is not StreamType.RTP_UNICAST:
        raise BadConfiguration(f"StreamSetup/Stream: {stream} cannot be received")
    protocol = one_of("StreamSetup/Transport/Protocol", TransportProtocol, setup.protocol)
    if protocol not in settings.protocols:
        raise BadConfiguration(f"StreamSetup/Transport/Protocol: {protocol} cannot be received")
    if given.media_uri:
        media_uri(given.media_uri, settings.uri_octets, tunnel=protocol is TransportProtocol.HTTP)
    extensions(given.extensions)
    return replace(given, mode=mode, stream_setup=replace(setup, stream=stream, protocol=protocol))


def receiver_mode(given: ReceiverMode | str) -> ReceiverMode:
    mode = one_of("Mode", ReceiverMode, given)
    if mode is ReceiverMode.UNKNOWN:
        raise BadConfiguration("Mode: a receiver is never set to Unknown")
    return mode


def media_uri(uri: str, octets: int, *, tunnel: bool = False) -> None:
    """Well formed and of a scheme that is supported; whether anything answers there is not asked (10.5.5).

    `tunnel`: RTSP over HTTP, for which cameras give URIs of either kind.

    The messages do not repeat the URI: it may hold a password.
    """
    if len(uri.encode("utf-8", "surrogatepass")) > octets:
        raise BadConfiguration(f"MediaUri: is longer than {octets} octets")
    if NO_XML.search(uri) or any(c.isspace() or ord(c) < 0x20 or ord(c) == 0x7F for c in uri):
        raise BadConfiguration("MediaUri: holds white space or a control character")
    if re.search("%(?![0-9A-Fa-f]{2})", uri):
        raise BadConfiguration("MediaUri: a % is not followed by two hexadecimal digits; write %25 for it")
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise BadConfiguration("MediaUri: its host or port is malformed") from None
    if parts.scheme not in ("rtsp", "rtsps", "http", "https"):
        raise BadConfiguration("MediaUri: does not begin with rtsp:// or rtsps://")
    if parts.scheme in ("http", "https") and not tunnel:
        raise BadConfiguration("MediaUri: does not begin with rtsp:// or rtsps://, and Transport/Protocol is not HTTP")
    if not host:
        raise BadConfiguration("MediaUri: names no host")
    if port == 0:
        raise BadConfiguration("MediaUri: port 0 cannot be connected")


def extensions(given: Iterable[Extension]) -> None:
    """What stands in a configuration beyond this edition is kept whole or not at all."""
    length = sum(map(len, given))
    if length > LONGEST:
        raise BadConfiguration(f"extensions: {length} characters, at most {LONGEST} are kept with a configuration")


def one_of(field: str, kind: type[E], given: object) -> E:
    """The member with this value. Raises BadConfiguration."""
    try:
        return kind(given)
    except ValueError:
        known = ", ".join(str(member.value) for member in kind)
        raise BadConfiguration(f"{field}: {str(given)[:MAX_NAME]!r} is none of {known}") from None


def text(field: str, value: str, longest: int | None = None) -> None:
    """A text that XML can carry, of at most `longest` characters."""
    if longest is not None and len(value) > longest:
        raise BadConfiguration(f"{field}: {len(value)} characters, at most {longest} are stored")
    if NO_XML.search(value):
        raise BadConfiguration(f"{field}: holds a character that XML cannot carry")
