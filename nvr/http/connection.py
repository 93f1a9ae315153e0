"""One connection of the listener: what it has to bring, until when, and whom it is for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from nvr.net.keepalive import keep_alive

Connections: TypeAlias = "dict[Any, Connection]"
"""The open connections by the protocol of aiohttp that serves each."""


class Tunnels(Protocol):
    """Takes connections that carry another protocol inside HTTP, and that aiohttp cannot serve."""

    def opens_tunnel(self, data: bytes | bytearray, /) -> bool | None:
        """Whether a connection that begins with `data` is one. None: more bytes are needed."""

    def adopt(self, transport: asyncio.Transport, data: bytes, ended: Callable[[], None], /) -> None:
        """Take it over; `ended` is to be called when it is gone."""


class Connection(asyncio.Protocol):
    """Passes everything on to aiohttp's protocol, and closes a connection that does not bring a header in time.

    aiohttp limits only the time between requests: a connection that never sends anything, or half a header, would stay.
    With `tunnels` it collects the first header, and lets them have the connection if it is theirs.
    """

    def __init__(
        self,
        inner: Any,
        idle_s: float,
        connections: Connections,
        ended: Callable[[], None] = lambda: None,
        tunnels: Tunnels | None = None,
    ) -> None:
        """`inner` is aiohttp's protocol; the connection enters itself in `connections` while it is open, and calls
        `ended` behind that.
        """
        self._tunnels = tunnels
        self._first: bytearray | None = None if tunnels is None else bytearray()
        """What has come while it is not known whom the connection is for; aiohttp does not know of it until then."""
        self._transport: asyncio.Transport | None = None
        self._ended = ended
        self._inner = inner
        self._idle_s = idle_s
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None
        self._drops = False

    def wait_for_header(self) -> None:
        """From now on the time counts."""
        if self._inner in self._connections:
            self.header_came()
            self._timer = asyncio.get_running_loop().call_later(self._idle_s, self._late)

    def _late(self) -> None:
        if not self.abort_undecided():
            self._inner.force_close()

    def abort_undecided(self) -> bool:
        """End the connection if it is not known yet whom it is for, and say whether it was so."""
        if self._first is None:
            return False
        assert self._transport is not None
        self._transport.abort()
        return True

    def drop_rest(self) -> None:
        """The request is refused before its body has come: what still comes is dropped.

        aiohttp reads on for a moment, so that the client gets to see the answer, and then closes. Where the chunks of
        the rest are malformed, each piece would become an error that keeps the piece, in cycles that the garbage
        collector comes upon late (aiohttp 3.14): megabytes for each connection of a stranger.
        """
        self._drops = True

    def header_came(self) -> None:
        """The time does not count while a request is being answered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        keep_alive(transport)
        self._connections[self._inner] = self
        if self._first is None:
            self._inner.connection_made(transport)
        self.wait_for_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._ended()
        if self._first is None:
            self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._first is not None:
            self._decide(data)
        elif not self._drops:
            self._inner.data_received(data)

    def _decide(self, data: bytes) -> None:
        """Give the connection to whom it is for, with what has come of it, as soon as that is known."""
        assert self._first is not None
        assert self._tunnels is not None
        assert self._transport is not None
        self._first += data
        theirs = self._tunnels.opens_tunnel(self._first)
        if theirs is None:
            return
        first = bytes(self._first)
        if theirs:
            self._leave()
            self._tunnels.adopt(self._transport, first, self._ended)
            return
        self._first = None
        self._inner.connection_made(self._transport)
        self._inner.data_received(first)

    def _leave(self) -> None:
        self.header_came()
        del self._connections[self._inner]

    def eof_received(self) -> bool | None:
        if self._first is not None:
            return False
        stay_open: bool | None = self._inner.eof_received()
        return stay_open

    def pause_writing(self) -> None:
        if self._first is None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._first is None:
            self._inner.resume_writing()
