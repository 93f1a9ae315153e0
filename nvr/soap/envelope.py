"""From the bytes of a request to its header blocks and the one element of its body (SOAP 1.2 part 1)."""

from __future__ import annotations

from dataclasses import dataclass

from lxml import etree

from nvr.soap.faults import invalid_args, must_understand, not_well_formed, version_mismatch
from nvr.soap.names import ENV, WSA, WSSE

_ULTIMATE_ROLES = (f"{ENV}/role/next", f"{ENV}/role/ultimateReceiver", "")
_UNDERSTOOD = frozenset((WSSE, WSA))

MAX_HEADER_BLOCKS = 32
MAX_ELEMENTS = 8192
"""Of a message, whatever they are. Each one that is looked at costs a Python object."""
MAX_ATTRIBUTES = 64
"""Of one element. Looking one up takes libxml2 as many steps as stand before it."""

_ELEMENTS = etree.XPath("count(//*)")
_WIDE = etree.XPath(f"boolean(//*[@*[{MAX_ATTRIBUTES + 1}]])")


@dataclass(frozen=True, slots=True)
class Envelope:
    headers: tuple[etree._Element, ...]
    body: etree._Element


def parse_envelope(data: bytes) -> Envelope:
    """Raises SoapFault. No DTD is accepted, nothing outside `data` is read, entities are not expanded.

    Anybody may send messages: those that hold more than is ever needed are refused before Python looks at their parts.

    libxml2 works without the interpreter's lock: large messages are best parsed in a thread.
    """
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as e:
        raise not_well_formed("the message is not well-formed XML") from e
    document = root.getroottree().docinfo
    if document.doctype or document.internalDTD is not None:
        # SOAP 1.2 part 1, 5: a message must not hold a document type declaration.
        raise not_well_formed("the message holds a document type declaration")
    if root.tag != f"{{{ENV}}}Envelope":
        if etree.QName(root).localname == "Envelope":
            raise version_mismatch()
        raise not_well_formed("the message is no SOAP envelope")
    _check_size(root)
    parts = list(root)
    headers: tuple[etree._Element, ...] = ()
    if parts and parts[0].tag == f"{{{ENV}}}Header":
        if len(parts[0]) > MAX_HEADER_BLOCKS:
            raise invalid_args(f"the header holds more than {MAX_HEADER_BLOCKS} blocks")
        headers = tuple(parts.pop(0))
    if len(parts) != 1 or parts[0].tag != f"{{{ENV}}}Body":
        raise not_well_formed("the envelope does not hold one optional Header and one Body")
    if len(parts[0]) != 1:
        raise not_well_formed("the body does not hold exactly one element")
    _check_understood(headers)
    return Envelope(headers, parts[0][0])


def _check_size(root: etree._Element) -> None:
    if _ELEMENTS(root) > MAX_ELEMENTS:
        raise invalid_args(f"the message holds more than {MAX_ELEMENTS} elements")
    if _WIDE(root):
        raise invalid_args(f"an element holds more than {MAX_ATTRIBUTES} attributes")


def _check_understood(headers: tuple[etree._Element, ...]) -> None:
    """SOAP 1.2 part 1, 2.4: a mandatory block that is addressed to this node and unknown to it stops the processing."""
    unknown = []
    for block in headers:
        mandatory = block.get(f"{{{ENV}}}mustUnderstand", "").strip() in ("1", "true")
        for_us = block.get(f"{{{ENV}}}role", "").strip() in _ULTIMATE_ROLES
        if mandatory and for_us and etree.QName(block).namespace not in _UNDERSTOOD:
            unknown.append(str(block.tag))
    if unknown:
        raise must_understand(tuple(unknown))
