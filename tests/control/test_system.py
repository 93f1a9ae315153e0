"""Factory default: what goes, what stays."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from nvr.auth.access import Role
from nvr.auth.credentials import Vault
from nvr.auth.users import UserDraft, UserStore
from nvr.control.system import DeviceSystem
from nvr.model.device import DeviceState, DiscoveryMode
from nvr.model.errors import Refused, StorageError
from nvr.model.job import RecordingJobConfiguration, RecordingJobMode, RecordingJobSource
from nvr.model.receiver import ReceiverConfiguration
from nvr.model.recording import RecordingConfiguration, RecordingSourceInformation
from nvr.storage.changes import StoredConfiguration
from tests.support.control import Controlled, FakeStore
from tests.support.device import NoUsers, StateStore, a_memory


@dataclass
class House:
    """A recorder with two recordings, a job that records, a receiver of its own, three accounts and a scope."""

    controlled: Controlled = field(default_factory=lambda: Controlled(FakeStore(StoredConfiguration())))
    state: StateStore = field(
        default_factory=lambda: StateStore(DeviceState(DiscoveryMode.NON_DISCOVERABLE, ("urn:a",), 7, 9, "x"))
    )
    users: UserStore = field(default_factory=lambda: UserStore(Vault(bytes(32)), NoUsers()))
    restarts: list[str] = field(default_factory=list)

    async def fill(self) -> None:
        control = self.controlled.control
        source = RecordingSourceInformation(name="Gate")
        for _ in range(2):
            recording = await control.create_recording(RecordingConfiguration(source))
        wanted = RecordingJobSource(None, auto_create_receiver=True)
        await control.create_job(RecordingJobConfiguration(recording.token, RecordingJobMode.ACTIVE, 1, (wanted,)))
        await self.controlled.receivers.create(ReceiverConfiguration(media_uri="rtsp://camera.example/"))
        roles = zip(("anna", "otto", "ute"), Role, strict=True)
        await self.users.add_all([UserDraft(name, role, "x") for name, role in roles])

    def system(self, *, allowed: bool = True) -> DeviceSystem:
        return DeviceSystem(
            a_memory(store=self.state),
            self.controlled.control,
            self.controlled.receivers,
            self.users,
            lambda: self.restarts.append("restart"),
            hard_default_allowed=allowed,
        )


async def a_house() -> House:
    house = House()
    await house.fill()
    return house


async def test_a_soft_default_forgets_what_the_device_was_told_of_itself_and_keeps_all_else() -> None:
    house = await a_house()
    before = house.controlled.everything()
    await house.system().soft_default()
    assert house.state.state == DeviceState(DiscoveryMode.DISCOVERABLE, (), 7, 9, "x")
    assert house.controlled.everything() == before
    assert len(house.users) == 3
    assert house.restarts == []


async def test_a_hard_default_is_refused_unless_the_settings_allow_it() -> None:
    house = await a_house()
    before = house.controlled.everything()
    with pytest.raises(Refused, match="do not allow it"):
        await house.system(allowed=False).hard_default("anna")
    assert house.controlled.everything() == before
    assert (len(house.users), house.state.writes, house.restarts) == (3, 0, [])


async def test_a_hard_default_leaves_nothing_but_the_account_that_asked_for_it_and_restarts() -> None:
    house = await a_house()
    recordings = {r.token for r in house.controlled.control.recordings()}
    await house.system().hard_default("anna")
    control = house.controlled.control
    assert (control.recordings(), control.jobs(), house.controlled.receivers.receivers()) == ((), (), ())
    assert set(house.controlled.footage.deleted) == recordings
    assert house.controlled.engine.recordings == house.controlled.engine.jobs == ()
    assert [u.name for u in house.users.users()] == ["anna"]
    assert house.state.state.scopes == ()
    assert house.restarts == ["restart"]


async def test_a_hard_default_that_the_disk_stops_can_be_asked_for_again() -> None:
    house = await a_house()
    house.controlled.store.failing = True
    with pytest.raises(StorageError):
        await house.system().hard_default("anna")
    assert len(house.users) == 3, "who could ask again is still there"
    assert house.restarts == []
    house.controlled.store.failing = False
    await house.system().hard_default("anna")
    assert house.controlled.control.recordings() == ()


async def test_footage_that_cannot_be_deleted_now_stays_noted_for_the_next_start() -> None:
    house = await a_house()
    house.controlled.footage.failing = True
    await house.system().hard_default("anna")
    assert len(house.controlled.state.now.deletions) == 2
    assert house.restarts == ["restart"]
