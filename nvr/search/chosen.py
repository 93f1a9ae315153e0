"""The recordings of one search, with when their tracks have data, as both are now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TypeVar

from nvr.model import xpath
from nvr.model.coverage import Coverage, CoverageOfTrack
from nvr.model.timeline import Timeline
from nvr.model.tokens import RecordingToken, TrackKey, TrackToken
from nvr.search.scope import Catalogue
from nvr.search.session import SLICE_NS

T = TypeVar("T")


class Coverages:
    """When tracks have data, for all searches. Belongs to the event loop."""

    def __init__(self, timeline: Callable[[TrackKey], Timeline]) -> None:
        self._timeline = timeline
        self._tracks: dict[TrackKey, CoverageOfTrack] = {}

    def of(self, key: TrackKey) -> Coverage:
        track = self._tracks.get(key)
        if track is None:
            track = self._tracks[key] = CoverageOfTrack()
        return track.of(self._timeline(key))

    def keep(self, recordings: set[RecordingToken]) -> None:
        """Forgets the recordings that are not configured any more."""
        for key in [key for key in self._tracks if key.recording not in recordings]:
            del self._tracks[key]


class ChosenRecordings:
    """`tokens` are the scope, narrowed by the filter at the first refresh. `coverages` has those that still exist, each
    with its tracks; a new dictionary takes its place at each refresh, so another thread may read one.
    """

    def __init__(
        self,
        tokens: Sequence[RecordingToken],
        expression: xpath.Expression | None,
        catalogue: Catalogue,
        coverages: Coverages,
        monotonic: Callable[[], int],
    ) -> None:
        self.tokens: Sequence[RecordingToken] = tokens
        self.coverages: dict[RecordingToken, tuple[tuple[TrackToken, Coverage], ...]] = {}
        self._expression = expression
        self._catalogue = catalogue
        self._coverages = coverages
        self._monotonic = monotonic

    async def refresh(self) -> None:
        """In slices that leave the loop free. Raises BadFilter where the filter takes more than it may."""
        if self._expression is not None:
            chosen = self._catalogue.matching(self.tokens, self._expression)
            self.tokens = [i.token async for i in self._sliced(chosen) if i is not None]
            self._expression = None
        self.coverages = {
            token: tracks async for token, tracks in self._sliced(map(self._tracks, self.tokens)) if tracks is not None
        }

    def _tracks(self, token: RecordingToken) -> tuple[RecordingToken, tuple[tuple[TrackToken, Coverage], ...] | None]:
        recording = self._catalogue.recording(token)
        if recording is None:
            return token, None
        return token, tuple((t.token, self._coverages.of(recording.key(t))) for t in recording.tracks)

    async def _sliced(self, items: Iterator[T]) -> AsyncIterator[T]:
        until_ns = self._monotonic() + SLICE_NS
        for item in items:
            yield item
            if self._monotonic() >= until_ns:
                await asyncio.sleep(0)
                until_ns = self._monotonic() + SLICE_NS
