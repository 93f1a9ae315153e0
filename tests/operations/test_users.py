from __future__ import annotations

from collections.abc import Collection

import pytest

from nvr.auth.access import Role
from nvr.auth.credentials import Vault
from nvr.auth.users import User, UserStore
from nvr.model.errors import BadConfiguration, Refused
from nvr.operations.dispatch import Operations
from nvr.operations.users import UserOperations
from tests.support.operations import CommandHouse, NoPersistence


@pytest.fixture
async def house() -> CommandHouse:
    made = CommandHouse()
    await made.ask("user add", name="anna", role="administrator", password="first")
    await made.ask("user add", name="ute", role="user", password="second")
    return made


async def test_users_are_listed_with_their_roles_and_without_their_passwords(house: CommandHouse) -> None:
    assert await house.ask("user list") == [
        {"name": "anna", "role": "administrator", "locked": ""},
        {"name": "ute", "role": "user", "locked": ""},
    ]


async def test_another_password_or_role_ends_what_was_begun_with_the_old_one(house: CommandHouse) -> None:
    ended: list[Collection[str]] = []
    house.users.watcher = ended.append
    await house.ask("user change", name="ute", password="third")
    assert house.users.verify("ute", "third") is not None
    assert house.users.verify("ute", "second") is None
    await house.ask("user change", name="ute", role="operator")
    assert house.users.role("ute") is Role.OPERATOR
    assert house.users.verify("ute", "third") is not None
    await house.ask("user remove", name="ute")
    assert [list(names) for names in ended] == [["ute"]] * 3
    assert [u.name for u in house.users.users()] == ["anna"]


async def test_the_last_administrator_stays_one(house: CommandHouse) -> None:
    for command in ({"role": "operator"},):
        with pytest.raises(Refused, match="last administrator"):
            await house.ask("user change", name="anna", **command)
    with pytest.raises(Refused, match="last administrator"):
        await house.ask("user remove", name="anna")
    assert house.users.role("anna") is Role.ADMINISTRATOR


async def test_unknown_users_and_roles_are_refused(house: CommandHouse) -> None:
    with pytest.raises(Refused, match="does not exist"):
        await house.ask("user remove", name="nobody")
    with pytest.raises(Refused, match="does not exist"):
        await house.ask("user change", name="nobody", password="x")
    with pytest.raises(BadConfiguration, match="'king' is none of administrator, operator, user"):
        await house.ask("user change", name="ute", role="king")


async def test_an_account_whose_key_is_lost_is_listed_as_locked() -> None:
    sealed_elsewhere = Vault(bytes([1] * 32)).seal("secret", "user anna")
    users = UserStore(Vault(bytes(32)), NoPersistence(), [User("anna", Role.USER, sealed_elsewhere)])
    (row,) = await Operations(UserOperations(users)).run("user list", {})
    assert row["locked"] == "yes"
