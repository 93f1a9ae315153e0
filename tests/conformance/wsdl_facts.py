"""What a WSDL or XSD file states, as plain lines that can be compared: names, types, order, occurrence, wildcards,
attributes, enumerations, operations and SOAPActions. Prefixes are resolved; documentation and layout are left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

from lxml import etree

XS = "{http://www.w3.org/2001/XMLSchema}"
WSDL = "{http://schemas.xmlsoap.org/wsdl/}"
SOAP = "{http://schemas.xmlsoap.org/wsdl/soap12/}"

PREFIXES = {
    "http://www.w3.org/2001/XMLSchema": "xs",
    "http://www.w3.org/XML/1998/namespace": "xml",
    "http://www.w3.org/2005/08/addressing": "wsa",
    "http://www.w3.org/2003/05/soap-envelope": "env",
    "http://www.w3.org/2004/08/xop/include": "xop",
    "http://docs.oasis-open.org/wsn/b-2": "wsnt",
    "http://docs.oasis-open.org/wsn/t-1": "wstop",
    "http://docs.oasis-open.org/wsn/bw-2": "wsntw",
    "http://www.onvif.org/ver10/events/wsdl": "tev",
    "http://www.onvif.org/ver10/schema": "tt",
    "http://www.onvif.org/ver10/device/wsdl": "tds",
    "http://www.onvif.org/ver10/recording/wsdl": "trc",
    "http://www.onvif.org/ver10/search/wsdl": "tse",
    "http://www.onvif.org/ver10/receiver/wsdl": "trv",
    "http://www.onvif.org/ver10/replay/wsdl": "trp",
    "http://www.onvif.org/ver10/media/wsdl": "trt",
}
"""Short names for namespaces, so that a difference can be read; others stand in full."""


_PLAIN = ("value", "use", "default", "fixed", "nillable", "mixed")
_DEFAULTS = {("use", "optional"), ("nillable", "false"), ("mixed", "false")}


@dataclass(slots=True)
class Facts:
    """`components`: global elements and types of a schema, `operations`: those of a portType with its binding;
    each name with its lines in document order."""

    components: dict[str, list[str]] = field(default_factory=dict)
    operations: dict[str, list[str]] = field(default_factory=dict)

    def without(self, other: Facts) -> list[str]:
        """Differences to `other` in everything that is in here: `<` stands here only, `>` stands there only."""
        found = []
        for here, there in ((self.components, other.components), (self.operations, other.operations)):
            for name, lines in here.items():
                found += [f"{name}: {d}" for d in _difference(lines, there.get(name))]
        return found


def schema_facts(path: Path) -> Facts:
    """The facts of an XSD file and of what it includes (not: imports)."""
    facts = Facts()
    root = etree.parse(path).getroot()
    for include in root.iterfind(f"{XS}include"):
        facts.components |= schema_facts(path.parent / include.attrib["schemaLocation"]).components
    _add_components(root, facts)
    return facts


def wsdl_facts(path: Path) -> Facts:
    """The facts of a WSDL file: its schema, and its operations as the bindings offer them.

    Port types and messages may stand in WSDL files that it imports. Operations of a file with several bindings carry
    the name of theirs.
    """
    facts = Facts()
    root = etree.parse(path).getroot()
    for schema in root.iterfind(f"{WSDL}types/{XS}schema"):
        _add_components(schema, facts)
    roots = [root, *(etree.parse(path.parent / i.attrib["location"]).getroot() for i in root.iterfind(f"{WSDL}import"))]
    messages = {m.attrib["name"]: m for r in reversed(roots) for m in r.iterfind(f"{WSDL}message")}
    port_types = {p.attrib["name"]: p for r in reversed(roots) for p in r.iterfind(f"{WSDL}portType")}
    bindings = root.findall(f"{WSDL}binding")
    assert bindings, f"{path} has no binding"
    for binding in bindings:
        port_type = port_types[binding.attrib["type"].split(":")[-1]]
        _add_operations(binding, port_type, messages, facts, f"{binding.attrib['name']} " if bindings[1:] else "")
    return facts


def _add_operations(
    binding: etree._Element, port_type: etree._Element, messages: dict[str, etree._Element], facts: Facts, prefix: str
) -> None:
    transport = binding.find(f"{SOAP}binding")
    assert transport is not None, f"{binding.attrib['name']} is no binding to SOAP 1.2"
    head = [
        f"portType {port_type.attrib['name']}",
        f"binding {binding.attrib['name']} of {_name(binding, binding.attrib['type'])}",
        f"{transport.attrib['style']} over {transport.attrib['transport']}",
    ]
    facts.operations[f"{prefix}service"] = head
    bound = {o.attrib["name"]: o for o in binding.iterfind(f"{WSDL}operation")}
    for operation in port_type.iterfind(f"{WSDL}operation"):
        name = operation.attrib["name"]
        if name not in bound:
            continue  # the standard's own file binds fewer operations than the port type has
        lines = [f"action {bound[name].find(f'{SOAP}operation').attrib['soapAction']}"]
        for way in ("input", "output"):
            told = operation.find(f"{WSDL}{way}")
            if told is None:
                continue  # one way
            message = messages[told.attrib["message"].split(":")[-1]]
            lines += [
                f"{way} {message.attrib['name']}: {p.attrib['name']} {_name(p, p.attrib['element'])}"
                for p in message.iterfind(f"{WSDL}part")
            ]
            lines += [f"{way} body {b.attrib['use']}" for b in bound[name].iterfind(f"{WSDL}{way}/{SOAP}body")]
        facts.operations[f"{prefix}operation {name}"] = lines


def target_namespace(path: Path) -> str:
    return str(etree.parse(path).getroot().attrib["targetNamespace"])


def _add_components(schema: etree._Element, facts: Facts) -> None:
    prefix = PREFIXES.get(schema.attrib["targetNamespace"], schema.attrib["targetNamespace"])
    forms = (schema.get("elementFormDefault", "unqualified"), schema.get("attributeFormDefault", "unqualified"))
    facts.components[f"schema {prefix}"] = [f"forms {forms[0]} {forms[1]}"]
    for component in schema.iterchildren(f"{XS}element", f"{XS}complexType", f"{XS}simpleType", f"{XS}attribute"):
        kind = etree.QName(component).localname
        facts.components[f"{kind} {prefix}:{component.attrib['name']}"] = list(_lines(component, 0, top=True))


def _lines(node: etree._Element, depth: int, top: bool = False) -> Iterator[str]:
    kind = etree.QName(node).localname
    words = [kind]
    if "name" in node.attrib and not top:
        words.append(node.attrib["name"])
    words += [_name(node, node.attrib[k]) for k in ("ref", "type", "base", "itemType") if k in node.attrib]
    if "memberTypes" in node.attrib:
        words += [_name(node, member) for member in node.attrib["memberTypes"].split()]
    words += [f"{k}={node.attrib[k]}" for k in _PLAIN if k in node.attrib and (k, node.attrib[k]) not in _DEFAULTS]
    if kind in ("any", "anyAttribute"):
        words.append(f"{node.get('namespace', '##any')} {node.get('processContents', 'strict')}")
    if kind in ("element", "any", "sequence", "choice") and not top:
        most = node.get("maxOccurs", "1").replace("unbounded", "*")
        words.append(f"[{node.get('minOccurs', '1')}..{most}]")
    yield "  " * depth + " ".join(words)
    for child in node.iterchildren(tag=etree.Element):
        if child.tag != f"{XS}annotation":
            yield from _lines(child, depth + 1)


def _name(node: etree._Element, qname: str) -> str:
    prefix, _, local = qname.rpartition(":")
    namespace = node.nsmap[prefix or None]
    return f"{PREFIXES.get(namespace, namespace)}:{local}"


def _difference(here: list[str], there: list[str] | None) -> list[str]:
    if there is None:
        return ["> is not there at all"]
    if here == there:
        return []
    # longest common subsequence by difflib: an element that has moved shows as removed here and added there

    found = []
    for what, a0, a1, b0, b1 in SequenceMatcher(a=here, b=there, autojunk=False).get_opcodes():
        if what != "equal":
            found += [f"< {line.strip()}" for line in here[a0:a1]] + [f"> {line.strip()}" for line in there[b0:b1]]
    return found
