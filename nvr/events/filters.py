"""Which events a subscription wants: topics and message content together (ONVIF Core 9.4.4, 9.6.3). Sans-I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nvr.events.errors import BadContentExpression
from nvr.events.topics import TopicExpression
from nvr.model import xpath
from nvr.model.errors import FormatError
from nvr.model.event import Event, Topic, document, simple_text, wanted_item

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
    _items: frozenset[tuple[str, str]] | None
    _held: dict[xpath.Expression, bool]

    def __init__(self, event: Event) -> None:
        self.event = event
        self._document = None
        self._items = None
        self._held = {}

    def holds(self, expression: xpath.Expression) -> bool:
        known = self._held.get(expression)
        if known is None:
            known = self._held[expression] = self._evaluated(expression)
        return known

    def _evaluated(self, expression: xpath.Expression) -> bool:
        wanted = wanted_item(expression)
        if wanted is not None:
            if self._items is None:
                self._items = frozenset(_simple_items(self.event))
            return wanted in self._items
        if self._document is None:
            self._document = document(self.event)
        return xpath.matches(expression, self._document)


def _simple_items(event: Event) -> Iterator[tuple[str, str]]:
    for declared, values in ((event.topic.source, event.source), (event.topic.data, event.data)):
        for item in declared:
            if item.name in values and not item.element:
                yield item.name, simple_text(item, values[item.name])
