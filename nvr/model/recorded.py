"""Events as cameras have sent them in their metadata streams (ONVIF Core 9, Streaming 5.1.2.1.1).

Topics and items are those of the camera, vendors' own among them: nothing of them is declared here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from nvr.model import topics, xpath
from nvr.model.event import PropertyOperation, message_node
from nvr.model.time import UtcNs


@dataclass(frozen=True, slots=True)
class RecordedItem:
    """A SimpleItem, or an ElementItem whose one element is kept as XML text with its namespaces declared."""

    name: str
    value: str = ""
    element: str | None = None


@dataclass(frozen=True, slots=True)
class RecordedMessage:
    """A tt:Message without its time: what cameras repeat a thousand times a day is stored once."""

    topic: topics.Topic
    operation: PropertyOperation | None = None
    source: tuple[RecordedItem, ...] = ()
    key: tuple[RecordedItem, ...] = ()
    data: tuple[RecordedItem, ...] = ()

    @property
    def groups(self) -> tuple[tuple[str, tuple[RecordedItem, ...]], ...]:
        """Those that are there, by their names, in the order of the schema."""
        return tuple(g for g in (("Source", self.source), ("Key", self.key), ("Data", self.data)) if g[1])

    @property
    def length(self) -> int:
        """Characters of its items."""
        return sum(
            len(item.name) + len(item.value) + (0 if item.element is None else len(item.element))
            for items in (self.source, self.key, self.data)
            for item in items
        )


@dataclass(frozen=True, slots=True)
class CameraEvent:
    """`utc_ns` is the time that the camera gave the message."""

    message: RecordedMessage
    utc_ns: UtcNs


def document(event: CameraEvent) -> xpath.Node:
    """tt:Message as content filters see it; element items by their names alone."""
    message = event.message
    groups = (xpath.Node(name, children=tuple(_nodes(items))) for name, items in message.groups)
    return message_node(event.utc_ns, message.operation, groups)


def _nodes(items: Iterable[RecordedItem]) -> Iterable[xpath.Node]:
    for item in items:
        if item.element is None:
            yield xpath.Node("SimpleItem", attributes={"Name": item.name, "Value": item.value})
        else:
            yield xpath.Node("ElementItem", attributes={"Name": item.name})


def initialized(message: RecordedMessage) -> RecordedMessage:
    """The same state, told as one that was there before (Core 9.4.2)."""
    return replace(message, operation=PropertyOperation.INITIALIZED)
