"""GET /metrics: counters and gauges in the text format of Prometheus, version 0.0.4."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Literal, Protocol

from aiohttp import web

PATH = "/metrics"
FAILING = "nvr_metrics_sources_failing"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SLICE_S = 0.002
"""How long values are collected and written before other tasks run."""

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@cache
def _is_label(name: str) -> bool:  # names stand in the code: there are few
    return _LABEL.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Sample:
    """One value. Labels tell the samples of a metric apart; their values may be any text."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""
    """Behind the name of the metric: `_bucket`, `_sum` and `_count` of a histogram."""

    def __post_init__(self) -> None:
        for label in self.labels:
            if not _is_label(label):
                raise ValueError(f"{label!r} is no name of a label")


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and its samples. Names carry their unit; those of counters end in `_total`."""

    name: str
    help: str
    type: Literal["counter", "gauge", "histogram"]
    samples: Sequence[Sample]

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ValueError(f"{self.name!r} is no name of a metric")


class MetricSource(Protocol):
    """A part of the daemon that counts."""

    def metrics(self) -> Iterable[Metric]:
        """The present values. Must not block; where it is a generator, other tasks run between two metrics."""


def render(metrics: Iterable[Metric]) -> Iterator[str]:
    """The text format, family by family. Metrics of the same name from several sources become one family."""
    families: dict[str, tuple[Metric, list[Sample]]] = {}
    for metric in metrics:
        family = families.setdefault(metric.name, (metric, []))
        if family[0].type != metric.type:
            raise ValueError(f"{metric.name} is a {family[0].type} here and a {metric.type} there")
        family[1].extend(metric.samples)
    for metric, samples in families.values():
        lines = [f"# HELP {metric.name} {_escape(metric.help)}\n# TYPE {metric.name} {metric.type}\n"]
        name = metric.name
        lines += [f"{name}{s.suffix}{_labels(s.labels)} {_number(s.value)}\n" for s in samples]
        yield "".join(lines)


def metrics_route(sources: Sequence[MetricSource], observer: Callable[[web.Request], bool]) -> web.RouteDef:
    """For observers; 403 for others."""

    async def handle(request: web.Request) -> web.Response:
        if not observer(request):
            raise web.HTTPForbidden(text="metrics are for observers: see http.observers in the configuration\n")
        found: list[Metric] = []
        failing = 0
        slices = _Slices()
        for source in sources:
            try:
                for metric in source.metrics():
                    found.append(metric)
                    await slices.pause()
            except Exception:  # what the other parts count is needed most when one of them fails
                failing += 1
                log.exception("%s cannot give its metrics", type(source).__name__)
        found.append(Metric(FAILING, "Parts that could not give their metrics.", "gauge", [Sample(float(failing))]))
        pieces = []
        for family in render(found):
            pieces.append(family)
            await slices.pause()
        body = "".join(pieces).encode()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})

    return web.get(PATH, handle)


class _Slices:
    """With hundreds of cameras the metrics take tens of milliseconds: between two of them other tasks run."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + SLICE_S

    async def pause(self) -> None:
        if time.perf_counter() >= self._until:
            await asyncio.sleep(0)
            self._until = time.perf_counter() + SLICE_S


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{_quoted(value)}"' for name, value in labels.items()]) + "}"


@lru_cache(4096)  # the same tokens stand in dozens of metrics
def _quoted(text: str) -> str:
    return _escape(text).replace('"', '\\"')


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isfinite(value):
        return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
