"""Looks at the first bytes of a connection and gives it to whom it is for: RTSP, an HTTP tunnel, or a WebSocket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from nvr.replay.clock import Clock
from nvr.replay.http_head import Opening, opening, parse_head
from nvr.replay.stream import ByteStream, Wire
from nvr.replay.tunnel import Tunnels
from nvr.replay.websocket import PATH, HandshakeRefused, WebSocketStream, accept

log = logging.getLogger(__name__)

CLOSE_S: Final = 1.0


class Front:
    """The way of a connection to its RTSP connection."""

    def __init__(self, serve: Callable[[ByteStream], Awaitable[None]], clock: Clock, wait_ns: int) -> None:
        """`serve` runs an RTSP connection in a tunnel to its end; `wait_ns`: how long the first bytes may take."""
        self._serve = serve
        self._clock = clock
        self._wait_ns = wait_ns
        self._tunnels = Tunnels(serve, clock)

    def opens_tunnel(self, data: bytes | bytearray) -> bool | None:
        """Whether a connection to an HTTP port that begins with `data` is for here. None: more bytes are needed."""
        found = opening(data, PATH)
        return None if found is Opening.UNKNOWN else found is not Opening.OTHER

    async def look(self, wire: Wire) -> Opening:
        """What a connection to an RTSP port is; its bytes stay to be read. UNKNOWN where it is gone, or too slow."""
        looking = asyncio.ensure_future(_look(wire))
        waiting = asyncio.ensure_future(self._clock.sleep(self._wait_ns))
        try:
            await asyncio.wait({looking, waiting}, return_when=asyncio.FIRST_COMPLETED)
            return looking.result() if looking.done() else Opening.UNKNOWN
        except ConnectionError as e:
            log.debug("%s: %s", wire.peer, e)
            return Opening.UNKNOWN
        finally:
            looking.cancel()
            waiting.cancel()

    async def tunnel(self, wire: Wire) -> None:
        """Serve a connection whose first request opens a tunnel or a WebSocket; the head of it has come."""
        data = await wire.read()
        head = parse_head(data)
        assert head is not None, "the caller has looked at it"
        wire.unread(data[head.size :])
        match opening(data, PATH):
            case Opening.DOWN:
                await self._tunnels.down(head, wire)
            case Opening.UP:
                await self._tunnels.up(head, wire)
            case _:
                try:
                    wire.write(accept(head))
                except HandshakeRefused as e:
                    log.debug("%s: %s", wire.peer, e)
                    wire.write(e.answer)
                    await wire.close(CLOSE_S)
                else:
                    await self._serve(WebSocketStream(wire))


async def _look(wire: Wire) -> Opening:
    seen = b""
    try:
        while (found := opening(seen, None)) is Opening.UNKNOWN:
            data = await wire.read()
            if not data:
                return Opening.OTHER  # half a request: RTSP says what is wrong with it
            seen += data
    finally:
        wire.unread(seen)
    return found
