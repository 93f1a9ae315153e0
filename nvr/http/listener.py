"""The one HTTP server of the daemon (aiohttp): SOAP services, their contract, health and metrics.

It guards what stands behind it: sizes, the number of connections, and time. A connection has `idle_ns` to bring each
complete header, a request `body_timeout_ns` to bring its body, so that neither a slow nor a silent client holds a
place. No access log is written; what aiohttp reports of malformed requests is cut to its kind, since headers hold
credentials.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.hdrs import SERVER as SERVER_HEADER
from aiohttp.http_exceptions import HttpProcessingError

from nvr.http.connection import Connection, Connections, Tunnels
from nvr.http.mounts import routes
from nvr.http.settings import HttpSettings
from nvr.model.errors import OperatorError
from nvr.model.time import NS
from nvr.net.acceptor import Acceptor, Places
from nvr.soap.protocol import Soap
from nvr.soap.wsdl import Contract
from nvr.web.health import Part
from nvr.web.metrics import Metric, MetricSource, Sample

log = logging.getLogger(__name__)
wire_log = logging.getLogger(f"{__name__}.wire")

REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
"""To a client for whom there is no place."""
SERVER = "nvr"
"""Of the Server header: versions are nobody's business."""
LINGERING_S = 2.0
"""How long the rest of a refused body is read and dropped, so that the client gets to see the answer."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. An empty host means all interfaces, port 0 any free port."""

    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host or '*'}:{self.port}"


class _Protocol(web.RequestHandler):
    """aiohttp's protocol for one connection; `malformed` is called for every request that is no HTTP."""

    def __init__(self, *args: Any, malformed: Callable[[], None], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._malformed = malformed

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, HttpProcessingError):
            self._malformed()
        response = super().handle_error(request, status, exc, message)
        response.headers[SERVER_HEADER] = SERVER  # no signal is sent for these
        return response


class Listener:
    """Start, stop, and what lies between."""

    def __init__(
        self,
        settings: HttpSettings,
        soap: Soap,
        contract: Contract,
        parts: Sequence[Part] = (),
        sources: Sequence[MetricSource] = (),
        tls: ssl.SSLContext | None = None,
        tunnels: Tunnels | None = None,
    ) -> None:
        """`parts` say whether the daemon is healthy, `sources` give its metrics; those of HTTP and SOAP are added.

        `tls` is the context of the addresses that speak TLS; `tunnels` get the connections that are theirs.
        """
        self._tunnels = tunnels
        self._settings = settings
        self._soap = soap
        self._tls = tls
        application = web.Application(middlewares=[self._count_time])
        application.add_routes(routes(settings, soap, contract, parts, (*sources, self)))
        wire_log.addFilter(_without_headers)
        application.on_response_prepare.append(_without_versions)
        self._runner = web.AppRunner(
            application,
            handler_cancellation=True,  # a client that hangs up while it waits for messages takes none with it
            handle_signals=False,
            shutdown_timeout=settings.stop_timeout_ns / NS,
        )
        self._of_connections: dict[str, Any] = {
            "access_log": None,
            "logger": wire_log,
            "keepalive_timeout": settings.idle_ns / NS,
            "max_line_size": settings.header_bytes,
            "max_field_size": settings.header_bytes,
            "lingering_time": LINGERING_S,
            "auto_decompress": False,
        }
        self._malformed = 0
        self._connections: Connections = {}
        self._places = Places(settings.connections, settings.connections_per_client)
        self._acceptor = Acceptor(self._places, self._connection, REFUSAL)

    async def start(self, addresses: Sequence[Address]) -> tuple[Address, ...]:
        """Listens at all addresses, or at none. Returns them with their ports. Raises OperatorError."""
        if any(a.tls for a in addresses) and self._tls is None:
            raise OperatorError("HTTPS needs a certificate and a key")
        await self._runner.setup()
        bound: list[Address] = []
        try:
            for address in addresses:
                bound.append(await self._listen(address))
        except BaseException:
            await self.stop()
            raise
        return tuple(bound)

    async def stop(self) -> None:
        """Takes no more requests, lets those that run end within the deadline, and closes every connection."""
        await self._acceptor.stop()
        for connection in tuple(self._connections.values()):
            connection.abort_undecided()
        await self._runner.cleanup()
        self._soap.close()

    def metrics(self) -> Sequence[Metric]:
        answers = [
            Sample(float(count), {"service": path, "operation": operation, "outcome": outcome})
            for (path, operation, outcome), count in sorted(self._soap.requests.items())
        ]
        return (
            Metric("nvr_soap_requests_total", "SOAP requests by outcome.", "counter", answers),
            Metric(
                "nvr_http_connections",
                "HTTP connections open now.",
                "gauge",
                [Sample(float(self._places.taken))],
            ),
            Metric(
                "nvr_http_connections_refused_total",
                "HTTP connections closed because there were too many.",
                "counter",
                [Sample(float(self._acceptor.refused))],
            ),
            Metric(
                "nvr_http_handshakes_failed_total",
                "HTTP connections that have ended before their TLS handshake.",
                "counter",
                [Sample(float(self._acceptor.failed_handshakes))],
            ),
            Metric(
                "nvr_http_malformed_requests_total",
                "Requests that were no HTTP.",
                "counter",
                [Sample(float(self._malformed))],
            ),
        )

    async def _listen(self, address: Address) -> Address:
        try:
            port = await self._acceptor.listen(address.host, address.port, self._tls if address.tls else None)
        except OSError as e:
            if e.errno == errno.EADDRINUSE:
                raise OperatorError(f"{address} is in use: stop what listens there, or choose another port") from e
            if e.errno == errno.EACCES:
                raise OperatorError(f"{address}: ports below 1024 need a privilege, choose another port") from e
            raise OperatorError(f"cannot listen at {address}: {e.strerror or e}") from e
        log.info("listening at %s", Address(address.host, port, address.tls))
        return Address(address.host, port, address.tls)

    def _connection(self, ended: Callable[[], None]) -> Connection:
        server = self._runner.server
        assert server is not None
        protocol = _Protocol(
            server, loop=asyncio.get_running_loop(), malformed=self._count_malformed, **self._of_connections
        )
        return Connection(protocol, self._settings.idle_ns / NS, self._connections, ended, self._tunnels)

    def _count_malformed(self) -> None:
        self._malformed += 1

    @web.middleware
    async def _count_time(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """A request whose header is complete owes nothing until it has been answered."""
        connection = self._connections.get(request.protocol)
        if connection is not None:
            connection.header_came()
        try:
            response: web.StreamResponse = await handler(request)
            return response
        finally:
            if connection is not None:
                if not request.content.is_eof():
                    connection.drop_rest()
                connection.wait_for_header()


async def _without_versions(_: web.Request, response: web.StreamResponse) -> None:
    response.headers[SERVER_HEADER] = SERVER


def _without_headers(record: logging.LogRecord) -> bool:
    """Keeps the kind of a malformed request in the log and drops its text, which quotes what the client has sent.

    Anybody may send such requests, as many as they like: they are told at the level DEBUG, and counted.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.msg, record.args = "malformed request: %s", (type(error).__name__,)
        record.exc_info = None
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return wire_log.isEnabledFor(logging.DEBUG)
    return True
