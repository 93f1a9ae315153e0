"""nvr.auth.users: accounts and their changes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from nvr.auth.access import Role
from nvr.auth.credentials import Vault
from nvr.auth.digest import Algorithm, ha1
from nvr.auth.users import (
    MAX_NAME,
    MAX_PASSWORD,
    MAX_USERS,
    PasswordPolicy,
    User,
    UserDraft,
    UserFault,
    UserRefused,
    UserStore,
)
from nvr.model.errors import LimitReached, StorageError

VAULT = Vault(bytes(32))


class Disk:
    """Accounts that outlive a store; `broken` makes every write fail."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.broken = False

    def save_users(self, users: Sequence[User]) -> None:
        self._write()
        self.users |= {user.name: user for user in users}

    def delete_users(self, names: Sequence[str]) -> None:
        self._write()
        for name in names:
            del self.users[name]

    def _write(self) -> None:
        if self.broken:
            raise StorageError("the disk is gone")


def a_store(disk: Disk) -> UserStore:
    return UserStore(VAULT, disk, disk.users.values())


async def test_a_user_is_known_by_password_and_by_the_secrets_of_both_protocols_also_after_a_restart() -> None:
    disk = Disk()
    assert len(a_store(disk)) == 0
    await a_store(disk).add("amélie", Role.OPERATOR, "pässword")
    store = a_store(disk)
    assert store.role("amélie") is Role.OPERATOR
    assert store.verify("amélie", "pässword") == store.user("amélie")
    assert store.password("amélie") == "pässword"
    for algorithm in Algorithm:
        assert store.ha1("amélie", algorithm) == ha1(algorithm, "amélie", store.realm, "pässword")
    assert len(store) == 1


async def test_wrong_passwords_and_unknown_names_are_refused() -> None:
    store = a_store(Disk())
    await store.add("admin", Role.ADMINISTRATOR, "right")
    for name, password in (("admin", "wrong"), ("admin", ""), ("nobody", ""), ("nobody", "right"), ("ADMIN", "right")):
        assert store.verify(name, password) is None
    assert store.role("nobody") is None
    assert store.role(None) is None
    assert store.user("nobody") is None
    assert store.password("nobody") is None
    assert store.ha1("nobody", Algorithm.MD5) is None


async def test_passwords_are_neither_stored_nor_shown_in_clear() -> None:
    disk = Disk()
    store = a_store(disk)
    user = await store.add("admin", Role.ADMINISTRATOR, "hunter2secret")
    assert b"hunter2secret" not in user.secret
    assert "secret" not in repr(user)
    assert "hunter2" not in repr(store.users())


async def test_changes_of_role_and_password() -> None:
    disk = Disk()
    store = a_store(disk)
    await store.add("admin", Role.ADMINISTRATOR, "a")
    await store.add("bob", Role.USER, "b")
    await store.change("bob", role=Role.OPERATOR)
    assert (store.role("bob"), store.password("bob")) == (Role.OPERATOR, "b")
    await store.change("bob", password="c")
    assert (store.role("bob"), store.password("bob")) == (Role.OPERATOR, "c")
    assert store.ha1("bob", Algorithm.MD5) == ha1(Algorithm.MD5, "bob", store.realm, "c")
    await store.remove("bob")
    assert store.verify("bob", "c") is None
    assert [user.name for user in a_store(disk).users()] == ["admin"]


async def test_the_last_administrator_stays_and_stays_one() -> None:
    store = a_store(Disk())
    await store.add("admin", Role.ADMINISTRATOR, "a")
    await store.add("bob", Role.USER, "b")
    for attempt in (store.remove("admin"), store.change("admin", role=Role.USER)):
        with pytest.raises(UserRefused) as caught:
            await attempt
        assert caught.value.fault is UserFault.FIXED_USER
    await store.change("admin", password="new")
    await store.change("bob", role=Role.ADMINISTRATOR)
    await store.remove("admin")
    assert store.role("bob") is Role.ADMINISTRATOR


@pytest.mark.parametrize(
    ("name", "password", "fault"),
    [
        ("", "x", "UsernameTooShort"),
        ("n" * (MAX_NAME + 1), "x", "UsernameTooLong"),
        ("a:b", "x", "Username"),
        (" a", "x", "Username"),
        ("a\n", "x", "Username"),
        ("admin", "x", "UsernameClash"),
        ("new", "", "Password"),
        ("new", "a\r\nb", "Password"),
        ("new", "p" * (MAX_PASSWORD + 1), "PasswordTooLong"),
    ],
)
async def test_a_refused_account_leaves_everything_as_it_was(name: str, password: str, fault: str) -> None:
    disk = Disk()
    store = a_store(disk)
    await store.add("admin", Role.ADMINISTRATOR, "a")
    with pytest.raises(UserRefused) as caught:
        await store.add(name, Role.USER, password)
    assert caught.value.fault == fault
    assert "a\r\nb" not in str(caught.value)
    assert list(disk.users) == ["admin"]
    assert [user.name for user in store.users()] == ["admin"]


