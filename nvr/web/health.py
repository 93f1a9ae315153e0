"""GET /healthz: whether every part of the daemon does its work, for probes and operators."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
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

    def warnings(self) -> Sequence[str]:
        """What is wrong while the part still does its work."""

    def notes(self) -> Sequence[str]:
        """What an observer may want to know while nothing is wrong, such as a check that is under way."""


def health_route(parts: Sequence[Part], observer: Callable[[web.Request], bool]) -> web.RouteDef:
    """503 and the problems by part, else 200: {"status": "ok"}, or "degraded" with the warnings by part. With either,
    what the parts note.

    The reasons name directories: who is no `observer` is told the status alone.
    """

    async def handle(request: web.Request) -> web.Response:
        failing = _told((part.name, part.problems) for part in parts)
        warned = _told((part.name, part.warnings) for part in parts) if not failing else {}
        answer: dict[str, object] = {"status": "failing" if failing else "degraded" if warned else "ok"}
        if observer(request):
            notes = _told((part.name, part.notes) for part in parts)
            answer |= {"problems": failing} if failing else {"warnings": warned} if warned else {}
            answer |= {"notes": notes} if notes else {}
        return web.json_response(answer, status=503 if failing else 200, headers=_FRESH)

    return web.get(PATH, handle)


def _told(parts: Iterable[tuple[str, Callable[[], Sequence[str]]]]) -> dict[str, list[str]]:
    """What the parts have to say, by name; those that are well are left out."""
    found: dict[str, list[str]] = {}
    for name, tell in parts:
        try:
            sentences = list(tell())
        except Exception:  # a part that cannot even tell is not ready, and the others still are told
            log.exception("%s cannot tell its state", name)
            sentences = ["its state cannot be told; the log says why"]
        if sentences:
            found[name] = sentences
    return found


_FRESH = {"Cache-Control": "no-store"}
