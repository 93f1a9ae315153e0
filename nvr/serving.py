"""`nvr serve` as a process: signals, the deadline of its end, restarts."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from nvr import __version__
from nvr.app import Daemon
from nvr.config import Settings
from nvr.data_directory import DataDirectory
from nvr.first_start import before_first_start

log = logging.getLogger(__name__)

ONE_SIGNAL_S: Final = 1.0
"""Signals to end that come so soon behind the first are the same one: who ends a process and its group sends two."""


def serve(data: Path, settings: Settings, ready: Callable[[str], None]) -> bool:
    """`nvr serve`: until SIGTERM or SIGINT, or until a client asks for a restart, which is what True says.

    A second signal, a second or more behind the first, ends it at once, as does a part that does not end: what is on
    the disk then is what kill -9 leaves.
    `ready` gets one line when the daemon is. Raises NvrError.
    """
    if not (data / "config.db").exists():
        before_first_start(settings)
    with DataDirectory(data) as directory:
        return asyncio.run(_serve(directory, settings, ready))


async def _serve(directory: DataDirectory, settings: Settings, ready: Callable[[str], None]) -> bool:
    stop, told_to_end = asyncio.Event(), asyncio.Event()

    told_s = 0.0

    def end(number: signal.Signals) -> None:
        nonlocal told_s
        now_s = asyncio.get_running_loop().time()
        if told_to_end.is_set() and now_s - told_s > ONE_SIGNAL_S:
            _leave("told a second time to end: leaving at once")
        if not told_to_end.is_set():
            told_s = now_s
            log.info("told to end by %s", number.name)
        told_to_end.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    daemon = Daemon(directory, settings)

    def started() -> None:
        spare_the_collector()
        ready(f"nvr {__version__} is ready: {daemon.addresses}")

    if not await daemon.run(stop, started):
        _leave("not every part has ended as it should: leaving all the same")
    log.info("the recorder has ended in order")
    # Who ends a daemon that is about to restart wants it to end.
    return daemon.restart_wanted and not told_to_end.is_set()


def _leave(why: str) -> NoReturn:
    """Ends the process with status 1 without waiting for threads, which may hang in a disk that does not answer."""
    log.error("%s", why)
    logging.shutdown()
    os._exit(1)


def spare_the_collector() -> None:
    """Takes what is there after the start out of the garbage collector's sight.

    A full collection holds the loop while it looks at every object: 60 to 130 ms for the hundred thousand of the
    libraries' modules and tables, none of which ever becomes garbage; 1 ms or less for what a running recorder makes.
    """
    gc.unfreeze()  # what a daemon before this one left in this process
    gc.collect()
    gc.freeze()
