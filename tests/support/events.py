"""A broker with clocks that stand still, and events for it."""

from __future__ import annotations

import asyncio

from nvr.events.broker import Broker, Termination
from nvr.events.filters import ITEM_FILTER, Filter, parse_content
from nvr.events.settings import EventSettings
from nvr.events.subscription import Subscription
from nvr.events.topics import CONCRETE_SET, parse
from nvr.model.event import CHANGE_STATE, TOPIC_NAMESPACE, TOPICS, TRACK_STATE, Event
from nvr.model.time import NS, UtcNs, parse_iso

START = parse_iso("2026-03-01T12:00:00Z")


class Clocks:
    """UTC and the monotonic clock; both go on when a test says so, UTC also jumps."""

    def __init__(self) -> None:
        self.utc_ns: UtcNs = START
        self.monotonic_ns = 5 * NS

    def utc(self) -> UtcNs:
        return self.utc_ns

    def monotonic(self) -> int:
        return self.monotonic_ns

    def advance(self, seconds: float) -> None:
        self.utc_ns += int(seconds * NS)
        self.monotonic_ns += int(seconds * NS)


def a_broker(clocks: Clocks | None = None, **settings: int) -> Broker:
    clocks = clocks or Clocks()
    return Broker(EventSettings(**settings), utc=clocks.utc, monotonic=clocks.monotonic)


def seconds(value: float) -> Termination:
    return Termination(int(value * NS), relative=True)


def a_filter(topic: str | None = None, content: str | None = None) -> Filter:
    return Filter(
        [] if topic is None else [parse(topic, CONCRETE_SET, {"tns1": TOPIC_NAMESPACE}, TOPICS)],
        [] if content is None else [parse_content(content, ITEM_FILTER)],
    )


def subscribed(broker: Broker, topic: str | None = None, content: str | None = None, **more: bool) -> Subscription:
    return broker.subscribe(a_filter(topic, content), seconds(60), **more)


def something(broker: Broker, receiver: str = "rcv-1", state: str = "Connected") -> None:
    """An event that is no property."""
    broker.publish(CHANGE_STATE, {"ReceiverToken": receiver}, {"NewState": state})


def data_present(broker: Broker, present: bool, track: str = "VIDEO001", recording: str = "rec-1") -> None:
    """A state of a property."""
    broker.set_property(TRACK_STATE, {"RecordingToken": recording, "Track": track}, {"IsDataPresent": present})


async def somebody_waits(subscription: Subscription) -> None:
    """Returns when a pull waits for a message."""
    for _ in range(1000):
        if subscription.waited_for:
            return
        await asyncio.sleep(0)
    raise AssertionError("nobody waits")


def told(events: list[Event]) -> list[tuple[object, ...]]:
    """Operation or None, and the values of source and data."""
    return [(e.operation, *e.source.values(), *e.data.values()) for e in events]
