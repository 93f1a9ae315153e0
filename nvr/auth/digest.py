"""HTTP Digest for HTTP and RTSP: the computation, and the server's side (RFC 2617, RFC 7616; RFC 2326 14).

Pure: the time is an argument. The client's side is in client.py.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, TypeAlias
from urllib.parse import unquote

from nvr.auth.access import Verdict
from nvr.auth.challenge import parse_parameters, quote
from nvr.model.time import NS, UtcNs


class Algorithm(StrEnum):
    """Hash algorithms, spelled as on the wire (RFC 7616 6.1)."""

    MD5 = "MD5"
    SHA_256 = "SHA-256"


_ALGORITHMS = {a.value: a for a in Algorithm}


def digest_hex(algorithm: Algorithm, text: str) -> str:
    """H() of RFC 7616 3.3: of the UTF-8 bytes, in lower-case hexadecimal."""
    data = text.encode("utf-8", "surrogateescape")
    if algorithm is Algorithm.MD5:
        return hashlib.md5(data, usedforsecurity=False).hexdigest()
    return hashlib.sha256(data).hexdigest()


def ha1(algorithm: Algorithm, user: str, realm: str, password: str) -> str:
    """H(A1): what Digest needs instead of the password; worth as much as the password within its realm."""
    return digest_hex(algorithm, f"{user}:{realm}:{password}")


def response_hex(
    algorithm: Algorithm, ha1_hex: str, method: str, uri: str, nonce: str, qop: tuple[str, str, str] | None
) -> str:
    """request-digest. `qop` is (qop, nc, cnonce), or None for the form of RFC 2069."""
    ha2 = digest_hex(algorithm, f"{method}:{uri}")
    middle = nonce if qop is None else ":".join((nonce, qop[1], qop[2], qop[0]))
    return digest_hex(algorithm, f"{ha1_hex}:{middle}:{ha2}")


Ha1Lookup: TypeAlias = Callable[[str, Algorithm], str | None]
"""HA1 of a user for an algorithm; None for an unknown name. `UserStore.ha1` is one."""


@dataclass(frozen=True, slots=True)
class DigestPolicy:
    """What a server asks for and takes.

    `algorithms` are offered in this order, one challenge each. MD5 alone is the default: players exist that understand
    only the first challenge, others that take the last one whatever its algorithm.
    """

    algorithms: tuple[Algorithm, ...] = (Algorithm.MD5,)
    without_qop: bool = False
    """Take answers in the form of RFC 2069, without qop and nonce count: RTSP players send it where qop is offered."""
    aggregate_uri: bool = False
    """Take answers for a URI above the requested one: VLC (live555) signs the session's URI also where it sets up or
    plays a track below it. With a captured answer nothing can be done but the same method within the same session."""
    nonce_lifetime_ns: int = 300 * NS
    max_nonces: int = 4096
    """Nonces in use that are remembered for the nonce count."""


HTTP_POLICY = DigestPolicy()
RTSP_POLICY = DigestPolicy(without_qop=True, aggregate_uri=True, nonce_lifetime_ns=24 * 3600 * NS)
"""Players send keep-alives without reading the answer: a nonce that expired under them would end their session."""


class _Nonce(Enum):
    """What a nonce turned out to be."""

    FOREIGN = "not of this process"
    EXPIRED = "expired"
    GOOD = "good"


GivenNonces: TypeAlias = "deque[str]"
"""The last nonces that one connection was given."""
MAX_GIVEN: Final = 16


class DigestServer:
    """Makes challenges and verifies the answers to them. One for each listener or for all, as `realm` allows."""

    def __init__(
        self, realm: str, ha1: Ha1Lookup, policy: DigestPolicy = HTTP_POLICY, key: bytes | None = None
    ) -> None:
        """`key` signs nonces; by default it is random, and nonces end with the process."""
        self.realm = realm
        self.policy = policy
        self._ha1 = ha1
        self._key = key if key is not None else secrets.token_bytes(32)
        self._counts: OrderedDict[str, _NonceCount] = OrderedDict()
        self._forgotten_until = -1
        self._decoy = secrets.token_hex(32)

    def challenges(self, now_ns: UtcNs, *, stale: bool = False, given: GivenNonces | None = None) -> list[str]:
        """Values of WWW-Authenticate, one header each. Their nonce is noted in `given`."""
        nonce = self._make_nonce(now_ns)
        if given is not None:
            given.append(nonce)
        return [
            f'Digest realm={quote(self.realm)}, nonce="{nonce}", algorithm={algorithm}, qop="auth"'
            + (", stale=true" if stale else "")
            for algorithm in self.policy.algorithms
        ]

    def verify(
        self, method: str, uri: str, authorization: str | None, now_ns: UtcNs, *, given: GivenNonces | None = None
    ) -> Verdict:
        """Judge an Authorization header for a request with this method and request URI.

        An answer without qop has nothing by which a captured one could be told from the first: it counts for the nonces
        in `given` alone, those that its own connection got, where that is known. Elsewhere its nonce is stale.

        The response is judged before the nonce: `stale` is only ever told to who knows the password.
        """
        if not authorization:
            return Verdict(None, "no credentials")
        answer = _answer(authorization)
        if isinstance(answer, str):
            return Verdict(None, answer)
        if answer.algorithm not in self.policy.algorithms:
            return Verdict(None, f"algorithm {answer.algorithm} is not offered")
        if answer.qop is None and not self.policy.without_qop:
            return Verdict(None, "the answer has no qop")
        if answer.realm != self.realm:
            return Verdict(None, "the answer is for another realm")
        if not (same_resource(answer.uri, uri) or (self.policy.aggregate_uri and is_below(uri, answer.uri))):
            return Verdict(None, "the answer is for another URI")
        state, issued = self._judge_nonce(answer.nonce, now_ns)
        known = self._ha1(answer.user, answer.algorithm)
        expected = response_hex(answer.algorithm, known or self._decoy, method, answer.uri, answer.nonce, answer.qop)
        right = hmac.compare_digest(expected.encode(), answer.response.lower().encode("utf-8", "replace"))
        if known is None or not right:
            return Verdict(None, f"wrong password or unknown user {answer.user[:64]!r}", name=answer.user, wrong=True)
        if state is not _Nonce.GOOD:  # a foreign one was made before a restart: the client need not ask its user again
            return Verdict(None, f"the nonce is {state.value}", stale=True, name=answer.user)
        if answer.qop is None and given is not None and answer.nonce not in given:
            return Verdict(None, "the nonce is of another connection", stale=True, name=answer.user)
        if answer.qop is not None and not self._count(answer.nonce, issued, int(answer.qop[1], 16)):
            return Verdict(None, "the nonce count was used before", stale=True, name=answer.user)
        return Verdict(answer.user)

    def _make_nonce(self, now_ns: UtcNs) -> str:
        body = max(now_ns, 0).to_bytes(8, "big") + secrets.token_bytes(8)
        return base64.urlsafe_b64encode(body + self._signature(body)).decode()

    def _signature(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body + self.realm.encode(), "sha256")[:17]

    def _judge_nonce(self, nonce: str, now_ns: UtcNs) -> tuple[_Nonce, UtcNs]:
        try:
            raw = base64.b64decode(nonce.encode("ascii"), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return _Nonce.FOREIGN, 0
        body, signature = raw[:16], raw[16:]
        if len(body) != 16 or not hmac.compare_digest(signature, self._signature(body)):
            return _Nonce.FOREIGN, 0
        issued = int.from_bytes(body[:8], "big")
        # A nonce from the future: the clock was set back since. It would live too long.
        alive = 0 <= now_ns - issued < self.policy.nonce_lifetime_ns
        return (_Nonce.GOOD if alive else _Nonce.EXPIRED), issued

    def _count(self, nonce: str, issued: UtcNs, count: int) -> bool:
        """Whether this nonce count is new. Only right answers come here, so strangers cannot fill the memory."""
        seen = self._counts.get(nonce)
        if seen is None:
            if issued <= self._forgotten_until:
                return False  # it may have been used before it was forgotten
            if len(self._counts) >= self.policy.max_nonces:
                _, oldest = self._counts.popitem(last=False)
                self._forgotten_until = max(self._forgotten_until, oldest.issued)
            seen = self._counts[nonce] = _NonceCount(issued)
        return seen.accept(count)


class _NonceCount:
    """The nonce counts seen with one nonce: the highest and a window below it, as parallel connections may overtake."""

    __slots__ = ("_highest", "_seen", "issued")
    WINDOW = 64

    def __init__(self, issued: UtcNs) -> None:
        self.issued = issued
        self._highest = 0
        self._seen = 0

    def accept(self, count: int) -> bool:
        if count > self._highest:
            self._seen = (self._seen << min(count - self._highest, self.WINDOW) | 1) & ((1 << self.WINDOW) - 1)
            self._highest = count
            return True
        bit = 1 << (self._highest - count)
        if count < 1 or self._highest - count >= self.WINDOW or self._seen & bit:
            return False
        self._seen |= bit
        return True


@dataclass(frozen=True, slots=True)
class _Answer:
    user: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: Algorithm
    qop: tuple[str, str, str] | None


def _answer(authorization: str) -> _Answer | str:
    """The answer in an Authorization header, or why it is none."""
    parsed = parse_parameters(_utf8(authorization))
    if len(parsed) != 1 or parsed[0].scheme != "digest":
        return "the credentials are not Digest"
    p = parsed[0]
    user, realm, nonce = p.get("username"), p.get("realm"), p.get("nonce")
    uri, response = p.get("uri"), p.get("response")
    if user is None or realm is None or nonce is None or uri is None or response is None:
        return "the answer lacks username, realm, nonce, uri or response"
    name = (p.get("algorithm") or "MD5").upper()
    algorithm = _ALGORITHMS.get(name)
    if algorithm is None:
        return f"algorithm {name[:20]!r} is not known"
    qop = p.get("qop")
    if not qop:
        return _Answer(user, realm, nonce, uri, response, algorithm, None)
    nc, cnonce = p.get("nc") or "", p.get("cnonce")
    if qop.lower() != "auth":
        return f"qop {qop[:20]!r} was not offered"
    if cnonce is None or not re.fullmatch(r"[0-9a-fA-F]{1,8}", nc):
        return "the answer has qop without cnonce or nonce count"
    return _Answer(user, realm, nonce, uri, response, algorithm, (qop, nc, cnonce))


def _utf8(text: str) -> str:
    """Headers are read as Latin-1; names beyond ASCII come as UTF-8 (RFC 7616 4) or really as Latin-1."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


def same_resource(first: str, second: str) -> bool:
    """Whether two request URIs name one resource: absolute and relative forms, a slash at the end and percent-encoding
    make no difference (RTSP clients sign what they were given, proxies and aiohttp show the path alone)."""
    return _resource(first) == _resource(second)


def is_below(uri: str, above: str) -> bool:
    """Whether the path of `uri` continues that of `above`, in whatever form both are written; nothing is below `/`."""
    first, second = _resource(uri), _resource(above)
    return second != "/" and first.startswith(second + "/")


def _resource(uri: str) -> str:
    match = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*", uri)
    path = uri[match.end() :] if match else uri
    return unquote(path).rstrip("/") or "/"
