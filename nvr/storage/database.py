"""One SQLite file: opening, checking, migrating, transactions. All that is particular to SQLite stands in this file.

Both databases are in WAL mode. `synchronous` is FULL for the configuration (a committed change survives a power cut)
and NORMAL for the index of footage (a power cut may cost the last commits; recovery makes them again from the files).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError

from nvr.model.errors import DatabaseUnavailable, OperatorError, StorageError

log = logging.getLogger(__name__)

HEADER = b"SQLite format 3\0"
BUSY_TIMEOUT_MS = 5_000
CLOSE_TIMEOUT_S = 2.0
"""So long a write that is under way is waited for at a close."""
WHOLE_CHECK_BYTES = 64 << 20
"""An index up to this size is checked as a whole when it is opened, which takes a tenth of a second. One of a million
track files takes 12 s where the kernel has to read it from the disk: recording does not wait for that."""
_STEPS_BETWEEN_LOOKS = 200_000
"""Of SQLite's machine, between two questions whether a check shall go on: some milliseconds."""
MIGRATIONS = Path(__file__).parent / "migrations"


class History(StrEnum):
    """The Alembic histories; the value is the directory of the revisions."""

    CONFIGURATION = "configuration"
    INDEX = "index"
    EVENTS = "events"


HEADS = {History.CONFIGURATION: "c0005", History.INDEX: "i0008", History.EVENTS: "e0002"}
"""Newest revision of each history, so that a database that has it opens without loading Alembic. A test compares."""


class DatabaseDamaged(OperatorError):
    """The file is no database, or its structure is broken."""


class Database:
    """An open database. Every method blocks and may be called from several threads; one writer at a time."""

    def __init__(
        self, path: Path, history: History, synchronous: str, revision: str = "head", *, read_only: bool = False
    ) -> None:
        """Opens or creates the file, checks it and brings its schema up to `revision`.

        `read_only`: a file that a daemon has open; it is only read, and not checked, and its schema must be the newest.

        Raises DatabaseDamaged, or OperatorError when the file cannot be opened or comes from another version.
        """
        self.path = path
        self.history = history
        self._write_lock = threading.Lock()
        self._closed = False
        if read_only:
            self.unchecked = True
            self._engine = self._durable = _engine(path, synchronous, read_only=True)
            self._require_newest()
            return
        self.unchecked = _prepare_file(path) > WHOLE_CHECK_BYTES and history is not History.CONFIGURATION
        """Whether it is still to be checked as a whole, by `check`."""
        self._engine = _engine(path, synchronous)
        self._durable = self._engine if synchronous == "FULL" else _engine(path, "FULL")
        try:
            if not self.unchecked:
                self._check()
            self._migrate(revision)
        except (StorageError, UnicodeDecodeError) as e:  # the driver's own messages quote what it found in the file
            self._engine.dispose()
            raise DatabaseDamaged(f"{path} is damaged: {e}") from e
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """The last connection to close folds the write-ahead log into the file. What is asked afterwards is refused; a
        write that is under way is waited for, unless the disk hangs."""
        self._closed = True
        if self._write_lock.acquire(timeout=CLOSE_TIMEOUT_S):
            self._write_lock.release()
        else:
            log.error("%s is closed in the middle of a write that does not end", self.path)
        self._durable.dispose()
        self._engine.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent view of the database. Raises StorageError."""
        self._require_open()
        with self._errors("read"), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self, *, durable: bool = False) -> Iterator[sa.Connection]:
        """One transaction: committed when the block ends, undone when it raises. Raises StorageError.

        `durable`: it, and all before it, survives a power cut once it is committed, whatever `synchronous` says.
        """
        with (
            self._write_lock,
            self._errors("write"),
            self._begun(self._durable if durable else self._engine) as connection,
        ):
            yield connection

    def _begun(self, engine: sa.Engine) -> contextlib.AbstractContextManager[sa.Connection]:
        self._require_open()
        return engine.begin()

    def _require_open(self) -> None:
        # An engine that has been disposed of would connect anew, behind whoever moves or removes the file.
        if self._closed:
            raise StorageError(f"{self.path} is closed")

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as e:
            ours = not isinstance(e, DBAPIError) or isinstance(e, IntegrityError | ProgrammingError)
            raise (StorageError if ours else DatabaseUnavailable)(f"cannot {what} {self.path}: {_cause(e)}") from e
        except UnicodeDecodeError as e:
            raise StorageError(f"cannot {what} {self.path}: it holds text that is not UTF-8") from e

    def _check(self) -> None:
        try:
            with self._engine.connect() as connection:
                answer = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        except DBAPIError as e:
            if _is_damage(e):
                raise DatabaseDamaged(f"{self.path} is damaged: {_cause(e)}") from e
            raise OperatorError(f"{self.path} cannot be opened: {_cause(e)}") from e
        if answer != "ok":
            raise DatabaseDamaged(f"{self.path} is damaged: {answer}")

    def check(self, going_on: Callable[[], bool]) -> None:
        """Checks an open database as a whole, beside its use; returns early when `going_on` says no.

        Raises DatabaseDamaged, StorageError when it cannot be read.
        """
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_MS / 1000)) as connection:
                connection.set_progress_handler(lambda: not going_on(), _STEPS_BETWEEN_LOOKS)
                answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.Error as e:
            code = getattr(e, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_INTERRUPT:
                return
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise DatabaseDamaged(f"{self.path} is damaged: {e}") from e
            raise StorageError(f"cannot read {self.path}: {e}") from e
        if answer != "ok":
            raise DatabaseDamaged(f"{self.path} is damaged: {answer}")
        self.unchecked = False

    def revision(self) -> str | None:
        """The revision of the schema; None for an empty database."""
        with self._errors("read"), self._engine.connect() as connection:
            return _revision(connection)

    def _require_newest(self) -> None:
        try:
            found = self.revision()
        except StorageError as e:
            raise OperatorError(f"{self.path} cannot be opened: {e}") from e
        if found != HEADS[self.history]:
            self._engine.dispose()
            raise OperatorError(f"{self.path} has schema {found!r}, this version knows {HEADS[self.history]!r}")

    def _migrate(self, revision: str) -> None:
        if self.revision() == HEADS[self.history]:
            return
        try:
            with self._write_lock, self._engine.begin() as connection:
                upgrade(connection, self.history, revision)
        except SQLAlchemyError as e:
            raise OperatorError(f"the schema of {self.path} cannot be brought up to date: {_cause(e)}") from e


class Statement:
    """A statement that is compiled once: SQLAlchemy's own way there costs several times what SQLite then does.

    Its parameters are named; only types whose values the driver takes as they are may occur.
    """

    def __init__(self, statement: sa.ClauseElement, names: Iterable[str] = ()) -> None:
        """`names` are the columns of an insert without values."""
        self._statement = statement
        self._names = list(names) or None
        self._compiled: dict[str, tuple[str, list[str] | None]] = {}
        self._constants: dict[str, object] = {}
        """Parameters that stand in the statement itself."""

    def run(self, connection: sa.Connection, *rows: Mapping[str, object]) -> int:
        """Once for each row of parameters; once when there is none. How many rows change. Raises SQLAlchemyError."""
        text, order = self._text(connection.dialect)
        if order is None:
            return connection.exec_driver_sql(text, [dict(row) for row in rows] or None).rowcount
        parameters = [tuple(row[name] for name in order) for row in rows]
        return connection.exec_driver_sql(text, parameters or None).rowcount

    def rows(self, connection: sa.Connection, explain: str = "", /, **values: object) -> Sequence[tuple[Any, ...]]:
        """What a query finds. `explain` stands before it: how a test asks for the plan. Raises SQLAlchemyError."""
        text, order = self._text(connection.dialect)
        values = {**self._constants, **values}
        parameters = values if order is None else tuple(values[name] for name in order)
        found: Sequence[Any] = connection.exec_driver_sql(explain + text, parameters).fetchall()
        return found

    def _text(self, dialect: sa.Dialect) -> tuple[str, list[str] | None]:
        """As the driver takes it, and the order of the parameters where they go by place."""
        found = self._compiled.get(dialect.name)
        if found is None:
            compiled: Any = self._statement.compile(dialect=dialect, column_keys=self._names)
            self._constants = {name: value for name, value in compiled.params.items() if value is not None}
            found = self._compiled[dialect.name] = str(compiled), compiled.positiontup
        return found


def insert(table: sa.Table) -> Statement:
    """A new row, all columns given."""
    return Statement(sa.insert(table), (c.name for c in table.columns))


def put(table: sa.Table, key: str) -> Statement:
    """A new row, or new values for the one with this key; all columns but a running number are given."""
    names = [c.name for c in table.columns if c.name != "id"]
    statement = sqlite_insert(table).values({name: sa.bindparam(name) for name in names})
    changed = {name: statement.excluded[name] for name in names if name != key}
    return Statement(statement.on_conflict_do_update(index_elements=[key], set_=changed))


def upgrade(connection: sa.Connection, history: History, revision: str = "head") -> None:
    """Runs the migrations up to `revision` inside the transaction of `connection`."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    # ConfigParser interpolates '%'; the separator allows any other character in the path.
    escaped = str(MIGRATIONS).replace("%", "%%")
    config.set_main_option("script_location", escaped)
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", f"{escaped}{os.sep}{history}")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as e:
        raise OperatorError(
            f"the {history} database has schema {_revision(connection) or revision!r}, which this version does not "
            f"know: run the version that wrote it, or a newer one ({e})"
        ) from e


