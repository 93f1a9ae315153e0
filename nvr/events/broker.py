"""From publishers to subscriptions: keeps the state of every property, hands each event to who wants it.

Belongs to the event loop. Publishing never waits: it appends to queues that are bounded, so that whoever changes the
configuration or records footage is not slowed by who listens.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nvr.events.errors import (
    PullTooLong,
    SubscriptionFailed,
    UnableToGetMessages,
    UnacceptableInitialTermination,
    UnacceptableTermination,
    UnknownSubscription,
)
from nvr.events.filters import Filter, Message
from nvr.events.settings import EventSettings
from nvr.events.subscription import Subscription
from nvr.model.event import Event, PropertyKey, PropertyOperation, Topic, Value
from nvr.model.time import UtcNs

log = logging.getLogger(__name__)

_TOKEN_BYTES = 16
"""128 bits: whoever holds the address of a subscription has been given it."""
_GRAIN_NS = 10_000_000
"""Ends of subscriptions are told in steps of this, rounded up."""


@dataclass(frozen=True, slots=True)
class Termination:
    """wsnt:AbsoluteOrRelativeTimeType: an instant in UTC nanoseconds, or nanoseconds from now."""

    value_ns: int
    relative: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """What a client is told of the life of its subscription."""

    current_ns: UtcNs
    termination_ns: UtcNs


class Broker:
    """Properties and subscriptions."""

    def __init__(
        self,
        settings: EventSettings | None = None,
        *,
        utc: Callable[[], UtcNs] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.settings = settings or EventSettings()
        self.published = 0
        self.dropped = 0
        """Messages that some subscription has lost because its queue was full."""
        self.watcher: Callable[[Event], None] = lambda event: None
        """Told of every event, before the subscriptions are. Must neither block nor raise."""
        self._utc = utc
        self._monotonic = monotonic
        self._properties: dict[PropertyKey, Event] = {}
        self._subscriptions: dict[str, Subscription] = {}

    # What happens

    def publish(
        self,
        topic: Topic,
        source: Mapping[str, Value],
        data: Mapping[str, Value] | None = None,
        utc_ns: UtcNs | None = None,
    ) -> None:
        """An event that is no property. Without a time it happens now."""
        self._tell(Event(topic, self._utc() if utc_ns is None else utc_ns, source, data or {}))

    def set_property(
        self, topic: Topic, source: Mapping[str, Value], data: Mapping[str, Value], utc_ns: UtcNs | None = None
    ) -> None:
        """The state of a property: Initialized when it comes into being, Changed when it differs from the last one,
        nothing when it does not (Core 9.4.2).
        """
        at_ns = self._utc() if utc_ns is None else utc_ns
        state = Event(topic, at_ns, source, data, PropertyOperation.INITIALIZED)
        known = self._properties.get(state.key)
        if known is not None and known.data == data:
            return
        self._properties[state.key] = state
        self._tell(state if known is None else Event(topic, at_ns, source, data, PropertyOperation.CHANGED))

    def delete_property(self, topic: Topic, source: Mapping[str, Value], utc_ns: UtcNs | None = None) -> None:
        """The property is gone with its object; told with its last data. Nothing where there was none."""
        at_ns = self._utc() if utc_ns is None else utc_ns
        gone = Event(topic, at_ns, source, {}, PropertyOperation.DELETED)
        last = self._properties.pop(gone.key, None)
        if last is not None:
            self._tell(Event(topic, at_ns, source, last.data, PropertyOperation.DELETED))

    def _tell(self, event: Event) -> None:
        self.published += 1
        self.watcher(event)
        message = Message(event)
        self._forget_expired()
        for subscription in self._subscriptions.values():
            if not subscription.offer(message):
                self.dropped += 1

    # Subscriptions

    def subscribe(
        self,
        wanted: Filter,
        termination: Termination | None,
        *,
        changed_only: bool = False,
        owner: str = "",
        pushed: bool = False,
    ) -> Subscription:
        """A pull point, or with `pushed` the queue of a consumer. Its first messages are the states of all living
        properties. Raises UnacceptableInitialTermination, SubscriptionFailed.
        """
        deadline_ns = self._deadline(termination, UnacceptableInitialTermination)
        self._forget_expired()
        most = self.settings.consumers if pushed else self.settings.pull_points
        if sum(s.pushed is pushed for s in self._subscriptions.values()) >= most:
            raise SubscriptionFailed(f"the maximum of {most} {'consumers' if pushed else 'pull points'} is reached")
        made = Subscription(
            secrets.token_hex(_TOKEN_BYTES),
            wanted,
            deadline_ns,
            self.settings.queue,
            changed_only=changed_only,
            owner=owner,
            pushed=pushed,
        )
        made.initialize(self._messages())
        self._subscriptions[made.token] = made
        return made

    def lease(self, subscription: Subscription) -> Lease:
        """Until when the subscription lives."""
        now_ns, left_ns = self._utc(), subscription.deadline_ns - self._monotonic()
        # What the handling of the request has taken is given back: a client finds what it has asked for.
        return Lease(now_ns, now_ns + -(-left_ns // _GRAIN_NS) * _GRAIN_NS)

    def renew(self, token: str, termination: Termination | None) -> Lease:
        """Raises UnknownSubscription, UnacceptableTermination."""
        subscription = self._known(token)
        subscription.deadline_ns = self._deadline(termination, UnacceptableTermination)
        return self.lease(subscription)

    def unsubscribe(self, token: str) -> None:
        """Raises UnknownSubscription."""
        self._known(token)
        self._subscriptions.pop(token).end()

    def synchronize(self, token: str) -> None:
        """The states of all properties once more, as Initialized (Core 9.5). Raises UnknownSubscription."""
        self._known(token).initialize(self._messages())

    async def pull(self, token: str, timeout_ns: int, limit: int) -> tuple[Lease, list[Event]]:
        """What waits, at once; otherwise the first messages that come, or nothing when the time is over (Core 9.1.2).

        Raises UnknownSubscription, also when the subscription ends while this waits, PullTooLong, and
        UnableToGetMessages while another call waits. Whoever is cancelled has taken nothing.
        """
        subscription = self._known(token)
        if subscription.pushed:
            raise UnknownSubscription  # it has no pull point
        if timeout_ns > self.settings.longest_pull_ns:
            raise PullTooLong(self.settings.longest_pull_ns, self.settings.messages_per_pull)
        if subscription.waited_for:
            raise UnableToGetMessages
        self._keep(subscription, timeout_ns)
        await subscription.arrival(timeout_ns)
        self._keep(subscription, timeout_ns)
        return self.lease(subscription), subscription.take(min(limit, self.settings.messages_per_pull))

    async def next_batch(self, subscription: Subscription) -> list[Event]:
        """For the delivery to a consumer: waits for messages. Raises UnknownSubscription when the time is over."""
        while True:
            self._known(subscription.token)
            await subscription.arrival(subscription.deadline_ns + _GRAIN_NS - self._monotonic())
            batch = subscription.take(self.settings.messages_per_pull)
            if batch:
                return batch

    def counts(self) -> tuple[int, int]:
        """Living pull points and consumers."""
        self._forget_expired()
        pushed = sum(s.pushed for s in self._subscriptions.values())
        return len(self._subscriptions) - pushed, pushed

    def stop(self) -> None:
        """Ends every subscription, so that requests that wait are answered and deliveries end."""
        for subscription in self._subscriptions.values():
            subscription.end()
        self._subscriptions.clear()

    def states(self) -> Sequence[Event]:
        """The present state of every property, as Initialized."""
        return tuple(self._properties.values())

    def _messages(self) -> Sequence[Message]:
        return [Message(state) for state in self._properties.values()]

    def _known(self, token: str) -> Subscription:
        self._forget_expired()
        found = self._subscriptions.get(token)
        if found is None:
            raise UnknownSubscription
        return found

    def _keep(self, subscription: Subscription, timeout_ns: int) -> None:
        """A pull keeps its subscription alive for its timeout at least (Core 9.1.1)."""
        least_ns = self._monotonic() + max(timeout_ns, self.settings.default_termination_ns)
        subscription.deadline_ns = max(subscription.deadline_ns, least_ns)

    def _deadline(self, termination: Termination | None, refusal: type[UnacceptableInitialTermination]) -> int:
        """A time that is shorter than the shortest is lengthened, as WS-BaseNotification allows; one that is over
        already, or beyond the longest, is refused.
        """
        settings, now_ns = self.settings, self._utc()
        if termination is None:
            return self._monotonic() + settings.default_termination_ns
        life_ns = termination.value_ns if termination.relative else termination.value_ns - now_ns
        if not 0 < life_ns <= settings.longest_termination_ns:
            raise refusal(now_ns + settings.shortest_termination_ns, now_ns + settings.longest_termination_ns)
        return self._monotonic() + max(life_ns, settings.shortest_termination_ns)

    def _forget_expired(self) -> None:
        now_ns = self._monotonic()
        over = [s for s in self._subscriptions.values() if s.deadline_ns + _GRAIN_NS <= now_ns]
        for subscription in over:
            log.info("the subscription of %s has ended: it was not renewed", subscription.owner)
            del self._subscriptions[subscription.token]
            subscription.end()
