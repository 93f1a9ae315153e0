"""Discovery on the loopback interface: a client on the group and the recorder, on a port of their own."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from nvr.control.device import DeviceMemory
from nvr.discovery.endpoint import Discovery
from nvr.discovery.links import DiscoverySettings, Link, Served
from nvr.model.device import DiscoveryMode
from tests.support.device import ENDPOINT, StateStore, a_memory
from tests.support.discovery import Client, free_port, probe, resolve

LO = Link("lo", True, (ipaddress.ip_interface("127.0.0.1/8"),))
SERVED = [Served("http", "127.0.0.1", 8080)]
XADDR = "http://127.0.0.1:8080/onvif/device_service"


@dataclass
class House:
    port: int
    links: list[Link]
    store: StateStore
    memory: DeviceMemory
    discovery: Discovery


def a_house(port: int, store: StateStore | None = None, **settings: object) -> House:
    store = store or StateStore()
    memory, links = a_memory(store=store), [LO]
    chosen = DiscoverySettings(port=port, interfaces=("lo",), maximum_delay_ns=0, **settings)  # type: ignore[arg-type]
    discovery = Discovery(chosen, memory, ENDPOINT, lambda: links)
    return House(port, links, store, memory, discovery)


@asynccontextmanager
async def running(house: House) -> AsyncIterator[House]:
    await house.discovery.start(SERVED)
    try:
        yield house
    finally:
        await house.discovery.stop()


@pytest.mark.requirement("CO-41", "CO-42", "CO-44", "CO-46", "CO-72")
async def test_the_recorder_says_hello_is_found_resolved_and_says_bye() -> None:
    port = free_port()
    async with Client(port, group=True) as group, Client(port) as client:
        async with running(a_house(port)) as house:
            hello = await group.next("Hello")
            assert hello.peer == ("127.0.0.1", port)
            assert hello.text("d:Scopes").split() == list(house.memory.scopes)
            assert hello.text("d:XAddrs") == XADDR
            client.ask(probe())
            match = await client.next("ProbeMatches")
            assert match.text("wsa:Address") == hello.text("wsa:Address") == ENDPOINT.urn
            assert match.text("d:Scopes") == hello.text("d:Scopes")
            assert match.text("d:MetadataVersion") == hello.text("d:MetadataVersion")
            client.ask(resolve(ENDPOINT.urn, "urn:2"), group=False)
            assert (await client.next("ResolveMatches")).text("d:XAddrs") == XADDR
        bye = await group.next("Bye")
        assert bye.text("wsa:Address") == ENDPOINT.urn
        assert bye.sequence > match.sequence > hello.sequence


@pytest.mark.requirement("CO-45")
async def test_a_probe_that_does_not_match_and_bad_datagrams_are_not_answered() -> None:
    port = free_port()
    async with Client(port, group=True) as group, Client(port) as client, running(a_house(port)) as house:
        await group.next("Hello")
        for bad in (b"", b"\0", b"<a/>", probe()[:-5], probe("x:Y", more='xmlns:x="urn:x"', message_id="urn:0")):
            client.ask(bad)
        client.ask(probe(message_id="urn:last"))
        await client.next("ProbeMatches")  # datagrams of one socket keep their order on the loopback
        assert client.nothing()
        assert house.discovery.counts["answered"] == 1


@pytest.mark.requirement("CO-32", "CO-72")
async def test_the_discovery_mode_is_obeyed() -> None:
    port = free_port()
    async with Client(port, group=True) as group, Client(port) as client, running(a_house(port)) as house:
        await group.next("Hello")
        await house.memory.set_discovery_mode(DiscoveryMode.NON_DISCOVERABLE)
        client.ask(probe(message_id="urn:hidden"))
        await group.next("Bye")
        client.ask(probe(message_id="urn:hidden too"), group=False)
        await house.memory.set_discovery_mode(DiscoveryMode.DISCOVERABLE)
        await group.next("Hello")
        client.ask(probe(message_id="urn:seen"))
        match = await client.next("ProbeMatches")
        assert match.root.findtext(".//{*}RelatesTo") == "urn:seen"


async def test_a_recorder_that_is_not_discoverable_at_its_start_is_silent_until_it_is() -> None:
    port = free_port()
    store = StateStore()
    await a_memory(store=store).set_discovery_mode(DiscoveryMode.NON_DISCOVERABLE)
    async with Client(port, group=True) as group, running(a_house(port, store)) as house:
        await house.memory.add_scopes(["urn:a"])
        await house.memory.set_discovery_mode(DiscoveryMode.DISCOVERABLE)
        hello = await group.next("Hello")
        assert group.nothing()
        assert hello.text("d:Scopes").endswith(" urn:a")
    await asyncio.sleep(0)


@pytest.mark.requirement("CO-72")
async def test_a_change_of_scopes_is_told_by_a_hello_with_a_higher_version() -> None:
    port = free_port()
    async with Client(port, group=True) as group, running(a_house(port)) as house:
        first = await group.next("Hello")
        await house.memory.add_scopes(["onvif://www.onvif.org/location/gate"])
        second = await group.next("Hello")
        assert second.text("d:Scopes") == f"{first.text('d:Scopes')} onvif://www.onvif.org/location/gate"
        assert int(second.text("d:MetadataVersion")) == int(first.text("d:MetadataVersion")) + 1


@pytest.mark.requirement("CO-40")
async def test_over_a_restart_the_endpoint_stays_the_instance_rises_and_the_version_waits_for_a_change() -> None:
    port, store = free_port(), StateStore()
    hellos = []
    async with Client(port, group=True) as group:
        for _ in range(2):
            async with running(a_house(port, store)):
                hellos.append(await group.next("Hello"))
            await group.next("Bye")
    first, second = hellos
    assert first.text("wsa:Address") == second.text("wsa:Address")
    assert second.sequence[0] > first.sequence[0]
    assert second.text("d:MetadataVersion") == first.text("d:MetadataVersion")


@pytest.mark.requirement("CO-40")
async def test_the_endpoint_is_the_same_on_all_interfaces() -> None:
    house = a_house(free_port())
    house.links.append(Link("lo", True, (ipaddress.ip_interface("127.0.0.2/8"),)))
    async with Client(house.port, group=True) as group, running(house):
        hellos = [await group.next("Hello") for _ in house.links]
    assert {hello.peer[0] for hello in hellos} == {"127.0.0.1", "127.0.0.2"}
    assert {hello.text("wsa:Address") for hello in hellos} == {ENDPOINT.urn}


@pytest.mark.requirement("CO-72")
async def test_an_interface_that_goes_and_comes_with_another_address_is_followed() -> None:
    port = free_port()
    async with Client(port, group=True) as group, running(a_house(port)) as house:
        first = await group.next("Hello")
        house.links[0] = Link("lo", True, (*LO.addresses, ipaddress.ip_interface("127.0.0.2/8")))
        house.discovery._wake.set()
        second = await group.next("Hello")
        assert second.text("d:XAddrs") == first.text("d:XAddrs"), "HTTP listens where it did"
        house.links[0] = LO
        house.discovery._wake.set()
        await group.next("Hello")


async def test_senders_beyond_the_networks_of_the_interface_are_answered_only_when_the_settings_say_so() -> None:
    elsewhere = Link("lo", True, (ipaddress.ip_interface("127.0.0.1/32"),))
    for beyond in (False, True):
        port = free_port()
        house = a_house(port, beyond_link=beyond)
        house.links[0] = elsewhere
        async with Client(port, group=True) as group, running(house):
            await group.next("Hello")
            stranger = ("127.0.0.2", 9)
            (speaker,) = house.discovery._speakers.values()
            house.discovery._heard(speaker, probe(), stranger, multicast=False)
            assert house.discovery.counts["answered"] == int(beyond)
            assert house.discovery.counts["beyond link"] == int(not beyond)


async def test_an_interface_that_the_host_does_not_have_yet_is_told_and_spoken_on_when_it_comes() -> None:
    house, told = a_house(free_port()), Told("the host has no interface lo now")
    house.links.clear()
    log = logging.getLogger("nvr.discovery.endpoint")
    log.addHandler(told)
    async with Client(house.port, group=True) as group, running(house):
        async with asyncio.timeout(10):
            await told.event.wait()
        log.removeHandler(told)
        house.links.append(LO)
        house.discovery._wake.set()
        await group.next("Hello")


async def test_a_recorder_whose_configuration_cannot_be_written_is_found_all_the_same() -> None:
    port, store = free_port(), StateStore()
    store.failing = True
    async with Client(port, group=True) as group, running(a_house(port, store)):
        hello = await group.next("Hello")
        assert hello.sequence[0] > 1_700_000_000, "the instance is the time of the start"
        assert hello.text("d:MetadataVersion") == "1"


async def test_discovery_that_is_off_writes_and_sends_nothing() -> None:
    port, store = free_port(), StateStore()
    memory = a_memory(store=store)
    async with Client(port, group=True) as group:
        for settings in (DiscoverySettings(port=port), DiscoverySettings(enabled=False, interfaces=("lo",), port=port)):
            discovery = Discovery(settings, memory, ENDPOINT, lambda: [LO])
            async with running(House(port, [LO], store, memory, discovery)):
                await memory.set_discovery_mode(DiscoveryMode.DISCOVERABLE)
        assert (group.nothing(), store.writes) == (True, 0)


class Told(logging.Handler):
    """Knows when a text has been logged."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self.event = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self._text in record.getMessage():
            self.event.set()


async def test_an_address_that_cannot_be_had_is_tried_again_and_does_not_stop_the_recorder() -> None:
    nowhere = Link("lo", True, (ipaddress.ip_interface("192.0.2.222/24"),))
    house, told = a_house(free_port()), Told("tried again later")
    house.links[0] = nowhere
    log = logging.getLogger("nvr.discovery.endpoint")
    log.addHandler(told)
    async with Client(house.port, group=True) as group, running(house):
        async with asyncio.timeout(10):
            await told.event.wait()
        log.removeHandler(told)
        house.links[0] = LO
        house.discovery._wake.set()
        await group.next("Hello")
