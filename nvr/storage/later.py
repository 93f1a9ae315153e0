"""What a start leaves for later: files that were open are read, and files that the index does not know are found.

One thread a volume, beside its writer. It only reads; whatever changes a file or a row is an order to the writer, which
does it between two appends. So it can be killed anywhere, and the next start begins it again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nvr.model.errors import FormatError, StorageError
from nvr.storage.inventory import Day, days_of, difference, is_missing
from nvr.storage.orders import Adopt, Order, Settle
from nvr.storage.rows import FileState, FootageIndex, TrackFileRow
from nvr.storage.settling import Examined, belongs, examine
from nvr.storage.volume import Volume

log = logging.getLogger(__name__)

_WORK_S = 0.02
"""Read for so long, then rest for as long: half of the disk and at most half of a core are left to recording. The
thread is not made nicer instead: one that is put off while it holds the interpreter puts off the event loop."""
_BUSY_PAUSE_S = 0.1
_ADOPT_AT_ONCE = 16
_TOLD = 5
"""Single files of one kind that the log names; of the others it tells the number."""


class _Broken(Exception):
    """The examination is broken off: the daemon stops."""


@dataclass(frozen=True, slots=True)
class Checking:
    """How far the recovery of a volume is. Read anywhere."""

    root: Path
    pending: int = 0
    """Files that were open and are not shown yet."""
    failed: int = 0
    """Of these, those that could not be read: the next start tries again."""
    days: int = 0
    """Days of tracks whose files are still to be compared with the index."""
    adopted: int = 0
    """Files without a row that have one now, since the start."""
    strange: int = 0
    """Files without a row that get none: copies, files of other volumes, what cannot be read."""
    missing: int = 0
    """Rows whose files are not there."""
    first_missing: str = ""

    @property
    def under_way(self) -> bool:
        return self.pending > self.failed or self.days > 0


class LaterRecovery:
    """The second half of the recovery of one volume. Methods may be called from any thread."""

    def __init__(
        self, volume: Volume, index: FootageIndex, order: Callable[[Order], None], busy: Callable[[], bool]
    ) -> None:
        """`order` queues for the writer of the volume; `busy` tells whether recording needs the disk for itself."""
        self._volume = volume
        self._index = index
        self._order = order
        self._busy = busy
        self._pending: deque[TrackFileRow] = deque()
        self._days: deque[Day] = deque()
        self._look = False
        self._failed: set[str] = set()
        self._suspects: Collection[str] = ()
        self._at_hand = 0
        self._adopted = self._strange = 0
        self._missing = 0
        self._first_missing = ""
        self._changed = threading.Condition()
        self._begun = False
        self._stopping = threading.Event()
        self._worked_since = 0.0
        self._thread = threading.Thread(target=self._run, name=f"recovery {volume.root.name}", daemon=True)

    @property
    def checking(self) -> Checking:
        with self._changed:
            return Checking(
                self._volume.root,
                len(self._pending) + self._at_hand + len(self._failed),
                len(self._failed),
                max(len(self._days), int(self._look)),
                self._adopted,
                self._strange,
                self._missing,
                self._first_missing,
            )

    def take_up(self, rows: Sequence[TrackFileRow], suspects: Collection[str] = ()) -> None:
        """These files wait to be examined, and the volume is to be looked through. Called when a volume is opened, and
        again when it is back: what was left of the time before is named again. `suspects`: ids of those that could not
        be forced to the disk."""
        with self._changed:
            # Newest first: it is the footage of the last minutes that somebody looks for.
            self._pending = deque(sorted(rows, key=lambda r: r.start_ns, reverse=True))
            self._failed.clear()
            self._suspects = frozenset(suspects)
            self._look = True
            self._changed.notify_all()

    def begin(self) -> None:
        """From now on; before, nothing is done."""
        with self._changed:
            self._begun = True
        self._thread.start()

    def begin_stop(self) -> None:
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> None:
        """Behind `begin_stop`: blocks until the thread has ended, at most so long."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def wake(self) -> None:
        """The volume hangs, or answers again: who waits looks anew."""
        with self._changed:
            self._changed.notify_all()

    def wait_until_done(self) -> None:
        """Blocks until there is nothing left that can be done now, the recovery is stopped or the volume hangs."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._stopping.is_set()
                    or bool(self._volume.hangs)
                    or not (self._pending or self._at_hand or self._look or self._days)
                )
            )

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._changed:
                self._at_hand = 0
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._stopping.is_set() or self._pending or self._look or self._days)
                row = self._pending.popleft() if self._pending else None
                self._at_hand = int(row is not None)
            self._worked_since = time.monotonic()
            try:
                if self._stopping.is_set():
                    break
                if row is not None:
                    self._examine(row)
                elif self._look:
                    self._begin_look()
                elif self._days:
                    self._compare(self._days[0])
                    self._next_day()
            except _Broken:
                break
            except Exception as e:
                # The daemon records all the same; a volume that is gone is taken up again when it is back.
                level = logging.ERROR if isinstance(e, (OSError, StorageError)) else logging.CRITICAL
                log.log(
                    level, "volume %s is not looked through: %s", self._volume.root, e, exc_info=level > logging.ERROR
                )
                with self._changed:
                    self._look = False
                    self._days.clear()
        with self._changed:
            self._at_hand = 0
            self._changed.notify_all()

    def _examine(self, row: TrackFileRow) -> None:
        path = self._volume.path(row.path)
        try:
            suspect = row.file_id in self._suspects
            examined = examine(path, suspect=suspect, visit=lambda entry: self._rest())
        except (FileNotFoundError, FormatError, StorageError, OSError) as e:
            now = self._index.file(row.file_id)
            if now is None or now.state is not FileState.OPEN:
                return  # deleted meanwhile
            log.error("%s cannot be recovered now: %s", path, e)
            with self._changed:
                self._failed.add(row.file_id)
            return
        self._do(Settle(row, examined))
        now = self._index.file(row.file_id)
        if now is not None and now.state is FileState.OPEN:
            with self._changed:
                self._failed.add(row.file_id)

    def _begin_look(self) -> None:
        days = days_of(self._volume, self._index)
        with self._changed:
            self._look = False
            self._missing, self._first_missing = 0, ""
            self._days = deque(days)

    def _next_day(self) -> None:
        if len(self._days) == 1:
            self._tell()  # before anybody is told that it is done
        with self._changed:
            if self._days:
                self._days.popleft()
        self._rest()

    def _compare(self, day: Day) -> None:
        try:
            found = difference(self._volume, self._index, day)
        except OSError as e:
            if not self._volume.present():
                raise
            log.error("%s cannot be compared with the index: %s", self._volume.path(day.path), e)
            return
        missing = [i for i in found.missing if is_missing(self._volume, self._index, i)]
        if missing and not self._volume.present():  # a mount that is gone looks like a volume without files
            raise StorageError(f"volume {self._volume.id} is not there any more")
        row = self._index.file(missing[0]) if missing else None
        self._missing += len(missing)
        self._first_missing = self._first_missing or (row.path if row is not None else "")
        candidates = (c for path in found.strays if (c := self._candidate(path)) is not None)
        while batch := list(islice(candidates, _ADOPT_AT_ONCE)):
            self._do(Adopt(batch))
            with self._changed:
                self._adopted += len(batch)

    def _candidate(self, path: Path) -> tuple[Path, Examined] | None:
        """What a file without a row holds; None, with a log line, where it gets none."""
        assert self._volume.id is not None
        try:
            examined = examine(path, visit=lambda entry: self._rest())
            why = "it holds no whole fragment"
            if examined is not None:
                why = belongs(examined.identity, path, self._volume.id)
        except FileNotFoundError:
            return None
        except (FormatError, StorageError, OSError) as e:
            examined, why = None, str(e)
        if examined is not None and not why:
            return path, examined
        self._strange += 1
        if self._strange <= _TOLD:
            log.error("%s has no row in the index and gets none; it is left as it is: %s", path, why)
        return None

    def _tell(self) -> None:
        if self._adopted:
            log.warning(
                "volume %s: %d files had no row in the index and have one now", self._volume.root, self._adopted
            )
        if self._strange:
            log.error(
                "volume %s: %d files have no row and get none; nothing of them is changed: `nvr check` names them",
                self._volume.root,
                self._strange,
            )
        if self._missing:
            log.error(
                "volume %s: %d files of the index are not there, such as %s: files were removed, or the volume is an "
                "older copy. `nvr check` names them",
                self._volume.root,
                self._missing,
                self._first_missing,
            )

    def _do(self, order: Settle | Adopt) -> None:
        """Waits until the writer has done it: it never has more than one order of a recovery before it."""
        self._order(order)
        while not order.done.wait(0.1):
            if self._stopping.is_set():
                raise _Broken

    def _rest(self) -> None:
        """Now and then as long as was worked before; longer while recording needs the disk for itself."""
        worked = time.monotonic() - self._worked_since
        if worked < _WORK_S and not self._stopping.is_set():
            return
        if self._stopping.wait(worked):
            raise _Broken
        while self._busy() and not self._stopping.wait(_BUSY_PAUSE_S):
            pass
        if self._stopping.is_set():
            raise _Broken
        self._worked_since = time.monotonic()
