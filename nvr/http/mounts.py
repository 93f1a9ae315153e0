"""What stands at which path: the services, the contract, health and metrics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from nvr.http.origin import origin
from nvr.http.settings import HttpSettings, Observers
from nvr.model.time import NS
from nvr.net.acceptor import is_loopback
from nvr.soap.protocol import Answer, Request, Soap
from nvr.soap.wsdl import Contract
from nvr.web.health import Part, health_route
from nvr.web.metrics import MetricSource, metrics_route

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SCHEMA_FOLDER = "/onvif"
"""Services stand below it, so that `schemaLocation="onvif.xsd"` in a WSDL file leads to /onvif/onvif.xsd."""
XML = "text/xml"


def routes(
    settings: HttpSettings, soap: Soap, contract: Contract, parts: Sequence[Part], sources: Sequence[MetricSource]
) -> list[web.RouteDef]:
    found = [web.route("*", path, _service(settings, soap, contract, path)) for path in soap.paths]
    found += [web.get(f"{SCHEMA_FOLDER}/{name}", _schema(contract, name)) for name in contract.schemas]
    observer = _observer(settings)
    return [*found, health_route(parts, observer), metrics_route(sources, observer)]


def _observer(settings: HttpSettings) -> Callable[[web.Request], bool]:
    """Whether whoever asks may know what the daemon counts and where its volumes stand."""

    def may(request: web.Request) -> bool:
        if settings.observers is Observers.ANYONE:
            return True
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        return peer is not None and is_loopback(str(peer[0]))

    return may


def _service(settings: HttpSettings, soap: Soap, contract: Contract, path: str) -> Handler:
    service = soap.service(path).service

    async def handle(request: web.Request) -> web.StreamResponse:
        reached, host = _origin(request)
        if request.method == "GET" and any(key.lower() == "wsdl" for key in request.query):
            return web.Response(body=contract.wsdl(service.contract, reached + path), content_type=XML)
        if request.method != "POST":
            return web.Response(status=405, headers={"Allow": "POST"})
        body = await _body(request, settings)
        if isinstance(body, int):
            return _refused(body)
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        answer = await soap.answer(
            path,
            Request(
                method=request.method,
                uri=request.raw_path,
                content_type=request.content_type.lower(),
                authorization=request.headers.get("Authorization"),
                origin=reached,
                host=host,
                peer=str(peer[0]) if peer else "unknown",
                body=body,
            ),
        )
        return await _send(request, answer, settings)

    return handle


async def _body(request: web.Request, settings: HttpSettings) -> bytes | int:
    """The body, or the HTTP status that refuses it."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        return 415
    if (request.content_length or 0) > settings.body_bytes:
        return 413
    body = bytearray()
    try:
        async with asyncio.timeout(settings.body_timeout_ns / NS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > settings.body_bytes:
                    return 413
    except TimeoutError:
        return 408
    return bytes(body)


def _refused(status: int) -> web.Response:
    """The rest of the body is not wanted: the connection ends."""
    response = web.Response(status=status)
    response.force_close()
    return response


async def _send(request: web.Request, answer: Answer, settings: HttpSettings) -> web.StreamResponse:
    """Large answers go out piece by piece, at the pace of the client, who has to take each in the time for a body."""
    response: web.StreamResponse
    if len(answer.pieces) > 1:
        response = web.StreamResponse(status=answer.status)
        response.content_length = sum(map(len, answer.pieces))
    else:
        response = web.Response(status=answer.status, body=answer.body)
    for name, value in answer.headers:
        response.headers.add(name, value)
    if answer.content_type is not None:
        response.headers["Content-Type"] = answer.content_type
    if not isinstance(response, web.Response):
        await response.prepare(request)
        try:
            for piece in answer.pieces:
                async with asyncio.timeout(settings.body_timeout_ns / NS):
                    await response.write(piece)
        except TimeoutError:
            log.info("%s does not read its answer: connection closed", request.remote)
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
    return response


def _schema(contract: Contract, name: str) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(body=contract.schema(name), content_type=XML)

    return handle


def _origin(request: web.Request) -> tuple[str, str]:
    found = request.transport.get_extra_info("sockname") if request.transport is not None else None
    local = (str(found[0]), int(found[1])) if found else ("localhost", 80)
    return origin(request.scheme, request.headers.get("Host"), local)
