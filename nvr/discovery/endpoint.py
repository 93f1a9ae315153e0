"""Discovery on the network: sockets around `Responder`, and when Hello and Bye are due.

On each interface there are two sockets: one at the group's address, which hears what was sent to the group there and
nothing else (IP_MULTICAST_ALL off), and one at the interface's own address, which hears what was sent to the recorder
alone and sends everything. So a question is known to be for the group or for us, and by which interface it came.

Interfaces are looked at again every `WATCH_S`, and after every change of scopes or mode: those that have come or got
another address are spoken on, and a Hello tells of it with a higher MetadataVersion.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol
from uuid import UUID

from nvr.discovery.links import DiscoverySettings, Link, Served, is_wanted, missing, spoken_on, xaddrs
from nvr.discovery.message import GROUP, Announcement
from nvr.discovery.responder import Responder
from nvr.model.device import DiscoveryMode
from nvr.model.errors import StorageError
from nvr.model.time import NS

log = logging.getLogger(__name__)

WATCH_S: Final = 30.0
REPEAT_S: Final = 0.1
"""A Hello is sent twice, since datagrams get lost (SOAP-over-UDP, appendix I)."""
_IP_MULTICAST_ALL: Final = 49
"""ip(7); Python has no name for it."""


class Memory(Protocol):
    """What the device remembers of itself (`nvr.control.device`)."""

    @property
    def discovery_mode(self) -> DiscoveryMode: ...

    @property
    def scopes(self) -> tuple[str, ...]: ...

    def on_change(self, listener: Callable[[], None]) -> None: ...

    @property
    def metadata_version(self) -> int: ...

    async def begin(self, now_s: int) -> int:
        """The InstanceId of this start. Raises StorageError."""

    async def announce(self, metadata: str) -> int:
        """The MetadataVersion of what is about to be told. Raises StorageError."""


class Discovery:
    """Started when the services answer, stopped before they end."""

    def __init__(
        self,
        settings: DiscoverySettings,
        memory: Memory,
        endpoint: UUID,
        links: Callable[[], Sequence[Link]],
    ) -> None:
        """`links` reads the interfaces of the host, blocking."""
        self._settings = settings
        self._memory = memory
        self._endpoint = endpoint
        self._served: tuple[Served, ...] = ()
        self._links = links
        self._speakers: dict[Link, _Speaker] = {}
        self._responder: Responder | None = None
        self._told_version: int | None = None
        self._missing: tuple[str, ...] = ()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def counts(self) -> Counter[str]:
        """What became of the datagrams that were heard."""
        return self._responder.counts if self._responder is not None else Counter()

    async def start(self, served: Sequence[Served]) -> None:
        """`served` are the places where the device service listens. Never raises: recording does not wait for it."""
        self._served = tuple(served)
        if not is_wanted(self._settings, self._served):
            log.info("discovery is off: the settings say so, or HTTP is not reached beyond loopback")
            return
        instance = time.time_ns() // NS
        try:
            instance = await self._memory.begin(instance)
        except StorageError as e:
            log.warning("the start of discovery cannot be noted, its messages are numbered by the clock alone: %s", e)
        self._responder = Responder(instance, self._settings.maximum_delay_ns)
        self._memory.on_change(self._wake.set)
        self._task = asyncio.create_task(self._run(self._responder))
        self._task.add_done_callback(_ended)

    async def stop(self) -> None:
        """Says Bye where the recorder can be found, and goes."""
        if self._task is None or self._responder is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None
        self._leave(self._responder)

    async def _run(self, responder: Responder) -> None:
        # After a power cut all devices of a site come up at once.
        await asyncio.sleep(random.uniform(0, self._settings.maximum_delay_ns / NS))
        while True:
            self._wake.clear()
            try:
                await self._refresh(responder)
            except OSError as e:
                log.warning("discovery is not up to date: %s", e)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_S):
                    await self._wake.wait()

    async def _refresh(self, responder: Responder) -> None:
        """Brings sockets and what is announced to what host, scopes and mode are now."""
        if self._memory.discovery_mode is DiscoveryMode.NON_DISCOVERABLE:
            self._leave(responder)
            return
        links = await asyncio.to_thread(self._links)
        wanted = spoken_on(self._settings, self._served, links)
        self._tell_missing(missing(self._settings, links))
        for link in [link for link in self._speakers if link not in wanted]:
            self._speakers.pop(link).close()
        new = [speaker for link in wanted if link not in self._speakers and (speaker := await self._open(link))]
        everywhere = xaddrs(self._served, wanted)
        scopes = self._memory.scopes
        version = await self._version("\n".join((*scopes, "", *sorted(everywhere))))
        for link, speaker in self._speakers.items():
            near = xaddrs(self._served, [link])
            addresses = (*near, *(a for a in everywhere if a not in near))
            speaker.announcement = Announcement(self._endpoint, scopes, addresses, version)
        telling = list(self._speakers.values()) if version != self._told_version else new
        for speaker in telling:
            assert speaker.announcement is not None
            speaker.tell(responder.hello(speaker.announcement))
        if self._speakers:
            self._told_version = version

    async def _version(self, metadata: str) -> int:
        """A recorder whose disk is full can still be found; clients may then not notice that it says something new."""
        try:
            return await self._memory.announce(metadata)
        except StorageError as e:
            log.warning("what discovery announces cannot be noted: %s", e)
            return self._memory.metadata_version

    def _tell_missing(self, names: tuple[str, ...]) -> None:
        if names and names != self._missing:
            log.error(
                "discovery.interfaces: the host has no interface %s now; it is looked for again", ", ".join(names)
            )
        self._missing = names

    async def _open(self, link: Link) -> _Speaker | None:
        speaker = _Speaker(link, self._settings.port, self._heard)
        try:
            await speaker.open()
        except OSError as e:
            log.warning("discovery on %s does not work and is tried again later: %s", link.name, e)
            return None
        log.info("discovery on %s (%s)", link.name, link.ipv4)
        self._speakers[link] = speaker
        return speaker

    def _leave(self, responder: Responder) -> None:
        for speaker in self._speakers.values():
            bye = responder.bye(self._endpoint)
            speaker.tell(bye, again=False)
            speaker.tell(bye, again=False)
            speaker.close()
        self._speakers.clear()
        self._told_version = None

    def _heard(self, speaker: _Speaker, datagram: bytes, peer: tuple[str, int], *, multicast: bool) -> None:
        responder, announcement = self._responder, speaker.announcement
        if responder is None or announcement is None:
            return
        if self._memory.discovery_mode is DiscoveryMode.NON_DISCOVERABLE:
            return  # the sockets are about to be closed
        if not (self._settings.beyond_link or speaker.link.reaches(peer[0])):
            responder.counts["beyond link"] += 1
            return
        answer = responder.answer(datagram, peer[0], announcement, time.monotonic_ns(), multicast=multicast)
        if answer is not None:
            speaker.send(answer.datagram, peer, answer.delay_ns / NS)


class _Speaker:
    """The two sockets of an interface."""

    def __init__(self, link: Link, port: int, heard: Callable[..., None]) -> None:
        self.link = link
        self.announcement: Announcement | None = None
        self._port = port
        self._heard = heard
        self._transports: list[asyncio.DatagramTransport] = []
        self._waiting: dict[object, asyncio.TimerHandle] = {}

    async def open(self) -> None:
        """Raises OSError, and leaves nothing open then, nor when it is cancelled."""
        own = self.link.ipv4
        assert own is not None
        address = str(own.ip)
        try:
            await self._listen(_own_socket(address, self._port), multicast=False)
            await self._listen(_group_socket(address, self._port), multicast=True)
        except BaseException:
            self.close()
            raise

    async def _listen(self, sock: socket.socket, *, multicast: bool) -> None:
        try:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Ear(lambda datagram, peer: self._heard(self, datagram, peer, multicast=multicast)), sock=sock
            )
        except BaseException:
            sock.close()
            raise
        self._transports.append(transport)

    def tell(self, datagram: bytes, *, again: bool = True) -> None:
        """Sends to the group."""
        self.send(datagram, (GROUP, self._port))
        if again:
            self.send(datagram, (GROUP, self._port), REPEAT_S)

    def send(self, datagram: bytes, target: tuple[str, int], delay_s: float = 0) -> None:
        """From the interface's own address."""
        if delay_s:
            ticket = object()
            loop = asyncio.get_running_loop()
            self._waiting[ticket] = loop.call_later(delay_s, self._send_waiting, ticket, datagram, target)
        elif self._transports:
            self._transports[0].sendto(datagram, target)

    def _send_waiting(self, ticket: object, datagram: bytes, target: tuple[str, int]) -> None:
        del self._waiting[ticket]
        self.send(datagram, target)

    def close(self) -> None:
        for handle in self._waiting.values():
            handle.cancel()
        self._waiting.clear()
        for transport in self._transports:
            transport.close()  # what has been handed to it is sent first
        self._transports.clear()


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        log.error("discovery has ended by a mistake of ours", exc_info=task.exception())


class _Ear(asyncio.DatagramProtocol):
    def __init__(self, heard: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._heard = heard

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._heard(data, addr)

    def error_received(self, exc: Exception) -> None:
        # An unreachable peer, or an interface that is going down, which the next look at the interfaces will tell.
        log.debug("a datagram of discovery could not be sent: %s", exc)


def _own_socket(address: str, port: int) -> socket.socket:
    def set_up(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)

    return _bound((address, port), set_up)


def _group_socket(address: str, port: int) -> socket.socket:
    def set_up(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        membership = socket.inet_aton(GROUP) + socket.inet_aton(address)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)

    return _bound((GROUP, port), set_up)


def _bound(place: tuple[str, int], set_up: Callable[[socket.socket], None]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # other services of the host speak the protocol too
        set_up(sock)
        sock.bind(place)
    except BaseException:
        sock.close()
        raise
    return sock
