"""What the operator's commands do, and the socket over which they reach a running daemon.

A command opens DATA/control.sock (mode 0600) and sends one JSON object on one line; the daemon answers with one:
`{"ok": [{...}, ...]}` or `{"error": "..."}`. Where no daemon listens, the command takes the data directory's exclusive
lock and does the same work on the files, through the same objects.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from nvr.auth.users import Role, UserStore
from nvr.control.receivers import Receivers
from nvr.control.recordings import RecordingControl
from nvr.ingest.offer import without_credentials
from nvr.model.errors import BadConfiguration, FormatError, NvrError, OperatorError, Refused, UnknownToken
from nvr.model.job import RecordingJobConfiguration, RecordingJobMode, RecordingJobSource
from nvr.model.receiver import Receiver, ReceiverConfiguration, StreamSetup, TransportProtocol
from nvr.model.recording import RecordingConfiguration, RecordingSourceInformation
from nvr.model.time import UtcNs, format_iso
from nvr.model.tokens import JobToken, ReceiverToken, RecordingToken
from nvr.soap.values import any_uri
from nvr.storage.findings import Damage, Kind, Repair
from nvr.storage.mending import Mended

log = logging.getLogger(__name__)

SOCKET_NAME = "control.sock"
_LINE_LIMIT = 64 << 10
_TIMEOUT_S = 30.0
"""For one command, from its first byte to the last of its answer."""
STOP_S = 2.0
"""For the commands that run when the daemon stops."""


_TRANSPORTS = {"tcp": TransportProtocol.RTSP, "udp": TransportProtocol.UDP, "http": TransportProtocol.HTTP}
"""What operators call them."""
Row: TypeAlias = dict[str, str]
"""One line of what a command tells, by column."""


@dataclass(frozen=True, slots=True)
class CameraAdded:
    recording: RecordingToken
    job: JobToken
    receiver: ReceiverToken
    warning: str = ""


class Operations:
    """The operator's commands on the daemon's objects. `running`: there is an engine that knows the states of jobs."""

    def __init__(
        self,
        users: UserStore,
        control: RecordingControl,
        receivers: Receivers,
        *,
        running: bool = True,
        remark: Callable[[ReceiverToken], str | None] = lambda token: None,
        mend: Callable[[Repair], Awaitable[Mended]] | None = None,
        row_waits: Callable[[str], str | None] = lambda file_id: None,
        health: Callable[[], Iterable[str]] = tuple,
        volumes: Callable[[], Iterable[tuple[Path, str | None]]] = tuple,
        oldest: Callable[[RecordingToken], UtcNs | None] = lambda token: None,
        confirm_clock: Callable[[], bool] | None = None,
    ) -> None:
        """`remark` says where the media of a receiver do not come as they were asked for; `mend` mends a track file;
        `row_waits` says why the index of footage does not have the row of a file yet, None where it has it;
        `health` tells what is wrong with the storage; `volumes` gives root and id of those in use; `oldest` the
        beginning of the footage of a recording; `confirm_clock` ends a doubt about the time, and says whether there was
        one."""
        self._confirm_clock = confirm_clock
        self._health = health
        self._volumes = volumes
        self._oldest = oldest
        self._remark = remark
        self._mend = mend
        self._row_waits = row_waits
        self._users = users
        self._control = control
        self._receivers = receivers
        self._running = running

    async def add_user(self, name: str, role: str, password: str) -> None:
        """Raises Refused when the name is taken or malformed, or the password is refused."""
        await self._users.add(name, Role(role), password)

    async def add_camera(self, name: str, uri: str, transport: str = "tcp") -> CameraAdded:
        """Recording, auto-created receiver and active job in one step; nothing is left behind when it fails."""
        if transport not in _TRANSPORTS:
            raise BadConfiguration(f"Transport: {transport!r} is none of {', '.join(_TRANSPORTS)}")
        if not name.strip():
            raise BadConfiguration("Name: is empty")
        if not uri:  # to a receiver it means "not configured yet", and nothing would ever be recorded
            raise BadConfiguration("MediaUri: is empty")
        if uri.lower().startswith(("http://", "https://")) and transport != "http":
            raise BadConfiguration(
                f"{without_credentials(uri)} is no rtsp:// or rtsps:// URI; http:// needs --transport http"
            )
        # SourceId and MediaUri are xs:anyURI: what is none would spoil every later answer that holds it.
        try:
            uri = any_uri().parse(uri)
        except FormatError as e:
            raise BadConfiguration("MediaUri: is no URI; in a user or password, @ is %40, : is %3A, % is %25") from e
        created = await self._control.create_recording(
            RecordingConfiguration(RecordingSourceInformation(quote(name, safe=""), name), content=name)
        )
        recording = created.token
        try:
            job = await self._control.create_job(
                RecordingJobConfiguration(
                    recording,
                    RecordingJobMode.ACTIVE,
                    priority=1,
                    sources=(RecordingJobSource(None, auto_create_receiver=True),),
                )
            )
            source = job.configuration.sources[0].source
            assert source is not None, "create_job fills the token of an auto-created receiver"
            receiver = ReceiverToken(source.token)
            await self._receivers.configure(
                receiver,
                ReceiverConfiguration(media_uri=uri, stream_setup=StreamSetup(protocol=_TRANSPORTS[transport])),
            )
        except NvrError:  # a refusal, or a disk that failed in between
            await self._control.delete_recording(recording)
            raise
        twins = [r.token for r in self._control.recordings() if r.configuration.source.name == name]
        warning = f"{len(twins)} recordings are named {name!r} now" if len(twins) > 1 else ""
        return CameraAdded(recording, job.token, receiver, warning)

    async def confirm_clock(self) -> list[Row]:
        """The operator says that the time of day is right. Raises Refused while no recorder runs."""
        if self._confirm_clock is None:
            raise Refused("the recorder does not run: it judges the time of day when it starts")
        return [{"doubted": "yes" if self._confirm_clock() else "no"}]

    async def list_cameras(self) -> list[Row]:
        """One row a recording job: name of the source, state with the first reason, tokens, beginning of the footage,
        and the URI without its credentials. While no recorder runs, no job that shall record does."""
        rows = []
        for job in self._control.jobs():
            recording = self._control.recording(job.configuration.recording)
            row = {"name": recording.configuration.source.name, "state": job.configuration.mode.value, "why": ""}
            if not self._running and job.configuration.mode is RecordingJobMode.ACTIVE:
                row |= {"state": "Stopped", "why": "the recorder is not running"}
            elif self._running:
                state = self._control.job_state(job.token)
                told = [t.error for s in state.sources for t in s.tracks if t.error]
                told += [why for s in state.sources if (why := self._remark(ReceiverToken(s.source.token)))]
                row |= {"state": state.state.value, "why": told[0] if told else ""}
            receivers = [r for s in job.configuration.sources if s.source and (r := self._receiver(s.source.token))]
            oldest = self._oldest(recording.token)
            rows.append(
                row
                | {"recording": recording.token, "job": job.token, "receiver": " ".join(r.token for r in receivers)}
                | {"oldest": "" if oldest is None else format_iso(oldest, 0)}
                | {"uri": " ".join(without_credentials(r.configuration.media_uri) for r in receivers)}
            )
        return rows

    def _receiver(self, token: str) -> Receiver | None:
        """None for what a job takes from elsewhere, such as another recorder's profile."""
        try:
            return self._receivers.receiver(ReceiverToken(token))
        except UnknownToken:
            return None

    async def health(self) -> list[Row]:
        """What is wrong, one row each; none while all is well."""
        if not self._running:
            return [{"what": "the recorder is not running: nothing is recorded"}]
        return [{"what": text} for text in self._health()]

    async def volumes(self) -> list[Row]:
        """The volumes in use."""
        return [{"root": str(root), "id": volume_id or ""} for root, volume_id in self._volumes()]

    async def mend(self, kind: str, volume: str, path: str, file: str, damage: str) -> list[Row]:
        """Mends what `nvr check` has found. `damage`: offset and length of each place, as a JSON list of pairs."""
        if self._mend is None:
            raise OperatorError("nothing can be mended: no storage is running")
        try:
            places = tuple(Damage(file, int(offset), int(length)) for offset, length in json.loads(damage))
            repair = Repair(Kind(kind), volume, path, file, places)
        except (ValueError, TypeError) as e:
            raise OperatorError(f"the daemon does not know such a repair ({e}); is it of another version?") from e
        mended = await self._mend(repair)
        return [{"done": mended.text, "remains": "yes" if mended.remains else ""}]

    async def waits(self, file: str) -> list[Row]:
        """Whether the row of a file waits to be written to the index of footage: one row with the cause, or none."""
        why = self._row_waits(file)
        return [] if why is None else [{"why": why}]

    async def run(self, command: str, arguments: Mapping[str, str]) -> list[Row]:
        """One command of the wire protocol. Raises NvrError."""
        handlers: dict[str, Callable[..., Awaitable[CameraAdded | list[Row] | None]]] = {
            "user add": self.add_user,
            "camera add": self.add_camera,
            "camera list": self.list_cameras,
            "clock confirm": self.confirm_clock,
            "health": self.health,
            "volumes": self.volumes,
            "check mend": self.mend,
            "check waits": self.waits,
        }
        handler = handlers.get(command)
        if handler is None:
            raise OperatorError(f"the daemon knows no command {command!r}; is it of another version?")
        result = await handler(**arguments)
        if isinstance(result, CameraAdded):
            row = {"recording": result.recording, "job": result.job, "receiver": result.receiver}
            return [row | ({"warning": result.warning} if result.warning else {})]
        return result or []


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

    def __init__(self, data: Path, operations: Operations) -> None:
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
                request = json.loads(await reader.readline())
                answer: dict[str, Any]
                try:
                    answer = {"ok": await self._operations.run(request["command"], request["arguments"])}
                except NvrError as e:
                    answer = {"error": str(e)}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError, LookupError, TypeError, TimeoutError) as e:
            log.warning("control socket: request dropped: %s", e)
        finally:
            writer.close()


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
