"""The accounts of HTTP, RTSP and WS-Security: one set for all (ONVIF Core 5.9.1).

In memory for every request, persistent through `UserPersistence`. A change is on the disk before it counts.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Protocol

from nvr.auth.access import Role
from nvr.auth.credentials import Vault
from nvr.auth.digest import Algorithm, ha1
from nvr.model.errors import LimitReached, OperatorError, Refused

__all__ = ["Role", "User", "UserFault", "UserPersistence", "UserRefused", "UserStore"]

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
    FIXED_USER = "FixedUser"


class UserRefused(Refused):
    """A change of accounts that cannot be made; `fault` says why in the standard's words."""

    def __init__(self, fault: UserFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class User:
    """An account as it is stored. `secret` is the password, sealed for this name."""

    name: str
    role: Role
    secret: bytes = field(repr=False)


class UserPersistence(Protocol):
    """Where accounts are kept; blocking, each call atomic and durable when it returns."""

    def save_user(self, user: User, /) -> None: ...

    def delete_user(self, name: str, /) -> None: ...


@dataclass(frozen=True, slots=True)
class _Account:
    user: User
    password: str | None = field(repr=False)
    """None: the secret does not open, the account is locked."""
    ha1: dict[Algorithm, str] = field(repr=False)


class UserStore:
    """Reading methods are plain functions; changing ones are coroutines that return when the change is on the disk.

    An account whose secret does not open (the catalogue came back from a snapshot, the key file did not) is locked: it
    is there and lets nobody in, until it is given a password by `change`, or by `add` as if it were new.
    """

    def __init__(
        self, vault: Vault, persistence: UserPersistence, users: Iterable[User] = (), realm: str = REALM
    ) -> None:
        self.realm = realm
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
        """Raises UserRefused, LimitReached, StorageError."""
        _check_name(name)
        _check_password(password)
        async with self._changing:
            there = self._accounts.get(name)
            if there is not None and there.password is not None:
                raise UserRefused(UserFault.USERNAME_CLASH, f"user {name!r} exists already")
            if there is None and len(self._accounts) >= MAX_USERS:
                raise LimitReached("User", MAX_USERS)
            return await self._save(User(name, role, self._seal(name, password)))

    async def change(self, name: str, *, role: Role | None = None, password: str | None = None) -> User:
        """What is None stays as it is. Raises UserRefused, StorageError."""
        if password is not None:
            _check_password(password)
        async with self._changing:
            user = self._existing(name)
            if role is not None and role is not Role.ADMINISTRATOR:
                self._keep_an_administrator(user)
            user = replace(user, role=role or user.role)
            if password is not None:
                user = replace(user, secret=self._seal(name, password))
            return await self._save(user)

    async def remove(self, name: str) -> None:
        """Raises UserRefused, StorageError. The last administrator stays: nobody could make another."""
        async with self._changing:
            self._keep_an_administrator(self._existing(name))
            await asyncio.to_thread(self._persistence.delete_user, name)
            del self._accounts[name]

    async def _save(self, user: User) -> User:
        account = self._account(user)
        await asyncio.to_thread(self._persistence.save_user, user)
        self._accounts[user.name] = account
        return user

    def _existing(self, name: str) -> User:
        account = self._accounts.get(name)
        if account is None:
            raise UserRefused(UserFault.USERNAME_MISSING, f"user {name!r} does not exist")
        return account.user

    def _keep_an_administrator(self, leaving: User) -> None:
        others = (a for a in self._accounts.values() if a.user.name != leaving.name and a.password is not None)
        if leaving.role is Role.ADMINISTRATOR and not any(a.user.role is Role.ADMINISTRATOR for a in others):
            raise UserRefused(UserFault.FIXED_USER, f"user {leaving.name!r} is the last administrator")

    def _seal(self, name: str, password: str) -> bytes:
        return self._vault.seal(password, f"user {name}")

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


def _check_password(password: str) -> None:
    if not password:
        raise UserRefused(UserFault.PASSWORD_INVALID, "an empty password is not accepted")
    if len(password) > MAX_PASSWORD:
        raise UserRefused(UserFault.PASSWORD_TOO_LONG, f"a password has at most {MAX_PASSWORD} characters")
    if any(ord(c) < 32 or ord(c) == 127 for c in password):
        raise UserRefused(UserFault.PASSWORD_INVALID, "a password holds no control characters")
