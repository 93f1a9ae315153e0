from __future__ import annotations

import contextlib
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvr.model.errors import OperatorError, StorageError
from nvr.storage import database as database_module
from nvr.storage import schema
from nvr.storage.database import HEADS, MIGRATIONS, Database, DatabaseDamaged, History, keep_aside

METADATA = {
    History.CONFIGURATION: schema.configuration,
    History.INDEX: schema.index,
    History.EVENTS: schema.events,
}


@pytest.mark.parametrize("history", History)
def test_migrations_make_exactly_the_declared_tables(history: History, tmp_path: Path) -> None:
    database = Database(tmp_path / "a.db", history, "NORMAL")
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA[history]) == []
    database.close()


@pytest.mark.parametrize("history", History)
def test_the_head_known_to_the_program_is_the_newest_revision(history: History) -> None:
    scripts = ScriptDirectory(str(MIGRATIONS), version_locations=[str(MIGRATIONS / history)])
    assert scripts.get_current_head() == HEADS[history]


@pytest.mark.parametrize(("synchronous", "value"), [("FULL", 2), ("NORMAL", 1)])
def test_every_connection_has_wal_its_synchronous_and_foreign_keys(
    synchronous: str, value: int, tmp_path: Path
) -> None:
    database = Database(tmp_path / "a.db", History.INDEX, synchronous)
    with database.read() as one, database.read() as other:
        for connection in (one, other):
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == value
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    database.close()


def test_a_durable_transaction_is_forced_to_the_disk_in_a_database_that_else_waits(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.db", History.INDEX, "NORMAL")
    with database.write(durable=True) as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    with database.write() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
    database.close()
    assert [p.name for p in tmp_path.iterdir()] == ["a.db"], "the last connection has folded the log into the file"


def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.db", History.CONFIGURATION, "FULL")
    files = list(tmp_path.iterdir())
    assert {f.name for f in files} == {"a.db", "a.db-wal", "a.db-shm"}
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}
    database.close()


def test_a_transaction_that_raises_leaves_nothing_behind(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.db", History.CONFIGURATION, "FULL")

    def write_then_fail() -> None:
        with database.write() as connection:
            connection.execute(sa.insert(schema.facts), {"name": "a", "value": "b"})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_then_fail()
    with database.read() as connection:
        assert connection.execute(sa.select(schema.facts)).all() == []
    database.close()


def test_a_database_opens_again_without_a_new_migration(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Database(path, History.INDEX, "NORMAL").close()
    database = Database(path, History.INDEX, "NORMAL")
    assert database.revision() == HEADS[History.INDEX]
    database.close()


@pytest.mark.parametrize("size", [1, 16, 100, 5000])
def test_a_file_that_is_no_database_is_found_at_open(size: int, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"\xa5" * size)
    with pytest.raises(DatabaseDamaged, match=r"a\.db is damaged"):
        Database(path, History.INDEX, "NORMAL")
    assert path.read_bytes() == b"\xa5" * size


def test_a_broken_page_is_found_at_open(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Database(path, History.INDEX, "NORMAL").close()
    data = bytearray(path.read_bytes())
    data[4096:8192] = b"\xff" * 4096
    path.write_bytes(data)
    with pytest.raises(DatabaseDamaged):
        Database(path, History.INDEX, "NORMAL")


def test_a_cut_database_is_found_at_open(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Database(path, History.INDEX, "NORMAL").close()
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DatabaseDamaged):
        Database(path, History.INDEX, "NORMAL")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 28_671), harm=st.binary(min_size=1, max_size=100))
def test_a_harmed_file_opens_or_is_refused_for_the_operator_to_mend(place: int, harm: bytes, tmp_path: Path) -> None:
    whole = tmp_path / "whole.db"
    if not whole.exists():
        Database(whole, History.INDEX, "NORMAL").close()
    data = bytearray(whole.read_bytes())
    place %= len(data)
    data[place : place + len(harm)] = harm[: len(data) - place]
    path = tmp_path / "harmed.db"
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"harmed.db{suffix}").unlink(missing_ok=True)
    path.write_bytes(data)
    with contextlib.suppress(OperatorError):
        Database(path, History.INDEX, "NORMAL").close()


def test_a_log_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.db-wal").mkdir()
    with pytest.raises(OperatorError, match="cannot be opened"):
        Database(tmp_path / "a.db", History.INDEX, "NORMAL")


def test_a_database_of_a_newer_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Database(path, History.INDEX, "NORMAL").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'i9999'")
    connection.close()
    with pytest.raises(OperatorError, match="'i9999', which this version does not know: run the version that wrote it"):
        Database(path, History.INDEX, "NORMAL")


def test_a_directory_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot be opened: No such file"):
        Database(tmp_path / "no" / "a.db", History.INDEX, "NORMAL")


def test_errors_do_not_show_the_values_of_the_statement(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.db", History.CONFIGURATION, "FULL")
    with pytest.raises(StorageError) as caught, database.write() as connection:
        connection.execute(sa.insert(schema.tracks), {"recording": "secret", "token": "t", "place": 0})
    assert "secret" not in str(caught.value)
    assert str(database.path) in str(caught.value)
    database.close()


def test_several_threads_write_without_conflict(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.db", History.CONFIGURATION, "NORMAL")

    def write(thread: int) -> None:
        for i in range(20):
            with database.write() as connection:
                connection.execute(sa.select(schema.facts)).all()
                connection.execute(sa.insert(schema.facts), {"name": f"{thread}-{i}", "value": ""})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(schema.facts)).scalar() == 80
    database.close()


def test_a_damaged_database_is_kept_aside_with_its_log(tmp_path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"a.db{suffix}").write_text(suffix)
    kept = keep_aside(tmp_path / "a.db")
    assert kept.name.startswith("a.db.damaged-")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
        kept.name: "",
        f"{kept.name}-wal": "-wal",
        f"{kept.name}-shm": "-shm",
    }


def test_a_large_index_opens_unchecked_and_is_checked_beside_its_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    database = Database(path, History.INDEX, "NORMAL")
    assert not database.unchecked
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE filler (text TEXT)")
        for _ in range(200):
            connection.exec_driver_sql("INSERT INTO filler VALUES (?)", ("x" * 4000,))
    database.close()
    monkeypatch.setattr(database_module, "WHOLE_CHECK_BYTES", 4096)
    monkeypatch.setattr(database_module, "_STEPS_BETWEEN_LOOKS", 10)
    database = Database(path, History.INDEX, "NORMAL")
    assert database.unchecked
    database.check(lambda: False)
    assert database.unchecked, "a check that was broken off has found nothing"
    database.check(lambda: True)
    assert not database.unchecked
    database.close()
    assert not Database(path.with_name("b.db"), History.CONFIGURATION, "FULL").unchecked
    data = bytearray(path.read_bytes())
    data[-4096:] = bytes(4096)
    path.write_bytes(data)
    database = Database(path, History.INDEX, "NORMAL")
    with pytest.raises(DatabaseDamaged, match=r"a\.db is damaged"):
        database.check(lambda: True)
    assert database.unchecked
    database.close()
