"""Which datagram is answered, with what, and how soon. Sans-I/O: time and chance are arguments.

The protocol invites abuse: a request of a few hundred octets with a forged sender would send an answer of two thousand
to a victim. So nothing is answered but a well-formed Probe or Resolve that is meant for us; only its sender gets the
answer, whatever its ReplyTo says; each message once; and per sender and in all no more than a rate that clients never
need (token buckets).
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

from nvr.discovery import message
from nvr.discovery.matching import RULES, UnknownRule, matches
from nvr.discovery.message import Announcement, Other, Place, Probe, Resolve
from nvr.model.errors import FormatError
from nvr.model.time import NS

REMEMBERED_MESSAGES: Final = 512
"""Repetitions of a datagram come within half a second (SOAP-over-UDP, appendix I)."""
REMEMBERED_PEERS: Final = 512
PEER_BURST: Final = 10
PEER_PER_SECOND: Final = 5
ALL_BURST: Final = 100
ALL_PER_SECOND: Final = 50
HEARD_BURST: Final = 200
HEARD_PER_SECOND: Final = 400
"""Datagrams that are looked at: each costs the loop about a tenth of a millisecond."""


@dataclass(frozen=True, slots=True)
class Answer:
    """To be sent to the sender of the request, `delay_ns` after it came."""

    datagram: bytes
    delay_ns: int


class _Bucket:
    """Tokens that come back with time; each answer takes one."""

    __slots__ = ("_burst", "_filled_ns", "_rate", "_tokens")

    def __init__(self, burst: int, rate: int, now_ns: int) -> None:
        self._burst, self._rate = burst, rate
        self._tokens: float = burst
        self._filled_ns = now_ns

    def take(self, now_ns: int) -> bool:
        gained = max(0, now_ns - self._filled_ns) * self._rate / NS
        self._tokens, self._filled_ns = min(self._burst, self._tokens + gained), now_ns
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Responder:
    """One for all interfaces, so that its limits hold over all of them."""

    def __init__(
        self,
        instance: int,
        maximum_delay_ns: int,
        rng: random.Random | None = None,
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        """`instance` is the InstanceId of this start. Answers to the group wait up to `maximum_delay_ns`."""
        self.counts: Counter[str] = Counter()
        """What became of datagrams: answered, other, malformed, unmatched, repeated, limited, flooded."""
        self._instance = instance
        self._maximum_delay_ns = maximum_delay_ns
        self._rng = rng or random.Random()
        self._new_id = new_id
        self._number = 0
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._peers: OrderedDict[str, _Bucket] = OrderedDict()
        self._all: _Bucket | None = None
        self._heard: _Bucket | None = None

    def hello(self, announcement: Announcement) -> bytes:
        return message.write_hello(announcement, self._new_id(), self._place())

    def bye(self, endpoint: UUID) -> bytes:
        return message.write_bye(endpoint, self._new_id(), self._place())

    def answer(
        self, datagram: bytes, peer: str, announcement: Announcement, now_ns: int, *, multicast: bool
    ) -> Answer | None:
        """None for what is not answered; never raises.

        `peer` is the address of the sender, `now_ns` a time that never goes back.
        """
        if self._heard is None:
            self._heard = _Bucket(HEARD_BURST, HEARD_PER_SECOND, now_ns)
        if not self._heard.take(now_ns):
            self.counts["flooded"] += 1
            return None
        try:
            asked = message.parse(datagram)
        except FormatError:
            self.counts["malformed"] += 1
            return None
        if isinstance(asked, Other):
            self.counts["other"] += 1
            return None
        if self._repeated(peer, asked.message_id):
            self.counts["repeated"] += 1
            return None
        write = self._reply(asked, announcement, multicast)
        if write is None:
            self.counts["unmatched"] += 1
            return None
        if not self._allowed(peer, now_ns):
            self.counts["limited"] += 1
            return None
        self.counts["answered"] += 1
        # Many devices hear the same question: they answer spread over half a second (WS-Discovery 3.1.3).
        return Answer(write(), self._rng.randint(0, self._maximum_delay_ns) if multicast else 0)

    def _reply(self, asked: Probe | Resolve, announcement: Announcement, multicast: bool) -> Callable[[], bytes] | None:
        if isinstance(asked, Resolve):
            if asked.address.lower() != announcement.endpoint.urn:
                return None
            write = message.write_resolve_matches
        else:
            try:
                if not matches(asked, announcement.scopes):
                    return None
            except UnknownRule:
                if multicast:
                    return None
                return lambda: message.write_matching_rule_fault(
                    tuple(RULES), self._new_id(), asked.message_id, self._place()
                )
            write = message.write_probe_matches
        return lambda: write(announcement, self._new_id(), asked.message_id, self._place())

    def _repeated(self, peer: str, message_id: str) -> bool:
        key = (peer, message_id)
        if key in self._seen:
            return True
        self._seen[key] = None
        if len(self._seen) > REMEMBERED_MESSAGES:
            self._seen.popitem(last=False)
        return False

    def _allowed(self, peer: str, now_ns: int) -> bool:
        bucket = self._peers.pop(peer, None) or _Bucket(PEER_BURST, PEER_PER_SECOND, now_ns)
        self._peers[peer] = bucket
        if len(self._peers) > REMEMBERED_PEERS:
            self._peers.popitem(last=False)
        if self._all is None:
            self._all = _Bucket(ALL_BURST, ALL_PER_SECOND, now_ns)
        return bucket.take(now_ns) and self._all.take(now_ns)

    def _place(self) -> Place:
        self._number += 1
        return Place(self._instance, self._number)
