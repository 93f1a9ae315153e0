"""Who may call what (ONVIF Core 5.9): HTTP Digest, WS-UsernameToken, and the access class of each operation.

The decision, taken before any argument is parsed:

1. An operation of class PRE_AUTH needs no credentials and none are looked at: clients ask for the time of the device
   with a UsernameToken that their own wrong clock has made invalid.
2. Credentials of the HTTP header are verified first, then those of the SOAP header; where both are there, both must
   pass and name the same user.
3. Without any: HTTP 401 with a challenge per algorithm. A bad Digest: the same. A bad UsernameToken: Sender /
   ter:NotAuthorized, HTTP 400.
4. A role without the access class: Sender / ter:NotAuthorized, HTTP 400.

Without any user nobody passes 2, so that only PRE_AUTH operations answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lxml import etree

from nvr.auth.access import AccessClass
from nvr.model.errors import AccessDenied
from nvr.soap.faults import not_authorized
from nvr.soap.names import WSSE, WSU

_TOO_LOW = "the role of the user does not include this operation"


class Verifier(Protocol):
    """What this room needs of nvr.auth. Both verifications return the name of the user and raise AccessDenied."""

    def challenges(self) -> tuple[str, ...]:
        """Values of WWW-Authenticate, one per algorithm, each with a fresh nonce."""

    def verify_digest(self, authorization: str, method: str, uri: str) -> str:
        """`uri` as it stands in the request line."""

    def verify_username_token(self, username: str, password: str, password_type: str, nonce: str, created: str) -> str:
        """The texts of the token as sent."""

    def allows(self, username: str, access: AccessClass) -> bool: ...


class Security:
    """The decision above, over a Verifier."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def admit(
        self,
        access: AccessClass,
        method: str,
        uri: str,
        authorization: str | None,
        headers: Sequence[etree._Element],
    ) -> str | None:
        """The name of the user, None for PRE_AUTH. Raises SoapFault."""
        if access is AccessClass.PRE_AUTH:
            return None
        user: str | None = None
        if authorization is not None:
            try:
                user = self._verifier.verify_digest(authorization, method, uri)
            except AccessDenied as e:
                raise not_authorized("the HTTP credentials are not valid", self._verifier.challenges()) from e
        token = _username_token(headers)
        if token is not None:
            try:
                named = self._verifier.verify_username_token(*token)
            except AccessDenied as e:
                raise not_authorized("the UsernameToken is not valid") from e
            if user is not None and user != named:
                raise not_authorized("the HTTP header and the SOAP header name different users")
            user = named
        if user is None:
            raise not_authorized("the operation needs credentials", self._verifier.challenges())
        if not self._verifier.allows(user, access):
            raise not_authorized(_TOO_LOW)
        return user


def _username_token(headers: Sequence[etree._Element]) -> tuple[str, str, str, str, str] | None:
    """User name, password, its type, nonce and creation time; empty where absent. Raises SoapFault for two tokens."""
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
    return (
        (token.findtext(f"{{{WSSE}}}Username") or "").strip(),
        ((password.text or "") if password is not None else "").strip(),
        (password.get("Type") or "") if password is not None else "",
        (token.findtext(f"{{{WSSE}}}Nonce") or "").strip(),
        (token.findtext(f"{{{WSU}}}Created") or "").strip(),
    )
