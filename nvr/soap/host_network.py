"""What the host says of its network: interfaces and addresses, routes, name servers, NTP servers. Linux only.

Read from netlink, /sys, /proc and /etc, with the rights of any user, and blocking: to be called on a thread. What a
host does not tell is left out rather than guessed.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_NLMSG = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface index
_RTATTR = struct.Struct("=HH")  # length, type
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_NLM_F_REQUEST_DUMP = 0x301
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_PERMANENT = 0x80
_IFF_UP, _IFF_LOOPBACK, _IFF_MULTICAST = 0x1, 0x8, 0x1000
_RTF_UP_GATEWAY = 0x3
_NETLINK_TIMEOUT_S = 2.0

_NTP_FILES = (
    ("etc/systemd/timesyncd.conf", "NTP="),
    ("etc/chrony/chrony.conf", "server pool peer"),
    ("etc/chrony.conf", "server pool peer"),
    ("etc/ntpsec/ntp.conf", "server pool peer"),
    ("etc/ntp.conf", "server pool peer"),
)


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """`dynamic`: it has a lifetime, so that DHCP or a router's advertisement has given it."""

    index: int
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    prefix_length: int
    dynamic: bool


@dataclass(frozen=True, slots=True)
class Interface:
    """`mtu` and `accepts_router_advertisements` are None where the host does not tell."""

    name: str
    index: int
    hardware_address: str
    up: bool
    loopback: bool
    multicast: bool
    mtu: int | None
    addresses: tuple[InterfaceAddress, ...]
    accepts_router_advertisements: bool | None = None


@dataclass(frozen=True, slots=True)
class NameServers:
    search: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()


class HostNetwork:
    """Blocking. `root` stands for / in tests."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def host_name(self) -> str:
        return socket.gethostname()

    def interfaces(self) -> tuple[Interface, ...]:
        """All of the host, by index."""
        addresses = tuple(_addresses())
        found = [self._interface(path, addresses) for path in sorted((self._root / "sys/class/net").glob("*"))]
        return tuple(sorted((i for i in found if i is not None), key=lambda i: i.index))

    def gateways(self) -> tuple[str, ...]:
        """Of the default routes, IPv4 and IPv6, in the order of the routing table."""
        v4 = parse_ipv4_routes(self._read("proc/net/route"))
        return tuple(dict.fromkeys((*v4, *parse_ipv6_routes(self._read("proc/net/ipv6_route")))))

    def name_servers(self) -> NameServers:
        """Where the resolver of the host is a stub of systemd, those behind it."""
        found = parse_resolv_conf(self._read("etc/resolv.conf"))
        if found.servers in (("127.0.0.53",), ("127.0.0.54",)):
            behind = parse_resolv_conf(self._read("run/systemd/resolve/resolv.conf"))
            return behind if behind.servers else found
        return found

    def ntp_servers(self) -> tuple[str, ...]:
        """Names and addresses that the time service of the host is configured with; the first file with any counts."""
        for name, keys in _NTP_FILES:
            servers = parse_ntp_servers(self._read(name), tuple(keys.split()))
            if servers:
                return servers
        return ()

    def _interface(self, path: Path, addresses: tuple[InterfaceAddress, ...]) -> Interface | None:
        try:
            index = int((path / "ifindex").read_text())
            flags = int((path / "flags").read_text(), 16)
        except (OSError, ValueError):
            return None  # it went while it was being read, or is no interface (bonding_masters)
        mtu: int | None = None
        with suppress(OSError, ValueError):
            mtu = int((path / "mtu").read_text())
        advertisements: bool | None = None
        with suppress(ValueError):
            advertisements = int(self._read(f"proc/sys/net/ipv6/conf/{path.name}/accept_ra")) > 0
        with suppress(OSError):
            hardware = (path / "address").read_text().strip()
            return Interface(
                name=path.name,
                index=index,
                hardware_address=hardware,
                up=bool(flags & _IFF_UP),
                loopback=bool(flags & _IFF_LOOPBACK),
                multicast=bool(flags & _IFF_MULTICAST),
                mtu=mtu,
                addresses=tuple(a for a in addresses if a.index == index),
                accepts_router_advertisements=advertisements,
            )
        return None

    def _read(self, name: str) -> str:
        """Empty where the host has no such file."""
        try:
            return (self._root / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


def _addresses() -> Iterator[InterfaceAddress]:
    """All addresses of the host, by a dump over rtnetlink (rtnetlink(7))."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
            link.settimeout(_NETLINK_TIMEOUT_S)
            body = _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
            link.send(_NLMSG.pack(_NLMSG.size + len(body), _RTM_GETADDR, _NLM_F_REQUEST_DUMP, 1, 0) + body)
            done = False
            while not done:
                found, done = parse_addresses(link.recv(1 << 16))
                yield from found
    except (OSError, AttributeError) as e:
        log.warning("the addresses of the host cannot be read: %s", e)


