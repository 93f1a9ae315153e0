"""What a document of a camera's metadata stream holds for searches (ONVIF Streaming 5.1.2): its events as they stand,
the position of the camera, and the words by which a search knows that it need not look into it. Sans-I/O.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lxml import etree

from nvr.media.codecs.metadata import MAXIMUM_DOCUMENT
from nvr.media.onvif_events import parsed, unpacked
from nvr.model import topics, xpath
from nvr.model.errors import FormatError
from nvr.model.event import TOPIC_NAMESPACE, PropertyOperation
from nvr.model.ptz import PanTilt, PtzVector, Zoom, spaces
from nvr.model.recorded import CameraEvent, RecordedItem, RecordedMessage
from nvr.model.time import UtcNs, parse_iso

MAX_EVENTS = 1000
"""Of one document; more are counted as lost by whoever reads it."""
MAX_ITEMS = 64
"""Of a group in one message."""
MAX_TEXT = 4096
"""Characters of a name, a value or an element item; what is longer is cut, or left out where it is an element."""
MAX_WORDS = 400
"""Of one document: names of elements and attributes, and types. A document with more is taken to hold every word."""
ANY_WORD = "*"

_TT = "{http://www.onvif.org/ver10/schema}"
_WSNT = "{http://docs.oasis-open.org/wsn/b-2}"
_TYPED = frozenset(("Type", "ClassType"))
"""Elements whose text is a word as well: the classes of objects."""
_LONGEST_TYPE = 64
_INT64 = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class MetadataContent:
    """`position` is the last one that the document tells. `words` are names of elements, `@` names of attributes,
    `Type=Human` for the classes of objects, `space=` the spaces of positions."""

    events: tuple[CameraEvent, ...] = ()
    position: PtzVector | None = None
    words: frozenset[str] = frozenset()
    left_out: int = 0
    """Events that were too many, or without topic or message."""


def read(document: bytes, time_ns: UtcNs) -> MetadataContent:
    """A document, plain or gzip, recorded at `time_ns`, which is taken as the time of events that tell none.

    Raises FormatError for what is no XML, has a DTD, or is larger than what is recorded.
    """
    root = root_of(document)
    events: list[CameraEvent] = []
    left_out = 0
    for element in root.iter(f"{_WSNT}NotificationMessage"):
        event = _event(element, time_ns) if len(events) < MAX_EVENTS else None
        if event is None:
            left_out += 1
        else:
            events.append(event)
    position = None
    for status in root.iter(f"{_TT}PTZStatus"):
        position = _position(status.find(f"{_TT}Position")) or position
    return MetadataContent(tuple(events), position, _words(root, position), left_out)


def root_of(document: bytes) -> etree._Element:
    """Raises FormatError as `read`."""
    return parsed(unpacked(document, MAXIMUM_DOCUMENT), MAXIMUM_DOCUMENT)


def node_of(element: etree._Element) -> xpath.Node:
    """The document as filters see it. (Parsing has bounded its depth and the attributes of each element.)"""
    attributes = {_local(name): element.attrib[name] for name in element.attrib}
    children = tuple(node_of(child) for child in element.iterchildren(tag=etree.Element))
    text = (element.text or "") + "".join(child.tail or "" for child in element)
    return xpath.Node(_local(element.tag), text, attributes, children)


def _event(element: etree._Element, time_ns: UtcNs) -> CameraEvent | None:
    topic = element.find(f"{_WSNT}Topic")
    message = element.find(f"{_WSNT}Message/{_TT}Message")
    if topic is None or message is None:
        return None
    path = _topic("".join(topic.itertext()), topic.nsmap)
    if not path:
        return None
    groups = (_items(message.find(f"{_TT}{name}")) for name in ("Source", "Key", "Data"))
    told = RecordedMessage(path, _operation(message.get("PropertyOperation")), *groups)
    return CameraEvent(told, _time(message.get("UtcTime", ""), time_ns))


def _topic(text: str, namespaces: Mapping[str | None, str]) -> topics.Topic:
    """The prefix tns1 is believed also where a camera has forgotten to declare it."""
    path = []
    for step in text.strip()[:MAX_TEXT].split("/"):
        prefix, colon, name = step.rpartition(":")
        if name:
            namespace = namespaces.get(prefix, TOPIC_NAMESPACE if prefix == "tns1" else "") if colon else ""
            path.append((namespace, name))
    return tuple(path)


def _time(text: str, otherwise_ns: UtcNs) -> UtcNs:
    try:
        return max(-_INT64, min(_INT64, parse_iso(text)))
    except FormatError:
        return otherwise_ns


def _operation(text: str | None) -> PropertyOperation | None:
    try:
        return PropertyOperation(text) if text is not None else None
    except ValueError:
        return None


def _items(group: etree._Element | None) -> tuple[RecordedItem, ...]:
    return tuple(_all_items(group))[:MAX_ITEMS] if group is not None else ()


def _all_items(group: etree._Element) -> Iterator[RecordedItem]:
    for item in group.iterfind(f"{_TT}SimpleItem"):
        yield RecordedItem(item.get("Name", "")[:MAX_TEXT], item.get("Value", "")[:MAX_TEXT])
    for item in group.iterfind(f"{_TT}ElementItem"):
        for element in item.iterchildren(tag=etree.Element):
            text = etree.tostring(element, method="c14n", exclusive=True).decode()
            if len(text) <= MAX_TEXT:
                yield RecordedItem(item.get("Name", "")[:MAX_TEXT], element=text)
            break


def _position(element: etree._Element | None) -> PtzVector | None:
    if element is None:
        return None
    pan_tilt, zoom = element.find(f"{_TT}PanTilt"), element.find(f"{_TT}Zoom")
    found = PtzVector(_pan_tilt(pan_tilt) if pan_tilt is not None else None, _zoom(zoom) if zoom is not None else None)
    return found if found.pan_tilt is not None or found.zoom is not None else None


def _pan_tilt(element: etree._Element) -> PanTilt | None:
    x, y = _number(element.get("x")), _number(element.get("y"))
    return PanTilt(x, y, element.get("space")) if x is not None and y is not None else None


def _zoom(element: etree._Element) -> Zoom | None:
    x = _number(element.get("x"))
    return Zoom(x, element.get("space")) if x is not None else None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _words(root: etree._Element, position: PtzVector | None) -> frozenset[str]:
    words = {f"space={space}" for space in spaces(position)} if position is not None else set()
    for element in root.iter(etree.Element):
        name = _local(element.tag)
        words.add(name)
        for attribute in element.attrib:
            words.add(f"@{_local(attribute)}")
        if name in _TYPED and len(element):
            words.add(ANY_WORD)  # its value is put together from what is inside it
        elif name in _TYPED and element.text and len(element.text) <= _LONGEST_TYPE:
            words.add(f"{name}={element.text}")
        if len(words) > MAX_WORDS:
            return frozenset((*(w for w in words if w.startswith("space=")), ANY_WORD))
    return frozenset(words)


def _local(name: object) -> str:
    return str(name).rpartition("}")[2]
