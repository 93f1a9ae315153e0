"""What the device remembers, in the configuration database."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from nvr.auth.access import Role
from nvr.auth.users import User
from nvr.model.device import DeviceState, DiscoveryMode
from nvr.model.errors import OperatorError, StorageError
from nvr.storage import schema
from nvr.storage.changes import Save
from nvr.storage.configuration import ConfigurationStore
from nvr.storage.database import Database, History
from tests.support.configuration import XorSealer

STATE = DeviceState(DiscoveryMode.NON_DISCOVERABLE, ("onvif://a/z", "onvif://a/b"), 2**31, 9, "f" * 64)


def open_store(directory: Path, *roots: Path) -> ConfigurationStore:
    return ConfigurationStore.open(directory / "config.db", XorSealer(), roots)


def test_a_new_database_holds_the_initial_state(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert store.load().device == DeviceState()
    store.close()


def test_the_state_survives_the_death_of_the_process_and_is_replaced_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "running").mkdir()
    store = open_store(tmp_path / "running")
    store.apply([Save(DeviceState(scopes=("urn:old", "urn:older", "urn:oldest")))])
    store.apply([Save(STATE)])
    shutil.copytree(tmp_path / "running", tmp_path / "after")  # the files as kill -9 would leave them now
    store.close()
    store = open_store(tmp_path / "after")
    assert store.load().device == STATE
    store.close()


def test_the_state_comes_back_from_the_snapshot_of_a_volume(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "volume.json").write_text("{}")
    store = open_store(tmp_path, volume)
    store.apply([Save(STATE)])
    store.close()
    for part in tmp_path.glob("config.db*"):
        part.unlink()
    store = open_store(tmp_path, volume)
    assert store.load().device == STATE
    store.close()


def test_a_database_of_the_first_schema_is_brought_up_to_date_and_keeps_what_it_holds(tmp_path: Path) -> None:
    database = Database(tmp_path / "config.db", History.CONFIGURATION, "FULL", revision="c0001")
    with database.write() as connection:
        connection.execute(sa.insert(schema.users), {"name": "anna", "role": "administrator", "secret": b"s"})
    database.close()
    store = open_store(tmp_path)
    assert store.load().users == (User("anna", Role.ADMINISTRATOR, b"s"),)
    assert store.load().device == DeviceState()
    store.close()


def test_a_discovery_mode_of_a_newer_version_is_told_to_the_operator(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.apply([Save(STATE)])
    with store._database.write() as connection:
        connection.execute(sa.update(schema.device).values(discovery_mode="Shy"))
    with pytest.raises(OperatorError, match="does not know"):
        store.load()
    store.close()


def test_several_users_are_saved_and_deleted_together_or_not_at_all(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    users = [User("anna", Role.ADMINISTRATOR, b"a"), User("otto", Role.OPERATOR, b"b")]
    store.save_users(users)
    assert list(store.load().users) == users
    broken = User("ute", Role.USER, None)  # type: ignore[arg-type]  # a row that the database refuses
    with pytest.raises(StorageError):
        store.save_users([User("anna", Role.USER, b"c"), broken])
    assert list(store.load().users) == users
    store.delete_users(["anna", "otto"])
    assert store.load().users == ()
    store.close()