def keep_aside(path: Path) -> Path:
    """Renames a damaged database, with its write-ahead log, so that it can be examined. Returns the new path."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    kept = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(kept.with_name(kept.name + suffix))
    return kept


def _prepare_file(path: Path) -> int:
    """Creates the file for its owner only (SQLite gives the log the same mode), and looks at the header.

    Returns its size.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "rb") as file:
            header = file.read(len(HEADER))
            size = os.fstat(file.fileno()).st_size
    except OSError as e:
        raise OperatorError(f"{path} cannot be opened: {e.strerror}") from e
    if header and header != HEADER:
        raise DatabaseDamaged(f"{path} is damaged: it does not begin as an SQLite database")
    return size


def _engine(path: Path, synchronous: str, *, read_only: bool = False) -> sa.Engine:
    if read_only:
        url = URL.create("sqlite", database=path.absolute().as_uri(), query={"mode": "ro", "uri": "true"})
    else:
        url = URL.create("sqlite", database=str(path.absolute()))
    engine = sa.create_engine(url, connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000})

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own transaction control neither covers DDL nor gives readers one view: BEGIN is sent below.
        connection.isolation_level = None
        settings = (
            ("query_only=ON",) if read_only else ("journal_mode=WAL", f"synchronous={synchronous}", "foreign_keys=ON")
        )
        for pragma in settings:
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if found is None else str(found)


def _is_damage(error: DBAPIError) -> bool:
    code = getattr(error.orig, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _cause(error: SQLAlchemyError) -> str:
    """The driver's words only: SQLAlchemy's text shows the values of the statement, which may be secret."""
    return str(error.orig) if isinstance(error, DBAPIError) else type(error).__name__
