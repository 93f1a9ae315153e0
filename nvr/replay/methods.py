"""The RTSP methods of one connection (RFC 2326 10; IEC 62676-2-32 8.1 to 8.5)."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Final
from urllib.parse import quote

from nvr.auth.digest import MAX_GIVEN, GivenNonces
from nvr.media.rtsp.headers import Headers
from nvr.media.rtsp.message import Request, Response
from nvr.media.rtsp.play import format_scale, format_tags
from nvr.media.rtsp.rtp_info import RtpInfo, format_rtp_info
from nvr.media.rtsp.session import Session
from nvr.model.time import NS
from nvr.replay import audit, requests
from nvr.replay.authentication import Authenticator
from nvr.replay.clock import Clock
from nvr.replay.description import describe, payload_types
from nvr.replay.mounts import Mounts, Presentation, PresentedStream, Target
from nvr.replay.place import Place, place_of
from nvr.replay.sender import Origin, PacketizerFactory, RtpStream
from nvr.replay.session import RtspSession
from nvr.replay.states import SessionState, next_state
from nvr.replay.status import RequestRefused
from nvr.replay.transports import Transports, Way

SERVER: Final = "nvr"
DESCRIBED: Final = 8
"""Descriptions that a connection remembers: SETUP gives what DESCRIBE has told."""
_SEPARATORS: Final = re.compile(r"[,;\s]")
"""What ends a URI in RTP-Info (RFC 2326 12.33); a host may hold it unquoted (RFC 3986 3.2.2)."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the methods of every connection work with."""

    mounts: Mounts
    authenticator: Authenticator | None
    packetizer_for: PacketizerFactory
    clock: Clock
    session_timeout_ns: int
    """Of live sessions, and of connections without any."""
    replay_timeout_ns: Callable[[], int]
    """Of replay: what sessions that are set up now get (7.3)."""
    maximum_sessions: int
    """Per connection."""
    origin: Callable[[], Origin] = Origin.random
    refused: Callable[[], None] = lambda: None
    """Called for every request that is refused; for a 401 only where the request had credentials."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`after` is called when the answer has been written."""

    response: Response
    after: Callable[[], None] | None = None


