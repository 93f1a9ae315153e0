"""Accepts connections and gives each a place, or refuses it, before anything of it costs more than a descriptor.

A place is counted from the moment of the accept: with TLS the handshake comes behind it, and a client that never makes
one holds a place for its time-out, not a descriptor beyond every limit. Nobody may take more than a share of the
places: an IPv4 address, or an IPv6 network of 64 bits, which is what one client has.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Final

log = logging.getLogger(__name__)

BACKLOG: Final = 128
TLS_HANDSHAKE_S: Final = 10.0
TLS_SHUTDOWN_S: Final = 5.0
"""How long a client may take to agree to the end of a TLS connection."""
RETRY_S: Final = 1.0
"""Pause where the system has no descriptors or buffers left for another connection."""


class Places:
    """How many connections there are, in all and of each client."""

    def __init__(self, total: int, per_client: int) -> None:
        self.total = total
        self.per_client = per_client
        self.taken = 0
        self._of: Counter[str] = Counter()

    def take(self, address: str) -> Callable[[], None] | None:
        """A place for this address: call the answer to give it back, once or more often. None: there is none left."""
        client = client_of(address)
        if self.taken >= self.total or self._of[client] >= self.per_client:
            if not self._of[client]:
                del self._of[client]
            return None
        self.taken += 1
        self._of[client] += 1
        held = True

        def give_back() -> None:
            nonlocal held
            if not held:
                return
            held = False
            self.taken -= 1
            self._of[client] -= 1
            if not self._of[client]:
                del self._of[client]

        return give_back


def is_loopback(address: str) -> bool:
    """Whether a literal address is this machine's own, also where IPv6 wraps an IPv4 one."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def client_of(address: str) -> str:
    """Who stands behind a literal address: itself for IPv4, its /64 network for IPv6."""
    if ":" not in address:
        return address
    parsed = ipaddress.IPv6Address(address.partition("%")[0])
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))


Connected = Callable[[Callable[[], None]], asyncio.Protocol]
"""Makes the protocol of a new connection; it calls what it is given when the connection has ended."""


class Acceptor:
    """Listening sockets, and the connections on their way from accept to protocol."""

    def __init__(self, places: Places, connected: Connected, refusal: bytes = b"") -> None:
        """`refusal` is sent to a client for whom there is no place, before its connection is closed; not with TLS."""
        self.refused = 0
        """Connections closed because there was no place for them."""
        self.failed_handshakes = 0
        """TLS connections that never came about."""
        self._places = places
        self._connected = connected
        self._refusal = refusal
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._full = False
        """Whether the last connection was refused: a flood is logged once."""

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Accepts at every address of `host` (all interfaces where it is empty), on one port; port 0 is a free one, and
        the answer is the port. Raises OSError.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        bound: list[socket.socket] = []
        missing = OSError(errno.EAFNOSUPPORT, "the system supports no address of it")
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                sock = _socket(family, kind, protocol)
                if sock is None:
                    continue
                bound.append(sock)
                try:
                    sock.bind((address[0], port, *address[2:]))
                except OSError as e:
                    if e.errno != errno.EADDRNOTAVAIL:
                        raise
                    missing = e  # IPv6 can be known and switched off; the other family will do
                    bound.pop().close()
                    continue
                sock.listen(BACKLOG)
                port = sock.getsockname()[1]
            if not bound:
                raise missing
        except BaseException:
            for sock in bound:
                sock.close()
            raise
        self._sockets += bound
        for sock in bound:
            self._spawn(self._accept(sock, tls))
        return port

    async def stop(self) -> None:
        """Accepts nothing more; what is still on its way ends, what has got to its protocol does not."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(listening)
            except ConnectionAbortedError:
                continue  # the client has given up in the queue
            except OSError as e:
                log.error("no connection can be accepted: %s; trying again in %g s", e.strerror, RETRY_S)
                await asyncio.sleep(RETRY_S)
                continue
            give_back = self._places.take(peer[0])
            if give_back is None:
                self._refuse(accepted, peer[0], tls is not None)
            else:
                self._full = False
                self._spawn(self._open(accepted, peer[0], tls, give_back))
            await asyncio.sleep(0)  # sock_accept does not, as long as clients are waiting

    async def _open(
        self, accepted: socket.socket, peer: str, tls: ssl.SSLContext | None, give_back: Callable[[], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: self._connected(give_back),
                accepted,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else TLS_HANDSHAKE_S,
                ssl_shutdown_timeout=None if tls is None else TLS_SHUTDOWN_S,
            )
        except (OSError, TimeoutError) as e:
            self.failed_handshakes += 1
            log.debug("%s: the connection does not come about: %s", peer, e)
            give_back()
        except BaseException:
            accepted.close()
            give_back()
            raise

    def _refuse(self, accepted: socket.socket, peer: str, tls: bool) -> None:
        self.refused += 1
        if not self._full:
            log.warning("a connection of %s is refused: %d are open already", peer, self._places.taken)
        self._full = True
        with accepted:
            if self._refusal and not tls:
                try:
                    accepted.send(self._refusal)
                except OSError as e:
                    log.debug("%s: has left before it was refused: %s", peer, e)


def _socket(family: int, kind: int, protocol: int) -> socket.socket | None:
    """None where the system does not support a family that its resolver names."""
    try:
        sock = socket.socket(family, kind, protocol)
    except OSError as e:
        log.debug("no socket of family %s: %s", family, e)
        return None
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock
