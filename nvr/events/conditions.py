"""Which events make a job record: RecordingEventFilter (Recording Control 5.3.4). Sans-I/O.

A filter has one or more conditions, a topic with or without a filter on the source of the message; one that holds is
enough. Events come from the receivers of the job, in their metadata streams, and from this recorder itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from nvr.events.topics import TopicExpression, parse_names
from nvr.model import xpath
from nvr.model.job import EventCondition, RecordingEventFilter
from nvr.model.notification import Items, Notification
from nvr.model.time import UtcNs, format_iso
from nvr.model.tokens import JobToken, ReceiverToken


class Gate(Protocol):
    """What lets the footage of a job through (`nvr.ingest`). Times are UTC nanoseconds."""

    def begin(self, condition: Hashable, at_ns: UtcNs, /) -> None:
        """A condition has begun to hold; nothing where it held already."""

    def end(self, condition: Hashable, at_ns: UtcNs, /) -> None:
        """A condition holds no longer; nothing where it did not."""

    def pulse(self, at_ns: UtcNs, /) -> None:
        """Something has happened that has no length."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One RecordingEventFilter/Filter, parsed."""

    topic: TopicExpression
    source: xpath.Expression | None

    @classmethod
    def parse(cls, given: EventCondition) -> Condition:
        """Raises BadTopicExpression, FormatError."""
        return cls(parse_names(given.topic), None if given.source is None else xpath.parse(given.source))

    def meets(self, told: Notification) -> bool:
        """Whether the notification is about this condition. The steps of an expression and the items of a message are
        bounded so that it never takes long (`xpath.MAX_VISITS` is not reached)."""
        if not self.topic.matches_names(told.topic):
            return False
        return self.source is None or xpath.matches(self.source, _document(told))


def _document(told: Notification) -> xpath.Node:
    attributes = {"UtcTime": format_iso(told.utc_ns)}
    if told.operation is not None:
        attributes["PropertyOperation"] = told.operation
    groups = tuple(_group(name, items) for name, items in (("Source", told.source), ("Data", told.data)))
    return xpath.Node("Message", attributes=attributes, children=groups)


def _group(name: str, items: Items) -> xpath.Node:
    found = (xpath.Node("SimpleItem", attributes={"Name": n, "Value": v}) for n, v in items)
    return xpath.Node(name, children=tuple(found))


G = TypeVar("G", bound=Gate)


@dataclass(frozen=True, slots=True)
class _Watch(Generic[G]):
    filter: RecordingEventFilter
    conditions: tuple[Condition, ...]
    gate: G
    receivers: frozenset[ReceiverToken]


class EventConditions(Generic[G]):
    """The gates of the jobs that record while events last; judges what is told, and moves them."""

    def __init__(self, make: Callable[[RecordingEventFilter], G], own: Callable[[], Iterable[Notification]]) -> None:
        """`own` gives the states of this recorder's properties, for jobs that are new."""
        self._make = make
        self._own = own
        self._watches: dict[JobToken, _Watch[G]] = {}

    def set_job(self, job: JobToken, wanted: RecordingEventFilter | None, receivers: Collection[ReceiverToken]) -> None:
        """What a job wants from now on; None where it records always, or is gone. A filter that has not changed keeps
        its gate. Raises BadTopicExpression and FormatError for one that had not been checked.
        """
        known = self._watches.pop(job, None)
        if wanted is None:
            return
        if known is not None and known.filter == wanted:
            self._watches[job] = replace(known, receivers=frozenset(receivers))
            return
        conditions = tuple(Condition.parse(c) for c in wanted.conditions)
        watch = self._watches[job] = _Watch(wanted, conditions, self._make(wanted), frozenset(receivers))
        for told in self._own():
            _judge(watch, None, told, told.utc_ns)

    def gate(self, job: JobToken) -> G | None:
        """None for a job that records always."""
        watch = self._watches.get(job)
        return None if watch is None else watch.gate

    def hears(self, receiver: ReceiverToken) -> bool:
        """Whether what this receiver tells can matter to a job."""
        return any(receiver in watch.receivers for watch in self._watches.values())

    def heard_here(self, told: Notification) -> None:
        """This recorder has told something."""
        for watch in self._watches.values():
            _judge(watch, None, told, told.utc_ns)

    def heard_from(self, receiver: ReceiverToken, told: Notification, at_ns: UtcNs) -> None:
        """A camera has told something, at this time by the clock of the recorded footage: cameras' clocks may be wrong,
        and the footage has been set right."""
        for watch in self._watches.values():
            if receiver in watch.receivers:
                _judge(watch, receiver, told, at_ns)


def _judge(watch: _Watch[G], origin: ReceiverToken | None, told: Notification, at_ns: UtcNs) -> None:
    for number, condition in enumerate(watch.conditions):
        if not condition.meets(told):
            continue
        key = number, origin, told.topic, told.source
        if told.operation is None:
            watch.gate.pulse(at_ns)
        elif told.holds:
            watch.gate.begin(key, at_ns)
        else:
            watch.gate.end(key, at_ns)
