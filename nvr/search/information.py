"""What clause 6.3 tells about a recording, and the document that filters are applied to. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import TypeAlias

from nvr.model.job import RecordingJob
from nvr.model.recording import Recording, RecordingSourceInformation
from nvr.model.search import RecordingInformation, RecordingStatus, TrackInformation
from nvr.model.timeline import Extent
from nvr.model.tokens import TrackToken
from nvr.model.xpath import Layout, Text

SourceOf: TypeAlias = Callable[[Recording, Iterable[RecordingJob]], RecordingSourceInformation]
"""What is told of the source of a recording into which these jobs record."""


def configured_source(recording: Recording, jobs: Iterable[RecordingJob]) -> RecordingSourceInformation:
    """What the client has configured, and nothing else."""
    return recording.configuration.source


class Described:
    """A recording as a search comes upon it, and the document that its filter looks at: tt:RecordingInformation with
    its elements in the order of the schema. Of a thousand recordings most are told by one value or two, so everything
    is found out when it is asked for.
    """

    __slots__ = ("_is_recording", "_source_of", "_values", "layout", "recording", "tracks")

    def __init__(
        self,
        recording: Recording,
        extents: Mapping[TrackToken, Extent],
        is_recording: Callable[[], bool],
        source_of: Callable[[], RecordingSourceInformation] | None = None,
    ) -> None:
        """`extents` are those of the tracks with data; the others are left out (6.3.3). `is_recording`: whether a job
        is recording into it now. Without `source_of` the source is as configured.
        """
        self.recording = recording
        self.tracks = [(t, extents[t.token]) for t in recording.tracks if t.token in extents]
        self._is_recording = is_recording
        self._source_of = source_of
        self.layout, self._values = _form(len(self.tracks))

    @property
    def source(self) -> RecordingSourceInformation:
        return self.recording.configuration.source if self._source_of is None else self._source_of()

    @property
    def status(self) -> RecordingStatus:
        """A run that has not ended counts as well: when a job stops, what it has received is still on its way to the
        disk.
        """
        if any(extent.recording for _, extent in self.tracks) or self._is_recording():
            return RecordingStatus.RECORDING
        return RecordingStatus.STOPPED if self.tracks else RecordingStatus.INITIATED

    def text(self, place: int) -> Text:
        value = self._values[place]
        return "" if value is None else value(self)

    def attributes(self, place: int) -> Mapping[str, str]:
        """No element of it has any."""
        return {}

    def information(self) -> RecordingInformation:
        tracks = []
        for track, extent in self.tracks:
            of = track.configuration
            tracks.append(TrackInformation(track.token, of.track_type, of.description, extent.earliest, extent.latest))
        return RecordingInformation(
            self.recording.token,
            self.source,
            min((t.data_from_ns for t in tracks), default=None),
            max((t.data_to_ns for t in tracks), default=None),
            self.recording.configuration.content,
            tuple(tracks),
            self.status,
        )


_Value: TypeAlias = Callable[[Described], Text]
_Values: TypeAlias = Sequence[tuple[str, _Value]]

_SOURCE: _Values = (
    ("SourceId", lambda d: d.source.source_id),
    ("Name", lambda d: d.source.name),
    ("Location", lambda d: d.source.location),
    ("Description", lambda d: d.source.description),
    ("Address", lambda d: d.source.address),
)
_TIMES: _Values = (
    ("EarliestRecording", lambda d: min(extent.earliest for _, extent in d.tracks)),
    ("LatestRecording", lambda d: max(extent.latest for _, extent in d.tracks)),
)


def _track(n: int) -> _Values:
    return (
        ("TrackToken", lambda d: d.tracks[n][0].token),
        ("TrackType", lambda d: d.tracks[n][0].configuration.track_type),
        ("Description", lambda d: d.tracks[n][0].configuration.description),
        ("DataFrom", lambda d: d.tracks[n][1].earliest),
        ("DataTo", lambda d: d.tracks[n][1].latest),
    )


@lru_cache(maxsize=64)
def _form(tracks: int) -> tuple[Layout, list[_Value | None]]:
    """The elements of a recording with so many tracks that hold data, and for each of them where its text is from, None
    for those that hold elements.
    """
    layout = Layout()
    values: list[_Value | None] = []

    def leaf(name: str, value: _Value) -> int:
        values.append(value)
        return layout.close(layout.open(name), [])

    def element(name: str, add: Callable[[], list[int]]) -> int:
        values.append(None)
        return layout.close(layout.open(name), add())

    def leaves(of: _Values) -> list[int]:
        return [leaf(name, value) for name, value in of]

    def inside() -> list[int]:
        return [
            leaf("RecordingToken", lambda d: d.recording.token),
            element("Source", partial(leaves, _SOURCE)),
            *leaves(_TIMES if tracks else ()),
            leaf("Content", lambda d: d.recording.configuration.content),
            *(element("Track", partial(leaves, _track(n))) for n in range(tracks)),
            leaf("RecordingStatus", lambda d: d.status),
        ]

    element("", lambda: [element("RecordingInformation", inside)])
    return layout, values
