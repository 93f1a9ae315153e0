"""What `nvr serve` does behind the stop of the daemon: end, or start again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from nvr import serving

ENDS, RESTARTS = False, True


class ToldDaemon:
    """Stops when it is told to; `story` says what happens to it."""

    story: Callable[[ToldDaemon], None]
    addresses = ""

    def __init__(self, *_: object) -> None:
        self.restart_wanted = False
        self.stop = asyncio.Event()

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> bool:
        self.stop = stop
        type(self).story(self)
        async with asyncio.timeout(10):
            await stop.wait()
        await asyncio.sleep(0)  # signals that came in between are handled
        return True

    def restart(self) -> None:
        self.restart_wanted = True
        self.stop.set()


def kill(_: ToldDaemon) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def restart(daemon: ToldDaemon) -> None:
    daemon.restart()


def restart_and_kill(daemon: ToldDaemon) -> None:
    kill(daemon)
    daemon.restart_wanted = True  # the stop comes with the signal, in the middle of the one for the restart


@pytest.mark.parametrize(("story", "outcome"), [(kill, ENDS), (restart, RESTARTS), (restart_and_kill, ENDS)])
async def test_a_daemon_starts_again_when_a_client_asked_for_it_and_nobody_ended_it(
    story: Callable[[ToldDaemon], None], outcome: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: Any = None
    monkeypatch.setattr(ToldDaemon, "story", staticmethod(story), raising=False)
    monkeypatch.setattr(serving, "Daemon", ToldDaemon)
    assert await serving._serve(nothing, nothing, lambda line: None) is outcome


@pytest.mark.parametrize("second_signal", [False, True])
async def test_a_daemon_that_does_not_end_as_it_should_leaves_all_the_same(
    second_signal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Left(Exception):
        pass

    class StuckDaemon(ToldDaemon):
        async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> bool:
            kill(self)
            await stop.wait()
            if second_signal:
                kill(self)
                await asyncio.sleep(60)
            return False

    left: list[int] = []

    def leave(status: int) -> None:
        left.append(status)
        raise Left

    nothing: Any = None
    monkeypatch.setattr(serving, "Daemon", StuckDaemon)
    monkeypatch.setattr(serving.os, "_exit", leave)
    monkeypatch.setattr(serving, "ONE_SIGNAL_S", -1.0)
    if second_signal:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await serving._serve(nothing, nothing, lambda line: None)
    else:
        with pytest.raises(Left):
            await serving._serve(nothing, nothing, lambda line: None)
    assert left == [1]


async def test_two_signals_at_once_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class EndedTwice(ToldDaemon):
        async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> bool:
            for _ in range(2):
                stop.clear()
                kill(self)
                async with asyncio.timeout(10):
                    await stop.wait()
            return True

    def leave(why: str) -> None:
        raise AssertionError(why)

    nothing: Any = None
    monkeypatch.setattr(serving, "Daemon", EndedTwice)
    monkeypatch.setattr(serving, "ONE_SIGNAL_S", 3600.0)
    monkeypatch.setattr(serving, "_leave", leave)
    assert await serving._serve(nothing, nothing, lambda line: None) is ENDS
