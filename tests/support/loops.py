"""An event loop whose clock stands still, and jumps to the next timer when nothing else is left to do."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Waits for nothing but for what threads and sockets still owe where no timer runs."""
        found = super().select(0 if timeout is not None else None)
        if not found and timeout is not None and timeout > 0:
            self.now_s += timeout
        return found


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Not for what works on threads: the clock would run away from it."""

    def __init__(self) -> None:
        self._time = _Selector()
        super().__init__(self._time)

    def time(self) -> float:
        return self._time.now_s

    def time_ns(self) -> int:
        return round(self._time.now_s * 1_000_000_000)


def run_simulated(main: Coroutine[Any, Any, T]) -> T:
    """As asyncio.run, in simulated time."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)


def now_ns() -> int:
    """The time of the loop that runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    return loop.time_ns()
