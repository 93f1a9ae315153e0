"""RTSP over HTTP: bodies, base64, the two halves and what goes wrong with them."""

from __future__ import annotations

import asyncio
import base64
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.media.rtsp.headers import Headers
from nvr.model.errors import FormatError
from nvr.model.time import NS
from nvr.model.tokens import VIDEO001
from nvr.replay.authentication import DigestAuthenticator
from nvr.replay.http_head import HEAD_BYTES, HttpHead, Opening, opening, parse_head
from nvr.replay.server import RtspSettings
from nvr.replay.tunnel import Base64Stream, PostBody
from nvr.replay.websocket import PATH as SOCKET_PATH
from tests.replay.conftest import PATH, Accounts, Serve, big_track, worked_example
from tests.support.replay_store import ManualClock
from tests.support.rtsp_client import until
from tests.support.tunnel_client import HttpLeg, get, post, tunnel


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """In pieces that end at `cuts`, each taken within the data."""
    places = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


class TestHead:
    @pytest.mark.parametrize(
        ("data", "found"),
        [
            (b"", Opening.UNKNOWN),
            (b"G", Opening.UNKNOWN),
            (b"GET / HTTP/1.0\r\nx-sessioncookie: 1\r\n", Opening.UNKNOWN),
            (b"GET / HTTP/1.0\r\nX-SessionCookie: 1\r\n\r\n", Opening.DOWN),
            (b"POST /any?x HTTP/1.1\nx-sessioncookie:1\n\nT1BU", Opening.UP),
            (b"GET /rtsp-websocket HTTP/1.1\r\nHost: x\r\n\r\n", Opening.WEBSOCKET),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Opening.OTHER),
            (b"POST /onvif/device_service HTTP/1.1\r\nHost: x\r\n\r\n<x/>", Opening.OTHER),
            (b"POST / HTTP/1.1\r\nno header\r\n\r\n", Opening.OTHER),
            (b"GET rtsp://x RTSP/1.0\r\nx-sessioncookie: 1\r\n\r\n", Opening.OTHER),
            (b"OPTIONS * RTSP/1.0", Opening.OTHER),
            (b"PO$", Opening.OTHER),
            (b"\x16\x03\x01", Opening.OTHER),
            (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * HEAD_BYTES, Opening.OTHER),
        ],
    )
    def test_the_first_bytes_say_whom_a_connection_is_for(self, data: bytes, found: Opening) -> None:
        assert opening(data, SOCKET_PATH) is found

    def test_the_head_ends_where_the_body_begins(self) -> None:
        head = parse_head(b"POST /a?b HTTP/1.1\r\nOne:  1 \r\nTwo:\r\n\r\nbody")
        assert head is not None
        assert (head.method, head.path, head.version, head.size) == ("POST", "/a", "1.1", 38)
        assert list(head.headers) == [("One", "1"), ("Two", "")]

    @given(st.binary(max_size=200))
    def test_any_bytes_are_judged(self, data: bytes) -> None:
        assert opening(b"GET " + data, SOCKET_PATH) in Opening


class TestBase64:
    @pytest.mark.requirement("PB-8.1-16")
    @given(st.lists(st.binary(min_size=1, max_size=60), max_size=6), st.lists(st.integers(0, 10_000), max_size=12))
    def test_messages_come_out_as_they_went_in_however_they_are_cut(
        self, messages: list[bytes], cuts: list[int]
    ) -> None:
        """Each message is padded for itself, as FFmpeg and GStreamer do, and lines may be broken."""
        text = b"\r\n".join(base64.b64encode(m) for m in messages)
        decoder = Base64Stream()
        assert b"".join(decoder.feed(piece) for piece in cut(text, cuts)) == b"".join(messages)
        assert decoder.complete

    @pytest.mark.parametrize(
        "text", [b"T1!U", b"T1==T1BU=AAA", b"=T1B", b"OPTIONS * RTSP/1.0\r\n", b"a===", b"ab=c", b"T1BU=="]
    )
    def test_what_is_none_is_refused(self, text: bytes) -> None:
        with pytest.raises(FormatError, match="no base64"):
            Base64Stream().feed(text.ljust(8, b"A"))

    def test_half_a_group_is_noticed(self) -> None:
        decoder = Base64Stream()
        assert decoder.feed(b"T1BUS") == b"OPT"
        assert not decoder.complete


def body(*headers: tuple[str, str]) -> PostBody:
    return PostBody(HttpHead("POST", "/", "1.1", Headers(headers), 0))


