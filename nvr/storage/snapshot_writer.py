"""The thread that keeps the snapshot on each volume up to date.

A change of the configuration is safe when its transaction is committed; the snapshot follows at once, on this thread,
so that no client waits for it. Changes that come while it writes share the next one, and between two it rests for a
multiple of the time that the last has taken: each holds the whole configuration, and a thousand changes in a row must
not become a thousand snapshots that take the interpreter from everybody else. What could not be written is counted,
logged, and written with the next change or the next start. A volume that does not answer in time is left to its own
thread and passed over until that has come back, so that the others have theirs and nobody waits for it.

A directory without the identity of a volume gets none: it may be the place of a mount that is missing, or a place that
is to become a volume and must be empty for that.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from nvr.model.errors import FormatError, NvrError
from nvr.storage import snapshot
from nvr.storage.snapshot import Snapshot
from nvr.storage.volume import IDENTITY_FILE

log = logging.getLogger(__name__)

REST = 9
"""Rest between two snapshots in times of the last one's writing: at most a tenth of one core goes into them ..."""
LONGEST_REST_S = 2.0
"""... unless writing is slow because of the disk."""
PATIENCE_S = 10.0
"""How long a volume may take for its snapshot before the others go on without it."""


class SnapshotWriter:
    """Safe to call from several threads. `take` gives the present state; it may raise NvrError."""

    def __init__(self, take: Callable[[], Snapshot], roots: Sequence[Path], patience_s: float = PATIENCE_S) -> None:
        self.failures = 0
        """Snapshots that could not be written since the start."""
        self._take = take
        self._roots = tuple(roots)
        self._patience_s = patience_s
        self._late: set[Path] = set()
        """Roots whose volumes have not answered; a thread of its own waits for each."""
        self._examined: set[Path] = set()
        """Roots whose earlier snapshot is known to be ours and not newer."""
        self._changed = threading.Condition()
        self._asked = 0
        self._written = 0
        """Of the requests `_asked`, so many are answered."""
        self._hurried = 0
        """Of the requests `_asked`, for so many somebody waits."""
        self._closing = False
        # A process that dies without `close` must not wait for it: the next start writes what is missing.
        self._thread = threading.Thread(target=self._run, name="configuration-snapshot", daemon=True)
        self._thread.start()

    def request(self) -> None:
        """The configuration has changed."""
        with self._changed:
            self._asked += 1
            self._changed.notify_all()

    def set_roots(self, roots: Sequence[Path]) -> None:
        """The roots of the volumes; those that are no volume now are passed over."""
        with self._changed:
            self._roots = tuple(roots)
        self.request()

    def flush(self) -> None:
        """Returns when every request so far has been answered."""
        with self._changed:
            asked = self._hurried = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._written >= asked)

    def close(self) -> None:
        """Answers what has been requested, then ends the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._asked > self._written)
                if self._asked == self._written:
                    return
                asked, roots = self._asked, self._roots
            begin = time.monotonic()
            try:
                self._write(roots)
            except NvrError as e:
                self.failures += 1
                log.error("the configuration snapshots cannot be written: %s", e)
            except Exception:
                self.failures += 1
                log.exception("fault while the configuration snapshots are written")
            finally:
                with self._changed:
                    self._written = asked
                    self._changed.notify_all()
                    rest = min(REST * (time.monotonic() - begin), LONGEST_REST_S)
                    self._changed.wait_for(lambda: self._closing or self._hurried > self._written, rest)

    def _write(self, roots: Sequence[Path]) -> None:
        taken = self._take()
        data = bytes(taken)
        waiting = {root: threading.Event() for root in roots if root not in self._late}
        for root, done in waiting.items():
            work = partial(self._write_one, root, taken, data, done)
            threading.Thread(target=work, name=f"configuration-snapshot {root.name}", daemon=True).start()
        patience_s = self._patience_s
        for root, done in waiting.items():
            if done.wait(patience_s):
                continue
            patience_s = 0  # the others have had as long
            with self._changed:
                if done.is_set():
                    continue
                self._late.add(root)
            log.error(
                "the configuration snapshot %s is not written: the volume has not answered for %g s",
                root / snapshot.NAME,
                self._patience_s,
            )
            self.failures += 1

    def _write_one(self, root: Path, taken: Snapshot, data: bytes, done: threading.Event) -> None:
        try:
            if not (root / IDENTITY_FILE).is_file():
                self._examined.discard(root)  # a volume that went away may come back with another's snapshot
                return
            if root not in self._examined:
                _examine(root, taken)
                self._examined.add(root)
            snapshot.write(data, root)
        except OSError as e:
            self.failures += 1
            self._examined.discard(root)
            log.error("the configuration snapshot %s cannot be written: %s", root / snapshot.NAME, e)
        except Exception:
            self.failures += 1
            log.exception("fault while the configuration snapshot %s is written", root / snapshot.NAME)
        finally:
            with self._changed:
                done.set()
                late = root in self._late
                self._late.discard(root)
            if late:
                self.request()  # the configuration may have changed meanwhile


def _examine(root: Path, ours: Snapshot) -> None:
    """Keeps a snapshot of another recorder, or one newer than the database, from being overwritten."""
    try:
        found = snapshot.read(root)
    except FormatError as e:
        log.error("the configuration snapshot %s is replaced: %s", root / snapshot.NAME, e)
        return
    if found is None or (found.installation == ours.installation and found.serial <= ours.serial):
        return
    kept = snapshot.set_aside(root, found)
    why = "a newer state of this" if found.installation == ours.installation else "the configuration of another"
    log.error("the volume %s held %s recorder; it is kept as %s", root, why, kept.name)