def parse_addresses(data: bytes) -> tuple[list[InterfaceAddress], bool]:
    """The addresses in a datagram of rtnetlink, and whether it is the last one of the dump.

    What is cut short or of another kind is passed over.
    """
    found: list[InterfaceAddress] = []
    place = 0
    while place + _NLMSG.size <= len(data):
        length, kind, _, _, _ = _NLMSG.unpack_from(data, place)
        if kind in (_NLMSG_DONE, _NLMSG_ERROR) or not _NLMSG.size <= length <= len(data) - place:
            return found, True
        if kind == _RTM_NEWADDR:
            address = _parse_address(data[place + _NLMSG.size : place + length])
            if address is not None:
                found.append(address)
        place += length + 3 & ~3
    return found, not found


def _parse_address(message: bytes) -> InterfaceAddress | None:
    if len(message) < _IFADDRMSG.size:
        return None
    family, prefix_length, flags, _, index = _IFADDRMSG.unpack_from(message)
    values: dict[int, bytes] = {}
    place = _IFADDRMSG.size
    while place + _RTATTR.size <= len(message):
        length, kind = _RTATTR.unpack_from(message, place)
        if not _RTATTR.size <= length <= len(message) - place:
            break
        values[kind] = message[place + _RTATTR.size : place + length]
        place += length + 3 & ~3
    # On a point-to-point link IFA_ADDRESS is the other end, and IFA_LOCAL this one.
    packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
    if packed is None or (family, len(packed)) not in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
        return None
    wide = values.get(_IFA_FLAGS, b"")
    if len(wide) == 4:
        flags = int(struct.unpack("=I", wide)[0])
    address = ipaddress.IPv4Address(packed) if len(packed) == 4 else ipaddress.IPv6Address(packed)
    return InterfaceAddress(index, address, prefix_length, not flags & _IFA_F_PERMANENT)


def parse_ipv4_routes(text: str) -> Iterator[str]:
    """Gateways of the default routes in /proc/net/route, whose addresses stand in the byte order of the host."""
    for fields in map(str.split, text.splitlines()[1:]):
        with suppress(ValueError, IndexError, struct.error):
            target, gateway, flags, mask = (int(fields[i], 16) for i in (1, 2, 3, 7))
            if target == mask == 0 and flags & _RTF_UP_GATEWAY == _RTF_UP_GATEWAY:
                yield str(ipaddress.IPv4Address(struct.pack("=I", gateway)))


def parse_ipv6_routes(text: str) -> Iterator[str]:
    """Gateways of the default routes in /proc/net/ipv6_route."""
    for fields in map(str.split, text.splitlines()):
        with suppress(ValueError, IndexError):
            length, flags = int(fields[1], 16), int(fields[8], 16)
            if length == 0 and flags & _RTF_UP_GATEWAY == _RTF_UP_GATEWAY:
                yield str(ipaddress.IPv6Address(bytes.fromhex(fields[4])))


def parse_resolv_conf(text: str) -> NameServers:
    """resolv.conf(5): every `nameserver`, and the last of `search` and `domain`."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    for words in _lines(text, "#;"):
        if words[0] == "nameserver" and len(words) > 1:
            with suppress(ValueError):
                servers.append(str(ipaddress.ip_address(words[1].partition("%")[0])))
        elif words[0] in ("search", "domain"):
            search = tuple(words[1:])
    return NameServers(search, tuple(dict.fromkeys(servers)))


def parse_ntp_servers(text: str, keys: tuple[str, ...]) -> tuple[str, ...]:
    """`NTP=a b` of timesyncd.conf(5), `server a iburst` of chrony.conf(5) and ntp.conf(5), by the form of the keys."""
    found: list[str] = []
    for words in _lines(text, "#!;%"):
        for key in keys:
            if key.endswith("=") and words[0].startswith(key):
                found += [w for w in (words[0].removeprefix(key), *words[1:]) if w]
            elif words[0] == key and len(words) > 1:
                found.append(words[1])
    return tuple(dict.fromkeys(found))


def _lines(text: str, comments: str) -> Iterable[list[str]]:
    for line in text.splitlines():
        words = line.split()
        if words and words[0][0] not in comments:
            yield words
