"""What the operator's commands do beside `nvr serve`: on the running daemon, or on the files of a stopped one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from nvr.auth.credentials import Vault
from nvr.auth.users import UserStore
from nvr.config import Settings
from nvr.control.receivers import Receivers
from nvr.control.recordings import RecordingControl
from nvr.control.state import ControlState, Engine
from nvr.data_directory import DataDirectory, InUse
from nvr.model.errors import OperatorError
from nvr.operations import Operations, Row, ask_daemon
from nvr.storage.configuration import ConfigurationStore
from nvr.storage.disk import Disk
from nvr.storage.engine import StorageEngine
from nvr.storage.index import SqlFootageIndex
from nvr.storage.recovery import rebuild_index
from nvr.storage.volume import Volume, VolumeRegistry


class _StoppedEngine:
    """Stands for ingest while no daemon runs."""

    def apply(self, recordings: object, jobs: object, receivers: object) -> None:
        """Whoever starts next finds it in the configuration."""


def run_operation(data: Path, settings: Settings, command: str, arguments: dict[str, str]) -> list[Row]:
    """An operator's command, on the running daemon or on the files of a stopped one. Raises NvrError."""
    if data.is_dir():
        answer = ask_daemon(data, command, arguments)
        if answer is not None:
            return answer
    try:
        with DataDirectory(data) as directory:
            return asyncio.run(_run_stopped(directory, settings, command, arguments))
    except InUse as e:
        raise OperatorError(f"the daemon of {data} is starting or stopping; try again in a moment") from e


async def _run_stopped(
    directory: DataDirectory, settings: Settings, command: str, arguments: dict[str, str]
) -> list[Row]:
    with ExitStack() as stack:
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
        control = RecordingControl(state, StorageEngine(settings.storage, index))
        return await Operations(users, control, Receivers(state), running=False).run(command, arguments)


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
