"""A schema-valid request for every operation of the official WSDLs: required members only, harmless values.

The elements come from zeep's reading of the WSDLs; enumerations, which zeep does not keep, from the schema files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import zeep
from lxml import etree
from zeep import xsd

from tests.support.official_schema import SERVICES, XS, ValidatingTransport, official_root

WSDLS = (*(s.path for s in SERVICES.values()), "ver10/events/wsdl/event.wsdl", "ver10/media/wsdl/media.wsdl")
"""Of every service that the recorder offers or may offer."""

VALUES = {"dateTime": "2026-03-01T12:00:00Z", "duration": "PT10S", "boolean": "false", "float": "1.0", "int": "1"}
BY_NAME = {
    # What would make a noise in the network, should the call be carried out.
    "DiscoveryMode": "NonDiscoverable",
    "MediaUri": "rtsp://127.0.0.1:1/nobody",
    "Address": "http://127.0.0.1:1/nobody",
    "Timeout": "PT0S",
    "DateTimeType": "Manual",
    "Protocol": "RTSP",
    "TerminationTime": "PT10S",
}
STRINGS = {"Mode": "Idle"}
"""Texts for elements whose type is a bare string in the schema and an enumeration in the standard's text."""


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """`name` is the local name of the request element without `Request`; `body` the element."""

    name: str
    namespace: str
    body: etree._Element


@cache
def sample_requests() -> tuple[SampleRequest, ...]:
    """One for each operation of every service, in the order of the files; an operation of two bindings comes once."""
    found: dict[str, SampleRequest] = {}
    words = _first_words()
    for path in dict.fromkeys(WSDLS):
        document = zeep.Client(str(official_root() / path), transport=ValidatingTransport()).wsdl
        for binding in document.bindings.values():
            for operation in binding._operations.values():
                element = operation.input.body
                if element is None or str(element.qname) in found:
                    continue
                request = etree.Element(str(element.qname))
                _fill(request, element.type, words)
                name = element.qname.localname.removesuffix("Request")
                found[str(element.qname)] = SampleRequest(name, element.qname.namespace, request)
    return tuple(found.values())


def _fill(parent: etree._Element, kind: Any, words: dict[str, str], depth: int = 0) -> None:
    assert depth < 12, f"{parent.tag} contains itself"
    if not isinstance(kind, xsd.ComplexType):
        parent.text = _value(parent, kind, words)
        return
    for name, attribute in kind.attributes:
        if name is not None and getattr(attribute, "required", False):
            parent.set(name, _value(parent, attribute.type, words, name))
    for element in _members(kind):
        if element.name == "_value_1":  # zeep's name of a text beside attributes
            parent.text = _value(parent, element.type, words)
        elif element.min_occurs:
            _fill(etree.SubElement(parent, str(element.qname)), element.type, words, depth + 1)


def _members(kind: Any) -> Iterator[Any]:
    for _, element in kind.elements:
        if isinstance(element, xsd.Element) and not isinstance(element, xsd.Any):
            yield element


def _value(element: etree._Element, kind: Any, words: dict[str, str], name: str | None = None) -> str:
    local = name or etree.QName(element).localname
    if local in BY_NAME:
        return BY_NAME[local]
    if kind.qname is not None and kind.qname.localname in words:
        return words[kind.qname.localname]
    base = next((c.__name__.lower() for c in type(kind).__mro__ if c.__name__.lower() in _LOWER), None)
    return STRINGS.get(local, "x") if base is None else VALUES[_LOWER[base]]


_LOWER = {name.lower(): name for name in VALUES} | {"integer": "int", "decimal": "int"}


def _first_words() -> dict[str, str]:
    """The first enumerated value of each simple type, by the type's local name."""
    words: dict[str, str] = {}
    for path in sorted(official_root().rglob("*.xsd")) + [official_root() / p for p in WSDLS]:
        for simple in etree.parse(path).iter(f"{XS}simpleType"):
            first = simple.find(f"{XS}restriction/{XS}enumeration")
            if simple.get("name") and first is not None:
                words.setdefault(str(simple.get("name")), str(first.get("value")))
    return words
