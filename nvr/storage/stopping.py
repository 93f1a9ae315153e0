"""The end of all volumes' threads, within one deadline."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from nvr.model.time import NS
from nvr.storage.later import LaterRecovery
from nvr.storage.writer_thread import WriterThread

log = logging.getLogger(__name__)


def stop_all(
    threads: Sequence[WriterThread], recoveries: Sequence[LaterRecovery], timeout_ns: int, now: Callable[[], int]
) -> None:
    """Blocking. All are told before the first is waited for: a disk that hangs costs the others nothing, and is left
    when the time is over."""
    for recovery in recoveries:
        recovery.begin_stop()
    for thread in threads:
        thread.begin_stop()
    end = now() + timeout_ns
    for thread in threads:
        if not thread.wait(max(end - now(), 0)):
            log.error(
                "volume %s has not stopped within %g s, %d bytes wait to be written: its disk hangs. "
                "The next start recovers it",
                thread.writer.volume.root,
                timeout_ns / NS,
                thread.queued_bytes,
            )
    for recovery in recoveries:
        recovery.wait(max(end - now(), 0) / NS)
