"""The recording control service (IEC 62676-2-32 clause 5) on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nvr.model.errors import BadConfiguration, BadMode
from nvr.model.job import (
    RECEIVER_TYPE,
    JobState,
    RecordingJob,
    RecordingJobConfiguration,
    RecordingJobMode,
    RecordingJobSource,
    RecordingJobTrack,
    SourceReference,
    SourceState,
)
from nvr.model.recording import Recording, RecordingConfiguration, RecordingSourceInformation, Track
from nvr.model.tokens import JobToken, RecordingToken, TrackToken
from nvr.soap import types
from nvr.soap.model import (
    Boolean,
    Float,
    Int,
    ReferenceToken,
    String,
    StringAttrList,
    Struct,
    attribute,
    list_of,
    many,
    required,
)
from nvr.soap.names import TRC
from nvr.soap.service import AccessClass, Call, Result, Service, operation

ENCODINGS = ("H264", "H265", "AAC", "G711")
"""What can be recorded, in names of tt:VideoEncoding and tt:AudioEncoding, otherwise IANA's (5.24)."""


class Control(Protocol):
    """What this service needs of nvr.control; errors are those of nvr.model.errors."""

    def recordings(self) -> Sequence[Recording]: ...
    async def create_recording(self, configuration: RecordingConfiguration) -> Recording: ...
    async def delete_recording(self, token: RecordingToken) -> None: ...
    def jobs(self) -> Sequence[RecordingJob]: ...
    async def create_job(self, configuration: RecordingJobConfiguration) -> RecordingJob: ...
    async def delete_job(self, token: JobToken) -> None: ...
    async def set_job_mode(self, token: JobToken, mode: RecordingJobMode) -> None: ...
    def job_state(self, token: JobToken) -> JobState: ...


class Capabilities(Struct):
    __namespace__ = TRC
    __open__ = True

    DynamicRecordings = attribute(Boolean)
    DynamicTracks = attribute(Boolean)
    Encoding = attribute(list_of(String))
    MaxRate = attribute(Float)
    MaxTotalRate = attribute(Float)
    MaxRecordings = attribute(Float)
    MaxRecordingJobs = attribute(Int)
    Options = attribute(Boolean)
    MetadataRecording = attribute(Boolean)
    SupportedExportFileFormats = attribute(StringAttrList)


class RecordingService(Service):
    namespace = TRC
    path = "/onvif/recording_service"
    contract = "recording.wsdl"
    not_implemented = frozenset(
        {
            "SetRecordingConfiguration",
            "GetRecordingConfiguration",
            "GetRecordingOptions",
            "CreateTrack",
            "DeleteTrack",
            "GetTrackConfiguration",
            "SetTrackConfiguration",
            "SetRecordingJobConfiguration",
            "GetRecordingJobConfiguration",
            "ExportRecordedData",
            "StopExportRecordedData",
            "GetExportRecordedDataState",
        }
    )

    def __init__(self, control: Control, maximum_recordings: int, maximum_jobs: int) -> None:
        self._control = control
        self._maximum_recordings = maximum_recordings
        self._maximum_jobs = maximum_jobs

    def capabilities(self) -> Capabilities:
        """Rates are not limited here, so MaxRate and MaxTotalRate are absent; export is not offered yet."""
        return Capabilities(
            DynamicRecordings=True,
            DynamicTracks=False,
            Encoding=ENCODINGS,
            MaxRecordings=float(self._maximum_recordings),
            MaxRecordingJobs=self._maximum_jobs,
            Options=False,
            MetadataRecording=True,
        )

    @operation("GetServiceCapabilities", AccessClass.PRE_AUTH, response={"Capabilities": required(Capabilities)})
    def get_service_capabilities(self, _: Call) -> Result:
        return {"Capabilities": self.capabilities()}

    @operation(
        "CreateRecording",
        AccessClass.ACTUATE,
        request={"RecordingConfiguration": required(types.RecordingConfiguration)},
        response={"RecordingToken": required(ReferenceToken)},
        bad_value=BadConfiguration,
    )
    async def create_recording(self, call: Call) -> Result:
        created = await self._control.create_recording(decode_configuration(call.request.RecordingConfiguration))
        return {"RecordingToken": created.token}

    @operation("DeleteRecording", AccessClass.ACTUATE, request={"RecordingToken": required(ReferenceToken)})
    async def delete_recording(self, call: Call) -> None:
        await self._control.delete_recording(RecordingToken(call.request.RecordingToken))

    @operation(
        "GetRecordings", AccessClass.READ_MEDIA, response={"RecordingItem": many(types.GetRecordingsResponseItem)}
    )
    def get_recordings(self, _: Call) -> Result:
        return {"RecordingItem": (encode_recording(r) for r in tuple(self._control.recordings()))}

    @operation(
        "CreateRecordingJob",
        AccessClass.ACTUATE,
        request={"JobConfiguration": required(types.RecordingJobConfiguration)},
        response={
            "JobToken": required(ReferenceToken),
            "JobConfiguration": required(types.RecordingJobConfiguration),
        },
        bad_value=BadConfiguration,
    )
    async def create_recording_job(self, call: Call) -> Result:
        job = await self._control.create_job(decode_job(call.request.JobConfiguration))
        return {"JobToken": job.token, "JobConfiguration": encode_job_configuration(job.configuration)}

    @operation("DeleteRecordingJob", AccessClass.ACTUATE, request={"JobToken": required(ReferenceToken)})
    async def delete_recording_job(self, call: Call) -> None:
        await self._control.delete_job(JobToken(call.request.JobToken))

    @operation(
        "GetRecordingJobs",
        AccessClass.READ_MEDIA,
        response={"JobItem": many(types.GetRecordingJobsResponseItem)},
    )
    def get_recording_jobs(self, _: Call) -> Result:
        return {"JobItem": (encode_job(j) for j in tuple(self._control.jobs()))}

    @operation(
        "SetRecordingJobMode",
        AccessClass.ACTUATE,
        request={"JobToken": required(ReferenceToken), "Mode": required(String)},
    )
    async def set_recording_job_mode(self, call: Call) -> None:
        await self._control.set_job_mode(JobToken(call.request.JobToken), decode_mode(call.request.Mode))

    @operation(
        "GetRecordingJobState",
        AccessClass.READ_MEDIA,
        request={"JobToken": required(ReferenceToken)},
        response={"State": required(types.RecordingJobStateInformation)},
    )
    def get_recording_job_state(self, call: Call) -> Result:
        return {"State": encode_state(self._control.job_state(JobToken(call.request.JobToken)))}


