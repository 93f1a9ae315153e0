"""Files of one volume that are not as they should be: left open by a daemon that died or by this one when its disk
failed, without a row, damaged. What recovery and repairs do with them on the writer thread, between appends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from nvr.model.errors import FormatError, StorageError
from nvr.model.time import UtcNs
from nvr.model.timeline import GapReason
from nvr.storage.holes import Changed, rejoin
from nvr.storage.mending import Mended, mend
from nvr.storage.orders import Adopt, CorrectEnd, Done, Event, GrowingFile, Mend, Recovered, Settle
from nvr.storage.recovery import Begun, adopt, begin_recovery, finish_open
from nvr.storage.rows import FileState, FootageIndex, TrackFileRow
from nvr.storage.settling import examine, settle
from nvr.storage.volume import Volume, VolumeState

log = logging.getLogger(__name__)


class UnfinishedFiles:
    """Belongs to the writer thread of the volume. Orders raise nothing: faults become events and log lines."""

    def __init__(
        self,
        volume: Volume,
        index: FootageIndex,
        growing: dict[str, GrowingFile],
        tell: Callable[[Event], None],
        lose_volume: Callable[[BaseException], None],
    ) -> None:
        """`growing` as for the writer; `tell` is told what happened, `lose_volume` of an error of the disk behind which
        nothing more is to be written."""
        self.pending: dict[str, TrackFileRow] = {}
        """Files that were open and wait to be examined; none of them is shown."""
        self.later: Callable[[list[TrackFileRow], Collection[str]], None] = lambda rows, suspects: None
        """Told of `pending`, and which of them are suspect, when the volume has been opened or is back
        (`LaterRecovery.take_up`)."""
        self.beat: Callable[[], None] = lambda: None
        """Called where an order that takes long has come a step further."""
        self._volume = volume
        self._index = index
        self._growing = growing
        self._tell = tell
        self._lose_volume = lose_volume
        self._left: dict[str, GapReason] = {}
        """Files that could not be closed, and why; they are settled when the volume is back."""
        self._suspects: set[str] = set()
        """Of these, files that could not be forced to the disk: nothing of them is believed before it is read again."""
        self._uncorrected: dict[str, GapReason] = {}
        """Closed files that do not say yet that their run ended with them, and why it did; settled likewise."""

    def leave(self, row: TrackFileRow, end_reason: GapReason | None, *, suspect: bool) -> None:
        """A file that cannot be closed now. It can be read until it is settled, if its entries stay in `growing`."""
        self._left[row.file_id] = end_reason or GapReason.STORAGE
        if suspect:
            self._suspects.add(row.file_id)
            log.error("%s could not be forced to the disk: it is read again before it is closed", row.path)

    def begin(self) -> Begun:
        """The volume is open, or back: what can be settled at a glance is. Raises OSError, StorageError."""
        begun = begin_recovery(
            self._volume.disk, self._volume, self._index, self._uncorrected, self.beat, self._suspects
        )
        self.pending = {row.file_id: row for row in begun.pending}
        self._uncorrected = {f: r for f, r in self._uncorrected.items() if f in self.pending}
        for file_id in [f for f in self._left if f not in self.pending]:
            self._no_longer_left(file_id)
        return begun

    def go_on(self, begun: Begun) -> None:
        """Tells what `begin` has done, and hands over what it has left. Raises StorageError."""
        self._tell_recovered(begun.changed)
        self._suspects &= self.pending.keys()
        self.later(begun.pending, frozenset(self._suspects))

    def settle_own(self) -> None:
        """At a stop: files of this daemon that could not be closed are not left for the next start."""
        for row in [r for r in self.pending.values() if r.file_id in self._left]:
            self._settle_at_once(row)

    def settle(self, order: Settle) -> None:
        """A file that has been examined; what has happened to it since counts more."""
        file_id = order.row.file_id
        if file_id not in self.pending or self._volume.state not in (VolumeState.ONLINE, VolumeState.FULL):
            return
        try:
            now = self._index.file(file_id)
            if now is not None and now.state is FileState.OPEN:
                reason = self._uncorrected.get(file_id) or self._left.get(file_id, GapReason.DAEMON_STOPPED)
                finish_open(self._volume.disk, self._volume, self._index, now, order.examined, reason)
                settled = self._index.file(file_id)
                self._volume.count(settled.size if settled is not None else 0)
        except (OSError, StorageError) as e:
            log.error("%s cannot be recovered now: %s", order.row.path, e)
            return
        del self.pending[file_id]
        self._suspects.discard(file_id)
        self._uncorrected.pop(file_id, None)
        self._no_longer_left(file_id)
        self._tell_recovered({(order.row.key, order.row.run_id)})

    def _settle_at_once(self, row: TrackFileRow) -> None:
        try:
            examined = examine(self._volume.path(row.path), suspect=row.file_id in self._suspects)
        except (OSError, StorageError, FormatError) as e:
            log.error("%s is left for the next start: %s", row.path, e)
            return
        self.settle(Settle(row, examined))

    def adopt(self, order: Adopt) -> None:
        """Files without a row that have been examined get one."""
        if self._volume.state not in (VolumeState.ONLINE, VolumeState.FULL):
            return
        changed: Changed = set()
        try:
            for path, examined in order.found:
                row = adopt(self._volume.disk, self._volume, self._index, path, examined)
                if row is not None:
                    self._volume.count(row.size)
                    changed.add((row.key, row.run_id))
                self.beat()
            for key, run_id in tuple(changed):
                changed |= rejoin(self._index, key, run_id)
        except (OSError, StorageError) as e:
            log.error("files without a row on %s are not adopted now: %s", self._volume.root, e)
        self._tell_recovered(changed)

    def mend(self, order: Mend) -> None:
        """What `nvr check` has found, where it still is so."""
        repair = order.repair
        try:
            if repair.file_id in self._growing or repair.file_id in self.pending:
                order.mended = Mended("nothing is changed: it is being written or recovered", remains=True)
            elif self._volume.state not in (VolumeState.ONLINE, VolumeState.FULL):
                order.mended = Mended(f"nothing is changed: the volume is {self._volume.state}", remains=True)
            else:
                before = self._size_of(repair.file_id)
                mended = mend(self._volume.disk, self._volume, self._index, repair, order.examined)
                self._volume.count(self._size_of(repair.file_id) - before)
                order.mended = mended
                log.warning("%s on %s (%s): %s", repair.path, self._volume.root, repair.kind, mended.text)
                self._tell_recovered(mended.changed)
        except (OSError, StorageError, FormatError) as e:
            self._tell(Done(order, e))
        else:
            self._tell(Done(order, None))

    def correct_end(self, order: CorrectEnd) -> None:
        """The row is OPEN until the file says the same: whatever cuts this short, recovery brings both together."""
        file_id, reason = order.file_id, order.end_reason
        try:
            row = self._index.file(file_id)
            if row is None or row.state is FileState.DELETING:
                return
            if row.state is FileState.CLOSED:
                self._index.reopen(file_id)
            self._uncorrected[file_id] = reason
            if file_id in self._left or self._volume.state not in (VolumeState.ONLINE, VolumeState.FULL):
                return
            settled = settle(self._volume.disk, self._volume.path(row.path), reason, correct=True)
            assert settled is not None, "a closed file has fragments"
            self._index.close(file_id, **settled.row_figures(), end_reason=settled.end_reason)
            del self._uncorrected[file_id]
        except (OSError, StorageError, FormatError) as e:
            log.error("file %s does not say yet that its run ended with it (%s): %s", file_id, reason, e)
            if isinstance(e, OSError):
                self._lose_volume(e)

    def _size_of(self, file_id: str) -> int:
        """By its row; 0 without one."""
        row = self._index.file(file_id)
        return row.size if row is not None else 0

    def _no_longer_left(self, file_id: str) -> None:
        if self._left.pop(file_id, None) is not None:
            self._growing.pop(file_id, None)

    def _tell_recovered(self, changed: Changed) -> None:
        if not changed:
            return
        # Before the index is asked: what another writer closes between the two is in both then, and not in neither.
        growing: dict[str, UtcNs] = {}
        for file in list(self._growing.values()):  # a copy: other writers change it
            run_id, start_ns = file.row.run_id, file.row.start_ns
            growing[run_id] = min(growing.get(run_id, start_ns), start_ns)
        runs = {key: {run.run_id: run for run in self._index.runs(key)} for key in {key for key, _ in changed}}
        told = [(key, run_id, runs[key].get(run_id), growing.get(run_id)) for key, run_id in changed]
        self._tell(Recovered(told))
