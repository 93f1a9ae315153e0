"""Interfaces that discovery speaks on, and the addresses that it tells there. Sans-I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from nvr.model.time import NS

PATH: Final = "/onvif/device_service"
Address: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True)
class DiscoverySettings:
    """Who may find the recorder."""

    enabled: bool = True
    """false: neither listen nor send, whatever clients set as discovery mode."""
    interfaces: tuple[str, ...] = ()
    """Names of interfaces. Empty: those by which HTTP is reached beyond loopback; none when it is not."""
    port: int = 3702
    """Of the protocol; another one is found by nobody but tests."""
    maximum_delay_ns: int = NS // 2
    """Answers to the group and the first Hello wait a random time up to it (WS-Discovery, APP_MAX_DELAY)."""
    beyond_link: bool = False
    """Whether senders outside the networks of the interface are answered. Their address may be forged."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError("port is between 1 and 65535")
        if not 0 <= self.maximum_delay_ns <= 10 * NS:
            raise ValueError("maximum_delay is between 0s and 10s")


@dataclass(frozen=True, slots=True)
class Link:
    """An interface that is up, with its addresses."""

    name: str
    loopback: bool
    addresses: tuple[Address, ...]

    @property
    def ipv4(self) -> ipaddress.IPv4Interface | None:
        """The address by which discovery speaks here."""
        return next((a for a in self.addresses if isinstance(a, ipaddress.IPv4Interface)), None)

    def reaches(self, address: str) -> bool:
        """Whether the address lies in a network of this interface."""
        try:
            peer = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(peer in own.network for own in self.addresses if own.version == peer.version)


@dataclass(frozen=True, slots=True)
class Served:
    """Where the device service listens, by `http` or `https`.

    `0.0.0.0` and `::` stand for all addresses of their kind, an empty host for both.
    """

    scheme: str
    host: str
    port: int


def is_wanted(settings: DiscoverySettings, served: Sequence[Served]) -> bool:
    """Whether discovery is on at all: interfaces are chosen, or HTTP is reached beyond loopback."""
    return settings.enabled and (bool(settings.interfaces) or not all(_loopback(place.host) for place in served))


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def spoken_on(settings: DiscoverySettings, served: Sequence[Served], links: Sequence[Link]) -> tuple[Link, ...]:
    """The interfaces to speak on; chosen ones that the host does not have now are `missing`."""
    if not is_wanted(settings, served):
        return ()
    if settings.interfaces:
        return tuple(link for link in links if link.name in settings.interfaces and link.ipv4 is not None)
    return tuple(link for link in links if not link.loopback and link.ipv4 is not None and any(xaddrs(served, [link])))


def missing(settings: DiscoverySettings, links: Sequence[Link]) -> tuple[str, ...]:
    """Chosen interfaces that the host does not have, or that are down."""
    return tuple(sorted(set(settings.interfaces) - {link.name for link in links}))


def xaddrs(served: Sequence[Served], links: Iterable[Link]) -> tuple[str, ...]:
    """The device service over these interfaces: one URI per protocol and address (ONVIF Core 7.3.2.3).

    A host that is a name is told as it stands. Link-local IPv6 addresses are left out: they mean nothing without the
    name that the client's own interface has.
    """
    addresses = [a.ip for link in links for a in link.addresses if a.version == 4 or not a.ip.is_link_local]
    found: dict[str, None] = {}
    for place in served:
        for host in _hosts(place.host, addresses):
            found[f"{place.scheme}://{host}:{place.port}{PATH}"] = None
    return tuple(found)


def _hosts(host: str, addresses: Sequence[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> list[str]:
    try:
        given = ipaddress.ip_address(host) if host else None
    except ValueError:
        return [host] if not _loopback(host) or any(a.is_loopback for a in addresses) else []
    if given is None:
        wanted = list(addresses)
    elif given.is_unspecified:
        wanted = [a for a in addresses if a.version == given.version]
    else:
        wanted = [a for a in addresses if a == given]
    return [str(a) if a.version == 4 else f"[{a}]" for a in wanted]
