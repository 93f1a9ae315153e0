"""The declared models of the services against wsdl/: what a client reads there is what the daemon takes and sends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import nvr.soap  # noqa: F401  spyne is imported by its rules, before anybody else does it

# isort: split

import pytest
from lxml import etree
from spyne.model import ComplexModelBase
from spyne.model.complex import XmlAttribute, XmlData
from spyne.model.primitive import AnyUri, Boolean, DateTime, Duration, Float, Integer32, Unicode

from nvr.soap import device, event, media, receiver, recording, replay, search
from nvr.soap.model import Struct
from nvr.soap.plan import plan_of, root
from nvr.soap.service import BoundService, Service
from tests.conformance.wsdl_facts import WSDL, XS
from tests.support.official_schema import OWN_ROOT

SERVICES: tuple[type[Service], ...] = (
    recording.RecordingService,
    receiver.ReceiverService,
    search.SearchService,
    replay.ReplayService,
    device.DeviceService,
    media.MediaService,
    event.EventService,
    event.SubscriptionService,
)

ALLOWED = {
    "GetCurrentMessage:  in the model, Topic in the file": (
        "the topic is read from its element, whose prefixes mean what is declared there; the handler asks for it"
    ),
    "GetCurrentMessageResponse: lacks any in the model, not so in the file": "never sent: every answer is a fault",
    "SourceReference/Token: [0..1] in the model, [1..1] in the file": (
        "clients that want an automatic receiver send a SourceToken with @Type only, which 5.3.3 takes as not given;"
        " an answer always holds the Token"
    ),
    "RecordingJobConfiguration/@ScheduleToken: xs:string in the model, xs:anySimpleType in the file": (
        "the attribute has no type in the file: any text is taken"
    ),
    "SourceReference/@Type: default None in the model, 'http://www.onvif.org/ver10/schema/Receiver' in the file": (
        "the domain puts the default in"
    ),
    "Capabilities: Device, Events, Media, Extension in the model,"
    " Analytics, Device, Events, Imaging, Media, PTZ, Extension in the file": (
        "sent only, and without the services that the device does not have"
    ),
    "DeviceServiceCapabilities: Network, Security, System in the model, Network, Security, System, Misc in the file": (
        "sent only; there are no auxiliary commands"
    ),
    "GetEndpointReferenceResponse: lacks any in the model, not so in the file": "sent only, and nothing more to say",
    "NetworkInterface: Enabled, Info, IPv4, IPv6 in the model,"
    " Enabled, Info, Link, IPv4, IPv6, Extension in the file": (
        "sent only; no unprivileged process is told what a link negotiates"
    ),
    "NetworkInterfaceSetConfigurationExtension:  in the model, Dot3, Dot11, Extension in the file": (
        "open: whatever it holds is refused with the fault for a wrong type of interface"
    ),
    "NetworkProtocol/Name: xs:string in the model, xs:string (HTTP, HTTPS, RTSP) in the file": (
        "SetNetworkProtocols has a fault of its own for a protocol that the device does not know"
    ),
    **{
        f"{message}: lacks any in the model, not so in the file": "no other elements are ever put into this answer"
        for message in (
            "CreatePullPointSubscriptionResponse",
            "GetEventPropertiesResponse",
            "SubscribeResponse",
            "RenewResponse",
            "UnsubscribeResponse",
        )
    },
    "EndpointReferenceType/Address: complex in one, simple in the other": "an address has no attributes here",
    "TopicSetType:  in the model, documentation in the file": "the set is only ever answered, without documentation",
}
"""Every difference between the models and wsdl/, and why it is there. A path starts at the last named type."""

SIMPLE = {
    "string": Unicode,
    "anyURI": AnyUri,
    "boolean": Boolean,
    "int": Integer32,
    "float": Float,
    "dateTime": DateTime,
    "duration": Duration,
}


@dataclass(frozen=True, slots=True)
class Simple:
    """A simple type brought to its base: name of the xs: type, facets, and the item of a list."""

    base: str
    longest: int | None = None
    words: frozenset[str] = frozenset()
    item: str | None = None

    def __str__(self) -> str:
        if self.item is not None:
            return f"list of xs:{self.item}"
        facets = ([f"up to {self.longest}"] if self.longest else []) + sorted(self.words)
        return f"xs:{self.base}" + (f" ({', '.join(facets)})" if facets else "")


class Files:
    """The types that wsdl/ declares, by qualified name in Clark notation."""

    def __init__(self, contract: str) -> None:
        self.types: dict[str, etree._Element] = {}
        self.elements: dict[str, etree._Element] = {}
        wsdl = etree.parse(OWN_ROOT / contract).getroot()
        imported = ("onvif.xsd", "wsnt.xsd", "topics.xsd", "addressing.xsd")
        schemas = [*wsdl.iterfind(f"{WSDL}types/{XS}schema"), *(etree.parse(OWN_ROOT / n).getroot() for n in imported)]
        for schema in schemas:
            target = schema.attrib["targetNamespace"]
            for child in schema.iterchildren(tag=etree.Element):
                home = self.elements if child.tag == f"{XS}element" else self.types
                if "name" in child.attrib:
                    home[f"{{{target}}}{child.attrib['name']}"] = child
        self.operations = {o.attrib["name"] for o in wsdl.iterfind(f"{WSDL}portType/{WSDL}operation")}

    def element(self, node: etree._Element) -> etree._Element:
        """The declaration of an element, also where only a reference to it stands."""
        return self.elements[_clark(node, node.attrib["ref"])] if "ref" in node.attrib else node

    def complex_type(self, node: etree._Element) -> etree._Element | None:
        """The complex type of an element, inline or by name; None when its type is simple."""
        node = self.element(node)
        inline = node.find(f"{XS}complexType")
        if inline is not None:
            return inline
        named = self.types.get(_clark(node, node.get("type")))
        return named if named is not None and named.tag == f"{XS}complexType" else None

    def parts(self, declared: etree._Element) -> list[etree._Element]:
        """Where the content of a complex type stands: in itself, or in its base and in its extension of it."""
        extension = declared.find(f"{XS}complexContent/{XS}extension")
        if extension is None:
            return [declared]
        return [*self.parts(self.types[_clark(extension, extension.attrib["base"])]), extension]

    def simple(self, node: etree._Element) -> Simple:
        """The simple type of an element or attribute."""
        node = self.element(node)
        return self._resolve(_clark(node, node.get("type", "xs:anySimpleType")))

    def _resolve(self, name: str) -> Simple:
        if name.startswith(XS):
            return Simple(name.removeprefix(XS))
        declared = self.types[name]
        listed = declared.find(f"{XS}list")
        if listed is not None:
            return Simple("string", item=self._resolve(_clark(listed, listed.attrib["itemType"])).base)
        if declared.find(f"{XS}union") is not None:
            return Simple("string")  # the service tells the members of the union apart
        restriction = declared.find(f"{XS}restriction")
        assert restriction is not None
        base = self._resolve(_clark(restriction, restriction.attrib["base"]))
        longest = restriction.find(f"{XS}maxLength")
        words = frozenset(e.attrib["value"] for e in restriction.iterfind(f"{XS}enumeration"))
        return Simple(
            base.base, int(longest.attrib["value"]) if longest is not None else base.longest, words or base.words
        )


def differences(struct: type[Struct], declared: etree._Element, files: Files, path: str) -> Iterator[str]:
    """What a model and a complex type of the file do not share, as lines that start with where it is."""
    path = declared.get("name", path)
    members = struct.get_flat_type_info(struct).items()
    model = {name: t for name, t in members if not issubclass(t, XmlAttribute | XmlData)}  # text is no element
    attributes = {name: t for name, t in struct.get_flat_type_info(struct).items() if issubclass(t, XmlAttribute)}
    parts = files.parts(declared)
    elements = {
        files.element(e).attrib["name"]: e for part in parts for e in part.iterfind(f"{XS}sequence/{XS}element")
    }
    if [t.Attributes.sub_name or n for n, t in model.items()] != list(elements):
        yield f"{path}: {', '.join(model)} in the model, {', '.join(elements)} in the file"
        return
    plan = plan_of(struct)
    wildcards = ((plan.takes_elements, f"{XS}sequence/{XS}any"), (plan.takes_attributes, f"{XS}anyAttribute"))
    for takes, wildcard in wildcards:
        found = [node for part in parts for node in part.iterfind(wildcard)]
        if takes != bool(found):
            what = wildcard.rpartition("}")[2]
            yield f"{path}: {'takes' if takes else 'lacks'} {what} in the model, not so in the file"
        only = "##targetNamespace" if plan.only else None
        if takes and wildcard.endswith("any") and only != (found[0].get("namespace") if only else None):
            yield f"{path}: takes elements of {plan.only} in the model, not so in the file"
    for type_, (name, element) in zip(model.values(), elements.items(), strict=True):
        where = f"{path}/{name}"
        most = type_.Attributes.max_occurs
        here = f"[{type_.Attributes.min_occurs}..{'*' if most == float('inf') else int(most)}]"
        there = f"[{element.get('minOccurs', '1')}..{element.get('maxOccurs', '1').replace('unbounded', '*')}]"
        if here != there:
            yield f"{where}: {here} in the model, {there} in the file"
        complex_type = files.complex_type(element)
        if complex_type is not None and issubclass(type_, ComplexModelBase):
            yield from differences(root(type_), complex_type, files, where)
        elif complex_type is not None or issubclass(type_, ComplexModelBase):
            yield f"{where}: complex in one, simple in the other"
        elif _simple(type_) != files.simple(element):
            yield f"{where}: {_simple(type_)} in the model, {files.simple(element)} in the file"
    in_file = {a.attrib["name"]: a for part in parts for a in part.iterfind(f"{XS}attribute")}
    if {t.type.Attributes.sub_name or n for n, t in attributes.items()} != set(in_file):
        yield f"{path}: attributes {sorted(attributes)} in the model, {sorted(in_file)} in the file"
        return
    for name, type_ in attributes.items():
        yield from _attribute_differences(type_, in_file[type_.type.Attributes.sub_name or name], files, path)


def _attribute_differences(type_: Any, declared: etree._Element, files: Files, path: str) -> Iterator[str]:
    where = f"{path}/@{declared.attrib['name']}"
    if type_._use != declared.get("use", "optional"):
        yield f"{where}: {type_._use} in the model, {declared.get('use', 'optional')} in the file"
    if _simple(type_.type) != files.simple(declared):
        yield f"{where}: {_simple(type_.type)} in the model, {files.simple(declared)} in the file"
    if type_.type.Attributes.default != declared.get("default"):
        default = type_.type.Attributes.default
        yield f"{where}: default {default!r} in the model, {declared.get('default')!r} in the file"


def _simple(type_: Any) -> Simple:
    item = getattr(type_.Attributes, "list_item", None)
    base = next(name for name, cls in reversed(SIMPLE.items()) if issubclass(type_, cls))
    if item is not None:
        return Simple("string", item=_simple(item).base)
    if not issubclass(type_, Unicode):
        return Simple(base)
    if getattr(type_.Attributes, "collapsed", False):
        base = "token"
    longest = type_.Attributes.max_len
    return Simple(base, None if longest == float("inf") else int(longest), frozenset(type_.Attributes.values))


def _clark(node: etree._Element, name: str | None) -> str:
    if name is None:
        return ""
    prefix, _, local = name.rpartition(":")
    return f"{{{node.nsmap[prefix or None]}}}{local}"


def found_in(service: type[Service]) -> set[str]:
    files = Files(service.contract)
    found: set[str] = set()
    for bound in BoundService(object.__new__(service)).operations():
        name = bound.operation.name
        for struct, tag in ((bound.request, name), (bound.response, f"{name}Response")):
            declared = files.elements[f"{{{bound.operation.namespace or service.namespace}}}{tag}"].find(
                f"{XS}complexType"
            )
            assert declared is not None
            found |= set(differences(struct, declared, files, tag))
    return found


def test_models_and_files_differ_only_where_the_list_says_so() -> None:
    found = {line for service in SERVICES for line in found_in(service)}
    assert found - ALLOWED.keys() == set(), "models and wsdl/ differ"
    assert ALLOWED.keys() - found == set(), "these differences are listed and do not exist any more"


@pytest.mark.parametrize("service", SERVICES, ids=lambda s: s.contract)
def test_every_declared_operation_is_implemented_or_named_as_missing(service: type[Service]) -> None:
    together = [s for s in SERVICES if s.contract == service.contract]
    implemented = {b.operation.name for s in together for b in BoundService(object.__new__(s)).operations()}
    declared = Files(service.contract).operations
    missing = frozenset[str]().union(*(s.not_implemented for s in together))
    assert implemented | (missing & declared) == declared
    # Of the device service the file carries what is implemented; tests of that service compare the rest.
    assert service.not_implemented <= declared or service in (device.DeviceService, media.MediaService)
    assert implemented & service.not_implemented == set()
