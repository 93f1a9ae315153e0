"""One connection of the listener: what it has to bring, and until when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

Connections: TypeAlias = "dict[Any, Connection]"
"""The open connections by the protocol of aiohttp that serves each."""


class Connection(asyncio.Protocol):
    """Passes everything on to aiohttp's protocol, and closes a connection that does not bring a header in time.

    aiohttp limits only the time between requests: a connection that never sends anything, or half a header, would stay.
    """

    def __init__(
        self, inner: Any, idle_s: float, connections: Connections, ended: Callable[[], None] = lambda: None
    ) -> None:
        """`inner` is aiohttp's protocol; the connection enters itself in `connections` while it is open, and calls
        `ended` behind that.
        """
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
            self._timer = asyncio.get_running_loop().call_later(self._idle_s, self._inner.force_close)

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
        self._connections[self._inner] = self
        self._inner.connection_made(transport)
        self.wait_for_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self.header_came()
        del self._connections[self._inner]
        self._ended()
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._drops:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        stay_open: bool | None = self._inner.eof_received()
        return stay_open

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
