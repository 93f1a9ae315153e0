"""The messages of discovery: what is read of others, and what we say, as another reader sees it."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from nvr.discovery.message import (
    DN,
    ENV,
    LONGEST,
    RFC3986,
    TDS,
    WSA,
    WSD,
    Announcement,
    Other,
    Place,
    Probe,
    Resolve,
    parse,
    write_bye,
    write_hello,
    write_matching_rule_fault,
    write_probe_matches,
    write_resolve_matches,
)
from nvr.model.errors import FormatError
from tests.support.discovery import probe, request, resolve

ENDPOINT, ID = UUID(int=7), UUID(int=8)
TOLD = Announcement(ENDPOINT, ("onvif://www.onvif.org/Profile/G", "urn:a&b"), ("http://192.0.2.7/", "http://[::1]/"), 3)
NS = {"env": ENV, "wsa": WSA, "d": WSD}


def test_a_probe_with_everything() -> None:
    datagram = probe(
        "d:x t:Device", "onvif://a  onvif://b\n", f"{WSD}/strcmp0", more=f'xmlns:t="{TDS}"', message_id="urn:1"
    )
    assert parse(datagram) == Probe(
        "urn:1", (f"{{{WSD}}}x", f"{{{TDS}}}Device"), ("onvif://a", "onvif://b"), f"{WSD}/strcmp0"
    )


def test_a_probe_that_names_nothing_looks_for_everything() -> None:
    assert parse(probe(message_id=" urn:1\n")) == Probe("urn:1", (), (), RFC3986)
    assert parse(probe("", "")) == Probe("urn:uuid:1", (), (), RFC3986)


def test_types_are_read_by_namespace_and_not_by_prefix() -> None:
    found = parse(probe("Device", more=f'xmlns="{TDS}"'))
    assert isinstance(found, Probe)
    assert found.types == (f"{{{TDS}}}Device",)
    found = parse(probe("Device"))
    assert isinstance(found, Probe)
    assert found.types == ("Device",)
    with pytest.raises(FormatError, match="prefix"):
        parse(probe("nobody:Device"))


def test_a_resolve_names_its_endpoint() -> None:
    assert parse(resolve("urn:uuid:7")) == Resolve("urn:uuid:1", "urn:uuid:7")


def test_what_others_say_asks_nothing() -> None:
    for mine in (write_hello(TOLD, ID, Place(1, 2)), write_probe_matches(TOLD, ID, "urn:1", Place(1, 2))):
        assert parse(mine) == Other()


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\0" * 100,
        b"<a/>",
        b"M-SEARCH * HTTP/1.1\r\n",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + probe(),
        probe().replace(ENV.encode(), b"http://schemas.xmlsoap.org/soap/envelope/"),
        probe(message_id=""),
        probe(message_id="x" * 257),
        request("Probe", ""),
        request("Probe", "<d:Resolve/>"),
        request("Probe", "<d:Probe/><d:Probe/>"),
        request("Resolve", "<d:Resolve/>"),
        probe(scopes="x" * LONGEST),
        probe()[:-1],
    ],
)
def test_what_is_malformed_is_refused(datagram: bytes) -> None:
    with pytest.raises(FormatError):
        parse(datagram)


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    for datagram in (data, probe().replace(b"<d:Probe>", b"<d:Probe>" + data)):
        try:
            parse(datagram)
        except FormatError:
            continue


@given(st.data())
def test_a_probe_with_a_harmed_part_is_read_or_refused(data: st.DataObject) -> None:
    whole = probe("t:Device", "onvif://www.onvif.org/", more=f'xmlns:t="{TDS}"')
    place = data.draw(st.integers(0, len(whole) - 1))
    harm = data.draw(st.binary(max_size=8))
    try:
        parse(whole[:place] + harm + whole[place + len(harm) :])
    except FormatError:
        return


def header(datagram: bytes, name: str) -> str | None:
    return etree.fromstring(datagram).findtext(f"env:Header/{name}", namespaces=NS)


def description(element: etree._Element) -> list[tuple[str, str | None]]:
    return [(str(etree.QName(e).localname), e.text or e.findtext("wsa:Address", namespaces=NS)) for e in element]


EXPECTED = [
    ("EndpointReference", ENDPOINT.urn),
    ("Types", "tds:Device dn:NetworkVideoTransmitter"),
    ("Scopes", "onvif://www.onvif.org/Profile/G urn:a&b"),
    ("XAddrs", "http://192.0.2.7/ http://[::1]/"),
    ("MetadataVersion", "3"),
]


@pytest.mark.requirement("CO-41", "CO-42", "CO-44", "CO-72")
def test_a_hello_tells_everything_to_everybody_in_the_order_of_the_schema() -> None:
    datagram = write_hello(TOLD, ID, Place(1234, 5))
    root = etree.fromstring(datagram)
    assert header(datagram, "wsa:Action") == f"{WSD}/Hello"
    assert header(datagram, "wsa:To") == "urn:schemas-xmlsoap-org:ws:2005:04:discovery"
    assert header(datagram, "wsa:MessageID") == ID.urn
    sequence = root.find("env:Header/d:AppSequence", NS)
    assert dict(sequence.attrib) == {"InstanceId": "1234", "MessageNumber": "5"}
    (hello,) = root.find("env:Body", NS)
    assert hello.tag == f"{{{WSD}}}Hello"
    assert description(hello) == EXPECTED
    types = hello.find("d:Types", NS)
    assert (types.nsmap["tds"], types.nsmap["dn"]) == (TDS, DN)


@pytest.mark.parametrize(
    ("datagram", "action", "path"),
    [
        (write_probe_matches(TOLD, ID, "urn:<1>", Place(1, 2)), "ProbeMatches", "d:ProbeMatches/d:ProbeMatch"),
        (write_resolve_matches(TOLD, ID, "urn:<1>", Place(1, 2)), "ResolveMatches", "d:ResolveMatches/d:ResolveMatch"),
    ],
)
def test_an_answer_relates_to_its_question_and_is_for_the_asker(datagram: bytes, action: str, path: str) -> None:
    assert header(datagram, "wsa:Action") == f"{WSD}/{action}"
    assert header(datagram, "wsa:RelatesTo") == "urn:<1>"
    assert header(datagram, "wsa:To") == "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
    assert description(etree.fromstring(datagram).find(f"env:Body/{path}", NS)) == EXPECTED


def test_a_bye_names_the_endpoint_and_a_fault_the_rules() -> None:
    bye = etree.fromstring(write_bye(ENDPOINT, ID, Place(1, 2)))
    assert bye.findtext("env:Body/d:Bye/wsa:EndpointReference/wsa:Address", namespaces=NS) == ENDPOINT.urn
    fault = etree.fromstring(write_matching_rule_fault(("urn:r",), ID, "urn:1", Place(1, 2)))
    subcode = fault.findtext("env:Body/env:Fault/env:Code/env:Subcode/env:Value", namespaces=NS)
    assert subcode == "d:MatchingRuleNotSupported"
    assert fault.findtext("env:Body/env:Fault/env:Detail/d:SupportedMatchingRules", namespaces=NS) == "urn:r"
