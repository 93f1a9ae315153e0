"""The client's side of Digest and Basic (RFC 7616, RFC 7617, RFC 2069), for cameras over RTSP and HTTP."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from nvr.auth.challenge import Parameters, parse_parameters, quote
from nvr.auth.digest import Algorithm, digest_hex, ha1, response_hex

_ALGORITHMS = {
    "MD5": (Algorithm.MD5, False),
    "MD5-SESS": (Algorithm.MD5, True),
    "SHA-256": (Algorithm.SHA_256, False),
    "SHA-256-SESS": (Algorithm.SHA_256, True),
}
_STRENGTH = {"MD5": 1, "MD5-SESS": 2, "SHA-256": 3, "SHA-256-SESS": 4}
MAX_REFUSALS = 3
"""Refusals in a row after which a server that calls every nonce stale is believed to mean the password."""


@dataclass(frozen=True, slots=True)
class _Challenge:
    scheme: str
    realm: str = ""
    nonce: str = field(default="", repr=False)
    algorithm: str | None = None
    """As the server spelled it, to be echoed; None where it named none (MD5)."""
    qop: bool = False
    opaque: str | None = None
    stale: bool = False

    @property
    def strength(self) -> int:
        return _STRENGTH[(self.algorithm or "MD5").upper()] if self.scheme == "digest" else 0


class ClientCredentials:
    """One user's credentials towards one server. Not shared between connections, as it counts nonce uses.

    401:   if not credentials.challenged(response.headers.get_all("WWW-Authenticate")): the password is wrong
    else:  credentials.accepted()
    next:  header = credentials.authorization(method, uri)
    """

    def __init__(
        self,
        username: str,
        password: str,
        *,
        allow_basic: bool = True,
        make_cnonce: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self.username = username
        self._password = password
        self._allow_basic = allow_basic
        self._make_cnonce = make_cnonce
        self._challenge: _Challenge | None = None
        self._session_ha1 = ""
        self._cnonce = ""
        self._count = 0
        self._answered = False
        self._proved = False
        self._refusals = 0

    def __repr__(self) -> str:
        return f"ClientCredentials({self.username!r}, <hidden>)"

    def challenged(self, challenges: Iterable[str]) -> bool:
        """The server answered 401 with these values of WWW-Authenticate. Whether another try makes sense.

        The strongest scheme that both sides know is taken: Digest by its algorithm, then Basic. A second 401 to an
        answer means a wrong password, except when the nonce was stale, or was replaced after credentials had been
        accepted before (cameras renew nonces without saying so).
        """
        known = [c for value in challenges for c in map(_challenge, parse_parameters(value)) if c is not None]
        if not self._allow_basic:
            known = [c for c in known if c.scheme != "basic"]
        best = max(known, key=lambda c: c.strength, default=None)
        before, self._challenge = self._challenge, best
        if best is None:
            return False
        renewed = before is None or best.nonce != before.nonce
        if self._answered:
            self._refusals += 1
            if self._refusals >= MAX_REFUSALS or not (best.stale or (renewed and self._proved)):
                return False
            self._proved = False
        if renewed or before is None or best.algorithm != before.algorithm:
            self._count = 0
            self._cnonce = self._make_cnonce()
            self._session_ha1 = self._ha1(best) if best.scheme == "digest" else ""
        return True

    def accepted(self) -> None:
        """The server took a request (it answered anything but 401)."""
        if self._answered:
            self._proved = True
            self._refusals = 0

    def authorization(self, method: str, uri: str) -> str | None:
        """The value of Authorization for the next request; None before the first challenge.

        `uri` is the request URI exactly as it stands in the request line.
        """
        c = self._challenge
        if c is None:
            return None
        self._answered = True
        if c.scheme == "basic":
            return "Basic " + base64.b64encode(f"{self.username}:{self._password}".encode()).decode()
        algorithm, session = _ALGORITHMS[(c.algorithm or "MD5").upper()]
        self._count += 1
        nc = f"{self._count:08x}"
        qop = ("auth", nc, self._cnonce) if c.qop else None
        response = response_hex(algorithm, self._session_ha1, method, uri, c.nonce, qop)
        parts = [
            f"username={quote(self.username)}",
            f"realm={quote(c.realm)}",
            f"nonce={quote(c.nonce)}",
            f"uri={quote(uri)}",
            f'response="{response}"',
        ]
        if c.algorithm is not None:
            parts.append(f"algorithm={c.algorithm}")
        if c.opaque is not None:
            parts.append(f"opaque={quote(c.opaque)}")
        if qop is not None:
            parts += ["qop=auth", f"nc={nc}"]
        if qop is not None or session:
            parts.append(f'cnonce="{self._cnonce}"')
        return "Digest " + ", ".join(parts)

    def _ha1(self, c: _Challenge) -> str:
        algorithm, session = _ALGORITHMS[(c.algorithm or "MD5").upper()]
        base = ha1(algorithm, self.username, c.realm, self._password)
        return digest_hex(algorithm, f"{base}:{c.nonce}:{self._cnonce}") if session else base


def _challenge(p: Parameters) -> _Challenge | None:
    """A challenge that this client can answer, or None."""
    if p.scheme == "basic":
        return _Challenge("basic", p.get("realm") or "")
    algorithm, nonce = p.get("algorithm"), p.get("nonce")
    if p.scheme != "digest" or nonce is None or (algorithm or "MD5").upper() not in _ALGORITHMS:
        return None
    qop = p.get("qop")
    values = {v.strip().lower() for v in (qop or "").split(",")}
    if qop and "auth" not in values:
        return None  # auth-int alone
    return _Challenge(
        "digest",
        p.get("realm") or "",
        nonce,
        algorithm,
        bool(qop),
        p.get("opaque"),
        (p.get("stale") or "").lower() == "true",
    )
