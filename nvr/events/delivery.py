"""Delivery to consumers (WS-BaseNotification 1.3, 4; ONVIF Core 9.3): one task for each subscription, which ends with
it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from nvr.events.broker import Broker
from nvr.events.errors import SubscriptionFailed, UnknownSubscription
from nvr.events.subscription import Subscription
from nvr.model.errors import SourceError
from nvr.model.event import Event
from nvr.model.time import NS

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Consumer:
    """Where messages go, and the header blocks that the consumer wants to see on each: its reference parameters."""

    address: str
    header: str = ""


class Post(Protocol):
    """Sends one wsnt:Notify."""

    async def __call__(self, consumer: Consumer, reference: str, events: Sequence[Event]) -> None:
        """`reference` is the address of the subscription. Raises SourceError when the consumer has not taken it."""


class Deliveries:
    """A consumer that does not answer gets a batch a few times, then loses it: the queue behind it is bounded, and the
    consumer will find newer messages more useful. Its subscription lives on until its time is over.
    """

    def __init__(
        self, broker: Broker, post: Post, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.failed = 0
        """Messages that were given up."""
        self._broker = broker
        self._post = post
        self._sleep = sleep
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, subscription: Subscription, consumer: Consumer, reference: str) -> None:
        task = asyncio.get_running_loop().create_task(self._deliver(subscription, consumer, reference))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def stop(self) -> None:
        """Breaks off what is being sent."""
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _deliver(self, subscription: Subscription, consumer: Consumer, reference: str) -> None:
        """Whatever ends this ends the subscription: its queue would fill, and its client believe in it."""
        try:
            while True:
                batch = await self._broker.next_batch(subscription)
                await self._send(subscription, consumer, reference, batch)
        except UnknownSubscription:
            return
        finally:
            self._broker.end(subscription)

    async def _send(
        self, subscription: Subscription, consumer: Consumer, reference: str, batch: Sequence[Event]
    ) -> None:
        settings = self._broker.settings
        for attempt in range(settings.consumer_attempts):
            if attempt:
                await self._sleep((settings.consumer_pause_ns << (attempt - 1)) / NS)
            if subscription.ended:
                return
            try:
                await self._post(consumer, reference, batch)
            except SourceError as e:
                log.warning("the consumer of %s has not taken %d messages: %s", subscription.owner, len(batch), e)
            except Exception:
                self.failed += len(batch)
                raise
            else:
                return
        self.failed += len(batch)
        log.error("%d messages for the consumer of %s are given up", len(batch), subscription.owner)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a delivery has failed, its subscription has ended", exc_info=error)


def check_consumer(address: str, peer: str) -> str:
    """The address of a consumer, as it may be used. Raises SubscriptionFailed.

    The daemon stands where its clients may not reach, so it does not post wherever it is told to: the address is a
    literal one (a name could lead elsewhere at every look-up), loopback only for a client on this machine, and no
    link-local, multicast or unspecified one.
    """
    try:
        parts = urlsplit(address.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError as e:
        raise SubscriptionFailed("the address of the consumer is no URL") from e
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise SubscriptionFailed("the address of the consumer is no http or https URL")
    if parts.username is not None or parts.password is not None:
        raise SubscriptionFailed("the address of the consumer must not hold credentials")
    if host == "localhost":
        host = "127.0.0.1"
    try:
        literal = ipaddress.ip_address(host)
    except ValueError as e:
        raise SubscriptionFailed("the host of the consumer must be an IP address") from e
    mapped = getattr(literal, "ipv4_mapped", None)
    literal = mapped if mapped is not None else literal
    if literal.is_loopback:
        if not _is_loopback(peer):
            raise SubscriptionFailed("a consumer at a loopback address must subscribe from this machine")
    elif literal.is_link_local or literal.is_multicast or literal.is_unspecified or literal.is_reserved:
        raise SubscriptionFailed("messages are not sent to this kind of address")
    return parts._replace(fragment="").geturl()


def _is_loopback(peer: str) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
