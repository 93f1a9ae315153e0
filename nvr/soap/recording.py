"""The recording control service (IEC 62676-2-32 clause 5)."""

from __future__ import annotations

from nvr.control.recordings import RecordingControl
from nvr.control.state import ControlSettings
from nvr.media import codecs
from nvr.media.codecs import told_as, track_type_of
from nvr.model.errors import BadConfiguration, NotOffered
from nvr.model.recording import TrackType
from nvr.model.tokens import JobToken, RecordingToken, TrackToken
from nvr.soap import recordings_wire as wire
from nvr.soap import types
from nvr.soap.model import (
    Boolean,
    Duration,
    Float,
    Int,
    Open,
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

ENCODINGS = tuple(
    dict.fromkeys(told_as(name) for name in codecs.ENCODINGS if track_type_of(name) is not TrackType.METADATA)
)
"""What can be recorded, in names of tt:VideoEncoding and tt:AudioEncoding, otherwise IANA's (5.24)."""


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
    EventRecording = attribute(Boolean)
    BeforeEventLimit = attribute(Duration)
    AfterEventLimit = attribute(Duration)


class JobOptions(Struct):
    __namespace__ = TRC
    __open__ = Open.ATTRIBUTES

    Spare = attribute(Int)
    CompatibleSources = attribute(StringAttrList)


class TrackOptions(Struct):
    __namespace__ = TRC
    __open__ = Open.ATTRIBUTES

    SpareTotal = attribute(Int)
    SpareVideo = attribute(Int)
    SpareAudio = attribute(Int)
    SpareMetadata = attribute(Int)


class RecordingOptions(Struct):
    __namespace__ = TRC
    __open__ = Open.ELEMENTS

    Job = required(JobOptions)
    Track = required(TrackOptions)


class RecordingService(Service):
    namespace = TRC
    path = "/onvif/recording_service"
    contract = "recording.wsdl"
    not_implemented_subcodes = ("NotImplemented",)
    not_implemented = frozenset({"ExportRecordedData", "StopExportRecordedData", "GetExportRecordedDataState"})

    def __init__(self, control: RecordingControl, limits: ControlSettings) -> None:
        self._control = control
        self.limits = limits

    def capabilities(self) -> Capabilities:
        """Rates have no limit, so MaxRate and MaxTotalRate are absent; nothing exports yet, so formats are."""
        return Capabilities(
            DynamicRecordings=self.limits.dynamic_recordings,
            DynamicTracks=self.limits.dynamic_tracks,
            Encoding=ENCODINGS,
            MaxRecordings=float(self.limits.recordings),
            MaxRecordingJobs=self.limits.jobs,
            Options=True,
            MetadataRecording=True,
            EventRecording=True,
            BeforeEventLimit=self.limits.before_event_ns,
            AfterEventLimit=self.limits.after_event_ns,
        )

    @operation("GetServiceCapabilities", AccessClass.PRE_AUTH, response={"Capabilities": required(Capabilities)})
    def get_service_capabilities(self, _: Call) -> Result:
        return {"Capabilities": self.capabilities()}

    def _offer(self, what: str, dynamic: bool) -> None:
        """Raises NotOffered where clients may not make and delete these (5.4, 5.5, 5.9, 5.10)."""
        if not dynamic:
            raise NotOffered(f"the {what} of this device are fixed: its operator makes and deletes them")

    # Recordings

    @operation(
        "CreateRecording",
        AccessClass.ACTUATE,
        request={"RecordingConfiguration": required(types.RecordingConfiguration)},
        response={"RecordingToken": required(ReferenceToken)},
        bad_value=BadConfiguration,
    )
    async def create_recording(self, call: Call) -> Result:
        self._offer("recordings", self.limits.dynamic_recordings)
        configuration = wire.decode_recording_configuration(call.request.RecordingConfiguration)
        return {"RecordingToken": (await self._control.create_recording(configuration)).token}

    @operation("DeleteRecording", AccessClass.ACTUATE, request={"RecordingToken": required(ReferenceToken)})
    async def delete_recording(self, call: Call) -> None:
        self._offer("recordings", self.limits.dynamic_recordings)
        await self._control.delete_recording(_recording(call))

    @operation(
        "GetRecordings", AccessClass.READ_MEDIA, response={"RecordingItem": many(types.GetRecordingsResponseItem)}
    )
    def get_recordings(self, _: Call) -> Result:
        return {"RecordingItem": (wire.encode_recording(r) for r in self._control.recordings())}

    @operation(
        "SetRecordingConfiguration",
        AccessClass.ACTUATE,
        request={
            "RecordingToken": required(ReferenceToken),
            "RecordingConfiguration": required(types.RecordingConfiguration),
        },
        bad_value=BadConfiguration,
    )
    async def set_recording_configuration(self, call: Call) -> None:
        configuration = wire.decode_recording_configuration(call.request.RecordingConfiguration)
        await self._control.set_recording_configuration(_recording(call), configuration)

    @operation(
        "GetRecordingConfiguration",
        AccessClass.READ_MEDIA,
        request={"RecordingToken": required(ReferenceToken)},
        response={"RecordingConfiguration": required(types.RecordingConfiguration)},
    )
    def get_recording_configuration(self, call: Call) -> Result:
        recording = self._control.recording(_recording(call))
        return {"RecordingConfiguration": wire.encode_recording_configuration(recording.configuration)}

    @operation(
        "GetRecordingOptions",
        AccessClass.READ_MEDIA,
        request={"RecordingToken": required(ReferenceToken)},
        response={"Options": required(RecordingOptions)},
    )
    def get_recording_options(self, call: Call) -> Result:
        options = self._control.options(_recording(call))
        tracks = TrackOptions(
            SpareTotal=options.spare_total,
            SpareVideo=options.spare_tracks[TrackType.VIDEO],
            SpareAudio=options.spare_tracks[TrackType.AUDIO],
            SpareMetadata=options.spare_tracks[TrackType.METADATA],
        )
        # Profiles of the media service show receivers: jobs take the receiver itself, and no profile (5.20).
        return {
            "Options": RecordingOptions(
                Job=JobOptions(Spare=options.spare_jobs, CompatibleSources=options.profiles), Track=tracks
            )
        }

    # Tracks

    @operation(
        "CreateTrack",
        AccessClass.ACTUATE,
        request={
            "RecordingToken": required(ReferenceToken),
            "TrackConfiguration": required(types.TrackConfiguration),
        },
        response={"TrackToken": required(ReferenceToken)},
        bad_value=BadConfiguration,
    )
    async def create_track(self, call: Call) -> Result:
        self._offer("tracks", self.limits.dynamic_tracks)
        configuration = wire.decode_track_configuration(call.request.TrackConfiguration)
        return {"TrackToken": (await self._control.create_track(_recording(call), configuration)).token}

    @operation(
        "DeleteTrack",
        AccessClass.ACTUATE,
        request={"RecordingToken": required(ReferenceToken), "TrackToken": required(ReferenceToken)},
    )
    async def delete_track(self, call: Call) -> None:
        self._offer("tracks", self.limits.dynamic_tracks)
        await self._control.delete_track(_recording(call), _track(call))

    @operation(
        "GetTrackConfiguration",
        AccessClass.READ_MEDIA,
        request={"RecordingToken": required(ReferenceToken), "TrackToken": required(ReferenceToken)},
        response={"TrackConfiguration": required(types.TrackConfiguration)},
    )
    def get_track_configuration(self, call: Call) -> Result:
        track = self._control.track(_recording(call), _track(call))
        return {"TrackConfiguration": wire.encode_track_configuration(track.configuration)}

    @operation(
        "SetTrackConfiguration",
        AccessClass.ACTUATE,
        request={
            "RecordingToken": required(ReferenceToken),
            "TrackToken": required(ReferenceToken),
            "TrackConfiguration": required(types.TrackConfiguration),
        },
        bad_value=BadConfiguration,
    )
    async def set_track_configuration(self, call: Call) -> None:
        configuration = wire.decode_track_configuration(call.request.TrackConfiguration)
        await self._control.set_track_configuration(_recording(call), _track(call), configuration)

    # Recording jobs

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
        job = await self._control.create_job(wire.decode_job_configuration(call.request.JobConfiguration))
        return {"JobToken": job.token, "JobConfiguration": wire.encode_job_configuration(job.configuration)}

    @operation("DeleteRecordingJob", AccessClass.ACTUATE, request={"JobToken": required(ReferenceToken)})
    async def delete_recording_job(self, call: Call) -> None:
        await self._control.delete_job(_job(call))

    @operation(
        "GetRecordingJobs", AccessClass.READ_MEDIA, response={"JobItem": many(types.GetRecordingJobsResponseItem)}
    )
    def get_recording_jobs(self, _: Call) -> Result:
        return {"JobItem": (wire.encode_job(j) for j in self._control.jobs())}

    @operation(
        "SetRecordingJobConfiguration",
        AccessClass.ACTUATE,
        request={
            "JobToken": required(ReferenceToken),
            "JobConfiguration": required(types.RecordingJobConfiguration),
        },
        response={"JobConfiguration": required(types.RecordingJobConfiguration)},
        bad_value=BadConfiguration,
    )
    async def set_recording_job_configuration(self, call: Call) -> Result:
        asked = wire.decode_job_configuration(call.request.JobConfiguration)
        in_effect = await self._control.set_job_configuration(_job(call), asked)
        return {"JobConfiguration": wire.encode_job_configuration(in_effect)}

    @operation(
        "GetRecordingJobConfiguration",
        AccessClass.READ_MEDIA,
        request={"JobToken": required(ReferenceToken)},
        response={"JobConfiguration": required(types.RecordingJobConfiguration)},
    )
    def get_recording_job_configuration(self, call: Call) -> Result:
        return {"JobConfiguration": wire.encode_job_configuration(self._control.job(_job(call)).configuration)}

    @operation(
        "SetRecordingJobMode",
        AccessClass.ACTUATE,
        request={"JobToken": required(ReferenceToken), "Mode": required(String)},
    )
    async def set_recording_job_mode(self, call: Call) -> None:
        await self._control.set_job_mode(_job(call), wire.decode_mode(call.request.Mode))

    @operation(
        "GetRecordingJobState",
        AccessClass.READ_MEDIA,
        request={"JobToken": required(ReferenceToken)},
        response={"State": required(types.RecordingJobStateInformation)},
    )
    def get_recording_job_state(self, call: Call) -> Result:
        return {"State": wire.encode_state(self._control.job_state(_job(call)))}


def _recording(call: Call) -> RecordingToken:
    return RecordingToken(call.request.RecordingToken)


def _track(call: Call) -> TrackToken:
    return TrackToken(call.request.TrackToken)


def _job(call: Call) -> JobToken:
    return JobToken(call.request.JobToken)