class TestBody:
    @pytest.mark.parametrize("length", ["32767", "0", "99999999999999999999", "many", "-1", "2147483647"])
    def test_a_length_that_cannot_be_meant_is_not_kept_to(self, length: str) -> None:
        found = body(("Content-Length", length))
        assert len(found.feed(b"A" * 30_000) + found.feed(b"A" * 30_000)) == 60_000
        assert not found.done

    def test_a_short_length_is_kept_to(self) -> None:
        found = body(("Content-Length", "6"))
        assert found.feed(b"abcd") + found.feed(b"efgh") + found.feed(b"i") == b"abcdef"
        assert found.done

    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.lists(st.integers(0, 10_000), max_size=12))
    def test_chunks_are_taken_apart_however_they_are_cut(self, chunks: list[bytes], cuts: list[int]) -> None:
        wire = b"".join(b"%x;name=value\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
        found = body(("Transfer-Encoding", "Chunked"))
        assert b"".join(found.feed(piece) for piece in cut(wire, cuts)) == b"".join(chunks)
        assert found.done

    @pytest.mark.parametrize("data", [b"no chunk\r\n", b"\r\n-1\r\n", b"5" * 300, b"123456789\r\n"])
    def test_what_is_no_chunk_is_refused(self, data: bytes) -> None:
        with pytest.raises(FormatError, match="no chunk"):
            body(("Transfer-Encoding", "chunked")).feed(data)

    def test_other_codings_are_refused(self) -> None:
        with pytest.raises(FormatError, match="not understood"):
            body(("Transfer-Encoding", "gzip"))


class TestTunnel:
    @pytest.mark.requirement("PB-8.1-01", "PB-8.1-30")
    async def test_a_whole_session_runs_through_it(self, serve: Serve) -> None:
        served = await serve({VIDEO001: worked_example()})
        async with tunnel(served.server.port) as client:
            assert (await client.request("DESCRIBE", PATH)).status == 200
            offered = "RTP/AVP;unicast;client_port=5000-5001,RTP/AVP/TCP;unicast"
            answer = await client.request("SETUP", f"{PATH}/{VIDEO001}", Transport=offered)
            assert "interleaved=0-1" in answer["Transport"]
            client.session = answer["Session"].partition(";")[0]
            assert (await client.request("PLAY", PATH, Rate_Control="no")).status == 200
            packets = await client.packets(16)
            assert [p.seq for p in packets] == [(packets[0].seq + i) & 0xFFFF for i in range(16)]
            assert (await client.request("TEARDOWN", PATH)).status == 200

    @pytest.mark.requirement("PB-8.1-16")
    @pytest.mark.parametrize("length", ["Content-Length: 32767", "", "Content-Length: 0", "Content-Length: 2147483647"])
    async def test_requests_come_in_odd_pieces_and_together_and_go_on_beyond_the_length(
        self, serve: Serve, length: str
    ) -> None:
        served = await serve({VIDEO001: worked_example()})
        async with tunnel(served.server.port, length=length, encode=bytes) as client:
            count = 40
            requests = [f"OPTIONS * RTSP/1.0\r\nCSeq: {i}\r\nX: {'x' * 900}\r\n\r\n".encode() for i in range(count)]
            text = base64.b64encode(requests[0]) + base64.b64encode(b"".join(requests[1:]))
            assert len(text) > 32_767
            for start in range(0, len(text), 1001):
                client.send(text[start : start + 1001])
                await asyncio.sleep(0)
            assert [int((await client.answer())["CSeq"]) for _ in requests] == list(range(count))

    @pytest.mark.requirement("PB-8.1-14")
    async def test_http_asks_for_no_credentials_and_rtsp_does(self, serve: Serve) -> None:
        guard = DigestAuthenticator(Accounts(), "nvr")
        served = await serve({VIDEO001: worked_example()}, authenticator=guard)
        async with tunnel(served.server.port) as client:  # both halves are answered 200
            assert (await client.request("DESCRIBE", PATH)).status == 401
            client.credentials = "watcher", "secret"
            assert (await client.request("DESCRIBE", PATH)).status == 200

    async def test_a_client_may_go_on_in_the_next_post(self, serve: Serve) -> None:
        served = await serve({VIDEO001: worked_example()})
        async with tunnel(served.server.port) as client:
            assert (await client.request("OPTIONS", "*")).status == 200
            text = base64.b64encode(b"OPTIONS * RTSP/1.0\r\nCSeq: 77\r\n\r\n").decode()
            for length, body_ in (
                (f"Content-Length: {len(text)}", text),
                ("Transfer-Encoding: chunked\nExpect: 100-continue", f"{len(text):x}\r\n{text}\r\n0\r\n\r\n"),
            ):
                again = await HttpLeg.open(served.server.port, post("cookie", length))
                again.writer.write(body_.encode())
                assert await again.status() == (100 if "Expect" in length else 200)
                assert (await client.answer())["CSeq"] == "77"
                if "Expect" in length:
                    assert await again.status() == 200
                assert await again.at_end()  # an ordinary request: its answer ends
                again.close()

    async def test_the_end_of_the_get_ends_everything(self, serve: Serve) -> None:
        served = await serve({VIDEO001: big_track()}, payload=50_000)
        down = await HttpLeg.open(served.server.port, get("c"))
        assert await down.status() == 200
        up = await HttpLeg.open(served.server.port, post("c"))
        assert await up.status() == 200
        up.writer.write(base64.b64encode(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"))
        await down.reader.readuntil(b"\r\n\r\n")
        down.close()
        assert await up.at_end()
        up.close()
        await until(lambda: served.server.connections == 0)

    async def test_rubbish_in_the_post_is_answered_on_the_get(self, serve: Serve) -> None:
        served = await serve({})
        async with tunnel(served.server.port, encode=bytes) as client:
            client.send(b"OPTIONS * RTSP/1.0\r\n\r\n")
            assert (await client.answer()).status == 400
            assert await client.at_end()

    async def test_half_a_group_at_the_end_of_a_post_is_rubbish_too(self, serve: Serve) -> None:
        served = await serve({})
        async with tunnel(served.server.port, encode=bytes, length="Content-Length: 5") as client:
            client.send(b"T1BUS")
            assert (await client.answer()).status == 400

    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (post("nobody"), 404),
            (post(""), 400),
            (get("x" * 300), 400),
            (get(""), 400),
        ],
    )
    async def test_halves_that_fit_nothing_are_refused(self, serve: Serve, head: str, status: int) -> None:
        served = await serve({})
        leg = await HttpLeg.open(served.server.port, head)
        assert await leg.status() == status
        assert await leg.at_end()
        leg.close()

    async def test_a_cookie_in_use_is_not_given_to_another_get(self, serve: Serve) -> None:
        served = await serve({})
        async with tunnel(served.server.port) as client:
            second = await HttpLeg.open(served.server.port, get("cookie"))
            assert await second.status() == 409
            second.close()
            assert (await client.request("OPTIONS", "*")).status == 200

    async def test_a_coding_that_is_not_understood_is_refused(self, serve: Serve) -> None:
        served = await serve({})
        async with tunnel(served.server.port) as client:
            leg = await HttpLeg.open(served.server.port, post("cookie", "Transfer-Encoding: gzip"))
            assert await leg.status() == 501
            leg.close()
            assert (await client.request("OPTIONS", "*")).status == 200

    async def test_a_get_without_post_ends(self, serve: Serve) -> None:
        clock = ManualClock()
        served = await serve({}, clock=clock)
        down = await HttpLeg.open(served.server.port, get("c"))
        assert await down.status() == 200
        clock.advance(11 * NS)
        assert await down.at_end()
        down.close()
        late = await HttpLeg.open(served.server.port, post("c"))
        assert await late.status() == 404
        late.close()

    async def test_another_client_cannot_join_a_tunnel(self, serve: Serve) -> None:
        """It would get nothing to see, but could speak in another's name."""
        served = await serve({})
        async with tunnel(served.server.port, cookie="known"):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port, local_addr=("127.0.0.2", 0))
            writer.write(post("known").replace("\n", "\r\n").encode() + b"\r\n\r\n")
            assert await HttpLeg(reader, writer).status() == 404
            writer.close()

    async def test_a_client_that_does_not_read_its_get_harms_nobody(self, serve: Serve) -> None:
        track = big_track()
        served = await serve({VIDEO001: track}, payload=50_000)
        async with tunnel(served.server.port) as stalled, tunnel(served.server.port, cookie="b") as free:
            await stalled.set_up(PATH, VIDEO001)
            await stalled.request("PLAY", PATH, Rate_Control="no")
            stalled.reader._transport.pause_reading()  # type: ignore[attr-defined]
            reads = -1
            while reads != track.reads:
                reads = track.reads
                await asyncio.sleep(0.1)
            assert reads < 150
            assert (await free.request("DESCRIBE", PATH)).status == 200
            stalled.write("TEARDOWN", PATH)
            await until(lambda: not sum(served.store.subscriptions.values()))

    async def test_tunnels_have_their_places_among_the_connections(self, serve: Serve) -> None:
        served = await serve({}, settings=RtspSettings(maximum_connections=2))
        async with tunnel(served.server.port):
            third = await served.client()
            assert (await third.answer()).status == 503
