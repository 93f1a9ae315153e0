"""Plays a recording backwards, as an ONVIF client does (IEC 62676-2-32 8.6), and decodes what comes."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from nvr.auth.client import ClientCredentials
from nvr.demo.picture import read_number
from nvr.demo.replay_client import ReplayClient, ReplayedPacket
from nvr.media.codecs.h264 import H264Depacketizer
from nvr.media.rtsp.message import Response
from nvr.media.rtsp.range import ClockRange, parse_range
from nvr.media.sdp import Media, SessionDescription, control_base, resolve_control
from nvr.media.unit import AccessUnit
from nvr.model.errors import SourceError

if TYPE_CHECKING:
    import av

SILENCE_S: Final = 10.0
"""So long nothing may come."""
READ_BYTES: Final = 1 << 16


def groups_backwards(uri: str, now_ns: Callable[[], int] = time.monotonic_ns) -> list[list[int | None]]:
    """The numbers burnt into the pictures of a recording, group by group as they come: the last group first. `uri` has
    user and password; `now_ns` is any monotonic clock. Raises SourceError, FormatError."""
    with _Line(uri, now_ns) as line:
        description, base = line.describe()
        video = next((m for m in description.media if m.kind == "video"), None)
        if video is None:
            raise SourceError(f"the description of {line.client.uri} has no video")
        span = _span(description)
        line.ask(line.client.set_up(resolve_control(video.control, base), line.now_ns()))
        line.ask(line.client.play(ClockRange(span.end_ns, span.start_ns), line.now_ns(), Fraction(-1)))
        return [_numbers(group) for group in _groups(line.packets(), video)]


def _span(description: SessionDescription) -> ClockRange:
    """From the first a=range in absolute times."""
    for name, value in description.attributes:
        if name == "range" and value is not None and value.strip().startswith("clock="):
            span = parse_range(value)
            if isinstance(span, ClockRange) and span.start_ns is not None and span.end_ns is not None:
                return span
    raise SourceError("the description does not say from when to when the recording lasts")


def _groups(packets: Iterator[ReplayedPacket], video: Media) -> Iterator[list[AccessUnit]]:
    """Access units up to the one that says that nothing follows. Each group begins with a discontinuity (8.6.2)."""
    depacketizer = H264Depacketizer(video.formats[0].parameters)
    group: list[AccessUnit] = []
    for arrived in packets:
        packet, mark = arrived.packet, arrived.mark
        if mark is not None and mark.discontinuity and group:
            yield group
            group = []
        payload = memoryview(packet.payload)
        group += depacketizer.push(payload, 0, len(payload), packet.timestamp, packet.marker)
        if mark is not None and mark.terminal:
            break
    group += depacketizer.flush()
    if group:
        yield group
    if depacketizer.dropped:
        raise SourceError(f"{depacketizer.dropped} access units are not whole: {depacketizer.last_error}")


def _numbers(group: list[AccessUnit]) -> list[int | None]:
    """None for a picture without the camera's mark."""
    import av

    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    found = [_number(f) for unit in group for f in decoder.decode(av.Packet(_annex_b(unit)))]
    return found + [_number(f) for f in decoder.decode(None)]


def _number(frame: av.VideoFrame) -> int | None:
    plane = frame.planes[0]
    return read_number(memoryview(plane), plane.line_size, frame.width)


def _annex_b(unit: AccessUnit) -> bytes:
    """With start codes where the lengths stood, and parameter sets before a clean point (ISO/IEC 14496-10 B)."""
    data = unit.configuration.in_band() + unit.data if unit.clean_point else unit.data
    parts, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        parts += [b"\0\0\0\1", data[at + 4 : end]]
        at = end
    return b"".join(parts)


class _Line:
    """The connection, and what has come on it. Leaving it ends the session."""

    def __init__(self, uri: str, now_ns: Callable[[], int]) -> None:
        self.now_ns = now_ns
        parts = urlsplit(uri)
        credentials = ClientCredentials(unquote(parts.username or ""), unquote(parts.password or ""))
        self.client = ReplayClient(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), credentials)
        self._packets: deque[ReplayedPacket] = deque()
        self._answers: deque[Response] = deque()
        try:
            self._socket = socket.create_connection((parts.hostname or "", parts.port or 554), SILENCE_S)
        except OSError as e:
            raise SourceError(f"{self.client.uri} cannot be reached: {e}") from e

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.ask(self.client.tear_down(self.now_ns()))
        finally:
            self._socket.close()

    def describe(self) -> tuple[SessionDescription, str]:
        """What there is, and the URI that its controls are relative to."""
        answer = self.ask(self.client.describe(self.now_ns()))
        base = control_base(self.client.uri, answer.headers.get("Content-Base"))
        return SessionDescription.parse(answer.body), base

    def ask(self, request: bytes) -> Response:
        """Raises SourceError for a refusal."""
        self._send(request)
        while True:
            while not self._answers:
                self._read()
            answer = self._answers.popleft()
            if self._taken(answer) and answer.cseq == self.client.cseq:  # and not that of a sign of life
                return answer

    def _taken(self, answer: Response) -> bool:
        """False where the server wants to know first who asks. Raises SourceError for a refusal."""
        if answer.status == 401 and (again := self.client.again(answer, self.now_ns())) is not None:
            self._send(again)
            return False
        if not answer.ok:
            raise SourceError(f"{self.client.uri} answers {answer.status} {answer.reason}")
        return True

    def packets(self) -> Iterator[ReplayedPacket]:
        """As they come, without end. Raises SourceError where nothing comes any more."""
        while True:
            while self._packets:
                yield self._packets.popleft()
            if self.now_ns() >= self.client.keep_alive_at_ns:
                self._send(self.client.keep_alive(self.now_ns()))
            self._read()
            while self._answers:
                self._taken(self._answers.popleft())

    def _send(self, request: bytes) -> None:
        try:
            self._socket.sendall(request)
        except OSError as e:
            raise self._lost(e) from e

    def _lost(self, why: OSError) -> SourceError:
        return SourceError(f"the connection to {self.client.uri} is lost: {why}")

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except TimeoutError as e:
            raise SourceError(f"nothing has come from {self.client.uri} for {SILENCE_S:.0f} s") from e
        except OSError as e:
            raise self._lost(e) from e
        if not data:
            raise SourceError(f"{self.client.uri} has ended the connection")
        for event in self.client.receive(data):
            if isinstance(event, Response):
                self._answers.append(event)
            else:
                self._packets.append(event)
