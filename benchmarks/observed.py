"""What a running daemon tells of itself, for the benchmarks."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import dataclass

_BUCKET = re.compile(r'nvr_loop_delay_seconds_bucket\{le="([^"]+)"\} (\d+)')


def _read(http: str) -> str:
    with urllib.request.urlopen(f"{http}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def metrics(http: str) -> dict[str, float]:
    """The daemon's counters, summed over their labels."""
    sums: dict[str, float] = {}
    for line in _read(http).splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            name = name.partition("{")[0]
            sums[name] = sums.get(name, 0.0) + float(value)
    return sums


@dataclass(frozen=True, slots=True)
class LoopDelays:
    """How late the daemon's loop has woken its probe, ten times a second: for each upper bound in seconds, how many
    were not later. Two readings tell what was between them; the daemon is asked no oftener, for that costs it CPU."""

    within: dict[float, int]

    @classmethod
    def read(cls, http: str) -> LoopDelays:
        return cls({float(bound): int(count) for bound, count in _BUCKET.findall(_read(http))})

    def since(self, before: LoopDelays) -> LoopDelays:
        return LoopDelays({bound: count - before.within[bound] for bound, count in self.within.items()})

    def below(self, share: float) -> float:
        """The bound, in seconds, that this share of the delays did not pass."""
        probes = max(self.within.values())
        return next(bound for bound, count in sorted(self.within.items()) if count >= share * probes)

    def __str__(self) -> str:
        return f"p99 <= {self.below(0.99) * 1e3:g} ms, worst <= {self.below(1) * 1e3:g} ms"
