"""Elements and attributes that stand where the schema has a wildcard: from a request into the model, and back.

They are kept as text that means the same wherever it is put. A prefix may stand inside a value (a QName, an XPath), and
nobody can tell from outside: so each prefix that is declared around the text and occurs in it before a colon keeps its
declaration. Comments and processing instructions are gone before; entities never were (`envelope.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from lxml import etree

from nvr.model.errors import BadConfiguration
from nvr.model.extension import LONGEST, Extension, Extensions
from nvr.soap.faults import invalid_args
from nvr.soap.model import Struct
from nvr.soap.names import PREFIXES, XML
from nvr.soap.plan import plan_of
from nvr.soap.values import shown
from nvr.soap.writer import escape_attribute

S = TypeVar("S", bound=Struct)

_WORD = re.compile(r"([^\W\d][\w.\-\u00b7]*+)(:?)")
"""Names with or without a colon behind them: taking both keeps the search linear."""
_START = re.compile(r"""<[^\s/>]+((?: xmlns(?::[^\s=]+)?=(?:"[^"]*"|'[^']*'))*)""")
_DECLARATION = re.compile(r""" xmlns:([^\s=]+)=(?:"[^"]*"|'[^']*')""")
_OURS = {prefix: namespace for namespace, prefix in PREFIXES.items()} | {"xml": XML}

MOST_PREFIXES = 256
"""Declared around one element. Every extension is written with those that it needs."""
DEEPEST = 32
"""Elements inside each other. Parsers of clients have a limit, too, and an answer or event nests them further."""
UNTRIMMED = 8 * LONGEST
"""Characters before declarations that are not needed are taken out: what is longer is not looked at."""


def extensions_of(wire: Struct, path: str = "") -> Extensions:
    """Of a value that was read, and of the single values below it; those of repeated ones belong to other objects.

    Raises BadConfiguration where they are far beyond what is kept; the exact limit is a matter of the domain.
    """
    found: list[Extension] = []
    elements = _elements(wire.any_elements, path)
    attributes = wire.any_attributes
    assert isinstance(attributes, str) or not attributes, "the reader makes text of attributes"
    if elements or attributes:
        found.append(Extension(path, attributes or "", elements))
    for element in plan_of(type(wire)).elements:
        below = getattr(wire, element.member)
        if element.struct is not None and not element.repeats and below is not None:
            found += extensions_of(below, f"{path}/{element.member}" if path else element.member)
    return tuple(found)


def extended(wire: S, extensions: Extensions) -> S:
    """The value with its extensions put back in their places; elements that hold nothing else are made for them."""
    for extension in extensions:
        place: Struct = wire
        for member in filter(None, extension.path.split("/")):
            below = getattr(place, member)
            if below is None:
                below = _blank(place, member)
                setattr(place, member, below)
            place = below
        place.any_elements = (extension.elements,) if extension.elements else ()
        place.any_attributes = extension.attributes
    return wire


def _blank(parent: Struct, member: str) -> Struct:
    struct = next(e.struct for e in plan_of(type(parent)).elements if e.member == member)
    assert struct is not None
    return struct()


def attributes_text(element: etree._Element, names: Iterable[str]) -> str:
    """These attributes of an element as they can be written on another one, with what they need declared.

    Raises SoapFault where that is impossible: a value holds a prefix that stands for another namespace here.
    """
    scope: Mapping[Any, str] = element.nsmap
    if len(scope) > MOST_PREFIXES:
        raise invalid_args(f"more than {MOST_PREFIXES} prefixes are declared around an attribute that is to be kept")
    declared: dict[str, str] = {}
    parts = []
    for name in names:
        value = str(element.attrib[name])
        namespace, _, local = name.rpartition("}")
        parts.append(f' {_prefixed(namespace[1:], local, scope, declared)}="{escape_attribute(value)}"')
        for prefix in _mentioned(value):
            if prefix not in scope or prefix == "xml":
                continue
            if _OURS.get(prefix, scope[prefix]) != scope[prefix]:
                raise invalid_args(
                    f"the attribute {shown(local)} holds the prefix {shown(prefix)}, which stands for another namespace"
                    " than usual: name that one otherwise"
                )
            declared[prefix] = scope[prefix]
    return "".join([*(f' xmlns:{p}="{escape_attribute(n)}"' for p, n in sorted(declared.items())), *parts])


def _prefixed(namespace: str, local: str, scope: Mapping[Any, str], declared: dict[str, str]) -> str:
    """The name with a prefix that can be declared on an element of ours."""
    if not namespace:
        return local
    if namespace == XML:
        return f"xml:{local}"  # bound by definition; declaring it under another name is forbidden
    usable = (p for p, n in scope.items() if p is not None and n == namespace and _OURS.get(p, n) == n)
    prefix = next(usable, None)
    if prefix is None:
        taken = {*scope, *_OURS, *declared}
        prefix = next(p for p in (f"n{i}" for i in range(len(taken) + 1)) if p not in taken)
    declared[prefix] = namespace
    return f"{prefix}:{local}"


def _elements(found: Iterable[object], path: str) -> str:
    texts: list[str] = []
    length = 0
    for element in found:
        if isinstance(element, etree._Element):
            # libxml2 puts every declaration around the element into its start tag, before its attributes.
            text = etree.tostring(element, encoding="unicode", with_tail=False)
            length += len(text)
            if length > UNTRIMMED:
                raise BadConfiguration(f"{path or 'extensions'}: too long, at most {LONGEST} characters are kept")
            if _depth(element) > DEEPEST:
                raise BadConfiguration(f"{path or 'extensions'}: more than {DEEPEST} elements inside each other")
            texts.append(_trimmed(text))
    return "".join(texts)


def _depth(element: etree._Element) -> int:
    depth, level = 0, [element]
    while level:
        depth, level = depth + 1, [child for parent in level for child in parent]
    return depth


def _trimmed(text: str) -> str:
    """The text of an element without those declarations in its start tag that it neither uses nor could mean."""
    start = _START.match(text)
    assert start is not None
    begin, end = start.span(1)
    mentioned = _mentioned(text[:begin] + text[end:])
    return text[:begin] + _DECLARATION.sub(lambda m: m[0] if m[1] in mentioned else "", start[1]) + text[end:]


def _mentioned(text: str) -> set[str]:
    """What stands before a colon and could be a prefix."""
    return {m[1] for m in _WORD.finditer(text) if m[2]}
