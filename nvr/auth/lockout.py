"""Lock-out: whoever fails too often waits, longer with each failure. One for HTTP, RTSP and WS-Security together.

Pure: the time is an argument. Wrong passwords are counted twice, for the account and for the address they came from.
Beyond the number that is free, each failure locks for twice as long as the one before, up to a maximum. What a locked
caller sends is answered as a wrong password is, right or not, and is no failure: so one guess is left per delay.

- Only a password that was judged and found wrong is a failure. No credentials, an expired nonce, a token of another
  hour, an answer for another realm or URI tell nothing about a password, and count nothing.
- A name that is no account is counted for the address alone: it lets nobody in anyhow, and strangers cannot fill the
  memory with names.
- Where a user has logged in from an address lately, that address has a count of its own for this user: strangers who
  guess from elsewhere cannot lock out a client that knows the password. Locking an account is a weapon as well.
- IPv6 addresses count by their network of 64 bits, which is what one subscriber has.
- A success ends the count of the account, not that of the address: else an attacker with one account of his own could
  begin anew after each guess.
"""

from __future__ import annotations

import ipaddress
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from nvr.auth.access import Verdict
from nvr.model.time import NS, UtcNs

log = logging.getLogger(__name__)

MAX_ADDRESSES = 4096
"""Addresses that are remembered; beyond it the one that has failed least recently is forgotten."""
MAX_PROVEN = 1024
"""Pairs of user and address with a success that are remembered."""
PROVEN_NS = 30 * 86_400 * NS
"""How long a success counts for its address."""


@dataclass(frozen=True, slots=True)
class LockoutSettings:
    """How much failure is free, and what it costs beyond that."""

    user_failures: int = 8
    """Wrong passwords of one account that lock nothing."""
    address_failures: int = 32
    """Wrong passwords from one address, whatever the names, that lock nothing. More than for a user: many people may
    share an address."""
    first_delay_ns: int = 2 * NS
    maximum_delay_ns: int = 300 * NS
    forget_ns: int = 3600 * NS
    """A count ends when there was no failure for so long."""
    exempt: tuple[str, ...] = ()
    """Addresses that are never locked as addresses, such as that of a reverse proxy; accounts still are."""

    def __post_init__(self) -> None:
        if self.user_failures < 1 or self.address_failures < 1:
            raise ValueError("user_failures and address_failures must be at least 1")
        if not 0 < self.first_delay_ns <= self.maximum_delay_ns:
            raise ValueError("first_delay must be above 0 and not above maximum_delay")
        if self.forget_ns < self.maximum_delay_ns:
            raise ValueError("forget must not be below maximum_delay")
        for address in self.exempt:
            try:
                ipaddress.ip_address(address)
            except ValueError:
                raise ValueError(f"exempt: {address!r} is no IP address") from None


@dataclass(slots=True)
class _Count:
    """Failures of one account or address. Locked while locked_from <= now < locked_until."""

    failures: int = 0
    last_ns: UtcNs = 0
    locked_from_ns: UtcNs = 0
    locked_until_ns: UtcNs = 0

    def locked(self, now_ns: UtcNs) -> bool:
        # The lower bound ends a lock when the clock is set back: it would last too long.
        return self.locked_from_ns <= now_ns < self.locked_until_ns


