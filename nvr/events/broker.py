"""From publishers to subscriptions: keeps the state of every property, hands each event to who wants it.

Belongs to the event loop. Publishing never waits: it appends to queues that are bounded, so that whoever changes the
configuration or records footage is not slowed by who listens.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
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
_SLICE = 1024
"""Of the states that a subscription begins with (`Subscription.look_at_states`); a millisecond or two."""
MAX_STEPS_IN_ALL = 128
"""Steps that the filters of all subscriptions leave to the evaluator, equal expressions counted once: an event is
judged by all of them in one go."""


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
        self._snapshot: tuple[Event, ...] | None = None
        """The states of all properties while they do not change."""
        self._looking = asyncio.Lock()
        """Whoever looks through states: one slice in a turn of the loop, of all subscriptions in turn."""
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
        self._snapshot = None
        self._tell(state if known is None else Event(topic, at_ns, source, data, PropertyOperation.CHANGED))

    def delete_property(self, topic: Topic, source: Mapping[str, Value], utc_ns: UtcNs | None = None) -> None:
        """The property is gone with its object; told with its last data. Nothing where there was none."""
        at_ns = self._utc() if utc_ns is None else utc_ns
        gone = Event(topic, at_ns, source, {}, PropertyOperation.DELETED)
        last = self._properties.pop(gone.key, None)
        if last is not None:
            self._snapshot = None
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
        account: str | None = None,
        pushed: bool = False,
    ) -> Subscription:
        """A pull point, or with `pushed` the queue of a consumer. Its first messages are the states of all living
        properties. It ends when `end_of` is told of the account. Raises UnacceptableInitialTermination,
        SubscriptionFailed.
        """
        deadline_ns = self._deadline(termination, UnacceptableInitialTermination)
        self._forget_expired()
        most = self.settings.consumers if pushed else self.settings.pull_points
        if sum(s.pushed is pushed for s in self._subscriptions.values()) >= most:
            raise SubscriptionFailed(f"the maximum of {most} {'consumers' if pushed else 'pull points'} is reached")
        filters = [*(s.wanted for s in self._subscriptions.values()), wanted]
        steps = {content.text: content.steps for one in filters if one.steps for content in one.contents}
        if wanted.steps and sum(steps.values()) > MAX_STEPS_IN_ALL:
            raise SubscriptionFailed("the message content filters of all subscribers take too long to judge")
        made = Subscription(
            secrets.token_hex(_TOKEN_BYTES),
            wanted,
            deadline_ns,
            self.settings.queue,
            changed_only=changed_only,
            owner=owner,
            account=account,
            pushed=pushed,
        )
        made.initialize(self.states())
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
        self.end(self._known(token))

    def end(self, subscription: Subscription) -> None:
        """Whatever waits for its messages is told. Nothing where it has ended."""
        self._subscriptions.pop(subscription.token, None)
        subscription.end()

    def end_of(self, accounts: Collection[str]) -> None:
        """Ends what belongs to these accounts: they are gone, or other than when they subscribed."""
        for subscription in [s for s in self._subscriptions.values() if s.account in accounts]:
            log.info("the subscription of %s has ended with a change of the account", subscription.owner)
            self.end(subscription)

    def synchronize(self, token: str) -> None:
        """The states of all properties once more, as Initialized (Core 9.5). Raises UnknownSubscription."""
        self._known(token).initialize(self.states())

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
        limit = min(limit, self.settings.messages_per_pull)
        await self._arrival(subscription, timeout_ns, limit)
        self._keep(subscription, timeout_ns)
        return self.lease(subscription), subscription.take(limit)

    async def next_batch(self, subscription: Subscription) -> list[Event]:
        """For the delivery to a consumer: waits for messages. Raises UnknownSubscription when the time is over."""
        while True:
            self._known(subscription.token)
            limit = self.settings.messages_per_pull
            await self._arrival(subscription, subscription.deadline_ns + _GRAIN_NS - self._monotonic(), limit)
            batch = subscription.take(limit)
            if batch:
                return batch

    async def _arrival(self, subscription: Subscription, timeout_ns: int, limit: int) -> None:
        """Until messages are ready, or the time is over."""
        subscription.waited_for = True
        try:
            while True:
                while subscription.looks_for(limit):
                    async with self._looking:
                        subscription.look_at_states(_SLICE)
                        await asyncio.sleep(0)
                await subscription.arrival(timeout_ns)
                if not subscription.looks_for(1):
                    return
        finally:
            subscription.waited_for = False

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
        if self._snapshot is None:
            self._snapshot = tuple(self._properties.values())
        return self._snapshot

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
