"""From a Struct to the text of an answer.

Text is joined from labels that the plan holds ready: that takes little more than half the time of building and
serializing an lxml tree (docs/design/soap.md). All prefixes are declared once, on the envelope. The writer is a
generator that pauses between the items of repeated elements, so that a large answer can be written in slices between
which the event loop does other work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from lxml import etree

from nvr.soap.model import Foreign, Struct
from nvr.soap.names import ENV, PREFIXES
from nvr.soap.plan import ElementPlan, namespaces_of, plan_of

_SPECIAL = re.compile('[&<>"\t\n\r]|[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')
_TEXT = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;", "\t": "\t", "\n": "\n", '"': '"'}
_ATTRIBUTE = {**_TEXT, "\t": "&#9;", "\n": "&#10;", '"': "&quot;"}
_NOT_XML = "\N{REPLACEMENT CHARACTER}"
"""What no XML 1.0 document can hold, such as NUL in a camera's answer, is replaced: one bad name must not spoil a whole
answer.
"""


_DECLARATION = re.compile(' xmlns:[^=]+="[^"]*"')


def escape_text(text: str) -> str:
    return _SPECIAL.sub(lambda m: _TEXT.get(m[0], _NOT_XML), text) if _SPECIAL.search(text) else text


def escape_attribute(text: str) -> str:
    return _SPECIAL.sub(lambda m: _ATTRIBUTE.get(m[0], _NOT_XML), text) if _SPECIAL.search(text) else text


def write(message: Struct, tag: str, out: list[str], header: str = "") -> Iterator[None]:
    """Appends the envelope around `message`, whose element is `tag` in Clark notation, to `out`; pauses after each
    repeated item. `header` is the text of the header blocks, with their declarations.

    At a pause the caller may take the texts out. Raises ValueError or TypeError when the message breaks its
    declaration: a required member is absent, a value has the wrong type.
    """
    namespace, _, name = tag[1:].partition("}")
    label = f"{PREFIXES[namespace]}:{name}"
    declared = _declarations(message, ENV, namespace)
    head = f"<env:Header>{header}</env:Header>" if header else ""
    out.append(f'<?xml version="1.0" encoding="UTF-8"?>\n<env:Envelope{declared}>{head}<env:Body>')
    yield from _sliced(message, label, out)
    out.append("</env:Body></env:Envelope>")


def _declarations(message: Struct, *more: str) -> str:
    cls: Any = type(message)
    return _declared(cls, *more)


@cache
def _declared(cls: Any, *more: str) -> str:
    namespaces = {*more, *namespaces_of(cls)}
    return "".join(f' xmlns:{PREFIXES[n]}="{n}"' for n in sorted(namespaces, key=PREFIXES.__getitem__))


def _sliced(value: Struct, label: str, out: list[str], declared: str = "") -> Iterator[None]:
    """Writes one element and pauses after each repeated item directly below it, or below its single children."""
    out.append(f"<{label}{declared}{_attributes(value)}>")
    _content(value, out)
    for element in plan_of(type(value)).elements:
        content = getattr(value, element.member)
        if element.struct is not None and element.repeats:
            count = 0
            for item in _items(element, content, value):
                _element(element, item, out)
                count += 1
                yield
            _check_count(element, count, value)
        elif element.struct is not None and content is not None:
            yield from _sliced(_checked(element, content), element.label, out)
        else:
            _member(element, content, value, out)
    _foreign(value, out)
    out.append(f"</{label}>")


def _whole(value: Struct, label: str, out: list[str], declared: str = "") -> None:
    attributes = _attributes(value)
    if declared:
        # Attributes that were kept declare what they need, and nothing may be declared twice.
        attributes = "".join(d for d in _DECLARATION.findall(declared) if d not in attributes) + attributes
    position = len(out)
    out.append(f"<{label}{attributes}>")
    _content(value, out)
    for element in plan_of(type(value)).elements:
        _member(element, getattr(value, element.member), value, out)
    _foreign(value, out)
    if len(out) == position + 1:
        out[position] = f"<{label}{attributes}/>"
    else:
        out.append(f"</{label}>")


def _content(value: Struct, out: list[str]) -> None:
    plan = plan_of(type(value))
    if plan.content is not None:
        member, codec = plan.content
        out.append(escape_text(codec.format(getattr(value, member))))


def _member(element: ElementPlan, content: Any, value: Struct, out: list[str]) -> None:
    if element.repeats:
        count = 0
        for item in _items(element, content, value):
            _element(element, item, out)
            count += 1
        _check_count(element, count, value)
    elif content is not None:
        _element(element, content, out)
    elif element.minimum:
        # Not xsi:nil: no element of these schemas is nillable.
        raise ValueError(f"{type(value).__name__}.{element.member} is required and absent")


def _items(element: ElementPlan, content: Any, value: Struct) -> Iterable[Any]:
    if content is None:
        return ()
    if isinstance(content, str | bytes | Struct):
        raise TypeError(f"{type(value).__name__}.{element.member} takes a sequence, not {type(content).__name__}")
    found: Iterable[Any] = content
    return found


def _check_count(element: ElementPlan, count: int, value: Struct) -> None:
    if count < element.minimum or (element.maximum is not None and count > element.maximum):
        raise ValueError(f"{type(value).__name__}.{element.member} holds {count} elements")


def _element(element: ElementPlan, content: Any, out: list[str]) -> None:
    if element.codec is None:
        _whole(_checked(element, content), element.label, out)
        return
    try:
        text = element.codec.format(content)
    except (TypeError, ValueError) as e:
        raise type(e)(f"{element.label}: {e}") from e
    out.append(f"<{element.label}>{escape_text(text)}</{element.label}>")


def _checked(element: ElementPlan, content: Any) -> Struct:
    if element.struct is None or not isinstance(content, element.struct):
        raise TypeError(f"{element.label} takes {element.struct}, not {type(content).__name__}")
    return content


def _attributes(value: Struct) -> str:
    plan = plan_of(type(value))
    parts = []
    for attribute in plan.attributes:
        content = getattr(value, attribute.member)
        if content is not None:
            parts.append(f' {attribute.name}="{escape_attribute(attribute.codec.format(content))}"')
        elif attribute.required:
            raise ValueError(f"{type(value).__name__}.{attribute.member} is required and absent")
    parts.append(value.any_attributes)
    return "".join(parts)


def _foreign(value: Struct, out: list[str]) -> None:
    for extra in value.any_elements:
        if isinstance(extra, Foreign):
            namespace, _, name = extra.tag[1:].partition("}")
            declared = _declarations(extra.value, namespace)
            _whole(extra.value, f"{PREFIXES[namespace]}:{name}", out, declared)
        else:
            out.append(extra if isinstance(extra, str) else etree.tostring(extra, encoding="unicode", with_tail=False))
