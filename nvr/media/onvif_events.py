"""The events in an ONVIF metadata document (ONVIF Streaming 5.1.2, Core 9.4): tt:MetadataStream/tt:Event with
wsnt:NotificationMessage elements. Sans-I/O.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from lxml import etree

from nvr.model.errors import FormatError
from nvr.model.event import PropertyOperation
from nvr.model.notification import Items, Notification
from nvr.model.time import parse_iso

MAX_BYTES = 1 << 20
"""Of a document as XML: a larger one would hold the event loop for too long. What unpacks to more is refused."""
MAX_ITEMS = 64
"""Of a group in one message; the rest is passed over."""
MAX_TEXT = 1024
"""Characters of a name, value or topic; longer ones are cut."""

MAX_ATTRIBUTES = 256
"""Of one element. Looking one up takes libxml2 as many steps as stand before it, and writing them in order more."""

_TT = "{http://www.onvif.org/ver10/schema}"
_WSNT = "{http://docs.oasis-open.org/wsn/b-2}"
_GZIP = b"\x1f\x8b"
_MARK = b"NotificationMessage"
_WIDE = etree.XPath(f"boolean(//*[@*[{MAX_ATTRIBUTES + 1}]])")


def events(document: bytes) -> list[Notification]:
    """As `notifications`."""
    return list(notifications(document))


def may_tell(document: bytes) -> bool:
    """Whether a document can tell anything, as far as that is seen without unpacking and parsing it."""
    return _MARK in document or document.startswith(_GZIP) or b"\0" in document[:4]


def notifications(document: bytes) -> Iterator[Notification]:
    """What a document tells, plain or gzip, in its order; most tell nothing, and that is seen without parsing.

    Raises FormatError for what is no XML, is too large, or has a DTD.
    """
    text = unpacked(document)
    if may_tell(text):
        yield from _notifications(parsed(text))


def parsed(text: bytes, most: int = MAX_BYTES) -> etree._Element:
    """The root of a document that is not packed. Raises FormatError for what is no XML, has more than `most` bytes or
    `MAX_ATTRIBUTES` attributes in one element, or has a DTD.
    """
    if len(text) > most:
        raise FormatError(f"a metadata document of {len(text)} bytes, more than {most}")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(text, parser)
    except etree.XMLSyntaxError as e:
        raise FormatError(f"a metadata document that is no XML: {e}") from e
    if root.getroottree().docinfo.internalDTD is not None:
        raise FormatError("a metadata document with a document type")
    if _WIDE(root):
        raise FormatError(f"a metadata document with more than {MAX_ATTRIBUTES} attributes in one element")
    return root


def unpacked(document: bytes, most: int = MAX_BYTES) -> bytes:
    """The XML of a document, plain or gzip. Raises FormatError for what is no gzip or unpacks to more than `most`."""
    if not document.startswith(_GZIP):
        return document
    unpacker = zlib.decompressobj(wbits=31)
    try:
        text = unpacker.decompress(document, most + 1)
    except zlib.error as e:
        raise FormatError(f"a metadata document that is no gzip: {e}") from e
    if len(text) > most:
        raise FormatError(f"a metadata document that unpacks to more than {most} bytes")
    return text


def _notifications(root: etree._Element) -> Iterator[Notification]:
    for told in root.iter(f"{_WSNT}NotificationMessage"):
        topic = told.findtext(f"{_WSNT}Topic")
        message = told.find(f"{_WSNT}Message/{_TT}Message")
        if topic is None or message is None:
            continue
        names = tuple(step.rpartition(":")[2] for step in topic.strip()[:MAX_TEXT].split("/") if step)
        try:
            utc_ns = parse_iso(message.get("UtcTime", ""))
        except FormatError:
            continue  # an event without its time (Core 9.4.1 demands one) cannot be placed
        yield Notification(
            names,
            utc_ns,
            _items(message.find(f"{_TT}Source")),
            _items(message.find(f"{_TT}Data")),
            _operation(message.get("PropertyOperation")),
        )


def _operation(text: str | None) -> PropertyOperation | None:
    try:
        return PropertyOperation(text) if text is not None else None
    except ValueError:
        return None


def _items(group: etree._Element | None) -> Items:
    if group is None:
        return ()
    found = group.findall(f"{_TT}SimpleItem")[:MAX_ITEMS]
    return tuple((str(i.get("Name", ""))[:MAX_TEXT], str(i.get("Value", ""))[:MAX_TEXT]) for i in found)