async def test_unknown_users_cannot_be_changed_or_removed() -> None:
    store = a_store(Disk())
    for attempt in (store.remove("x"), store.change("x", role=Role.USER)):
        with pytest.raises(UserRefused) as caught:
            await attempt
        assert caught.value.fault is UserFault.USERNAME_MISSING


async def test_the_number_of_users_is_limited() -> None:
    store = a_store(Disk())
    for n in range(MAX_USERS):
        await store.add(f"user{n}", Role.USER, "x")
    with pytest.raises(LimitReached):
        await store.add("one more", Role.USER, "x")


async def test_what_the_disk_refuses_does_not_count() -> None:
    disk = Disk()
    store = a_store(disk)
    await store.add("admin", Role.ADMINISTRATOR, "a")
    await store.add("bob", Role.USER, "b")
    disk.broken = True
    for attempt in (store.add("new", Role.USER, "x"), store.change("bob", password="y"), store.remove("bob")):
        with pytest.raises(StorageError):
            await attempt
    assert [user.name for user in store.users()] == ["admin", "bob"]
    assert store.password("bob") == "b"


async def test_of_two_equal_names_at_once_one_is_refused() -> None:
    store = a_store(Disk())
    results = await asyncio.gather(
        store.add("bob", Role.USER, "1"), store.add("bob", Role.USER, "2"), return_exceptions=True
    )
    assert sorted(type(r).__name__ for r in results) == ["User", "UserRefused"]
    assert store.password("bob") == "1"


async def test_accounts_whose_key_is_lost_are_locked_until_they_get_a_new_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = Disk()
    await a_store(disk).add("admin", Role.ADMINISTRATOR, "old")
    await a_store(disk).add("bob", Role.USER, "old")
    store = UserStore(Vault(bytes([1] * 32)), disk, disk.users.values())
    assert "user 'admin' is locked" in caplog.text
    assert "secret.key" in caplog.text
    assert len(store) == 0, "nobody can log in"
    assert [user.name for user in store.users()] == ["admin", "bob"]
    for password in ("old", ""):
        assert store.verify("admin", password) is None
    assert store.password("admin") is None
    assert store.ha1("admin", Algorithm.MD5) is None
    await store.add("admin", Role.ADMINISTRATOR, "new")
    await store.change("bob", password="new")
    for name in ("admin", "bob"):
        assert store.verify(name, "new")
    assert len(store) == 2
    with pytest.raises(UserRefused, match="exists already"):
        await store.add("admin", Role.ADMINISTRATOR, "other")


async def test_a_locked_administrator_does_not_count_as_one_that_is_left() -> None:
    disk = Disk()
    await a_store(disk).add("locked", Role.ADMINISTRATOR, "x")
    store = UserStore(Vault(bytes([1] * 32)), disk, disk.users.values())
    await store.add("admin", Role.ADMINISTRATOR, "y")
    with pytest.raises(UserRefused, match="last administrator"):
        await store.remove("admin")
    await store.remove("locked")


ADMINISTRATOR, OPERATOR, USER = Role


async def a_full_store(disk: Disk) -> UserStore:
    store = a_store(disk)
    await store.add_all([UserDraft("anna", ADMINISTRATOR, "a"), UserDraft("otto", OPERATOR, "o")])
    return store


@pytest.mark.parametrize(
    ("drafts", "fault"),
    [
        ([UserDraft("new", USER, "x"), UserDraft("anna", USER, "x")], "UsernameClash"),
        ([UserDraft("new", USER, "x"), UserDraft("new", USER, "y")], "UsernameClash"),
        ([UserDraft("new", USER, "x"), UserDraft("newer", USER, None)], "Password"),
        ([UserDraft("new", USER, "x"), UserDraft("", USER, "x")], "UsernameTooShort"),
    ],
)
async def test_of_several_new_accounts_all_are_made_or_none(drafts: list[UserDraft], fault: str) -> None:
    disk = Disk()
    store = await a_full_store(disk)
    with pytest.raises(UserRefused) as caught:
        await store.add_all(drafts)
    assert (caught.value.fault, caught.value.kind) == (fault, fault)
    assert list(disk.users) == ["anna", "otto"]
    assert [u.name for u in store.users()] == ["anna", "otto"]


