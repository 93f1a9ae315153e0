"""The configuration that survives everything: recordings, jobs, receivers and users in one database, and a snapshot of
it on each volume.

    apply(changes)   one transaction, on the disk when it returns (synchronous FULL); the snapshots follow on a thread.
    open(...)        a database that is damaged or gone is restored from the newest valid snapshot; the damaged file is
                     kept aside. Without a snapshot a damaged database stops the start, a missing one begins empty.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from nvr.auth.users import User
from nvr.model.device import DeviceState
from nvr.model.errors import OperatorError, StorageError
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
from nvr.storage.database import Database, DatabaseDamaged, History, Statement, keep_aside, upgrade
from nvr.storage.records import Sealer
from nvr.storage.snapshot import Snapshot
from nvr.storage.snapshot_writer import SnapshotWriter

log = logging.getLogger(__name__)


_COUNT = Statement(
    sa.update(schema.facts)
    .where(schema.facts.c.name == sa.literal_column("'serial'"))
    .values(value=sa.cast(sa.cast(schema.facts.c.value, sa.Integer) + sa.literal_column("1"), sa.Text))
)
"""Raises the number of changes."""


class ConfigurationStore:
    """Blocking; safe to call from several threads."""

    def __init__(self, database: Database, sealer: Sealer, snapshot_roots: Sequence[Path] = ()) -> None:
        self._database = database
        self._sealer = sealer
        with database.write() as connection:
            self.installation = _fact(connection, "installation", uuid.uuid4().hex)
            _fact(connection, "serial", "0")
        self._snapshots = SnapshotWriter(self._take_snapshot, snapshot_roots)
        self._snapshots.request()

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
        return cls(database, sealer, snapshot_roots)

    def close(self) -> None:
        """The snapshots hold every change when this returns."""
        self._snapshots.close()
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
                    records.load_device(connection),
                )
            except ValueError as e:
                raise OperatorError(
                    f"{self._database.path} holds a value that this version does not know ({e}): "
                    "run the version that wrote it"
                ) from e

    def apply(self, changes: Sequence[Change]) -> None:
        """All of the changes or none, in their order. Raises StorageError, and then nothing has changed."""
        with self._database.write() as connection:
            for change in changes:
                self._apply(connection, change)
            _COUNT.run(connection)
        self._snapshots.request()

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
            case Save(DeviceState() as device):
                records.save_device(connection, device)
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

    def save_users(self, users: Sequence[User]) -> None:
        """All of them or none."""
        self.apply([Save(user) for user in users])

    def delete_users(self, names: Sequence[str]) -> None:
        """All of them or none."""
        self.apply([DeleteUser(name) for name in names])

    def set_snapshot_roots(self, roots: Sequence[Path]) -> None:
        """Other volumes; each that is there has a snapshot when this returns."""
        self._snapshots.set_roots(roots)
        self._snapshots.flush()

    def write_snapshots(self) -> None:
        """Each volume that is there has a snapshot of the present state when this returns."""
        self._snapshots.request()
        self._snapshots.flush()

    @property
    def snapshot_failures(self) -> int:
        """Snapshots that could not be written since the start."""
        return self._snapshots.failures

    def _take_snapshot(self) -> Snapshot:
        with self._database.read() as connection:
            tables = {
                table.name: _rows(connection, table)
                for table in schema.configuration.sorted_tables
                if table is not schema.facts
            }
            serial = int(_fact(connection, "serial", "0"))
        revision = self._database.revision()
        assert revision is not None
        return Snapshot(self.installation, serial, revision, tables)


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


def _rows(connection: sa.Connection, table: sa.Table) -> list[dict[str, object]]:
    names = [c.name for c in table.columns]
    found = connection.execute(sa.select(table))
    return [dict(zip(names, row, strict=True)) for row in snapshot.unhurried(found)]


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
