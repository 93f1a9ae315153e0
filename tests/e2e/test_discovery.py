"""A real daemon on the loopback interface, found by a client that hears and asks the group on a port of the test."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import requests

from tests.e2e.test_restart import device_of
from tests.support.daemon import DaemonProcess
from tests.support.discovery import Client, free_port, probe
from tests.support.soap_http import SOAP_TYPE, envelope

pytestmark = pytest.mark.timeout(120)


PROFILE_G = "onvif://www.onvif.org/Profile/G"


def config(port: int) -> str:
    return f'[discovery]\ninterfaces = ["lo"]\nport = {port}\nmaximum_delay = "0s"\n'


def tells_the_time(address: str) -> bool:
    body, headers = envelope("<tds:GetSystemDateAndTime/>"), {"Content-Type": SOAP_TYPE}
    return b"UTCDateTime" in requests.post(address, body, headers=headers, timeout=20).content


@pytest.mark.requirement("CO-32", "CO-40", "CO-42", "CO-44", "CO-72", "CO-73", "PG-03", "PG-17")
async def test_a_daemon_is_found_at_addresses_that_answer_also_after_a_restart_that_it_was_told_to_make(
    tmp_path: Path,
) -> None:
    port = free_port()
    async with Client(port, group=True) as group, Client(port) as client:
        daemon = await asyncio.to_thread(DaemonProcess, tmp_path / "data", config(port))
        try:
            hello = await group.next("Hello")
            assert hello.text("d:XAddrs") == daemon.service("device")
            device = await asyncio.to_thread(device_of, daemon)
            endpoint = (await asyncio.to_thread(device.GetEndpointReference)).GUID
            assert hello.text("wsa:Address") == endpoint
            told = await asyncio.to_thread(device.GetScopes)
            scopes = [s.ScopeItem for s in told]
            assert hello.text("d:Scopes").split() == scopes
            fixed = [s.ScopeItem for s in told if s.ScopeDef == "Fixed"]
            assert PROFILE_G in fixed
            kinds = {scope.removeprefix("onvif://www.onvif.org/").partition("/")[0] for scope in fixed}
            assert {"Profile", "hardware", "name"} <= kinds
            system = (await asyncio.to_thread(device.GetServiceCapabilities)).System
            assert (system.DiscoveryResolve, system.DiscoveryBye, system.DiscoveryNotSupported) == (True, True, False)
            client.ask(probe())
            match = await client.next("ProbeMatches")
            assert match.text("wsa:Address") == endpoint
            assert match.text("d:Scopes").split() == scopes

            metrics = (await asyncio.to_thread(requests.get, f"{daemon.http}/metrics", timeout=20)).text
            assert 'nvr_discovery_datagrams_total{outcome="answered"} 1' in metrics

            await asyncio.to_thread(device.SystemReboot)
            assert (await group.next("Bye")).text("wsa:Address") == endpoint
            again = await group.next("Hello", timeout_s=60)
            assert await asyncio.to_thread(tells_the_time, again.text("d:XAddrs")), "the address in the Hello answers"
            await asyncio.to_thread(daemon.wait_ready)
            assert again.text("d:XAddrs") == daemon.service("device")
            device = await asyncio.to_thread(device_of, daemon)
            assert again.text("wsa:Address") == endpoint
            assert again.sequence[0] > hello.sequence[0]

            await asyncio.to_thread(device.AddScopes, ScopeItem=["urn:added"])
            await asyncio.to_thread(device.SetScopes, Scopes=["urn:set", "urn:gone"])
            await asyncio.to_thread(device.RemoveScopes, ScopeItem=["urn:gone"])
            now = [s.ScopeItem for s in await asyncio.to_thread(device.GetScopes)]
            assert now == [*scopes, "urn:set"]

            await asyncio.to_thread(device.SetDiscoveryMode, DiscoveryMode="NonDiscoverable")
            assert await asyncio.to_thread(device.GetDiscoveryMode) == "NonDiscoverable"
            await group.next("Bye")
            client.ask(probe(message_id="urn:hidden"))
            assert await asyncio.to_thread(daemon.stop) == 0
            assert client.nothing()
            assert set(group.rest()) == {"Probe"}, "no second Bye of one who has gone"
        finally:
            if daemon.process.poll() is None:
                await asyncio.to_thread(daemon.kill)


async def test_a_daemon_on_loopback_alone_is_not_found_unless_an_interface_is_chosen(tmp_path: Path) -> None:
    port = free_port()
    async with Client(port, group=True) as group, Client(port) as client:
        daemon = await asyncio.to_thread(DaemonProcess, tmp_path / "data", f"[discovery]\nport = {port}\n")
        try:
            client.ask(probe())
            device = await asyncio.to_thread(device_of, daemon)
            system = (await asyncio.to_thread(device.GetServiceCapabilities)).System
            assert (system.DiscoveryBye, system.DiscoveryNotSupported) == (False, True)
            assert await asyncio.to_thread(daemon.has_logged, "discovery is off")
        finally:
            assert await asyncio.to_thread(daemon.stop) == 0
        assert group.rest() == ["Probe"], "the question of the client is all that the group has heard"
        assert client.nothing()


def test_an_interface_that_does_not_exist_is_told_to_the_operator_and_stops_nothing(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path / "data", '[discovery]\ninterfaces = ["nosuch0"]\nmaximum_delay = "0s"\n') as daemon:
        assert daemon.has_logged("the host has no interface nosuch0 now")
        assert daemon.stop() == 0
