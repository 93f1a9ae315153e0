"""The RTSP session: its streams, what is played, and the PLAY requests queued behind it.

An RTSP session belongs to the connection that set it up as long as its media travel on it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from nvr.media.rtsp.range import ClockRange, NptRange, Range
from nvr.model.errors import NvrError
from nvr.model.time import NS, UtcNs, format_clock
from nvr.replay.clock import Clock
from nvr.replay.mounts import Mount, PlayRequest, Presentation
from nvr.replay.player import Line, Pacing, Playback, Player, Transport
from nvr.replay.sender import RtpStream
from nvr.replay.states import SessionState, next_state
from nvr.replay.status import RequestRefused

log = logging.getLogger(__name__)

JUMP_NS: Final = NS // 25
"""Playing time between what was sent last and the first unit behind a jump: about one frame (RFC 2326 B)."""

SETTLE_S: Final = 0.2
"""How long a stopped player's next unit is waited for, so that the answer can name it. It takes milliseconds, but what
is still being recorded may not be there yet."""

QUEUE_LENGTH: Final = 16
"""PLAY requests that wait for the one that is played (RFC 2326 10.5). None holds footage."""


@dataclass(frozen=True, slots=True)
class StreamStart:
    """One entry of RTP-Info: the control name of the stream, its next sequence number, the RTP time of the start.

    No numbers for a PLAY that is queued: they depend on when the ones before it end.
    """

    name: str
    sequence: int | None = None
    rtp_time: int | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """What the answer to PLAY says: where playback begins, to where it goes, and the numbers of each stream."""

    start_ns: UtcNs | None
    """None for a live source, which has no position."""
    end_ns: UtcNs | None
    streams: tuple[StreamStart, ...]


@dataclass(slots=True)
class _Queued:
    """A PLAY that waits for its turn."""

    request: PlayRequest
    cseq: int | None
    playback: Playback
    pause_at_ns: UtcNs | None = None


class RtspSession:
    """One session and what it plays. `streams` maps indexes of the presentation to what was set up."""

    def __init__(
        self,
        path: str,
        mount: Mount,
        presentation: Presentation,
        transport: Transport,
        clock: Clock,
        cname: str,
        on_failure: Callable[[RtspSession], None],
        timeout_ns: int = 60 * NS,
    ) -> None:
        """`timeout_ns`: so long its client may be silent (RFC 2326 12.37)."""
        self.knows_onvif = False
        """Its client has asked for onvif-replay, and is answered in absolute times whatever it asks in (8.5.1)."""
        self.id = secrets.token_hex(8)
        self.path = path
        self.mount = mount
        self.presentation = presentation
        self.state = SessionState.INIT
        self.streams: dict[int, RtpStream] = {}
        self.last_request: PlayRequest | None = None
        self.transport = transport
        self.timeout_ns = timeout_ns
        """That of all its streams."""
        self._clock = clock
        self._cname = cname
        self._on_failure = on_failure
        self._playback: Playback | None = None
        self._planned: frozenset[int] = frozenset()
        """The streams that it has been planned with."""
        self._player: Player | None = None
        self._task: asyncio.Task[None] | None = None
        self._to_begin: Player | None = None
        self._queue: deque[_Queued] = deque()
        self._playing_ns = 0
        self._has_played = False
        self._in_npt = False
        """The last Range asked for was in normal play time."""

    def add(self, index: int, stream: RtpStream) -> None:
        """SETUP of one stream of the presentation, or another channel for it. Not while playing."""
        self.state = next_state(self.state, "SETUP")
        self.streams[index] = stream

    async def play(self, request: PlayRequest, cseq: int | None) -> Started:
        """Start, resume, jump, or queue (8.5.1, 8.10; RFC 2326 10.5). Returns before the first packet is sent; `begin`
        lets it go.

        A Range is queued behind what is being played, unless the request is Immediate. Without one it goes on where it
        is, at once where something else is asked for than what is being played, and where nothing is nothing happens.
        On a refusal the playing goes on unchanged.
        """
        started = await self._play(request, cseq)
        if request.range is not None:
            self._in_npt = isinstance(request.range, NptRange)
        return started

    async def _play(self, request: PlayRequest, cseq: int | None) -> Started:
        state = next_state(self.state, "PLAY")
        self.mount.check(self.presentation, sorted(self.streams), request)
        pacing = self.mount.pacing(request)
        playback = self._playback
        if self._busy and not request.immediate and playback is not None and self._player is not None:
            if request.range is not None and pacing is not Pacing.LIVE:
                return await self._enqueue(request, cseq)
            if request.range is None and self._is_played(request):
                return self._started(self._player, playback, pacing)
        resumes = request.range is None and playback is not None and self._same_units(request)
        if not resumes:
            if request.range is None and playback is not None:
                request = self._from_here(request, playback)
            fresh = await self.mount.play(self.presentation, sorted(self.streams), request, self._has_played)
        else:
            assert playback is not None
            fresh = playback
        try:
            await self._stop()
            self._drop_queue()
            if resumes and pacing is not Pacing.LIVE:
                await self._settle(fresh)
        except BaseException:
            if not resumes:
                fresh.source.close()  # nobody has it yet
            raise
        if self.state is SessionState.INIT:
            fresh.source.close()
            raise RequestRefused(454, f"session {self.id} has ended while a PLAY was prepared")
        if self._player is not None:
            self._playing_ns = self._player.playing_ns + (0 if resumes else JUMP_NS)
        if not resumes and self._playback is not None:
            self._playback.source.close()  # while this was prepared, what was queued may have begun
        self._planned = frozenset(self.streams)
        self._to_begin = self._player_of(fresh, request, cseq)
        self.state = state
        return self._started(self._to_begin, fresh, pacing)

    def begin(self) -> None:
        """Let the player go, where PLAY has made one; the answer has been written before."""
        player, self._to_begin = self._to_begin, None
        if player is not None:
            self._task = asyncio.create_task(self._run(player), name=f"replay {self.path}")

    async def pause(self, point: Range | None) -> UtcNs | None:
        """Stop now, or at the pause point that `point` starts with (RFC 2326 10.6). Returns the position, None for a
        live source.

        What is queued is discarded; behind a pause point only what is queued behind the range that holds it.
        """
        state = next_state(self.state, "PAUSE")
        playback, player = self._playback, self._player
        if point is not None and self.state is SessionState.PLAYING and playback is not None and player is not None:
            at_ns = self._instant(point, player, playback)
            if not playback.exhausted and _holds(playback, at_ns):
                player.pause_at_ns = at_ns
                self._in_npt = isinstance(point, NptRange)
                self._drop_queue()
                return at_ns
            for place, queued in enumerate(self._queue):
                if _holds(queued.playback, at_ns):
                    queued.pause_at_ns = at_ns
                    self._in_npt = isinstance(point, NptRange)
                    self._drop_queue(place + 1)
                    return at_ns
            raise RequestRefused(457, f"the pause point {format_clock(at_ns)} lies outside of what is played")
        await self._stop()
        self._drop_queue()
        self.state = state
        if playback is None:
            return None
        if player is not None and player.pacing is Pacing.LIVE:
            playback.source.close()
            self._playback = None
            return None
        await self._settle(playback)
        return playback.position.utc_ns

    def _instant(self, point: Range, player: Player, playback: Playback) -> UtcNs:
        """The recorded time of a pause point. Raises RequestRefused (457)."""
        start_ns = point.start_ns
        if isinstance(point, NptRange):
            playing_time = self.mount.playing_time(self.presentation)
            ending = not playback.reverse
            start_ns = None if playing_time is None or start_ns is None else playing_time.utc(start_ns, ending=ending)
        if start_ns is None or player.pacing is Pacing.LIVE:
            raise RequestRefused(457, "a live stream has no pause points")
        return start_ns

    def told(self, start_ns: UtcNs, end_ns: UtcNs | None = None) -> Range:
        """The Range of an answer: in normal play time to a plain client that asks in it, else in absolute times."""
        playing_time = self.mount.playing_time(self.presentation) if self._in_npt and not self.knows_onvif else None
        if playing_time is None:
            return ClockRange(start_ns, end_ns)
        return NptRange(playing_time.npt(start_ns), None if end_ns is None else playing_time.npt(end_ns))

    async def close(self) -> None:
        """Stop and let go of everything (TEARDOWN, expiry, loss of the connection)."""
        await self._stop()
        self._let_go()

    @property
    def _busy(self) -> bool:
        """Something is being played, and its end has not come."""
        playback = self._playback
        if self._task is None or self._task.done() or playback is None:
            return False
        return bool(playback.queue) or not playback.source.at_end

    async def _enqueue(self, request: PlayRequest, cseq: int | None) -> Started:
        if len(self._queue) >= QUEUE_LENGTH:
            raise RequestRefused(503, f"{QUEUE_LENGTH} PLAY requests are queued already")
        playback = await self.mount.play(self.presentation, sorted(self.streams), request, True)
        if self.state is SessionState.INIT:
            playback.source.close()
            raise RequestRefused(454, f"session {self.id} has ended while a PLAY was prepared")
        before = self._queue[-1].playback if self._queue else self._playback
        assert before is not None
        before.source.end_with_footage()
        playback.source.rest()
        self._queue.append(_Queued(request, cseq, playback))
        if self._task is None or self._task.done():  # the range before it has ended while this one was prepared
            self._to_begin = self._next_player()
            self.state = SessionState.PLAYING  # it may have ended at a pause point
        streams = tuple(StreamStart(self.presentation.streams[i].name) for i in sorted(self.streams))
        return Started(_start_of(playback), playback.end_ns, streams)

    def _next_player(self) -> Player:
        """The first of the queue becomes what is played."""
        queued = self._queue.popleft()
        if self._player is not None:
            self._playing_ns = self._player.playing_ns + JUMP_NS
        if self._playback is not None:
            self._playback.source.close()
        player = self._player_of(queued.playback, queued.request, queued.cseq)
        player.pause_at_ns = queued.pause_at_ns
        if self._queue:
            queued.playback.source.end_with_footage()
        return player

    def _drop_queue(self, after: int = 0) -> None:
        while len(self._queue) > after:
            self._queue.pop().playback.source.close()

    def _player_of(self, playback: Playback, request: PlayRequest, cseq: int | None) -> Player:
        self._playback = playback
        upcoming = playback.next_configurations()
        for index in upcoming.keys() & self.streams.keys():
            self.streams[index].expect(upcoming[index])
        scale, speed = abs(request.scale), request.speed
        if request.reverse:
            # 8.6.4: there the times of rendering are scaled by both.
            scale, speed = scale * speed, Fraction(1)
        line = Line(playback.position.due_ns, self._playing_ns, scale, speed)
        marked = cseq if self.presentation.extension else None
        reference, pacing = self.presentation.reference_ns, self.mount.pacing(request)
        self._player = Player(
            playback, self.streams, self.transport, self._clock, pacing, line, reference, marked, self._cname
        )
        self.last_request = request
        self._has_played = True
        return self._player

    async def _run(self, player: Player) -> None:
        try:
            if player.pacing is Pacing.PLAYING_TIME:
                await self.transport.behind_answer()
            await player.run()
            # Behind a pause point as well: PAUSE has dropped what was queued, so this was asked for behind it.
            while self._queue:
                player = self._next_player()
                await player.run()
        except ConnectionError:
            return  # the connection notices by itself, and closes its sessions
        except NvrError as e:
            log.error("replay of %s stops: %s", self.path, e)
            self._fail()
        except Exception:
            log.exception("replay of %s stops", self.path)
            self._fail()
        if player.paused:
            self.state = SessionState.READY

    def _fail(self) -> None:
        """What cannot go on is not kept: the client's next request is answered 454."""
        self._let_go()
        self._on_failure(self)

    def _let_go(self) -> None:
        self._drop_queue()
        if self._playback is not None:
            self._playback.source.close()
            self._playback = None
        self._to_begin = None
        self.transport.close()
        self.state = SessionState.INIT

    async def _stop(self) -> None:
        """Cancel the player and wait until it has let go. What it had not yet sent stays in the playback."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait({task})

    async def _settle(self, playback: Playback) -> None:
        """What was sent last must not be named as what comes next."""
        if not playback.behind or playback.exhausted:
            return
        try:
            async with asyncio.timeout(SETTLE_S):
                await playback.fill()
        except TimeoutError:
            log.debug("%s: what follows has not been recorded yet", self.path)
        except NvrError as e:
            log.warning("%s: what follows cannot be read, and the next PLAY will say so: %s", self.path, e)

    def _is_played(self, request: PlayRequest) -> bool:
        last = self.last_request
        return last is not None and (last.rate_control, last.scale, last.speed, last.frames) == (
            request.rate_control,
            request.scale,
            request.speed,
            request.frames,
        )

    def _same_units(self, request: PlayRequest) -> bool:
        """Not where a stream was set up behind PAUSE: none of its units has been planned."""
        last = self.last_request
        if last is None or self._planned != frozenset(self.streams):
            return False
        return last.frames == request.frames and last.reverse == request.reverse

    def _from_here(self, request: PlayRequest, playback: Playback) -> PlayRequest:
        """Other frames or streams, or the other direction, from now on: a new plan from the present position, and to
        the same end where that still lies ahead."""
        end_ns = playback.end_ns if request.reverse == playback.reverse else None
        return replace(request, range=ClockRange(playback.position.utc_ns, end_ns))

    def _started(self, player: Player, playback: Playback, pacing: Pacing) -> Started:
        if pacing is Pacing.LIVE:
            at = shown = self._clock.utc_ns()
        else:
            at, shown = playback.position.utc_ns, playback.position.shown_ns
        streams = tuple(
            StreamStart(
                self.presentation.streams[i].name,
                stream.sequence,
                player.rtp_time(stream, at, shown, stream.clock_rate),
            )
            for i, stream in sorted(self.streams.items())
        )
        return Started(None if pacing is Pacing.LIVE else _start_of(playback), playback.end_ns, streams)


def _start_of(playback: Playback) -> UtcNs:
    """The start of the Range in the answer: the time of the unit that is sent next (8.5.1).

    Of a closed range in reverse it is where the showing begins: a stock client (GStreamer) takes both values for the
    bounds of what it shows, and would drop the pictures between the clean point and the start that it has asked for.
    """
    position = playback.position
    if not playback.reverse or playback.end_ns is None or playback.start_ns is None:
        return position.utc_ns
    return min(playback.start_ns, position.reach_ns)


def _holds(playback: Playback, at_ns: UtcNs) -> bool:
    """Whether a pause point lies ahead in what is played."""
    position, end_ns = playback.position.utc_ns, playback.end_ns
    if playback.reverse:
        return at_ns <= position and (end_ns is None or at_ns > end_ns)
    return at_ns >= position and (end_ns is None or at_ns < end_ns)
