"""Which formats the sound of a track has: the session description names each, with a payload type of its own.

Nothing in band tells of sound what rate, how many channels and which AudioSpecificConfig it has, so a receiver has to
be told beforehand. A run has one configuration; each is looked at once, a few at a time, since a track may have
thousands of runs and their files stand on a disk. Until all have been looked at some format may still be missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from nvr.media.unit import CodecConfiguration
from nvr.model.errors import LimitReached
from nvr.model.timeline import GapReason, Run, Timeline
from nvr.model.tokens import TrackKey
from nvr.replay.reader import FootageStore
from nvr.replay.readers import Readers
from nvr.replay.unit import Footage

log = logging.getLogger(__name__)

LOOKS: Final = 64
"""Runs that are looked at in one go: some 20 ms where the disk answers."""
TRACKS: Final = 4096
"""Tracks whose runs are remembered; of those beyond, the ones asked for longest ago are forgotten."""

Format = tuple[str, str | None]
"""rtpmap and fmtp."""


class SoundFormats:
    """What is known of the formats of all tracks. `look` and `found` run in the lane of the recording: of one track one
    call at a time."""

    def __init__(self) -> None:
        self._tracks: OrderedDict[TrackKey, dict[str, CodecConfiguration | None]] = OrderedDict()
        self._looking: set[TrackKey] = set()
        self._closed = False

    def look(self, key: TrackKey, timeline: Timeline, footage: Footage, maximum: int = LOOKS) -> bool:
        """Look at runs of which nothing is known yet, so many of them at most. True: nothing is left to look at.

        Blocking; raises StorageError. The ends come first, and the runs that are known to begin with another
        configuration.
        """
        known = self._tracks.setdefault(key, {})
        self._tracks.move_to_end(key)
        while len(self._tracks) > TRACKS:
            self._tracks.popitem(last=False)
        if len(known) > 2 * len(timeline.runs) + LOOKS:
            there = {run.run_id for run in timeline.runs}
            for run_id in [r for r in known if r not in there]:
                del known[run_id]
        for run in _by_promise(timeline):
            if run.run_id not in known:
                if maximum <= 0:
                    return False
                maximum -= 1
                ref = next(iter(footage.fragments(run.start_ns, run_id=run.run_id)), None)
                if ref is not None or run.end_reason is not None:  # a run that has just begun may have no fragment yet
                    known[run.run_id] = None if ref is None else ref.configuration
        return True

    def found(self, key: TrackKey, timeline: Timeline) -> tuple[CodecConfiguration, ...]:
        """One configuration of each format known of, in the order in which they first appear in the timeline."""
        known = self._tracks.get(key, {})
        formats: dict[Format, CodecConfiguration] = {}
        for run in timeline.runs:
            configuration = known.get(run.run_id)
            if configuration is not None:
                formats.setdefault((configuration.rtpmap(), configuration.fmtp()), configuration)
        return tuple(formats.values())

    def look_on(self, key: TrackKey, store: FootageStore, readers: Readers) -> None:
        """Look at all that is left, in turns with what is read for players. On the loop; returns at once."""
        if key not in self._looking and not self._closed:
            self._looking.add(key)
            self._step(key, store, readers)

    def _step(self, key: TrackKey, store: FootageStore, readers: Readers) -> None:
        timeline, footage = store.timeline(key), store.footage(key)

        def looked(result: asyncio.Future[bool]) -> None:
            if result.cancelled() or self._closed:
                return
            if (error := result.exception()) is not None:
                log.warning("not all formats of the sound in %s are known: %s", key, error)
            elif not result.result():
                self._step(key, store, readers)
                return
            self._looking.discard(key)

        try:
            looking = readers.run(key.recording, lambda: self.look(key, timeline, footage))
        except LimitReached as e:
            self._looking.discard(key)  # the next DESCRIBE looks on
            log.warning("not all formats of the sound in %s are known: %s", key, e)
            return
        looking.add_done_callback(looked)

    def close(self) -> None:
        """Nothing more is looked at."""
        self._closed = True


def _by_promise(timeline: Timeline) -> Iterator[Run]:
    runs = timeline.runs
    yield from (runs[0], runs[-1]) if runs else ()
    for before, run in pairwise(runs):
        if before.end_reason is GapReason.CONFIGURATION_CHANGED:
            yield run
    yield from runs
