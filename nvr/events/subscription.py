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


class Subscription:
    """Belongs to the event loop. `deadline_ns` is on the monotonic clock, which does not jump."""

    def __init__(
        self, token: str, wanted: Filter, deadline_ns: int, queue: int, *, changed_only: bool, owner: str, pushed: bool
    ) -> None:
        """`token` is not to be guessed. `queue` is the number of messages that may wait; `changed_only` keeps
        Initialized and Deleted away (Core 9.1.1); `owner` is for the log.
        """
        self.token = token
        self.deadline_ns = deadline_ns
        self.owner = owner
        self.pushed = pushed
        self.dropped = 0
        """Messages lost because the queue was full."""
        self._wanted = wanted
        self._queue_length = queue
        self._changed_only = changed_only
        self._waiting: deque[Event] = deque()
        self._room = queue
        self._dropped_before = 0
        self._ended = False
        self._arrival: asyncio.Future[None] | None = None

    @property
    def waited_for(self) -> bool:
        """Whether somebody waits for a message."""
        return self._arrival is not None

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def backlog(self) -> int:
        return len(self._waiting)

    def initialize(self, states: Sequence[Message]) -> None:
        """The present state of every property goes behind what waits already; states of an earlier call that still
        wait are replaced. They take no room from other messages.
        """
        kept = [e for e in self._waiting if e.operation is not PropertyOperation.INITIALIZED]
        fresh = [] if self._changed_only else [m.event for m in states if self._wanted.passes(m)]
        self._waiting = deque((*kept, *fresh))
        self._room = self._queue_length + len(fresh)
        if self._waiting:
            self._wake()

    def offer(self, message: Message) -> bool:
        """Takes the event if it is wanted. False when another one had to go for it."""
        event = message.event
        if self._changed_only and event.operation in (PropertyOperation.INITIALIZED, PropertyOperation.DELETED):
            return True
        if not self._wanted.passes(message):
            return True
        self._waiting.append(event)
        self._wake()
        if len(self._waiting) <= self._room:
            return True
        self._waiting.popleft()
        if self.dropped == self._dropped_before:
            log.warning("the subscription of %s is not read: its oldest messages are dropped", self.owner)
        self.dropped += 1
        return False

    def take(self, limit: int) -> list[Event]:
        """The oldest messages, at most `limit`."""
        taken = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        if not self._waiting:
            if self.dropped > self._dropped_before:
                lost = self.dropped - self._dropped_before
                log.warning("the subscription of %s is read again; it has lost %d messages", self.owner, lost)
                self._dropped_before = self.dropped
            self._room = self._queue_length
        return taken

    async def arrival(self, timeout_ns: int) -> None:
        """Returns when a message waits or the time is over. Raises UnknownSubscription when it ends meanwhile."""
        if not self._waiting and not self._ended and timeout_ns > 0:
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait([self._arrival], timeout=timeout_ns / NS)
            finally:
                self._arrival = None
        if self._ended:
            raise UnknownSubscription

    def end(self) -> None:
        self._ended = True
        self._waiting.clear()
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
