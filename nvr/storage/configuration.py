"""The configuration that survives everything: recordings, jobs, receivers and users in one database, and a snapshot of
it on each volume.

    apply(changes)   one transaction, on the disk when it returns (synchronous FULL); then the snapshots are rewritten.
                     A snapshot that cannot be written is counted and logged: the change itself is safe.
    open(...)        a database that is damaged or gone is restored from the newest valid snapshot; the damaged file is
                     kept aside. Without a snapshot a damaged database stops the start, a missing one begins empty.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from nvr.auth.users import User
from nvr.model.errors import FormatError, OperatorError, StorageError
from nvr.model.job import RecordingJob
from nvr.model.receiver import Receiver
from nvr.model.recording import Recording
from nvr.model.tokens import JobToken, ReceiverToken, RecordingToken, TrackToken
from nvr.storage import records, schema, snapshot
from nvr.storage.changes import (
    Change,
    Deleted,
    DeleteJob,
    DeleteReceiver,
    DeleteRecording,
    DeleteUser,
    Deletion,
    Save,
    StoredConfiguration,
)
from nvr.storage.database import Database, DatabaseDamaged, History, keep_aside, upgrade
from nvr.storage.records import Sealer
from nvr.storage.snapshot import Snapshot

log = logging.getLogger(__name__)


class ConfigurationStore:
    """Blocking; safe to call from several threads."""

    def __init__(self, database: Database, sealer: Sealer, snapshot_roots: Sequence[Path] = ()) -> None:
        self._database = database
        self._sealer = sealer
        self._roots = tuple(snapshot_roots)
        self._lock = threading.Lock()
        self._examined: set[Path] = set()
        """Roots whose earlier snapshot is known to be ours and not newer."""
        self.snapshot_failures = 0
        """Snapshots that could not be written since the start."""
        with database.write() as connection:
            self.installation = _fact(connection, "installation", uuid.uuid4().hex)
            _fact(connection, "serial", "0")

    @classmethod
    def open(cls, path: Path, sealer: Sealer, snapshot_roots: Sequence[Path] = ()) -> ConfigurationStore:
        """Opens, creates or restores the database. Raises OperatorError with what to do."""
        lost = not path.exists() or path.stat().st_size == 0
        try:
            database = None if lost else _open(path)
        except DatabaseDamaged as e:
            log.error("%s", e)
            database = None
        if database is None:
            database = _restored(path, snapshot_roots, lost)
        store = cls(database, sealer, snapshot_roots)
        store.write_snapshots()
        return store

    def close(self) -> None:
        self._database.close()

    def load(self) -> StoredConfiguration:
        """Raises StorageError, and OperatorError for values that this version does not know."""
        with self._database.read() as connection:
            try:
                return StoredConfiguration(
                    records.load_recordings(connection),
                    records.load_jobs(connection),
                    records.load_receivers(connection, self._sealer),
                    records.load_users(connection),
                    tuple(
                        Deletion(RecordingToken(d.recording), TrackToken(d.track) if d.track else None)
                        for d in connection.execute(
                            sa.select(schema.deletions).order_by(schema.deletions.c.recording, schema.deletions.c.track)
                        )
                    ),
                )
            except ValueError as e:
                raise OperatorError(
                    f"{self._database.path} holds a value that this version does not know ({e}): "
                    "run the version that wrote it"
                ) from e

    def apply(self, changes: Sequence[Change]) -> None:
        """All of the changes or none, in their order. Raises StorageError, and then nothing has changed."""
        with self._lock:
            with self._database.write() as connection:
                for change in changes:
                    self._apply(connection, change)
                serial = int(_fact(connection, "serial", "0")) + 1
                connection.execute(
                    sa.update(schema.facts).where(schema.facts.c.name == "serial").values(value=str(serial))
                )
            self._write_snapshots()

    def _apply(self, connection: sa.Connection, change: Change) -> None:
        match change:
            case Save(Recording() as recording):
                records.save_recording(connection, recording)
            case Save(RecordingJob() as job):
                records.save_job(connection, job)
            case Save(Receiver() as receiver):
                records.save_receiver(connection, receiver, self._sealer)
            case Save(User() as user):
                records.save_user(connection, user)
            case Save(Deletion() as deletion):
                _delete_deletion(connection, deletion)
                values = {"recording": deletion.recording, "track": deletion.track or ""}
                connection.execute(sa.insert(schema.deletions), values)
            case DeleteRecording(token):
                records.delete(connection, schema.recordings.c.token, token)
            case DeleteJob(token):
                records.delete(connection, schema.jobs.c.token, token)
            case DeleteReceiver(token):
                records.delete(connection, schema.receivers.c.token, token)
            case DeleteUser(name):
                records.delete(connection, schema.users.c.name, name)
            case Deleted(deletion):
                _delete_deletion(connection, deletion)

    def save_recording(self, recording: Recording) -> None:
        self.apply([Save(recording)])

    def delete_recording(self, token: RecordingToken) -> None:
        self.apply([DeleteRecording(token)])

    def save_job(self, job: RecordingJob) -> None:
        self.apply([Save(job)])

    def delete_job(self, token: JobToken) -> None:
        self.apply([DeleteJob(token)])

    def save_receiver(self, receiver: Receiver) -> None:
        self.apply([Save(receiver)])

    def delete_receiver(self, token: ReceiverToken) -> None:
        self.apply([DeleteReceiver(token)])

    def save_user(self, user: User) -> None:
        self.apply([Save(user)])

    def delete_user(self, name: str) -> None:
        self.apply([DeleteUser(name)])

    def set_snapshot_roots(self, roots: Sequence[Path]) -> None:
        """The roots of the volumes that are there now; each gets a snapshot at once."""
        with self._lock:
            self._roots = tuple(roots)
            self._examined &= set(roots)
            self._write_snapshots()

    def write_snapshots(self) -> None:
        """Writes the snapshot to each root, whether or not anything has changed."""
        with self._lock:
            self._write_snapshots()

    def _write_snapshots(self) -> None:
        roots = [root for root in self._roots if root.is_dir()]  # a volume that is missing gets its snapshot when back
        if not roots:
            return
        taken = self._take_snapshot()
        for root in roots:
            try:
                if root not in self._examined:
                    self._examine(root, taken)
                    self._examined.add(root)
                snapshot.write(taken, root)
            except OSError as e:
                self.snapshot_failures += 1
                self._examined.discard(root)
                log.error("the configuration snapshot %s cannot be written: %s", root / snapshot.NAME, e)

    def _take_snapshot(self) -> Snapshot:
        with self._database.read() as connection:
            tables = {
                table.name: [dict(row) for row in connection.execute(sa.select(table)).mappings()]
                for table in schema.configuration.sorted_tables
                if table is not schema.facts
            }
            serial = int(_fact(connection, "serial", "0"))
        revision = self._database.revision()
        assert revision is not None
        return Snapshot(self.installation, serial, revision, tables)

    def _examine(self, root: Path, ours: Snapshot) -> None:
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


def _open(path: Path) -> Database:
    return Database(path, History.CONFIGURATION, synchronous="FULL")


def _restored(path: Path, roots: Sequence[Path], lost: bool) -> Database:
    """A new database, filled from the newest snapshot; the damaged one is kept aside."""
    newest = snapshot.newest(roots)
    if newest is None:
        if lost:
            return _open(path)
        raise OperatorError(
            f"{path} is damaged and no volume holds a valid snapshot of the configuration: put a backup in place, "
            "or mount the volume that has the snapshot, or rename the file to start without recordings and users"
        )
    taken, root = newest
    if lost:
        log.error("%s is gone: restoring it from %s (change %d)", path, root / snapshot.NAME, taken.serial)
    else:
        kept = keep_aside(path)
        log.error(
            "restoring %s from %s (change %d); the damaged file is kept as %s",
            path,
            root / snapshot.NAME,
            taken.serial,
            kept.name,
        )
    filling = path.with_name(path.name + ".restoring")
    for suffix in ("", "-wal", "-shm"):
        filling.with_name(filling.name + suffix).unlink(missing_ok=True)
    try:
        _fill(filling, taken)
    except (StorageError, SQLAlchemyError) as e:
        raise OperatorError(f"the configuration snapshot {root / snapshot.NAME} cannot be restored: {e}") from e
    filling.rename(path)  # only a complete database gets the name: a restoration that was cut short begins again
    return _open(path)


def _fill(path: Path, taken: Snapshot) -> None:
    database = Database(path, History.CONFIGURATION, synchronous="FULL", revision=taken.revision)
    try:
        with database.write() as connection:
            then = sa.MetaData()
            then.reflect(connection)
            for table in then.sorted_tables:
                rows = taken.tables.get(table.name)
                if rows:
                    connection.execute(sa.insert(table), rows)
            facts = {"installation": taken.installation, "serial": str(taken.serial)}
            connection.execute(sa.insert(then.tables["facts"]), [{"name": n, "value": v} for n, v in facts.items()])
            upgrade(connection, History.CONFIGURATION)
    finally:
        database.close()


def _fact(connection: sa.Connection, name: str, initial: str) -> str:
    facts = schema.facts
    found = connection.execute(sa.select(facts.c.value).where(facts.c.name == name)).scalar()
    if found is not None:
        return str(found)
    connection.execute(sa.insert(facts), {"name": name, "value": initial})
    return initial


def _delete_deletion(connection: sa.Connection, deletion: Deletion) -> None:
    c = schema.deletions.c
    connection.execute(
        sa.delete(schema.deletions).where(c.recording == deletion.recording, c.track == (deletion.track or ""))
    )
