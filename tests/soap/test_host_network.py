"""What the host says of its network: the forms in which Linux writes it, and this host."""

from __future__ import annotations

import ipaddress
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.soap.host_network import (
    HostNetwork,
    InterfaceAddress,
    NameServers,
    parse_addresses,
    parse_ipv4_routes,
    parse_ipv6_routes,
    parse_ntp_servers,
    parse_resolv_conf,
)

RTM_NEWADDR, DONE = 20, 3
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
PERMANENT = 0x80


def attribute(kind: int, value: bytes) -> bytes:
    raw = struct.pack("=HH", 4 + len(value), kind) + value
    return raw + bytes(-len(raw) % 4)


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 2, 1, 0) + body


def new_address(index: int, length: int, flags: int, *attributes: bytes, family: int = socket.AF_INET) -> bytes:
    return message(RTM_NEWADDR, struct.pack("=BBBBI", family, length, flags, 0, index) + b"".join(attributes))


def test_addresses_of_both_families_are_read_from_a_dump() -> None:
    v4, peer = bytes([192, 0, 2, 7]), bytes([192, 0, 2, 8])
    v6 = ipaddress.ip_address("2001:db8::7").packed
    data = new_address(
        2, 32, PERMANENT, attribute(IFA_ADDRESS, peer), attribute(IFA_LOCAL, v4), attribute(3, b"eth0\0")
    )
    data += new_address(3, 64, 0, attribute(IFA_ADDRESS, v6), family=socket.AF_INET6)
    wide = attribute(IFA_FLAGS, struct.pack("=I", PERMANENT | 0x200))
    data += new_address(3, 128, 0, attribute(IFA_ADDRESS, v6), wide, family=socket.AF_INET6)
    expected = [
        InterfaceAddress(2, ipaddress.ip_address("192.0.2.7"), 32, dynamic=False),
        InterfaceAddress(3, ipaddress.ip_address("2001:db8::7"), 64, dynamic=True),
        InterfaceAddress(3, ipaddress.ip_address("2001:db8::7"), 128, dynamic=False),
    ]
    assert parse_addresses(data) == (expected, False)
    assert parse_addresses(data + message(DONE, bytes(4))) == (expected, True)


@given(st.binary(max_size=200))
def test_no_datagram_of_netlink_raises_or_keeps_the_reader_waiting(data: bytes) -> None:
    found, done = parse_addresses(data)
    assert found or done
    parse_addresses(new_address(1, 24, 0, data))


ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t{gateway}\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t{network}\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0
eth1\tbroken
"""
ROUTES6 = """\
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0
20010db8000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
00000000000000000000000000000000 00 x
"""  # noqa: E501


def test_only_default_routes_with_a_gateway_that_is_up_count() -> None:
    def as_the_kernel_writes(address: str) -> str:
        (number,) = struct.unpack("=I", ipaddress.IPv4Address(address).packed)
        return f"{number:08X}"

    text = ROUTES.format(gateway=as_the_kernel_writes("192.0.2.1"), network=as_the_kernel_writes("192.0.2.0"))
    assert list(parse_ipv4_routes(text)) == ["192.0.2.1"]
    assert list(parse_ipv6_routes(ROUTES6)) == ["fe80::1"]
    assert list(parse_ipv4_routes("")) == list(parse_ipv6_routes("")) == []


def test_resolv_conf_gives_servers_and_the_last_search_list() -> None:
    text = "# made by hand\ndomain old.example\nnameserver 192.0.2.53 \nnameserver fe80::53%eth0\nnameserver nonsense\n"
    text += "; more\noptions rotate\nsearch a.example b.example\nnameserver 192.0.2.53\nnameserver\n"
    assert parse_resolv_conf(text) == NameServers(("a.example", "b.example"), ("192.0.2.53", "fe80::53"))


TIMESYNCD = "[Time]\n#NTP=no.example\nNTP=a.example 192.0.2.1\nFallbackNTP=b.example\n"
CHRONY = "pool p.example iburst\nserver s.example\n! old\nserver s.example\nserver\n"


@pytest.mark.parametrize(
    ("text", "keys", "servers"),
    [
        (TIMESYNCD, ("NTP=",), ("a.example", "192.0.2.1")),
        ("[Time]\nNTP=\n", ("NTP=",), ()),
        (CHRONY, ("server", "pool"), ("p.example", "s.example")),
    ],
)
def test_servers_of_time_are_found_in_the_files_of_each_service(
    text: str, keys: tuple[str, ...], servers: tuple[str, ...]
) -> None:
    assert parse_ntp_servers(text, keys) == servers


@given(st.text(max_size=200))
def test_no_text_makes_a_reader_raise(text: str) -> None:
    list(parse_ipv4_routes("head\n" + text))
    list(parse_ipv6_routes(text))
    parse_resolv_conf(text)
    parse_ntp_servers(text, ("server", "NTP="))


def test_behind_a_stub_of_systemd_the_real_servers_are_told(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text("nameserver 127.0.0.53\nsearch a.example\n")
    assert HostNetwork(tmp_path).name_servers().servers == ("127.0.0.53",)
    behind = tmp_path / "run/systemd/resolve"
    behind.mkdir(parents=True)
    (behind / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    assert HostNetwork(tmp_path).name_servers().servers == ("192.0.2.53",)


def test_an_interface_that_goes_while_it_is_read_is_left_out(tmp_path: Path) -> None:
    for name, index in (("eth9", 9), ("eth8", 8), ("gone", None), ("half", 7)):
        directory = tmp_path / "sys/class/net" / name
        directory.mkdir(parents=True)
        if index is not None:
            (directory / "ifindex").write_text(f"{index}\n")
            (directory / "flags").write_text("0x1003\n")
            (directory / "mtu").write_text("1500\n" if index == 9 else "?")
        if index in (8, 9):
            (directory / "address").write_text("02:00:00:00:00:09\n")
    eight, nine = HostNetwork(tmp_path).interfaces()
    assert (eight.name, eight.mtu, nine.mtu) == ("eth8", None, 1500)
    assert (nine.up, nine.multicast, nine.loopback) == (True, True, False)
    assert nine.accepts_router_advertisements is None


def test_a_host_without_any_of_the_files_has_nothing_to_tell(tmp_path: Path) -> None:
    host = HostNetwork(tmp_path)
    assert (host.interfaces(), host.gateways(), host.ntp_servers()) == ((), (), ())
    assert host.name_servers() == NameServers()


def test_this_host_has_a_loopback_interface_with_its_address() -> None:
    (loopback,) = (i for i in HostNetwork().interfaces() if i.name == "lo")
    assert loopback.loopback
    assert "127.0.0.1" in {str(a.address) for a in loopback.addresses}
