"""A device behind a real HTTP listener on the loopback, with users, a clock of its own, and raw requests to it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from lxml import etree

from nvr.auth.access import Role
from nvr.auth.credentials import Vault
from nvr.auth.digest import DigestServer
from nvr.auth.lockout import Lockout, LockoutSettings
from nvr.auth.username_token import PASSWORD_DIGEST, UsernameTokenVerifier, password_digest
from nvr.auth.users import User, UserStore
from nvr.http.listener import Address, Listener
from nvr.http.settings import HttpSettings
from nvr.model.time import NS, UtcNs, format_iso, parse_iso
from nvr.replay.mounts import Mounts
from nvr.replay.server import RtspServer
from nvr.soap.device import DeviceSettings
from nvr.soap.names import ENV, PREFIXES, WSSE, WSU
from nvr.soap.protocol import Soap
from nvr.soap.security import Security
from nvr.soap.service import Service
from nvr.soap.wsdl import Contract, contract_directory
from nvr.web.health import Part
from nvr.web.metrics import MetricSource
from tests.support.device import a_device_service
from tests.support.official_schema import validate_response

START = parse_iso("2026-03-01T12:00:00Z")
PASSWORDS = {"anna": "admin-secret", "otto": "operator-secret", "ute": "user-secret"}
ROLES = {"anna": Role.ADMINISTRATOR, "otto": Role.OPERATOR, "ute": Role.USER}
DEVICE = "/onvif/device_service"
SOAP_TYPE = "application/soap+xml; charset=utf-8"


@dataclass(slots=True)
class SimulatedClock:
    now_ns: UtcNs = START

    def __call__(self) -> UtcNs:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += int(seconds * NS)


class NoDisk:
    """Accounts that are gone with the process."""

    def save_users(self, users: Sequence[User], /) -> None: ...

    def delete_users(self, names: Sequence[str], /) -> None: ...


def accounts(names: Sequence[str]) -> UserStore:
    """The real accounts, of those among the three users above that are named."""
    vault = Vault(bytes(32))
    stored = [User(name, ROLES[name], vault.seal(PASSWORDS[name], f"user {name}")) for name in names]
    return UserStore(vault, NoDisk(), stored)


@dataclass(slots=True)
class Reply:
    """An answer as it came; `element` has been held against the official schema."""

    status: int
    headers: aiohttp.typedefs.LooseHeaders
    body: bytes
    challenges: list[str] = field(default_factory=list)

    @property
    def element(self) -> etree._Element:
        return validate_response(self.body)

    @property
    def fault(self) -> str | None:
        """`Sender/InvalidArgVal/NoRecording`, or None when the answer is no fault."""
        if self.element.tag != f"{{{ENV}}}Fault":
            return None
        values = self.element.findall(f"{{{ENV}}}Code//{{{ENV}}}Value")
        return "/".join((v.text or "").partition(":")[2] for v in values)

    @property
    def reason(self) -> str:
        return self.element.findtext(f"{{{ENV}}}Reason/{{{ENV}}}Text") or ""

    def find(self, path: str) -> etree._Element:
        found = self.element.find(path, {prefix: ns for ns, prefix in PREFIXES.items()})
        assert found is not None, f"{path} is not in {self.body.decode()}"
        return found


class Device:
    """What a test talks to."""

    def __init__(self, session: aiohttp.ClientSession, base: str, clock: SimulatedClock, soap: Soap) -> None:
        self.session, self.base, self.clock, self.soap = session, base, clock, soap

    async def post(
        self, body: bytes, path: str = DEVICE, content_type: str | None = SOAP_TYPE, **headers: str
    ) -> Reply:
        sent = dict(headers)
        if content_type is not None:
            sent["Content-Type"] = content_type
        async with self.session.post(self.base + path, data=body, headers=sent) as response:
            return Reply(
                response.status,
                response.headers,
                await response.read(),
                response.headers.getall("WWW-Authenticate", []),
            )

    async def call(self, body: str, path: str = DEVICE, header: str = "", **headers: str) -> Reply:
        """The body element as XML with our prefixes."""
        return await self.post(envelope(body, header), path, **headers)

    async def call_as(self, user: str, body: str, path: str = DEVICE) -> Reply:
        return await self.call(body, path, username_token(user, PASSWORDS[user], self.clock()))


def envelope(body: str, header: str = "") -> bytes:
    declared = " ".join(f'xmlns:{prefix}="{ns}"' for ns, prefix in PREFIXES.items())
    wrapped = f"<env:Header>{header}</env:Header>" if header else ""
    return f"<env:Envelope {declared}>{wrapped}<env:Body>{body}</env:Body></env:Envelope>".encode()


_nonces = iter(range(1, 1 << 30))


def username_token(
    user: str, password: str, now_ns: UtcNs, *, nonce: bytes | None = None, type_: str = PASSWORD_DIGEST
) -> str:
    raw = nonce if nonce is not None else next(_nonces).to_bytes(16, "big")
    created = format_iso(now_ns)
    shown = password_digest(raw, created, password) if type_ == PASSWORD_DIGEST else password
    return (
        f'<wsse:Security xmlns:wsse="{WSSE}" xmlns:wsu="{WSU}" env:mustUnderstand="1"><wsse:UsernameToken>'
        f'<wsse:Username>{user}</wsse:Username><wsse:Password Type="{type_}">{shown}</wsse:Password>'
        f"<wsse:Nonce>{base64.b64encode(raw).decode()}</wsse:Nonce><wsu:Created>{created}</wsu:Created>"
        "</wsse:UsernameToken></wsse:Security>"
    )


def digest_authorization(
    challenge: str, user: str, password: str, uri: str, *, method: str = "POST", count: int = 1
) -> str:
    """The answer to a challenge, computed here from RFC 2617 and not by the code under test."""
    found = re.search(r'nonce="([^"]*)"', challenge)
    realm = re.search(r'realm="([^"]*)"', challenge)
    assert found is not None
    assert realm is not None
    nonce, nc, cnonce = found[1], f"{count:08x}", "0a4f113b"

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    secret, what = md5(f"{user}:{realm[1]}:{password}"), md5(f"{method}:{uri}")
    response = md5(f"{secret}:{nonce}:{nc}:{cnonce}:auth:{what}")
    return (
        f'Digest username="{user}", realm="{realm[1]}", nonce="{nonce}", uri="{uri}", qop=auth, nc={nc}, '
        f'cnonce="{cnonce}", response="{response}", algorithm=MD5'
    )


def a_soap(
    clock: SimulatedClock,
    services: Sequence[Service] = (),
    users: Sequence[str] = ("anna", "otto", "ute"),
    lockout: LockoutSettings | None = None,
) -> Soap:
    """The device service and others, behind the real security."""
    store = accounts(users)
    security = Security(
        store.role,
        DigestServer(store.realm, store.ha1),
        UsernameTokenVerifier(store.password),
        clock,
        Lockout(lambda name: store.user(name) is not None, lockout),
    )
    settings = DeviceSettings(name="Yard & Gate", location="Köln/Süd 1")
    device = a_device_service(services, clock, settings=settings, users=store)
    return Soap([device, *services], security)


@asynccontextmanager
async def a_device(
    *,
    services: Sequence[Service] = (),
    users: Sequence[str] = ("anna", "otto", "ute"),
    settings: HttpSettings | None = None,
    parts: Sequence[Part] = (),
    sources: Sequence[MetricSource] = (),
    lockout: LockoutSettings | None = None,
) -> AsyncIterator[Device]:
    clock = SimulatedClock()
    soap = a_soap(clock, services, users, lockout)
    contract, tunnels = Contract(contract_directory()), RtspServer(Mounts())
    listener = Listener(settings or HttpSettings(), soap, contract, parts, sources, tunnels=tunnels)
    (address,) = await listener.start([Address("127.0.0.1", 0)])
    try:
        async with aiohttp.ClientSession() as session:
            yield Device(session, f"http://127.0.0.1:{address.port}", clock, soap)
    finally:
        await listener.stop()