def decode_configuration(wire: types.RecordingConfiguration) -> RecordingConfiguration:
    source = wire.Source
    return RecordingConfiguration(
        RecordingSourceInformation(source.SourceId, source.Name, source.Location, source.Description, source.Address),
        wire.Content,
        wire.MaximumRetentionTime,
    )


def encode_source_information(source: RecordingSourceInformation) -> types.RecordingSourceInformation:
    return types.RecordingSourceInformation(
        SourceId=source.source_id,
        Name=source.name,
        Location=source.location,
        Description=source.description,
        Address=source.address,
    )


def encode_configuration(configuration: RecordingConfiguration) -> types.RecordingConfiguration:
    return types.RecordingConfiguration(
        Source=encode_source_information(configuration.source),
        Content=configuration.content,
        MaximumRetentionTime=configuration.maximum_retention_ns,
    )


def encode_recording(recording: Recording) -> types.GetRecordingsResponseItem:
    return types.GetRecordingsResponseItem(
        RecordingToken=recording.token,
        Configuration=encode_configuration(recording.configuration),
        Tracks=types.GetTracksResponseList(Track=[_encode_track(t) for t in recording.tracks]),
    )


def _encode_track(track: Track) -> types.GetTracksResponseItem:
    configuration = types.TrackConfiguration(
        TrackType=track.configuration.track_type, Description=track.configuration.description
    )
    return types.GetTracksResponseItem(TrackToken=track.token, Configuration=configuration)


def decode_job(wire: types.RecordingJobConfiguration) -> RecordingJobConfiguration:
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
    )


def _decode_source(wire: types.RecordingJobSource) -> RecordingJobSource:
    """A SourceToken without Token, or with an empty one, counts as not given: clients send it to carry @Type (5.3.3).

    AutoCreateReceiver has no effect beside a token.
    """
    reference = None
    if wire.SourceToken is not None and wire.SourceToken.Token:
        reference = SourceReference(wire.SourceToken.Token, wire.SourceToken.Type or RECEIVER_TYPE)
    return RecordingJobSource(
        reference,
        tuple(RecordingJobTrack(t.SourceTag, TrackToken(t.Destination)) for t in wire.Tracks),
        auto_create_receiver=reference is None and wire.AutoCreateReceiver is True,
        implied_tracks=not wire.Tracks,
    )


def decode_mode(text: str) -> RecordingJobMode:
    """Raises BadMode, the fault of SetRecordingJobMode (5.18)."""
    try:
        return RecordingJobMode(text)
    except ValueError as e:
        raise BadMode(f"Mode {text!r} is neither Idle nor Active") from e


def encode_job_configuration(configuration: RecordingJobConfiguration) -> types.RecordingJobConfiguration:
    """AutoCreateReceiver is never answered: a stored source has the token of its receiver instead (5.3.3)."""
    return types.RecordingJobConfiguration(
        RecordingToken=configuration.recording,
        Mode=configuration.mode,
        Priority=configuration.priority,
        Source=[_encode_source(s) for s in configuration.sources],
        ScheduleToken=configuration.schedule_token,
    )


def _encode_source(source: RecordingJobSource) -> types.RecordingJobSource:
    assert source.source is not None, "a stored source has a token"
    return types.RecordingJobSource(
        SourceToken=types.RequestedSource(Token=source.source.token, Type=source.source.type),
        Tracks=[types.RecordingJobTrack(SourceTag=t.source_tag, Destination=t.destination) for t in source.tracks],
    )


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
