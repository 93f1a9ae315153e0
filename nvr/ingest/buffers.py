"""Receive buffers of sockets, and what the kernel's limit lets of them. Linux."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

_RMEM_MAX = Path("/proc/sys/net/core/rmem_max")
_SO_RCVBUFFORCE: Final = 33
"""Sets the buffer beyond the limit, where the process has CAP_NET_ADMIN."""


def usable_receive_buffer(tcp: int, udp: int) -> int | None:
    """The SO_RCVBUF to set for TCP, or None where the kernel would cut it: its own sizing then does better than a fixed
    small buffer. Warns once, at start, where TCP or UDP cannot have what is wanted. Blocking."""
    try:
        limit = int(_RMEM_MAX.read_text(encoding="ascii"))
    except (OSError, ValueError) as e:
        logger.info("%s cannot be read (%s); receive buffers are left to the kernel", _RMEM_MAX, e)
        return None
    wanted = max(tcp, udp)
    if limit < wanted and not (limit >= tcp and _may_force(udp)):
        logger.warning(
            "net.core.rmem_max is %d, receive buffers of %d bytes are wanted: run `sysctl -w net.core.rmem_max=%d` "
            "and put it into /etc/sysctl.d; until then buffers for TCP are left to the kernel, and sockets for UDP are "
            "read more often, which costs CPU, and may still lose packets when the machine is busy",
            limit,
            wanted,
            wanted,
        )
    return tcp if limit >= tcp else None


def grant_receive_buffer(sock: socket.socket, wanted: int) -> int:
    """Asks for a receive buffer, beyond the limit where that is allowed. Returns what it has become, in bytes as asked
    for (the kernel doubles it for its own bookkeeping)."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, wanted)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def _may_force(wanted: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return grant_receive_buffer(sock, wanted) >= wanted
