"""Metadata tracks in memory: what FindMetadata asks of the index of footage and of files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from nvr.media.codecs.metadata import MetadataConfiguration
from nvr.media.unit import Sample
from nvr.model import xpath
from nvr.model.recording import Recording
from nvr.model.search import FoundMetadata, SearchInterval, SearchLimits, SearchScope
from nvr.model.time import NS, UtcNs
from nvr.model.tokens import RecordingToken, SearchToken, TrackKey
from nvr.search.sessions import SearchSessions
from nvr.storage.rows import FileState, FragmentRef, TrackFileRow
from tests.support.metadata import a_document, an_object
from tests.support.search import NOW, Searched

MATCHING, OTHER = a_document(an_object()), a_document()
WANTED = xpath.parse("boolean(//Object)")
CONFIGURATION = MetadataConfiguration()


@dataclass
class File:
    """Fragments of documents: the time of each, and whether it matches."""

    row: TrackFileRow
    fragments: list[list[tuple[UtcNs, bool]]]


class FootageOfTrack:
    def __init__(self, files: list[File]) -> None:
        self._files = {f.row.file_id: f for f in files}
        self.read_fragments = 0

    def of_file(self, row: TrackFileRow) -> Iterator[FragmentRef]:
        file = self._files[row.file_id]
        for n, documents in enumerate(file.fragments):
            yield FragmentRef(
                file_id=row.file_id,
                offset=n,
                length=1,
                start_ns=documents[0][0],
                end_ns=documents[-1][0] + 1,
                clean_point=True,
                samples=len(documents),
                run_id=row.run_id,
                volume_id=row.volume_id,
                path=row.path,
                configuration=CONFIGURATION,
                first_of_run=n == 0,
            )

    def read(self, ref: FragmentRef) -> list[Sample]:
        documents = self._files[ref.file_id].fragments[ref.offset]
        return [Sample(time_ns, MATCHING if matches else OTHER, True) for time_ns, matches in documents]


class Documented(Searched):
    """By the letter of `nvr.search.documents.Files` and of the footage."""

    def __init__(self, *recordings: Recording) -> None:
        super().__init__(*recordings)
        self.of_tracks: dict[TrackKey, list[File]] = {}
        self.now_ns = NOW
        self.searches = SearchSessions(
            self, self, archive=self.archive, files=self, monotonic=lambda: self.clock_ns, now=lambda: self.now_ns
        )

    def add_file(self, key: TrackKey, fragments: list[list[tuple[UtcNs, bool]]], *, growing: bool = False) -> File:
        """Files of a track are added in ascending order."""
        files = self.of_tracks.setdefault(key, [])
        start_ns, end_ns = fragments[0][0][0], fragments[-1][-1][0] + 1
        row = TrackFileRow(
            file_id=f"{len(files):032x}",
            volume_id="v",
            recording=key.recording,
            track=key.track,
            run_id="r",
            run_place=len(files),
            path="p",
            start_ns=start_ns,
            end_ns=start_ns if growing else end_ns,
            state=FileState.OPEN if growing else FileState.CLOSED,
            encoding="VND.ONVIF.METADATA",
        )
        files.append(File(row, fragments))
        self.recorded(*key, (0, NOW), growing=True)
        return files[-1]

    def close(self, key: TrackKey) -> None:
        """The last file of the track has come to its end."""
        file = self.of_tracks[key][-1]
        file.row = replace(file.row, state=FileState.CLOSED, end_ns=file.fragments[-1][-1][0] + 1)

    def configuration(self, key: TrackKey) -> MetadataConfiguration | None:  # type: ignore[override]
        return CONFIGURATION if key in self.of_tracks else None

    def footage(self, key: TrackKey) -> FootageOfTrack:  # type: ignore[override]
        return FootageOfTrack(self.of_tracks[key])

    def _rows(self, key: TrackKey) -> list[TrackFileRow]:
        return sorted((f.row for f in self.of_tracks.get(key, ())), key=lambda r: (r.start_ns, r.file_id))

    def files(
        self,
        key: TrackKey,
        from_ns: UtcNs,
        until_ns: UtcNs | None = None,
        *,
        after: tuple[UtcNs, str] | None = None,
        limit: int = 64,
    ) -> list[TrackFileRow]:
        rows = [r for r in self._rows(key) if until_ns is None or r.start_ns < until_ns]
        rows = [r for r in rows if r.state is FileState.OPEN or r.end_ns > from_ns or r.start_ns >= from_ns]
        return [r for r in rows if after is None or (r.start_ns, r.file_id) > after][:limit]

    def files_before(self, key: TrackKey, before: tuple[UtcNs, str], *, limit: int = 64) -> list[TrackFileRow]:
        return [r for r in reversed(self._rows(key)) if (r.start_ns, r.file_id) < before][:limit]

    async def find(self, start_ns: int, end_ns: int | None, max_matches: int | None = None) -> SearchToken:
        interval, limits = SearchInterval(start_ns, end_ns), SearchLimits(max_matches, 60 * NS)
        return await self.searches.find_metadata(interval, SearchScope(), WANTED, limits)

    def matching(self, start_ns: int, end_ns: int | None) -> list[tuple[UtcNs, RecordingToken]]:
        """What a search finds, by looking at everything: a track has one result for one time."""
        interval = SearchInterval(start_ns, end_ns)
        found = {
            (time_ns, key.recording)
            for key, files in self.of_tracks.items()
            for file in files
            for documents in file.fragments
            for time_ns, matches in documents
            if matches and interval.holds(time_ns)
        }
        return sorted(found, reverse=interval.backward)


def told(found: list[FoundMetadata]) -> list[tuple[UtcNs, RecordingToken]]:
    return [(f.time_ns, f.recording) for f in found]
