"""The writer of one volume: a queue bounded in bytes, and one thread that does all that changes files there.

`VolumeWriter` is the work itself and knows no thread: `handle` does one order, `tick` what is due by the clock.
`WriterThread` puts the queue and the thread around it. Nothing is raised into the event loop: what goes wrong becomes
an event that says so.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeAlias

from nvr.media.bmff.fragment import FragmentEntry
from nvr.media.unit import CodecConfiguration, Fragment
from nvr.model.errors import OperatorError, StorageError
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import GapReason, Run
from nvr.model.tokens import TrackKey
from nvr.storage.recovery import delete_files, recover_volume
from nvr.storage.rows import FootageIndex, FragmentRef, TrackFileRow
from nvr.storage.settings import FsyncPolicy, StorageSettings
from nvr.storage.track_file import TrackFileWriter, track_directory
from nvr.storage.volume import Volume, VolumeState

log = logging.getLogger(__name__)

_DELETE_BATCH = 200
_BEFORE_ALL_NS = -(1 << 62)
_BATCH = 32
"""Orders between two reports to the loop."""
_NOT_THE_VOLUME = (errno.EMFILE, errno.ENFILE)
"""The process is out of file descriptors: the file at hand fails, its volume does not."""


@dataclass(slots=True, eq=False)
class GrowingFile:
    """A file between the decision to make it and its close. Made on the loop; the writer fills `entries`, readers on
    other threads walk them. `failed` once it takes no more fragments because of an error."""

    row: TrackFileRow
    configuration: CodecConfiguration
    previous: TrackFileRow | None = None
    """The file before it in its run."""
    entries: list[FragmentEntry] = field(default_factory=list)
    failed: bool = False

    def ref(self, entry: FragmentEntry) -> FragmentRef:
        return fragment_ref(self.row, entry, self.configuration, first_of_file=entry is self.entries[0])


def fragment_ref(
    row: TrackFileRow, entry: FragmentEntry, configuration: CodecConfiguration, *, first_of_file: bool
) -> FragmentRef:
    return FragmentRef(
        file_id=row.file_id,
        offset=entry.offset,
        length=entry.length,
        start_ns=entry.start_ns,
        end_ns=entry.end_ns,
        clean_point=entry.clean_point,
        samples=entry.samples,
        run_id=row.run_id,
        configuration=configuration,
        first_of_run=first_of_file and row.run_place == 0,
        damaged=entry.damaged,
        volume_id=row.volume_id,
        path=row.path,
    )


@dataclass(frozen=True, slots=True)
class Append:
    file: GrowingFile
    fragment: Fragment
    damaged_start: bool = False


@dataclass(frozen=True, slots=True)
class Close:
    file: GrowingFile
    end_reason: GapReason | None


@dataclass(frozen=True, slots=True)
class CorrectEnd:
    """The run ended with this closed file: the next one of the run could not be made."""

    file_id: str
    end_reason: GapReason


@dataclass(frozen=True, slots=True, eq=False)
class Delete:
    """All files of a track on this volume."""

    key: TrackKey


@dataclass(frozen=True, slots=True, eq=False)
class Barrier:
    """Done when everything queued before it is done."""


Order: TypeAlias = Append | Close | CorrectEnd | Delete | Barrier


@dataclass(frozen=True, slots=True)
class Appended:
    file: GrowingFile
    entry: FragmentEntry


@dataclass(frozen=True, slots=True)
class Closed:
    file: GrowingFile
    end_reason: GapReason | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The file takes no more fragments: its run ended with reason STORAGE."""

    file: GrowingFile
    cause: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A fragment was accepted and could not be written."""

    file: GrowingFile
    fragment_ns: UtcNs


@dataclass(frozen=True, slots=True)
class Done:
    """The order has been done. With an error, the index still shows footage of a track that was to be deleted."""

    order: Delete | Barrier
    error: Exception | None


@dataclass(frozen=True, slots=True)
class Recovered:
    """Files were settled: what has become of the runs they belong to. None: no fragment of it was left."""

    runs: list[tuple[TrackKey, str, Run | None]]


Event: TypeAlias = Appended | Closed | Failed | Lost | Done | Recovered


class VolumeWriter:
    """All changes of one volume. Belongs to one thread; `now` is a monotonic clock in nanoseconds."""

    def __init__(
        self,
        volume: Volume,
        index: FootageIndex,
        settings: StorageSettings,
        growing: dict[str, GrowingFile],
        now: Callable[[], int],
        utc: Callable[[], UtcNs],
    ) -> None:
        """`growing` holds the files of all writers by their id; readers look there first."""
        self.volume = volume
        self.events: list[Event] = []
        self._index = index
        self._settings = settings
        self._growing = growing
        self._now = now
        self._utc = utc
        self._files: dict[str, TrackFileWriter] = {}
        self._left: dict[str, GapReason] = {}
        """Files that could not be closed, and why; they are settled when the volume is back."""
        self._synced_ns = now()
        self._retry_at_ns: int | None = None
        self._pause_ns = settings.retry_ns
        self._losing = False
        self._online_since_ns = now() - settings.retry_limit_ns

    def open(self) -> None:
        """Opens and recovers the volume. Raises OperatorError; any other fault leaves it in a state that says so."""
        try:
            self.volume.open(self._utc())
            self._recover()
        except OperatorError:
            raise
        except (OSError, StorageError) as e:
            self._lose_volume(e)

    def handle(self, order: Order) -> None:
        """Does one order. Raises nothing: faults become events, log lines and the volume's state."""
        match order:
            case Append():
                self._append(order)
            case Close():
                self._close(order.file, order.end_reason)
            case CorrectEnd():
                self._correct_end(order)
            case Delete():
                self._delete(order)
            case Barrier():
                self.events.append(Done(order, None))

    def tick(self) -> None:
        """What is due: syncing by interval, another try of a volume that failed."""
        now = self._now()
        if self._settings.fsync is FsyncPolicy.INTERVAL and now - self._synced_ns >= self._settings.fsync_interval_ns:
            self._sync_all()
            self._synced_ns = now
        if self._retry_at_ns is not None and now >= self._retry_at_ns:
            self._retry()

    def next_due_ns(self) -> int:
        """When `tick` has work at the latest, on the monotonic clock."""
        due = self._now() + 60 * NS
        if self._settings.fsync is FsyncPolicy.INTERVAL and any(f.unsynced for f in self._files.values()):
            due = min(due, self._synced_ns + self._settings.fsync_interval_ns)
        if self._retry_at_ns is not None:
            due = min(due, self._retry_at_ns)
        return due

    def shut_down(self) -> None:
        """Behind the last order: what is still open is closed, the lock given back."""
        for file_id in list(self._files):
            self._close(self._growing[file_id], GapReason.DAEMON_STOPPED)
        self.volume.close()

    def _append(self, order: Append) -> None:
        file = order.file
        if file.failed:
            self.events.append(Lost(file, order.fragment.start_ns))
            return
        if self.volume.state is not VolumeState.ONLINE:
            self._fail_file(file, f"volume is {self.volume.state}: {self.volume.why}")
            self.events.append(Lost(file, order.fragment.start_ns))
            return
        try:
            entry = self._write(file, order)
        except (OSError, StorageError) as e:
            self.events.append(Lost(file, order.fragment.start_ns))
            if isinstance(e, OSError) and e.errno in _NOT_THE_VOLUME:
                log.error("%s: %s: raise the limit of open files", file.row.path, e)
                self._fail_file(file, str(e))
            else:
                self._lose_volume(e)
                if not file.failed:
                    self._fail_file(file, str(e))
            return
        except Exception as e:
            # A fault of ours or of the index in one file must not cost the other tracks of the volume.
            log.exception("%s cannot take a fragment at %d", file.row.path, order.fragment.start_ns)
            self.events.append(Lost(file, order.fragment.start_ns))
            self._fail_file(file, str(e))
            return
        self.events.append(Appended(file, entry))
        if self._settings.fsync is FsyncPolicy.FRAGMENT:
            try:
                self._files[file.row.file_id].sync()
            except OSError as e:
                # The fragment can be read, but nobody knows for how long: what recovery finds of it will be told.
                self._lose_volume(e)

    def _write(self, file: GrowingFile, order: Append) -> FragmentEntry:
        self.volume.check_space(order.fragment.size)
        writer = self._files.get(file.row.file_id)
        if writer is None:
            writer = TrackFileWriter(self.volume.disk, self.volume.root, file.row, file.configuration, file.entries)
            self._index.insert_open(file.row)
            self._files[file.row.file_id] = writer
            self._growing[file.row.file_id] = file
        return writer.append(order.fragment, damaged_start=order.damaged_start)

    def _close(self, file: GrowingFile, end_reason: GapReason | None) -> None:
        """Order: data and name forced to the disk, then the row (see `TrackFileWriter.close`)."""
        file_id = file.row.file_id
        writer = self._files.pop(file_id, None)
        if writer is None:
            return  # failed before, which was told then; or nothing was ever written
        try:
            figures = writer.close(end_reason)
            if figures is None:
                self._index.forget([file_id])
            else:
                self._index.close(
                    file_id,
                    end_ns=figures.end_ns,
                    size=figures.size,
                    samples=figures.samples,
                    lost_packets=figures.lost_packets,
                    dropped_units=figures.dropped_units,
                    end_reason=end_reason,
                )
        except (OSError, StorageError) as e:
            # Its entries stay in `growing`: it can be read until it is settled.
            self._left[file_id] = end_reason or GapReason.STORAGE
            log.error("%s could not be closed and is left for recovery: %s", file.row.path, e)
            self._lose_volume(e)
            self.events.append(Closed(file, end_reason))
            return
        self._growing.pop(file_id, None)
        self.events.append(Closed(file, end_reason))

    def _fail_file(self, file: GrowingFile, cause: str) -> None:
        file.failed = True
        self.events.append(Failed(file, cause))
        self._close(file, GapReason.STORAGE)

    def _lose_volume(self, cause: OSError | StorageError) -> None:
        """The volume is not to be written for now: every open file ends, and the next try is set."""
        self.volume.fail(cause)
        if self._retry_at_ns is None:
            now = self._now()
            # One that fails again soon after it came back waits longer and longer, so that it does not flap.
            soon = now - self._online_since_ns < self._settings.retry_limit_ns
            self._pause_ns = min(self._pause_ns * 2, self._settings.retry_limit_ns) if soon else self._settings.retry_ns
            self._retry_at_ns = now + self._pause_ns
        if self._losing:
            return  # closing another file failed too
        self._losing = True
        while self._files:
            self._fail_file(self._growing[next(iter(self._files))], str(cause))
        self._losing = False

    def _retry(self) -> None:
        try:
            self.volume.probe(self._utc())
            self._recover()
        except (OSError, StorageError, OperatorError) as e:
            self.volume.fail(e)
            self._pause_ns = min(self._pause_ns * 2, self._settings.retry_limit_ns)
            self._retry_at_ns = self._now() + self._pause_ns
            return
        self._retry_at_ns = None
        self._online_since_ns = self._now()
        log.warning("volume %s (%s) takes footage again", self.volume.id, self.volume.root)

    def _recover(self) -> None:
        changed = recover_volume(self.volume.disk, self.volume, self._index, self._left)
        for file_id in self._left:
            self._growing.pop(file_id, None)
        self._left.clear()
        if changed:
            runs = {key: {run.run_id: run for run in self._index.runs(key)} for key in {key for key, _ in changed}}
            self.events.append(Recovered([(key, run_id, runs[key].get(run_id)) for key, run_id in changed]))

    def _sync_all(self) -> None:
        try:
            for writer in list(self._files.values()):
                writer.sync()
        except OSError as e:
            self._lose_volume(e)

    def _correct_end(self, order: CorrectEnd) -> None:
        try:
            self._index.set_end_reason(order.file_id, order.end_reason)
        except StorageError as e:
            log.error("the end of the run of file %s is not in the index (%s): %s", order.file_id, order.end_reason, e)

    def _delete(self, order: Delete) -> None:
        try:
            rows = self._hide_track(order.key)
        except Exception as e:
            log.exception("footage of %s on %s cannot be deleted", order.key, self.volume.root)
            self.events.append(Done(order, e))
            return
        try:
            if self.volume.state is not VolumeState.MISSING:
                self._unlink(order.key, rows)
            elif rows:
                log.warning("%d files of %s are deleted when volume %s is back", len(rows), order.key, self.volume.root)
        except (OSError, StorageError) as e:
            # The tombstones stand: nothing is shown any more, and the next recovery finishes it.
            log.error("files of %s on %s are not unlinked yet: %s", order.key, self.volume.root, e)
            self._lose_volume(e)
        self.events.append(Done(order, None))

    def _hide_track(self, key: TrackKey) -> list[TrackFileRow]:
        """Tombstones for all files of a track on this volume."""
        for file in [f for f in self._growing.values() if f.row.key == key and f.row.volume_id == self.volume.id]:
            self._close(file, GapReason.JOB_STOPPED)
        rows: list[TrackFileRow] = []
        after: tuple[UtcNs, str] | None = None
        while page := self._index.files(key, _BEFORE_ALL_NS, after=after, limit=_DELETE_BATCH):
            rows += [r for r in page if r.volume_id == self.volume.id]
            after = (page[-1].start_ns, page[-1].file_id)
        for i in range(0, len(rows), _DELETE_BATCH):
            self._index.mark_deleting([r.file_id for r in rows[i : i + _DELETE_BATCH]])
        return rows

    def _unlink(self, key: TrackKey, rows: list[TrackFileRow]) -> None:
        for i in range(0, len(rows), _DELETE_BATCH):
            delete_files(self.volume.disk, self.volume, self._index, rows[i : i + _DELETE_BATCH])
        directory = self.volume.path(track_directory(key))
        for path in (directory, directory.parent):
            if path.is_dir() and not any(path.iterdir()):
                self.volume.disk.remove_directory(path)
                self.volume.disk.sync_directory(path.parent)


