"""The verification of credentials against clients that nobody here wrote: requests, aiohttp, curl, zeep."""

from __future__ import annotations

import asyncio
import shutil

import aiohttp
import pytest
import requests
from aiohttp import web
from lxml import etree
from requests.auth import HTTPDigestAuth
from zeep.wsse.username import UsernameToken as ZeepToken

from nvr.auth.digest import Algorithm, DigestPolicy, DigestServer, ha1
from nvr.auth.username_token import UsernameToken, UsernameTokenVerifier
from nvr.model.time import NS, parse_iso

WSSE = "{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd}"
WSU = "{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd}"
NAME, PASSWORD = "admin", 'pass word,"x'
POLICIES = [DigestPolicy(algorithms=(a,)) for a in Algorithm] + [
    DigestPolicy(algorithms=(Algorithm.MD5, Algorithm.SHA_256))
]


class Service:
    """An HTTP service behind Digest on a free port; `now_ns` is its clock."""

    def __init__(self, policy: DigestPolicy) -> None:
        self.digest = DigestServer(
            "nvr", lambda name, a: ha1(a, NAME, "nvr", PASSWORD) if name == NAME else None, policy
        )
        self.now_ns = 1_767_261_600 * NS
        self.refused = 0
        self.uri = ""

    async def handle(self, request: web.Request) -> web.Response:
        authorization = request.headers.get("Authorization")
        verdict = self.digest.verify(request.method, request.raw_path, authorization, self.now_ns)
        if verdict:
            return web.Response(text=verdict.user)
        self.refused += 1
        response = web.Response(status=401)
        for challenge in self.digest.challenges(self.now_ns, stale=verdict.stale):
            response.headers.add("WWW-Authenticate", challenge)
        return response

    async def __aenter__(self) -> Service:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.handle)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.uri = f"http://127.0.0.1:{self._runner.addresses[0][1]}/onvif/device_service?a=b%20c"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def by_requests(uri: str, password: str) -> list[int]:
    with requests.Session() as session:
        session.trust_env = False
        session.auth = HTTPDigestAuth(NAME, password)
        return [session.post(uri, data=b"x", timeout=10).status_code for _ in range(3)]


@pytest.mark.parametrize("policy", POLICIES)
async def test_requests_gets_in_with_the_password_and_only_with_it(policy: DigestPolicy) -> None:
    async with Service(policy) as service:
        assert await asyncio.to_thread(by_requests, service.uri, PASSWORD) == [200, 200, 200]
        assert service.refused == 1, "one challenge serves the whole session"
        assert await asyncio.to_thread(by_requests, service.uri, "wrong") == [401, 401, 401]


@pytest.mark.parametrize("policy", POLICIES)
async def test_aiohttp_gets_in_also_behind_an_expired_nonce(policy: DigestPolicy) -> None:
    async with Service(policy) as service:
        middleware = aiohttp.DigestAuthMiddleware(NAME, PASSWORD, preemptive=False)
        async with aiohttp.ClientSession(middlewares=(middleware,)) as session:
            for _ in range(3):
                async with session.post(service.uri, data=b"x") as response:
                    assert await response.text() == NAME
                service.now_ns += policy.nonce_lifetime_ns


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("policy", POLICIES)
async def test_curl_gets_in(policy: DigestPolicy) -> None:
    async with Service(policy) as service:
        for password, status in ((PASSWORD, b"200"), ("wrong", b"401")):
            process = await asyncio.create_subprocess_exec(
                "curl", "--noproxy", "*", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10",
                "--digest", "-u", f"{NAME}:{password}", "-d", "x", service.uri, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            output, _ = await process.communicate()
            assert output == status


def a_zeep_token(password: str) -> UsernameToken:
    envelope = etree.fromstring(b'<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"><e:Body/></e:Envelope>')
    ZeepToken(NAME, password, use_digest=True).apply(envelope, {})
    token = envelope.find(f".//{WSSE}UsernameToken")
    assert token is not None
    password_element = token.find(f"{WSSE}Password")
    assert password_element is not None
    return UsernameToken(
        token.findtext(f"{WSSE}Username") or "",
        password_element.text,
        password_element.get("Type"),
        token.findtext(f"{WSSE}Nonce"),
        token.findtext(f"{WSU}Created"),
    )


def test_the_token_that_zeep_makes_is_taken_once() -> None:
    verifier = UsernameTokenVerifier({NAME: PASSWORD}.get)
    token = a_zeep_token(PASSWORD)
    now_ns = parse_iso(token.created or "")
    assert verifier.verify(token, now_ns)
    assert not verifier.verify(token, now_ns)
    assert not verifier.verify(a_zeep_token("wrong"), now_ns)
