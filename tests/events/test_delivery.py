"""Delivery to consumers: order, retries, end; and which addresses are taken."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from nvr.events.broker import Broker
from nvr.events.delivery import Consumer as To
from nvr.events.delivery import Deliveries, check_consumer
from nvr.events.errors import SubscriptionFailed, UnknownSubscription
from nvr.model.errors import SourceError
from nvr.model.event import Event
from tests.support.events import Clocks, a_broker, a_filter, seconds, something, subscribed


class Consumer:
    """Takes what is posted; fails as often as `failures` says, or for ever when it is negative."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.attempts = 0
        self.taken: list[object] = []
        self.something_happened = asyncio.Event()

    async def __call__(self, consumer: To, reference: str, events: Sequence[Event]) -> None:
        self.attempts += 1
        self.something_happened.set()
        if self.failures:
            self.failures -= 1
            raise SourceError("connection refused")
        assert (consumer.address, reference) == ("http://192.0.2.1/", "http://recorder/subscription")
        self.taken += [e.source["ReceiverToken"] for e in events]

    async def happens(self) -> None:
        async with asyncio.timeout(60):
            await self.something_happened.wait()
        self.something_happened.clear()
        await asyncio.sleep(0)


class Pauses:
    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def begun(broker: Broker, consumer: Consumer, pauses: Pauses | None = None) -> Deliveries:
    deliveries = Deliveries(broker, consumer, sleep=pauses or Pauses())
    deliveries.begin(subscribed(broker, pushed=True), To("http://192.0.2.1/"), "http://recorder/subscription")
    return deliveries


async def test_messages_go_out_in_order_and_only_once() -> None:
    broker, consumer = a_broker(), Consumer()
    deliveries = begun(broker, consumer)
    something(broker, "rcv-1")
    await consumer.happens()
    something(broker, "rcv-2")
    something(broker, "rcv-3")
    await consumer.happens()
    await deliveries.stop()
    assert consumer.taken == ["rcv-1", "rcv-2", "rcv-3"]
    assert deliveries.failed == 0


async def test_a_consumer_that_fails_is_tried_again_with_growing_pauses() -> None:
    broker, consumer, pauses = a_broker(consumer_attempts=4), Consumer(failures=3), Pauses()
    deliveries = begun(broker, consumer, pauses)
    something(broker)
    for _ in range(4):
        await consumer.happens()
    await deliveries.stop()
    assert (consumer.taken, pauses.seconds, deliveries.failed) == (["rcv-1"], [2, 4, 8], 0)


async def test_a_consumer_that_never_answers_costs_its_messages_and_not_its_subscription(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker, consumer = a_broker(consumer_attempts=2), Consumer(failures=2)
    with caplog.at_level(logging.ERROR):
        deliveries = begun(broker, consumer)
        something(broker, "rcv-1")
        await consumer.happens()
        await consumer.happens()
        something(broker, "rcv-2")
        await consumer.happens()
    await deliveries.stop()
    assert (consumer.taken, deliveries.failed) == (["rcv-2"], 1)
    assert "given up" in caplog.text


async def test_a_delivery_ends_with_its_subscription() -> None:
    clocks = Clocks()
    broker, consumer = a_broker(clocks), Consumer()
    deliveries = Deliveries(broker, consumer)
    ended = subscribed(broker, pushed=True)
    expired = broker.subscribe(a_filter(), seconds(10), pushed=True)
    deliveries.begin(ended, To("http://192.0.2.1/"), "")
    deliveries.begin(expired, To("http://192.0.2.1/"), "")
    await asyncio.sleep(0)
    broker.unsubscribe(ended.token)
    clocks.advance(11)
    something(broker)
    async with asyncio.timeout(60):
        while deliveries._tasks:
            await asyncio.wait(set(deliveries._tasks))
    assert consumer.attempts == 0


async def test_the_queue_of_a_consumer_cannot_be_pulled() -> None:
    broker = a_broker()
    with pytest.raises(UnknownSubscription):
        await broker.pull(subscribed(broker, pushed=True).token, 0, 1)


async def test_consumers_are_limited_apart_from_pull_points() -> None:
    broker = a_broker(consumers=1, pull_points=2)
    subscribed(broker, pushed=True)
    with pytest.raises(SubscriptionFailed):
        subscribed(broker, pushed=True)
    subscribed(broker)
    subscribed(broker)
    assert broker.counts() == (2, 1)


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("http://192.0.2.7:8000/notify?x=1", "192.0.2.7"),
        ("https://[2001:db8::7]/", "192.0.2.9"),
        ("http://10.1.2.3/", "10.1.2.4"),
        ("http://127.0.0.1:9/", "127.0.0.1"),
        ("http://localhost:9/", "::1"),
        ("http://[::1]:9/", "::ffff:127.0.0.1"),
    ],
)
def test_an_acceptable_consumer(address: str, peer: str) -> None:
    assert check_consumer(f" {address} ", peer) == address


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("", "192.0.2.7"),
        ("notify", "192.0.2.7"),
        ("ftp://192.0.2.7/", "192.0.2.7"),
        ("http:///notify", "192.0.2.7"),
        ("http://192.0.2.7:99999/", "192.0.2.7"),
        ("http://[::1/", "::1"),
        ("http://anna:secret@192.0.2.7/", "192.0.2.7"),
        ("http://consumer.example/", "192.0.2.7"),
        ("http://2130706433/", "192.0.2.7"),
        ("http://127.0.0.1:8080/", "192.0.2.7"),
        ("http://localhost/", "192.0.2.7"),
        ("http://localhost/", "unknown"),
        ("http://[::ffff:127.0.0.1]/", "192.0.2.7"),
        ("http://169.254.169.254/", "127.0.0.1"),
        ("http://[fe80::1]/", "127.0.0.1"),
        ("http://0.0.0.0/", "127.0.0.1"),
        ("http://224.0.0.1/", "127.0.0.1"),
        ("http://255.255.255.255/", "127.0.0.1"),
    ],
)
def test_a_consumer_that_is_refused(address: str, peer: str) -> None:
    with pytest.raises(SubscriptionFailed) as refused:
        check_consumer(address, peer)
    assert "secret" not in str(refused.value)


async def test_a_delivery_that_fails_in_another_way_ends_its_subscription_and_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fails(consumer: To, reference: str, events: Sequence[Event]) -> None:
        raise TypeError("no such event")

    broker = a_broker()
    subscription = subscribed(broker, pushed=True)
    deliveries = Deliveries(broker, fails)
    deliveries.begin(subscription, To("http://192.0.2.1/"), "")
    something(broker)
    async with asyncio.timeout(60):
        while deliveries._tasks:
            await asyncio.wait(set(deliveries._tasks))
            await asyncio.sleep(0)
    assert (subscription.ended, broker.counts(), deliveries.failed) == (True, (0, 0), 1)
    assert "no such event" in caplog.text