class Methods:
    """Answers the requests of one connection, one after the other. `sessions` are those set up on it."""

    def __init__(
        self, surroundings: Surroundings, transports: Transports, local_address: str, peer_address: str
    ) -> None:
        """Both addresses are literal, without port."""
        self.sessions: dict[str, RtspSession] = {}
        self.users: set[str] = set()
        """Whose credentials were taken on this connection."""
        self._user: str | None = None
        """Who makes the request that is being answered."""
        self._given: GivenNonces = deque(maxlen=MAX_GIVEN)
        self._described: OrderedDict[str, tuple[tuple[PresentedStream, ...], int]] = OrderedDict()
        """Of paths, the streams that were described last, and the numbers that they come from."""
        self._around = surroundings
        self._transports = transports
        self._local_address = local_address
        self._peer_address = peer_address
        self._methods = {
            "OPTIONS": self._options,
            "DESCRIBE": self._describe,
            "SETUP": self._setup,
            "PLAY": self._play,
            "PAUSE": self._pause,
            "TEARDOWN": self._teardown,
            "GET_PARAMETER": self._parameter,
            "SET_PARAMETER": self._parameter,
        }

    async def answer(self, request: Request) -> Answer:
        """Raises NvrError for a refusal; nothing has been changed then."""
        requests.check_head(request)
        if request.method != "OPTIONS" and self._around.authenticator is not None:
            self._user = self._around.authenticator.check(request, self._peer_address, self._given)
            self.users.add(self._user)
        return await self._methods[request.method](request)

    def common_headers(self, asked: Headers) -> Headers:
        """What the answer to a request with these headers bears; `Session` where they name one that lives (8.5.1)."""
        headers = Headers()
        cseq = asked.get("CSeq")
        if cseq is not None:
            headers.add("CSeq", cseq)
        headers.add("Date", formatdate(self._around.clock.utc_ns() // NS, usegmt=True))
        headers.add("Server", SERVER)
        if (session := self._named(asked)) is not None:
            headers.add("Session", self._session_header(session))
        return headers

    def remaining_ns(self, silent_ns: int) -> int:
        """How much longer a client may be silent, who has been so long, until something is to be ended."""
        times = [s.timeout_ns for s in self.sessions.values()] or [self._around.session_timeout_ns]
        return min(times) - silent_ns

    async def expire(self, silent_ns: int) -> int:
        """End the sessions whose time-out, which was stated to the client, is over. Returns their number."""
        over = [s for s in self.sessions.values() if s.timeout_ns <= silent_ns]
        for session in over:
            self._forget(session)
            await session.close()
        return len(over)

    async def close_sessions(self) -> None:
        sessions, self.sessions = list(self.sessions.values()), {}
        for session in sessions:
            await session.close()

    def _forget(self, failed: RtspSession) -> None:
        self.sessions.pop(failed.id, None)

    def _named(self, asked: Headers) -> RtspSession | None:
        value = asked.get("Session")
        return None if value is None else self.sessions.get(value.partition(";")[0].strip())

    def _session_header(self, session: RtspSession) -> str:
        return str(Session(session.id, session.timeout_ns // NS))

    def _session(self, request: Request) -> RtspSession:
        """The session of a request that needs one. Raises RequestRefused (454)."""
        session_id = requests.session_of(request)
        session = self.sessions.get(session_id or "")
        if session is None:
            raise RequestRefused(454, "the session is unknown" if session_id else f"{request.method} without Session")
        return session

    def _ok(self, request: Request, *headers: tuple[str, str], body: bytes = b"") -> Response:
        found = self.common_headers(request.headers)
        for name, value in headers:
            found.set(name, value)
        return Response(200, found, body)

    async def _options(self, request: Request) -> Answer:
        return Answer(self._ok(request, ("Public", format_tags(requests.PUBLIC))))

    async def _parameter(self, request: Request) -> Answer:
        """An empty one keeps the session alive; parameters there are none (RFC 2326 10.8, 10.9)."""
        if request.headers.get("Session") is not None:
            self._session(request)
        if request.body.strip():
            raise RequestRefused(451, "there are no parameters to get or set")
        return Answer(self._ok(request))

    async def _describe(self, request: Request) -> Answer:
        target = self._around.mounts.find(request.uri)
        requests.check_accept(request.headers)
        presentation = await target.mount.present()
        body = describe(presentation, self._local_address)
        self._described[target.place.path] = presentation.streams, presentation.numbers
        self._described.move_to_end(target.place.path)
        while len(self._described) > DESCRIBED:
            self._described.popitem(last=False)
        return Answer(
            self._ok(
                request,
                ("Content-Base", self._base(request.uri, target.place)),
                ("Content-Type", "application/sdp"),
                ("Content-Length", str(len(body))),
                body=body,
            )
        )

    async def _setup(self, request: Request) -> Answer:
        target = self._around.mounts.find(request.uri)
        joined = self._session(request) if request.headers.get("Session") is not None else None
        if joined is not None:
            next_state(joined.state, "SETUP")
            if joined.path != target.place.path:
                raise RequestRefused(459, f"session {joined.id} plays {joined.path}, not {target.place.path}")
        elif len(self.sessions) >= self._around.maximum_sessions:
            raise RequestRefused(503, f"a connection can hold {self._around.maximum_sessions} sessions")
        presentation = joined.presentation if joined is not None else await self._presented(target)
        onvif = requests.asks_for_extension(request)
        if joined is None and onvif:
            presentation = replace(presentation, extension=True)
        names = [s.name for s in presentation.streams]
        if target.place.control is None and len(names) > 1:
            raise RequestRefused(459, "SETUP names the whole presentation, which has several streams")
        if target.place.control is not None and target.place.control not in names:
            raise RequestRefused(404, f"{target.place.path} has no stream {target.place.control[:80]!r}")
        index = 0 if target.place.control is None else names.index(target.place.control)
        way = self._transports.choose(
            requests.transports_of(request), None if joined is None else joined.transport, self._channels(joined, index)
        )
        try:
            rtp, session = self._set_up(target, presentation, index, joined, way, onvif)
        except BaseException:
            way.give_up()
            raise
        self.sessions[session.id] = session
        transport = str(replace(way.answer, ssrc=rtp.ssrc))
        return Answer(self._ok(request, ("Transport", transport), ("Session", self._session_header(session))))

    async def _presented(self, target: Target) -> Presentation:
        """What is there now, its streams as they were described on this connection: the client knows payload types and
        parameter sets from there, and what has changed since is signalled in band."""
        presentation = await target.mount.present()
        if target.place.path not in self._described:
            return presentation
        described, numbers = self._described[target.place.path]
        told = {(s.name, s.configuration.encoding): s for s in described}
        streams = tuple(told.get((s.name, s.configuration.encoding), s) for s in presentation.streams)
        return replace(presentation, streams=streams, numbers=numbers)

    def _set_up(
        self,
        target: Target,
        presentation: Presentation,
        index: int,
        joined: RtspSession | None,
        way: Way,
        onvif: bool,
    ) -> tuple[RtpStream, RtspSession]:
        (configuration, payload_type), *others = payload_types(presentation, index)
        channels = way.channels or (None, None)
        rtp = RtpStream(
            configuration,
            payload_type,
            self._around.packetizer_for,
            self._around.origin(),
            channels[0],
            channels[1],
            others,
        )
        session = joined or RtspSession(
            target.place.path,
            target.mount,
            presentation,
            way.transport,
            self._around.clock,
            f"nvr@{self._local_address}",
            self._forget,
            self._around.replay_timeout_ns() if target.place.kind == "replay" else self._around.session_timeout_ns,
        )
        way.take(index, rtp.ssrc)
        session.add(index, rtp)
        session.knows_onvif |= onvif
        return rtp, session

    def _channels(self, joined: RtspSession | None, index: int) -> set[int]:
        """The interleaved channels in use, those of this stream aside."""
        return {
            channel
            for session in self.sessions.values()
            for i, stream in session.streams.items()
            if not (session is joined and i == index)
            for channel in (stream.channel, stream.report_channel)
            if channel is not None
        }

    def _for_all_streams(self, request: Request, session: RtspSession) -> Place:
        """Control is of the whole session (8.1); the URI of its only stream is as good.

        What it names may have been deleted: a session is paused and ended all the same.
        """
        place = place_of(request.uri)
        if place.path != session.path:
            raise RequestRefused(454, f"session {session.id} does not belong to {place.path[:80]!r}")
        if place.control is not None and len(session.streams) > 1:
            raise RequestRefused(460, f"{request.method} names one stream of several")
        return place

    async def _play(self, request: Request) -> Answer:
        session = self._session(request)
        place = self._for_all_streams(request, session)
        self._around.mounts.find(request.uri)  # what has been deleted is not played on
        wanted = requests.play_request(request.headers)
        # Before the playing changes: a URI that cannot be answered must not stop what is being played.
        base = self._base(request.uri, place)
        base = _SEPARATORS.sub(lambda m: quote(m[0]), base)
        is_first = session.last_request is None
        started = await session.play(wanted, request.cseq)
        if is_first:
            tracks = [session.presentation.streams[i].name for i in sorted(session.streams)]
            audit.begins(self._user, self._peer_address, session.path, tracks, started.start_ns)
        session.knows_onvif |= requests.asks_for_extension(request)
        info = tuple(RtpInfo(base + quote(s.name), s.sequence, s.rtp_time) for s in started.streams)
        headers = [("RTP-Info", format_rtp_info(info))]
        if started.start_ns is not None:
            headers.append(("Range", str(session.told(started.start_ns, started.end_ns))))
        if wanted.scale_given:
            headers.append(("Scale", format_scale(wanted.scale)))
        if wanted.speed_given:
            headers.append(("Speed", format_scale(wanted.speed)))
        return Answer(self._ok(request, *headers), session.begin)

    async def _pause(self, request: Request) -> Answer:
        session = self._session(request)
        self._for_all_streams(request, session)
        position = await session.pause(requests.pause_point(request.headers))
        if position is None:
            return Answer(self._ok(request))
        return Answer(self._ok(request, ("Range", str(session.told(position)))))

    async def _teardown(self, request: Request) -> Answer:
        session = self._session(request)
        self._for_all_streams(request, session)
        assert session.state is not SessionState.INIT
        response = self._ok(request)
        del self.sessions[session.id]
        await session.close()
        return Answer(response)

    @staticmethod
    def _base(uri: str, place: Place) -> str:
        """The URI of the presentation as the client wrote it, with a slash at the end."""
        uri = uri.partition("?")[0].rstrip("/")
        if place.control is not None:
            uri = uri.rpartition("/")[0]
        return uri + "/"
