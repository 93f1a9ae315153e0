"""GET /metrics: counters and gauges in the text format of Prometheus, version 0.0.4."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from aiohttp import web

PATH = "/metrics"
FAILING = "nvr_metrics_sources_failing"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Sample:
    """One value. Labels tell the samples of a metric apart; their values may be any text."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for label in self.labels:
            if _LABEL.fullmatch(label) is None:
                raise ValueError(f"{label!r} is no name of a label")


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and its samples. Names carry their unit; those of counters end in `_total`."""

    name: str
    help: str
    type: Literal["counter", "gauge"]
    samples: Sequence[Sample]

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ValueError(f"{self.name!r} is no name of a metric")


class MetricSource(Protocol):
    """A part of the daemon that counts."""

    def metrics(self) -> Iterable[Metric]:
        """The present values. Must not block."""


def render(metrics: Iterable[Metric]) -> str:
    """The text format. Metrics of the same name from several sources become one family."""
    families: dict[str, tuple[Metric, list[Sample]]] = {}
    for metric in metrics:
        family = families.setdefault(metric.name, (metric, []))
        if family[0].type != metric.type:
            raise ValueError(f"{metric.name} is a {family[0].type} here and a {metric.type} there")
        family[1].extend(metric.samples)
    lines: list[str] = []
    for metric, samples in families.values():
        lines.append(f"# HELP {metric.name} {_escape(metric.help)}")
        lines.append(f"# TYPE {metric.name} {metric.type}")
        lines.extend(f"{metric.name}{_labels(sample.labels)} {_number(sample.value)}" for sample in samples)
    return "\n".join(lines) + "\n" if lines else ""


def metrics_route(sources: Sequence[MetricSource]) -> web.RouteDef:
    async def handle(request: web.Request) -> web.Response:
        found: list[Metric] = []
        failing = 0
        for source in sources:
            try:
                found += source.metrics()
            except Exception:  # what the other parts count is needed most when one of them fails
                failing += 1
                log.exception("%s cannot give its metrics", type(source).__name__)
        found.append(Metric(FAILING, "Parts that could not give their metrics.", "gauge", [Sample(float(failing))]))
        text = render(found)
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})

    return web.get(PATH, handle)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value, quotes=True)}"' for name, value in labels.items()) + "}"


def _escape(text: str, *, quotes: bool = False) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if quotes else escaped


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)
