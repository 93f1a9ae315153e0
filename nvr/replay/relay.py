"""Receivers as live mounts: /live/{receiver token} shows what comes from the camera now, recorded or not.

A receiver is watched, and thereby connected where its mode is AutoConnect, from the first request for its description
until nobody has looked at it for a while. All viewers of a receiver share the one connection to the camera, with
whatever is recorded from it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from nvr.media.unit import CodecConfiguration, Sample
from nvr.model.receiver import Receiver, ReceiverMode
from nvr.model.recording import TrackType
from nvr.model.tokens import ReceiverToken
from nvr.replay.live import LiveBudget, LiveMount, LiveSink, LiveStream, check_live
from nvr.replay.mounts import PlayRequest, Presentation
from nvr.replay.player import Pacing, Playback
from nvr.replay.status import RequestRefused

log = logging.getLogger(__name__)

CONNECT_S: Final = 12.0
"""How long a client waits for a camera to be connected and to tell what it sends."""
LINGER_S: Final = 15.0
"""How long a receiver stays watched behind the last request or viewer: players come back, and ask before they play."""


class Offer(Protocol):
    """A stream that a receiver offers."""

    @property
    def index(self) -> int: ...

    @property
    def track_type(self) -> TrackType: ...

    @property
    def configuration(self) -> CodecConfiguration | None: ...


class Receivers(Protocol):
    """Where receivers are connected."""

    def watch(self, token: ReceiverToken, tap: Relay, /) -> Callable[[], None]:
        """Tell `tap` of the receiver's sessions and samples until the answer is called."""

    def retry(self, token: ReceiverToken, /) -> bool:
        """Somebody waits for the receiver, whose last attempt has failed or whose connection was lost. False: it will
        not be tried soon."""


