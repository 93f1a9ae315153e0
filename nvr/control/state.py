"""What recording control and receivers share: the configuration in memory, and the one way to change it.

A change is checked, written to the disk, taken into memory, and handed to the engine, in this order. Two clients at
once see two changes, one after the other, and a refusal leaves nothing behind. An answer to a client comes after the
write, and nobody is told of what is not written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from nvr.control.objects import Configured, Objects
from nvr.model.job import JobState, RecordingJob
from nvr.model.receiver import Receiver, ReceiverState, TransportProtocol
from nvr.model.recording import Recording, TrackType
from nvr.model.time import NS
from nvr.model.tokens import JobToken, ReceiverToken, RecordingToken, TrackKey
from nvr.storage.changes import (
    Change,
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
    dynamic_recordings: bool = True
    """Whether clients may create and delete recordings; the operator's commands always may."""
    dynamic_tracks: bool = True
    uri_octets: int = 1024
    """Longest media URI."""
    protocols: tuple[TransportProtocol, ...] = (
        TransportProtocol.UDP,
        TransportProtocol.RTSP,
        TransportProtocol.HTTP,
    )
    """Transports that a receiver may be set to. UDP must be among them: auto-created receivers begin with it."""

    before_event_ns: int = 60 * NS
    """Longest Before of an event filter. Held in memory, up to `event_buffer` of the settings of ingest."""
    after_event_ns: int = 3600 * NS
    """Longest After."""

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


class Watcher(Protocol):
    """Who wants to know of changes (`nvr.events`)."""

    def __call__(self, before: Configured | None, after: Configured | None) -> None:
        """An object is new (no `before`), another, or gone (no `after`); on the disk and in memory. Must not block."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """Changes that somebody has made and that are not on the disk yet. `written` tells their fate."""

    changes: tuple[Change, ...]
    written: asyncio.Future[None]


class ControlState:
    """The configuration in memory: `now`, which is on the disk and may be told, and `coming`, on which changes build.

    A change is decided on `coming` and handed to `commit` without waiting in between, so that no other comes between.
    """

    def __init__(self, stored: StoredConfiguration, store: Store, engine: Engine, settings: ControlSettings) -> None:
        self.settings = settings
        self.engine = engine
        self.now = Objects(stored)
        self.coming = self.now.copy()
        self.streams: dict[ReceiverToken, tuple[SourceStream, ...]] = {}
        """What each source offered when it was connected last, since the start."""
        self.watcher: Watcher = lambda before, after: None
        """Told of every change, in order."""
        self._store = store
        self._waiting: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None

    @classmethod
    async def load(cls, store: Store, engine: Engine, settings: ControlSettings | None = None) -> ControlState:
        """Raises StorageError, OperatorError."""
        stored = await asyncio.to_thread(store.load)
        return cls(stored, store, engine, settings or ControlSettings())

    async def commit(self, changes: Sequence[Change]) -> None:
        """Takes the changes into `coming` at once; returns when they are on the disk, in `now` and told to the engine.

        Without changes it returns when everything before is. What is committed while a transaction is being written
        goes into the next one, together: each costs the disk a sync. Raises StorageError; then nothing has changed, and
        whatever was decided on top of it has failed, too.

        A caller that is cancelled (its client hung up) is told so only afterwards: what is on the disk is in memory.
        """
        if not changes and self._writer is None:
            return
        for change in changes:
            self.coming.take(change)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(tuple(changes), loop.create_future())
        self._waiting.append(waiting)
        if self._writer is None:
            self._writer = loop.create_task(self._write())
        await _ended(waiting.written)

    def tell_engine(self) -> None:
        """Hands the whole desired state to the engine."""
        now = self.now
        self.engine.apply(tuple(now.recordings.values()), tuple(now.jobs.values()), tuple(now.receivers.values()))

    async def _write(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._write_together(batch)
        finally:
            self._writer = None
            for waiting in (*batch, *self._waiting):
                waiting.written.cancel()  # without effect on those whose fate is told

    async def _write_together(self, batch: Sequence[_Waiting]) -> bool:
        """One transaction; where that fails one for each, so that a bad change does not take its neighbours along."""
        changes = [change for waiting in batch for change in waiting.changes]
        try:
            if changes:
                await asyncio.to_thread(self._store.apply, changes)
        except Exception as e:  # whoever committed the changes is told
            if len(batch) == 1:
                self._undo(batch, e)
                return False
            for place, waiting in enumerate(batch):
                if not await self._write_together([waiting]):
                    self._undo(batch[place + 1 :], e)
                    return False
            return True
        self._take(changes)
        for waiting in batch:
            waiting.written.set_result(None)
        return True

    def _undo(self, failed: Sequence[_Waiting], error: Exception) -> None:
        """These have failed, and so has what was decided after them."""
        behind, self._waiting = self._waiting, []
        self.coming = self.now.copy()
        for waiting in (*failed, *behind):
            waiting.written.set_exception(error)

    def _take(self, changes: Sequence[Change]) -> None:
        told = [difference for c in changes if (difference := self.now.take(c)) is not None]
        for before, after in told:
            if isinstance(before, Receiver) and after is None:
                self.streams.pop(before.token, None)
            try:
                self.watcher(before, after)
            except Exception:  # the change stands: who is told of it must not undo it
                log.exception("a change of the configuration could not be told")
        self.tell_engine()


async def unbroken(work: Coroutine[object, object, None], then: Callable[[], None]) -> None:
    """Runs `work` to its end, and `then` behind it if it did not raise, even while the caller is being cancelled."""

    async def both() -> None:
        await work
        then()

    await _ended(asyncio.ensure_future(both()))


async def _ended(future: asyncio.Future[None]) -> None:
    """Waits for it to its end, also while the caller is being cancelled, and raises what it raises."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as e:
            cancelled = e
    future.result()
    if cancelled is not None:
        raise cancelled
