"""A client of replay, clause 8 of IEC 62676-2-32, as small as one can be: what the walk plays backwards with.

Sans-I/O: requests come out as bytes, and what the server sends goes in. One request waits for its answer at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from nvr.auth.client import ClientCredentials
from nvr.media.replay_extension import PROFILE, ReplayExtension
from nvr.media.rtp import RtpPacket
from nvr.media.rtsp.headers import Headers
from nvr.media.rtsp.message import Interleaved, MessageParser, Request, Response
from nvr.media.rtsp.play import format_scale
from nvr.media.rtsp.range import Range
from nvr.media.rtsp.session import parse_session
from nvr.media.rtsp.transport import parse_transport
from nvr.model.errors import FormatError
from nvr.model.time import NS

_USES_EXTENSIONS: Final = frozenset(("SETUP", "PLAY"))


@dataclass(frozen=True, slots=True)
class ReplayedPacket:
    """One RTP packet that belongs to the latest PLAY; `mark` on the first packet of an access unit, and on its last
    where nothing follows."""

    packet: RtpPacket
    mark: ReplayExtension | None


class ReplayClient:
    """The dialogue of one RTSP session over TCP, with media interleaved: none of them is lost (8.1).

    Times are those of any monotonic clock, in ns.
    """

    def __init__(self, uri: str, credentials: ClientCredentials | None = None) -> None:
        """`uri` without user and password."""
        self.uri = uri
        self.cseq = 0
        """Of the latest request."""
        self.timeout_ns = 60 * NS
        """So long the server keeps a silent session (RFC 2326 12.37)."""
        self._credentials = credentials
        self._session: str | None = None
        self._parser = MessageParser()
        self._asked: tuple[str, str, tuple[tuple[str, str], ...]] = ("", "", ())
        self._asked_ns = 0
        self._channels: set[int] = set()
        self._play: int | None = None
        """CSeq of the latest PLAY."""
        self._is_latest = False
        """What comes belongs to it."""

    def describe(self, now_ns: int) -> bytes:
        return self._request("DESCRIBE", self.uri, now_ns, ("Accept", "application/sdp"))

    def set_up(self, control: str, now_ns: int) -> bytes:
        """`control` is the absolute URI of a stream."""
        first = 2 * len(self._channels)
        transport = f"RTP/AVP/TCP;unicast;interleaved={first}-{first + 1}"
        return self._request("SETUP", control, now_ns, ("Transport", transport))

    def play(self, wanted: Range, now_ns: int, scale: Fraction = Fraction(1)) -> bytes:
        """From now on, and in place of what is being played. Units come as fast as they are read."""
        self._is_latest = False
        headers = (
            ("Range", str(wanted)),
            ("Scale", format_scale(scale)),
            ("Rate-Control", "no"),
            ("Immediate", "yes"),
        )
        return self._request("PLAY", self.uri, now_ns, *headers)

    def keep_alive(self, now_ns: int) -> bytes:
        return self._request("GET_PARAMETER", self.uri, now_ns)

    def tear_down(self, now_ns: int) -> bytes:
        return self._request("TEARDOWN", self.uri, now_ns)

    def again(self, refusal: Response, now_ns: int) -> bytes | None:
        """The latest request with credentials, where `refusal` asks for them (401); None where there is no use."""
        if self._credentials is None or not self._credentials.challenged(refusal.headers.get_all("WWW-Authenticate")):
            return None
        method, uri, headers = self._asked
        return self._request(method, uri, now_ns, *headers)

    @property
    def keep_alive_at_ns(self) -> int:
        """When the server must hear of us again: long before it gives the session up (8.7)."""
        return self._asked_ns + self.timeout_ns // 2

    def receive(self, data: bytes) -> list[Response | ReplayedPacket]:
        """What has come, without the rest of a PLAY before the latest. Raises FormatError."""
        self._parser.feed(data)
        found: list[Response | ReplayedPacket] = []
        for event in self._parser.events():
            if isinstance(event, Response):
                self._take(event)
                found.append(event)
            elif isinstance(event, Interleaved) and event.channel in self._channels:
                packet = RtpPacket.parse(event.payload)
                extension = packet.extension
                mark = ReplayExtension.parse(extension) if extension and extension.profile == PROFILE else None
                if mark is not None:
                    # 8.10: the packets of a unit behind its first bear no CSeq, and follow it.
                    self._is_latest = self._play is not None and mark.cseq == self._play & 0xFF
                if self._is_latest:
                    found.append(ReplayedPacket(packet, mark))
        return found

    def _take(self, response: Response) -> None:
        if response.cseq != self.cseq or not response.ok:
            return
        if self._credentials is not None:
            self._credentials.accepted()
        if (value := response.headers.get("Session")) is not None:
            session = parse_session(value)
            self._session = session.id
            self.timeout_ns = 60 * NS if session.timeout_s is None else session.timeout_s * NS
        if self._asked[0] == "SETUP":
            transport = parse_transport(response.headers.get("Transport") or "")[0]
            if not transport.tcp or transport.interleaved is None:
                raise FormatError(f"the server answers {transport} to a SETUP for TCP")
            self._channels.add(transport.interleaved[0])

    def _request(self, method: str, uri: str, now_ns: int, *given: tuple[str, str]) -> bytes:
        self.cseq += 1
        self._asked, self._asked_ns = (method, uri, given), now_ns
        headers = Headers([("CSeq", str(self.cseq))])
        if method in _USES_EXTENSIONS:
            headers.add("Require", "onvif-replay")  # 8.4: a proxy between that does not know them says so
        if self._session is not None:
            headers.add("Session", self._session)
        for name, value in given:
            headers.add(name, value)
        authorization = self._credentials.authorization(method, uri) if self._credentials is not None else None
        if authorization is not None:
            headers.add("Authorization", authorization)
        if method == "PLAY":
            self._play = self.cseq
        return bytes(Request(method, uri, headers))
