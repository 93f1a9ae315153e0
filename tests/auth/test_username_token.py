"""nvr.auth.username_token: PasswordDigest, skew, replay."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.auth.access import Verdict
from nvr.auth.username_token import PASSWORD_DIGEST, UsernameToken, UsernameTokenVerifier, password_digest
from nvr.model.time import NS, format_iso, parse_iso

NOW = parse_iso("2026-01-01T10:00:00Z")
SKEW = 300 * NS
TEXT = PASSWORD_DIGEST.replace("PasswordDigest", "PasswordText")


def a_verifier(max_nonces: int = 100) -> UsernameTokenVerifier:
    return UsernameTokenVerifier({"admin": "hunter2", "amélie": "ünï"}.get, skew_ns=SKEW, max_nonces=max_nonces)


def a_token(
    user: str = "admin", password: str = "hunter2", nonce: bytes = b"0123456789abcdef", at: int = NOW
) -> UsernameToken:
    created = format_iso(at, 3)
    digest = password_digest(nonce, created, password)
    return UsernameToken(user, digest, PASSWORD_DIGEST, base64.b64encode(nonce).decode(), created)


@pytest.mark.requirement("CO-14")
def test_the_digest_is_base64_of_sha1_over_nonce_created_and_password() -> None:
    # The example of the ONVIF Application Programmer's Guide.
    nonce = base64.b64decode("LKqI6G/AikKCQrN0zqZFlg==")
    assert password_digest(nonce, "2010-09-16T07:50:45Z", "userpassword") == "tuOSpGlFlIXsozq4HFNeeGeFLEI="
    verifier = a_verifier()
    assert verifier.verify(a_token(), NOW) == Verdict("admin")
    altered = replace(a_token(nonce=b"other"), created=format_iso(NOW + NS, 3))
    assert not verifier.verify(altered, NOW)


def test_names_and_passwords_beyond_ascii_are_utf_8() -> None:
    assert a_verifier().verify(a_token("amélie", "ünï"), NOW)


@pytest.mark.requirement("CO-13")
@pytest.mark.parametrize(
    "token",
    [
        replace(a_token(), nonce=None),
        replace(a_token(), created=None),
        replace(a_token(), password=None),
        replace(a_token(), password_type=None),
        replace(a_token(), password="hunter2", password_type=TEXT),
        replace(a_token(), password="hunter2", password_type=None, nonce=None, created=None),
        a_token(nonce=b""),
    ],
)
def test_a_token_without_nonce_or_created_or_with_a_clear_password_is_refused(token: UsernameToken) -> None:
    assert not a_verifier().verify(token, NOW)


@pytest.mark.parametrize(
    "token",
    [
        a_token(password="wrong"),
        a_token(user="nobody"),
        a_token(user="nobody", password=""),
        replace(a_token(), nonce="not base64!"),
        replace(a_token(), nonce="ü"),
        replace(a_token(), created="yesterday"),
        replace(a_token(), password="ü"),
        a_token(nonce=bytes(150)),
        a_token(nonce=bytes(1_000_000)),
        replace(a_token(), created="2" * 1_000_000),
    ],
)
def test_wrong_and_malformed_tokens_are_refused_without_showing_secrets(token: UsernameToken) -> None:
    verdict = a_verifier().verify(token, NOW)
    assert not verdict
    assert "hunter2" not in verdict.why
    assert len(verdict.why) < 200
    assert token.password is None or token.password not in repr(token)


@pytest.mark.requirement("CO-15")
def test_a_token_is_taken_once_and_only_near_the_clock() -> None:
    verifier = a_verifier()
    token = a_token()
    assert verifier.verify(token, NOW)
    assert verifier.verify(token, NOW).why == "the token was used before"
    assert verifier.verify(token, NOW + SKEW).why == "the token was used before"
    for off in (-SKEW, SKEW):
        assert a_verifier().verify(a_token(at=NOW + off), NOW)
    for off in (-SKEW - NS, SKEW + NS):
        assert "off the recorder's clock" in a_verifier().verify(a_token(at=NOW + off), NOW).why


def test_the_nonce_of_a_refused_token_is_not_burnt() -> None:
    verifier = a_verifier()
    assert not verifier.verify(a_token(password="wrong"), NOW)
    assert verifier.verify(a_token(), NOW)


def test_a_forgotten_nonce_cannot_be_played_again() -> None:
    verifier = a_verifier(max_nonces=3)
    first = a_token(nonce=b"first")
    assert verifier.verify(first, NOW)
    for n in range(1, 6):
        assert verifier.verify(a_token(nonce=bytes([n]), at=NOW + n * NS), NOW + n * NS), n
    assert not verifier.verify(first, NOW + 6 * NS)


def test_used_nonces_are_forgotten_when_they_are_too_old_to_be_taken() -> None:
    verifier = a_verifier()
    for n in range(50):
        at = NOW + n * 20 * NS
        assert verifier.verify(a_token(nonce=bytes([n]), at=at), at)
    assert verifier.remembered <= 17


def test_created_without_zone_or_with_fractions_counts_as_utc() -> None:
    for created in ("2026-01-01T10:00:00", "2026-01-01T10:00:00.123456789Z", "2026-01-01T11:00:00+01:00"):
        digest = password_digest(b"nonce", created, "hunter2")
        token = UsernameToken("admin", digest, PASSWORD_DIGEST, base64.b64encode(b"nonce").decode(), created)
        assert a_verifier().verify(token, NOW)


optional = st.none() | st.text(max_size=30)


@settings(max_examples=200)
@given(
    st.text(max_size=20), optional, st.just(PASSWORD_DIGEST) | optional, optional, st.just(format_iso(NOW)) | optional
)
def test_no_token_raises(
    user: str, password: str | None, kind: str | None, nonce: str | None, created: str | None
) -> None:
    assert not a_verifier().verify(UsernameToken(user, password, kind, nonce, created), NOW)


def test_a_user_with_a_crowd_of_tokens_and_a_clock_that_is_ahead_shuts_nobody_out() -> None:
    verifier = a_verifier(max_nonces=50)
    assert verifier.verify(a_token("amélie", "ünï", b"early"), NOW)
    for n in range(200):
        ahead = a_token(nonce=n.to_bytes(2, "big"), at=NOW + 120 * NS + n)
        verdict = verifier.verify(ahead, NOW + n)
        assert verdict or verdict.name == "admin"
    assert verifier.remembered == 50
    assert verifier.verify(a_token("amélie", "ünï", b"second"), NOW + 200)
    assert not verifier.verify(a_token("amélie", "ünï", b"early"), NOW + 200)


def test_a_quick_client_with_a_right_clock_is_never_refused_however_many_tokens_it_sends() -> None:
    verifier = a_verifier(max_nonces=50)
    for n in range(500):
        at = NOW + n * NS
        assert verifier.verify(a_token(nonce=n.to_bytes(2, "big"), at=at), at), n


def test_users_whose_tokens_are_all_too_old_take_no_memory() -> None:
    names = [f"user{n}" for n in range(100)]
    verifier = UsernameTokenVerifier(dict.fromkeys(names, "hunter2").get, skew_ns=SKEW)
    for n, name in enumerate(names):
        at = NOW + n * 100 * NS
        assert verifier.verify(a_token(name, at=at), at)
    assert len(verifier._used) <= 5
