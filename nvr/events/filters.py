"""Which events a subscription wants: topics and message content together (ONVIF Core 9.4.4, 9.6.3). Sans-I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nvr.events.content import Content, Subject, too_costly
from nvr.events.errors import BadContentExpression
from nvr.events.topics import TopicExpression
from nvr.model import xpath
from nvr.model.errors import FormatError
from nvr.model.event import Event, Topic, document, simple_text

ITEM_FILTER = "http://www.onvif.org/ver10/tev/messageContentFilter/ItemFilter"
MAX_EXPRESSIONS = 8
"""Of each kind in one subscription."""
MAX_TEXT = 8192
"""Characters of all expressions of a subscription together: they are parsed in one step of the loop."""


def parse_content(text: str, dialect: str) -> Content:
    """`boolean(//tt:SimpleItem[@Name="RecordingToken" and @Value="..."])`. Raises BadContentExpression."""
    if dialect.strip() != ITEM_FILTER:
        raise BadContentExpression(f"the dialect of the message content filter is not {ITEM_FILTER}")
    try:
        return Content.parse(text)
    except FormatError as e:
        raise BadContentExpression(str(e)) from e


class Filter:
    """All expressions of a subscription must hold (WS-BaseNotification 1.3, 4.2); without any, every event passes."""

    def __init__(self, topics: Sequence[TopicExpression] = (), contents: Sequence[Content] = ()) -> None:
        """Raises BadContentExpression for expressions that would take too long to judge."""
        refusal = too_costly(contents)
        if refusal is not None:
            raise BadContentExpression(refusal)
        self.contents = tuple(contents)
        self.steps = sum(content.steps for content in contents)
        """Steps that each message of the wanted topics costs, beyond look-ups."""
        self._topics = tuple(topics)
        self._wanted: dict[Topic, bool] = {}

    def passes_topic(self, topic: Topic) -> bool:
        wanted = self._wanted.get(topic)
        if wanted is None:
            wanted = self._wanted[topic] = all(expression.matches(topic) for expression in self._topics)
        return wanted

    def passes(self, message: Message) -> bool:
        return self.passes_topic(message.event.topic) and all(map(message.holds, self.contents))


class Message(Subject):
    """An event on its way to many subscriptions."""

    __slots__ = ("event",)

    def __init__(self, event: Event) -> None:
        super().__init__()
        self.event = event

    def simple_items(self) -> Iterator[tuple[str, str]]:
        event = self.event
        for declared, values in ((event.topic.source, event.source), (event.topic.data, event.data)):
            for item in declared:
                if item.name in values and not item.element:
                    yield item.name, simple_text(item, values[item.name])

    def as_document(self) -> xpath.Node:
        return document(self.event)
