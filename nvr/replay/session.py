"""The RTSP session: its states (RFC 2326 A.2), its streams, and the player of its last PLAY.

The transitions are a table. An RTSP session belongs to the connection that set it up as long as its media travel on it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from nvr.media.rtsp.range import ClockRange
from nvr.model.errors import NvrError
from nvr.model.time import NS, UtcNs, format_clock
from nvr.replay.clock import Clock
from nvr.replay.mounts import Mount, PlayRequest, Presentation
from nvr.replay.player import Line, Pacing, Playback, Player, Transport
from nvr.replay.sender import RtpStream
from nvr.replay.status import RequestRefused

log = logging.getLogger(__name__)


JUMP_NS: Final = NS // 25
"""Playing time between what was sent last and the first unit behind a jump: about one frame (RFC 2326 B)."""


SETTLE_S: Final = 0.2
"""How long a stopped player's next unit is waited for, so that the answer can name it. It takes milliseconds, but what
is still being recorded may not be there yet."""


class SessionState(Enum):
    INIT = "Init"
    READY = "Ready"
    PLAYING = "Playing"


TRANSITIONS: Final[Mapping[tuple[SessionState, str], SessionState]] = {
    (SessionState.INIT, "SETUP"): SessionState.READY,
    (SessionState.INIT, "TEARDOWN"): SessionState.INIT,
    (SessionState.READY, "SETUP"): SessionState.READY,
    (SessionState.READY, "PLAY"): SessionState.PLAYING,
    (SessionState.READY, "PAUSE"): SessionState.READY,
    (SessionState.READY, "TEARDOWN"): SessionState.INIT,
    (SessionState.PLAYING, "PLAY"): SessionState.PLAYING,
    (SessionState.PLAYING, "PAUSE"): SessionState.READY,
    (SessionState.PLAYING, "TEARDOWN"): SessionState.INIT,
}
"""What is not here is answered 455. SETUP while playing would change the transport under the player's feet."""


def next_state(state: SessionState, method: str) -> SessionState:
    """Raises RequestRefused (455)."""
    try:
        return TRANSITIONS[state, method]
    except KeyError:
        raise RequestRefused(455, f"{method} is not valid in state {state.value}") from None


@dataclass(frozen=True, slots=True)
class StreamStart:
    """One entry of RTP-Info: the control name of the stream, its next sequence number, the RTP time of the start."""

    name: str
    sequence: int
    rtp_time: int


@dataclass(frozen=True, slots=True)
class Started:
    """What the answer to PLAY says: where playback begins, to where it goes, and the numbers of each stream."""

    start_ns: UtcNs | None
    """None for a live source, which has no position."""
    end_ns: UtcNs | None
    streams: tuple[StreamStart, ...]


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
    ) -> None:
        self.id = secrets.token_hex(8)
        self.path = path
        self.mount = mount
        self.presentation = presentation
        self.state = SessionState.INIT
        self.streams: dict[int, RtpStream] = {}
        self.last_request: PlayRequest | None = None
        self.transport = transport
        """That of all its streams."""
        self._clock = clock
        self._cname = cname
        self._on_failure = on_failure
        self._playback: Playback | None = None
        self._player: Player | None = None
        self._task: asyncio.Task[None] | None = None
        self._playing_ns = 0
        self._has_played = False

    def add(self, index: int, stream: RtpStream) -> None:
        """SETUP of one stream of the presentation, or another channel for it. Not while playing."""
        self.state = next_state(self.state, "SETUP")
        self.streams[index] = stream

    async def play(self, request: PlayRequest, cseq: int | None) -> Started:
        """Start, resume or jump (8.5.1, 8.10). Returns before the first packet is sent; `begin` lets it go.

        Without a Range it goes on where it is. A Range replaces what is being played at once, with or without the
        header Immediate. On a refusal the playing goes on unchanged.
        """
        state = next_state(self.state, "PLAY")
        pacing = self.mount.pacing(request)
        playback = self._playback
        resumes = request.range is None and playback is not None and self._same_frames(request)
        if not resumes:
            if request.range is None and playback is not None:
                request = self._from_here(request, playback)
            fresh = await self.mount.play(self.presentation, sorted(self.streams), request, self._has_played)
        else:
            assert playback is not None
            fresh = playback
        await self._stop()
        if resumes and pacing is not Pacing.LIVE:
            await self._settle(fresh)
        if self.state is SessionState.INIT:
            fresh.source.close()
            raise RequestRefused(454, f"session {self.id} has ended while a PLAY was prepared")
        if self._player is not None:
            self._playing_ns = self._player.playing_ns + (0 if resumes else JUMP_NS)
        if not resumes and playback is not None:
            playback.source.close()
        self._playback = fresh
        recorded = fresh.position_ns - fresh.skipped_ns
        line = Line(recorded, self._playing_ns, request.scale)
        transport, streams = self.transport, self.streams
        reference = self.presentation.reference_ns
        marked = cseq if self.presentation.extension else None
        self._player = Player(fresh, streams, transport, self._clock, pacing, line, reference, marked, self._cname)
        self.state = state
        self.last_request = request
        self._has_played = True
        return self._started(self._player, fresh, pacing)

    def begin(self) -> None:
        """Let the player go; the answer to PLAY has been written before."""
        assert self._player is not None
        self._task = asyncio.create_task(self._run(self._player), name=f"replay {self.path}")

    async def pause(self, at_ns: UtcNs | None) -> UtcNs | None:
        """Stop now, or at the pause point `at_ns` (RFC 2326 10.6). Returns the position, None for a live source."""
        state = next_state(self.state, "PAUSE")
        playback, player = self._playback, self._player
        if at_ns is not None and self.state is SessionState.PLAYING and playback is not None and player is not None:
            beyond = playback.end_ns is not None and at_ns >= playback.end_ns
            if at_ns < playback.position_ns or beyond or playback.exhausted:
                raise RequestRefused(457, f"the pause point {format_clock(at_ns)} lies outside of what is played")
            player.pause_at_ns = at_ns
            return at_ns
        await self._stop()
        self.state = state
        if playback is None:
            return None
        if player is not None and player.pacing is Pacing.LIVE:
            playback.source.close()
            self._playback = None
            return None
        await self._settle(playback)
        return playback.position_ns

    async def close(self) -> None:
        """Stop and let go of everything (TEARDOWN, expiry, loss of the connection)."""
        await self._stop()
        if self._playback is not None:
            self._playback.source.close()
            self._playback = None
        self.transport.close()
        self.state = SessionState.INIT

    async def _run(self, player: Player) -> None:
        try:
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
        if self._playback is not None:
            self._playback.source.close()
            self._playback = None
        self.transport.close()
        self.state = SessionState.INIT
        self._on_failure(self)

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

    def _same_frames(self, request: PlayRequest) -> bool:
        last = self.last_request
        return last is not None and last.frames == request.frames

    def _from_here(self, request: PlayRequest, playback: Playback) -> PlayRequest:
        """Other frames from now on: a new plan from the present position to the same end."""
        return replace(request, range=ClockRange(playback.position_ns, playback.end_ns))

    def _started(self, player: Player, playback: Playback, pacing: Pacing) -> Started:
        if pacing is Pacing.LIVE:
            at, skipped = self._clock.utc_ns(), 0
        else:
            at, skipped = playback.position_ns, playback.skipped_ns
        streams = tuple(
            StreamStart(self.presentation.streams[i].name, stream.sequence, player.rtp_time(stream, at, skipped))
            for i, stream in sorted(self.streams.items())
        )
        return Started(None if pacing is Pacing.LIVE else at, playback.end_ns, streams)
