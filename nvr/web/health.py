"""GET /healthz: whether every part of the daemon does its work, for probes and operators."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from aiohttp import web

PATH = "/healthz"

log = logging.getLogger(__name__)


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
        problems = {part.name: _problems(part) for part in parts}
        failing = {name: found for name, found in problems.items() if found}
        if failing:
            return web.json_response({"status": "failing", "problems": failing}, status=503, headers=_FRESH)
        return web.json_response({"status": "ok"}, headers=_FRESH)

    return web.get(PATH, handle)


def _problems(part: Part) -> list[str]:
    try:
        return list(part.problems())
    except Exception:  # a part that cannot even tell is not ready, and the others still are told
        log.exception("%s cannot tell its state", part.name)
        return ["its state cannot be told; the log says why"]


_FRESH = {"Cache-Control": "no-store"}
