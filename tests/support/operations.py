"""The operator's commands on recording control in memory, with footage as a test says."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from nvr.auth.credentials import Vault
from nvr.auth.users import User, UserStore
from nvr.model.receiver import Reception
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import Timeline
from nvr.model.tokens import ReceiverToken, RecordingToken, TrackKey
from nvr.operations.camera_list import CameraList
from nvr.operations.cameras import CameraOperations
from nvr.operations.dispatch import Operations
from nvr.operations.known_cameras import KnownCameras
from nvr.operations.spans import SpanOperations
from nvr.operations.upkeep import UpkeepOperations
from nvr.operations.users import UserOperations
from tests.support.control import Controlled

NOW = 1_800_000_000 * NS


class NoPersistence:
    def save_users(self, users: Sequence[User], /) -> None: ...

    def delete_users(self, names: Sequence[str], /) -> None: ...


def some_users() -> UserStore:
    return UserStore(Vault(bytes(32)), NoPersistence())


class ToldFootage:
    """Timelines by track; the index says the same."""

    def __init__(self) -> None:
        self.timelines: dict[TrackKey, Timeline] = {}
        self.awaited: set[TrackKey] = set()

    @property
    def index(self) -> Any:
        return self

    def files(self, key: TrackKey, from_ns: UtcNs, *, limit: int = 64) -> list[Any]:
        first_ns = self.timeline(key).earliest
        return [] if first_ns is None else [SimpleNamespace(start_ns=first_ns)]

    def timeline(self, key: TrackKey) -> Timeline:
        return self.timelines.get(key, Timeline())

    def awaits(self, key: TrackKey) -> bool:
        return key in self.awaited

    def begin_of(self, token: RecordingToken) -> UtcNs | None:
        found = [t.earliest for key, t in self.timelines.items() if key.recording == token and t.earliest is not None]
        return min(found, default=None)


class CommandHouse:
    """Everything that the commands touch, of a recorder that runs or does not."""

    def __init__(self, *, running: bool = True) -> None:
        self.room = Controlled()
        self.users = some_users()
        self.footage = ToldFootage()
        self.receptions: dict[str, Reception] = {}
        self.known = KnownCameras(self.room.control, self.room.receivers)
        self.cameras = CameraOperations(
            self.room.control, self.room.receivers, self.footage, running=running, utc=lambda: NOW, deletion_s=1.0
        )
        shown = CameraList(self.room.control, self.known, self.footage, running=running, reception=self._reception)
        self.operations = Operations(
            UpkeepOperations(running=running, health=lambda: ["volume a is missing"]),
            UserOperations(self.users),
            self.cameras,
            shown,
            SpanOperations(self.known, self.footage, lambda: NOW),
        )

    def _reception(self, token: ReceiverToken) -> Reception | None:
        return self.receptions.get(token)

    async def ask(self, command: str, **arguments: str) -> list[dict[str, str]]:
        """As over the wire."""
        return await self.operations.run(command, arguments)
