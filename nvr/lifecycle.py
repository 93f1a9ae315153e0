"""How the daemon's parts end: in the reverse order of their start, each within a deadline, and all within one."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

WHOLE_S: Final = 25.0
"""Deadline of the whole stop; systemd's unit allows 30 s."""
STEP_S: Final = 8.0
"""Deadline of one step, so that none eats the time of those behind it. The volumes are the last to end and the ones
that matter: they have what is left."""
LEAST_S: Final = 1.0
"""What a step has when the whole deadline is over."""


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    stop: Callable[[], Awaitable[None] | None]
    deadline_s: float


class Parts:
    """What has been started. `started` is called right behind each start, so that a start that fails half-way undoes
    what came before it."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []

    def started(self, name: str, stop: Callable[[], Awaitable[None] | None], deadline_s: float = STEP_S) -> None:
        """`stop` ends the part; it may be a plain function that does not block for long."""
        self._steps.append(_Step(name, stop, deadline_s))

    async def enter(self, name: str, context: AbstractAsyncContextManager[T]) -> T:
        """Starts a part that is a context manager."""
        value = await context.__aenter__()

        async def leave() -> None:
            await context.__aexit__(None, None, None)

        self.started(name, leave)
        return value

    async def stop(self) -> bool:
        """Whether every part has ended as it should. A step that is late or fails is logged, and the next is taken."""
        end = time.monotonic() + WHOLE_S
        in_order = True
        while self._steps:
            step = self._steps.pop()
            limit_s = max(LEAST_S, min(step.deadline_s, end - time.monotonic()))
            try:
                async with asyncio.timeout(limit_s):
                    done = step.stop()
                    if inspect.isawaitable(done):
                        await done
            except TimeoutError:
                log.error("stop: %s does not end within %.0f s and is left", step.name, limit_s)
                in_order = False
            except Exception:
                log.exception("stop: %s failed", step.name)
                in_order = False
        return in_order
