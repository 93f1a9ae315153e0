"""The messages of WS-Discovery (April 2005) as ONVIF Core 7 uses them: SOAP 1.2 over UDP, WS-Addressing of August 2004.

Sans-I/O. What comes in is a Probe or a Resolve; everything else that is heard on the group, the answers of others among
it, is `Other`. What goes out is written as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import UUID
from xml.sax.saxutils import escape

from lxml import etree

from nvr.model.errors import FormatError

ENV: Final = "http://www.w3.org/2003/05/soap-envelope"
WSA: Final = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
WSD: Final = "http://schemas.xmlsoap.org/ws/2005/04/discovery"
TDS: Final = "http://www.onvif.org/ver10/device/wsdl"
DN: Final = "http://www.onvif.org/ver10/network/wsdl"

GROUP: Final = "239.255.255.250"
PORT: Final = 3702
EVERYBODY: Final = "urn:schemas-xmlsoap-org:ws:2005:04:discovery"
"""wsa:To of what is sent to the group."""
ANONYMOUS: Final = f"{WSA}/role/anonymous"

DEVICE_TYPES: Final = (f"{{{TDS}}}Device", f"{{{DN}}}NetworkVideoTransmitter")
"""What the recorder is, in Clark notation; older clients look for the second (ONVIF Core 7.3.2.1)."""
_WRITTEN_TYPES: Final = "tds:Device dn:NetworkVideoTransmitter"

RFC3986: Final = f"{WSD}/rfc3986"
"""The matching rule of a Probe that names none."""

LONGEST: Final = 8192
"""Octets of a request that are looked at; a Probe takes less than one thousand."""
_LONGEST_ID: Final = 256


@dataclass(frozen=True, slots=True)
class Probe:
    """`types` in Clark notation, `scopes` as sent."""

    message_id: str
    types: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    match_by: str = RFC3986


@dataclass(frozen=True, slots=True)
class Resolve:
    """`address` is the endpoint reference that is looked for."""

    message_id: str
    address: str


@dataclass(frozen=True, slots=True)
class Other:
    """A message that asks nothing of us."""


Message: TypeAlias = Probe | Resolve | Other


@dataclass(frozen=True, slots=True)
class Announcement:
    """What the device says of itself."""

    endpoint: UUID
    scopes: tuple[str, ...]
    addresses: tuple[str, ...]
    """Of the device service (XAddrs)."""
    metadata_version: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message stands among those of this start (AppSequence, WS-Discovery appendix I)."""

    instance: int
    number: int


def parse(datagram: bytes) -> Message:
    """Raises FormatError for what is no message of the protocol, or is one with a mistake."""
    if len(datagram) > LONGEST:
        raise FormatError(f"the datagram has more than {LONGEST} octets")
    if b"<!DOCTYPE" in datagram:
        raise FormatError("the message holds a DTD")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
    try:
        root = etree.fromstring(datagram, parser)
    except (etree.XMLSyntaxError, ValueError) as e:
        raise FormatError(f"the message is no XML: {e}") from e
    header, body = root.find(f"{{{ENV}}}Header"), root.find(f"{{{ENV}}}Body")
    if root.tag != f"{{{ENV}}}Envelope" or header is None or body is None:
        raise FormatError("the message is no SOAP 1.2 envelope with header and body")
    action = _text(header, f"{{{WSA}}}Action")
    if action == f"{WSD}/Probe":
        return _probe(_message_id(header), _only(body, "Probe"))
    if action == f"{WSD}/Resolve":
        asked = _only(body, "Resolve")
        address = _text(asked, f"{{{WSA}}}EndpointReference/{{{WSA}}}Address")
        if not address:
            raise FormatError("a Resolve names no endpoint")
        return Resolve(_message_id(header), address)
    return Other()


def _probe(message_id: str, probe: etree._Element) -> Probe:
    scopes = probe.find(f"{{{WSD}}}Scopes")
    match_by = RFC3986 if scopes is None else scopes.get("MatchBy", RFC3986).strip()
    return Probe(message_id, _types(probe), tuple(_words(scopes)), match_by)


def _types(probe: etree._Element) -> tuple[str, ...]:
    element = probe.find(f"{{{WSD}}}Types")
    found = []
    for name in _words(element):
        prefix, colon, local = name.rpartition(":")
        assert element is not None
        namespace = element.nsmap.get(prefix if colon else None)
        if namespace is None and colon:
            raise FormatError("Types holds a prefix that stands for no namespace")
        found.append(f"{{{namespace}}}{local}" if namespace else local)
    return tuple(found)


