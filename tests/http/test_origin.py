"""The address by which a client has reached the device."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.http.origin import origin

LOCAL = ("10.0.0.5", 8080)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("nvr.example", ("http://nvr.example", "nvr.example")),
        ("nvr.example:8443", ("http://nvr.example:8443", "nvr.example")),
        ("192.0.2.7:80", ("http://192.0.2.7:80", "192.0.2.7")),
        ("[2001:db8::1]:8080", ("http://[2001:db8::1]:8080", "[2001:db8::1]")),
    ],
)
def test_the_host_header_is_taken(header: str, expected: tuple[str, str]) -> None:
    assert origin("http", header, LOCAL) == expected


@pytest.mark.parametrize(
    "header", [None, "", "a b", "a/b", "u@host", "host:99999", "host:", '"><x>', "host\nX: y", "[x]"]
)
def test_what_is_no_host_is_replaced_by_the_local_address(header: str | None) -> None:
    assert origin("https", header, LOCAL) == ("https://10.0.0.5:8080", "10.0.0.5")


def test_a_local_ipv6_address_stands_in_brackets() -> None:
    assert origin("http", None, ("::1", 8080)) == ("http://[::1]:8080", "[::1]")


@given(st.text())
def test_no_header_brings_markup_or_spaces_into_an_address(header: str) -> None:
    prefix, host = origin("http", header, LOCAL)
    assert prefix.startswith("http://")
    assert not set(prefix + host) & set("<>\"'& \t\r\n/@#?") - set("/")
