"""One subscription: what waits for its client, until when it lives, who waits for a message."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from nvr.events.errors import UnknownSubscription
from nvr.events.filters import Filter, Message
from nvr.model.event import Event, PropertyOperation
from nvr.model.time import NS

log = logging.getLogger(__name__)


_STATE_WORK = 2
_STEP_WORK = 8
"""What a state, and a step that has to be evaluated on it, cost beside looking at the topic of a state."""


class Subscription:
    """Belongs to the event loop. `deadline_ns` is on the monotonic clock, which does not jump.

    Messages wait in this order: what is ready to be taken; states of properties at which nobody has looked yet; what
    has come behind these. States are looked at when the client wants messages, a slice at a time, as there may be
    thousands.
    """

    def __init__(
        self,
        token: str,
        wanted: Filter,
        deadline_ns: int,
        queue: int,
        *,
        changed_only: bool,
        owner: str,
        account: str | None,
        pushed: bool,
    ) -> None:
        """`token` is not to be guessed. `queue` is the number of messages that may wait; `changed_only` keeps
        Initialized and Deleted away (Core 9.1.1); `owner` is for the log; the subscription ends with `account`.
        """
        self.token = token
        self.deadline_ns = deadline_ns
        self.owner = owner
        self.account = account
        self.wanted = wanted
        self.pushed = pushed
        self.waited_for = False
        """Whether somebody waits for messages; only one may."""
        self.dropped = 0
        """Messages lost because the queue was full."""
        self._queue_length = queue
        self._changed_only = changed_only
        self._ready: deque[Event] = deque()
        self._states: Sequence[Event] = ()
        self._seen = 0
        """How many of the states have been looked at."""
        self._behind: deque[Event] = deque()
        self._room = queue
        self._dropped_before = 0
        self._ended = False
        self._arrival: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def backlog(self) -> int:
        """Messages that wait; states that nobody has looked at are not among them."""
        return len(self._ready) + len(self._behind)

    def initialize(self, states: Sequence[Event]) -> None:
        """The present state of every property goes behind what waits already; states of an earlier call that still
        wait are replaced. They take no room from other messages.
        """
        kept = [e for e in (*self._ready, *self._behind) if e.operation is not PropertyOperation.INITIALIZED]
        self._ready = deque(kept)
        self._behind.clear()
        self._states, self._seen = (() if self._changed_only else states), 0
        self._room = self._queue_length
        if self._ready or self._states:
            self._wake()

    def looks_for(self, limit: int) -> bool:
        """Whether states have to be looked at before `limit` messages can be taken."""
        return bool(self._states) and len(self._ready) < limit and not self._ended

    def look_at_states(self, work: int) -> None:
        """At as many as `work` allows: a state of an unwanted topic costs one."""
        while work > 0 and self._seen < len(self._states):
            state = self._states[self._seen]
            self._seen += 1
            work -= 1
            if self.wanted.passes_topic(state.topic):
                work -= _STATE_WORK + _STEP_WORK * self.wanted.steps
                if self.wanted.passes(Message(state)):
                    self._ready.append(state)
                    self._room += 1
        if self._seen == len(self._states):
            self._states, self._seen = (), 0
            self._ready += self._behind
            self._behind.clear()

    def offer(self, message: Message) -> bool:
        """Takes the event if it is wanted. False when another one had to go for it."""
        event = message.event
        if self._changed_only and event.operation in (PropertyOperation.INITIALIZED, PropertyOperation.DELETED):
            return True
        if not self.wanted.passes(message):
            return True
        (self._behind if self._states else self._ready).append(event)
        self._wake()
        if self.backlog <= self._room:
            return True
        (self._ready or self._behind).popleft()
        if self.dropped == self._dropped_before:
            log.warning("the subscription of %s is not read: its oldest messages are dropped", self.owner)
        self.dropped += 1
        return False

    def take(self, limit: int) -> list[Event]:
        """The oldest messages that are ready, at most `limit`."""
        taken = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        if not self._ready and not self._states:
            if self.dropped > self._dropped_before:
                lost = self.dropped - self._dropped_before
                log.warning("the subscription of %s is read again; it has lost %d messages", self.owner, lost)
                self._dropped_before = self.dropped
            self._room = self._queue_length
        return taken

    async def arrival(self, timeout_ns: int) -> None:
        """Returns when a message, or states to be looked at, wait, or the time is over. Raises UnknownSubscription when
        it ends meanwhile.
        """
        if not (self._ready or self._states or self._ended) and timeout_ns > 0:
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait([self._arrival], timeout=timeout_ns / NS)
            finally:
                self._arrival = None
        if self._ended:
            raise UnknownSubscription

    def end(self) -> None:
        self._ended = True
        self._ready.clear()
        self._behind.clear()
        self._states, self._seen = (), 0
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
