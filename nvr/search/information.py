"""What clause 6.3 tells about a recording, and the document that filters are applied to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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


def document(found: RecordingInformation) -> Node:
    """tt:RecordingInformation with its elements in the order of the schema."""
    source = found.source
    return _element(
        "RecordingInformation",
        Node("RecordingToken", found.token),
        _element(
            "Source",
            Node("SourceId", source.source_id),
            Node("Name", source.name),
            Node("Location", source.location),
            Node("Description", source.description),
            Node("Address", source.address),
        ),
        *_time("EarliestRecording", found.earliest_ns),
        *_time("LatestRecording", found.latest_ns),
        Node("Content", found.content),
        *(
            _element(
                "Track",
                Node("TrackToken", track.token),
                Node("TrackType", track.track_type),
                Node("Description", track.description),
                *_time("DataFrom", track.data_from_ns),
                *_time("DataTo", track.data_to_ns),
            )
            for track in found.tracks
        ),
        Node("RecordingStatus", found.status),
    )


def _element(name: str, *children: Node) -> Node:
    return Node(name, children=children)


def _time(name: str, at_ns: UtcNs | None) -> Iterable[Node]:
    return () if at_ns is None else (Node(name, format_iso(at_ns)),)