def _words(element: etree._Element | None) -> list[str]:
    return [] if element is None else (element.text or "").split()


def _only(body: etree._Element, name: str) -> etree._Element:
    if len(body) != 1 or body[0].tag != f"{{{WSD}}}{name}":
        raise FormatError(f"the body does not hold the {name} that the action names")
    return body[0]


def _message_id(header: etree._Element) -> str:
    found = _text(header, f"{{{WSA}}}MessageID")
    if not found or len(found) > _LONGEST_ID:
        raise FormatError("the header holds no MessageID, or too long a one")
    return found


def _text(element: etree._Element, path: str) -> str:
    return str(element.findtext(path) or "").strip()


def write_hello(announcement: Announcement, message_id: UUID, place: Place) -> bytes:
    body = f"<d:Hello>{_description(announcement)}</d:Hello>"
    return _envelope("Hello", EVERYBODY, message_id, body, place)


def write_bye(endpoint: UUID, message_id: UUID, place: Place) -> bytes:
    return _envelope("Bye", EVERYBODY, message_id, f"<d:Bye>{_reference(endpoint)}</d:Bye>", place)


def write_probe_matches(announcement: Announcement, message_id: UUID, relates_to: str, place: Place) -> bytes:
    body = f"<d:ProbeMatches><d:ProbeMatch>{_description(announcement)}</d:ProbeMatch></d:ProbeMatches>"
    return _envelope("ProbeMatches", ANONYMOUS, message_id, body, place, relates_to)


def write_resolve_matches(announcement: Announcement, message_id: UUID, relates_to: str, place: Place) -> bytes:
    body = f"<d:ResolveMatches><d:ResolveMatch>{_description(announcement)}</d:ResolveMatch></d:ResolveMatches>"
    return _envelope("ResolveMatches", ANONYMOUS, message_id, body, place, relates_to)


def write_matching_rule_fault(rules: Sequence[str], message_id: UUID, relates_to: str, place: Place) -> bytes:
    """The answer to a Probe by unicast with a rule that we do not know (WS-Discovery 5.2)."""
    body = (
        "<env:Fault><env:Code><env:Value>env:Sender</env:Value>"
        "<env:Subcode><env:Value>d:MatchingRuleNotSupported</env:Value></env:Subcode></env:Code>"
        '<env:Reason><env:Text xml:lang="en">the matching rule is not supported</env:Text></env:Reason>'
        f"<env:Detail><d:SupportedMatchingRules>{escape(' '.join(rules))}</d:SupportedMatchingRules></env:Detail>"
        "</env:Fault>"
    )
    return _envelope("fault", ANONYMOUS, message_id, body, place, relates_to)


def _description(announcement: Announcement) -> str:
    """What Hello, ProbeMatch and ResolveMatch share, in schema order."""
    return (
        f"{_reference(announcement.endpoint)}<d:Types>{_WRITTEN_TYPES}</d:Types>"
        f"<d:Scopes>{escape(' '.join(announcement.scopes))}</d:Scopes>"
        f"<d:XAddrs>{escape(' '.join(announcement.addresses))}</d:XAddrs>"
        f"<d:MetadataVersion>{announcement.metadata_version}</d:MetadataVersion>"
    )


def _reference(endpoint: UUID) -> str:
    return f"<wsa:EndpointReference><wsa:Address>{endpoint.urn}</wsa:Address></wsa:EndpointReference>"


def _envelope(name: str, to: str, message_id: UUID, body: str, place: Place, relates_to: str | None = None) -> bytes:
    related = "" if relates_to is None else f"<wsa:RelatesTo>{escape(relates_to)}</wsa:RelatesTo>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<env:Envelope xmlns:env="{ENV}" xmlns:wsa="{WSA}" xmlns:d="{WSD}" xmlns:tds="{TDS}" xmlns:dn="{DN}">'
        f"<env:Header><wsa:Action>{WSD}/{name}</wsa:Action><wsa:MessageID>{message_id.urn}</wsa:MessageID>{related}"
        f'<wsa:To>{to}</wsa:To><d:AppSequence InstanceId="{place.instance}" MessageNumber="{place.number}"/>'
        f"</env:Header><env:Body>{body}</env:Body></env:Envelope>"
    ).encode()
