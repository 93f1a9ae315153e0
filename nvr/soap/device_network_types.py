"""Types of the operations on the host's network (devicemgmt.wsdl)."""

from __future__ import annotations

from nvr.soap.model import (
    Boolean,
    Int,
    Open,
    ReferenceToken,
    String,
    Struct,
    Token,
    attribute,
    many,
    optional,
    required,
    words,
)
from nvr.soap.names import TT
from nvr.soap.types import Extension


class HostnameInformation(Struct):
    __namespace__ = TT
    __open__ = Open.ATTRIBUTES

    FromDHCP = required(Boolean)
    Name = optional(Token)
    Extension = optional(Extension)


class IPAddress(Struct):
    __namespace__ = TT
    __open__ = False

    Type = required(words(("IPv4", "IPv6"), "IPType"))
    IPv4Address = optional(Token)
    IPv6Address = optional(Token)


class DNSInformation(Struct):
    __namespace__ = TT
    __open__ = Open.ATTRIBUTES

    FromDHCP = required(Boolean)
    SearchDomain = many(Token)
    DNSFromDHCP = many(IPAddress)
    DNSManual = many(IPAddress)
    Extension = optional(Extension)


class NetworkHost(Struct):
    __namespace__ = TT
    __open__ = Open.ATTRIBUTES

    Type = required(words(("IPv4", "IPv6", "DNS"), "NetworkHostType"))
    IPv4Address = optional(Token)
    IPv6Address = optional(Token)
    DNSname = optional(Token)
    Extension = optional(Extension)


class NTPInformation(Struct):
    __namespace__ = TT
    __open__ = Open.ATTRIBUTES

    FromDHCP = required(Boolean)
    NTPFromDHCP = many(NetworkHost)
    NTPManual = many(NetworkHost)
    Extension = optional(Extension)


class NetworkProtocol(Struct):
    __namespace__ = TT
    __open__ = Open.ATTRIBUTES

    Name = required(String)
    """Any text here: the operation has a fault of its own for a protocol that it does not know."""
    Enabled = required(Boolean)
    Port = many(Int, at_least=1)
    Extension = optional(Extension)


class NetworkGateway(Struct):
    __namespace__ = TT
    __open__ = False

    IPv4Address = many(Token)
    IPv6Address = many(Token)


# Interfaces


class PrefixedIPv4Address(Struct):
    __namespace__ = TT
    __open__ = False

    Address = required(Token)
    PrefixLength = required(Int)


class PrefixedIPv6Address(Struct):
    __namespace__ = TT
    __open__ = False

    Address = required(Token)
    PrefixLength = required(Int)


IPv6DHCP = words(("Auto", "Stateful", "Stateless", "Off"), "IPv6DHCPConfiguration")


class IPv4Configuration(Struct):
    __namespace__ = TT

    Manual = many(PrefixedIPv4Address)
    LinkLocal = optional(PrefixedIPv4Address)
    FromDHCP = optional(PrefixedIPv4Address)
    DHCP = required(Boolean)


class IPv4NetworkInterface(Struct):
    __namespace__ = TT

    Enabled = required(Boolean)
    Config = required(IPv4Configuration)


class IPv6Configuration(Struct):
    __namespace__ = TT

    AcceptRouterAdvert = optional(Boolean)
    DHCP = required(IPv6DHCP)
    Manual = many(PrefixedIPv6Address)
    LinkLocal = many(PrefixedIPv6Address)
    FromDHCP = many(PrefixedIPv6Address)
    FromRA = many(PrefixedIPv6Address)
    Extension = optional(Extension)


class IPv6NetworkInterface(Struct):
    __namespace__ = TT

    Enabled = required(Boolean)
    Config = optional(IPv6Configuration)


class NetworkInterfaceInfo(Struct):
    __namespace__ = TT

    Name = optional(String)
    HwAddress = required(Token)
    MTU = optional(Int)


class NetworkInterfaceConnectionSetting(Struct):
    __namespace__ = TT
    __open__ = False

    AutoNegotiation = required(Boolean)
    Speed = required(Int)
    Duplex = required(words(("Full", "Half"), "Duplex"))


class NetworkInterface(Struct):
    """Link and Extension are not declared: no unprivileged process is told what a link negotiates."""

    __namespace__ = TT

    Enabled = required(Boolean)
    Info = optional(NetworkInterfaceInfo)
    IPv4 = optional(IPv4NetworkInterface)
    IPv6 = optional(IPv6NetworkInterface)
    token = attribute(ReferenceToken, use="required")


class IPv4NetworkInterfaceSetConfiguration(Struct):
    __namespace__ = TT
    __open__ = False

    Enabled = optional(Boolean)
    Manual = many(PrefixedIPv4Address)
    DHCP = optional(Boolean)


class IPv6NetworkInterfaceSetConfiguration(Struct):
    __namespace__ = TT
    __open__ = False

    Enabled = optional(Boolean)
    AcceptRouterAdvert = optional(Boolean)
    Manual = many(PrefixedIPv6Address)
    DHCP = optional(IPv6DHCP)


class NetworkInterfaceSetConfiguration(Struct):
    __namespace__ = TT
    __open__ = Open.ATTRIBUTES

    Enabled = optional(Boolean)
    Link = optional(NetworkInterfaceConnectionSetting)
    MTU = optional(Int)
    IPv4 = optional(IPv4NetworkInterfaceSetConfiguration)
    IPv6 = optional(IPv6NetworkInterfaceSetConfiguration)
    Extension = optional(Extension)
    """Any content: it asks for wireless and the like, which are refused unread."""
