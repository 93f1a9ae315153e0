"""Users, scopes, network, clock, defaults and restart over SOAP; every answer is held against the official schema."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from nvr.auth.access import Role
from nvr.auth.credentials import Vault
from nvr.auth.users import MAX_NAME, MAX_PASSWORD, MAX_USERS, PasswordPolicy, User, UserDraft, UserStore
from nvr.control.device import MAX_SCOPES, DeviceMemory
from nvr.model.device import DiscoveryMode
from nvr.soap.host_network import HostNetwork, Interface, InterfaceAddress, NameServers
from nvr.soap.names import TT
from tests.support.device import ENDPOINT, StateStore, ToldSystem, a_device_service, a_memory
from tests.support.soap_house import Reply, SoapHouse

G = "onvif://www.onvif.org/Profile/G"
PASSWORD = "Corr3ct horse"


class Disk:
    def __init__(self) -> None:
        self.users: dict[str, User] = {}

    def save_users(self, users: Sequence[User], /) -> None:
        self.users |= {u.name: u for u in users}

    def delete_users(self, names: Sequence[str], /) -> None:
        for name in names:
            del self.users[name]


class ToldNetwork(HostNetwork):
    """A host that says what a test wants it to say."""

    ntp: tuple[str, ...] = ("192.0.2.123", "2001:db8::123", "pool.example")

    def host_name(self) -> str:
        return "recorder"

    def interfaces(self) -> tuple[Interface, ...]:
        def address(text: str, length: int, dynamic: bool = False) -> InterfaceAddress:
            return InterfaceAddress(2, ipaddress.ip_address(text), length, dynamic)

        addresses = (
            address("192.0.2.7", 24),
            address("198.51.100.8", 25, dynamic=True),
            address("169.254.3.4", 16),
            address("2001:db8::7", 64),
            address("2001:db8::8", 128, dynamic=True),
            address("2001:db8:1::9", 64, dynamic=True),
            address("fe80::7", 64),
        )
        return (
            Interface("lo", 1, "00:00:00:00:00:00", True, True, False, 65536, ()),
            Interface("eth0", 2, "02:00:00:00:00:01", True, False, True, 1400, addresses, True),
            Interface("eth1", 3, "02:00:00:00:00:02", False, False, True, None, ()),
        )

    def gateways(self) -> tuple[str, ...]:
        return ("192.0.2.1", "fe80::1")

    def name_servers(self) -> NameServers:
        return NameServers(("example.org", "example.net"), ("192.0.2.53", "2001:db8::53"))

    def ntp_servers(self) -> tuple[str, ...]:
        return self.ntp


@dataclass
class House:
    disk: Disk
    users: UserStore
    memory: DeviceMemory
    state: StateStore
    system: ToldSystem
    network: ToldNetwork
    soap: SoapHouse

    async def send(self, body: str, user: str | None = "administrator") -> Reply:
        return await self.soap.send(body, user)


async def a_house(*, synchronised: bool = True) -> House:
    disk, state, system, network = Disk(), StateStore(), ToldSystem(), ToldNetwork(Path("/nowhere"))
    users = UserStore(Vault(bytes(32)), disk, passwords=PasswordPolicy(length=4, kinds=2))
    await users.add_all([UserDraft("anna", Role.ADMINISTRATOR, PASSWORD), UserDraft("otto", Role.OPERATOR, PASSWORD)])
    memory = a_memory(store=state)
    device = a_device_service(users=users, memory=memory, system=system, network=network, synchronised=synchronised)
    return House(disk, users, memory, state, system, network, SoapHouse([device]))


def user_xml(name: str, level: str = "User", password: str | None = PASSWORD) -> str:
    secret = "" if password is None else f"<tt:Password>{password}</tt:Password>"
    return f"<tds:User><tt:Username>{name}</tt:Username>{secret}<tt:UserLevel>{level}</tt:UserLevel></tds:User>"


def request(operation: str, content: str = "") -> str:
    return f"<tds:{operation}>{content}</tds:{operation}>"


def create(*users: str) -> str:
    return request("CreateUsers", "".join(users))


def change(*users: str) -> str:
    return request("SetUser", "".join(users))


def remove(*names: str) -> str:
    return request("DeleteUsers", "".join(f"<tds:Username>{n}</tds:Username>" for n in names))


def scopes(operation: str, *items: str, element: str = "ScopeItem") -> str:
    return request(operation, "".join(f"<tds:{element}>{i}</tds:{element}>" for i in items))


def set_time(
    kind: str = "Manual", zone: str = "UTC0", time: tuple[int, int, int] = (1, 2, 3), day: int = 28, *, utc: bool = True
) -> str:
    hour, minute, second = time
    moment = (
        f"<tds:UTCDateTime><tt:Time><tt:Hour>{hour}</tt:Hour><tt:Minute>{minute}</tt:Minute>"
        f"<tt:Second>{second}</tt:Second></tt:Time><tt:Date><tt:Year>2026</tt:Year><tt:Month>2</tt:Month>"
        f"<tt:Day>{day}</tt:Day></tt:Date></tds:UTCDateTime>"
    )
    return request(
        "SetSystemDateAndTime",
        f"<tds:DateTimeType>{kind}</tds:DateTimeType><tds:DaylightSavings>false</tds:DaylightSavings>"
        f"<tds:TimeZone><tt:TZ>{zone}</tt:TZ></tds:TimeZone>{moment if utc else ''}",
    )


def host_xml(element: str, kind: str, **addresses: str) -> str:
    inner = "".join(f"<tt:{name}>{text}</tt:{name}>" for name, text in addresses.items())
    return f"<tds:{element}><tt:Type>{kind}</tt:Type>{inner}</tds:{element}>"


def set_dns(*servers: str) -> str:
    return request("SetDNS", "<tds:FromDHCP>false</tds:FromDHCP>" + "".join(servers))


def set_ntp(*servers: str, dhcp: bool = False) -> str:
    return request("SetNTP", f"<tds:FromDHCP>{str(dhcp).lower()}</tds:FromDHCP>" + "".join(servers))


def set_interface(inner: str = "", token: str = "eth0") -> str:
    return request(
        "SetNetworkInterfaces",
        f"<tds:InterfaceToken>{token}</tds:InterfaceToken><tds:NetworkInterface>{inner}</tds:NetworkInterface>",
    )


def manual(version: int, address: str, length: int) -> str:
    return (
        f"<tt:IPv{version}><tt:Manual><tt:Address>{address}</tt:Address>"
        f"<tt:PrefixLength>{length}</tt:PrefixLength></tt:Manual></tt:IPv{version}>"
    )


def set_protocol(name: str, port: int, enabled: bool = True) -> str:
    return request(
        "SetNetworkProtocols",
        f"<tds:NetworkProtocols><tt:Name>{name}</tt:Name><tt:Enabled>{str(enabled).lower()}</tt:Enabled>"
        f"<tt:Port>{port}</tt:Port></tds:NetworkProtocols>",
    )


def set_gateway(*, v4: str = "", v6: str = "") -> str:
    inner = f"<tds:IPv4Address>{v4}</tds:IPv4Address>" if v4 else ""
    return request("SetNetworkDefaultGateway", inner + (f"<tds:IPv6Address>{v6}</tds:IPv6Address>" if v6 else ""))


SPEED = (
    "<tt:Link><tt:AutoNegotiation>true</tt:AutoNegotiation><tt:Speed>{}</tt:Speed><tt:Duplex>Full</tt:Duplex></tt:Link>"
)
DOT11 = "<tt:Extension><tt:Dot11><tt:SSID>41</tt:SSID></tt:Dot11></tt:Extension>"
PROHIBITED, VALUE = "Sender/OperationProhibited", "Sender/InvalidArgVal"

FAULTS = [
    (create(user_xml("new"), user_xml("anna")), f"{PROHIBITED}/UsernameClash"),
    (create(user_xml("new", password="a1" * MAX_PASSWORD)), f"{PROHIBITED}/PasswordTooLong"),
    (create(user_xml("n" * (MAX_NAME + 1))), f"{PROHIBITED}/UsernameTooLong"),
    (create(user_xml("new", password="a1")), f"{PROHIBITED}/Password"),
    (create(user_xml("new", password=None)), f"{PROHIBITED}/Password"),
    (create(*(user_xml(f"user{n}") for n in range(MAX_USERS - 1))), "Receiver/Action/TooManyUsers"),
    (create(user_xml("new", "Anonymous")), f"{PROHIBITED}/AnonymousNotAllowed"),
    (create(user_xml("")), f"{PROHIBITED}/UsernameTooShort"),
    (create(user_xml("new", "Extended")), VALUE),
    (create(user_xml("new", "Root")), VALUE),
    (remove("otto", "nobody"), f"{VALUE}/UsernameMissing"),
    (remove("otto", "anna"), f"{VALUE}/FixedUser"),
    (change(user_xml("otto"), user_xml("nobody")), f"{VALUE}/UsernameMissing"),
    (change(user_xml("otto"), user_xml("otto", password="a1" * MAX_PASSWORD)), f"{PROHIBITED}/PasswordTooLong"),
    (change(user_xml("otto"), user_xml("otto", password="short")), f"{PROHIBITED}/PasswordTooWeak"),
    (change(user_xml("otto", "Anonymous")), f"{PROHIBITED}/AnonymousNotAllowed"),
    (change(user_xml("otto"), user_xml("anna", "Operator", None)), f"{VALUE}/FixedUser"),
    (
        scopes("SetScopes", *(f"urn:{n}" for n in range(MAX_SCOPES + 1)), element="Scopes"),
        "Receiver/Action/TooManyScopes",
    ),
    (scopes("AddScopes", *(f"urn:{n}" for n in range(MAX_SCOPES + 1))), "Receiver/Action/TooManyScopes"),
    (scopes("AddScopes", "not a URI"), VALUE),
    (scopes("RemoveScopes", G), f"{PROHIBITED}/FixedScope"),
    (scopes("RemoveScopes", "urn:nobody"), f"{VALUE}/NoScope"),
    (request("SetDiscoveryMode", "<tds:DiscoveryMode>Shy</tds:DiscoveryMode>"), VALUE),
    (set_time(zone="Europe/Berlin"), f"{VALUE}/InvalidTimeZone"),
    (set_time(day=31), f"{VALUE}/InvalidDateTime"),
    (set_time(time=(24, 0, 0)), f"{VALUE}/InvalidDateTime"),
    (set_time(utc=False), f"{VALUE}/InvalidDateTime"),
    (request("SetHostname", "<tds:Name>-no-</tds:Name>"), f"{VALUE}/InvalidHostname"),
    (set_dns(host_xml("DNSManual", "IPv4", IPv4Address="192.0.2.256")), f"{VALUE}/InvalidIPv4Address"),
    (set_dns(host_xml("DNSManual", "IPv4")), f"{VALUE}/InvalidIPv4Address"),
    (set_dns(host_xml("DNSManual", "IPv6", IPv6Address="fe80:::1")), f"{VALUE}/InvalidIPv6Address"),
    (set_ntp(host_xml("NTPManual", "IPv4", IPv4Address="x")), f"{VALUE}/InvalidIPv4Address"),
    (set_ntp(host_xml("NTPManual", "IPv6", IPv6Address="x")), f"{VALUE}/InvalidIPv6Address"),
    (set_ntp(host_xml("NTPManual", "DNS", DNSname="a..b")), f"{VALUE}/InvalidDnsName"),
    (set_ntp(), f"{VALUE}/TimeSyncedToNtp"),
    (set_interface(token="wlan7"), f"{VALUE}/InvalidNetworkInterface"),
    (set_interface("<tt:MTU>67</tt:MTU>"), f"{VALUE}/InvalidMtuValue"),
    (set_interface(SPEED.format(0)), f"{VALUE}/InvalidInterfaceSpeed"),
    (set_interface(DOT11), f"{VALUE}/InvalidInterfaceType"),
    (set_interface(manual(4, "224.0.0.1", 24)), f"{VALUE}/InvalidIPv4Address"),
    (set_interface(manual(4, "192.0.2.1", 33)), f"{VALUE}/InvalidIPv4Address"),
    (set_interface(manual(6, "::", 64)), f"{VALUE}/InvalidIPv6Address"),
    (set_interface("<tt:IPv6><tt:DHCP>Stateful</tt:DHCP></tt:IPv6>"), "Receiver/ActionNotSupported/InvalidDHCPv6"),
    (set_protocol("GOPHER", 70), f"{VALUE}/ServiceNotSupported"),
    (set_protocol("HTTP", 8554), f"{VALUE}/PortAlreadyInUse"),
    (set_protocol("HTTPS", 8443), "Receiver/ActionNotSupported/EnablingTlsFailed"),
    (set_gateway(v4="192.0.2"), f"{VALUE}/InvalidIPv4Address"),
    (set_gateway(v6="2001:db8::g"), f"{VALUE}/InvalidIPv6Address"),
    (set_gateway(v4="127.0.0.1"), f"{VALUE}/InvalidGatewayAddress"),
    (set_gateway(v6="ff02::1"), f"{VALUE}/InvalidGatewayAddress"),
]
SOUND = [
    set_time(),
    set_time("NTP", "CET-1CEST,M3.5.0,M10.5.0/3"),
    request("SetHostname", "<tds:Name>recorder-2.example</tds:Name>"),
    set_dns(host_xml("DNSManual", "IPv4", IPv4Address="192.0.2.53")),
    set_ntp(host_xml("NTPManual", "DNS", DNSname="pool.example.")),
    set_ntp(dhcp=True),
    set_interface("<tt:Enabled>false</tt:Enabled>" + SPEED.format(100) + "<tt:MTU>1500</tt:MTU>"),
    set_interface(manual(4, "192.0.2.9", 24) + manual(6, "2001:db8::9", 64)),
    set_protocol("HTTP", 80),
    set_protocol("HTTPS", 8554, enabled=False),
    set_gateway(v4="192.0.2.254", v6="fe80::1"),
]


def what(body: str) -> str:
    return etree.fromstring(f'<r xmlns:tds="a" xmlns:tt="b">{body}</r>')[0].tag.partition("}")[2]


@pytest.mark.requirement("CO-05", "CO-20", "CO-29", "CO-31", "CO-34", "CO-35", "CO-36")
@pytest.mark.parametrize(("body", "fault"), FAULTS, ids=[f"{what(b)} {f.rpartition('/')[2]}" for b, f in FAULTS])
async def test_each_mistake_is_answered_with_its_fault_and_changes_nothing(body: str, fault: str) -> None:
    house = await a_house()
    users, state = dict(house.disk.users), house.state.state
    reply = await house.send(body)
    assert reply.fault == fault
    assert reply.status == (400 if fault.startswith("Sender") else 500)
    assert reply.reason
    assert PASSWORD not in reply.xml.decode()
    assert (house.disk.users, house.state.state, house.system.told) == (users, state, [])
    assert [u.name for u in house.users.users()] == ["anna", "otto"]


@pytest.mark.requirement("CO-38")
@pytest.mark.parametrize("body", SOUND, ids=what)
async def test_a_sound_request_to_change_the_host_is_prohibited(body: str) -> None:
    house = await a_house()
    reply = await house.send(body)
    assert (reply.status, reply.fault) == (400, PROHIBITED)
    assert "configuration file" in reply.reason


@pytest.mark.requirement("CO-29")
async def test_ntp_cannot_be_chosen_on_a_host_without_an_ntp_server() -> None:
    house = await a_house(synchronised=False)
    house.network.ntp = ()
    assert (await house.send(set_time("NTP"))).fault == f"{VALUE}/NtpServerUndefined"
    assert (await house.send(set_ntp())).fault == PROHIBITED, "no server is sound where the clock follows none"


@pytest.mark.requirement("CO-33", "CO-34", "CO-35", "CO-36")
async def test_users_are_made_listed_without_password_changed_and_deleted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    house = await a_house()
    made = await house.send(create(user_xml("ute"), user_xml("ärger &amp; co", "Operator")))
    assert (made.status, made.name) == (200, "CreateUsersResponse")
    reply = await house.send("<tds:GetUsers/>")
    assert reply.texts("tds:User/tt:Username") == ["anna", "otto", "ute", "ärger & co"]
    assert reply.texts("tds:User/tt:UserLevel") == ["Administrator", "Operator", "User", "Operator"]
    assert reply.all(".//tt:Password") == []
    assert (await house.send(change(user_xml("ute", "Administrator", None)))).status == 200
    assert (house.users.role("ute"), house.users.password("ute")) == (Role.ADMINISTRATOR, PASSWORD)
    assert (await house.send(change(user_xml("ute", "User", "n3w password")))).status == 200
    assert (house.users.role("ute"), house.users.password("ute")) == (Role.USER, "n3w password")
    assert (await house.send(remove("ute", "otto"))).status == 200
    assert sorted(house.disk.users) == ["anna", "ärger & co"]
    assert "user 'administrator' has deleted users: 'ute', 'otto'" in caplog.text
    assert "'ute (user)'" in caplog.text
    assert PASSWORD not in caplog.text


@pytest.mark.requirement("CO-37")
async def test_a_password_of_the_largest_length_is_taken_as_it_is() -> None:
    house = await a_house()
    longest = "pä5s <&> wörd".ljust(MAX_PASSWORD, "x")
    sent = longest.replace("&", "&amp;").replace("<", "&lt;")
    assert (await house.send(create(user_xml("ute", password=sent)))).status == 200
    assert house.users.verify("ute", longest)


@pytest.mark.requirement("CO-20", "CO-22")
async def test_every_level_of_the_default_policy_can_be_given() -> None:
    house = await a_house()
    capabilities = (await house.send("<tds:GetServiceCapabilities/>")).all("tds:Capabilities/tds:Security")[0].attrib
    assert capabilities["DefaultAccessPolicy"] == "true"
    for level in ("Administrator", "Operator", "User"):
        assert (await house.send(create(user_xml(level.lower(), level)))).status == 200
        assert house.users.role(level.lower()) is Role.from_user_level(level)


@pytest.mark.requirement("CO-30", "CO-31")
async def test_scopes_are_set_added_and_removed_beside_the_fixed_ones() -> None:
    house = await a_house()
    fixed = len(house.memory.fixed_scopes)

    async def told() -> list[tuple[str, str]]:
        reply = await house.send("<tds:GetScopes/>", "user")
        kinds, items = reply.texts("tds:Scopes/tt:ScopeDef"), reply.texts("tds:Scopes/tt:ScopeItem")
        return list(zip(kinds, items, strict=True))

    assert ("Fixed", G) in await told()
    assert (await house.send(scopes("AddScopes", "onvif://www.onvif.org/location/gate", "urn:a"))).status == 200
    assert (await house.send(scopes("AddScopes", "urn:a", "urn:b"))).status == 200
    free = [("Configurable", s) for s in ("onvif://www.onvif.org/location/gate", "urn:a", "urn:b")]
    assert (await told())[fixed:] == free
    reply = await house.send(scopes("RemoveScopes", "urn:b", "urn:a"))
    assert reply.texts("tds:ScopeItem") == ["urn:b", "urn:a"]
    assert (await told())[fixed:] == free[:1]
    assert (await house.send(scopes("RemoveScopes", "onvif://www.onvif.org/location/gate", "urn:b"))).fault
    assert (await told())[fixed:] == free[:1], "one of several that is not there leaves all"
    assert (await house.send(scopes("SetScopes", "urn:c", G, element="Scopes"))).status == 200
    assert (await told())[fixed:] == [("Configurable", "urn:c")]
    assert house.state.state.scopes == ("urn:c",)


@pytest.mark.requirement("CO-32")
async def test_the_discovery_mode_is_discoverable_until_it_is_changed() -> None:
    house = await a_house()
    assert (await house.send("<tds:GetDiscoveryMode/>")).text("tds:DiscoveryMode") == "Discoverable"
    body = request("SetDiscoveryMode", "<tds:DiscoveryMode>NonDiscoverable</tds:DiscoveryMode>")
    assert (await house.send(body)).status == 200
    assert (await house.send("<tds:GetDiscoveryMode/>")).text("tds:DiscoveryMode") == "NonDiscoverable"
    assert house.state.state.discovery_mode is DiscoveryMode.NON_DISCOVERABLE


async def test_a_change_that_the_disk_refuses_is_not_made() -> None:
    house = await a_house()
    house.state.failing = True
    assert (await house.send(scopes("AddScopes", "urn:a"))).fault == "Receiver/Action"
    assert house.memory.configurable_scopes == ()


@pytest.mark.requirement("CO-38")
async def test_the_network_is_told_as_the_host_has_it() -> None:
    house = await a_house()
    reply = await house.send("<tds:GetHostname/>", None)
    assert reply.text("tds:HostnameInformation/tt:Name") == "recorder"
    dns = await house.send("<tds:GetDNS/>", "user")
    assert dns.texts("tds:DNSInformation/tt:SearchDomain") == ["example.org", "example.net"]
    assert dns.texts("tds:DNSInformation/tt:DNSManual/tt:IPv4Address") == ["192.0.2.53"]
    assert dns.texts("tds:DNSInformation/tt:DNSManual/tt:IPv6Address") == ["2001:db8::53"]
    ntp = await house.send("<tds:GetNTP/>", "user")
    assert ntp.texts("tds:NTPInformation/tt:NTPManual/tt:Type") == ["IPv4", "IPv6", "DNS"]
    assert ntp.text("tds:NTPInformation/tt:NTPManual/tt:DNSname") == "pool.example"
    protocols = await house.send("<tds:GetNetworkProtocols/>", "user")
    assert protocols.texts("tds:NetworkProtocols/tt:Name") == ["HTTP", "RTSP"]
    assert protocols.texts("tds:NetworkProtocols/tt:Port") == ["8080", "8554"]
    gateway = await house.send("<tds:GetNetworkDefaultGateway/>", "user")
    assert gateway.texts("tds:NetworkGateway/*") == ["192.0.2.1", "fe80::1"]


@pytest.mark.requirement("CO-38")
async def test_interfaces_are_told_with_their_addresses_by_origin_and_without_loopback() -> None:
    house = await a_house()
    reply = await house.send("<tds:GetNetworkInterfaces/>", "user")
    first, second = reply.all("tds:NetworkInterfaces")
    ns = {"tt": TT}
    assert (first.get("token"), second.get("token")) == ("eth0", "eth1")
    assert (first.findtext("tt:Info/tt:MTU", namespaces=ns), second.find("tt:Info/tt:MTU", ns)) == ("1400", None)

    def addresses(version: int) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for element in first.iterfind(f"tt:IPv{version}/tt:Config/*", ns):
            if len(element):
                length = element.findtext("tt:PrefixLength", namespaces=ns)
                text = f"{element.findtext('tt:Address', namespaces=ns)}/{length}"
                found.setdefault(str(etree.QName(element).localname), []).append(text)
        return found

    assert addresses(4) == {
        "Manual": ["192.0.2.7/24"],
        "LinkLocal": ["169.254.3.4/16"],
        "FromDHCP": ["198.51.100.8/25"],
    }
    assert addresses(6) == {
        "Manual": ["2001:db8::7/64"],
        "LinkLocal": ["fe80::7/64"],
        "FromDHCP": ["2001:db8::8/128"],
        "FromRA": ["2001:db8:1::9/64"],
    }
    assert [e.findtext("tt:Enabled", namespaces=ns) for e in (first, second)] == ["true", "false"]
    assert first.findtext("tt:IPv4/tt:Config/tt:DHCP", namespaces=ns) == "true"


async def test_a_host_with_nothing_but_loopback_tells_of_that() -> None:
    house = await a_house()
    loopback = house.network.interfaces()[:1]
    house.network.interfaces = lambda: loopback  # type: ignore[method-assign]
    (only,) = (await house.send("<tds:GetNetworkInterfaces/>")).all("tds:NetworkInterfaces")
    assert only.get("token") == "lo"


async def test_this_host_answers_to_every_question_about_its_network() -> None:
    house = SoapHouse([a_device_service()])
    for name in ("Hostname", "DNS", "NTP", "NetworkInterfaces", "NetworkProtocols", "NetworkDefaultGateway"):
        assert (await house.send(f"<tds:Get{name}/>")).status == 200, name


@pytest.mark.requirement("CO-40")
async def test_the_endpoint_reference_is_the_urn_of_the_installation() -> None:
    house = await a_house()
    assert (await house.send("<tds:GetEndpointReference/>", None)).text("tds:GUID") == f"urn:uuid:{ENDPOINT}"


async def test_the_wsdl_url_leads_to_the_contract() -> None:
    house = await a_house()
    reply = await house.send("<tds:GetWsdlUrl/>", None)
    assert reply.text("tds:WsdlUrl") == "http://recorder.example:8080/onvif/device_service?wsdl"


async def test_defaults_and_restart_are_handed_to_the_system_with_who_asked() -> None:
    house = await a_house()
    for kind in ("Soft", "Hard"):
        body = request("SetSystemFactoryDefault", f"<tds:FactoryDefault>{kind}</tds:FactoryDefault>")
        assert (await house.send(body)).status == 200
    assert (await house.send("<tds:SystemReboot/>")).text("tds:Message")
    assert house.system.told == ["soft default", "hard default but administrator", "restart"]


@pytest.mark.requirement("CO-38")
@pytest.mark.parametrize("discovery", [True, False])
async def test_the_capabilities_of_the_system_tell_of_discovery_and_of_a_network_that_is_not_configured_here(
    discovery: bool,
) -> None:
    house = SoapHouse([a_device_service(discovery=discovery)])
    system = (await house.send("<tds:GetServiceCapabilities/>")).all("tds:Capabilities/tds:System")[0].attrib
    expected = str(discovery).lower()
    assert (system["DiscoveryResolve"], system["DiscoveryBye"]) == (expected, expected)
    assert system["DiscoveryNotSupported"] == str(not discovery).lower()
    assert (system["UserConfigNotSupported"], system["NetworkConfigNotSupported"]) == ("false", "true")
    older = await house.send("<tds:GetCapabilities/>")
    assert older.text("tds:Capabilities/tt:Device/tt:System/tt:DiscoveryBye") == expected


def _zeep_facts(value: Any) -> Any:
    return [(u.Username, u.UserLevel) for u in value]


@pytest.mark.parametrize("own", [False, True], ids=["official", "own"])
async def test_zeep_from_either_contract_calls_every_operation(own: bool) -> None:
    house = await a_house()
    client = house.soap.zeep("device", own=own)
    await client.CreateUsers(User=[{"Username": "ute", "Password": PASSWORD, "UserLevel": "User"}])
    await client.SetUser(User=[{"Username": "ute", "UserLevel": "Operator"}])
    assert _zeep_facts(await client.GetUsers())[2] == ("ute", "Operator")
    await client.DeleteUsers(Username=["ute"])
    await client.AddScopes(ScopeItem=["urn:a"])
    await client.SetScopes(Scopes=["urn:b"])
    assert await client.RemoveScopes(ScopeItem=["urn:b"]) == ["urn:b"]
    assert (await client.GetScopes())[0].ScopeItem == G
    await client.SetDiscoveryMode(DiscoveryMode="NonDiscoverable")
    assert await client.GetDiscoveryMode() == "NonDiscoverable"
    assert (await client.GetHostname()).Name == "recorder"
    assert (await client.GetDNS()).DNSManual[0].IPv4Address == "192.0.2.53"
    assert len((await client.GetNTP()).NTPManual) == 3
    assert (await client.GetNetworkInterfaces())[0].token == "eth0"
    assert (await client.GetNetworkProtocols())[0].Port == [8080]
    assert (await client.GetNetworkDefaultGateway()).IPv4Address == ["192.0.2.1"]
    found = (await client.GetEndpointReference()).GUID
    assert found == ENDPOINT.urn
    assert await client.SystemReboot()
    await client.SetSystemFactoryDefault(FactoryDefault="Soft")
