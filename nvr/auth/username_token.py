"""WS-Security UsernameToken with PasswordDigest (OASIS UsernameToken Profile 1.0; ONVIF Core 5.9.5).

Pure: the time is an argument, the token comes as the texts of its elements.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
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

        `skew_ns`: how far wsu:Created may lie before or behind the daemon's clock.
        """
        self._password = password
        self._skew_ns = skew_ns
        self._max_nonces = max_nonces
        self._used: OrderedDict[tuple[str, bytes], UtcNs] = OrderedDict()
        """(user, nonce) to the moment from which its Created is too old to be taken again, in order of use."""
        self._forgotten_until: UtcNs | None = None

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
        if not self._is_new((token.username, nonce), created_ns, now_ns):
            return Verdict(None, "the token was used before", name=token.username)
        return Verdict(token.username)

    def _is_new(self, key: tuple[str, bytes], created_ns: UtcNs, now_ns: UtcNs) -> bool:
        """Only right tokens come here, so strangers cannot fill the memory."""
        while self._used and next(iter(self._used.values())) < now_ns:
            self._used.popitem(last=False)
        until = created_ns + self._skew_ns
        if key in self._used or (self._forgotten_until is not None and until <= self._forgotten_until):
            return False
        if len(self._used) >= self._max_nonces:
            _, forgotten = self._used.popitem(last=False)
            self._forgotten_until = max(forgotten, self._forgotten_until or forgotten)
        self._used[key] = until
        return True
