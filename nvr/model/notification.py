"""An event as anybody may tell it: a camera in its metadata stream, or this recorder (ONVIF Core 9.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nvr.model.event import Event, Item, PropertyOperation, Value, simple_text
from nvr.model.time import UtcNs

Items = tuple[tuple[str, str], ...]
"""Name and value of each simple item, in the order in which they stand."""

_TRUE = frozenset(("true", "1"))
_BOOLEAN = frozenset(("true", "false", "1", "0"))


@dataclass(frozen=True, slots=True)
class Notification:
    """One message under one topic. Element items are not in it: no filter looks into them."""

    topic: tuple[str, ...]
    """Names from the root, without prefixes: ("RuleEngine", "CellMotionDetector", "Motion")."""
    utc_ns: UtcNs
    source: Items = ()
    data: Items = ()
    operation: PropertyOperation | None = None
    """None for an event that is no property."""

    @property
    def holds(self) -> bool:
        """Whether the property that this tells of is in force: until it is deleted, and where it has boolean data while
        one of these is true."""
        if self.operation is PropertyOperation.DELETED:
            return False
        flags = [value for _, value in self.data if value in _BOOLEAN]
        return not flags or not _TRUE.isdisjoint(flags)


def notification(event: Event) -> Notification:
    """What this recorder tells, in the same shape."""
    topic = event.topic
    source, data = _items(topic.source, event.source), _items(topic.data, event.data)
    return Notification(topic.names, event.utc_ns, source, data, event.operation)


def _items(declared: tuple[Item, ...], values: Mapping[str, Value]) -> Items:
    return tuple((i.name, simple_text(i, values[i.name])) for i in declared if i.name in values and not i.element)
