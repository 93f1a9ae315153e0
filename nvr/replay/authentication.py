"""Digest on the RTSP server, with the accounts of the web services (IEC 62676-2-32 8.1; ONVIF Core 5.9.1)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from nvr.auth.access import AccessClass, Role, allows
from nvr.auth.digest import RTSP_POLICY, Algorithm, DigestServer, GivenNonces
from nvr.auth.lockout import Lockout
from nvr.media.rtsp.message import Request
from nvr.replay.clock import Clock, SystemClock
from nvr.replay.status import RequestRefused

log = logging.getLogger(__name__)


class Users(Protocol):
    """The part of the user store that is needed here."""

    def ha1(self, name: str, algorithm: Algorithm) -> str | None: ...

    def role(self, name: str | None) -> Role | None: ...


class Authenticator(Protocol):
    """Judges a request before anything of it is looked at."""

    def check(self, request: Request, address: str, given: GivenNonces) -> str:
        """The user's name. `address` is the peer's, without port; `given` holds the nonces that the connection, or the
        tunnel, has been given, and gets new ones. Raises RequestRefused: 401 and challenges, or 403.
        """


class DigestAuthenticator:
    """Streams are of access class READ_MEDIA (8.1)."""

    def __init__(
        self,
        users: Users,
        realm: str,
        clock: Clock | None = None,
        *,
        algorithms: Sequence[Algorithm] = RTSP_POLICY.algorithms,
        lockout: Lockout | None = None,
    ) -> None:
        """`algorithms` are offered in this order. Without `lockout` guessing has no end."""
        self._users = users
        self._clock = clock or SystemClock()
        self._digest = DigestServer(realm, users.ha1, replace(RTSP_POLICY, algorithms=tuple(algorithms)))
        self._lockout = lockout

    def check(self, request: Request, address: str, given: GivenNonces) -> str:
        now = self._clock.utc_ns()
        authorization = request.headers.get("Authorization")
        verdict = self._digest.verify(request.method, request.uri, authorization, now, given=given)
        if self._lockout is not None:
            judged = self._lockout.judge(verdict, address, now)
            if judged is verdict and verdict.wrong:  # what is sent during a lock is told by nobody
                log.warning("credentials from %s refused: %s", address, verdict.why)
            verdict = judged
        if verdict.user is None:
            challenges = self._digest.challenges(now, stale=verdict.stale, given=given)
            raise RequestRefused(401, verdict.why, tuple(("WWW-Authenticate", c) for c in challenges))
        if not allows(self._users.role(verdict.user), AccessClass.READ_MEDIA):
            raise RequestRefused(403, f"user {verdict.user!r} may not see media")
        return verdict.user
