"""From a request's element to a Struct, as strictly as the schema is.

Checked: namespace and name of each element, order, occurrence, attributes, lexical form and facets of values, stray
text. Kept: elements and attributes that a type does not know and the schema lets it take (xs:any, xs:anyAttribute),
among them what a newer edition has added.
"""

from __future__ import annotations

from typing import Any

from lxml import etree

from nvr.model.errors import FormatError
from nvr.soap.extensions import attributes_text
from nvr.soap.faults import invalid_args, invalid_value
from nvr.soap.model import Struct
from nvr.soap.names import ENV, XML, XSI
from nvr.soap.plan import ElementPlan, Plan, plan_of
from nvr.soap.values import Codec, OutsideValueSpace, shown

MAX_DEPTH = 32
"""Nesting of declared types; only a type that contains itself could ever reach it."""

_ALWAYS_ALLOWED = (f"{{{XSI}}}", f"{{{XML}}}")
"""xsi:type, xsi:schemaLocation, xml:lang: nothing here depends on them. xml: ones are kept where attributes are."""
_NIL = f"{{{XSI}}}nil"


def read(cls: type[Struct], element: etree._Element, depth: int = 0) -> Struct:
    """Raises SoapFault, Sender / ter:InvalidArgs or ter:InvalidArgVal, naming the element."""
    plan = plan_of(cls)
    if depth > MAX_DEPTH:
        raise invalid_args(f"{_name(element)} is nested too deeply")
    made = cls()
    members = made.__dict__
    counts = [0] * len(plan.elements)
    kept: list[etree._Element] = []
    last = 0
    if plan.content is None:
        _no_text(element.text, element)
    else:
        member, codec = plan.content
        members[member] = _parse(codec, element.text or "", _name(element))
    for child in element:
        _no_text(child.tail, element)
        found = plan.by_tag.get(child.tag)
        if found is None:
            _keep(plan, child, element)
            kept.append(child)
            continue
        if found.index < last or kept:
            raise invalid_args(f"{_name(child)} stands out of order in {_name(element)}")
        last = found.index
        counts[last] += 1
        if found.maximum is not None and counts[last] > found.maximum:
            raise invalid_args(f"{_name(element)} holds more than {found.maximum} {_name(child)}")
        value = _value(found, child, depth)
        if not found.repeats:
            members[found.member] = value
        elif counts[last] == 1:
            members[found.member] = [value]
        else:
            members[found.member].append(value)
    for wanted in plan.elements:
        if counts[wanted.index] < wanted.minimum:
            raise invalid_args(f"{_name(element)} lacks {wanted.label.partition(':')[2]}")
    if kept:
        members["any_elements"] = tuple(kept)
    _attributes(plan, element, members)
    return made


def _value(plan: ElementPlan, element: etree._Element, depth: int) -> Any:
    if element.attrib and element.get(_NIL, "").strip() in ("true", "1"):
        if plan.nillable and not len(element) and not (element.text or "").strip():
            return None
        raise invalid_args(f"{_name(element)} must not be nil")
    if plan.struct is not None:
        return read(plan.struct, element, depth + 1)
    assert plan.codec is not None
    if len(element):
        raise invalid_args(f"{_name(element)} holds elements instead of a value")
    for name in element.attrib:
        if not name.startswith(_ALWAYS_ALLOWED):
            raise invalid_args(f"{_name(element)} has the unknown attribute {shown(name)}")
    # <Name/> is the empty string, not the absence of a value.
    return _parse(plan.codec, element.text or "", _name(element))


def _parse(codec: Codec, text: str, where: str) -> Any:
    try:
        return codec.parse(text)
    except OutsideValueSpace as e:
        raise invalid_value(f"{where}: {e}") from e
    except FormatError as e:
        raise invalid_args(f"{where}: {e}") from e


def _attributes(plan: Plan, element: etree._Element, members: dict[str, Any]) -> None:
    unknown: list[str] = []
    for name in element.attrib:  # its items() take a time that grows with the square of their number
        found = plan.by_attribute.get(name)
        if found is not None:
            members[found.member] = _parse(found.codec, element.attrib[name], f"{_name(element)}/@{name}")
        elif plan.takes_attributes and not name.startswith(f"{{{XSI}}}"):
            unknown.append(name)
        elif not name.startswith(_ALWAYS_ALLOWED):
            raise invalid_args(f"{_name(element)} has the unknown attribute {shown(name)}")
    if unknown:
        members["any_attributes"] = attributes_text(element, unknown)
    for wanted in plan.attributes:
        if wanted.required and wanted.name not in element.attrib:
            raise invalid_args(f"{_name(element)} lacks the attribute {wanted.name}")


def _keep(plan: Plan, child: etree._Element, parent: etree._Element) -> None:
    """Nobody takes unqualified elements, which no schema here has, nor SOAP's own."""
    namespace = etree.QName(child).namespace
    if not plan.takes_elements or namespace in (None, ENV) or plan.only not in (None, namespace):
        raise invalid_args(f"{_name(parent)} holds the unknown element {shown(str(child.tag))}")


def _no_text(text: str | None, element: etree._Element) -> None:
    if text and not text.isspace():
        raise invalid_args(f"{_name(element)} holds the stray text {shown(text.strip())}")


def _name(element: etree._Element) -> str:
    name = str(etree.QName(element).localname)
    return name if len(name) <= 64 else name[:61] + "..."
