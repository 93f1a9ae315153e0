"""Events on the wire: notifications, the set of topics, and the requests of subscribers (ONVIF Core 9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from lxml import etree

from nvr.events.broker import Termination
from nvr.events.delivery import Consumer
from nvr.events.errors import BadProducerProperties, UnknownFilter, UnrecognizedPolicy, UnsupportedPolicy
from nvr.events.filters import MAX_EXPRESSIONS, MAX_TEXT, Filter, parse_content
from nvr.events.topics import CONCRETE, parse
from nvr.model.errors import FormatError
from nvr.model.event import (
    TOPICS,
    ElementValue,
    Event,
    Item,
    PropertyOperation,
    Topic,
    Value,
    simple_text,
)
from nvr.model.job import JobState, RecordingJobConfiguration
from nvr.model.recording import RecordingConfiguration, TrackConfiguration
from nvr.soap import recordings_wire as wire
from nvr.soap.model import (
    AnyURI,
    Foreign,
    Open,
    String,
    Struct,
    UtcTime,
    attribute,
    content,
    many,
    optional,
    required,
    words,
)
from nvr.soap.names import TEV, TNS1, TT, WSA, WSNT, WSTOP, XS
from nvr.soap.values import parse_duration, parse_time
from nvr.soap.writer import escape_text

NOTIFY_ACTION = "http://docs.oasis-open.org/wsn/bw-2/NotificationConsumer/Notify"


class ReferenceParameters(Struct):
    __namespace__ = WSA
    __open__ = True


class Metadata(Struct):
    __namespace__ = WSA
    __open__ = True


class EndpointReference(Struct):
    """wsa:EndpointReferenceType."""

    __namespace__ = WSA
    __type_name__ = "EndpointReferenceType"
    __open__ = True

    Address = required(AnyURI)
    ReferenceParameters = optional(ReferenceParameters)
    Metadata = optional(Metadata)


class FilterType(Struct):
    """wsnt:FilterType: expressions in any number and order."""

    __namespace__ = WSNT
    __open__ = Open.ELEMENTS


class SubscriptionPolicy(Struct):
    __namespace__ = WSNT
    __open__ = Open.ELEMENTS


class TopicExpressionType(Struct):
    """wsnt:TopicExpressionType, with the one prefix that this device writes."""

    __namespace__ = WSNT
    __open__ = True
    __mentions__ = (TNS1,)

    expression = content(String)
    Dialect = attribute(AnyURI, use="required")


class SimpleItem(Struct):
    __namespace__ = TT

    Name = attribute(String, use="required")
    Value = attribute(String, use="required")


class ElementItem(Struct):
    """Its content is one element (xs:any)."""

    __namespace__ = TT

    Name = attribute(String, use="required")


class ItemList(Struct):
    __namespace__ = TT

    SimpleItem = many(SimpleItem)
    ElementItem = many(ElementItem)


class Message(Struct):
    """tt:Message."""

    __namespace__ = TT

    Source = optional(ItemList)
    Key = optional(ItemList)
    Data = optional(ItemList)
    UtcTime = attribute(UtcTime, use="required")
    PropertyOperation = attribute(words(PropertyOperation))


class MessageHolder(Struct):
    """The content is one tt:Message (xs:any)."""

    __namespace__ = WSNT
    __open__ = Open.ELEMENTS


class NotificationMessage(Struct):
    """wsnt:NotificationMessageHolderType."""

    __namespace__ = WSNT
    __type_name__ = "NotificationMessageHolderType"

    SubscriptionReference = optional(EndpointReference)
    Topic = optional(TopicExpressionType)
    ProducerReference = optional(EndpointReference)
    Message = required(MessageHolder)


class Notify(Struct):
    __namespace__ = WSNT

    NotificationMessage = many(NotificationMessage, at_least=1)


class TopicSet(Struct):
    """wstop:TopicSetType: the tree of topics (xs:any)."""

    __namespace__ = WSTOP
    __type_name__ = "TopicSetType"
    __open__ = True


def encode_notification(event: Event, reference: str | None = None) -> NotificationMessage:
    """`reference` is the address of the subscription, for consumers that have several."""
    message = Message(
        UtcTime=event.utc_ns,
        PropertyOperation=event.operation,
        Source=_items(event.topic.source, event.source),
        Data=_items(event.topic.data, event.data),
    )
    return NotificationMessage(
        SubscriptionReference=None if reference is None else EndpointReference(Address=reference),
        Topic=TopicExpressionType(expression=f"tns1:{event.topic.path}", Dialect=CONCRETE),
        Message=MessageHolder(any_elements=(Foreign(f"{{{TT}}}Message", message),)),
    )


async def write_notify(
    consumer: Consumer,
    reference: str,
    events: Sequence[Event],
    serialize: Callable[[Struct, str, str], Awaitable[list[bytes]]],
) -> list[bytes]:
    """The envelope that goes to a consumer, in pieces; `serialize` is that of the protocol."""
    wsa = f'xmlns:wsa="{WSA}"'
    header = (
        f"<wsa:Action {wsa}>{NOTIFY_ACTION}</wsa:Action><wsa:To {wsa}>{escape_text(consumer.address)}</wsa:To>"
        f"{consumer.header}"
    )
    message = Notify(NotificationMessage=(encode_notification(event, reference) for event in events))
    return await serialize(message, f"{{{WSNT}}}Notify", header)


def _items(declared: Sequence[Item], values: Any) -> ItemList:
    present = [(item, values[item.name]) for item in declared if item.name in values]
    return ItemList(
        SimpleItem=[SimpleItem(Name=i.name, Value=simple_text(i, v)) for i, v in present if not i.element],
        ElementItem=[_element_item(i, v) for i, v in present if i.element],
    )


def _element_item(item: Item, value: Value) -> ElementItem:
    tag = f"{{{TT}}}{item.type.removeprefix('tt:')}"
    return ElementItem(Name=item.name, any_elements=(Foreign(tag, _encode(value)),))


def _encode(value: Value | ElementValue) -> Struct:
    """As the matching getter answers it."""
    match value:
        case JobState():
            return wire.encode_state(value)
        case RecordingConfiguration():
            return wire.encode_recording_configuration(value)
        case TrackConfiguration():
            return wire.encode_track_configuration(value)
        case RecordingJobConfiguration():
            return wire.encode_job_configuration(value)
    raise TypeError(f"{value!r} is no content of an element item")


def encode_topic_set(topics: Iterable[Topic] = TOPICS) -> TopicSet:
    """Root topics carry the prefix tns1, those below none; each topic has its description (Core 9.6.2)."""
    top = etree.Element("top")
    for topic in topics:
        node = top
        for depth, name in enumerate(topic.names):
            tag = f"{{{TNS1}}}{name}" if depth == 0 else name
            found = node.find(tag)
            if found is None:
                # Prefixes in the values of Type have to be declared by hand.
                found = etree.SubElement(node, tag, nsmap={"tns1": TNS1, "tt": TT, "wstop": WSTOP, "xs": XS})
            node = found
        node.set(f"{{{WSTOP}}}topic", "true")
        node.append(_description(topic))
    return TopicSet(any_elements=tuple(top))


def _description(topic: Topic) -> etree._Element:
    description = etree.Element(f"{{{TT}}}MessageDescription", IsProperty="true" if topic.is_property else "false")
    for group, items in (("Source", topic.source), ("Data", topic.data)):
        listed = etree.SubElement(description, f"{{{TT}}}{group}")
        for item in items:
            kind = "ElementItemDescription" if item.element else "SimpleItemDescription"
            etree.SubElement(listed, f"{{{TT}}}{kind}", Name=item.name, Type=item.type)
    return description


def decode_termination(text: str | None) -> Termination | None:
    """wsnt:AbsoluteOrRelativeTimeType. Raises FormatError."""
    if text is None or not text.strip():
        return None
    stripped = text.strip()
    if stripped.lstrip("-").startswith("P"):
        return Termination(parse_duration(stripped), relative=True)
    return Termination(parse_time(stripped), relative=False)


def decode_filter(given: FilterType | None) -> Filter:
    """Raises the errors of nvr.events."""
    elements = _expressions(given)
    topics, contents, unknown = [], [], []
    for element in elements:
        text, dialect = "".join(element.itertext()), element.get("Dialect", "")
        if element.tag == f"{{{WSNT}}}TopicExpression":
            topics.append(parse(text, dialect, element.nsmap, TOPICS))
        elif element.tag == f"{{{WSNT}}}MessageContent":
            contents.append(parse_content(text, dialect))
        elif element.tag == f"{{{WSNT}}}ProducerProperties":
            raise BadProducerProperties("this device has no producer properties to filter by")
        else:
            unknown.append(str(element.tag))
    if unknown:
        raise UnknownFilter(*unknown)
    return Filter(topics, contents)


def _expressions(given: FilterType | None) -> list[etree._Element]:
    """The elements of a filter, when they are few and short enough to be parsed at once. Raises FormatError."""
    elements: list[etree._Element] = []
    for element in () if given is None else given.any_elements:
        assert isinstance(element, etree._Element), "what a request holds has been read from it"
        elements.append(element)
    most = max(Counter(element.tag for element in elements).values(), default=0)
    if most > MAX_EXPRESSIONS or len(elements) > 3 * MAX_EXPRESSIONS:  # there are three kinds
        raise FormatError(f"the filter holds more than {MAX_EXPRESSIONS} expressions of one kind")
    if sum(len(text) for element in elements for text in element.itertext()) > MAX_TEXT:
        raise FormatError(f"the expressions of the filter have more than {MAX_TEXT} characters together")
    return elements


def header_blocks(parameters: Sequence[Any]) -> str:
    """Reference parameters as header blocks, marked as such (WS-Addressing SOAP Binding 3.4)."""
    blocks = []
    for element in parameters:
        block = etree.fromstring(etree.tostring(element, with_tail=False))
        block.set(f"{{{WSA}}}IsReferenceParameter", "true")
        blocks.append(etree.tostring(block, encoding="unicode"))
    return "".join(blocks)


def decode_policy(given: SubscriptionPolicy | None) -> bool:
    """Whether only changes are wanted (tev:ChangedOnly). Raises UnrecognizedPolicy, UnsupportedPolicy."""
    tags = [] if given is None else [str(e.tag) for e in given.any_elements if isinstance(e, etree._Element)]
    unsupported = [tag for tag in tags if tag == f"{{{WSNT}}}UseRaw"]
    unknown = [tag for tag in tags if tag not in (f"{{{TEV}}}ChangedOnly", f"{{{WSNT}}}UseRaw")]
    if unknown:
        raise UnrecognizedPolicy(*unknown)
    if unsupported:
        raise UnsupportedPolicy(*unsupported)
    return bool(tags)
