"""Metadata documents as cameras send them, and metadata tracks that hold them."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import quoteattr

from nvr.media.codecs.metadata import MetadataConfiguration
from nvr.media.unit import Fragment, Sample
from nvr.model.time import NS, format_iso

HEAD = (
    '<tt:MetadataStream xmlns:tt="http://www.onvif.org/ver10/schema" xmlns:wsnt="http://docs.oasis-open.org/wsn/b-2" '
    'xmlns:tns1="http://www.onvif.org/ver10/topics" xmlns:v="http://vendor.example/topics">'
)
DIALECT = "http://www.onvif.org/ver10/tev/topicExpression/ConcreteSet"


def a_document(*parts: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{HEAD}{"".join(parts)}</tt:MetadataStream>'.encode()


def an_event(
    utc_ns: int,
    topic: str = "tns1:VideoSource/MotionAlarm",
    *,
    source: dict[str, str] | None = None,
    data: dict[str, str] | None = None,
    operation: str | None = "Changed",
    more: str = "",
) -> str:
    """tt:Event with one notification; `more` stands at the end of its Data."""

    def items(values: dict[str, str]) -> str:
        return "".join(f"<tt:SimpleItem Name={quoteattr(n)} Value={quoteattr(v)}/>" for n, v in values.items())

    property_ = "" if operation is None else f' PropertyOperation="{operation}"'
    return (
        f'<tt:Event><wsnt:NotificationMessage><wsnt:Topic Dialect="{DIALECT}">{topic}</wsnt:Topic><wsnt:Message>'
        f'<tt:Message UtcTime="{format_iso(utc_ns)}"{property_}>'
        f"<tt:Source>{items({'Source': 'V1'} if source is None else source)}</tt:Source>"
        f"<tt:Data>{items({'State': 'true'} if data is None else data)}{more}</tt:Data>"
        "</tt:Message></wsnt:Message></wsnt:NotificationMessage></tt:Event>"
    )


def a_position(pan: float | None = None, tilt: float = 0.0, zoom: float | None = None, space: str = "") -> str:
    where = f' space="{space}"' if space else ""
    moved = "" if pan is None else f'<tt:PanTilt x="{pan!r}" y="{tilt!r}"{where}/>'
    zoomed = "" if zoom is None else f'<tt:Zoom x="{zoom!r}"/>'
    return (
        f"<tt:PTZ><tt:PTZStatus><tt:Position>{moved}{zoomed}</tt:Position>"
        "<tt:UtcTime>2026-01-01T00:00:00Z</tt:UtcTime></tt:PTZStatus></tt:PTZ>"
    )


def an_object(kind: str = "Human", right: float = 0.5, bottom: float = 0.5) -> str:
    """tt:VideoAnalytics with one frame that shows one object."""
    return (
        '<tt:VideoAnalytics><tt:Frame UtcTime="2026-01-01T00:00:00Z"><tt:Object ObjectId="1"><tt:Appearance><tt:Shape>'
        f'<tt:BoundingBox left="0.1" top="0.1" right="{right}" bottom="{bottom}"/></tt:Shape>'
        f'<tt:Class><tt:Type Likelihood="0.9">{kind}</tt:Type></tt:Class>'
        "</tt:Appearance></tt:Object></tt:Frame></tt:VideoAnalytics>"
    )


def a_fragment(documents: Iterable[tuple[int, bytes]], configuration: MetadataConfiguration | None = None) -> Fragment:
    """Documents with their times, one fragment that ends a fifth of a second behind the last."""
    samples = [Sample(at_ns, data, True) for at_ns, data in documents]
    return Fragment(configuration or MetadataConfiguration(), samples, max(s.utc_ns for s in samples) + NS // 5)
