"""GET /healthz: whether every part of the daemon does its work, for probes and operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from aiohttp import web

PATH = "/healthz"


class Part(Protocol):
    """A part of the daemon that can fail on its own, such as a volume or the RTSP server."""

    @property
    def name(self) -> str:
        """Short and stable, for dashboards: `storage`, `rtsp`."""

    def problems(self) -> Sequence[str]:
        """Why the part is not ready, one sentence each; empty when it is. Must not block."""


def health_route(parts: Sequence[Part]) -> web.RouteDef:
    """200 and {"status": "ok"}, or 503 and the problems by part."""

    async def handle(request: web.Request) -> web.Response:
        problems = {part.name: list(part.problems()) for part in parts}
        failing = {name: found for name, found in problems.items() if found}
        if failing:
            return web.json_response({"status": "failing", "problems": failing}, status=503, headers=_FRESH)
        return web.json_response({"status": "ok"}, headers=_FRESH)

    return web.get(PATH, handle)


_FRESH = {"Cache-Control": "no-store"}
