"""Recordings, jobs, receivers and unfinished deletions by their tokens, as one state of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, TypeVar

from nvr.model.errors import UnknownToken
from nvr.model.job import RECEIVER_TYPE, RecordingJob, RecordingJobConfiguration
from nvr.model.receiver import Receiver
from nvr.model.recording import Recording
from nvr.model.tokens import JobToken, ReceiverToken, RecordingToken
from nvr.storage.changes import (
    Change,
    Deleted,
    DeleteJob,
    DeleteReceiver,
    DeleteRecording,
    Deletion,
    Save,
    StoredConfiguration,
)

K = TypeVar("K", bound=str)
V = TypeVar("V")

Configured: TypeAlias = Recording | RecordingJob | Receiver
Difference: TypeAlias = tuple[Configured | None, Configured | None]
"""An object before and after a change; None where it was not there or is gone."""


class Objects:
    """All in the order of creation."""

    def __init__(self, stored: StoredConfiguration) -> None:
        self.recordings = {r.token: r for r in stored.recordings}
        self.jobs = {j.token: j for j in stored.jobs}
        self.receivers = {r.token: r for r in stored.receivers}
        self.deletions = dict.fromkeys(stored.deletions)

    def copy(self) -> Objects:
        made = Objects(StoredConfiguration())
        made.recordings, made.jobs = self.recordings.copy(), self.jobs.copy()
        made.receivers, made.deletions = self.receivers.copy(), self.deletions.copy()
        return made

    def recording(self, token: str) -> Recording:
        """Raises UnknownToken."""
        return _known("Recording", self.recordings, RecordingToken(token))

    def job(self, token: str) -> RecordingJob:
        """Raises UnknownToken."""
        return _known("RecordingJob", self.jobs, JobToken(token))

    def receiver(self, token: str) -> Receiver:
        """Raises UnknownToken."""
        return _known("Receiver", self.receivers, ReceiverToken(token))

    def jobs_of_receiver(self, token: ReceiverToken) -> list[RecordingJob]:
        return [job for job in self.jobs.values() if token in receivers_of(job.configuration)]

    def next_activation(self) -> int:
        """Larger than that of every job: the order of activation survives a restart."""
        return max((job.activation for job in self.jobs.values()), default=0) + 1

    def unused_receivers(self, jobs: Mapping[JobToken, RecordingJob]) -> list[DeleteReceiver]:
        """Auto-created receivers to which none of these jobs refers: the standard has them deleted (5.1)."""
        used = {token for job in jobs.values() for token in receivers_of(job.configuration)}
        return [DeleteReceiver(r.token) for r in self.receivers.values() if r.auto_created and r.token not in used]

    def take(self, change: Change) -> Difference | None:
        """Makes one change; what it made of an object, if it concerns one."""
        match change:
            case Save(Recording() as recording):
                return _put(self.recordings, recording.token, recording)
            case Save(RecordingJob() as job):
                return _put(self.jobs, job.token, job)
            case Save(Receiver() as receiver):
                return _put(self.receivers, receiver.token, receiver)
            case Save(Deletion() as deletion):
                self.deletions[deletion] = None
            case DeleteRecording(token):
                return self.recordings.pop(token), None
            case DeleteJob(token):
                return self.jobs.pop(token), None
            case DeleteReceiver(token):
                return self.receivers.pop(token), None
            case Deleted(deletion):
                self.deletions.pop(deletion, None)
            case _:
                raise AssertionError(f"{change} is none of recording control")
        return None


def receivers_of(configuration: RecordingJobConfiguration) -> set[ReceiverToken]:
    """The receivers to which a job refers."""
    return {
        ReceiverToken(source.source.token)
        for source in configuration.sources
        if source.source is not None and source.source.type == RECEIVER_TYPE
    }


def _put(objects: dict[K, V], token: K, item: V) -> tuple[V | None, V]:
    before = objects.get(token)
    objects[token] = item
    return before, item


def _known(kind: str, objects: Mapping[K, V], token: K) -> V:
    found = objects.get(token)
    if found is None:
        raise UnknownToken(kind, token)
    return found