class Relay:
    """One receiver that is watched: a LiveSource for its mount, and what ingest tells its news to."""

    def __init__(
        self,
        token: ReceiverToken,
        on_idle: Callable[[], None],
        linger_s: float,
        retry: Callable[[], bool],
        budget: LiveBudget,
    ) -> None:
        self.mount = LiveMount(self, budget=budget)
        self._retry = retry
        self._failures = 0
        self._token = token
        self._on_idle = on_idle
        self._linger_s = linger_s
        self._connected = False
        self._failure: str | None = None
        self._names: dict[int, str] = {}
        self._configurations: dict[int, CodecConfiguration | None] = {}
        self._sinks: list[LiveSink] = []
        self._asking = 0
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    # -- towards ingest

    def connected(self, streams: Sequence[Offer], /) -> None:
        self.mount.interrupted()
        self._connected, self._failure = True, None
        self._names = {s.index: f"{s.track_type.lower()}{s.index}" for s in streams}
        self._configurations = {s.index: s.configuration for s in streams}
        self._changed.set()

    def sample(self, stream: int, sample: Sample, configuration: CodecConfiguration, /) -> None:
        if configuration is not self._configurations[stream]:
            self._configurations[stream] = configuration
            self._changed.set()
        name = self._names[stream]
        for sink in tuple(self._sinks):
            sink(name, sample, configuration)

    def lost(self, reason: str, /) -> None:
        self._connected, self._failure = False, reason
        self._failures += 1
        self._changed.set()

    # -- towards the mount

    def streams(self) -> Sequence[LiveStream]:
        if not self._connected:
            return ()
        return [LiveStream(self._names[i], c, i) for i, c in self._configurations.items() if c is not None]

    def subscribe(self, sink: LiveSink) -> Callable[[], None]:
        self._sinks.append(sink)
        self.rest()

        def unsubscribe() -> None:
            if sink in self._sinks:
                self._sinks.remove(sink)
                self.rest()

        return unsubscribe

    async def present(self, connect_s: float) -> Presentation:
        """Raises RequestRefused (503) where the camera does not answer. One that is between two attempts is tried
        again, and that attempt waited for."""
        self._asking += 1
        self.rest()  # nobody else's time runs out meanwhile
        failures = self._failures if self._failure is not None and self._retry() else -1
        try:
            async with asyncio.timeout(connect_s):
                while not (self._connected and all(self._configurations.values())):
                    if self._failure is not None and self._failures != failures:
                        raise RequestRefused(503, f"receiver {self._token}: {self._failure}")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            if not self.streams():  # else: what is known is shown; a stream may stay silent for long
                raise RequestRefused(503, f"receiver {self._token} gives no stream within {connect_s:g} s") from None
        finally:
            self._asking -= 1
            self.rest()
        return await self.mount.present()

    def rest(self) -> None:
        """Count the time from now, if nobody watches."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._sinks and not self._asking:
            self._timer = asyncio.get_running_loop().call_later(self._linger_s, self._on_idle)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class RelayMount:
    """The mount of one receiver; holds nothing itself."""

    def __init__(self, mounts: RelayMounts, token: ReceiverToken) -> None:
        self._mounts = mounts
        self._token = token

    async def present(self) -> Presentation:
        return await self._mounts.relay(self._token).present(self._mounts.connect_s)

    def check(self, presentation: Presentation, streams: Sequence[int], request: PlayRequest) -> None:
        check_live(request)

    async def play(
        self, presentation: Presentation, streams: Sequence[int], request: PlayRequest, jump: bool
    ) -> Playback:
        return await self._mounts.relay(self._token).mount.play(presentation, streams, request, jump)

    def pacing(self, request: PlayRequest) -> Pacing:
        return Pacing.LIVE

    def playing_time(self, presentation: Presentation) -> None:
        return None


class RelayMounts:
    """All receivers, each as it is when it is asked for."""

    def __init__(
        self,
        find: Callable[[str], Receiver | None],
        receivers: Receivers,
        *,
        connect_s: float = CONNECT_S,
        linger_s: float = LINGER_S,
        budget: LiveBudget | None = None,
    ) -> None:
        """`budget`: what waits for all viewers of all receivers together."""
        self.budget = LiveBudget() if budget is None else budget
        self.connect_s = connect_s
        self._find = find
        self._receivers = receivers
        self._linger_s = linger_s
        self._relays: dict[ReceiverToken, tuple[Relay, Callable[[], None]]] = {}
        self._dropped = 0

    @property
    def viewers(self) -> int:
        return sum(relay.mount.viewers for relay, _ in self._relays.values())

    @property
    def dropped(self) -> int:
        """Access units that slow viewers have missed since the start."""
        return self._dropped + sum(relay.mount.dropped for relay, _ in self._relays.values())

    def mount(self, token: str) -> RelayMount | None:
        receiver = self._find(token)
        return None if receiver is None else RelayMount(self, receiver.token)

    def relay(self, token: ReceiverToken) -> Relay:
        """The relay of a receiver, which is watched from now on. Raises RequestRefused (404, 503)."""
        known = self._relays.get(token)
        if known is not None:
            return known[0]
        receiver = self._find(token)
        if receiver is None:
            raise RequestRefused(404, f"receiver {token} does not exist any more")
        configuration = receiver.configuration
        if configuration.mode is ReceiverMode.NEVER_CONNECT or not configuration.media_uri:
            why = "is in mode NeverConnect" if configuration.media_uri else "has no MediaUri yet"
            raise RequestRefused(503, f"receiver {token} {why}")
        retry, idle = lambda: self._receivers.retry(token), lambda: self._let_go(token)
        relay = Relay(token, idle, self._linger_s, retry, self.budget)
        unwatch = self._receivers.watch(token, relay)
        self._relays[token] = relay, unwatch
        relay.rest()
        log.debug("receiver %s is watched", token)
        return relay

    def _let_go(self, token: ReceiverToken) -> None:
        relay, unwatch = self._relays.pop(token)
        self._dropped += relay.mount.dropped
        relay.close()
        unwatch()
        log.debug("receiver %s is not watched any more", token)

    def close(self) -> None:
        for token in list(self._relays):
            self._let_go(token)
