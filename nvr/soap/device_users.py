"""Users of the device (ONVIF Core 8.4.3 to 8.4.6): the accounts of HTTP, RTSP and WS-Security alike."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from nvr.auth.access import Role
from nvr.auth.users import UserDraft, UserFault, UserRefused, UserStore
from nvr.model.errors import FormatError
from nvr.soap import device_user_types as types
from nvr.soap.model import String, many
from nvr.soap.service import AccessClass, Call, Result, operation

log = logging.getLogger(__name__)


class UserOperations:
    """A part of the device service."""

    _users: UserStore

    @operation("GetUsers", AccessClass.READ_SYSTEM_SECRET, response={"User": many(types.User)})
    def get_users(self, call: Call) -> Result:
        # Never the password, not even its length.
        return {"User": [types.User(Username=u.name, UserLevel=u.role.user_level) for u in self._users.users()]}

    @operation("CreateUsers", AccessClass.WRITE_SYSTEM, request={"User": many(types.User, at_least=1)})
    async def create_users(self, call: Call) -> Result:
        made = await self._users.add_all([_draft(user) for user in call.request.User])
        _tell(call, "made", [f"{user.name} ({user.role})" for user in made])
        return None

    @operation("DeleteUsers", AccessClass.WRITE_SYSTEM, request={"Username": many(String, at_least=1)})
    async def delete_users(self, call: Call) -> Result:
        await self._users.remove_all(call.request.Username)
        _tell(call, "deleted", call.request.Username)
        return None

    @operation("SetUser", AccessClass.WRITE_SYSTEM, request={"User": many(types.User, at_least=1)})
    async def set_user(self, call: Call) -> Result:
        changed = await self._users.change_all([_draft(user) for user in call.request.User])
        _tell(call, "changed", [f"{user.name} ({user.role})" for user in changed])
        return None


def _tell(call: Call, what: str, names: Sequence[str]) -> None:
    """Who has let whom in is worth a line in the log of a recorder."""
    log.info("user %r has %s users: %s", call.caller.name, what, ", ".join(map(repr, names)))


def _draft(user: Any) -> UserDraft:
    """Without Password: none for a new account, which is refused; the old one for a change."""
    if user.UserLevel == "Anonymous":
        raise UserRefused(UserFault.ANONYMOUS, "the level Anonymous cannot be given to a user")
    try:
        role = Role.from_user_level(user.UserLevel)
    except ValueError as e:
        raise FormatError(f"UserLevel: {e}") from e
    return UserDraft(user.Username, role, user.Password)
