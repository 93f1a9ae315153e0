"""nvr.media.rtsp.message: framing of requests, responses and interleaved packets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.media.rtsp.headers import Headers
from nvr.media.rtsp.message import (
    Event,
    Interleaved,
    Limits,
    MessageError,
    MessageParser,
    Request,
    Response,
    cseq_of,
    frame_header,
    parse_message,
)
from nvr.model.errors import FormatError

DEFAULT = Limits()


def events_of(*chunks: bytes, limits: Limits = DEFAULT) -> list[Event]:
    parser = MessageParser(limits)
    found: list[Event] = []
    for chunk in chunks:
        parser.feed(chunk)
        found += parser.events()
    return found


def refused(data: bytes, limits: Limits = DEFAULT) -> MessageError:
    with pytest.raises(MessageError) as caught:
        events_of(data, limits=limits)
    return caught.value


names = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=20).filter(
    lambda name: name.lower() != "content-length"
)
values = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60).map(
    str.strip
)
headers = st.lists(st.tuples(names, values), max_size=6).map(Headers)
requests = st.builds(
    Request,
    st.sampled_from(["OPTIONS", "DESCRIBE", "SETUP", "PLAY", "GET_PARAMETER"]),
    st.sampled_from(["*", "rtsp://[::1]:554/x?y=1&z", "/replay/1"]),
    headers,
    st.binary(max_size=40),
)
responses = st.builds(
    Response, st.integers(100, 599), headers, st.binary(max_size=40), st.sampled_from(["OK", "Fine by me", "Ü"])
)
frames = st.builds(Interleaved, st.integers(0, 255), st.binary(max_size=70))


@settings(max_examples=80)
@given(st.lists(st.one_of(requests, responses, frames), max_size=5), st.data())
def test_what_is_written_is_read_back_wherever_the_stream_is_cut(sent: list[Event], data: st.DataObject) -> None:
    stream = b"".join(map(bytes, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    read = events_of(*chunks)
    assert [bytes(event) for event in read] == [bytes(event) for event in sent]
    assert [type(event) for event in read] == [type(event) for event in sent]


@settings(max_examples=300)
@given(
    st.binary(max_size=200), st.sampled_from([b"", b"RTSP/1.0 200 OK\r\n", b"PLAY * RTSP/1.0\r\nCSeq: 1\r\n", b"$\0"])
)
def test_any_bytes_give_events_or_a_format_error_and_nothing_else(data: bytes, start: bytes) -> None:
    whole: list[Event] | str
    try:
        whole = events_of(start + data)
    except FormatError as e:
        whole = str(e)
    try:
        bytewise: list[Event] | str = events_of(*(bytes([b]) for b in start + data))
    except FormatError as e:
        bytewise = str(e)
    assert isinstance(whole, str) == isinstance(bytewise, str)
    if not isinstance(whole, str):
        assert whole == bytewise


def test_a_reply_split_behind_its_first_letter_is_a_reply() -> None:
    assert events_of(b"R", b"TSP/1.0 200 OK\r\nCSeq: 7\r\n\r\n") == [Response(200, Headers([("CSeq", "7")]), b"", "OK")]


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"RTSP/1.0 200 OK", 200, "OK"),
        (b"RTSP/1.0 200", 200, ""),
        (b"RTSP/1.0 200 ", 200, ""),
        (b"rtsp/1.0  401   Unauthorized ", 401, "Unauthorized"),
        (b"RTSP/1.0 404 Pas trouv\xe9", 404, "Pas trouv\xe9"),
        (b"RTSP/2.0 505 no", 505, "no"),
    ],
)
def test_status_lines_of_sloppy_servers_are_read(line: bytes, status: int, reason: str) -> None:
    (event,) = events_of(line + b"\r\n\r\n")
    assert isinstance(event, Response)
    assert (event.status, event.reason) == (status, reason)


def test_line_ends_without_cr_folded_lines_and_blank_lines_between_messages_are_tolerated() -> None:
    stream = b"\r\n\nOPTIONS  *  RTSP/1.0\nCSeq : 1\nX-Long: a\n\tb\r\n  c\n\n\r\n\r\n"
    stream += b"$\x03\x00\x01z\r\nRTSP/1.0 200 OK\r\n\r\n"
    request, frame, response = events_of(stream)
    assert request == Request("OPTIONS", "*", Headers([("CSeq", "1"), ("X-Long", "a b c")]))
    assert frame == Interleaved(3, b"z")
    assert response == Response(200, reason="OK")


def test_a_uri_with_spaces_is_kept_whole() -> None:
    (event,) = events_of(b"DESCRIBE rtsp://h/my camera/1 RTSP/1.0\r\nCSeq: 1\r\n\r\n")
    assert isinstance(event, Request)
    assert event.uri == "rtsp://h/my camera/1"


@pytest.mark.parametrize(
    ("data", "status", "evidence"),
    [
        (b"\x80\x60\x00\x01 not ours", 400, r"\x80"),
        (b"HELLO\r\n\r\n", 400, "HELLO"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "GET"),
        (b"PLAY * RTSP/1.0\r\nno colon here\r\n\r\n", 400, "no colon"),
        (b"PLAY * RTSP/1.0\r\nA B: c\r\n\r\n", 400, "A B"),
        (b"PLAY * RTSP/1.0\r\nA: b\rc\r\n\r\n", 400, "CR"),
        (b"PLAY * RTSP/1.0\r\nContent-Length: -1\r\n\r\n", 400, "-1"),
        (b"PLAY * RTSP/1.0\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "contradict"),
        (b"PLAY * RTSP/1.0\r\nContent-Length: 9999999\r\n\r\n", 413, "9999999"),
        (b"P" * 10_000, 414, "PPP"),
        (b"PLAY * RTSP/1.0\r\n" + b"A: b\r\n" * 101 + b"\r\n", 413, "101"),
        (b"PLAY * RTSP/1.0\r\nA: " + b"b" * 9000 + b"\r\n\r\n", 413, "header line"),
        (b"PLAY * RTSP/1.0\r\n" + (b"A: " + b"b" * 8000 + b"\r\n") * 9, 413, "65536"),
    ],
)
def test_garbage_and_excess_are_refused_with_evidence_and_status(data: bytes, status: int, evidence: str) -> None:
    error = refused(data)
    assert error.status == status
    assert evidence in str(error)


def test_limits_are_arguments() -> None:
    small = Limits(line=64, head=128, headers=2, body=4)
    assert events_of(b"PLAY * RTSP/1.0\r\nContent-Length: 4\r\n\r\nabcd", limits=small)
    assert refused(b"PLAY * RTSP/1.0\r\nContent-Length: 5\r\n\r\nabcde", limits=small).status == 413
    assert refused(b"PLAY * RTSP/1.0\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n", limits=small).status == 413


def test_errors_and_representations_never_show_credentials() -> None:
    for data in (
        b"PLAY * RTSP/1.0\r\nAuthorization Basic c2VjcmV0\r\n\r\n",
        b"PLAY * RTSP/1.0\r\nAuthorization: Basic c2Vj\rcmV0\r\n\r\n",
        b"PLAY rtsp://user:c2VjcmV0@h/x RTSP1.0\r\n\r\n",
    ):
        assert "c2Vj" not in str(refused(data))
    request = Request("PLAY", "*", Headers([("Authorization", "Basic c2VjcmV0"), ("CSeq", "1")]))
    assert "c2Vj" not in repr(request)
    assert "CSeq" in repr(request)


def test_events_before_the_error_are_delivered_and_the_error_stays() -> None:
    parser = MessageParser()
    parser.feed(b"$\x00\x00\x01a\xff\xff")
    assert parser.next_event() == Interleaved(0, b"a")
    for _ in range(2):
        with pytest.raises(MessageError):
            parser.next_event()


@pytest.mark.parametrize(
    "bad",
    [
        b"PLAY * RTSP/1.0\r\nCSeq: 3\r\nno colon here\r\n\r\n",
        b"PLAY * RTSP/1.0\r\nno colon here\r\nCSeq: 3\r\n\r\n",
        b"PLAY *\r\nCSeq: 3\r\n\r\n",
        b"PL\0AY * RTSP/1.0\r\nCSeq: 3\r\n\r\n",
        b"PLAY * RTSP/1.0\r\nA\0: b\r\nCSeq: 3\r\nContent-Length: 5\r\n\r\n$\0\xff\xff\0",
        b"PLAY * RTSP/1.0\r\nCSeq: 3\r\n" + b"A: b\r\n" * 101 + b"\r\n",
        b"PLAY * RTSP/1.0\r\nCSeq: 3\r\nA: " + b"b" * 9000 + b"\r\n\r\n",
    ],
)
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_what_is_wrong_in_one_message_is_told_with_its_cseq_and_the_next_one_follows(bad: bytes, step: int) -> None:
    stream = b"OPTIONS * RTSP/1.0\r\nCSeq: 2\r\n\r\n" + bad + b"$\1\0\1aOPTIONS * RTSP/1.0\r\nCSeq: 4\r\n\r\n"
    parser = MessageParser()
    found: list[object] = []
    for at in range(0, len(stream), step):
        parser.feed(stream[at : at + step])
        while True:
            try:
                event = parser.next_event()
            except MessageError as e:
                found.append("fatal" if e.fatal else cseq_of(e.headers))
                continue
            if event is None:
                break
            found.append(event.cseq if isinstance(event, Request) else event)
    assert found == [2, 3, Interleaved(1, b"a"), 4]


@pytest.mark.parametrize(
    "bad",
    [
        b"\xff\xff",
        b"HELLO\r\n\r\n",
        b"PLAY * RTSP/1.0\r\nContent-Length 5\r\n\r\n",
        b"PLAY * RTSP/1.0\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"PLAY * RTSP/1.0\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_where_the_next_message_begins_is_never_guessed(bad: bytes) -> None:
    assert refused(bad).fatal


def test_parse_message_reads_from_the_middle_of_a_buffer() -> None:
    message = b"\r\nPLAY * RTSP/1.0\r\nContent-Length: 2\r\n\r\nhi"
    buffer = bytearray(b"xx" + message + b"$\0\0\0")
    for end in range(2, 2 + len(message)):
        assert parse_message(buffer, 2, end) is None
    parsed = parse_message(memoryview(buffer), 2, len(buffer))
    assert parsed == (Request("PLAY", "*", Headers([("Content-Length", "2")]), b"hi"), 2 + len(message))


def test_headers_compare_names_without_case_and_keep_order_and_repetitions() -> None:
    headers = Headers([("WWW-Authenticate", "Digest"), ("CSeq", "1"), ("www-authenticate", "Basic")])
    assert headers.get("Www-authenticate") == "Digest"
    assert headers.get_all("WWW-AUTHENTICATE") == ["Digest", "Basic"]
    assert "cseq" in headers
    assert headers.get("Session") is None
    headers.set("WWW-Authenticate", "none")
    assert list(headers) == [("CSeq", "1"), ("WWW-Authenticate", "none")]
    assert headers == Headers([("cseq", "1"), ("www-authenticate", "none")])


@pytest.mark.parametrize(("name", "value"), [("A", "b\r\nC: d"), ("A", "b\nc"), ("A B", "c"), ("", "c"), ("A:", "c")])
def test_a_header_that_would_break_the_framing_cannot_be_made(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="header"):
        Headers([(name, value)])


def test_messages_that_would_break_the_framing_cannot_be_written() -> None:
    for message in (
        Request("PL AY", "*"),
        Request("PLAY", "a b"),
        Request("PLAY", "x\r\ny"),
        Response(99),
        Response(200, reason="a\r\nb"),
        Response(200, Headers([("Content-Length", "3")]), b"ab"),
    ):
        with pytest.raises(ValueError, match=r"makes no|is stated"):
            bytes(message)
    with pytest.raises(ValueError, match="interleaved"):
        frame_header(0, 65_536)


def test_a_response_without_reason_is_written_with_the_phrase_of_the_rfc() -> None:
    assert bytes(Response(454)) == b"RTSP/1.0 454 Session Not Found\r\n\r\n"


@pytest.mark.parametrize(
    ("values", "cseq"),
    [(["3"], 3), ([" 4 "], 4), (["5", "6"], 5), ([], None), (["x"], None), (["-1"], None), (["99999999999"], None)],
)
def test_the_first_cseq_counts_and_what_is_no_number_is_none(values: list[str], cseq: int | None) -> None:
    assert cseq_of(Headers([("cseq", value) for value in values])) == cseq
