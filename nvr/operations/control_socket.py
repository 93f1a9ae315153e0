"""The socket over which the operator's commands reach a running daemon, both sides of it.

A command opens DATA/control.sock (mode 0600) and sends one JSON object on one line; the daemon answers with one:
`{"ok": [{...}, ...]}` or `{"error": "..."}`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from nvr.model.errors import NvrError, OperatorError, Refused

log = logging.getLogger(__name__)

SOCKET_NAME = "control.sock"
_LINE_LIMIT = 64 << 10
_TIMEOUT_S = 30.0
"""For one command, from its first byte to the last of its answer."""
STOP_S = 2.0
"""For the commands that run when the daemon stops."""

Row: TypeAlias = dict[str, str]
"""One line of what a command tells, by column."""


class Commands(Protocol):
    """What the commands do (`dispatch.py`)."""

    async def run(self, command: str, arguments: Mapping[str, str]) -> list[Row]:
        """Raises NvrError."""


@contextmanager
def _short_path(data: Path) -> Iterator[str]:
    """A path of the socket that fits sockaddr_un (108 bytes) however deep the data directory lies."""
    directory = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{SOCKET_NAME}"
    finally:
        os.close(directory)


class ControlSocket:
    """The daemon's side of the control socket."""

    def __init__(self, data: Path, operations: Commands) -> None:
        self._data = data
        self._operations = operations
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        path = self._data / SOCKET_NAME
        with suppress(FileNotFoundError):
            path.unlink()  # the directory's lock is held: nobody listens here any more
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            with _short_path(self._data) as short:
                listener.bind(short)
        finally:
            os.umask(mask)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        self._server = await asyncio.start_unix_server(self._accepted, sock=listener, limit=_LINE_LIMIT)

    async def stop(self) -> None:
        """Takes no more commands, and lets those that run end within `STOP_S`."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with suppress(FileNotFoundError):
                (self._data / SOCKET_NAME).unlink()
        if self._serving:
            _, late = await asyncio.wait(self._serving, timeout=STOP_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                command, arguments = _parsed(await reader.readline())
                answer: dict[str, Any]
                try:
                    answer = {"ok": await self._operations.run(command, arguments)}
                except NvrError as e:
                    answer = {"error": str(e)}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError, LookupError, TypeError, TimeoutError) as e:
            log.warning("control socket: request dropped: %s", e)
        finally:
            writer.close()


def _parsed(line: bytes) -> tuple[str, dict[str, str]]:
    """Command and arguments, all of them text. Raises ValueError, LookupError, TypeError where it is no request."""
    request = json.loads(line)
    command, arguments = request["command"], dict(request["arguments"])
    if not all(isinstance(text, str) for text in (command, *arguments.values())):
        raise ValueError("command and arguments are not all text")
    return command, arguments


def ask_daemon(data: Path, command: str, arguments: Mapping[str, str]) -> list[Row] | None:
    """Sends a command to the daemon of this data directory. None: no daemon listens.

    Raises Refused for what the daemon does not do, OperatorError where it cannot be asked.
    """
    with _connected(data) as connection:
        if connection is None:
            return None
        try:
            received = _exchanged(connection, json.dumps({"command": command, "arguments": dict(arguments)}).encode())
        except OSError as e:
            raise OperatorError(f"the daemon does not answer at its control socket ({e}); see its log") from e
    if not received:
        raise OperatorError("the daemon closed its control socket without an answer; see its log")
    answer = json.loads(received)
    if "error" in answer:
        raise Refused(answer["error"])
    return [{str(k): str(v) for k, v in row.items()} for row in answer["ok"]]


def _exchanged(connection: socket.socket, line: bytes) -> bytes:
    """The line that comes back; empty when the other side closes before its end. Raises OSError."""
    connection.settimeout(_TIMEOUT_S)
    connection.sendall(line + b"\n")
    received = bytearray()
    while not received.endswith(b"\n"):
        piece = connection.recv(_LINE_LIMIT)
        if not piece:
            return b""
        received += piece
    return bytes(received)


@contextmanager
def _connected(data: Path) -> Iterator[socket.socket | None]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            with _short_path(data) as short:
                connection.connect(short)
        except (FileNotFoundError, ConnectionRefusedError):
            yield None
        except PermissionError as e:
            raise OperatorError(f"{data / SOCKET_NAME} belongs to another user; run the command as that user") from e
        else:
            yield connection
