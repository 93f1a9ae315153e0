"""Recording control on a store, an engine and footage that tests can look into and make fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nvr.control.receivers import Receivers
from nvr.control.recordings import RecordingControl
from nvr.control.state import ControlSettings, ControlState
from nvr.model.errors import StorageError, UnknownToken
from nvr.model.job import JobState, RecordingJob
from nvr.model.receiver import Receiver, ReceiverState
from nvr.model.recording import Recording, TrackType
from nvr.model.tokens import JobToken, ReceiverToken, RecordingToken, TrackKey
from nvr.storage.changes import Change, StoredConfiguration


class FakeStore:
    """Keeps the changes; `failing` makes the next ones fail."""

    def __init__(self, stored: StoredConfiguration | None = None) -> None:
        self.stored = stored or StoredConfiguration()
        self.applied: list[tuple[Change, ...]] = []
        self.failing = False

    def load(self) -> StoredConfiguration:
        return self.stored

    def apply(self, changes: Sequence[Change]) -> None:
        if self.failing:
            raise StorageError("the disk is gone")
        self.applied.append(tuple(changes))


class FakeEngine:
    """Remembers the desired state it was given last; reports the states that a test has set."""

    def __init__(self) -> None:
        self.recordings: Sequence[Recording] = ()
        self.jobs: Sequence[RecordingJob] = ()
        self.receivers: Sequence[Receiver] = ()
        self.applications = 0
        self.job_states: dict[JobToken, JobState] = {}
        self.receiver_states: dict[ReceiverToken, ReceiverState] = {}

    def apply(
        self, recordings: Sequence[Recording], jobs: Sequence[RecordingJob], receivers: Sequence[Receiver]
    ) -> None:
        self.recordings, self.jobs, self.receivers = recordings, jobs, receivers
        self.applications += 1

    def job_state(self, token: JobToken) -> JobState:
        job = next((j for j in self.jobs if j.token == token), None)
        if job is None:
            raise UnknownToken("RecordingJob", token)
        return self.job_states.get(token, JobState(job.configuration.recording, ()))

    def receiver_state(self, token: ReceiverToken) -> ReceiverState:
        if all(r.token != token for r in self.receivers):
            raise UnknownToken("Receiver", token)
        return self.receiver_states.get(token, ReceiverState.NOT_CONNECTED)


class FakeFootage:
    """Remembers what was deleted; `failing` makes deletion fail."""

    def __init__(self) -> None:
        self.deleted: list[TrackKey | RecordingToken] = []
        self.failing = False

    async def delete_track(self, key: TrackKey) -> None:
        self._delete(key)

    async def delete_recording(self, token: RecordingToken) -> None:
        self._delete(token)

    def _delete(self, what: TrackKey | RecordingToken) -> None:
        if self.failing:
            raise StorageError("the volume is missing")
        self.deleted.append(what)


@dataclass
class Controlled:
    """Everything that a test of control touches."""

    store: FakeStore = field(default_factory=FakeStore)
    engine: FakeEngine = field(default_factory=FakeEngine)
    footage: FakeFootage = field(default_factory=FakeFootage)
    settings: ControlSettings = field(default_factory=ControlSettings)

    def __post_init__(self) -> None:
        self.state = ControlState(self.store.stored, self.store, self.engine, self.settings)
        self.control = RecordingControl(self.state, self.footage)
        self.receivers = Receivers(self.state)

    def everything(self) -> tuple[object, ...]:
        """What must be the same after a refusal."""
        return (
            self.control.recordings(),
            self.control.jobs(),
            self.receivers.receivers(),
            tuple(self.state.now.deletions),
            len(self.store.applied),
            self.engine.applications,
        )


@dataclass(frozen=True)
class Stream:
    """A stream of a connected source, as the engine reports it."""

    track_type: TrackType | None
    supported: bool = True


VIDEO, AUDIO, METADATA = Stream(TrackType.VIDEO), Stream(TrackType.AUDIO), Stream(TrackType.METADATA)
