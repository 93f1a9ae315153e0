"""What the configuration holds, and the changes that can be made to it in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from nvr.auth.users import User
from nvr.model.device import DeviceState
from nvr.model.job import RecordingJob
from nvr.model.receiver import Receiver
from nvr.model.recording import Recording
from nvr.model.tokens import JobToken, ReceiverToken, RecordingToken, TrackToken


@dataclass(frozen=True, slots=True)
class Deletion:
    """Data that a client has deleted and that may still be on the disk; `track` None stands for the whole recording."""

    recording: RecordingToken
    track: TrackToken | None = None


@dataclass(frozen=True, slots=True)
class StoredConfiguration:
    """Everything; recordings, jobs and receivers in the order of their creation."""

    recordings: tuple[Recording, ...] = ()
    jobs: tuple[RecordingJob, ...] = ()
    receivers: tuple[Receiver, ...] = ()
    users: tuple[User, ...] = ()
    deletions: tuple[Deletion, ...] = ()
    device: DeviceState = field(default_factory=DeviceState)


@dataclass(frozen=True, slots=True)
class Save:
    """A new object, or a new version of the one with its token or name; of DeviceState there is one."""

    item: Recording | RecordingJob | Receiver | User | Deletion | DeviceState


@dataclass(frozen=True, slots=True)
class DeleteRecording:
    """Its tracks go with it; its jobs must be deleted before, in the same transaction."""

    token: RecordingToken


@dataclass(frozen=True, slots=True)
class DeleteJob:
    token: JobToken


@dataclass(frozen=True, slots=True)
class DeleteReceiver:
    token: ReceiverToken


@dataclass(frozen=True, slots=True)
class DeleteUser:
    name: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """The data of a Deletion is off the disk."""

    deletion: Deletion


Change: TypeAlias = Save | DeleteRecording | DeleteJob | DeleteReceiver | DeleteUser | Deleted
