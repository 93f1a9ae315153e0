"""What recording control and receivers share: the configuration in memory, and the one way to change it.

A change is checked, written to the disk, taken into memory, and handed to the engine, in this order and under one lock:
two clients at once see two changes, one after the other, and a refusal leaves nothing behind. An answer to a client
comes after the write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from nvr.model.errors import UnknownToken
from nvr.model.job import RECEIVER_TYPE, JobState, RecordingJob, RecordingJobConfiguration
from nvr.model.receiver import Receiver, ReceiverState, TransportProtocol
from nvr.model.recording import Recording, TrackType
from nvr.model.tokens import JobToken, ReceiverToken, RecordingToken, TrackKey
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

log = logging.getLogger(__name__)

K = TypeVar("K", bound=str)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """Largest numbers of objects, and what a receiver can be given. Announced in the capabilities."""

    recordings: int = 1000
    jobs: int = 2000
    receivers: int = 2000
    tracks_per_type: int = 4
    """In each recording, the three default tracks included."""
    uri_octets: int = 1024
    """Longest media URI."""
    protocols: tuple[TransportProtocol, ...] = (
        TransportProtocol.UDP,
        TransportProtocol.RTSP,
        TransportProtocol.HTTP,
    )
    """Transports that a receiver may be set to. UDP must be among them: auto-created receivers begin with it."""

    def __post_init__(self) -> None:
        for name in ("recordings", "jobs", "receivers", "tracks_per_type"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.uri_octets < 128:
            raise ValueError("uri_octets must be at least 128 (IEC 62676-2-32 10.1)")
        if TransportProtocol.UDP not in self.protocols:
            raise ValueError("protocols must include UDP (IEC 62676-2-32 5.1)")


class Store(Protocol):
    """Where the configuration is kept (`nvr.storage.configuration`). Blocking: called on a thread."""

    def load(self) -> StoredConfiguration: ...

    def apply(self, changes: Sequence[Change]) -> None:
        """All or none; on the disk when it returns. Raises StorageError."""


class Engine(Protocol):
    """What makes the configuration happen (`nvr.ingest`)."""

    def apply(
        self, recordings: Sequence[Recording], jobs: Sequence[RecordingJob], receivers: Sequence[Receiver]
    ) -> None:
        """The whole desired state; never blocks, never raises."""

    def job_state(self, token: JobToken) -> JobState:
        """Raises UnknownToken for a job that no `apply` has named yet."""

    def receiver_state(self, token: ReceiverToken) -> ReceiverState:
        """Raises UnknownToken for a receiver that no `apply` has named yet."""


class FootageStore(Protocol):
    """Where the data of tracks are (`nvr.storage.engine`)."""

    async def delete_track(self, key: TrackKey) -> None:
        """Raises StorageError; may be repeated."""

    async def delete_recording(self, token: RecordingToken) -> None:
        """Raises StorageError; may be repeated."""


class SourceStream(Protocol):
    """One stream that a connected source offers."""

    @property
    def track_type(self) -> TrackType | None: ...

    @property
    def supported(self) -> bool:
        """Whether its encoding can be stored."""


Configured: TypeAlias = Recording | RecordingJob | Receiver


class Watcher(Protocol):
    """Who wants to know of changes (`nvr.events`)."""

    def __call__(self, before: Configured | None, after: Configured | None) -> None:
        """An object is new (no `before`), another, or gone (no `after`); on the disk and in memory. Must not block."""


class ControlState:
    """The configuration in memory. Reading is free; `commit` is called with `changing` held."""

    def __init__(self, stored: StoredConfiguration, store: Store, engine: Engine, settings: ControlSettings) -> None:
        self.settings = settings
        self.engine = engine
        self.recordings = {r.token: r for r in stored.recordings}
        self.jobs = {j.token: j for j in stored.jobs}
        self.receivers = {r.token: r for r in stored.receivers}
        self.deletions = dict.fromkeys(stored.deletions)
        self.streams: dict[ReceiverToken, tuple[SourceStream, ...]] = {}
        """What each source offered when it was connected last, since the start."""
        self.changing = asyncio.Lock()
        self.watcher: Watcher = lambda before, after: None
        """Told of every change, in order, while `changing` is held."""
        self._store = store

    @classmethod
    async def load(cls, store: Store, engine: Engine, settings: ControlSettings | None = None) -> ControlState:
        """Raises StorageError, OperatorError."""
        stored = await asyncio.to_thread(store.load)
        return cls(stored, store, engine, settings or ControlSettings())

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

    async def commit(self, changes: Sequence[Change]) -> None:
        """Writes the changes, takes them into memory, tells the engine. Raises StorageError; then nothing has changed.

        A caller that is cancelled (its client hung up) is told so only afterwards: what is on the disk is in memory.
        """
        await unbroken(asyncio.to_thread(self._store.apply, changes), then=lambda: self._take(changes))

    def _take(self, changes: Sequence[Change]) -> None:
        told: list[tuple[Configured | None, Configured | None]] = []
        for change in changes:
            match change:
                case Save(Recording() as recording):
                    told.append((self.recordings.get(recording.token), recording))
                    self.recordings[recording.token] = recording
                case Save(RecordingJob() as job):
                    told.append((self.jobs.get(job.token), job))
                    self.jobs[job.token] = job
                case Save(Receiver() as receiver):
                    told.append((self.receivers.get(receiver.token), receiver))
                    self.receivers[receiver.token] = receiver
                case Save(Deletion() as deletion):
                    self.deletions[deletion] = None
                case DeleteRecording(token):
                    told.append((self.recordings.pop(token), None))
                case DeleteJob(token):
                    told.append((self.jobs.pop(token), None))
                case DeleteReceiver(token):
                    told.append((self.receivers.pop(token), None))
                    self.streams.pop(token, None)
                case Deleted(deletion):
                    self.deletions.pop(deletion, None)
                case _:
                    raise AssertionError(f"{change} is none of recording control")
        for before, after in told:
            try:
                self.watcher(before, after)
            except Exception:  # the change stands: who is told of it must not undo it
                log.exception("a change of the configuration could not be told")
        self.tell_engine()

    def tell_engine(self) -> None:
        """Hands the whole desired state to the engine."""
        self.engine.apply(tuple(self.recordings.values()), tuple(self.jobs.values()), tuple(self.receivers.values()))


def receivers_of(configuration: RecordingJobConfiguration) -> set[ReceiverToken]:
    """The receivers to which a job refers."""
    return {
        ReceiverToken(source.source.token)
        for source in configuration.sources
        if source.source is not None and source.source.type == RECEIVER_TYPE
    }


async def unbroken(work: Coroutine[object, object, None], then: Callable[[], None]) -> None:
    """Runs `work` to its end, and `then` behind it if it did not raise, even while the caller is being cancelled."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as e:
            cancelled = e
    task.result()
    then()
    if cancelled is not None:
        raise cancelled


def _known(kind: str, objects: Mapping[K, V], token: K) -> V:
    found = objects.get(token)
    if found is None:
        raise UnknownToken(kind, token)
    return found
