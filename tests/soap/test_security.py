"""HTTP Digest, WS-UsernameToken and access classes, over HTTP."""

from __future__ import annotations

import asyncio
import logging

import pytest
import requests
from requests.auth import HTTPDigestAuth

from nvr.auth.access import AccessClass
from nvr.auth.lockout import LockoutSettings
from nvr.model.time import NS
from tests.support.soap_http import (
    DEVICE,
    PASSWORDS,
    Device,
    Reply,
    a_device,
    digest_authorization,
    envelope,
    username_token,
)
from tests.support.soap_models import PATH, EchoService

INFORMATION = "<tds:GetDeviceInformation/>"
DATE = "<tds:GetSystemDateAndTime/>"
WRITE = "<tev:Write><tev:Values/></tev:Write>"
PASSWORD_TEXT = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordText"


async def challenge_of(device: Device) -> str:
    reply = await device.call(INFORMATION)
    assert (reply.status, reply.fault) == (401, "Sender/NotAuthorized")
    (challenge,) = reply.challenges
    return challenge


async def with_digest(device: Device, user: str, password: str, body: str = INFORMATION, header: str = "") -> Reply:
    authorization = digest_authorization(await challenge_of(device), user, password, DEVICE)
    return await device.call(body, header=header, Authorization=authorization)


@pytest.mark.requirement("CO-09", "CO-10")
async def test_without_credentials_the_answer_is_401_with_a_digest_challenge() -> None:
    async with a_device() as device:
        challenge = await challenge_of(device)
    assert challenge.startswith("Digest ")
    assert 'qop="auth"' in challenge
    assert "algorithm=MD5" in challenge


@pytest.mark.requirement("CO-09")
async def test_digest_lets_a_user_in_and_a_wrong_password_gets_a_new_challenge() -> None:
    async with a_device() as device:
        assert (await with_digest(device, "ute", PASSWORDS["ute"])).status == 200
        for user, password in (("ute", "wrong"), ("nobody", "user-secret")):
            reply = await with_digest(device, user, password)
            assert (reply.status, reply.fault, len(reply.challenges)) == (401, "Sender/NotAuthorized", 1)


async def test_a_digest_answer_for_another_uri_or_method_or_a_used_count_is_refused() -> None:
    async with a_device() as device:
        challenge = await challenge_of(device)
        for uri, method in (("/onvif/other", "POST"), (DEVICE, "GET")):
            bad = digest_authorization(challenge, "ute", PASSWORDS["ute"], uri, method=method)
            assert (await device.call(INFORMATION, Authorization=bad)).status == 401
        good = digest_authorization(challenge, "ute", PASSWORDS["ute"], DEVICE)
        assert (await device.call(INFORMATION, Authorization=good)).status == 200
        assert (await device.call(INFORMATION, Authorization=good)).status == 401


async def test_an_expired_nonce_is_told_to_be_stale_so_that_the_client_asks_nobody() -> None:
    async with a_device() as device:
        challenge = await challenge_of(device)
        device.clock.advance(3600)
        answer = digest_authorization(challenge, "ute", PASSWORDS["ute"], DEVICE)
        reply = await device.call(INFORMATION, Authorization=answer)
        assert reply.status == 401
        assert "stale=true" in reply.challenges[0]
        renewed = digest_authorization(reply.challenges[0], "ute", PASSWORDS["ute"], DEVICE)
        assert (await device.call(INFORMATION, Authorization=renewed)).status == 200


@pytest.mark.parametrize("authorization", ["Basic dXRlOnVzZXI=", "Digest", "Bearer x", "", "Digest username=ute"])
async def test_other_authorization_headers_are_refused_with_a_challenge(authorization: str) -> None:
    async with a_device() as device:
        reply = await device.call(INFORMATION, Authorization=authorization)
    assert (reply.status, len(reply.challenges)) == (401, 1)


async def test_an_empty_request_is_challenged_since_libcurl_asks_so_before_it_sends_the_body() -> None:
    async with a_device() as device:
        asked = await device.post(b"")
        assert (asked.status, asked.fault, len(asked.challenges)) == (401, "Sender/NotAuthorized", 1)
        authorization = digest_authorization(asked.challenges[0], "ute", PASSWORDS["ute"], DEVICE)
        assert (await device.call(INFORMATION, Authorization=authorization)).status == 200
        empty = await device.post(b"", Authorization=authorization)
        assert (empty.status, empty.fault) == (400, "Sender/WellFormed")


async def test_an_independent_digest_client_gets_in_and_keeps_its_session() -> None:
    def drive(base: str) -> list[int]:
        with requests.Session() as session:
            session.trust_env = False
            session.auth = HTTPDigestAuth("ute", PASSWORDS["ute"])
            headers = {"Content-Type": "application/soap+xml"}
            return [
                session.post(base + DEVICE, envelope(INFORMATION), headers=headers, timeout=10).status_code
                for _ in range(3)
            ]

    async with a_device() as device:
        assert await asyncio.to_thread(drive, device.base) == [200, 200, 200]


@pytest.mark.requirement("CO-14", "CO-15")
async def test_a_username_token_lets_a_user_in_once() -> None:
    async with a_device() as device:
        token = username_token("ute", PASSWORDS["ute"], device.clock())
        assert (await device.call(INFORMATION, header=token)).status == 200
        replayed = await device.call(INFORMATION, header=token)
    assert (replayed.status, replayed.fault, replayed.challenges) == (400, "Sender/NotAuthorized", [])


