"""An RTSP client for tests that sees every byte: requests as text, answers and interleaved frames in their order.

It shares no code with the server, so that both cannot be wrong in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

TIMEOUT_S = 10.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens on the event loop without telling anybody. Raises TimeoutError."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    def __getitem__(self, name: str) -> str:
        value = self.header(name)
        assert value is not None, f"no {name} in {self.headers}"
        return value


@dataclass(frozen=True)
class Packet:
    """One interleaved RTP packet taken apart by hand (RFC 3550 5.1; IEC 62676-2-32 8.3.1)."""

    channel: int
    raw: bytes
    version: int = field(init=False)
    cc: int = field(init=False)
    marker: bool = field(init=False)
    payload_type: int = field(init=False)
    seq: int = field(init=False)
    rtp_time: int = field(init=False)
    ssrc: int = field(init=False)
    ntp: int | None = field(init=False, default=None)
    word3: bytes | None = field(init=False, default=None)
    payload: bytes = field(init=False)

    def __post_init__(self) -> None:
        first, second, seq, rtp_time, ssrc = struct.unpack_from(">BBHII", self.raw)
        at = 12
        if first & 0x10:
            profile, words = struct.unpack_from(">HH", self.raw, at)
            assert (profile, words) == (0xABAC, 3)
            object.__setattr__(self, "ntp", int.from_bytes(self.raw[16:24], "big"))
            object.__setattr__(self, "word3", self.raw[24:28])
            at = 28
        for name, value in (
            ("version", first >> 6),
            ("cc", first & 15),
            ("marker", bool(second & 0x80)),
            ("payload_type", second & 0x7F),
            ("seq", seq),
            ("rtp_time", rtp_time),
            ("ssrc", ssrc),
            ("payload", self.raw[at:]),
        ):
            object.__setattr__(self, name, value)

    @property
    def flags(self) -> str:
        assert self.word3 is not None
        return "".join(
            letter for letter, bit in zip("CEDT", (0x80, 0x40, 0x20, 0x10), strict=True) if self.word3[0] & bit
        )


class RtspClient:
    """`await RtspClient.connect(port)`; `answers` and `packets` come through `request` and `packet`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, base: str) -> None:
        self.reader = reader
        self.writer = writer
        self.base = base
        self.cseq = 0
        self.session: str | None = None
        self.log: list[Answer | Packet | tuple[int, bytes]] = []
        """Everything received, in order; RTCP as (channel, bytes)."""
        self.credentials: tuple[str, str] | None = None
        self._challenge: dict[str, str] | None = None

    @classmethod
    async def connect(cls, port: int, limit: int = 1 << 16, host: str = "127.0.0.1") -> RtspClient:
        """`limit`: bytes of each of the two receive buffers, the kernel's and asyncio's."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # so asyncio sets TCP_NODELAY
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limit)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=limit)
        return cls(reader, writer, f"rtsp://[{host}]:{port}" if ":" in host else f"rtsp://{host}:{port}")

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):  # the server may have been faster
            await self.writer.wait_closed()

    def write(self, method: str, uri: str = "/", **headers: str) -> int:
        """Send a request, with the session if there is one; returns its CSeq. `_` in names stands for `-`."""
        self.cseq += 1
        uri = uri if "://" in uri or uri == "*" else self.base + uri
        lines = [f"{method} {uri} RTSP/1.0", f"CSeq: {self.cseq}"]
        if self.session is not None and "Session" not in headers:
            lines.append(f"Session: {self.session}")
        if self._challenge is not None and self.credentials is not None and "Authorization" not in headers:
            lines.append(f"Authorization: {self._authorization(method, uri)}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode())
        return self.cseq

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def request(self, method: str, uri: str = "/", **headers: str) -> Answer:
        """Send and wait for the answer; a challenge is answered once when there are credentials."""
        cseq = self.write(method, uri, **headers)
        answer = await self.answer()
        assert answer["CSeq"] == str(cseq)
        if answer.status == 401 and self.credentials is not None and self._challenge is None:
            self._challenge = _parameters(answer["WWW-Authenticate"])
            return await self.request(method, uri, **headers)
        return answer

    async def answer(self) -> Answer:
        """The next answer; frames before it go to the log."""
        while not isinstance(event := await self.event(), Answer):
            pass
        return event

    async def packet(self) -> Packet:
        """The next RTP packet (even channel)."""
        while not isinstance(event := await self.event(), Packet):
            assert not isinstance(event, Answer), f"an answer where a packet was expected: {event}"
        return event

    async def packets(self, count: int) -> list[Packet]:
        return [await self.packet() for _ in range(count)]

    async def report(self) -> tuple[int, bytes]:
        """The next RTCP packet."""
        while not isinstance(event := await self.event(), tuple):
            pass
        return event

    async def event(self) -> Answer | Packet | tuple[int, bytes]:
        async with asyncio.timeout(TIMEOUT_S):
            first = await self.reader.readexactly(1)
            if first == b"$":
                channel, size = struct.unpack(">BH", await self.reader.readexactly(3))
                data = await self.reader.readexactly(size)
                event: Answer | Packet | tuple[int, bytes]
                event = Packet(channel, data) if channel % 2 == 0 else (channel, data)
            else:
                head = first + await self.reader.readuntil(b"\r\n\r\n")
                status_line, *lines = head.decode().split("\r\n")[:-2]
                assert status_line.startswith("RTSP/1.0 "), status_line
                headers = tuple((n.strip(), v.strip()) for n, _, v in (line.partition(":") for line in lines))
                length = next((int(v) for n, v in headers if n == "Content-Length"), 0)
                event = Answer(int(status_line.split()[1]), headers, await self.reader.readexactly(length))
        self.log.append(event)
        return event

    async def at_end(self) -> bool:
        """Whether the server has closed the connection; reads what is left."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while await self.reader.read(1 << 16):
                    pass
        except ConnectionError:
            return True
        return True

    async def set_up(self, path: str, *tracks: str, **headers: str) -> Answer:
        """SETUP of these tracks, each on the next pair of channels, in one session."""
        answer = None
        for i, track in enumerate(tracks):
            transport = f"RTP/AVP/TCP;unicast;interleaved={2 * i}-{2 * i + 1}"
            answer = await self.request("SETUP", f"{path}/{track}", **{"Transport": transport, **headers})
            assert answer.status == 200, answer
            self.session = answer["Session"].partition(";")[0]
        assert answer is not None
        return answer

    def _authorization(self, method: str, uri: str) -> str:
        assert self._challenge is not None
        assert self.credentials is not None
        user, password = self.credentials
        realm, nonce = self._challenge["realm"], self._challenge["nonce"]
        ha1, ha2 = _md5(f"{user}:{realm}:{password}"), _md5(f"{method}:{uri}")
        response = _md5(f"{ha1}:{nonce}:{ha2}")
        return f'Digest username="{user}", realm="{realm}", nonce="{nonce}", uri="{uri}", response="{response}"'


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _parameters(challenge: str) -> dict[str, str]:
    scheme, _, rest = challenge.partition(" ")
    assert scheme == "Digest"
    pairs = (part.strip().partition("=") for part in rest.split(","))
    return {name: value.strip('"') for name, _, value in pairs}