async def test_several_new_accounts_may_not_pass_the_limit_together() -> None:
    store = await a_full_store(Disk())
    drafts = [UserDraft(f"user{n}", USER, "x") for n in range(MAX_USERS - 1)]
    with pytest.raises(LimitReached):
        await store.add_all(drafts)
    assert len(store) == 2
    await store.add_all(drafts[:-1])
    assert len(store) == MAX_USERS


async def test_of_several_changes_all_are_made_or_none() -> None:
    disk = Disk()
    store = await a_full_store(disk)
    before = dict(disk.users)
    with pytest.raises(UserRefused, match="does not exist"):
        await store.change_all([UserDraft("otto", USER, "new"), UserDraft("nobody", USER)])
    with pytest.raises(UserRefused) as caught:
        await store.change_all([UserDraft("otto", USER, "new"), UserDraft("otto", password="p" * (MAX_PASSWORD + 1))])
    assert caught.value.fault is UserFault.PASSWORD_TOO_LONG
    assert disk.users == before
    assert (store.role("otto"), store.password("otto")) == (OPERATOR, "o")
    await store.change_all([UserDraft("otto", USER), UserDraft("otto", password="new")])
    assert (store.role("otto"), store.password("otto")) == (USER, "new")


async def test_an_administrator_may_hand_over_in_one_change() -> None:
    store = await a_full_store(Disk())
    await store.change_all([UserDraft("anna", USER), UserDraft("otto", ADMINISTRATOR)])
    assert (store.role("anna"), store.role("otto")) == (USER, ADMINISTRATOR)
    with pytest.raises(UserRefused) as caught:
        await store.remove_all(["anna", "otto"])
    assert caught.value.fault is UserFault.FIXED_USER
    assert len(store) == 2
    with pytest.raises(UserRefused):
        await store.remove_all(["anna", "nobody"])
    assert len(store) == 2
    await store.remove_all(["anna", "anna"])
    assert [u.name for u in store.users()] == ["otto"]


async def test_a_locked_account_that_only_changes_its_role_is_no_administrator_who_is_left() -> None:
    disk = Disk()
    await a_store(disk).add("locked", OPERATOR, "x")
    store = UserStore(Vault(bytes([1] * 32)), disk, disk.users.values())
    await store.add("admin", ADMINISTRATOR, "y")
    with pytest.raises(UserRefused, match="last administrator"):
        await store.change_all([UserDraft("locked", ADMINISTRATOR), UserDraft("admin", USER)])
    await store.change_all([UserDraft("locked", ADMINISTRATOR, "new"), UserDraft("admin", USER)])
    assert store.verify("locked", "new")


@pytest.mark.parametrize(
    ("policy", "weak", "strong"),
    [
        (PasswordPolicy(length=8), "1234567", "12345678"),
        (PasswordPolicy(kinds=3), "abcdEFGH", "abcdEF1"),
        (PasswordPolicy(kinds=4), "abcdEFG1", "aE1-"),
        (PasswordPolicy(kinds=2), "pässwörd", "pässwörd "),
    ],
)
async def test_a_weak_password_is_refused_in_the_words_of_the_operation(
    policy: PasswordPolicy, weak: str, strong: str
) -> None:
    store = UserStore(VAULT, Disk(), passwords=policy)
    with pytest.raises(UserRefused) as caught:
        await store.add("anna", ADMINISTRATOR, weak)
    assert caught.value.fault is UserFault.PASSWORD_INVALID
    assert weak not in str(caught.value)
    await store.add("anna", ADMINISTRATOR, strong)
    with pytest.raises(UserRefused) as caught:
        await store.change("anna", password=weak)
    assert caught.value.fault is UserFault.PASSWORD_TOO_WEAK
    assert store.password("anna") == strong


@pytest.mark.parametrize("values", [(0, 1), (MAX_PASSWORD + 1, 1), (1, 0), (1, 5)])
def test_a_policy_that_nobody_can_meet_is_refused(values: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="password"):
        PasswordPolicy(*values)


async def test_the_watcher_is_told_of_accounts_that_are_gone_or_have_another_password_or_role() -> None:
    disk = Disk()
    store = a_store(disk)
    told: list[str] = []
    store.watcher = told.extend
    await store.add("admin", Role.ADMINISTRATOR, "secret")
    await store.add("bob", Role.OPERATOR, "secret")
    await store.change("bob", role=Role.OPERATOR, password="secret")
    assert told == []
    await store.change("bob", password="another")
    await store.change("bob", role=Role.USER)
    assert told == ["bob", "bob"]
    disk.broken = True
    with pytest.raises(StorageError):
        await store.remove("bob")
    assert told == ["bob", "bob"]
    disk.broken = False
    await store.remove("bob")
    assert told == ["bob", "bob", "bob"]
