"""WS-Security UsernameToken with PasswordDigest (OASIS UsernameToken Profile 1.0; ONVIF Core 5.9.5).

Pure: the time is an argument, the token comes as the texts of its elements.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from nvr.auth.access import Verdict
from nvr.model.errors import FormatError
from nvr.model.time import NS, UtcNs, parse_iso

_PROFILE: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0"
PASSWORD_DIGEST: Final = f"{_PROFILE}#PasswordDigest"
MAX_NONCE: Final = 128
"""Bytes; 16 to 20 are usual."""
MAX_TEXT: Final = 256
"""Characters of Password, Nonce and Created."""


@dataclass(frozen=True, slots=True)
class UsernameToken:
    """wsse:UsernameToken. None where an element or attribute is absent; texts as they stand in the document."""

    username: str
    password: str | None = field(default=None, repr=False)
    password_type: str | None = None
    nonce: str | None = field(default=None, repr=False)
    created: str | None = None


def password_digest(nonce: bytes, created: str, password: str) -> str:
    """Base64(SHA-1(nonce + created + password))."""
    digest = hashlib.sha1(nonce + created.encode() + password.encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


class UsernameTokenVerifier:
    """Verifies tokens and remembers the nonces of the good ones for as long as they could be played again."""

    def __init__(
        self,
        password: Callable[[str], str | None],
        *,
        skew_ns: int = 300 * NS,
        max_nonces: int = 50_000,
    ) -> None:
        """`password` gives the clear password of a user, None for an unknown name: `UserStore.password` is one.

        `skew_ns`: how far wsu:Created may lie before or behind the daemon's clock. `max_nonces` are remembered, of all
        users together.
        """
        self._password = password
        self._skew_ns = skew_ns
        self._max_nonces = max_nonces
        self._used: dict[str, _Used] = {}
        """By user."""

    def verify(self, token: UsernameToken, now_ns: UtcNs) -> Verdict:
        """Judge a token. The order of the checks gives a stranger no hint whether the user exists."""
        if token.password_type != PASSWORD_DIGEST:  # without Type it is PasswordText (profile 1.0, 3.1)
            return Verdict(None, "the token's password is not a PasswordDigest")
        if token.password is None or token.nonce is None or token.created is None:
            return Verdict(None, "the token lacks Password, Nonce or Created")
        if max(len(token.password), len(token.nonce), len(token.created)) > MAX_TEXT:
            return Verdict(None, f"a part of the token has more than {MAX_TEXT} characters")
        try:
            nonce = base64.b64decode(token.nonce.strip().encode("ascii"), validate=True)
            created_ns = parse_iso(token.created)
        except (binascii.Error, UnicodeEncodeError):
            return Verdict(None, "the token's Nonce is not Base64")
        except FormatError as e:
            return Verdict(None, f"the token's Created is no time: {e}")
        if not 0 < len(nonce) <= MAX_NONCE:
            return Verdict(None, f"the token's Nonce has {len(nonce)} bytes")
        if abs(now_ns - created_ns) > self._skew_ns:
            off = (created_ns - now_ns) / NS
            return Verdict(None, f"the token was created {off:+.0f} s off the recorder's clock")
        password = self._password(token.username)
        # The digest is over the text of Created as it stood in the document.
        expected = password_digest(nonce, token.created, password or "")
        right = hmac.compare_digest(expected.encode(), token.password.strip().encode("utf-8", "replace"))
        if password is None or not right:
            return Verdict(
                None, f"wrong password or unknown user {token.username[:64]!r}", name=token.username, wrong=True
            )
        if not self._is_new(token.username, nonce, created_ns, now_ns):
            return Verdict(None, "the token was used before", name=token.username)
        return Verdict(token.username)

    @property
    def remembered(self) -> int:
        """Nonces kept now."""
        return sum(map(len, self._used.values()))

    def _is_new(self, user: str, nonce: bytes, created_ns: UtcNs, now_ns: UtcNs) -> bool:
        """Only right tokens come here, so strangers cannot fill the memory."""
        used = self._used.get(user)
        if used is None:
            # Names come and go: what is empty is dropped before another is kept.
            self._used = {name: u for name, u in self._used.items() if not u.is_over(now_ns)}
            used = self._used[user] = _Used()
        used.forget_expired(now_ns)
        if not used.take(nonce, created_ns + self._skew_ns):
            return False
        if self.remembered > self._max_nonces:
            for other in self._used.values():
                other.forget_expired(now_ns)
            while self.remembered > self._max_nonces:
                max(self._used.values(), key=len).forget_one()
        return True


class _Used:
    """The nonces of one user. Where there are too many, whoever has the most forgets the one that ends first, and takes
    no token any more that is as old as that: neither other users nor clients with a right clock are refused for it.
    """

    def __init__(self) -> None:
        self._ends: list[tuple[UtcNs, bytes]] = []
        """A heap: the moment from which Created is too old to be taken again, and the nonce."""
        self._nonces: set[bytes] = set()
        self._forgotten_until: UtcNs = -1

    def __len__(self) -> int:
        return len(self._ends)

    def is_over(self, now_ns: UtcNs) -> bool:
        """Whether nothing of it matters any more."""
        self.forget_expired(now_ns)
        return not self._ends and self._forgotten_until < now_ns

    def take(self, nonce: bytes, until_ns: UtcNs) -> bool:
        """Whether it can be told that the nonce is new."""
        if nonce in self._nonces or until_ns <= self._forgotten_until:
            return False
        self._nonces.add(nonce)
        heappush(self._ends, (until_ns, nonce))
        return True

    def forget_expired(self, now_ns: UtcNs) -> None:
        while self._ends and self._ends[0][0] < now_ns:
            self._nonces.remove(heappop(self._ends)[1])

    def forget_one(self) -> None:
        until_ns, nonce = heappop(self._ends)
        self._nonces.remove(nonce)
        self._forgotten_until = max(self._forgotten_until, until_ns)
