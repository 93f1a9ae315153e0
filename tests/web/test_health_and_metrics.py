"""/healthz and /metrics over HTTP."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from nvr.web import metrics as metrics_module
from nvr.web.metrics import Metric, Sample, render
from tests.support.soap_http import a_device, envelope


@dataclass
class Room:
    name: str
    found: Sequence[str] = ()
    warned: Sequence[str] = ()
    noted: Sequence[str] = ()

    def problems(self) -> Sequence[str]:
        return self.found

    def warnings(self) -> Sequence[str]:
        return self.warned

    def notes(self) -> Sequence[str]:
        return self.noted


@dataclass
class Counting:
    given: Sequence[Metric]

    def metrics(self) -> Iterable[Metric]:
        return self.given


async def test_health_is_200_while_every_part_is_ready() -> None:
    async with (
        a_device(parts=[Room("storage"), Room("rtsp")]) as device,
        device.session.get(device.base + "/healthz") as response,
    ):
        assert response.status == 200
        assert await response.json() == {"status": "ok"}


async def test_health_is_503_with_the_problems_by_part() -> None:
    parts = [Room("storage", ["volume a is full"]), Room("rtsp")]
    async with a_device(parts=parts) as device, device.session.get(device.base + "/healthz") as response:
        assert response.status == 503
        assert await response.json() == {"status": "failing", "problems": {"storage": ["volume a is full"]}}


async def test_health_is_200_and_degraded_with_the_warnings_by_part() -> None:
    parts = [Room("storage", warned=["volume b is missing"]), Room("rtsp")]
    async with a_device(parts=parts) as device, device.session.get(device.base + "/healthz") as response:
        assert response.status == 200
        assert await response.json() == {"status": "degraded", "warnings": {"storage": ["volume b is missing"]}}


async def test_health_is_ok_with_what_the_parts_note() -> None:
    parts = [Room("storage", noted=["volume a is being checked"]), Room("rtsp")]
    async with a_device(parts=parts) as device, device.session.get(device.base + "/healthz") as response:
        assert response.status == 200
        assert await response.json() == {"status": "ok", "notes": {"storage": ["volume a is being checked"]}}


async def test_metrics_are_text_of_prometheus_with_those_of_http_and_soap() -> None:
    source = Counting([Metric("nvr_frames_total", "Frames\nkept.", "counter", [Sample(3, {"track": 'a"b\\c'})])])
    async with a_device(sources=[source]) as device:
        await device.post(envelope("<tds:GetSystemDateAndTime/>"))
        async with device.session.get(device.base + "/metrics") as response:
            assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            lines = (await response.text()).splitlines()
    assert r"# HELP nvr_frames_total Frames\nkept." in lines
    assert "# TYPE nvr_frames_total counter" in lines
    assert r'nvr_frames_total{track="a\"b\\c"} 3' in lines
    assert "nvr_http_connections 1" in lines
    expected = (
        'nvr_soap_requests_total{service="/onvif/device_service",operation="GetSystemDateAndTime",outcome="ok"} 1'
    )
    assert expected in lines


class Broken:
    name = "broken"

    def problems(self) -> Sequence[str]:
        raise KeyError("secret")

    def warnings(self) -> Sequence[str]:
        return ()

    def notes(self) -> Sequence[str]:
        return ()

    def metrics(self) -> Iterable[Metric]:
        raise StopIteration


async def test_a_part_that_fails_to_report_is_told_and_logged_and_hides_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Counting([Metric("nvr_frames_total", "Frames.", "counter", [Sample(3)])])
    async with a_device(parts=[Broken(), Room("rtsp")], sources=[Broken(), source]) as device:
        async with device.session.get(device.base + "/healthz") as response:
            assert response.status == 503
            text = await response.text()
        async with device.session.get(device.base + "/metrics") as response:
            lines = (await response.text()).splitlines()
    assert "broken" in text
    assert "secret" not in text
    assert "nvr_frames_total 3" in lines
    assert "nvr_metrics_sources_failing 1" in lines
    assert len([r for r in caplog.records if r.exc_info]) == 2


async def test_many_metrics_leave_the_loop_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice of no length: other tasks run between each two metrics, and between each two families of the text."""
    monkeypatch.setattr(metrics_module, "SLICE_S", 0.0)
    turns = 0

    def counted() -> Iterator[Metric]:
        for i in range(50):
            yield Metric(f"m{i}", "M.", "gauge", [Sample(turns)])

    async def turning() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    class Source:
        def metrics(self) -> Iterator[Metric]:
            return counted()

    async with a_device(sources=[Source()]) as device:
        other = asyncio.create_task(turning())
        async with device.session.get(device.base + "/metrics") as response:
            text = await response.text()
        other.cancel()
    seen = [int(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith("m")]
    assert seen == sorted(set(seen))
    assert len(seen) == 50


def test_two_sources_of_one_metric_become_one_family() -> None:
    (text,) = render(
        [Metric("a_total", "A.", "counter", [Sample(1, {"x": "1"})]), Metric("a_total", "A.", "counter", [Sample(2)])]
    )
    assert text.count("# TYPE a_total") == 1
    with pytest.raises(ValueError, match="counter here and a gauge there"):
        list(render([Metric("a", "A.", "counter", []), Metric("a", "A.", "gauge", [])]))


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (0.5, "0.5"), (math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN")]
)
def test_numbers_are_written_as_the_format_spells_them(value: float, text: str) -> None:
    (family,) = render([Metric("a", "A.", "gauge", [Sample(value)])])
    assert family.splitlines()[-1] == f"a {text}"


def test_names_that_the_format_does_not_know_are_refused() -> None:
    with pytest.raises(ValueError, match="name of a metric"):
        Metric("a-b", "A.", "gauge", [])
    with pytest.raises(ValueError, match="name of a label"):
        Sample(1, {"a-b": "x"})
