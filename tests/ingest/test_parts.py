"""Endpoints, back-off and the drain's timetable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nvr.ingest import buffers
from nvr.ingest.clock import ClockSettings
from nvr.ingest.drain import Drain
from nvr.ingest.endpoint import Endpoint
from nvr.ingest.pipeline import PipelineSettings
from nvr.ingest.settings import IngestSettings
from nvr.ingest.source import BackOff
from nvr.model.errors import SourceError
from nvr.model.time import NS
from tests.support.ingest import MS


@pytest.mark.parametrize(
    ("uri", "sent", "host", "port", "user", "password"),
    [
        ("rtsp://h/s", "rtsp://h/s", "h", 554, None, ""),
        ("RTSP://h:8554/s?a=1&b=2", "rtsp://h:8554/s?a=1&b=2", "h", 8554, None, ""),
        ("rtsps://h/s", "rtsps://h/s", "h", 322, None, ""),
        ("rtsp://u:p@h", "rtsp://h", "h", 554, "u", "p"),
        ("rtsp://u%40d:p%2Fq%3A@h/s", "rtsp://h/s", "h", 554, "u@d", "p/q:"),
        ("rtsp://u:p@w@h/s", "rtsp://h/s", "h", 554, "u", "p@w"),
        ("rtsp://u:@[fe80::1]:99/s", "rtsp://[fe80::1]:99/s", "fe80::1", 99, "u", ""),
    ],
)
def test_a_media_uri_is_taken_apart(uri: str, sent: str, host: str, port: int, user: str | None, password: str) -> None:
    e = Endpoint.parse(uri)
    assert (e.uri, e.host, e.port, e.username, e.password) == (sent, host, port, user, password)
    assert "p@w" not in repr(e)


@pytest.mark.parametrize("uri", ["http://h/s", "rtsp:///s", "rtsp://u:secret@h:port/", "rtsp://h/a b", "rtsp://[h/s"])
def test_a_bad_media_uri_is_refused_without_quoting_it(uri: str) -> None:
    with pytest.raises(SourceError) as refused:
        Endpoint.parse(uri)
    assert "secret" not in str(refused.value)


def test_redirects_take_credentials_to_the_same_host_only() -> None:
    start = Endpoint.parse("rtsp://u:p@one/s")
    assert start.redirected("rtsp://one:99/t").username == "u"
    assert start.redirected("rtsp://two/t").username is None
    assert start.redirected("rtsp://v:q@two/t").username == "v"
    with pytest.raises(SourceError, match="refused"):
        Endpoint.parse("rtsps://u:p@one/s").redirected("rtsp://one/s")


def test_a_location_without_a_host_is_one_of_the_same_server() -> None:
    start = Endpoint.parse("rtsp://u:p@one:99/s?x=1")
    assert start.redirected("/t?y=2").uri == "rtsp://one:99/t?y=2"
    assert start.redirected("/t").username == "u"
    with pytest.raises(SourceError, match="scheme"):
        start.redirected("//two/t")


def test_a_proxy_is_asked_for_the_same_and_does_not_get_the_password() -> None:
    proxy = Endpoint.parse("rtsp://u:p@one/s").redirected("rtsp://two:8554/", proxy=True)
    assert (proxy.host, proxy.port, proxy.uri) == ("two", 8554, "rtsp://one/s")
    assert (proxy.username, proxy.password) == (None, "")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (IngestSettings, "drain_interval_ns"),
        (IngestSettings, "live_interval_ns"),
        (IngestSettings, "back_off_ns"),
        (ClockSettings, "horizon_ns"),
        (ClockSettings, "slew_ppb"),
        (PipelineSettings, "span_ns"),
    ],
)
def test_settings_with_which_nothing_could_run_are_refused(kind: Callable[..., object], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        kind(**{name: 0})
    with pytest.raises(ValueError, match=r"below|above"):
        kind(**{name: -1})


def test_pauses_double_up_to_the_maximum_and_begin_anew_after_a_good_connection() -> None:
    back_off = BackOff(2 * NS, 60 * NS, lambda low, high: 1.0)
    assert [back_off.pause_ns() // NS for _ in range(8)] == [2, 4, 8, 16, 32, 60, 60, 60]
    back_off.reset()
    assert back_off.pause_ns() == 2 * NS


def test_pauses_are_spread_by_a_quarter() -> None:
    assert BackOff(4 * NS, 60 * NS, lambda low, high: low).pause_ns() == 3 * NS
    assert BackOff(4 * NS, 60 * NS, lambda low, high: high).pause_ns() == 5 * NS
    at_most = BackOff(50 * NS, 60 * NS, lambda low, high: high)
    assert [at_most.pause_ns() for _ in range(3)] == [60 * NS] * 3, "the maximum is one"
    forever = BackOff(2 * NS, 60 * NS, lambda low, high: 1.0)
    assert max(forever.pause_ns() for _ in range(10_000)) == 60 * NS


class Visited:
    """A drained source with a script of answers."""

    def __init__(self, drain: Drain, interval_ms: int, more: int = 0) -> None:
        self.interval_ns = interval_ms * MS
        self.visits = 0
        self.more = more
        drain.add(self)

    def visit(self, buffer: memoryview) -> bool:
        self.visits += 1
        self.more -= 1
        return self.more >= 0


class Clock:
    now = 1000 * MS

    def __call__(self) -> int:
        return self.now


async def test_sources_are_visited_at_multiples_of_their_interval() -> None:
    clock = Clock()
    drain = Drain(clock)
    slow, fast = Visited(drain, 250), Visited(drain, 50)
    drain.run_slice()
    assert (slow.visits, fast.visits) == (1, 1)
    for clock.now in range(1010 * MS, 2001 * MS, 10 * MS):
        drain.run_slice()
    assert (slow.visits, fast.visits) == (5, 21)
    drain.remove(slow)
    drain.remove(fast)


async def test_one_fast_camera_does_not_starve_the_others() -> None:
    drain = Drain(Clock())
    order: list[str] = []
    greedy, modest = Visited(drain, 250, more=3), Visited(drain, 250)
    for name, source in (("greedy", greedy), ("modest", modest)):
        visit = source.visit
        source.visit = lambda b, n=name, v=visit: (order.append(n), v(b))[1]  # type: ignore[method-assign,misc]
    drain.run_slice()
    assert order == ["greedy", "modest", "greedy", "greedy", "greedy"]
    drain.remove(greedy)
    drain.remove(modest)


async def test_a_removed_source_is_not_visited_even_within_a_slice() -> None:
    drain = Drain(Clock())
    first, second = Visited(drain, 250), Visited(drain, 250)
    first.visit = lambda b: drain.remove(second) or False  # type: ignore[method-assign]
    drain.run_slice()
    assert second.visits == 0
    drain.remove(first)


async def test_a_slice_ends_when_its_time_is_over_and_nothing_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 10**12, 3 * MS))
    monkeypatch.setattr("nvr.ingest.drain.perf_counter_ns", lambda: next(ticks))
    drain = Drain(Clock())
    sources = [Visited(drain, 250) for _ in range(5)]
    assert drain.run_slice() is True
    assert sum(s.visits for s in sources) == 2
    while drain.run_slice():
        pass
    assert [s.visits for s in sources] == [1] * 5
    for s in sources:
        drain.remove(s)


async def test_a_shorter_interval_takes_effect_at_once() -> None:
    clock = Clock()
    drain = Drain(clock)
    source = Visited(drain, 250)
    drain.run_slice()
    clock.now += 60 * MS
    drain.run_slice()
    assert source.visits == 1
    source.interval_ns = 20 * MS
    drain.hurry(source)
    clock.now += 20 * MS
    drain.run_slice()
    assert source.visits == 2
    drain.remove(source)


def test_the_receive_buffer_is_set_only_where_the_kernel_grants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limit = tmp_path / "rmem_max"
    monkeypatch.setattr(buffers, "_RMEM_MAX", limit)
    monkeypatch.setattr(buffers, "_may_force", lambda wanted: False)
    limit.write_text("4194304\n")
    assert buffers.usable_receive_buffer(1 << 20, 4 << 20) == 1 << 20
    assert caplog.text == ""
    limit.write_text("2097152\n")
    assert buffers.usable_receive_buffer(1 << 20, 4 << 20) == 1 << 20
    assert "sysctl -w net.core.rmem_max=4194304" in caplog.text
    limit.write_text("212992\n")
    assert buffers.usable_receive_buffer(1 << 20, 1 << 20) is None
    assert "sysctl -w net.core.rmem_max=1048576" in caplog.text
    limit.unlink()
    assert buffers.usable_receive_buffer(1 << 20, 4 << 20) is None


def test_no_advice_where_the_daemon_may_go_beyond_the_limit_for_udp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limit = tmp_path / "rmem_max"
    limit.write_text("2097152\n")
    monkeypatch.setattr(buffers, "_RMEM_MAX", limit)
    monkeypatch.setattr(buffers, "_may_force", lambda wanted: True)
    assert buffers.usable_receive_buffer(1 << 20, 4 << 20) == 1 << 20
    assert caplog.text == ""
