"""Commands about the accounts of the services."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from nvr.auth.access import Role
from nvr.auth.users import UserStore
from nvr.model.errors import BadConfiguration
from nvr.operations.control_socket import Row
from nvr.operations.dispatch import Handler

audit = logging.getLogger("nvr.audit")


class UserOperations:
    """The rules are those of the device service (ONVIF Core 8.4): the last administrator stays one."""

    def __init__(self, users: UserStore) -> None:
        self._users = users

    def handlers(self) -> Mapping[str, Handler]:
        return {"user add": self.add, "user list": self.rows, "user change": self.change, "user remove": self.remove}

    async def add(self, name: str, role: str, password: str) -> list[Row]:
        """Raises Refused when the name is taken or malformed, or the password is refused."""
        await self._users.add(name, _role(role), password)
        audit.info("an operator's command: user add %r (%s)", name, role)
        return []

    async def rows(self) -> list[Row]:
        """One row an account, by name. Locked is one whose password cannot be read: its key is not there."""
        return [
            {"name": u.name, "role": u.role.value, "locked": "" if self._users.password(u.name) is not None else "yes"}
            for u in self._users.users()
        ]

    async def change(self, name: str, role: str | None = None, password: str | None = None) -> list[Row]:
        """What is not given stays. Raises Refused for an unknown name, a bad password, and the last administrator."""
        await self._users.change(name, role=None if role is None else _role(role), password=password)
        told = ["" if role is None else f"role {role}", "" if password is None else "password"]
        audit.info("an operator's command: user change %r: %s", name, ", ".join(filter(None, told)))
        return []

    async def remove(self, name: str) -> list[Row]:
        """Raises Refused for an unknown name, and for the last administrator."""
        await self._users.remove(name)
        audit.info("an operator's command: user remove %r", name)
        return []


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise BadConfiguration(f"Role: {text[:64]!r} is none of {', '.join(Role)}") from None
