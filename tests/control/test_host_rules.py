"""What is sound in a request to change the host."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.control.host_rules import (
    HostRefused,
    NetworkProtocol,
    check_interface_address,
    check_ipv4,
    check_ipv6,
    check_protocols,
    check_time,
    is_host_name,
    is_posix_time_zone,
)


@pytest.mark.parametrize(
    "zone",
    [
        "UTC0",
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "<+0330>-3:30",
        "<-03>3<-02>,M3.5.0/-2,M10.5.0/-1",
        "EST5EDT",
        "NZST-12NZDT,M9.5.0,M4.1.0/3",
        "AAA+1:30:15BBB,J60/2,J300/2",
        "XXX3YYY,59,299/25:00:00",
    ],
)
def test_zones_as_posix_writes_them(zone: str) -> None:
    assert is_posix_time_zone(zone)


@pytest.mark.parametrize("zone", ["", "UTC", "Europe/Berlin", ":CET", "CET-1CEST,M13.1.0,M1.1.0", "C1", "CET-1 CEST"])
def test_what_is_no_posix_zone(zone: str) -> None:
    assert not is_posix_time_zone(zone)


@pytest.mark.parametrize("name", ["a", "recorder-7.example.org", "0", "a" * 63])
def test_host_names(name: str) -> None:
    assert is_host_name(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "a..b", ".", "a_b", "ä", "a" * 64, ".".join(["a" * 63] * 4)])
def test_what_is_no_host_name(name: str) -> None:
    assert not is_host_name(name)


@given(st.text(max_size=40), st.integers(-5, 300))
def test_every_text_is_an_address_or_is_refused(text: str, length: int) -> None:
    for check in (check_ipv4, check_ipv6):
        with contextlib.suppress(HostRefused):
            assert str(check(text)) == str(ipaddress.ip_address(text))
    with pytest.raises(HostRefused):
        check_interface_address(text, length if not 0 < length <= 32 else 0, 4)


def test_a_moment_that_exists_is_sound_in_every_zone() -> None:
    check_time(ntp=False, zone=None, date_time=(2028, 2, 29, 23, 59, 59), ntp_servers=())
    check_time(ntp=True, zone="UTC0", date_time=None, ntp_servers=("a",))
    for moment in ((2027, 2, 29, 0, 0, 0), (0, 1, 1, 0, 0, 0), (2027, 1, 1, 0, 0, 60), (2**31 - 1, 1, 1, 0, 0, 0)):
        with pytest.raises(HostRefused):
            check_time(ntp=False, zone=None, date_time=moment, ntp_servers=())


def test_a_protocol_may_keep_or_leave_its_own_port() -> None:
    served = (NetworkProtocol("HTTP", True, (80,)), NetworkProtocol("HTTPS", True, (443,)))
    check_protocols([NetworkProtocol("HTTPS", True, (443, 8443))], served)
    check_protocols([NetworkProtocol("HTTP", False, (80,)), NetworkProtocol("HTTPS", True, (80,))], served)
    with pytest.raises(HostRefused):
        check_protocols([NetworkProtocol("HTTPS", True, (8443, 80))], served)
