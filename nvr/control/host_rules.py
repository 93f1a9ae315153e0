"""Settings of the host that clients ask for: whether they are sound. They are then refused all the same, since the host
belongs to its operator; a client with a mistake in its request is told the mistake first (ONVIF Core 8.2, 8.3.7).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NoReturn

from nvr.model.errors import Refused


class HostFault(StrEnum):
    """Local names of the ter: subcodes."""

    INVALID_TIME_ZONE = "InvalidTimeZone"
    INVALID_DATE_TIME = "InvalidDateTime"
    NTP_SERVER_UNDEFINED = "NtpServerUndefined"
    TIME_SYNCED_TO_NTP = "TimeSyncedToNtp"
    INVALID_HOSTNAME = "InvalidHostname"
    INVALID_DNS_NAME = "InvalidDnsName"
    INVALID_IPV4_ADDRESS = "InvalidIPv4Address"
    INVALID_IPV6_ADDRESS = "InvalidIPv6Address"
    INVALID_GATEWAY_ADDRESS = "InvalidGatewayAddress"
    INVALID_NETWORK_INTERFACE = "InvalidNetworkInterface"
    INVALID_MTU_VALUE = "InvalidMtuValue"
    INVALID_INTERFACE_SPEED = "InvalidInterfaceSpeed"
    INVALID_INTERFACE_TYPE = "InvalidInterfaceType"
    INVALID_DHCPV6 = "InvalidDHCPv6"
    SERVICE_NOT_SUPPORTED = "ServiceNotSupported"
    PORT_ALREADY_IN_USE = "PortAlreadyInUse"
    ENABLING_TLS_FAILED = "EnablingTlsFailed"


class HostRefused(Refused):
    """A request that could not be met on any host, or not on this one; `kind` says why in the standard's words."""

    def __init__(self, fault: HostFault, message: str) -> None:
        super().__init__(message)
        self.kind = fault.value


@dataclass(frozen=True, slots=True)
class NetworkProtocol:
    """A protocol that the recorder serves, and where: HTTP, HTTPS or RTSP."""

    name: str
    enabled: bool
    ports: tuple[int, ...]


def refuse(what: str) -> NoReturn:
    """The answer to a sound request."""
    raise Refused(f"{what} is set on the host or in the recorder's configuration file, not by clients")


_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_ZONE_NAME = r"(?:[A-Za-z]{3,16}|<[A-Za-z0-9+-]{3,16}>)"
_ZONE_TIME = r"[0-9]{1,3}(?::[0-5]?[0-9]){0,2}"
_ZONE_DATE = r"(?:M(?:1[0-2]|[1-9])\.[1-5]\.[0-6]|J[0-9]{1,3}|[0-9]{1,3})"
_ZONE_RULE = rf",{_ZONE_DATE}(?:/[+-]?{_ZONE_TIME})?"
_ZONE = re.compile(
    rf"{_ZONE_NAME}[+-]?{_ZONE_TIME}(?:{_ZONE_NAME}(?:[+-]?{_ZONE_TIME})?(?:{_ZONE_RULE}{_ZONE_RULE})?)?"
)


def is_host_name(name: str) -> bool:
    """RFC 1123 2.1: labels of letters, digits and hyphens, 253 characters in all."""
    return 0 < len(name) <= 253 and all(map(_LABEL.fullmatch, name.split(".")))


def is_posix_time_zone(text: str) -> bool:
    """POSIX.1-2017 8.3, the TZ variable without a leading colon: `CET-1CEST,M3.5.0,M10.5.0/3`."""
    return _ZONE.fullmatch(text) is not None


def check_host_name(name: str) -> None:
    if not is_host_name(name):
        raise HostRefused(HostFault.INVALID_HOSTNAME, "Name: is no host name of letters, digits, hyphens and dots")


def check_dns_name(name: str) -> None:
    if not is_host_name(name.removesuffix(".")):
        raise HostRefused(HostFault.INVALID_DNS_NAME, "DNSname: is no host name")


def check_ipv4(text: str | None) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(text or "")
    except ValueError:
        raise HostRefused(HostFault.INVALID_IPV4_ADDRESS, "an IPv4 address is missing or malformed") from None


def check_ipv6(text: str | None) -> ipaddress.IPv6Address:
    try:
        return ipaddress.IPv6Address(text or "")
    except ValueError:
        raise HostRefused(HostFault.INVALID_IPV6_ADDRESS, "an IPv6 address is missing or malformed") from None


def check_interface_address(text: str | None, prefix_length: int, version: int) -> None:
    """The address of an interface with its prefix; it must stand for one host."""
    fault = HostFault.INVALID_IPV4_ADDRESS if version == 4 else HostFault.INVALID_IPV6_ADDRESS
    address = check_ipv4(text) if version == 4 else check_ipv6(text)
    if not 0 < prefix_length <= address.max_prefixlen:
        raise HostRefused(fault, f"PrefixLength: is not between 1 and {address.max_prefixlen}")
    if address.is_multicast or address.is_unspecified:
        raise HostRefused(fault, f"{address} is not the address of one host")


def check_gateways(v4: Iterable[str], v6: Iterable[str]) -> None:
    addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = [*map(check_ipv4, v4), *map(check_ipv6, v6)]
    for address in addresses:
        if address.is_multicast or address.is_unspecified or address.is_loopback:
            raise HostRefused(HostFault.INVALID_GATEWAY_ADDRESS, f"{address} cannot be a gateway")


def check_time(
    *,
    ntp: bool,
    zone: str | None,
    date_time: tuple[int, int, int, int, int, int] | None,
    ntp_servers: Collection[str],
) -> None:
    """`date_time` is year, month, day, hour, minute, second in UTC. Raises HostRefused."""
    if zone is not None and not is_posix_time_zone(zone):
        raise HostRefused(HostFault.INVALID_TIME_ZONE, "TimeZone: is no time zone as POSIX writes it")
    if ntp:
        if not ntp_servers:
            raise HostRefused(HostFault.NTP_SERVER_UNDEFINED, "DateTimeType: the host has no NTP server")
        return
    if date_time is None:
        raise HostRefused(HostFault.INVALID_DATE_TIME, "UTCDateTime: is missing, and DateTimeType is Manual")
    try:
        datetime(*date_time, tzinfo=UTC)
    except (ValueError, OverflowError):
        raise HostRefused(HostFault.INVALID_DATE_TIME, "UTCDateTime: there is no such date or time") from None


def check_protocols(wanted: Sequence[NetworkProtocol], served: Sequence[NetworkProtocol]) -> None:
    """Raises HostRefused for what the recorder could not do even if it would."""
    by_name = {p.name: p for p in served}
    for protocol in wanted:
        if protocol.name not in ("HTTP", "HTTPS", "RTSP"):
            raise HostRefused(
                HostFault.SERVICE_NOT_SUPPORTED, f"Name: {protocol.name!r} is no protocol of the recorder"
            )
        if protocol.name == "HTTPS" and protocol.enabled and not _enabled(by_name.get("HTTPS")):
            raise HostRefused(HostFault.ENABLING_TLS_FAILED, "the recorder has no certificate for HTTPS")
    after = {**by_name, **{p.name: p for p in wanted}}
    taken: dict[int, str] = {}
    for protocol in after.values():
        for port in protocol.ports if protocol.enabled else ():
            if taken.setdefault(port, protocol.name) != protocol.name:
                raise HostRefused(HostFault.PORT_ALREADY_IN_USE, f"Port: {port} belongs to {taken[port]}")


def _enabled(protocol: NetworkProtocol | None) -> bool:
    return protocol is not None and protocol.enabled
