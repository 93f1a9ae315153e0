"""Scopes, discovery mode and the counters of discovery."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.control.device import MAX_SCOPE_LENGTH, MAX_SCOPES, DeviceMemory, FixedScope
from nvr.model.device import DeviceState, DiscoveryMode
from nvr.model.errors import FormatError, LimitReached, StorageError, UnknownToken
from tests.support.device import StateStore

FIXED = ("onvif://www.onvif.org/Profile/G", "onvif://www.onvif.org/name/Gate")


def a_memory(store: StateStore) -> DeviceMemory:
    return DeviceMemory(store.state, store, FIXED)


async def test_scopes_survive_a_restart_in_their_order_and_without_doubles() -> None:
    store = StateStore()
    await a_memory(store).add_scopes(["urn:b", "urn:a", "urn:b", FIXED[0]])
    memory = a_memory(store)
    assert memory.scopes == (*FIXED, "urn:b", "urn:a")
    await memory.add_scopes(["urn:a", "urn:c"])
    assert a_memory(store).configurable_scopes == ("urn:b", "urn:a", "urn:c")


async def test_a_scope_that_the_settings_have_made_fixed_is_told_once() -> None:
    store = StateStore(DeviceState(scopes=("urn:a", FIXED[1])))
    memory = a_memory(store)
    assert memory.scopes == (*FIXED, "urn:a")
    with pytest.raises(FixedScope):
        await memory.remove_scopes(["urn:a", FIXED[1]])
    await memory.remove_scopes(["urn:a", "urn:a"])
    assert store.state.scopes == ()


@pytest.mark.parametrize(
    "scope", ["", "a b:c", "no-scheme", "urn:", "urn:a b", "urn:%zz", "urn:ä", "urn:a\n", "1urn:a", "urn:a<b"]
)
async def test_what_is_no_uri_is_no_scope(scope: str) -> None:
    store = StateStore()
    with pytest.raises(FormatError):
        await a_memory(store).set_scopes(["urn:good", scope])
    assert store.writes == 0


async def test_number_and_length_of_scopes_are_limited() -> None:
    memory = a_memory(StateStore())
    await memory.set_scopes([f"urn:{n}" for n in range(MAX_SCOPES)])
    with pytest.raises(LimitReached):
        await memory.add_scopes(["urn:more"])
    await memory.set_scopes(["urn:".ljust(MAX_SCOPE_LENGTH, "x")])
    with pytest.raises(FormatError):
        await memory.set_scopes(["urn:".ljust(MAX_SCOPE_LENGTH + 1, "x")])


@given(st.lists(st.text(max_size=12), max_size=5))
async def test_a_scope_that_is_taken_holds_no_white_space_and_only_ascii(scopes: list[str]) -> None:
    memory = a_memory(StateStore())
    try:
        await memory.set_scopes(scopes)
    except FormatError:
        assert memory.configurable_scopes == ()
    else:
        assert "".join(memory.configurable_scopes).isascii()
        assert " ".join(memory.configurable_scopes).split() == list(memory.configurable_scopes)


async def test_who_has_subscribed_is_told_of_changes_that_are_on_the_disk_and_of_no_others() -> None:
    store = StateStore()
    memory = a_memory(store)
    seen: list[DeviceState] = []
    memory.on_change(lambda: seen.append(store.state))
    await memory.add_scopes(["urn:a"])
    await memory.add_scopes(["urn:a"])
    await memory.set_discovery_mode(DiscoveryMode.NON_DISCOVERABLE)
    await memory.set_discovery_mode(DiscoveryMode.NON_DISCOVERABLE)
    assert [(s.scopes, s.discovery_mode) for s in seen] == [
        (("urn:a",), DiscoveryMode.DISCOVERABLE),
        (("urn:a",), DiscoveryMode.NON_DISCOVERABLE),
    ]
    store.failing = True
    with pytest.raises(StorageError):
        await memory.set_scopes(["urn:b"])
    assert memory.configurable_scopes == ("urn:a",)
    assert len(seen) == 2


async def test_two_clients_at_once_lose_no_scope() -> None:
    store = StateStore()
    memory = a_memory(store)
    await asyncio.gather(*(memory.add_scopes([f"urn:{n}"]) for n in range(10)))
    assert len(store.state.scopes) == 10


async def test_removing_what_is_not_there_removes_nothing() -> None:
    memory = a_memory(StateStore(DeviceState(scopes=("urn:a",))))
    with pytest.raises(UnknownToken):
        await memory.remove_scopes(["urn:a", "urn:b"])
    assert memory.configurable_scopes == ("urn:a",)


async def test_the_instance_rises_from_start_to_start_even_when_the_clock_goes_back() -> None:
    store = StateStore()
    assert await a_memory(store).begin(1000) == 1000
    assert await a_memory(store).begin(1000) == 1001
    assert await a_memory(store).begin(500) == 1002
    assert await a_memory(store).begin(2000) == 2000
    assert a_memory(store).instance == 2000


async def test_the_metadata_version_rises_when_something_else_is_announced_and_only_then() -> None:
    store = StateStore()
    memory = a_memory(store)
    first = await memory.announce("a")
    assert await memory.announce("a") == first
    assert await a_memory(store).announce("a") == first
    assert await a_memory(store).announce("b") == first + 1
    assert await a_memory(store).announce("a") == first + 2


async def test_forgetting_takes_back_what_clients_have_set_and_lets_the_counters_go_on() -> None:
    store = StateStore(DeviceState(DiscoveryMode.NON_DISCOVERABLE, ("urn:a",), 7, 9, "x"))
    await a_memory(store).forget()
    assert store.state == DeviceState(DiscoveryMode.DISCOVERABLE, (), 7, 9, "x")
