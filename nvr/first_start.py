"""What a start asks before it begins, and the first user."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sized

from nvr.auth.access import Role
from nvr.auth.users import UserStore
from nvr.config import ADMIN_PASSWORD_VARIABLE, Settings, admin_password
from nvr.model.errors import OperatorError, Refused

log = logging.getLogger(__name__)


async def first_administrator(users: UserStore) -> None:
    """Makes the user admin from the environment where there is no user. Raises OperatorError for a bad password."""
    password = admin_password()
    if password is None:
        return
    if len(users):
        log.info("%s is ignored: there are users already", ADMIN_PASSWORD_VARIABLE)
        return
    try:
        await users.add("admin", Role.ADMINISTRATOR, password)
    except Refused as e:
        raise OperatorError(f"{ADMIN_PASSWORD_VARIABLE}: {e}") from e
    log.info("user admin made from %s", ADMIN_PASSWORD_VARIABLE)


def before_first_start(settings: Settings) -> None:
    """What would forbid a start is told before a data directory is made for it. Raises OperatorError."""
    if admin_password() is None:
        require_user_beyond_loopback((), settings)
    for endpoint in settings.listen.endpoints():
        try:
            found = socket.getaddrinfo(
                endpoint.host or None, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, kind, protocol, _, address = found[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen()
        except OSError as e:
            raise OperatorError(f"cannot listen at {endpoint}: {e.strerror or e}; nothing was made") from e


def require_user_beyond_loopback(users: Sized, settings: Settings) -> None:
    """Raises OperatorError where the world could reach a recorder that asks nobody for a password."""
    exposed = [e for e in settings.listen.endpoints() if not e.loopback]
    if exposed and not len(users):
        raise OperatorError(
            f"there is no user, and {exposed[0]} is not a loopback address: make one with `nvr user add`, "
            f"or set {ADMIN_PASSWORD_VARIABLE} for the first start"
        )
