"""Notices that a peer is gone which says nothing (RFC 9293 3.8.4)."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final

log = logging.getLogger(__name__)

IDLE_S: Final = 15
"""Silence after which the peer's system is asked whether it is there."""
INTERVAL_S: Final = 5
PROBES: Final = 3


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Ends the connection within half a minute when the peer's host or network is gone while nothing is on its way:
    a client that waits for events would otherwise hold its pull point for as long as it has asked to wait.

    Only who answers nothing at all is lost: a peer that lives and reads slowly answers probes.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    except OSError as e:
        log.debug("a connection goes without keep-alive: %s", e)  # it has been reset already
