"""Which events make a job record: RecordingEventFilter (Recording Control 5.3.4). Sans-I/O.

A filter has one or more conditions, a topic with or without a filter on the source of the message; one that holds is
enough. Events come from the receivers of the job, in their metadata streams, and from this recorder itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from nvr.events.content import Content, Subject, too_costly
from nvr.events.topics import TopicExpression, parse_names
from nvr.model import xpath
from nvr.model.errors import FormatError
from nvr.model.event import message_node
from nvr.model.job import EventCondition, RecordingEventFilter
from nvr.model.notification import Items, Notification
from nvr.model.time import UtcNs
from nvr.model.tokens import JobToken, ReceiverToken


class Gate(Protocol):
    """What lets the footage of a job through (`nvr.ingest`). Times are UTC nanoseconds."""

    def begin(self, condition: Hashable, at_ns: UtcNs, /) -> None:
        """A condition has begun to hold; nothing where it held already."""

    def end(self, condition: Hashable, at_ns: UtcNs, /) -> None:
        """A condition holds no longer; nothing where it did not."""

    def end_all(self, which: Callable[[Hashable], bool], at_ns: UtcNs, /) -> None:
        """These conditions hold no longer."""

    def pulse(self, at_ns: UtcNs, /) -> None:
        """Something has happened that has no length."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One RecordingEventFilter/Filter, parsed."""

    topic: TopicExpression
    source: Content | None

    @classmethod
    def parse(cls, given: EventCondition) -> Condition:
        """Raises BadTopicExpression, FormatError."""
        return cls(parse_names(given.topic), None if given.source is None else Content.parse(given.source))

    def meets(self, told: Notice) -> bool:
        """Whether the notification is about this condition; its topic is."""
        return self.source is None or told.holds(self.source)


def parse_filter(given: RecordingEventFilter) -> tuple[Condition, ...]:
    """Its conditions. Raises BadTopicExpression, FormatError, also where judging an event would take too long."""
    conditions = tuple(map(Condition.parse, given.conditions))
    refusal = too_costly([c.source for c in conditions if c.source is not None])
    if refusal is not None:
        raise FormatError(refusal)
    return conditions


class Notice(Subject):
    """A notification while conditions are asked of it."""

    __slots__ = ("notification",)

    def __init__(self, told: Notification) -> None:
        super().__init__()
        self.notification = told

    def simple_items(self) -> Items:
        return self.notification.source + self.notification.data

    def as_document(self) -> xpath.Node:
        told = self.notification
        groups = [_group(name, items) for name, items in (("Source", told.source), ("Data", told.data))]
        return message_node(told.utc_ns, told.operation, groups)


def _group(name: str, items: Items) -> xpath.Node:
    found = (xpath.Node("SimpleItem", attributes={"Name": n, "Value": v}) for n, v in items)
    return xpath.Node(name, children=tuple(found))


@dataclass(frozen=True, slots=True)
class Held:
    """What makes a gate hold: a condition of its job, by number, and the property that meets it."""

    number: int
    origin: ReceiverToken | None
    """None for this recorder."""
    topic: tuple[str, ...]
    source: Items


G = TypeVar("G", bound=Gate)


@dataclass(slots=True)
class _Watch(Generic[G]):
    filter: RecordingEventFilter
    conditions: tuple[Condition, ...]
    gate: G
    receivers: frozenset[ReceiverToken]


_Topic: TypeAlias = tuple[str, ...]
_TOPICS: Final = 256
"""Topics whose conditions are kept; cameras may tell under any number of them."""


