"""Many paced RTSP viewers in one process that costs little: counts bytes and packets, and how late each picture comes.

A picture is late by how much later its last packet comes than the RTP times say, reckoned from the earliest picture of
its viewer. Each viewer begins when the one before it has been answered.
"""

from __future__ import annotations

import re
import selectors
import socket
import struct
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NamedTuple

CLOCK_RATE = 90_000
SETTLE_S = 2.0
"""Between the first packet of the last viewer and the measurement."""
_FRAME = struct.Struct(">BBHxBxxI")
_MARKER = 0x80


class Seen(NamedTuple):
    """What all viewers have got in the time that was measured."""

    received: int
    packets: int
    late: list[float]
    """Seconds, of each picture, ascending."""

    def late_at(self, share: float) -> float:
        return self.late[min(len(self.late) - 1, int(len(self.late) * share))]


class _Viewer:
    """SETUP and PLAY of one video track over interleaved TCP, then RTP."""

    def __init__(self, port: int, path: str, control: str, range_header: str) -> None:
        self._uri = f"rtsp://127.0.0.1:{port}{path}"
        self._range = range_header
        self.socket = socket.create_connection(("127.0.0.1", port))
        self._rest = b""
        self._session = ""
        self.plays = False
        self.received = self.packets = 0
        self._first: int | None = None
        self.came: list[tuple[float, float]] = []
        """Of each picture when it was complete, and how much later than its RTP time that is."""
        self._ask("SETUP", f"{self._uri}/{control}", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1")

    def _ask(self, method: str, uri: str, *headers: str) -> None:
        lines = (f"{method} {uri} RTSP/1.0", f"CSeq: {2 if self._session else 1}", *headers, "", "")
        self.socket.sendall("\r\n".join(lines).encode())

    def read(self, now: float) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("a viewer has lost its server")
        self.received += len(data)
        self._rest += data
        while not self.plays and b"\r\n\r\n" in self._rest:
            head, _, self._rest = self._rest.partition(b"\r\n\r\n")
            self._answered(head.decode())
        if self.plays:
            self._count(now)

    def _answered(self, head: str) -> None:
        if " 200 " not in head.partition("\r\n")[0]:
            raise ConnectionError(f"a viewer was answered {head[:200]!r}")
        if self._session:
            self.plays = True
            return
        self._session = re.search(r"(?im)^Session: *([^;\r]+)", head)[1]  # type: ignore[index]
        self._ask("PLAY", self._uri, f"Session: {self._session}", f"Range: {self._range}")

    def _count(self, now: float) -> None:
        data, at = self._rest, 0
        end = len(data)
        while end - at >= 12:
            _, channel, size, second, rtp_time = _FRAME.unpack_from(data, at)
            if at + 4 + size > end:
                break
            at += 4 + size
            if channel:
                continue
            self.packets += 1
            if second & _MARKER:
                if self._first is None:
                    self._first = rtp_time
                self.came.append((now, now - ((rtp_time - self._first) & 0xFFFF_FFFF) / CLOCK_RATE))
        self._rest = data[at:]

    def late(self, since: float) -> list[float]:
        earliest = min((offset for _, offset in self.came), default=0.0)
        return [offset - earliest for came, offset in self.came if came >= since]


def watch(
    port: int, path: str, control: str, count: int, range_of: Callable[[int], str], seconds: float, pipe: Connection
) -> None:
    """The viewers' process: says when all are there, and sends `Seen` after so many seconds more."""
    viewers: list[_Viewer] = []
    selector = selectors.DefaultSelector()

    def read_until(ready: Callable[[], bool]) -> None:
        while not ready():
            for key, _ in selector.select(0.05):
                key.data.read(time.perf_counter())

    for n in range(count):
        viewer = _Viewer(port, path, control, range_of(n))
        viewers.append(viewer)
        selector.register(viewer.socket, selectors.EVENT_READ, viewer)
        read_until(lambda viewer=viewer: bool(viewer.packets))  # type: ignore[misc]
    settled = time.perf_counter() + SETTLE_S
    read_until(lambda: time.perf_counter() >= settled)
    pipe.send(None)
    since = time.perf_counter()
    received, packets = sum(v.received for v in viewers), sum(v.packets for v in viewers)
    read_until(lambda: time.perf_counter() >= since + seconds)
    late = sorted(late for viewer in viewers for late in viewer.late(since))
    pipe.send(
        Seen(sum(v.received for v in viewers) - received, sum(v.packets for v in viewers) - packets, late),
    )
