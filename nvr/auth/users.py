"""The accounts of HTTP, RTSP and WS-Security: one set for all (ONVIF Core 5.9.1).

In memory for every request, persistent through `UserPersistence`. A change is on the disk before it counts.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Protocol

from nvr.auth.access import Role
from nvr.auth.credentials import Vault
from nvr.auth.digest import Algorithm, ha1
from nvr.model.errors import LimitReached, OperatorError, Refused

__all__ = ["PasswordPolicy", "Role", "User", "UserDraft", "UserFault", "UserPersistence", "UserRefused", "UserStore"]

log = logging.getLogger(__name__)

REALM: Final = "nvr"
"""The realm of HTTP and RTSP Digest. Part of every HA1, so it stays as it is."""
MAX_USERS: Final = 64
MAX_NAME: Final = 64
MAX_PASSWORD: Final = 128
"""Characters; ONVIF Core 8.4.4 asks for 28 bytes at least."""


class UserFault(StrEnum):
    """Why a change of accounts is refused: the local names of the ter: subcodes (ONVIF Core 8.4)."""

    USERNAME_CLASH = "UsernameClash"
    USERNAME_TOO_SHORT = "UsernameTooShort"
    USERNAME_TOO_LONG = "UsernameTooLong"
    USERNAME_INVALID = "Username"
    USERNAME_MISSING = "UsernameMissing"
    PASSWORD_INVALID = "Password"  # noqa: S105 - the name of a fault
    PASSWORD_TOO_LONG = "PasswordTooLong"  # noqa: S105
    PASSWORD_TOO_WEAK = "PasswordTooWeak"  # noqa: S105
    ANONYMOUS = "AnonymousNotAllowed"
    FIXED_USER = "FixedUser"


class UserRefused(Refused):
    """A change of accounts that cannot be made; `fault` says why in the standard's words."""

    def __init__(self, fault: UserFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
        self.kind = fault.value


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """What a new password must be; the passwords that are there already stay."""

    length: int = 1
    """Smallest number of characters."""
    kinds: int = 1
    """How many of these it must mix: small letters, capital letters, digits, other characters."""

    def __post_init__(self) -> None:
        if not 1 <= self.length <= MAX_PASSWORD:
            raise ValueError(f"the smallest length of a password is between 1 and {MAX_PASSWORD}")
        if not 1 <= self.kinds <= 4:
            raise ValueError("a password mixes between 1 and 4 kinds of characters")

    def weakness(self, password: str) -> str | None:
        """Why the password is too weak, without showing it; None when it is not."""
        if len(password) < self.length:
            return f"a password has at least {self.length} characters"
        tests = (str.islower, str.isupper, str.isdecimal, lambda c: not (c.islower() or c.isupper() or c.isdecimal()))
        if sum(any(map(test, password)) for test in tests) < self.kinds:
            return f"a password mixes {self.kinds} of small letters, capital letters, digits and other characters"
        return None


@dataclass(frozen=True, slots=True)
class UserDraft:
    """What an account shall be. For a change, None stays as it is."""

    name: str
    role: Role | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class User:
    """An account as it is stored. `secret` is the password, sealed for this name."""

    name: str
    role: Role
    secret: bytes = field(repr=False)


class UserPersistence(Protocol):
    """Where accounts are kept; blocking, each call atomic and durable when it returns."""

    def save_users(self, users: Sequence[User], /) -> None: ...

    def delete_users(self, names: Sequence[str], /) -> None: ...


@dataclass(frozen=True, slots=True)
class _Account:
    user: User
    password: str | None = field(repr=False)
    """None: the secret does not open, the account is locked."""
    ha1: dict[Algorithm, str] = field(repr=False)

    def differs(self, other: _Account) -> bool:
        """Whether role or password do; sealed again, an equal password has another secret."""
        return (self.user.role, self.password) != (other.user.role, other.password)


class UserStore:
    """Reading methods are plain functions; changing ones are coroutines that return when the change is on the disk.

    An account whose secret does not open (the catalogue came back from a snapshot, the key file did not) is locked: it
    is there and lets nobody in, until it is given a password by `change`, or by `add` as if it were new.
    """

    def __init__(
        self,
        vault: Vault,
        persistence: UserPersistence,
        users: Iterable[User] = (),
        realm: str = REALM,
        passwords: PasswordPolicy | None = None,
    ) -> None:
        self.realm = realm
        self.watcher: Callable[[Collection[str]], None] = lambda names: None
        """Told of accounts that are gone, or have another password or role, so that what was begun with them ends.
        Must neither block nor raise."""
        self._passwords = passwords or PasswordPolicy()
        self._vault = vault
        self._persistence = persistence
        self._accounts = {user.name: self._account(user) for user in users}
        self._changing = asyncio.Lock()

    def __len__(self) -> int:
        """How many accounts can be used."""
        return sum(account.password is not None for account in self._accounts.values())

    def users(self) -> tuple[User, ...]:
        """All accounts, by name, locked ones included."""
        return tuple(self._accounts[name].user for name in sorted(self._accounts))

    def user(self, name: str) -> User | None:
        account = self._accounts.get(name)
        return account.user if account else None

    def role(self, name: str | None) -> Role | None:
        account = self._accounts.get(name) if name is not None else None
        return account.user.role if account else None

    def verify(self, name: str, password: str) -> User | None:
        """The user when the password is theirs; takes the same time for a wrong password and an unknown name."""
        account = self._accounts.get(name)
        expected = account.password if account else None
        same = hmac.compare_digest((expected or "").encode(), password.encode())
        return account.user if account and expected and same else None

    def ha1(self, name: str, algorithm: Algorithm) -> str | None:
        """H(name:realm:password) for Digest; None for an unknown or locked name."""
        account = self._accounts.get(name)
        return account.ha1.get(algorithm) if account else None

    def password(self, name: str) -> str | None:
        """The clear password, which WS-UsernameToken needs; None for an unknown or locked name."""
        account = self._accounts.get(name)
        return account.password if account else None

    async def add(self, name: str, role: Role, password: str) -> User:
        """As `add_all`, for one."""
        (user,) = await self.add_all([UserDraft(name, role, password)])
        return user

    async def change(self, name: str, *, role: Role | None = None, password: str | None = None) -> User:
        """As `change_all`, for one."""
        (user,) = await self.change_all([UserDraft(name, role, password)])
        return user

    async def remove(self, name: str) -> None:
        """As `remove_all`, for one."""
        await self.remove_all([name])

    async def add_all(self, drafts: Sequence[UserDraft]) -> tuple[User, ...]:
        """All of the accounts or none; each draft has a role. Raises UserRefused, LimitReached, StorageError."""
        for draft in drafts:
            _check_name(draft.name)
            self._check_password(draft.password or "", UserFault.PASSWORD_INVALID)
        async with self._changing:
            added: dict[str, User] = {}
            for draft in drafts:
                there = self._accounts.get(draft.name)
                if (there is not None and there.password is not None) or draft.name in added:
                    raise UserRefused(UserFault.USERNAME_CLASH, f"user {draft.name!r} exists already")
                assert draft.role is not None
                assert draft.password is not None
                added[draft.name] = User(draft.name, draft.role, self._seal(draft.name, draft.password))
            if len(self._accounts.keys() | added.keys()) > max(MAX_USERS, len(self._accounts)):
                raise LimitReached("User", MAX_USERS)
            return await self._save({name: self._account(user) for name, user in added.items()})

    async def change_all(self, drafts: Sequence[UserDraft]) -> tuple[User, ...]:
        """All of the changes or none, in their order. Raises UserRefused, StorageError."""
        for draft in drafts:
            if draft.password is not None:
                self._check_password(draft.password, UserFault.PASSWORD_TOO_WEAK)
        async with self._changing:
            changed: dict[str, User] = {}
            for draft in drafts:
                user = changed.get(draft.name) or self._existing(draft.name)
                user = replace(user, role=draft.role or user.role)
                if draft.password is not None:
                    user = replace(user, secret=self._seal(user.name, draft.password))
                changed[user.name] = user
            accounts = {name: self._account(user) for name, user in changed.items()}
            self._keep_an_administrator(accounts)
            return await self._save(accounts)

    async def remove_all(self, names: Sequence[str]) -> None:
        """All of the accounts or none. The last administrator stays: nobody could make another.

        Raises UserRefused, StorageError.
        """
        async with self._changing:
            leaving = dict.fromkeys(self._existing(name).name for name in names)
            self._keep_an_administrator(leaving)
            await asyncio.to_thread(self._persistence.delete_users, list(leaving))
            for name in leaving:
                del self._accounts[name]
            self.watcher(tuple(leaving))

    async def _save(self, accounts: Mapping[str, _Account]) -> tuple[User, ...]:
        users = tuple(account.user for account in accounts.values())
        await asyncio.to_thread(self._persistence.save_users, users)
        others = [n for n, account in accounts.items() if n in self._accounts and account.differs(self._accounts[n])]
        self._accounts.update(accounts)
        if others:
            self.watcher(others)
        return users

    def _existing(self, name: str) -> User:
        account = self._accounts.get(name)
        if account is None:
            raise UserRefused(UserFault.USERNAME_MISSING, f"user {name!r} does not exist")
        return account.user

    def _keep_an_administrator(self, changes: Mapping[str, _Account | None]) -> None:
        """Raises UserRefused when no administrator who can log in would be left; None stands for a removal."""
        after = {**self._accounts, **changes}
        if any(a and a.user.role is Role.ADMINISTRATOR and a.password is not None for a in after.values()):
            return
        for name, account in changes.items():
            was, is_ = self._accounts[name].user.role, account.user.role if account else None
            if was is Role.ADMINISTRATOR and is_ is not was:
                raise UserRefused(UserFault.FIXED_USER, f"user {name!r} is the last administrator")

    def _seal(self, name: str, password: str) -> bytes:
        return self._vault.seal(password, f"user {name}")

    def _check_password(self, password: str, weak: UserFault) -> None:
        """`weak` is what the operation calls a password that will not do."""
        if not password:
            raise UserRefused(weak, "an empty password is not accepted")
        if len(password) > MAX_PASSWORD:
            raise UserRefused(UserFault.PASSWORD_TOO_LONG, f"a password has at most {MAX_PASSWORD} characters")
        if any(ord(c) < 32 or ord(c) == 127 for c in password):
            raise UserRefused(weak, "a password holds no control characters")
        weakness = self._passwords.weakness(password)
        if weakness is not None:
            raise UserRefused(weak, weakness)

    def _account(self, user: User) -> _Account:
        try:
            password = self._vault.open(user.secret, f"user {user.name}")
        except OperatorError as e:
            log.error("user %r is locked: %s", user.name, e)
            return _Account(user, None, {})
        return _Account(user, password, {a: ha1(a, user.name, self.realm, password) for a in Algorithm})


def _check_name(name: str) -> None:
    if not name:
        raise UserRefused(UserFault.USERNAME_TOO_SHORT, "a user needs a name")
    if len(name) > MAX_NAME:
        raise UserRefused(UserFault.USERNAME_TOO_LONG, f"a user's name has at most {MAX_NAME} characters")
    # A colon would make user:realm:password ambiguous (RFC 7617 2); the edges are lost in some clients.
    if ":" in name or not name.isprintable() or name != name.strip():
        raise UserRefused(
            UserFault.USERNAME_INVALID, f"the name {name!r} holds a colon, a control character or a space at its edge"
        )