class Lockout:
    """Sees every verdict, and turns those of locked callers into refusals."""

    def __init__(self, known: Callable[[str], bool], settings: LockoutSettings | None = None) -> None:
        """`known`: whether there is an account of this name."""
        self.failures = 0
        """Wrong passwords and unknown names since the start."""
        self.refused = 0
        """Attempts refused because the account or the address was locked, whatever the password."""
        self._known = known
        self._settings = settings or LockoutSettings()
        self._exempt = frozenset(network_of(address) for address in self._settings.exempt)
        self._users: dict[tuple[str, str], _Count] = {}
        """By account and address; the address is empty but where the user has proved the password from it."""
        self._addresses: OrderedDict[str, _Count] = OrderedDict()
        self._proven: OrderedDict[tuple[str, str], UtcNs] = OrderedDict()

    def judge(self, verdict: Verdict, address: str, now_ns: UtcNs) -> Verdict:
        """What the verification of credentials found, in the light of what was before.

        To be called for every verdict on credentials. `address` is that of the peer, without port.
        """
        name = verdict.user if verdict.user is not None else verdict.name
        if name is None:
            return verdict
        network = network_of(address)
        user = self._user_count(name, network, now_ns)
        place = self._place_count(network, now_ns)
        locked = "account" if user.locked(now_ns) else "address" if place.locked(now_ns) else None
        if locked is not None:
            self.refused += 1
            return replace(verdict, user=None, stale=False, why=f"the {locked} is locked (user {name[:64]!r})")
        if verdict.wrong:
            self._failed(name, network, address, user, place, now_ns)
        elif verdict.user is not None:
            self._succeeded(name, network, now_ns)
        return verdict

    def locked_users(self, now_ns: UtcNs) -> int:
        """How many accounts are locked now, for any address."""
        return len({name for (name, _), count in self._users.items() if count.locked(now_ns)})

    def locked_addresses(self, now_ns: UtcNs) -> int:
        return sum(count.locked(now_ns) for count in self._addresses.values())

    def _user_key(self, name: str, network: str, now_ns: UtcNs) -> tuple[str, str]:
        proven = self._proven.get((name, network))
        return (name, network) if proven is not None and now_ns < proven + PROVEN_NS else (name, "")

    def _user_count(self, name: str, network: str, now_ns: UtcNs) -> _Count:
        return self._current(self._users.get(self._user_key(name, network, now_ns)), now_ns)

    def _place_count(self, network: str, now_ns: UtcNs) -> _Count:
        return self._current(self._addresses.get(network), now_ns)

    def _current(self, count: _Count | None, now_ns: UtcNs) -> _Count:
        """The count, or a new one where there is none that still matters."""
        return count if count is not None and abs(now_ns - count.last_ns) < self._settings.forget_ns else _Count()

    def _failed(self, name: str, network: str, address: str, user: _Count, place: _Count, now_ns: UtcNs) -> None:
        self.failures += 1
        if self._known(name):
            self._users[self._user_key(name, network, now_ns)] = user
            self._count(user, self._settings.user_failures, f"user {name!r}", address, now_ns)
        if network in self._exempt:
            return
        self._addresses[network] = place
        self._addresses.move_to_end(network)
        if len(self._addresses) > MAX_ADDRESSES:
            self._addresses.popitem(last=False)
        self._count(place, self._settings.address_failures, f"address {network}", address, now_ns)

    def _count(self, count: _Count, free: int, what: str, address: str, now_ns: UtcNs) -> None:
        count.failures += 1
        count.last_ns = now_ns
        beyond = count.failures - free - 1
        if beyond < 0:
            return
        delay_ns = min(self._settings.first_delay_ns << min(beyond, 40), self._settings.maximum_delay_ns)
        count.locked_from_ns, count.locked_until_ns = now_ns, now_ns + delay_ns
        text = "%s is locked for %.0f s: %d wrong passwords, the last one from %s"
        log.warning(text, what, delay_ns / NS, count.failures, address)

    def _succeeded(self, name: str, network: str, now_ns: UtcNs) -> None:
        self._users.pop(self._user_key(name, network, now_ns), None)
        self._proven[name, network] = now_ns
        self._proven.move_to_end((name, network))
        if len(self._proven) > MAX_PROVEN:
            forgotten, _ = self._proven.popitem(last=False)
            self._users.pop(forgotten, None)


def network_of(address: str) -> str:
    """What an address counts as: itself, or for IPv6 its network of 64 bits. Text that is no address stays as it is."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        if not found.is_loopback:
            return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
    return str(found)
