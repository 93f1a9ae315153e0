"""Who may call what (ONVIF Core 5.9): HTTP Digest, WS-UsernameToken, and the access class of each operation.

The decision, taken before any argument is parsed:

1. An operation of class PRE_AUTH needs no credentials, and none are looked at: clients ask for the time of the device
   with a UsernameToken that their own wrong clock has made invalid.
2. Credentials of the HTTP header are verified first, then those of the SOAP header; where both are there, both must
   pass and name the same user.
3. Without any: HTTP 401 with a challenge for each algorithm. A bad Digest: the same. A bad UsernameToken: Sender /
   ter:NotAuthorized with HTTP 400.
   Who is locked out gets the same answers, whatever the password (nvr/auth/lockout.py).
4. A role without the access class: Sender / ter:NotAuthorized with HTTP 400.

Without any user nobody passes 2, so that only PRE_AUTH operations answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from lxml import etree

from nvr.auth.access import AccessClass, Caller, Role, Verdict
from nvr.auth.digest import DigestServer
from nvr.auth.lockout import Lockout
from nvr.auth.username_token import UsernameToken, UsernameTokenVerifier
from nvr.model.time import UtcNs
from nvr.soap.faults import not_authorized
from nvr.soap.names import WSSE, WSU

log = logging.getLogger(__name__)


class Security:
    """The decision above, over the verification of credentials in nvr.auth."""

    def __init__(
        self,
        role: Callable[[str], Role | None],
        digest: DigestServer,
        tokens: UsernameTokenVerifier,
        clock: Callable[[], UtcNs],
        lockout: Lockout | None = None,
    ) -> None:
        """`role` is the role of a user by name, None for an unknown one; `clock` tells the time of the device.

        Without `lockout` passwords can be guessed for as long as one likes.
        """
        self._role = role
        self._digest = digest
        self._tokens = tokens
        self._clock = clock
        self._lockout = lockout

    def admit(
        self,
        access: AccessClass,
        method: str,
        uri: str,
        authorization: str | None,
        headers: Sequence[etree._Element],
        peer: str,
    ) -> Caller:
        """The user, nobody for PRE_AUTH. `uri` is that of the request line. Raises SoapFault."""
        if access is AccessClass.PRE_AUTH:
            return Caller()
        now_ns = self._clock()
        user: str | None = None
        if authorization is not None:
            verdict = self._judge(self._digest.verify(method, uri, authorization, now_ns), peer, now_ns)
            if not verdict:
                _tell(verdict, peer)
                challenges = self._digest.challenges(now_ns, stale=verdict.stale)
                raise not_authorized("the HTTP credentials are not valid", tuple(challenges))
            user = verdict.user
        token = _username_token(headers)
        if token is not None:
            verdict = self._judge(self._tokens.verify(token, now_ns), peer, now_ns)
            if not verdict:
                _tell(verdict, peer)
                raise not_authorized("the UsernameToken is not valid")
            if user is not None and user != verdict.user:
                raise not_authorized("the HTTP header and the SOAP header name different users")
            user = verdict.user
        if user is None:
            raise not_authorized("the operation needs credentials", tuple(self._digest.challenges(now_ns)))
        caller = Caller(user, self._role(user))
        if not caller.may(access):
            role = "no role" if caller.role is None else f"role {caller.role.value}"
            log.warning("user %r at %s (%s) is refused an operation of class %s", user, peer, role, access.name)
            raise not_authorized("the role of the user does not include this operation")
        return caller

    def _judge(self, verdict: Verdict, peer: str, now_ns: UtcNs) -> Verdict:
        return verdict if self._lockout is None else self._lockout.judge(verdict, peer, now_ns)


def _tell(verdict: Verdict, peer: str) -> None:
    # An expired nonce is the ordinary course of a long session.
    log.log(logging.DEBUG if verdict.stale else logging.WARNING, "credentials from %s refused: %s", peer, verdict.why)


def _username_token(headers: Sequence[etree._Element]) -> UsernameToken | None:
    """The token of the request. Raises SoapFault for more than one, since it would be unclear which counts."""
    tokens = [
        token
        for block in headers
        if block.tag == f"{{{WSSE}}}Security"
        for token in block.findall(f"{{{WSSE}}}UsernameToken")
    ]
    if not tokens:
        return None
    if len(tokens) > 1:
        raise not_authorized("the SOAP header holds more than one UsernameToken")
    token = tokens[0]
    password = token.find(f"{{{WSSE}}}Password")
    return UsernameToken(
        (token.findtext(f"{{{WSSE}}}Username") or "").strip(),
        None if password is None else password.text or "",
        None if password is None else password.get("Type"),
        token.findtext(f"{{{WSSE}}}Nonce"),
        token.findtext(f"{{{WSU}}}Created"),
    )
