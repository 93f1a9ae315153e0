"""Searches between the model and the wire (IEC 62676-2-32 clause 6)."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

from lxml import etree

from nvr.events.filters import ITEM_FILTER, MAX_EXPRESSIONS
from nvr.model import topics, xpath
from nvr.model.errors import BadFilter, FormatError
from nvr.model.event import Event
from nvr.model.job import RECEIVER_TYPE, SourceReference
from nvr.model.ptz import PanTilt, PtzFilter, PtzVector, Zoom
from nvr.model.recorded import CameraEvent, RecordedItem
from nvr.model.search import (
    AudioAttributes,
    EventFilter,
    FoundEvent,
    FoundMetadata,
    FoundPosition,
    MediaAttributes,
    MetadataAttributes,
    RecordingInformation,
    SearchScope,
    TrackAttributes,
    TrackInformation,
    VideoAttributes,
)
from nvr.model.tokens import RecordingToken
from nvr.soap import search_types, types
from nvr.soap.event_wire import (
    ElementItem,
    ItemList,
    Message,
    MessageHolder,
    NotificationMessage,
    SimpleItem,
    TopicExpressionType,
    encode_notification,
)
from nvr.soap.model import Foreign
from nvr.soap.names import TNS1, TT, WSNT
from nvr.soap.recordings_wire import encode_source_information


def decode_scope(wire: types.SearchScope) -> SearchScope:
    return SearchScope(
        tuple(SourceReference(s.Token, s.Type or RECEIVER_TYPE) for s in wire.IncludedSources),
        tuple(RecordingToken(t) for t in wire.IncludedRecordings),
        wire.RecordingInformationFilter,
    )


def decode_event_filter(given: search_types.EventFilter) -> EventFilter:
    """Topics of cameras are not known beforehand: any is accepted. Raises BadFilter."""
    paths, contents = [], []
    for element in given.any_elements:
        assert isinstance(element, etree._Element), "what a request holds has been read from it"
        text, dialect = "".join(element.itertext()), element.get("Dialect", "").strip()
        if element.tag == f"{{{WSNT}}}TopicExpression":
            try:
                paths.append(topics.parse(text, dialect, element.nsmap))
            except FormatError as e:
                raise BadFilter(str(e)) from e
        elif element.tag == f"{{{WSNT}}}MessageContent":
            if dialect not in (ITEM_FILTER, xpath.DIALECT):
                raise BadFilter(f"the dialect of the message content filter is not {ITEM_FILTER}")
            contents.append(xpath.parse(text))
        else:
            raise BadFilter(f"the filter holds {etree.QName(element).localname!r}, which this device cannot judge by")
    if max(len(paths), len(contents)) > MAX_EXPRESSIONS:
        raise BadFilter(f"the filter holds more than {MAX_EXPRESSIONS} expressions of one kind")
    return EventFilter(tuple(paths), tuple(contents))


def encode_found_event(found: FoundEvent) -> search_types.FindEventResult:
    event = found.event
    return search_types.FindEventResult(
        RecordingToken=found.recording,
        TrackToken=found.track or "",
        Time=found.time_ns,
        Event=encode_notification(event) if isinstance(event, Event) else _camera_notification(event),
        StartStateEvent=found.start_state,
    )


def _camera_notification(event: CameraEvent) -> NotificationMessage:
    message = event.message
    groups = {name: _items(items) for name, items in message.groups}
    wire = Message(UtcTime=event.utc_ns, PropertyOperation=message.operation, **groups)
    return NotificationMessage(
        Topic=_topic(message.topic),
        Message=MessageHolder(any_elements=(Foreign(f"{{{TT}}}Message", wire),)),
    )


def _topic(topic: topics.Topic) -> TopicExpressionType:
    """As a concrete topic expression, with the prefixes of vendors declared on it."""
    prefixes = {TNS1: "tns1"}
    for namespace, _ in topic:
        if namespace:
            prefixes.setdefault(namespace, f"v{len(prefixes)}")
    path = "/".join(f"{prefixes[namespace]}:{name}" if namespace else name for namespace, name in topic)
    vendors = ((prefix, namespace) for namespace, prefix in prefixes.items() if namespace != TNS1)
    declared = "".join(f" xmlns:{prefix}={quoteattr(namespace)}" for prefix, namespace in vendors)
    return TopicExpressionType(expression=path, Dialect=topics.CONCRETE, any_attributes=declared)


def _items(items: tuple[RecordedItem, ...]) -> ItemList:
    return ItemList(
        SimpleItem=[SimpleItem(Name=i.name, Value=i.value) for i in items if i.element is None],
        ElementItem=[
            ElementItem(Name=i.name, any_elements=(etree.fromstring(i.element),))
            for i in items
            if i.element is not None
        ],
    )


def encode_information(information: RecordingInformation) -> types.RecordingInformation:
    return types.RecordingInformation(
        RecordingToken=information.token,
        Source=encode_source_information(information.source),
        EarliestRecording=information.earliest_ns,
        LatestRecording=information.latest_ns,
        Content=information.content,
        Track=[encode_track(t) for t in information.tracks],
        RecordingStatus=information.status,
    )


def encode_track(track: TrackInformation) -> types.TrackInformation:
    return types.TrackInformation(
        TrackToken=track.token,
        TrackType=track.track_type,
        Description=track.description,
        DataFrom=track.data_from_ns,
        DataTo=track.data_to_ns,
    )


def decode_ptz_filter(wire: search_types.PTZPositionFilter) -> PtzFilter:
    return PtzFilter(_decode_vector(wire.MinPosition), _decode_vector(wire.MaxPosition), wire.EnterOrExit)


def _decode_vector(wire: search_types.PTZVector) -> PtzVector:
    pan_tilt, zoom = wire.PanTilt, wire.Zoom
    return PtzVector(
        None if pan_tilt is None else PanTilt(pan_tilt.x, pan_tilt.y, pan_tilt.space),
        None if zoom is None else Zoom(zoom.x, zoom.space),
    )


def encode_found_position(found: FoundPosition) -> search_types.FindPTZPositionResult:
    pan_tilt, zoom = found.position.pan_tilt, found.position.zoom
    return search_types.FindPTZPositionResult(
        RecordingToken=found.recording,
        TrackToken=found.track,
        Time=found.time_ns,
        Position=search_types.PTZVector(
            PanTilt=pan_tilt and search_types.Vector2D(x=pan_tilt.x, y=pan_tilt.y, space=pan_tilt.space),
            Zoom=zoom and search_types.Vector1D(x=zoom.x, space=zoom.space),
        ),
    )


def encode_found_metadata(found: FoundMetadata) -> search_types.FindMetadataResult:
    return search_types.FindMetadataResult(RecordingToken=found.recording, TrackToken=found.track, Time=found.time_ns)


def encode_media_attributes(found: MediaAttributes) -> search_types.MediaAttributes:
    return search_types.MediaAttributes(
        RecordingToken=found.recording,
        TrackAttributes=[_encode_attributes(t) for t in found.tracks],
        From=found.from_ns,
        Until=found.until_ns,
    )


def _encode_attributes(track: TrackAttributes) -> search_types.TrackAttributes:
    wire = search_types.TrackAttributes(TrackInformation=encode_track(track.information))
    match track.attributes:
        case VideoAttributes() as video:
            wire.VideoAttributes = search_types.VideoAttributes(
                Bitrate=video.bitrate,
                Width=video.width,
                Height=video.height,
                Encoding=video.encoding,
                Framerate=video.framerate,
            )
        case AudioAttributes() as audio:
            wire.AudioAttributes = search_types.AudioAttributes(
                Bitrate=audio.bitrate, Encoding=audio.encoding, Samplerate=audio.samplerate
            )
        case MetadataAttributes() as metadata:
            wire.MetadataAttributes = search_types.MetadataAttributes(
                CanContainPTZ=metadata.can_contain_ptz,
                CanContainAnalytics=metadata.can_contain_analytics,
                CanContainNotifications=metadata.can_contain_notifications,
                PtzSpaces=metadata.ptz_spaces,
            )
    return wire
