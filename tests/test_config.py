from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from nvr.config import Endpoint, from_table, parse_duration, parse_size
from nvr.model.errors import FormatError, OperatorError


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("250ms", 250_000_000), ("10s", 10**10), ("1.5h", 5_400 * 10**9), ("30d", 2_592_000 * 10**9), ("0s", 0)],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "1 week", "1e3s", "١s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(FormatError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "size"), [("4096", 4096), ("64MiB", 64 << 20), ("1.5 GB", 1_500_000_000), ("0", 0)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "host", "port", "canonical"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080, "127.0.0.1:8080"),
        ("[::1]:554", "::1", 554, "[::1]:554"),
        (":8080", "", 8080, ":8080"),
        ("recorder.example:0", "recorder.example", 0, "recorder.example:0"),
    ],
)
def test_endpoints(text: str, host: str, port: int, canonical: str) -> None:
    endpoint = Endpoint.parse(text)
    assert endpoint == Endpoint(host, port)
    assert str(endpoint) == canonical


@pytest.mark.parametrize("text", ["", "8080", "host:", "host:65536", "::1:80", "host:http"])
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(FormatError, match="is not HOST:PORT"):
        Endpoint.parse(text)


def test_loopback_is_told_from_the_rest() -> None:
    assert Endpoint("127.0.0.9", 1).loopback
    assert Endpoint("::1", 1).loopback
    assert not Endpoint("", 1).loopback
    assert not Endpoint("192.0.2.1", 1).loopback


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    wait_ns: int = 1
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()
    queue_bytes: int = 0
    where: Path | None = None
    ratio: float = 0.5
    colour: Colour = Colour.RED
    count: int = 3

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError("count must be 1 or more")


def test_a_table_becomes_typed_settings() -> None:
    table = {
        "inner": {"wait": "2s", "names": ["a", "b"]},
        "several": [{"wait": 3}],
        "queue": "1KiB",
        "where": "/x",
        "ratio": 2,
    }
    assert from_table(Outer, table) == Outer(
        Inner(2 * 10**9, ("a", "b")), (Inner(3 * 10**9),), 1024, Path("/x"), 2.0, Colour.RED
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"inner": {"wiat": "2s"}}, r"inner\.wiat: there is no such setting \(known here: names, wait\)"),
        ({"inner": {"wait": "soon"}}, r"inner\.wait: 'soon' is not a duration"),
        ({"several": [{"names": [1]}]}, r"several\[0\]\.names: 1 is not of type str"),
        ({"count": True}, "count: True is not of type int"),
        ({"count": 0}, "count must be 1 or more"),
        ({"colour": "blue"}, "colour: 'blue' is none of 'red'"),
        ({"inner": 1}, "inner: a table is expected"),
    ],
)
def test_a_wrong_setting_is_named(table: dict[str, object], message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        from_table(Outer, table)
