"""Which events a subscription wants: topics and message content together (ONVIF Core 9.4.4, 9.6.3). Sans-I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nvr.events.errors import BadContentExpression
from nvr.events.topics import TopicExpression
from nvr.model import xpath
from nvr.model.errors import FormatError
from nvr.model.event import Event, Item, Topic, Value, simple_text
from nvr.model.time import format_iso

ITEM_FILTER = "http://www.onvif.org/ver10/tev/messageContentFilter/ItemFilter"
MAX_EXPRESSIONS = 8
"""Of each kind in one subscription."""


def parse_content(text: str, dialect: str) -> xpath.Expression:
    """`boolean(//tt:SimpleItem[@Name="RecordingToken" and @Value="..."])`. Raises BadContentExpression."""
    if dialect.strip() != ITEM_FILTER:
        raise BadContentExpression(f"the dialect of the message content filter is not {ITEM_FILTER}")
    try:
        return xpath.parse(text)
    except FormatError as e:
        raise BadContentExpression(str(e)) from e


class Filter:
    """All expressions of a subscription must hold (WS-BaseNotification 1.3, 4.2); without any, every event passes."""

    def __init__(self, topics: Sequence[TopicExpression] = (), contents: Sequence[xpath.Expression] = ()) -> None:
        self._topics = tuple(topics)
        self._contents = tuple(contents)
        self._wanted: dict[Topic, bool] = {}

    def passes(self, message: Message) -> bool:
        topic = message.event.topic
        wanted = self._wanted.get(topic)
        if wanted is None:
            wanted = self._wanted[topic] = all(expression.matches(topic) for expression in self._topics)
        return wanted and all(message.holds(expression) for expression in self._contents)


@dataclass(slots=True, init=False)
class Message:
    """An event on its way to many subscriptions: as clients mostly ask the same, each filter is evaluated once."""

    event: Event
    _document: xpath.Node | None
    _held: dict[xpath.Expression, bool]

    def __init__(self, event: Event) -> None:
        self.event = event
        self._document = None
        self._held = {}

    def holds(self, expression: xpath.Expression) -> bool:
        known = self._held.get(expression)
        if known is None:
            if self._document is None:
                self._document = document(self.event)
            known = self._held[expression] = xpath.matches(expression, self._document)
        return known


def document(event: Event) -> xpath.Node:
    """tt:Message as filters see it. Element items are there by name, without their content: the dialect tests items,
    not what is inside them.
    """
    attributes = {"UtcTime": format_iso(event.utc_ns)}
    if event.operation is not None:
        attributes["PropertyOperation"] = event.operation
    groups = []
    for name, declared, values in (
        ("Source", event.topic.source, event.source),
        ("Data", event.topic.data, event.data),
    ):
        groups.append(xpath.Node(name, children=tuple(_item(i, values[i.name]) for i in declared if i.name in values)))
    return xpath.Node("Message", attributes=attributes, children=tuple(groups))


def _item(item: Item, value: Value) -> xpath.Node:
    if item.element:
        return xpath.Node("ElementItem", attributes={"Name": item.name})
    return xpath.Node("SimpleItem", attributes={"Name": item.name, "Value": simple_text(item, value)})
