"""What the operator's commands do beside `nvr serve`: on the running daemon, or on the files of a stopped one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from nvr.auth.credentials import Vault
from nvr.auth.users import UserStore
from nvr.config import Settings
from nvr.control.receivers import Receivers
from nvr.control.recordings import RecordingControl
from nvr.control.state import ControlState, Engine
from nvr.data_directory import DataDirectory, InUse
from nvr.model.errors import OperatorError, StorageError
from nvr.model.receiver import Reception
from nvr.model.tokens import ReceiverToken, RecordingToken, TrackKey
from nvr.operations.camera_list import CameraList
from nvr.operations.cameras import CameraOperations
from nvr.operations.control_socket import Row, ask_daemon
from nvr.operations.dispatch import Operations
from nvr.operations.footage import Footage, FootageAtRest
from nvr.operations.known_cameras import KnownCameras
from nvr.operations.spans import SpanOperations
from nvr.operations.upkeep import UpkeepOperations
from nvr.operations.users import UserOperations
from nvr.storage.configuration import ConfigurationStore
from nvr.storage.disk import Disk
from nvr.storage.index import SqlFootageIndex
from nvr.storage.recovery import rebuild_index
from nvr.storage.volume import Volume, VolumeRegistry


class _StoppedEngine:
    """Stands for ingest while no daemon runs."""

    def apply(self, recordings: object, jobs: object, receivers: object) -> None:
        """Whoever starts next finds it in the configuration."""


class _DeletedLater:
    """Stands for storage while no daemon runs: bytes are deleted by a writer, which the next start has."""

    async def delete_track(self, key: TrackKey) -> None:
        raise StorageError(f"footage of {key} is deleted when the recorder starts")

    async def delete_recording(self, token: RecordingToken) -> None:
        raise StorageError(f"footage of {token} is deleted when the recorder starts")


class Recorder:
    """The recorder of a data directory, for one command: the daemon while it runs, or else the files, which are held
    until the command has ended. A context manager."""

    def __init__(self, data: Path, settings: Settings) -> None:
        self._data = data
        self._settings = settings
        self._stack = ExitStack()
        self._stopped: Callable[[str, Mapping[str, str]], list[Row]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def ask(self, command: str, arguments: Mapping[str, str]) -> list[Row]:
        """Raises NvrError."""
        if self._stopped is None:
            answer = ask_daemon(self._data, command, arguments) if self._data.is_dir() else None
            if answer is not None:
                return answer
            self._stopped = self._take_files()
        return self._stopped(command, arguments)

    def _take_files(self) -> Callable[[str, Mapping[str, str]], list[Row]]:
        try:
            directory = self._stack.enter_context(DataDirectory(self._data))
        except InUse as e:
            raise OperatorError(f"the daemon of {self._data} is starting or stopping; try again in a moment") from e
        runner = self._stack.enter_context(asyncio.Runner())
        operations = runner.run(_stopped(self._stack, directory, self._settings))
        return lambda command, arguments: runner.run(operations.run(command, arguments))


async def _stopped(stack: ExitStack, directory: DataDirectory, settings: Settings) -> Operations:
    vault = await asyncio.to_thread(Vault.load_or_create, directory.path)
    roots = [v.root for v in settings.storage.volumes]
    configuration = await asyncio.to_thread(ConfigurationStore.open, directory.configuration, vault, roots)
    stack.callback(configuration.close)
    stored = await asyncio.to_thread(configuration.load)
    users = UserStore(vault, configuration, stored.users, passwords=settings.auth.passwords)
    engine: Engine = _StoppedEngine()  # type: ignore[assignment]  # nobody asks it for states
    state = await ControlState.load(configuration, engine, settings.control)
    index = await asyncio.to_thread(SqlFootageIndex.open, directory.index)
    stack.callback(index.shut)
    # Footage of what is removed goes when the recorder starts, which the answer says.
    control_log = logging.getLogger("nvr.control")
    stack.callback(control_log.setLevel, control_log.level)
    control_log.setLevel(logging.CRITICAL)
    control = RecordingControl(state, _DeletedLater())
    at_rest = FootageAtRest(index, state.now.recording)
    return operations_of(users, control, Receivers(state), at_rest, UpkeepOperations(running=False), running=False)


def operations_of(
    users: UserStore,
    control: RecordingControl,
    receivers: Receivers,
    footage: Footage,
    upkeep: UpkeepOperations,
    *,
    running: bool = True,
    reception: Callable[[ReceiverToken], Reception | None] = lambda token: None,
) -> Operations:
    """All commands that there are."""
    known = KnownCameras(control, receivers)
    return Operations(
        upkeep,
        UserOperations(users),
        CameraOperations(control, receivers, footage, running=running),
        CameraList(control, known, footage, running=running, reception=reception),
        SpanOperations(known, footage),
    )


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What `nvr catalog rebuild` has done: files in the index now, and where the damaged index is kept, if it was."""

    files: int
    kept: Path | None


def rebuild_catalog(data: Path, settings: Settings, progress: Callable[[int, Path], None]) -> Rebuilt:
    """`nvr catalog rebuild`: the index of footage made again from the track files. Raises NvrError.

    `progress` is told the number of files read so far and the last of them.
    """
    if not data.is_dir():
        raise OperatorError(f"there is no data directory {data}")
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(DataDirectory(data))
        except InUse as e:
            raise OperatorError(f"the recorder of {data} runs: stop it first") from e
        registry = VolumeRegistry(settings.storage.registry, Disk())
        volumes: list[Volume] = []
        for volume_settings in settings.storage.volumes:
            volume = Volume(volume_settings, registry, Disk())
            volume.take(time.time_ns())  # a full or read-only volume can be indexed too
            stack.callback(volume.close)
            volumes.append(volume)
        for root, volume_id in registry.others({v.id for v in volumes}).items():
            raise OperatorError(
                f"volume {volume_id}, last at {root}, is not among the configured volumes, and its footage would be "
                f"left out: give the configuration by --config, or remove its line from {settings.storage.registry}"
            )
        index, kept = SqlFootageIndex.open_for_rebuild(directory.index)
        stack.callback(index.shut)
        return Rebuilt(rebuild_index(volumes, index, progress), kept)
