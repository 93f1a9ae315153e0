"""The recordings of one search, with when their tracks have data, as both are now."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nvr.model import xpath
from nvr.model.coverage import Coverage, CoverageOfTrack
from nvr.model.recording import Recording
from nvr.model.search import LAST_NS
from nvr.model.time import UtcNs
from nvr.model.timeline import Timeline
from nvr.model.tokens import RecordingToken, TrackKey, TrackToken
from nvr.search.edge import LiveEdge
from nvr.search.scope import Catalogue
from nvr.search.shares import Share


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

    def keep(self, recordings: Sequence[Recording]) -> None:
        """Forgets tracks that are not configured any more, as soon as more are known than are configured."""
        if len(self._tracks) > sum(len(recording.tracks) for recording in recordings):
            configured = {recording.key(track) for recording in recordings for track in recording.tracks}
            self._tracks = {key: track for key, track in self._tracks.items() if key in configured}


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
        share: Share,
    ) -> None:
        self.tokens: Sequence[RecordingToken] = tokens
        self.coverages: dict[RecordingToken, tuple[tuple[TrackToken, Coverage], ...]] = {}
        self._expression = expression
        self._catalogue = catalogue
        self._coverages = coverages
        self._share = share

    async def refresh(self) -> None:
        """In slices that leave the loop free. Raises BadFilter where the filter takes more than it may."""
        if self._expression is not None:
            chosen = self._catalogue.matching(self.tokens, self._expression)
            self.tokens = [i.token for i in await self._share.all_of(chosen) if i is not None]
            self._expression = None
        found = await self._share.all_of(map(self._tracks, self.tokens))
        self.coverages = {token: tracks for token, tracks in found if tracks is not None}

    def _tracks(self, token: RecordingToken) -> tuple[RecordingToken, tuple[tuple[TrackToken, Coverage], ...] | None]:
        recording = self._catalogue.recording(token)
        if recording is None:
            return token, None
        return token, tuple((t.token, self._coverages.of(recording.key(t))) for t in recording.tracks)

    async def newest(self) -> UtcNs:
        """The end of the newest data of all of them; `-LAST_NS` where there are none."""
        ends = await self._share.all_of(map(self._catalogue.newest, self.tokens))
        return max(ends, default=-LAST_NS)

    async def whole_until(self, edge: LiveEdge, now_ns: UtcNs) -> UtcNs:
        """Up to here everything that is recorded of their metadata tracks has come to the disk."""

        def of_recording(token: RecordingToken) -> UtcNs:
            keys = self._catalogue.metadata_tracks(token)
            return min((edge.whole_until(key, now_ns) for key in keys), default=now_ns)

        return min(await self._share.all_of(map(of_recording, self.tokens)), default=now_ns)

    def let_go(self) -> None:
        """Until the next refresh."""
        self.coverages = {}
