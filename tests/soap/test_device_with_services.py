"""What the device service says of the others, and that each says the same of itself."""

from __future__ import annotations

from typing import Any

import pytest
from lxml import etree

from nvr.auth.access import AccessClass
from nvr.control.replay import ReplayConfiguration
from nvr.control.state import ControlSettings
from nvr.soap.model import Struct
from nvr.soap.names import PREFIXES, TEV, TRC, TRP, TRV, TSE
from nvr.soap.receiver import ReceiverService
from nvr.soap.recording import RecordingService
from nvr.soap.replay import ReplayService
from nvr.soap.rtsp_address import RtspAddress
from nvr.soap.search import SearchService
from nvr.soap.service import Call, Result, Service, operation
from tests.support.soap_http import ROLES, a_device
from tests.support.soap_models import Capabilities

NS = {prefix: namespace for namespace, prefix in PREFIXES.items()}
ALL = "<tds:GetServices><tds:IncludeCapability>true</tds:IncludeCapability></tds:GetServices>"
OTHERS = (TRC, TSE, TRP, TRV)


def the_services() -> list[Service]:
    """Capabilities come from settings alone: nothing stands behind these services."""
    nothing: Any = None
    limits = ControlSettings()
    return [
        RecordingService(nothing, limits),
        SearchService(nothing),
        ReplayService(nothing, RtspAddress(8554), ReplayConfiguration(nothing, 60 * 10**9)),
        ReceiverService(nothing, limits),
    ]


def canonical(element: etree._Element) -> bytes:
    return etree.tostring(etree.fromstring(etree.tostring(element, with_tail=False)), method="c14n", exclusive=True)


@pytest.mark.requirement("CO-23", "CO-24", "RP-7.5-08", "RX-10.1-01")
async def test_every_service_is_listed_with_the_capabilities_that_it_reports_itself() -> None:
    async with a_device(services=the_services()) as device:
        listed = await device.call(ALL, Host="203.0.113.9:81")
        entries = {s.findtext("tds:Namespace", namespaces=NS): s for s in listed.element.findall("tds:Service", NS)}
        assert set(entries) == {NS["tds"], *OTHERS}
        for namespace, entry in entries.items():
            address = entry.findtext("tds:XAddr", "", NS)
            assert address.startswith("http://203.0.113.9:81/onvif/")
            path = address.removeprefix("http://203.0.113.9:81")
            own = await device.call(f"<{PREFIXES[namespace]}:GetServiceCapabilities/>", path)
            assert own.status == 200
            (within,) = entry.find("tds:Capabilities", NS)
            assert canonical(within) == canonical(own.element[0]), namespace


@pytest.mark.requirement("CO-25")
@pytest.mark.parametrize(
    ("category", "extension"),
    [("", True), ("<tds:Category>All</tds:Category>", True), ("<tds:Category>Device</tds:Category>", False)],
)
async def test_recording_search_replay_and_receiver_stand_in_the_extension(category: str, extension: bool) -> None:
    async with a_device(services=the_services()) as device:
        reply = await device.call(f"<tds:GetCapabilities>{category}</tds:GetCapabilities>")
        assert reply.status == 200
        found = reply.element.find("tds:Capabilities/tt:Extension", NS)
        assert (found is not None) == extension
        for name in ("Recording", "Search", "Replay", "Receiver") if found is not None else ():
            address = found.findtext(f"tt:{name}/tt:XAddr", "", NS)
            assert address.startswith(device.base)
            own = await device.call(
                f"<{ {'Recording': 'trc', 'Search': 'tse', 'Replay': 'trp', 'Receiver': 'trv'}[name] }"
                ":GetServiceCapabilities/>",
                address.removeprefix(device.base),
            )
            assert own.status == 200


class EveryClass(Service):
    """One operation of each access class, named after it."""

    namespace, path, contract = TEV, "/onvif/every_class", "devicemgmt.wsdl"

    def capabilities(self) -> Struct:
        return Capabilities()


def _add(access: AccessClass) -> None:
    def answer(self: EveryClass, call: Call) -> Result:
        return None

    answer.__name__ = access.lower()
    setattr(EveryClass, answer.__name__, operation(access.value, access)(answer))


for _access in AccessClass:
    _add(_access)


EXPECTED = {
    None: {"PRE_AUTH"},
    "ute": {"PRE_AUTH", "READ_SYSTEM", "READ_MEDIA"},
    "otto": {"PRE_AUTH", "READ_SYSTEM", "READ_MEDIA", "READ_SYSTEM_SENSITIVE", "ACTUATE"},
    "anna": {access.value for access in AccessClass},
}


@pytest.mark.requirement("CO-21")
@pytest.mark.parametrize("user", [None, *ROLES])
async def test_each_role_reaches_exactly_the_access_classes_of_the_default_policy(user: str | None) -> None:
    async with a_device(services=[EveryClass()]) as device:
        reached = set()
        for access in AccessClass:
            body = f"<tev:{access.value}/>"
            call = device.call(body, EveryClass.path) if user is None else device.call_as(user, body, EveryClass.path)
            if (await call).status == 200:
                reached.add(access.value)
    assert reached == EXPECTED[user]
