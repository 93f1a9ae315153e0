"""The host's network (ONVIF Core 8.2): told as it is, never changed.

A request to change it is examined, so that a client learns its mistakes, and then refused.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

from nvr.control import host_rules as rules
from nvr.control.host_rules import HostFault, HostRefused, NetworkProtocol, refuse
from nvr.soap import device_network_types as types
from nvr.soap.host_network import HostNetwork, Interface, InterfaceAddress
from nvr.soap.model import Boolean, ReferenceToken, Token, many, required
from nvr.soap.service import AccessClass, Call, Result, operation

_SMALLEST_MTU = 68
"""RFC 791 3.2: what every IPv4 module must be able to forward."""
_LARGEST_MTU = 65_536
"""That of Linux's loopback interface; no link has more."""
_READ, _WRITE = AccessClass.READ_SYSTEM, AccessClass.WRITE_SYSTEM


class NetworkOperations:
    """A part of the device service."""

    _network: HostNetwork
    _protocols: Callable[[], Sequence[NetworkProtocol]]
    _synchronised: Callable[[], bool]

    @operation(
        "GetHostname", AccessClass.PRE_AUTH, response={"HostnameInformation": required(types.HostnameInformation)}
    )
    def get_hostname(self, call: Call) -> Result:
        return {"HostnameInformation": types.HostnameInformation(FromDHCP=False, Name=self._network.host_name())}

    @operation("SetHostname", _WRITE, request={"Name": required(Token)})
    def set_hostname(self, call: Call) -> Result:
        rules.check_host_name(call.request.Name)
        refuse("the host name")

    @operation("GetDNS", _READ, response={"DNSInformation": required(types.DNSInformation)})
    async def get_dns(self, call: Call) -> Result:
        found = await asyncio.to_thread(self._network.name_servers)
        servers = [_ip_address(server) for server in found.servers]
        # resolv.conf does not say who wrote it: what stands there is told as set by hand.
        information = types.DNSInformation(FromDHCP=False, SearchDomain=found.search, DNSManual=servers)
        return {"DNSInformation": information}

    @operation(
        "SetDNS",
        _WRITE,
        request={
            "FromDHCP": required(Boolean),
            "SearchDomain": many(Token),
            "DNSManual": many(types.IPAddress),
        },
    )
    def set_dns(self, call: Call) -> Result:
        for address in call.request.DNSManual:
            _check_host(address)
        refuse("the list of name servers")

    @operation("GetNTP", _READ, response={"NTPInformation": required(types.NTPInformation)})
    async def get_ntp(self, call: Call) -> Result:
        servers = await asyncio.to_thread(self._network.ntp_servers)
        information = types.NTPInformation(FromDHCP=False, NTPManual=[_network_host(s) for s in servers])
        return {"NTPInformation": information}

    @operation("SetNTP", _WRITE, request={"FromDHCP": required(Boolean), "NTPManual": many(types.NetworkHost)})
    def set_ntp(self, call: Call) -> Result:
        for host in call.request.NTPManual:
            _check_host(host)
        if not call.request.FromDHCP and not call.request.NTPManual and self._synchronised():
            raise HostRefused(HostFault.TIME_SYNCED_TO_NTP, "the clock follows NTP and needs a server")
        refuse("the list of NTP servers")

    @operation("GetNetworkInterfaces", _READ, response={"NetworkInterfaces": many(types.NetworkInterface, at_least=1)})
    async def get_network_interfaces(self, call: Call) -> Result:
        return {"NetworkInterfaces": [_interface(i) for i in await self._interfaces()]}

    @operation(
        "SetNetworkInterfaces",
        _WRITE,
        request={
            "InterfaceToken": required(ReferenceToken),
            "NetworkInterface": required(types.NetworkInterfaceSetConfiguration),
        },
        response={"RebootNeeded": required(Boolean)},
    )
    async def set_network_interfaces(self, call: Call) -> Result:
        token, wanted = call.request.InterfaceToken, call.request.NetworkInterface
        if token not in {i.name for i in await self._interfaces()}:
            raise HostRefused(HostFault.INVALID_NETWORK_INTERFACE, f"InterfaceToken: there is no interface {token!r}")
        _check_interface(wanted)
        refuse("the configuration of interfaces")

    @operation("GetNetworkProtocols", _READ, response={"NetworkProtocols": many(types.NetworkProtocol)})
    def get_network_protocols(self, call: Call) -> Result:
        found = [types.NetworkProtocol(Name=p.name, Enabled=p.enabled, Port=p.ports) for p in self._protocols()]
        return {"NetworkProtocols": found}

    @operation("SetNetworkProtocols", _WRITE, request={"NetworkProtocols": many(types.NetworkProtocol, at_least=1)})
    def set_network_protocols(self, call: Call) -> Result:
        wanted = [NetworkProtocol(p.Name, p.Enabled, tuple(p.Port)) for p in call.request.NetworkProtocols]
        rules.check_protocols(wanted, self._protocols())
        refuse("where the recorder listens")

    @operation("GetNetworkDefaultGateway", _READ, response={"NetworkGateway": required(types.NetworkGateway)})
    async def get_network_default_gateway(self, call: Call) -> Result:
        found = await asyncio.to_thread(self._network.gateways)
        v6 = [address for address in found if ":" in address]
        v4 = [address for address in found if ":" not in address]
        return {"NetworkGateway": types.NetworkGateway(IPv4Address=v4, IPv6Address=v6)}

    @operation("SetNetworkDefaultGateway", _WRITE, request={"IPv4Address": many(Token), "IPv6Address": many(Token)})
    def set_network_default_gateway(self, call: Call) -> Result:
        rules.check_gateways(call.request.IPv4Address, call.request.IPv6Address)
        refuse("the default gateway")

    async def _interfaces(self) -> list[Interface]:
        """Those that lead to a network; on a host without any, the loopback interface."""
        found = await asyncio.to_thread(self._network.interfaces)
        return [i for i in found if not i.loopback] or list(found)


