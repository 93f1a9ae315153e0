"""One RTSP connection: bytes to requests, answers to bytes, and the end of what lives on it.

Requests are answered in their order (RFC 2326 9.1 allows pipelining). The players of its sessions are tasks of their
own, so that a request is processed while media are held up by the client (8.7).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Final

from nvr.media.rtcp import is_receiver_there
from nvr.media.rtsp.headers import Headers
from nvr.media.rtsp.message import Event, Interleaved, Limits, MessageError, MessageParser, Request, Response
from nvr.model.errors import NvrError
from nvr.model.time import NS
from nvr.replay.methods import Answer, Methods, Surroundings
from nvr.replay.status import RequestRefused, status_of
from nvr.replay.stream import ByteStream
from nvr.replay.transports import Datagrams, Transports

log = logging.getLogger(__name__)

LIMITS: Final = Limits(line=4096, head=16 * 1024, headers=64, body=16 * 1024)
ANSWERS_BYTES: Final = 64 * 1024
"""What answers may add to media that the client does not take. Beyond it no further request is read."""
EVENTS_A_TURN: Final = 16
"""Requests, refusals and frames that are worked through before other connections have their turn: about a millisecond
of those that cost most. Who pipelines thousands of them gets his answers, and nobody else waits for him."""
LOOK_NS: Final = 5 * NS
"""How often a silent client is looked at: each of its sessions may have another time-out."""
CLOSE_S: Final = 1.0
"""How long a closing connection may take to hand over its last answer."""


class Connection:
    """Serves one byte stream until it ends. `run` is the task; cancelling it closes the connection in good order."""

    def __init__(
        self,
        stream: ByteStream,
        surroundings: Surroundings,
        media_bytes: int,
        datagrams: Datagrams | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        """`media_bytes` may wait for the peer to take them; `datagrams` where it may be sent media by UDP."""
        self._stream = stream
        self._clock = surroundings.clock
        self._backlog_bytes = media_bytes + ANSWERS_BYTES
        self._parser = MessageParser(limits)
        self._refused = surroundings.refused
        self._refusals = 0
        """Since somebody has logged in here."""
        self._over = asyncio.Event()
        self._heard()
        transports = Transports(stream, self._clock, self._heard, datagrams)
        self._methods = Methods(surroundings, transports, stream.local_address, stream.peer_address)

    def end_of(self, users: Collection[str]) -> None:
        """Ends the connection, with its sessions, if one of these users has logged in on it."""
        if not self._methods.users.isdisjoint(users):
            log.info("%s: the connection ends with a change of its user's account", self._stream.peer)
            self._over.set()

    async def run(self) -> None:
        peer = self._stream.peer
        log.debug("%s: connected", peer)
        watch = asyncio.create_task(self._watch(), name=f"rtsp watch {peer}")
        serve = asyncio.create_task(self._serve(), name=f"rtsp serve {peer}")
        over = asyncio.create_task(self._ordered(), name=f"rtsp end {peer}")
        try:
            await asyncio.wait({watch, serve, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending = asyncio.ensure_future(self._end(watch, serve, over))
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                await asyncio.wait({ending})  # cancelled while it ends by itself: to the end all the same
                raise

    async def _end(self, *tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):  # cancelled they are in any case
                log.error("%s: the connection is given up", self._stream.peer, exc_info=result)
        await self._methods.close_sessions()
        await self._stream.close(CLOSE_S)
        log.debug("%s: closed", self._stream.peer)

    async def _ordered(self) -> None:
        await self._over.wait()

    def _heard(self) -> None:
        """A sign of life (8.7)."""
        self._heard_ns = self._clock.monotonic_ns()

    async def _serve(self) -> None:
        try:
            in_turn = 0
            while data := await self._stream.read():
                self._parser.feed(data)
                while (event := self._next_event()) is not None:
                    if isinstance(event, Request):
                        self._heard()
                        await self._answer(event)
                    elif isinstance(event, MessageError):
                        self._write_refusal(event)
                        await self._drain()
                    elif isinstance(event, Interleaved) and is_receiver_there(event.payload):
                        self._heard()  # what a report says of losses is of no use on a reliable transport
                    in_turn += 1
                    if in_turn == EVENTS_A_TURN:
                        in_turn = 0
                        await asyncio.sleep(0)
        except MessageError as e:
            # Where the next message begins is not known any more: answer, and end the connection.
            self._write_refusal(e)
        except ConnectionError as e:
            log.debug("%s: %s", self._stream.peer, e)
        except Exception:
            log.exception("%s: the connection is given up", self._stream.peer)

    def _next_event(self) -> Event | MessageError | None:
        """An error where only one message is wrong: it is answered, and what follows is served. Raises MessageError."""
        try:
            return self._parser.next_event()
        except MessageError as e:
            if e.fatal:
                raise
            return e

    def _write_refusal(self, error: MessageError) -> None:
        self._tell(error.status, str(error))
        self._write(Response(error.status, self._methods.common_headers(error.headers)))

    async def _answer(self, request: Request) -> None:
        try:
            answer = await self._methods.answer(request)
        except NvrError as e:
            answer = self._refusal(request, e)
        except Exception:
            log.exception("%s: %s fails", self._stream.peer, request.method)
            answer = Answer(Response(500, self._methods.common_headers(request.headers)))
        self._write(answer.response)
        if answer.after is not None:
            answer.after()
        await self._drain()

    async def _drain(self) -> None:
        if self._stream.buffered > self._backlog_bytes:
            await self._stream.drain()

    def _refusal(self, request: Request, error: NvrError) -> Answer:
        status = status_of(error)
        why = f"{request.method} is answered {status}: {error}"
        if status == 401 and request.headers.get("Authorization") is None:
            log.debug("%s: %s", self._stream.peer, why)  # how every login with Digest begins
        else:
            self._tell(status, why)
        headers: Headers = self._methods.common_headers(request.headers)
        if isinstance(error, RequestRefused):
            for name, value in error.headers:
                headers.add(name, value)
        return Answer(Response(status, headers))

    def _tell(self, status: int, why: str) -> None:
        """Of a refusal. Who has not logged in writes nothing into the log, and nobody a line for each request.

        Wrong passwords are counted by the lock-out, which lets only so many of them be told (authentication.py).
        """
        self._refused()
        if status == 500:
            log.error("%s: %s", self._stream.peer, why)
            return
        logged_in = status == 403 or bool(self._methods.users)  # 403: the password was right
        self._refusals += logged_in
        if logged_in and self._refusals.bit_count() == 1:
            log.info("%s: %s (refusal %d here)", self._stream.peer, why, self._refusals)
        else:
            log.debug("%s: %s", self._stream.peer, why)

    def _write(self, response: Response) -> None:
        self._stream.write(bytes(response))

    async def _watch(self) -> None:
        """Each session ends when nothing was heard for its time-out; a connection that has none, behind that of a
        connection without any (8.7)."""
        while True:
            silent_ns = self._clock.monotonic_ns() - self._heard_ns
            wait = self._methods.remaining_ns(silent_ns)
            if wait > 0:
                await self._clock.sleep(min(wait, LOOK_NS))
                continue
            silent_s = silent_ns // NS
            if not self._methods.sessions:
                log.debug("%s: nothing was heard for %d s, the connection ends", self._stream.peer, silent_s)
                return
            ended = await self._methods.expire(silent_ns)
            log.info("%s: nothing was heard for %d s, %d of its sessions end", self._stream.peer, silent_s, ended)
            if not self._methods.sessions:
                self._heard()
