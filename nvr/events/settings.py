"""What the event service holds at most, and for how long. Announced in its capabilities and faults."""

from __future__ import annotations

from dataclasses import dataclass

from nvr.model.time import NS


@dataclass(frozen=True, slots=True)
class EventSettings:
    pull_points: int = 250
    consumers: int = 32
    """Subscriptions whose messages the daemon sends by itself; 0 turns them off."""
    queue: int = 1000
    """Messages that wait for one subscriber, beyond the states that it was given when it subscribed."""
    messages_per_pull: int = 256
    longest_pull_ns: int = 300 * NS
    default_termination_ns: int = 60 * NS
    """Life of a subscription whose client has not said how long; a pull prolongs it by as much."""
    shortest_termination_ns: int = 10 * NS
    longest_termination_ns: int = 86_400 * NS
    consumer_timeout_ns: int = 5 * NS
    consumer_attempts: int = 3
    """How often a delivery is tried before its messages are given up."""
    consumer_pause_ns: int = 2 * NS
    """Pause behind the first failed attempt; doubles with each."""

    def __post_init__(self) -> None:
        if self.pull_points < 2:
            raise ValueError("pull_points must be at least 2 (ONVIF Profile G)")
        if self.consumers < 0:
            raise ValueError("consumers must not be negative")
        for name in ("queue", "messages_per_pull", "consumer_timeout_ns", "consumer_attempts", "consumer_pause_ns"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name.removesuffix('_ns')} must be more than zero")
        if self.longest_pull_ns < 60 * NS:
            raise ValueError("longest_pull must be at least one minute (ONVIF Core 9.1.2)")
        if not 0 < self.shortest_termination_ns <= self.default_termination_ns <= self.longest_termination_ns:
            raise ValueError("shortest_termination, default_termination and longest_termination must ascend")
        if self.longest_termination_ns < 60 * NS:
            raise ValueError("longest_termination must be at least one minute (ONVIF Core 9.1.3)")
