"""The device service over HTTP; every answer is held against the official schema."""

from __future__ import annotations

import asyncio
import re

import pytest
import requests
import zeep
from lxml import etree

import nvr
from nvr.soap.device import NOT_IMPLEMENTED, DeviceService, DeviceSettings, fixed_scopes
from nvr.soap.names import PREFIXES, TDS
from tests.support.official_schema import SERVICES, ValidatingTransport, official_root
from tests.support.soap_http import DEVICE, Device, a_device

NS = {prefix: namespace for namespace, prefix in PREFIXES.items()}


@pytest.mark.requirement("CO-23")
async def test_get_services_names_every_service_under_the_host_of_the_request() -> None:
    async with a_device() as device:
        reply = await device.call(
            "<tds:GetServices><tds:IncludeCapability>true</tds:IncludeCapability></tds:GetServices>",
            Host="nvr.example:8443",
        )
    assert reply.status == 200
    (service,) = reply.element.findall("tds:Service", NS)
    assert service.findtext("tds:Namespace", namespaces=NS) == TDS
    assert service.findtext("tds:XAddr", namespaces=NS) == "http://nvr.example:8443/onvif/device_service"
    security = service.find("tds:Capabilities/tds:Capabilities/tds:Security", NS)
    assert security is not None
    assert (security.get("HttpDigest"), security.get("UsernameToken")) == ("true", "true")
    assert security.get("TLS1.2") == "false"


async def test_get_services_leaves_capabilities_out_unless_they_are_asked_for() -> None:
    async with a_device() as device:
        reply = await device.call("<tds:GetServices><tds:IncludeCapability>0</tds:IncludeCapability></tds:GetServices>")
    assert reply.element.find("tds:Service/tds:Capabilities", NS) is None


async def test_a_host_header_that_is_no_host_does_not_get_into_answers() -> None:
    async with a_device() as device:
        reply = await device.call(
            "<tds:GetServices><tds:IncludeCapability>false</tds:IncludeCapability></tds:GetServices>",
            Host='evil"><x>/..',
        )
    assert reply.find("tds:Service/tds:XAddr").text == device.base + DEVICE


async def test_get_capabilities_without_category_means_all() -> None:
    async with a_device() as device:
        reply = await device.call("<tds:GetCapabilities/>")
    assert reply.status == 200
    assert reply.find("tds:Capabilities/tt:Device/tt:XAddr").text == device.base + DEVICE
    assert reply.element.find("tds:Capabilities/tt:Extension", NS) is not None


@pytest.mark.requirement("CO-25")
async def test_get_capabilities_of_the_device_alone() -> None:
    async with a_device() as device:
        reply = await device.call("<tds:GetCapabilities><tds:Category>Device</tds:Category></tds:GetCapabilities>")
    assert [child.tag.partition("}")[2] for child in reply.find("tds:Capabilities")] == ["Device"]


@pytest.mark.requirement("CO-26")
@pytest.mark.parametrize("category", ["Analytics", "Events", "Imaging", "Media", "PTZ"])
async def test_a_category_without_service_is_answered_with_no_such_service(category: str) -> None:
    async with a_device() as device:
        reply = await device.call(f"<tds:GetCapabilities><tds:Category>{category}</tds:Category></tds:GetCapabilities>")
    assert (reply.status, reply.fault) == (500, "Receiver/ActionNotSupported/NoSuchService")


@pytest.mark.requirement("CO-06")
async def test_a_category_that_the_schema_does_not_know_is_an_invalid_value() -> None:
    async with a_device() as device:
        reply = await device.call("<tds:GetCapabilities><tds:Category>Video</tds:Category></tds:GetCapabilities>")
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal")


@pytest.mark.requirement("CO-24")
async def test_service_capabilities_are_the_same_as_in_get_services() -> None:
    async with a_device() as device:
        own = await device.call("<tds:GetServiceCapabilities/>")
        listed = await device.call(
            "<tds:GetServices><tds:IncludeCapability>1</tds:IncludeCapability></tds:GetServices>"
        )
    names = ("tds:Network", "tds:Security", "tds:System")
    for name in names:
        alone = own.find(f"tds:Capabilities/{name}").attrib
        assert dict(alone) == dict(listed.find(f"tds:Service/tds:Capabilities/tds:Capabilities/{name}").attrib)


