"""What clause 6.3 tells about a recording, and the document that filters are applied to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nvr.model import xpath
from nvr.model.recording import Recording
from nvr.model.search import RecordingInformation, RecordingStatus, TrackInformation
from nvr.model.time import UtcNs, format_iso
from nvr.model.timeline import Extent
from nvr.model.tokens import TrackToken
from nvr.model.xpath import Node


def information(recording: Recording, extents: Mapping[TrackToken, Extent], is_recording: bool) -> RecordingInformation:
    """`extents` are those of the tracks with data; the others are left out (6.3.3). `is_recording`: a job is recording
    into it now.

    A run that has not ended counts as well: when a job stops, what it has received is still on its way to the disk.
    """
    tracks = []
    for track in recording.tracks:
        extent = extents.get(track.token)
        if extent is not None:
            of = track.configuration
            tracks.append(TrackInformation(track.token, of.track_type, of.description, extent.earliest, extent.latest))
    if is_recording or any(extent.recording for extent in extents.values()):
        status = RecordingStatus.RECORDING
    else:
        status = RecordingStatus.STOPPED if tracks else RecordingStatus.INITIATED
    return RecordingInformation(
        recording.token,
        recording.configuration.source,
        min((t.data_from_ns for t in tracks), default=None),
        max((t.data_to_ns for t in tracks), default=None),
        recording.configuration.content,
        tuple(tracks),
        status,
    )


CONTAINERS = frozenset(("RecordingInformation", "Source", "Track"))
"""Elements that hold elements."""


def needed(expression: xpath.Expression) -> frozenset[str] | None:
    """Names of the elements that a filter looks at; None where it may look at all of them."""
    match expression:
        case xpath.Path(steps):
            if any(step.name in ("*", ".") for step in steps):
                return None
            names = frozenset(step.name for step in steps)
            return _joined((names, *(needed(p) for step in steps for p in step.predicates)))
        case xpath.Comparison(path) | xpath.Contains(path):
            return None if path.steps[-1].name in CONTAINERS else needed(path)  # its value is all the text inside it
        case xpath.Not(inner):
            return needed(inner)
        case xpath.And(terms) | xpath.Or(terms):
            return _joined(map(needed, terms))


def _joined(found: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    names: frozenset[str] = frozenset()
    for more in found:
        if more is None:
            return None
        names |= more
    return names


def document(found: RecordingInformation, names: frozenset[str] | None = None) -> Node:
    """tt:RecordingInformation with its elements in the order of the schema; of those that hold a value only the ones
    that are named, or all.
    """

    def leaves(*pairs: tuple[str, str | UtcNs | None]) -> Iterator[Node]:
        for name, value in pairs:
            if value is not None and (names is None or name in names):
                yield Node(name, format_iso(value) if isinstance(value, int) else value)

    source = found.source
    return _element(
        "RecordingInformation",
        *leaves(("RecordingToken", found.token)),
        _element(
            "Source",
            *leaves(
                ("SourceId", source.source_id),
                ("Name", source.name),
                ("Location", source.location),
                ("Description", source.description),
                ("Address", source.address),
            ),
        ),
        *leaves(
            ("EarliestRecording", found.earliest_ns), ("LatestRecording", found.latest_ns), ("Content", found.content)
        ),
        *(
            _element(
                "Track",
                *leaves(
                    ("TrackToken", track.token),
                    ("TrackType", track.track_type),
                    ("Description", track.description),
                    ("DataFrom", track.data_from_ns),
                    ("DataTo", track.data_to_ns),
                ),
            )
            for track in found.tracks
        ),
        *leaves(("RecordingStatus", found.status)),
    )


def _element(name: str, *children: Node) -> Node:
    return Node(name, children=children)
