"""Roles, access classes, and the table between them (ONVIF Core 5.9.4.3, the default access policy)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """The levels that a user can be given, by the names that the command line knows."""

    ADMINISTRATOR = "administrator"
    OPERATOR = "operator"
    USER = "user"

    @property
    def user_level(self) -> str:
        """tt:UserLevel."""
        return self.value.capitalize()

    @classmethod
    def from_user_level(cls, level: str) -> Role:
        """The role of a tt:UserLevel. Raises ValueError for Anonymous, Extended and anything else."""
        for role in cls:
            if role.user_level == level:
                return role
        raise ValueError(f"{level!r} is no level that a user can be given")


class AccessClass(StrEnum):
    """Every operation belongs to one of these (ONVIF Core 5.9.4.2)."""

    PRE_AUTH = "PRE_AUTH"
    READ_SYSTEM = "READ_SYSTEM"
    READ_SYSTEM_SENSITIVE = "READ_SYSTEM_SENSITIVE"
    READ_SYSTEM_SECRET = "READ_SYSTEM_SECRET"  # noqa: S105 - the name of a class
    WRITE_SYSTEM = "WRITE_SYSTEM"
    UNRECOVERABLE = "UNRECOVERABLE"
    READ_MEDIA = "READ_MEDIA"
    ACTUATE = "ACTUATE"


_ALL = frozenset(Role)
_NOT_USER = frozenset({Role.ADMINISTRATOR, Role.OPERATOR})
_ADMINISTRATOR = frozenset({Role.ADMINISTRATOR})

POLICY = {
    AccessClass.PRE_AUTH: _ALL,
    AccessClass.READ_SYSTEM: _ALL,
    AccessClass.READ_SYSTEM_SENSITIVE: _NOT_USER,
    AccessClass.READ_SYSTEM_SECRET: _ADMINISTRATOR,
    AccessClass.WRITE_SYSTEM: _ADMINISTRATOR,
    AccessClass.UNRECOVERABLE: _ADMINISTRATOR,
    AccessClass.READ_MEDIA: _ALL,
    AccessClass.ACTUATE: _NOT_USER,
}


def allows(role: Role | None, access_class: AccessClass) -> bool:
    """Whether the role includes the class. None is the anonymous caller: PRE_AUTH and nothing else."""
    return access_class is AccessClass.PRE_AUTH or (role is not None and role in POLICY[access_class])


@dataclass(frozen=True, slots=True)
class Caller:
    """Who has been let in, in the role of that moment; both None for an operation that asks for no credentials."""

    name: str | None = None
    role: Role | None = None

    def may(self, access_class: AccessClass) -> bool:
        return allows(self.role, access_class)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the verification of credentials found."""

    user: str | None
    """The name of the user whose credentials they are; None: refused."""
    why: str = ""
    """Why they were refused, for the log; the peer is told nothing but `stale`."""
    stale: bool = False
    """The credentials are right, the nonce is not: ask again with stale=true (RFC 7616 3.3)."""
    name: str | None = None
    """Of refused credentials whose password was judged: the name claimed. None where nothing was learned about any."""
    wrong: bool = False
    """The password is wrong, or there is no such account."""

    def __bool__(self) -> bool:
        return self.user is not None
