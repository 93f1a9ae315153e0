"""Recordings, tracks and recording jobs: between the model and the wire (IEC 62676-2-32 clauses 5.3 and 5.19)."""

from __future__ import annotations

from nvr.control.checks import MAX_CONDITIONS
from nvr.events.conditions import parse_filter
from nvr.model.errors import BadConfiguration, BadMode, FormatError, Refused
from nvr.model.job import (
    RECEIVER_TYPE,
    EventCondition,
    JobState,
    RecordingEventFilter,
    RecordingJob,
    RecordingJobConfiguration,
    RecordingJobMode,
    RecordingJobSource,
    RecordingJobTrack,
    SourceReference,
    SourceState,
)
from nvr.model.recording import (
    Recording,
    RecordingConfiguration,
    RecordingSourceInformation,
    Track,
    TrackConfiguration,
)
from nvr.model.tokens import RecordingToken, TrackToken
from nvr.soap import types
from nvr.soap.extensions import extended, extensions_of


def decode_recording_configuration(wire: types.RecordingConfiguration) -> RecordingConfiguration:
    source = wire.Source
    return RecordingConfiguration(
        RecordingSourceInformation(source.SourceId, source.Name, source.Location, source.Description, source.Address),
        wire.Content,
        wire.MaximumRetentionTime,
        extensions_of(wire),
    )


def encode_source_information(source: RecordingSourceInformation) -> types.RecordingSourceInformation:
    return types.RecordingSourceInformation(
        SourceId=source.source_id,
        Name=source.name,
        Location=source.location,
        Description=source.description,
        Address=source.address,
    )


def encode_recording_configuration(configuration: RecordingConfiguration) -> types.RecordingConfiguration:
    wire = types.RecordingConfiguration(
        Source=encode_source_information(configuration.source),
        Content=configuration.content,
        MaximumRetentionTime=configuration.maximum_retention_ns,
    )
    return extended(wire, configuration.extensions)


def encode_recording(recording: Recording) -> types.GetRecordingsResponseItem:
    return types.GetRecordingsResponseItem(
        RecordingToken=recording.token,
        Configuration=encode_recording_configuration(recording.configuration),
        Tracks=types.GetTracksResponseList(Track=[_encode_track(t) for t in recording.tracks]),
    )


def _encode_track(track: Track) -> types.GetTracksResponseItem:
    return types.GetTracksResponseItem(
        TrackToken=track.token, Configuration=encode_track_configuration(track.configuration)
    )


def decode_track_configuration(wire: types.TrackConfiguration) -> TrackConfiguration:
    return TrackConfiguration(wire.TrackType, wire.Description, extensions_of(wire))


def encode_track_configuration(configuration: TrackConfiguration) -> types.TrackConfiguration:
    wire = types.TrackConfiguration(TrackType=configuration.track_type, Description=configuration.description)
    return extended(wire, configuration.extensions)


def decode_job_configuration(wire: types.RecordingJobConfiguration) -> RecordingJobConfiguration:
    """Raises BadConfiguration for a mode that is none (5.3.3)."""
    try:
        mode = RecordingJobMode(wire.Mode)
    except ValueError as e:
        raise BadConfiguration(f"Mode {wire.Mode!r} is neither Idle nor Active") from e
    return RecordingJobConfiguration(
        RecordingToken(wire.RecordingToken),
        mode,
        wire.Priority,
        tuple(_decode_source(s) for s in wire.Source),
        wire.ScheduleToken,
        None if wire.EventFilter is None else _decode_event_filter(wire.EventFilter),
        extensions=extensions_of(wire),
    )