@pytest.mark.requirement("CO-27")
async def test_device_information_needs_a_user_and_tells_its_five_texts_in_order() -> None:
    async with a_device() as device:
        refused = await device.call("<tds:GetDeviceInformation/>")
        reply = await device.call_as("ute", "<tds:GetDeviceInformation/>")
    assert refused.status == 401
    assert reply.status == 200
    settings = DeviceSettings()
    assert [(etree.QName(e).localname, e.text) for e in reply.element] == [
        ("Manufacturer", settings.manufacturer),
        ("Model", settings.model),
        ("FirmwareVersion", nvr.__version__),
        ("SerialNumber", "8f3a"),
        ("HardwareId", settings.hardware),
    ]


@pytest.mark.requirement("CO-01", "CO-28")
async def test_system_date_and_time_is_that_of_the_clock_with_time_before_date() -> None:
    async with a_device() as device:
        device.clock.advance(3661)
        reply = await device.call("<tds:GetSystemDateAndTime/>")
    utc = reply.find("tds:SystemDateAndTime/tt:UTCDateTime")
    assert [e.text for e in utc.iter() if len(e) == 0] == ["13", "1", "1", "2026", "3", "1"]
    assert reply.find("tds:SystemDateAndTime/tt:DateTimeType").text == "NTP"
    assert reply.find("tds:SystemDateAndTime/tt:TimeZone/tt:TZ").text == "CET-1CEST,M3.5.0,M10.5.0/3"


@pytest.mark.requirement("CO-30")
async def test_scopes_are_percent_encoded_path_segments() -> None:
    async with a_device() as device:
        reply = await device.call_as("ute", "<tds:GetScopes/>")
    found = [e.text or "" for e in reply.element.findall("tds:Scopes/tt:ScopeItem", NS)]
    assert "onvif://www.onvif.org/Profile/G" in found
    assert "onvif://www.onvif.org/name/Yard%20%26%20Gate" in found
    assert "onvif://www.onvif.org/location/K%C3%B6ln%2FS%C3%BCd%201" in found
    assert any(s.startswith("onvif://www.onvif.org/hardware/") for s in found)


def test_an_empty_location_makes_no_scope() -> None:
    assert not any("location" in scope for scope in fixed_scopes(DeviceSettings()))


@pytest.mark.requirement("CO-03")
async def test_operations_of_the_official_wsdl_that_are_missing_answer_action_not_supported() -> None:
    async with a_device() as device:
        for name in ("GetSystemLog", "StartFirmwareUpgrade", "GetRelayOutputs"):
            reply = await device.call(f"<tds:{name}/>")
            assert (reply.status, reply.fault) == (500, "Receiver/ActionNotSupported"), name


def test_every_operation_of_the_official_wsdl_is_implemented_or_listed_as_missing() -> None:
    from lxml import etree

    tree = etree.parse(official_root() / SERVICES["device"].path)
    official = {e.get("name") for e in tree.findall(".//{http://schemas.xmlsoap.org/wsdl/}portType/*")}
    members = (getattr(DeviceService, name) for name in dir(DeviceService))
    implemented = {member.operation.name for member in members if hasattr(member, "operation")}
    assert implemented | NOT_IMPLEMENTED == official
    assert not implemented & NOT_IMPLEMENTED


def _drive(base: str) -> dict[str, object]:
    """What a strict client does, from the contract that the device serves."""
    session = requests.Session()
    session.trust_env = False
    client = zeep.Client(f"{base}{DEVICE}?wsdl", transport=ValidatingTransport(session=session))
    found: dict[str, object] = {
        "services": client.service.GetServices(IncludeCapability=True),
        "time": client.service.GetSystemDateAndTime(),
        "capabilities": client.service.GetCapabilities(Category=["All"]),
    }
    session.close()
    return found


async def test_zeep_builds_a_client_from_the_served_contract_and_calls_at_its_address() -> None:
    async with a_device() as device:
        found = await asyncio.to_thread(_drive, device.base)
    assert found["services"][0].XAddr == device.base + DEVICE  # type: ignore[index]
    assert found["time"].UTCDateTime.Date.Year == 2026  # type: ignore[attr-defined]


async def test_the_served_contract_names_the_address_of_the_request_and_imports_what_is_served() -> None:
    async with a_device() as device:
        async with device.session.get(f"{device.base}{DEVICE}?WSDL") as response:
            text = await response.text()
            assert response.status == 200
            assert response.content_type == "text/xml"
        assert f'location="{device.base}{DEVICE}"' in text
        await _follow_imports(device, text)


async def _follow_imports(device: Device, text: str) -> None:
    for name in re.findall(r'schemaLocation="([^"]+)"', text):
        async with device.session.get(f"{device.base}/onvif/{name}") as response:
            assert response.status == 200, name
            await _follow_imports(device, await response.text())
