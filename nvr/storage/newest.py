"""The codec configurations of the newest files of tracks: what must be read of files at a start."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from nvr.media.unit import CodecConfiguration
from nvr.model.errors import StorageError
from nvr.model.time import NS
from nvr.model.tokens import TrackKey
from nvr.storage.bounded import beside
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
        left = deque(keys)
        answers: SimpleQueue[tuple[TrackKey, CodecConfiguration | None]] = SimpleQueue()

        def read() -> None:
            with suppress(IndexError):  # nothing is left
                while True:
                    key = left.popleft()
                    answers.put((key, self._read(key)))

        for _ in keys[:_HEADS_AT_ONCE]:
            beside("heads", read)
        found: dict[TrackKey, CodecConfiguration | None] = {}
        for number in range(len(keys)):
            try:
                key, configuration = answers.get(timeout=self._hang_ns / NS)
            except Empty:
                left.clear()
                log.error("the encodings of %d tracks are not known: a disk hangs", len(keys) - number)
                break
            found[key] = configuration
        return found

    def _read(self, key: TrackKey) -> CodecConfiguration | None:
        try:
            newest = self._index.newest(key)
            return self._reader.configuration(newest) if newest is not None else None
        except StorageError as e:
            log.error("the encoding of %s is not known: %s", key, e)
            return None
        except Exception:
            log.exception("the encoding of %s is not known", key)
            return None
