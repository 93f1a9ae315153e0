"""A device service with everything that stands behind it, for tests that look at single parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from nvr.auth.credentials import Vault
from nvr.auth.users import User, UserStore
from nvr.control.device import DeviceMemory
from nvr.control.host_rules import NetworkProtocol
from nvr.model.device import DeviceState
from nvr.model.errors import StorageError
from nvr.soap.device import DeviceService, DeviceSettings, fixed_scopes
from nvr.soap.device_system import System
from nvr.soap.host_network import HostNetwork
from nvr.soap.service import Service
from nvr.storage.changes import Save

ENDPOINT = UUID("8f3a0000-0000-4000-8000-000000000001")
PROTOCOLS = (NetworkProtocol("HTTP", True, (8080,)), NetworkProtocol("RTSP", True, (8554,)))


class StateStore:
    """Keeps the state of the device in memory; `failing` makes the next writes fail."""

    def __init__(self, state: DeviceState | None = None) -> None:
        self.state = state or DeviceState()
        self.writes = 0
        self.failing = False

    def apply(self, changes: Sequence[Save]) -> None:
        if self.failing:
            raise StorageError("the disk is gone")
        (change,) = changes
        assert isinstance(change.item, DeviceState)
        self.state = change.item
        self.writes += 1


class NoUsers:
    def save_users(self, users: Sequence[User], /) -> None: ...

    def delete_users(self, names: Sequence[str], /) -> None: ...


class ToldSystem:
    """Remembers what it was told to do."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def restart(self) -> None:
        self.told.append("restart")

    async def soft_default(self) -> None:
        self.told.append("soft default")

    async def hard_default(self, keep_user: str) -> None:
        self.told.append(f"hard default but {keep_user}")


def a_memory(settings: DeviceSettings | None = None, store: StateStore | None = None) -> DeviceMemory:
    store = store or StateStore()
    return DeviceMemory(store.state, store, fixed_scopes(settings or DeviceSettings()))


def a_device_service(
    services: Sequence[Service] = (),
    clock: Callable[[], int] = lambda: 0,
    *,
    settings: DeviceSettings | None = None,
    users: UserStore | None = None,
    memory: DeviceMemory | None = None,
    system: System | None = None,
    network: HostNetwork | None = None,
    protocols: Sequence[NetworkProtocol] = PROTOCOLS,
    discovery: bool = False,
    synchronised: bool = True,
) -> DeviceService:
    settings = settings or DeviceSettings()
    return DeviceService(
        settings,
        "8f3a",
        services,
        clock,
        users=users or UserStore(Vault(bytes(32)), NoUsers()),
        memory=memory or a_memory(settings),
        endpoint=ENDPOINT,
        system=system or ToldSystem(),
        protocols=lambda: protocols,
        discovery=discovery,
        network=network,
        synchronised=lambda: synchronised,
        time_zone=lambda: "CET-1CEST,M3.5.0,M10.5.0/3",
    )