def _interface(interface: Interface) -> types.NetworkInterface:
    addresses = interface.addresses
    v6 = [a for a in addresses if a.address.version == 6]
    return types.NetworkInterface(
        token=interface.name,
        Enabled=interface.up,
        Info=types.NetworkInterfaceInfo(Name=interface.name, HwAddress=interface.hardware_address, MTU=interface.mtu),
        IPv4=_ipv4([a for a in addresses if a.address.version == 4]),
        IPv6=types.IPv6NetworkInterface(Enabled=bool(v6), Config=_ipv6(v6, interface.accepts_router_advertisements)),
    )


def _ipv4(addresses: Sequence[InterfaceAddress]) -> types.IPv4NetworkInterface:
    """An IPv4 address with a lifetime comes from DHCP; link-local ones (RFC 3927) have a place of their own."""
    local = [a for a in addresses if a.address.is_link_local]
    others = [a for a in addresses if not a.address.is_link_local]
    leased = [a for a in others if a.dynamic]
    return types.IPv4NetworkInterface(
        Enabled=bool(addresses),
        Config=types.IPv4Configuration(
            Manual=[_prefixed(types.PrefixedIPv4Address, a) for a in others if not a.dynamic],
            LinkLocal=_prefixed(types.PrefixedIPv4Address, local[0]) if local else None,
            FromDHCP=_prefixed(types.PrefixedIPv4Address, leased[0]) if leased else None,
            DHCP=bool(leased),
        ),
    )


def _ipv6(addresses: Sequence[InterfaceAddress], advertisements: bool | None) -> types.IPv6Configuration:
    """Addresses from DHCPv6 stand for themselves (/128), those from a router's advertisement for a network (/64)."""
    local = [a for a in addresses if a.address.is_link_local]
    others = [a for a in addresses if not a.address.is_link_local]
    leased = [a for a in others if a.dynamic and a.prefix_length == 128]
    advertised = [a for a in others if a.dynamic and a.prefix_length != 128]
    kind = types.PrefixedIPv6Address
    return types.IPv6Configuration(
        AcceptRouterAdvert=advertisements,
        DHCP="Stateful" if leased else "Off",
        Manual=[_prefixed(kind, a) for a in others if not a.dynamic],
        LinkLocal=[_prefixed(kind, a) for a in local],
        FromDHCP=[_prefixed(kind, a) for a in leased],
        FromRA=[_prefixed(kind, a) for a in advertised],
    )


def _prefixed(kind: Any, address: InterfaceAddress) -> Any:
    return kind(Address=str(address.address), PrefixLength=address.prefix_length)


def _ip_address(text: str) -> types.IPAddress:
    if ":" in text:
        return types.IPAddress(Type="IPv6", IPv6Address=text)
    return types.IPAddress(Type="IPv4", IPv4Address=text)


def _network_host(text: str) -> types.NetworkHost:
    try:
        version = ipaddress.ip_address(text).version
    except ValueError:
        return types.NetworkHost(Type="DNS", DNSname=text)
    if version == 6:
        return types.NetworkHost(Type="IPv6", IPv6Address=text)
    return types.NetworkHost(Type="IPv4", IPv4Address=text)


def _check_host(host: Any) -> None:
    """An IPAddress or a NetworkHost: the address of its Type."""
    if host.Type == "IPv4":
        rules.check_ipv4(host.IPv4Address)
    elif host.Type == "IPv6":
        rules.check_ipv6(host.IPv6Address)
    else:
        rules.check_dns_name(host.DNSname or "")


def _check_interface(wanted: Any) -> None:
    if wanted.MTU is not None and not _SMALLEST_MTU <= wanted.MTU <= _LARGEST_MTU:
        raise HostRefused(HostFault.INVALID_MTU_VALUE, f"MTU: is not between {_SMALLEST_MTU} and {_LARGEST_MTU} octets")
    if wanted.Link is not None and wanted.Link.Speed <= 0:
        raise HostRefused(HostFault.INVALID_INTERFACE_SPEED, "Speed: is not above 0")
    if wanted.Extension is not None and wanted.Extension.any_elements:
        raise HostRefused(HostFault.INVALID_INTERFACE_TYPE, "Extension: the interface is not of this type")
    for address in wanted.IPv4.Manual if wanted.IPv4 is not None else ():
        rules.check_interface_address(address.Address, address.PrefixLength, 4)
    if wanted.IPv6 is None:
        return
    for address in wanted.IPv6.Manual:
        rules.check_interface_address(address.Address, address.PrefixLength, 6)
    if wanted.IPv6.DHCP not in (None, "Off"):
        raise HostRefused(HostFault.INVALID_DHCPV6, "DHCP: the recorder does not configure DHCPv6")
