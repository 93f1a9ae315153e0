"""nvr.auth.digest and nvr.auth.client: the computation, the server's and the client's side."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.auth.access import Verdict
from nvr.auth.challenge import parse_parameters, quote
from nvr.auth.client import ClientCredentials
from nvr.auth.digest import (
    HTTP_POLICY,
    MAX_GIVEN,
    RTSP_POLICY,
    Algorithm,
    DigestPolicy,
    DigestServer,
    GivenNonces,
    ha1,
    response_hex,
    same_resource,
)
from nvr.model.time import NS

NOW = 1_767_261_600 * NS
USERS = {"admin": "hunter2", 'q"uo\\te': "p:w", "amélie": "ünï"}
URI = "/onvif/device_service"


def lookup(name: str, algorithm: Algorithm) -> str | None:
    return ha1(algorithm, name, "nvr", USERS[name]) if name in USERS else None


def a_server(policy: DigestPolicy = HTTP_POLICY, key: bytes = b"key") -> DigestServer:
    return DigestServer("nvr", lookup, policy, key)


def an_answer(
    server: DigestServer, user: str = "admin", password: str = "hunter2", uri: str = URI, now: int = NOW
) -> str:
    client = ClientCredentials(user, password)
    assert client.challenged(server.challenges(now))
    answer = client.authorization("POST", uri)
    assert answer is not None
    return answer


def test_the_example_of_rfc_7616() -> None:
    nonce, qop = (
        "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        ("auth", "00000001", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"),
    )
    for algorithm, expected in (
        (Algorithm.MD5, "8ca523f5e9506fed4657c9700eebdbec"),
        (Algorithm.SHA_256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ):
        secret = ha1(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life")
        assert response_hex(algorithm, secret, "GET", "/dir/index.html", nonce, qop) == expected


def test_the_example_of_rfc_2617_and_its_form_without_qop() -> None:
    secret = ha1(Algorithm.MD5, "Mufasa", "testrealm@host.com", "Circle Of Life")
    nonce = "dcd98b7102dd2f0e8b11d0f600bfb0c093"
    qop = ("auth", "00000001", "0a4f113b")
    assert (
        response_hex(Algorithm.MD5, secret, "GET", "/dir/index.html", nonce, qop) == "6629fae49393a05397450978507c4ef1"
    )
    assert (
        response_hex(Algorithm.MD5, secret, "GET", "/dir/index.html", nonce, None) == "670fd8c2df070c60b045671b8b24ff02"
    )


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize(("user", "password"), USERS.items())
def test_client_and_server_agree(algorithm: Algorithm, user: str, password: str) -> None:
    server = a_server(DigestPolicy(algorithms=(algorithm,)))
    answer = an_answer(server, user, password)
    assert f"algorithm={algorithm}" in answer
    assert server.verify("POST", URI, answer, NOW) == Verdict(user)
    on_the_wire = an_answer(server, user, password).encode().decode("latin-1")
    assert server.verify("POST", URI, on_the_wire, NOW) == Verdict(user)


def test_every_offered_algorithm_has_a_challenge_of_its_own_and_md5_alone_is_the_default() -> None:
    assert [c.count("algorithm=MD5") for c in a_server().challenges(NOW)] == [1]
    both = a_server(DigestPolicy(algorithms=(Algorithm.MD5, Algorithm.SHA_256)))
    md5, sha = both.challenges(NOW, stale=True)
    assert "algorithm=MD5," in md5
    assert "algorithm=SHA-256," in sha
    assert md5.endswith("stale=true")
    assert all('qop="auth"' in c for c in (md5, sha))


@pytest.mark.parametrize(
    ("method", "uri", "user", "password"),
    [
        ("GET", URI, "admin", "hunter2"),
        ("POST", "/other", "admin", "hunter2"),
        ("POST", URI, "admin", "wrong"),
        ("POST", URI, "nobody", "hunter2"),
        ("POST", URI, "nobody", ""),
    ],
)
def test_another_method_uri_password_or_user_is_refused_without_a_hint(
    method: str, uri: str, user: str, password: str
) -> None:
    server = a_server()
    verdict = server.verify(method, uri, an_answer(server, user, password), NOW)
    assert verdict.user is None
    assert not verdict.stale
    assert "hunter2" not in verdict.why


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic YWRtaW46aHVudGVyMg==",
        "Digest",
        "Digest username=admin",
        "garbage ,,, = ",
        'Digest username="admin", realm="nvr", nonce="\u20ac", uri="/", response="x"',
        f'Digest username="admin", realm="nvr", nonce="!!", uri="{URI}", response="x", qop=auth, nc=1, cnonce="c"',
        f'Digest username="admin", realm="other", nonce="a", uri="{URI}", response="x", qop=auth, nc=1, cnonce="c"',
        f'Digest username="admin", realm="nvr", nonce="a", uri="{URI}", response="x", qop=auth-int, nc=1, cnonce="c"',
        f'Digest username="admin", realm="nvr", nonce="a", uri="{URI}", response="x", qop=auth, nc=zz, cnonce="c"',
        f'Digest username="admin", realm="nvr", nonce="a", uri="{URI}", response="x", algorithm=SHA-1',
    ],
)
def test_what_is_no_answer_is_refused(authorization: str | None) -> None:
    assert not a_server().verify("POST", URI, authorization, NOW)


@settings(max_examples=300)
@given(st.text(max_size=80))
def test_no_header_raises(text: str) -> None:
    server = a_server(RTSP_POLICY)
    assert not server.verify("POST", URI, text, NOW)
    assert not server.verify("POST", URI, "Digest " + text, NOW)
    assert not server.verify(
        "POST", URI, f'Digest username="{text}", realm="nvr", nonce="{text}", uri="{URI}", response="{text}"', NOW
    )


def test_an_answer_is_taken_once_only() -> None:
    server = a_server()
    answer = an_answer(server)
    assert server.verify("POST", URI, answer, NOW)
    again = server.verify("POST", URI, answer, NOW)
    assert again.user is None
    assert again.stale, "a client that always counts from one may try again with a fresh nonce"


def test_nonce_counts_may_overtake_each_other_within_a_window_but_never_come_twice() -> None:
    server = a_server()
    client = ClientCredentials("admin", "hunter2")
    client.challenged(server.challenges(NOW))
    answers = [client.authorization("POST", URI) for _ in range(100)]
    for n in (0, 2, 1, 60, 40, 99, 50):
        assert server.verify("POST", URI, answers[n], NOW), n
    for n in (0, 1, 2, 40, 50, 60, 99, 30, 35):
        assert not server.verify("POST", URI, answers[n], NOW), n
    assert server.verify("POST", URI, answers[36], NOW)


def test_an_expired_nonce_is_stale_only_for_who_knows_the_password() -> None:
    server = a_server()
    for later in (HTTP_POLICY.nonce_lifetime_ns, -NS):
        right = server.verify("POST", URI, an_answer(server), NOW + later)
        wrong = server.verify("POST", URI, an_answer(server, password="wrong"), NOW + later)
        assert (right.user, right.stale) == (None, True)
        assert (wrong.user, wrong.stale) == (None, False)
    assert server.verify("POST", URI, an_answer(server), NOW + HTTP_POLICY.nonce_lifetime_ns - 1)


def test_a_nonce_of_another_process_is_stale_and_gives_no_access() -> None:
    verdict = a_server(key=b"new").verify("POST", URI, an_answer(a_server(key=b"old")), NOW)
    assert (verdict.user, verdict.stale) == (None, True)


def test_a_forgotten_nonce_cannot_be_played_again() -> None:
    server = a_server(DigestPolicy(max_nonces=3))
    first = an_answer(server, now=NOW)
    assert server.verify("POST", URI, first, NOW)
    for n in range(1, 6):
        assert server.verify("POST", URI, an_answer(server, now=NOW + n), NOW + n)
    replayed = server.verify("POST", URI, first, NOW + 6)
    assert (replayed.user, replayed.stale) == (None, True)


def test_wrong_answers_take_no_memory() -> None:
    server = a_server(DigestPolicy(max_nonces=2))
    good = an_answer(server)
    for n in range(20):
        assert not server.verify("POST", URI, an_answer(server, password=str(n)), NOW)
    assert server.verify("POST", URI, good, NOW)


def without_qop(server: DigestServer, uri: str) -> str:
    (challenge,) = parse_parameters(server.challenges(NOW)[0])
    client = ClientCredentials("admin", "hunter2")
    assert client.challenged([f'Digest realm="nvr", nonce="{challenge.get("nonce")}"'])
    answer = client.authorization("PLAY", uri)
    assert answer is not None
    assert "qop" not in answer
    return answer


def test_answers_without_qop_are_taken_by_policy_only() -> None:
    http, rtsp = a_server(HTTP_POLICY), a_server(RTSP_POLICY)
    assert not http.verify("PLAY", "/x", without_qop(http, "/x"), NOW)
    answer = without_qop(rtsp, "rtsp://h:8554/replay/1/")
    for _ in range(3):
        assert rtsp.verify("PLAY", "rtsp://h:8554/replay/1/", answer, NOW)


def test_an_answer_without_qop_counts_on_the_connection_that_got_the_nonce_and_is_stale_elsewhere() -> None:
    server = a_server(RTSP_POLICY)
    own: GivenNonces = deque(maxlen=MAX_GIVEN)
    other: GivenNonces = deque(maxlen=MAX_GIVEN)
    (challenge,) = parse_parameters(server.challenges(NOW, given=own)[0])
    server.challenges(NOW, given=other)
    nonce = challenge.get("nonce")
    for parameters, elsewhere in ((f'nonce="{nonce}"', False), (f'nonce="{nonce}", qop="auth"', True)):
        client = ClientCredentials("admin", "hunter2")
        assert client.challenged([f'Digest realm="nvr", {parameters}'])
        first, second = (client.authorization("PLAY", "/x") for _ in range(2))
        assert server.verify("PLAY", "/x", first, NOW, given=own)
        verdict = server.verify("PLAY", "/x", second, NOW, given=other)
        assert (bool(verdict), verdict.stale) == (elsewhere, not elsewhere)
        wrong = ClientCredentials("admin", "wrong")
        assert wrong.challenged([f'Digest realm="nvr", {parameters}'])
        refused = server.verify("PLAY", "/x", wrong.authorization("PLAY", "/x"), NOW, given=other)
        assert (refused.wrong, refused.stale) == (True, False)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("rtsp://h/a/b?c=d", "/a/b?c=d", True),
        ("rtsp://h:554/a", "rtsp://other/a/", True),
        ("http://h/a%20b", "/a b", True),
        ("rtsp://h", "/", True),
        ("*", "*", True),
        ("/a?x=1", "/a?x=2", False),
        ("/a", "/b", False),
        ("/a", "/A", False),
    ],
)
def test_the_uri_is_compared_whatever_its_form(first: str, second: str, same: bool) -> None:
    assert same_resource(first, second) is same
    assert same_resource(second, first) is same


@pytest.mark.parametrize(
    ("requested", "signed", "taken"),
    [
        ("rtsp://h:8554/replay/rec-1/VIDEO001", "rtsp://h:8554/replay/rec-1/", True),
        ("rtsp://h:8554/replay/rec-1/VIDEO001", "/replay/rec-1", True),
        ("rtsp://h/s?channel=1/track1", "rtsp://h/s?channel=1", True),
        ("rtsp://h/replay/rec-12", "rtsp://h/replay/rec-1", False),
        ("rtsp://h/replay/rec-1", "rtsp://h/replay/rec-1/VIDEO001", False),
        ("rtsp://h/replay/rec-1", "rtsp://h/", False),
    ],
)
def test_over_rtsp_an_answer_for_the_aggregate_uri_is_taken_for_its_tracks(
    requested: str, signed: str, taken: bool
) -> None:
    rtsp, http = a_server(RTSP_POLICY), a_server(HTTP_POLICY)
    assert bool(rtsp.verify("POST", requested, an_answer(rtsp, uri=signed), NOW)) is taken
    assert not http.verify("POST", requested, an_answer(http, uri=signed), NOW)


# the client's side


def challenge(nonce: str = "n1", **parameters: str) -> str:
    return f'Digest realm="cam", nonce="{nonce}"' + "".join(f", {k}={v}" for k, v in parameters.items())


@pytest.mark.parametrize(
    ("challenges", "expected"),
    [
        ([challenge(), 'Basic realm="cam"'], "Digest"),
        (['Basic realm="cam"', challenge()], "Digest"),
        (['Basic realm="cam"'], "Basic YWRtaW46aHVudGVyMg=="),
        ([challenge(algorithm="MD5"), challenge(algorithm="SHA-256")], "algorithm=SHA-256"),
        ([challenge(algorithm="SHA-256") + ", " + challenge(algorithm="MD5")], "algorithm=SHA-256"),
        ([challenge(algorithm='"md5"')], "algorithm=md5"),
        ([challenge(algorithm="SHA-512-256"), challenge(algorithm="MD5")], "algorithm=MD5"),
        ([challenge(qop='"auth-int"'), challenge(qop='"auth-int,auth"')], "qop=auth, nc=00000001"),
        (["Negotiate abc==", "NTLM", challenge()], "Digest"),
        ([challenge(opaque='"o\\"p"')], 'opaque="o\\"p"'),
    ],
)
def test_the_strongest_known_challenge_is_answered(challenges: list[str], expected: str) -> None:
    client = ClientCredentials("admin", "hunter2")
    assert client.authorization("DESCRIBE", "rtsp://h/") is None
    assert client.challenged(challenges)
    assert expected in (client.authorization("DESCRIBE", "rtsp://h/") or "")


@pytest.mark.parametrize(
    "challenges", [[], [""], ["NTLM"], [challenge(algorithm="SHA-1")], [challenge(qop="auth-int")]]
)
def test_challenges_that_nobody_can_answer(challenges: list[str]) -> None:
    assert not ClientCredentials("admin", "hunter2").challenged(challenges)


def test_basic_can_be_ruled_out() -> None:
    assert not ClientCredentials("admin", "hunter2", allow_basic=False).challenged(['Basic realm="cam"'])


def test_the_answer_of_a_client_without_qop_and_algorithm_carries_neither() -> None:
    client = ClientCredentials("admin", "hunter2")
    client.challenged([challenge()])
    expected = response_hex(
        Algorithm.MD5, ha1(Algorithm.MD5, "admin", "cam", "hunter2"), "PLAY", "rtsp://h/", "n1", None
    )
    assert client.authorization("PLAY", "rtsp://h/") == (
        f'Digest username="admin", realm="cam", nonce="n1", uri="rtsp://h/", response="{expected}"'
    )


def test_session_algorithms_bind_the_first_cnonce() -> None:
    client = ClientCredentials("admin", "hunter2", make_cnonce=lambda: "c")
    client.challenged([challenge(algorithm="MD5-sess", qop="auth")])
    inner = ha1(Algorithm.MD5, "admin", "cam", "hunter2")
    from_session = ha1(Algorithm.MD5, inner, "n1", "c")
    answer = client.authorization("PLAY", "u") or ""
    assert response_hex(Algorithm.MD5, from_session, "PLAY", "u", "n1", ("auth", "00000001", "c")) in answer
    assert "algorithm=MD5-sess" in answer


def test_nonce_uses_are_counted_and_begin_anew_with_a_nonce() -> None:
    client = ClientCredentials("admin", "hunter2")
    client.challenged([challenge(qop="auth")])
    assert [f"nc={n:08x}" in (client.authorization("A", "u") or "") for n in (1, 2, 3)] == [True] * 3
    client.accepted()
    assert client.challenged([challenge("n2", qop="auth", stale="TRUE")])
    assert "nc=00000001" in (client.authorization("A", "u") or "")


def test_a_second_refusal_means_a_wrong_password_even_with_a_fresh_nonce() -> None:
    client = ClientCredentials("admin", "wrong")
    assert client.challenged([challenge("n1")])
    client.authorization("A", "u")
    assert not client.challenged([challenge("n2")])


def test_a_nonce_renewed_without_saying_so_is_followed_once_credentials_were_accepted() -> None:
    client = ClientCredentials("admin", "hunter2")
    client.challenged([challenge("n1")])
    for n in range(2, 6):
        client.authorization("A", "u")
        client.accepted()
        client.authorization("A", "u")
        assert client.challenged([challenge(f"n{n}")])
    client.authorization("A", "u")
    assert not client.challenged([challenge("n9")]), "refused twice in a row without success between"


def test_a_server_that_calls_every_nonce_stale_is_not_asked_for_ever() -> None:
    client = ClientCredentials("admin", "hunter2")
    tries = 0
    while client.challenged([challenge(f"n{tries}", stale="true")]):
        client.authorization("A", "u")
        tries += 1
    assert tries == 3


def test_credentials_are_never_shown() -> None:
    client = ClientCredentials("admin", "hunter2")
    client.challenged([challenge()])
    assert "hunter2" not in repr(client)
    assert "hunter2" not in (client.authorization("A", "u") or "")


@settings(max_examples=200)
@given(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=40))
def test_quoted_strings_come_back(text: str) -> None:
    (parsed,) = parse_parameters(f"Digest realm={quote(text)}, nonce=abc")
    assert (parsed.get("realm"), parsed.get("nonce")) == (text, "abc")


def test_a_quoted_string_cannot_break_the_header() -> None:
    with pytest.raises(ValueError, match="line end"):
        quote("a\r\nb")