class WriterThread:
    """The queue in front of a `VolumeWriter`, and its thread.

    The queue is bounded in bytes of sample data. When a fragment does not fit, it is refused, and so are all that
    follow until the queue is half empty: one gap, not many.
    """

    def __init__(
        self,
        writer: VolumeWriter,
        queue_bytes: int,
        publish: Callable[[list[Event]], None],
        now: Callable[[], int],
    ) -> None:
        """`publish` is called on the thread with what happened, in order."""
        self.writer = writer
        self.refused = 0
        """Fragments refused since the start."""
        self.queued_bytes = 0
        self.ready: Future[None] = Future()
        """Done when the volume is recovered; carries the OperatorError that forbids the start."""
        self._limit = queue_bytes
        self._publish = publish
        self._now = now
        self._orders: deque[tuple[Order, int]] = deque()
        self._wake = threading.Condition()
        self._refusing = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"writer {writer.volume.root.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def offer(self, order: Append) -> bool:
        """Queues a fragment, or refuses it. Never blocks."""
        size = order.fragment.size
        with self._wake:
            level = self._limit // 2 if self._refusing else self._limit - size
            if self._stopping or (self.queued_bytes > max(level, 0)):
                if not self._refusing:
                    log.error(
                        "volume %s cannot keep up: %d bytes wait, fragments are refused until half of them are written",
                        self.writer.volume.root,
                        self.queued_bytes,
                    )
                self._refusing += 1
                self.refused += 1
                return False
            if self._refusing:
                log.warning("volume %s keeps up again; %d fragments refused", self.writer.volume.root, self._refusing)
                self._refusing = 0
            self._orders.append((order, size))
            self.queued_bytes += size
            self._wake.notify()
        return True

    def order(self, order: Order) -> None:
        """Queues what is not footage; it is never refused."""
        with self._wake:
            self._orders.append((order, 0))
            self._wake.notify()

    def stop(self) -> None:
        """Writes what is queued, closes everything, and waits for it. Blocking."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        writer = self.writer
        try:
            writer.open()
        except BaseException as e:
            writer.volume.close()
            self.ready.set_exception(e)
            return
        self._flush()
        self.ready.set_result(None)
        while batch := self._take():
            for order, size in batch:
                if order is not None:
                    writer.handle(order)
                with self._wake:
                    self.queued_bytes -= size
            try:
                writer.tick()
            except Exception:
                log.exception("volume %s: the work by the clock failed", writer.volume.root)
            self._flush()
        writer.shut_down()
        self._flush()

    def _take(self) -> list[tuple[Order | None, int]]:
        """The next orders, or one empty order when the clock asks for work. Empty: the end."""
        with self._wake:
            if not self._orders and not self._stopping:
                self._wake.wait(max(self.writer.next_due_ns() - self._now(), 0) / NS)
            if not self._orders:
                return [] if self._stopping else [(None, 0)]
            return [self._orders.popleft() for _ in range(min(len(self._orders), _BATCH))]

    def _flush(self) -> None:
        events, self.writer.events = self.writer.events, []
        if events:
            self._publish(events)
