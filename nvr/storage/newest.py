"""The codec configurations of the newest files of tracks: what must be read of files at a start."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Final

from nvr.media.unit import CodecConfiguration
from nvr.model.errors import StorageError
from nvr.model.time import NS
from nvr.model.tokens import TrackKey
from nvr.storage.footage import FootageReader
from nvr.storage.rows import FootageIndex

log = logging.getLogger(__name__)

_HEADS_AT_ONCE: Final = 8
"""A disk that turns sorts them."""


class NewestConfigurations:
    """Blocking; safe on any thread."""

    def __init__(self, index: FootageIndex, reader: FootageReader, hang_ns: int) -> None:
        """`hang_ns`: a disk that has given nothing for so long is not waited for."""
        self._index = index
        self._reader = reader
        self._hang_ns = hang_ns

    def of(self, keys: Sequence[TrackKey]) -> dict[TrackKey, CodecConfiguration | None]:
        """None for what cannot be read; what a disk that hangs has not given is not in it."""
        pool = ThreadPoolExecutor(_HEADS_AT_ONCE, "heads")
        reading = {pool.submit(self._read, key): key for key in keys}
        found: dict[TrackKey, CodecConfiguration | None] = {}
        waiting = set(reading)
        while waiting:
            done, waiting = wait(waiting, self._hang_ns / NS, FIRST_COMPLETED)
            if not done:
                log.error("the encodings of %d tracks are not known: a disk hangs", len(waiting))
                break
            found.update((reading[future], future.result()) for future in done)
        pool.shutdown(wait=False, cancel_futures=True)
        return found

    def _read(self, key: TrackKey) -> CodecConfiguration | None:
        try:
            newest = self._index.newest(key)
            return self._reader.configuration(newest) if newest is not None else None
        except StorageError as e:
            log.error("the encoding of %s is not known: %s", key, e)
            return None
