"""Sends wsnt:Notify to the consumers that clients have named (ONVIF Core 9.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiohttp

from nvr.events.delivery import Consumer
from nvr.model.errors import SourceError
from nvr.model.event import Event
from nvr.soap.event_wire import write_notify
from nvr.soap.protocol import CONTENT_TYPE, serialize


class Notifier:
    """One client for all consumers. Redirects are not followed: where messages may go has been checked once."""

    def __init__(self, timeout_s: float) -> None:
        """For a whole delivery: connection, request, status of the answer."""
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, consumer: Consumer, reference: str, events: Sequence[Event]) -> None:
        """Raises SourceError."""
        body = b"".join(await write_notify(consumer, reference, events, serialize))
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._client().post(
                    consumer.address, data=body, headers={"Content-Type": CONTENT_TYPE}, allow_redirects=False
                ) as response:
                    if not 200 <= response.status < 300:
                        raise SourceError(f"it answers with HTTP status {response.status}")
        except TimeoutError as e:
            raise SourceError(f"it has not answered within {self._timeout_s:g} s") from e
        except (aiohttp.ClientError, OSError, ValueError) as e:
            # aiohttp's texts quote the address, in whose query a consumer may keep a secret.
            raise SourceError(f"the delivery has failed: {type(e).__name__}") from e

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Each subscription has a connection of its own, and their number is bounded: with a limit here a consumer
            # that hangs would use up the time of those that wait for its place.
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(limit=0)
            )
        return self._session