class EventConditions(Generic[G]):
    """The gates of the jobs that record while events last; judges what is told, and moves them.

    What an event costs does not depend on how many jobs there are for other topics, and what the conditions of several
    jobs have in common is judged once.
    """

    def __init__(
        self,
        make: Callable[[RecordingEventFilter], G],
        own: Callable[[Callable[[tuple[str, ...]], bool]], Iterable[Notification]],
        utc: Callable[[], UtcNs] = time.time_ns,
    ) -> None:
        """`own` gives the states of this recorder's properties under the topics that it is to ask for, for jobs that
        are new.
        """
        self.evaluations = 0
        """Expressions that had to be evaluated so far."""
        self._make = make
        self._own = own
        self._utc = utc
        self._watches: dict[JobToken, _Watch[G]] = {}
        self._of_topic: dict[_Topic, list[tuple[_Watch[G], list[int]]]] = {}
        """The conditions for a topic, by their number in the filter of each job."""

    def set_job(self, job: JobToken, wanted: RecordingEventFilter | None, receivers: Collection[ReceiverToken]) -> None:
        """What a job wants from now on; None where it records always, or is gone. A filter that has not changed keeps
        its gate. Raises BadTopicExpression and FormatError for one that had not been checked.
        """
        known = self._watches.get(job)
        if known is not None and known.filter == wanted:
            left, known.receivers = known.receivers - frozenset(receivers), frozenset(receivers)
            if left:
                self._forget(known, left)
            return
        if known is not None:
            del self._watches[job]
            self._of_topic.clear()
        if wanted is None:
            return
        # What has been taken once is not refused for its price: a recorder that does not start would be worse.
        conditions = tuple(map(Condition.parse, wanted.conditions))
        watch = _Watch(wanted, conditions, self._make(wanted), frozenset(receivers))
        self._watches[job] = watch
        self._of_topic.clear()
        numbers: dict[_Topic, list[int]] = {}

        def is_wanted(topic: _Topic) -> bool:
            if topic not in numbers:
                numbers[topic] = _for_topic(watch.conditions, topic)
            return bool(numbers[topic])

        for told in self._own(is_wanted):
            if is_wanted(told.topic):
                self._judge([(watch, numbers[told.topic])], None, told, told.utc_ns)

    def forget(self, receiver: ReceiverToken) -> None:
        """The receiver has another camera now: nobody will say that what the old one told has ended."""
        for watch in self._watches.values():
            if receiver in watch.receivers:
                self._forget(watch, frozenset((receiver,)))

    def _forget(self, watch: _Watch[G], receivers: frozenset[ReceiverToken]) -> None:
        watch.gate.end_all(lambda held: isinstance(held, Held) and held.origin in receivers, self._utc())

    def gate(self, job: JobToken) -> G | None:
        """None for a job that records always."""
        watch = self._watches.get(job)
        return None if watch is None else watch.gate

    def hears(self, receiver: ReceiverToken) -> bool:
        """Whether what this receiver tells can matter to a job."""
        return any(receiver in watch.receivers for watch in self._watches.values())

    def heard_here(self, told: Notification) -> None:
        """This recorder has told something."""
        self._judge(self._watching(told.topic), None, told, told.utc_ns)

    def heard_from(self, receiver: ReceiverToken, told: Notification, at_ns: UtcNs) -> None:
        """A camera has told something, at this time by the clock of the recorded footage: cameras' clocks may be wrong,
        and the footage has been set right."""
        watching = [found for found in self._watching(told.topic) if receiver in found[0].receivers]
        self._judge(watching, receiver, told, at_ns)

    def _watching(self, topic: _Topic) -> list[tuple[_Watch[G], list[int]]]:
        """The jobs with conditions for a topic."""
        known = self._of_topic.get(topic)
        if known is None:
            if len(self._of_topic) >= _TOPICS:
                self._of_topic.clear()
            found = ((watch, _for_topic(watch.conditions, topic)) for watch in self._watches.values())
            known = self._of_topic[topic] = [(watch, numbers) for watch, numbers in found if numbers]
        return known

    def _judge(
        self,
        watching: Iterable[tuple[_Watch[G], list[int]]],
        origin: ReceiverToken | None,
        told: Notification,
        at_ns: UtcNs,
    ) -> None:
        notice = Notice(told)
        for watch, numbers in watching:
            for number in numbers:
                if watch.conditions[number].meets(notice):
                    _move(watch.gate, Held(number, origin, told.topic, told.source), told, at_ns)
        self.evaluations += notice.evaluations


def _for_topic(conditions: Sequence[Condition], topic: _Topic) -> list[int]:
    return [number for number, condition in enumerate(conditions) if condition.topic.matches_names(topic)]


def _move(gate: Gate, condition: Hashable, told: Notification, at_ns: UtcNs) -> None:
    if told.operation is None:
        gate.pulse(at_ns)
    elif told.holds:
        gate.begin(condition, at_ns)
    else:
        gate.end(condition, at_ns)