def _decode_event_filter(wire: types.RecordingEventFilter) -> RecordingEventFilter:
    """Raises BadConfiguration for a topic or content filter that is none."""
    if len(wire.Filter) > MAX_CONDITIONS:  # they are parsed here, which takes its time
        raise BadConfiguration(f"EventFilter/Filter: a job has 1 to {MAX_CONDITIONS} conditions")
    conditions = (EventCondition(given.Topic, given.Source, extensions_of(given)) for given in wire.Filter)
    wanted = RecordingEventFilter(tuple(conditions), wire.Before, wire.After)
    try:
        parse_filter(wanted)
    except (Refused, FormatError) as e:
        raise BadConfiguration(f"EventFilter/Filter: {e}") from e
    return wanted


def _decode_source(wire: types.RecordingJobSource) -> RecordingJobSource:
    """A SourceToken without Token, or with an empty one, counts as not given: clients send it to carry @Type (5.3.3).

    AutoCreateReceiver has no effect beside a token.
    """
    reference = None
    if wire.SourceToken is not None and wire.SourceToken.Token:
        reference = SourceReference(wire.SourceToken.Token, wire.SourceToken.Type or RECEIVER_TYPE)
    return RecordingJobSource(
        reference,
        tuple(RecordingJobTrack(t.SourceTag, TrackToken(t.Destination), extensions_of(t)) for t in wire.Tracks),
        auto_create_receiver=reference is None and wire.AutoCreateReceiver is True,
        implied_tracks=not wire.Tracks,
        extensions=extensions_of(wire),
    )


def decode_mode(text: str) -> RecordingJobMode:
    """Raises BadMode, the fault of SetRecordingJobMode (5.18)."""
    try:
        return RecordingJobMode(text)
    except ValueError as e:
        raise BadMode(f"Mode {text!r} is neither Idle nor Active") from e


def encode_job_configuration(configuration: RecordingJobConfiguration) -> types.RecordingJobConfiguration:
    """AutoCreateReceiver is never answered: a stored source has the token of its receiver instead (5.3.3)."""
    wire = types.RecordingJobConfiguration(
        RecordingToken=configuration.recording,
        Mode=configuration.mode,
        Priority=configuration.priority,
        Source=[_encode_source(s) for s in configuration.sources],
        EventFilter=_encode_event_filter(configuration.event_filter),
        ScheduleToken=configuration.schedule_token,
    )
    return extended(wire, configuration.extensions)


def _encode_event_filter(event_filter: RecordingEventFilter | None) -> types.RecordingEventFilter | None:
    if event_filter is None:
        return None
    conditions = (
        extended(types.EventFilterCondition(Topic=c.topic, Source=c.source), c.extensions)
        for c in event_filter.conditions
    )
    return types.RecordingEventFilter(
        Filter=tuple(conditions), Before=event_filter.before_ns, After=event_filter.after_ns
    )


def _encode_source(source: RecordingJobSource) -> types.RecordingJobSource:
    assert source.source is not None, "a stored source has a token"
    wire = types.RecordingJobSource(
        SourceToken=types.RequestedSource(Token=source.source.token, Type=source.source.type),
        Tracks=[
            extended(types.RecordingJobTrack(SourceTag=t.source_tag, Destination=t.destination), t.extensions)
            for t in source.tracks
        ],
    )
    return extended(wire, source.extensions)


def encode_job(job: RecordingJob) -> types.GetRecordingJobsResponseItem:
    return types.GetRecordingJobsResponseItem(
        JobToken=job.token, JobConfiguration=encode_job_configuration(job.configuration)
    )


def encode_state(state: JobState) -> types.RecordingJobStateInformation:
    return types.RecordingJobStateInformation(
        RecordingToken=state.recording,
        State=state.state,
        Sources=[_encode_source_state(s) for s in state.sources],
    )


def _encode_source_state(source: SourceState) -> types.RecordingJobStateSource:
    tracks = [
        types.RecordingJobStateTrack(
            SourceTag=track.source_tag, Destination=track.destination, Error=track.error, State=track.state
        )
        for track in source.tracks
    ]
    return types.RecordingJobStateSource(
        SourceToken=types.SourceReference(Token=source.source.token, Type=source.source.type),
        State=source.state,
        Tracks=types.RecordingJobStateTracks(Track=tracks),
    )