@pytest.mark.requirement("CO-13", "CO-14", "CO-15")
async def test_bad_username_tokens_are_refused_with_400() -> None:
    async with a_device() as device:
        now = device.clock()
        good = username_token("ute", PASSWORDS["ute"], now)
        for bad in (
            username_token("ute", "wrong", now),
            username_token("nobody", "wrong", now),
            username_token("ute", PASSWORDS["ute"], now - 3600 * 10**9),
            username_token("ute", PASSWORDS["ute"], now + 3600 * 10**9),
            username_token("ute", PASSWORDS["ute"], now, type_=PASSWORD_TEXT),
            good.replace("wsse:Nonce", "wsse:Other"),
            good.replace("wsu:Created", "wsu:Other"),
            good.replace("<wsu:Created>2026-03-01T12:00:00Z", "<wsu:Created>2026-03-01T12:00:01Z"),
            good.replace("wsse:Password", "wsse:Other"),
            good + username_token("otto", PASSWORDS["otto"], now),
        ):
            reply = await device.call(INFORMATION, header=bad)
            assert (reply.status, reply.fault) == (400, "Sender/NotAuthorized"), bad


@pytest.mark.requirement("CO-12")
async def test_both_kinds_of_credentials_must_pass_and_name_the_same_user() -> None:
    async with a_device() as device:
        for digest_user, digest_password, token_user, token_password, status in (
            ("ute", "user-secret", "ute", "user-secret", 200),
            ("ute", "user-secret", "ute", "wrong", 400),
            ("ute", "wrong", "ute", "user-secret", 401),
            ("ute", "wrong", "ute", "wrong", 401),
            ("ute", "user-secret", "otto", "operator-secret", 400),
        ):
            token = username_token(token_user, token_password, device.clock())
            reply = await with_digest(device, digest_user, digest_password, header=token)
            assert reply.status == status, (digest_password, token_user, token_password)


async def test_the_time_can_be_asked_for_with_credentials_that_a_wrong_clock_spoiled() -> None:
    async with a_device() as device:
        token = username_token("ute", PASSWORDS["ute"], device.clock() - 10**15)
        assert (await device.call(DATE, header=token)).status == 200
        assert (await device.call(DATE, Authorization="Digest nonsense")).status == 200


@pytest.mark.requirement("CO-06")
async def test_a_role_below_the_access_class_is_refused_with_400_and_reaches_no_handler_and_the_log_tells_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = EchoService()
    async with a_device(services=[service]) as device:
        refused = await device.call_as("ute", WRITE, PATH)
        assert (refused.status, refused.fault) == (400, "Sender/NotAuthorized")
        assert service.calls == []
        assert (await device.call_as("otto", WRITE, PATH)).status == 200
        assert (await device.call_as("anna", WRITE, PATH)).status == 200
    assert len(service.calls) == 2
    (told,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert told == "user 'ute' at 127.0.0.1 (role user) is refused an operation of class ACTUATE"


async def test_the_handler_is_told_who_calls() -> None:
    service = EchoService()
    async with a_device(services=[service]) as device:
        await device.call_as("otto", "<tev:Echo/>", PATH)
    assert service.users == ["otto"]


async def test_without_any_user_only_pre_auth_operations_answer() -> None:
    async with a_device(services=[EchoService()], users=()) as device:
        for path in device.soap.paths:
            for bound in device.soap.service(path).operations():
                prefix = "tds" if path == DEVICE else "tev"
                body = f"<{prefix}:{bound.operation.name}/>"
                for header in ("", username_token("anna", PASSWORDS["anna"], device.clock())):
                    reply = await device.call(body, path, header)
                    open_to_all = bound.operation.access is AccessClass.PRE_AUTH
                    assert (reply.status in (400, 401) and b"NotAuthorized" in reply.body) != open_to_all, body


async def test_refusals_are_logged_with_the_peer_and_without_the_credentials(caplog: pytest.LogCaptureFixture) -> None:
    async with a_device() as device:
        await with_digest(device, "ute", "hunter2")
        await device.call(INFORMATION, header=username_token("ute", "hunter2", device.clock(), type_=PASSWORD_TEXT))
    refusals = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(refusals) == 2
    assert all("127.0.0.1" in message for message in refusals)
    assert "hunter2" not in caplog.text


async def test_after_many_wrong_passwords_the_right_one_is_answered_like_a_wrong_one_in_both_ways() -> None:
    async with a_device(lockout=LockoutSettings(user_failures=3)) as device:
        wrong = await with_digest(device, "ute", "wrong")
        for _ in range(2):
            token = username_token("ute", "wrong", device.clock())
            wrong_token = await device.call(INFORMATION, header=token)
        await with_digest(device, "ute", "wrong")
        locked = await with_digest(device, "ute", PASSWORDS["ute"])
        locked_token = await device.call_as("ute", INFORMATION)
        assert (locked.status, locked.fault, locked.reason) == (wrong.status, wrong.fault, wrong.reason)
        assert "stale" not in locked.challenges[0]
        assert (locked_token.status, locked_token.body) == (wrong_token.status, wrong_token.body)
        assert (await device.call_as("otto", INFORMATION)).status == 200
        device.clock.advance(2)
        assert (await with_digest(device, "ute", PASSWORDS["ute"])).status == 200


async def test_requests_without_credentials_or_with_an_old_nonce_lock_nobody_out() -> None:
    async with a_device(lockout=LockoutSettings(user_failures=1, address_failures=1)) as device:
        old = await challenge_of(device)
        device.clock.advance(3600)
        for _ in range(5):
            await challenge_of(device)
            answer = digest_authorization(old, "ute", PASSWORDS["ute"], DEVICE)
            assert "stale=true" in (await device.call(INFORMATION, Authorization=answer)).challenges[0]
            token = username_token("ute", PASSWORDS["ute"], device.clock() - 3600 * NS)
            assert (await device.call(INFORMATION, header=token)).status == 400
        assert (await with_digest(device, "ute", PASSWORDS["ute"])).status == 200
