"""On which interfaces, and with which addresses."""

from __future__ import annotations

import ipaddress

import pytest

from nvr.discovery.links import DiscoverySettings, Link, Served, is_wanted, missing, spoken_on, xaddrs


def a_link(name: str, *addresses: str, loopback: bool = False) -> Link:
    return Link(name, loopback, tuple(map(ipaddress.ip_interface, addresses)))


LO = a_link("lo", "127.0.0.1/8", "::1/128", loopback=True)
ETH0 = a_link("eth0", "192.0.2.7/24", "2001:db8::7/64", "fe80::7/64")
ETH1 = a_link("eth1", "198.51.100.7/25")
V6 = a_link("tun6", "2001:db8:6::7/64")
ALL = (LO, ETH0, ETH1, V6)
PATH = "/onvif/device_service"


def served(host: str, scheme: str = "http", port: int = 8080) -> list[Served]:
    return [Served(scheme, host, port)]


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("", ["eth0", "eth1"]),
        ("0.0.0.0", ["eth0", "eth1"]),
        ("192.0.2.7", ["eth0"]),
        ("::", ["eth0"]),
        ("127.0.0.1", []),
        ("::1", []),
        ("localhost", []),
        ("recorder.example", ["eth0", "eth1"]),
    ],
)
def test_without_a_choice_discovery_speaks_where_http_is_reached_beyond_loopback(host: str, names: list[str]) -> None:
    settings = DiscoverySettings()
    assert [link.name for link in spoken_on(settings, served(host), ALL)] == names
    assert is_wanted(settings, served(host)) == bool(names)


def test_chosen_interfaces_are_spoken_on_also_when_they_are_loopback() -> None:
    chosen = DiscoverySettings(interfaces=("lo", "tun6"))
    assert spoken_on(chosen, served("127.0.0.1"), ALL) == (LO,), "an interface without IPv4 has nothing to speak by"
    partly = DiscoverySettings(interfaces=("wlan0", "eth1", "ppp0"))
    assert spoken_on(partly, served(""), ALL) == (ETH1,)
    assert missing(partly, ALL) == ("ppp0", "wlan0")
    off = DiscoverySettings(enabled=False, interfaces=("lo",))
    assert spoken_on(off, served(""), ALL) == ()
    assert not is_wanted(off, served(""))


@pytest.mark.requirement("CO-44")
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("", ["192.0.2.7", "[2001:db8::7]", "198.51.100.7"]),
        ("0.0.0.0", ["192.0.2.7", "198.51.100.7"]),
        ("::", ["[2001:db8::7]"]),
        ("198.51.100.7", ["198.51.100.7"]),
        ("203.0.113.1", []),
        ("recorder.example", ["recorder.example"]),
    ],
)
def test_one_address_per_protocol_and_address_that_clients_can_reach(host: str, expected: list[str]) -> None:
    assert list(xaddrs(served(host), [ETH0, ETH1])) == [f"http://{h}:8080{PATH}" for h in expected]


def test_both_protocols_are_told() -> None:
    both = [*served("192.0.2.7"), *served("192.0.2.7", "https", 8443)]
    assert xaddrs(both, [ETH0]) == (f"http://192.0.2.7:8080{PATH}", f"https://192.0.2.7:8443{PATH}")


def test_a_link_reaches_its_own_networks() -> None:
    assert ETH0.reaches("192.0.2.200")
    assert ETH0.reaches("2001:db8::1")
    assert not ETH0.reaches("198.51.100.7")
    assert not ETH0.reaches("no address")


@pytest.mark.parametrize(
    "wrong", [{"port": 0}, {"port": 65536}, {"maximum_delay_ns": -1}, {"maximum_delay_ns": 10**11}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="between"):
        DiscoverySettings(**wrong)  # type: ignore[arg-type]
