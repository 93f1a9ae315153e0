"""The writer of one volume: does the orders of the queue, one after the other, and what is due by the clock.

It knows no thread and no queue (`writer_thread.py` puts both around it). Nothing is raised into the event loop: what
goes wrong becomes an event that says so, and the state of the volume.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from operator import itemgetter

from nvr.media.bmff.fragment import FragmentEntry
from nvr.model.errors import DatabaseUnavailable, OperatorError, StorageError
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import GapReason
from nvr.storage.orders import (
    Adopt,
    Append,
    Appended,
    Barrier,
    Close,
    Closed,
    CorrectEnd,
    Delete,
    Done,
    Event,
    Failed,
    GrowingFile,
    Lost,
    Mend,
    Order,
    Settle,
    Unlink,
    VolumeChanged,
)
from nvr.storage.rows import FootageIndex
from nvr.storage.settings import FsyncPolicy, StorageSettings
from nvr.storage.track_file import TrackFileWriter
from nvr.storage.unfinished import UnfinishedFiles
from nvr.storage.unlinking import Unlinker
from nvr.storage.volume import Volume, VolumeState

log = logging.getLogger(__name__)

_LOOK_NS = 5 * NS
"""How often it is looked whether the volume is still there."""
_NOT_THE_VOLUME = (errno.EMFILE, errno.ENFILE)
"""The process is out of file descriptors: the file at hand fails, its volume does not."""


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
        self.unfinished = UnfinishedFiles(volume, index, growing, lambda e: self.events.append(e), self.lose_volume)
        self._now = now
        self._utc = utc
        self._files: dict[str, TrackFileWriter] = {}
        self._unlinker = Unlinker(volume, index, now)
        self._looked_ns = now()
        self._told_state: tuple[VolumeState, str | None] | None = None
        self._retry_at_ns: int | None = None
        self._unlink_again_ns: int | None = None
        """When it is looked what is to be unlinked, because the index could not tell."""
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
            self.lose_volume(e)
            if self.volume.state is VolumeState.FULL and self.volume.id is not None:
                self._recover_full()
        self._told_state = self.volume.state, self.volume.id  # who wants to know asks, now that it is there

    def handle(self, order: Order) -> None:
        """Does one order. Raises nothing: faults become events, log lines and the volume's state."""
        match order:
            case Append():
                self._append(order)
            case Close():
                self._close(order.file, order.end_reason)
            case CorrectEnd():
                self.unfinished.correct_end(order)
            case Delete():
                self._delete(order)
            case Unlink(rows):
                self._unlinker.add(rows, order)
                if self.volume.state is VolumeState.MISSING:
                    self._postpone_unlinking()
            case Barrier():
                self.events.append(Done(order, None))
            case Settle():
                self.unfinished.settle(order)
            case Mend():
                self.unfinished.mend(order)
            case Adopt():
                self.unfinished.adopt(order)
        self._tell_state()

    def tick(self) -> None:
        """What is due: syncing by interval, a look at the volume, another try of one that failed, unlinking."""
        now = self._now()
        if self._takes_looks and now - self._looked_ns >= _LOOK_NS:
            self._look()
        if self._settings.fsync is FsyncPolicy.INTERVAL:
            self._sync_one(now)
        if self._retry_at_ns is not None and now >= self._retry_at_ns:
            self._retry()
        if self._unlink_again_ns is not None and now >= self._unlink_again_ns:
            self._take_up_unlinking()
        if self._unlinker:
            self._unlink_some()
        self._tell_state()

    def next_due_ns(self) -> int:
        """When `tick` has work at the latest, on the monotonic clock."""
        if self._unlinker:
            return self._now()
        due = self._now() + 60 * NS
        if self._settings.fsync is FsyncPolicy.INTERVAL and (unsynced := self._longest_unsynced()) is not None:
            due = min(due, unsynced[0] + self._settings.fsync_interval_ns)
        for at_ns in (self._retry_at_ns, self._unlink_again_ns):
            due = min(due, at_ns) if at_ns is not None else due
        if self._takes_looks:
            due = min(due, self._looked_ns + _LOOK_NS)
        return due

    def shut_down(self) -> None:
        """Behind the last order: what is still open is closed, the lock given back.

        A volume that had failed is tried once more: what could not be closed then is not left for the next start.
        """
        if self._retry_at_ns is not None:
            self._retry()
        for file_id in list(self._files):
            self._close(self._growing[file_id], GapReason.DAEMON_STOPPED)
        self.unfinished.settle_own()
        self._postpone_unlinking()
        self.volume.close()

    def _append(self, order: Append) -> None:
        file = order.file
        if file.abandoned:
            return
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
            elif isinstance(e, DatabaseUnavailable):
                log.error("%s is not begun: %s", file.row.path, e)
                self._fail_file(file, str(e))
            else:
                self.lose_volume(e)
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
                self.lose_volume(e)

    def _write(self, file: GrowingFile, order: Append) -> FragmentEntry:
        self.volume.check_space(order.fragment.size)
        writer = self._files.get(file.row.file_id)
        before = 0 if writer is None else writer.size
        if writer is None:
            self.volume.look()  # below the place where it was mounted, nobody would find the file again
            writer = TrackFileWriter(self.volume.disk, self.volume.root, file.row, file.configuration, file.entries)
            self._index.insert_open(file.row)
            self._files[file.row.file_id] = writer
            self._growing[file.row.file_id] = file
        entry = writer.append(order.fragment, damaged_start=order.damaged_start, now_ns=self._now())
        self.volume.count(writer.size - before)
        return entry

    def _close(self, file: GrowingFile, end_reason: GapReason | None) -> None:
        """Order: data and name forced to the disk, then the row (see `TrackFileWriter.close`)."""
        file_id = file.row.file_id
        writer = self._files.pop(file_id, None)
        if writer is None:
            return  # failed before, which was told then; or nothing was ever written
        self.unfinished.beat()
        if file.abandoned:  # its row has its tombstone, and what unlinks it is in the queue
            writer.abandon()
            self._growing.pop(file_id, None)
            return
        if writer.suspect:
            writer.abandon()
            self._leave(writer, file, end_reason)
            return
        try:
            figures = writer.close(end_reason)
            if figures is None:
                self._index.forget([file_id])
            else:
                self.volume.count(figures.size - writer.size)
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
            if file.abandoned and isinstance(e, StorageError):  # deleted while it was being closed
                self._growing.pop(file_id, None)
                return
            log.error("%s could not be closed and is left for recovery: %s", file.row.path, e)
            self._leave(writer, file, end_reason)
            if not isinstance(e, DatabaseUnavailable):
                self.lose_volume(e)
            return
        self._growing.pop(file_id, None)
        self.events.append(Closed(file, end_reason))

    def _leave(self, writer: TrackFileWriter, file: GrowingFile, end_reason: GapReason | None) -> None:
        """For recovery. Its entries stay in `growing`."""
        self.unfinished.leave(file.row, end_reason, suspect=writer.suspect)
        self.events.append(Closed(file, end_reason))

    def _fail_file(self, file: GrowingFile, cause: str) -> None:
        file.failed = True
        self.events.append(Failed(file, cause))
        self._close(file, GapReason.STORAGE)

    def lose_volume(self, cause: BaseException) -> None:
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
        try:
            while self._files:
                self._fail_file(self._growing[next(iter(self._files))], str(cause))
        finally:
            self._losing = False

    @property
    def _takes_looks(self) -> bool:
        return self.volume.state in (VolumeState.ONLINE, VolumeState.FULL)

    def _look(self) -> None:
        """A volume that is unmounted while its files are open would take footage that nobody finds again."""
        self._looked_ns = self._now()
        try:
            self.volume.look()
        except (OSError, StorageError) as e:
            self.lose_volume(e)

    def _tell_state(self) -> None:
        state = self.volume.state, self.volume.id
        if state != self._told_state:
            self._told_state = state
            self.events.append(VolumeChanged(self.volume))

    def _retry(self) -> None:
        try:
            self.volume.probe(self._utc())
            self._recover()
        except Exception as e:
            if not isinstance(e, OSError | StorageError | OperatorError):
                log.exception("volume %s cannot be tried", self.volume.root)
            self.volume.fail(e)
            self._pause_ns = min(self._pause_ns * 2, self._settings.retry_limit_ns)
            self._retry_at_ns = self._now() + self._pause_ns
            return
        self._retry_at_ns = None
        self._online_since_ns = self._now()
        log.warning("volume %s (%s) takes footage again", self.volume.id, self.volume.root)

    def _recover(self) -> None:
        begun = self.unfinished.begin()
        assert self.volume.id is not None
        if self.volume.quota:
            self.volume.used = self._index.volume_bytes(self.volume.id)
        self._postpone_unlinking()
        deleting = self._index.deleting_files(self.volume.id)
        if deleting:
            self._unlinker.add(deleting, None)
        self.unfinished.go_on(begun)

    def _recover_full(self) -> None:
        """A full volume is recovered as far as it goes: what waits to be unlinked may be what fills it."""
        try:
            self._recover()
        except (OSError, StorageError) as e:
            log.error("volume %s is not recovered yet: %s", self.volume.root, e)

    def _longest_unsynced(self) -> tuple[int, TrackFileWriter] | None:
        waiting = [(f.unsynced_since_ns, f) for f in self._files.values() if f.unsynced_since_ns is not None]
        return min(waiting, key=itemgetter(0), default=None)

    def _sync_one(self, now: int) -> None:
        """One file at a time, between the appends: a hundred in a row would stop them for seconds."""
        unsynced = self._longest_unsynced()
        if unsynced is None or now - unsynced[0] < self._settings.fsync_interval_ns:
            return
        try:
            unsynced[1].sync()
        except OSError as e:
            self.lose_volume(e)

    def _delete(self, order: Delete) -> None:
        try:
            for file in list(self._growing.values()):  # a copy: other writers change it
                if file.row.key == order.key and file.row.volume_id == self.volume.id:
                    self._close(file, GapReason.JOB_STOPPED)
            rows = self._unlinker.hide_track(order.key)
            if order.hidden:
                rows += [r for r in self._index.deleting_files(self.volume.id or "") if r.key == order.key]
        except Exception as e:
            log.exception("footage of %s on %s cannot be deleted", order.key, self.volume.root)
            self.events.append(Done(order, e))
            return
        self._unlinker.add(rows, order)
        if self.volume.state is VolumeState.MISSING:
            self._postpone_unlinking()

    def _unlink_some(self) -> None:
        try:
            done = self._unlinker.unlink_some()
        except (OSError, StorageError) as e:
            log.error("files on %s are not unlinked yet: %s", self.volume.root, e)
            if isinstance(e, DatabaseUnavailable):
                self._unlink_again_ns = self._now() + self._settings.retry_ns
            else:
                self.lose_volume(e)
            self._postpone_unlinking()
            return
        except Exception:  # a fault of ours: left as it is, it would be tried again at once for ever
            log.exception("files on %s are not unlinked yet", self.volume.root)
            self._unlink_again_ns = self._now() + self._settings.retry_limit_ns
            self._postpone_unlinking()
            return
        if self.volume.state is VolumeState.FULL and not self._unlinker:
            self._retry_at_ns = self._now()
        if done is not None:
            self.events.append(Done(done, None))

    def _take_up_unlinking(self) -> None:
        try:
            rows = self._index.deleting_files(self.volume.id or "")
        except Exception as e:
            if not isinstance(e, StorageError):
                log.exception("what is to be unlinked on %s is not known", self.volume.root)
            self._unlink_again_ns = self._now() + self._settings.retry_limit_ns
            return
        self._unlink_again_ns = None
        if rows:
            self._unlinker.add(rows, None)

    def _postpone_unlinking(self) -> None:
        self.events += [Done(order, None) for order in self._unlinker.postpone()]
