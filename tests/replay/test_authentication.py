"""Who may watch: Digest, lock-out, users that change, and what the log says of it."""

from __future__ import annotations

import time

import pytest

from nvr.auth.access import Verdict
from nvr.auth.digest import Algorithm, response_hex
from nvr.auth.lockout import Lockout, LockoutSettings
from nvr.model.time import NS
from nvr.model.tokens import VIDEO001
from nvr.replay.authentication import DigestAuthenticator
from tests.replay.conftest import PATH, Accounts, Serve, worked_example
from tests.support.rtsp_client import until


class TestAuthentication:
    @pytest.mark.requirement("PB-8.1-11", "PB-8.1-13", "PB-8.1-15")
    @pytest.mark.parametrize(
        ("user", "password", "status"),
        [("watcher", "secret", 200), ("admin", "secret", 200), ("watcher", "wrong", 401), ("nobody", "secret", 401),
         ("former", "secret", 403)],
    )  # fmt: skip
    async def test_streams_need_digest_credentials(self, serve: Serve, user: str, password: str, status: int) -> None:
        served = await serve({VIDEO001: worked_example()}, authenticator=DigestAuthenticator(Accounts(), "nvr"))
        client = await served.client()
        answer = await client.request("DESCRIBE", PATH)
        assert answer.status == 401
        assert answer["WWW-Authenticate"].startswith('Digest realm="nvr"')
        client.credentials = user, password
        assert (await client.request("DESCRIBE", PATH)).status == status

    @pytest.mark.requirement("PB-8.1-13", "PB-8.1-15")
    async def test_every_method_but_options_is_protected(self, serve: Serve) -> None:
        served = await serve({VIDEO001: worked_example()}, authenticator=DigestAuthenticator(Accounts(), "nvr"))
        client = await served.client()
        for method in ("DESCRIBE", "SETUP", "PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER", "SET_PARAMETER"):
            assert (await client.request(method, "/replay/rec-unknown")).status == 401

    async def test_guessing_locks_the_right_password_out_on_rtsp_and_through_the_same_count_elsewhere(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        lockout = Lockout(Accounts.roles.__contains__, LockoutSettings(user_failures=2, first_delay_ns=300 * NS))
        guard = DigestAuthenticator(Accounts(), "nvr", algorithms=(Algorithm.MD5,), lockout=lockout)
        served = await serve({VIDEO001: worked_example()}, authenticator=guard)
        client = await served.client()
        for _ in range(6):
            client.credentials = "watcher", "wrong"
            assert (await client.request("DESCRIBE", PATH)).status == 401
        told = [m for m in caplog.messages if m.startswith("credentials from 127.0.0.1 refused: wrong password")]
        assert len(told) == 3  # what is sent while the account is locked is not told
        client.credentials = "watcher", "secret"
        refused = await client.request("DESCRIBE", PATH)
        assert (refused.status, "stale" in refused["WWW-Authenticate"]) == (401, False)
        assert not lockout.judge(Verdict("watcher"), "192.0.2.1", time.time_ns())
        client.credentials = "admin", "secret"
        assert (await client.request("DESCRIBE", PATH)).status == 200

    async def test_requests_without_credentials_are_no_failures(self, serve: Serve) -> None:
        lockout = Lockout(Accounts.roles.__contains__, LockoutSettings(user_failures=1, address_failures=1))
        guard = DigestAuthenticator(Accounts(), "nvr", lockout=lockout)
        client = await (await serve({VIDEO001: worked_example()}, authenticator=guard)).client()
        for _ in range(5):
            assert (await client.request("DESCRIBE", PATH)).status == 401
        client.credentials = "watcher", "secret"
        assert (await client.request("DESCRIBE", PATH)).status == 200
        assert lockout.failures == 0

    async def test_the_algorithms_of_the_settings_are_offered_in_their_order(self, serve: Serve) -> None:
        guard = DigestAuthenticator(Accounts(), "nvr", algorithms=(Algorithm.SHA_256, Algorithm.MD5))
        client = await (await serve({VIDEO001: worked_example()}, authenticator=guard)).client()
        answer = await client.request("DESCRIBE", PATH)
        offered = [v for n, v in answer.headers if n == "WWW-Authenticate"]
        assert ["algorithm=SHA-256" in v for v in offered] == [True, False]

    @pytest.mark.requirement("PB-8.1-13", "PB-8.1-15")
    async def test_a_whole_session_with_credentials(self, serve: Serve) -> None:
        served = await serve({VIDEO001: worked_example()}, authenticator=DigestAuthenticator(Accounts(), "nvr"))
        client = await served.client()
        client.credentials = "watcher", "secret"
        await client.set_up(PATH, VIDEO001)
        assert (await client.request("PLAY", PATH, Rate_Control="no")).status == 200
        await client.packets(16)

    async def test_a_login_without_qop_that_was_captured_is_of_no_use_on_another_connection(self, serve: Serve) -> None:
        served = await serve({VIDEO001: worked_example()}, authenticator=DigestAuthenticator(Accounts(), "nvr"))
        owner, thief = await served.client(), await served.client()
        nonce = (await owner.request("DESCRIBE", PATH))["WWW-Authenticate"].partition('nonce="')[2].partition('"')[0]
        digest = response_hex(
            Algorithm.MD5, Accounts().ha1("watcher", Algorithm.MD5) or "", "DESCRIBE", PATH, nonce, None
        )
        login = f'Digest username="watcher", realm="nvr", nonce="{nonce}", uri="{PATH}", response="{digest}"'
        for _ in range(2):
            assert (await owner.request("DESCRIBE", PATH, Authorization=login)).status == 200
        refused = await thief.request("DESCRIBE", PATH, Authorization=login)
        assert (refused.status, "stale=true" in refused["WWW-Authenticate"]) == (401, True)

    @pytest.mark.parametrize("names", [["watcher"], ["somebody", "watcher"]])
    async def test_what_plays_ends_with_the_account_and_what_others_play_goes_on(
        self, serve: Serve, names: list[str]
    ) -> None:
        served = await serve({VIDEO001: worked_example()}, authenticator=DigestAuthenticator(Accounts(), "nvr"))
        gone, stays = await served.client(), await served.client()
        gone.credentials, stays.credentials = ("watcher", "secret"), ("admin", "secret")
        for client in (gone, stays):
            await client.set_up(PATH, VIDEO001)
        assert (await gone.request("PLAY", PATH)).status == 200
        served.server.end_of(names)
        await until(lambda: served.server.connections == 1)
        assert await gone.at_end()
        assert (await stays.request("PLAY", PATH)).status == 200

    async def test_credentials_stay_out_of_the_log(self, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG", "nvr")
        served = await serve({VIDEO001: worked_example()}, authenticator=DigestAuthenticator(Accounts(), "nvr"))
        client = await served.client()
        client.credentials = "watcher", "wrong"
        await client.request("DESCRIBE", PATH)
        assert "response=" not in caplog.text
        assert "is answered 401" in caplog.text


class TestRefusals:
    """Who sends refused requests without end neither fills the log nor goes unnoticed."""

    async def test_nobody_writes_into_the_log_before_a_login(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "nvr")
        served = await serve({VIDEO001: worked_example()}, authenticator=DigestAuthenticator(Accounts(), "nvr"))
        client = await served.client()
        for _ in range(4):
            assert (await client.request("BREW", PATH)).status == 501
            client.send(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nbroken\r\n\r\n")
            assert (await client.answer()).status == 400
        client.credentials = "watcher", "wrong"
        assert (await client.request("DESCRIBE", PATH)).status == 401
        assert caplog.messages == []
        assert served.server.refused_requests == 9  # and the 401 that begins every login is none of them

    async def test_behind_one_there_is_a_line_at_each_doubling(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "nvr.replay")
        served = await serve({VIDEO001: worked_example()}, authenticator=DigestAuthenticator(Accounts(), "nvr"))
        client = await served.client()
        client.credentials = "watcher", "secret"
        await client.request("DESCRIBE", PATH)
        for _ in range(9):
            assert (await client.request("DESCRIBE", "/replay/elsewhere")).status == 404
        refusals = [m for m in caplog.messages if "is answered 404" in m]
        assert [m.rpartition("(")[2] for m in refusals] == [f"refusal {n} here)" for n in (1, 2, 4, 8)]
        assert served.server.refused_requests == 9


class TestAudit:
    async def test_one_line_tells_who_begins_to_see_what_from_where(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "nvr.audit")
        served = await serve({VIDEO001: worked_example()}, authenticator=DigestAuthenticator(Accounts(), "nvr"))
        client = await served.client()
        client.credentials = ("watcher", "secret")
        await client.request("DESCRIBE", PATH)
        await client.set_up(PATH, VIDEO001)
        assert (await client.request("PLAY", PATH, Range="clock=19990101T000000Z-19990101T000001Z")).status == 457
        assert caplog.messages == []
        for start in ("100101", "100000"):
            wanted = {"Range": f"clock=20260101T{start}Z-", "Rate_Control": "no", "Immediate": "yes"}
            assert (await client.request("PLAY", PATH, **wanted)).status == 200
        await client.request("PAUSE", PATH)
        await client.request("PLAY", PATH)
        (line,) = [r.getMessage() for r in caplog.records if r.name == "nvr.audit"]
        assert line == f"user 'watcher' at 127.0.0.1: PLAY {PATH} (VIDEO001) from 20260101T100100Z"
