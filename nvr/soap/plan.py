"""What reader and writer need to know of a type, compiled once from its declaration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from spyne.model import ComplexModelBase
from spyne.model.complex import XmlAttribute, XmlData
from spyne.model.primitive import AnyUri, Boolean, DateTime, Duration, Float, Integer32, Unicode

from nvr.soap import values
from nvr.soap.model import Open, Struct
from nvr.soap.names import PREFIXES, TT
from nvr.soap.values import Codec

INT32 = values.integer(-(1 << 31), (1 << 31) - 1)


@dataclass(frozen=True, slots=True)
class ElementPlan:
    """A child element. Exactly one of `struct` and `codec` is set. `maximum` is None for unbounded."""

    index: int
    member: str
    tag: str
    label: str
    """Its name with our prefix, as it is written."""
    minimum: int
    maximum: int | None
    struct: type[Struct] | None
    codec: Codec | None
    nillable: bool = False

    @property
    def repeats(self) -> bool:
        return self.maximum is None or self.maximum > 1


@dataclass(frozen=True, slots=True)
class AttributePlan:
    member: str
    name: str
    required: bool
    codec: Codec


@dataclass(frozen=True, slots=True)
class Plan:
    """A complex type."""

    struct: type[Struct]
    elements: tuple[ElementPlan, ...]
    attributes: tuple[AttributePlan, ...]
    by_tag: dict[str, ElementPlan]
    by_attribute: dict[str, AttributePlan]
    takes_elements: bool
    """That it does not declare, behind those that it does."""
    takes_attributes: bool
    only: str | None = None
    """The namespace of such elements, where not all are taken."""
    content: tuple[str, Codec] | None = None
    """The member that is the text of the element, where it has simple content."""


def root(cls: Any) -> type[Struct]:
    """The declared class behind a variant that `required`, `optional` or `many` made of it."""
    found: type[Struct] = cls.__orig__ if cls.__orig__ is not None else cls
    return found


def plan_of(cls: type[Struct]) -> Plan:
    """Raises TypeError for a member whose type has no rule here, so that a wrong declaration fails at start."""
    plan = _PLANS.get(cls)
    if plan is None:
        plan = _PLANS[cls] = _compiled(cls)
    return plan


_PLANS: dict[type[Struct], Plan] = {}


def _compiled(cls: type[Struct]) -> Plan:
    elements: list[ElementPlan] = []
    attributes: list[AttributePlan] = []
    homes = _homes(cls)
    content: tuple[str, Codec] | None = None
    for member, type_ in cls.get_flat_type_info(cls).items():
        if issubclass(type_, XmlAttribute):
            facets = type_.type.Attributes
            attributes.append(
                AttributePlan(member, facets.sub_name or member, type_._use == "required", codec_of(type_.type))
            )
            continue
        if issubclass(type_, XmlData):
            content = (member, codec_of(type_.type))
            continue
        facets = type_.Attributes
        home = facets.sub_ns or homes[member]
        name = facets.sub_name or member
        complex_ = issubclass(type_, ComplexModelBase)
        elements.append(
            ElementPlan(
                index=len(elements),
                member=member,
                tag=f"{{{home}}}{name}",
                label=f"{PREFIXES[home]}:{name}",
                minimum=int(facets.min_occurs),
                maximum=None if facets.max_occurs == float("inf") else int(facets.max_occurs),
                struct=root(type_) if complex_ else None,
                codec=None if complex_ else codec_of(type_),
                nillable=bool(facets.nillable),
            )
        )
    declared = cls.__open__
    if declared is None:
        declared = cls.get_namespace() == TT
    return Plan(
        cls,
        tuple(elements),
        tuple(attributes),
        {e.tag: e for e in elements},
        {a.name: a for a in attributes},
        takes_elements=declared in (True, Open.ELEMENTS, Open.OWN_ELEMENTS),
        takes_attributes=declared in (True, Open.ATTRIBUTES, Open.OWN_ELEMENTS),
        only=cls.get_namespace() if declared is Open.OWN_ELEMENTS else None,
        content=content,
    )


def _homes(cls: Any) -> dict[str, str]:
    """Namespace of each member: an inherited one stays in the namespace of the type that declares it."""
    base = getattr(cls, "__extends__", None)
    homes = _homes(base) if base is not None else {}
    for member, type_ in cls._type_info.items():
        if not issubclass(type_, XmlAttribute | XmlData):
            homes[member] = cls.get_namespace()
    return homes


@cache
def namespaces_of(cls: Any) -> frozenset[str]:
    """The namespaces of all elements that a value of this type can hold, apart from xs:any, and those it mentions."""
    found: set[str] = set()
    pending, seen = [cls], set()
    while pending:
        struct = pending.pop()
        seen.add(struct)
        found.update(struct.__mentions__)
        for element in plan_of(struct).elements:
            found.add(element.tag[1:].partition("}")[0])
            if element.struct is not None and element.struct not in seen:
                pending.append(element.struct)
    return frozenset(found)


@cache
def codec_of(type_: Any) -> Codec:
    """The lexical rules of a simple type with its facets."""
    facets = type_.Attributes
    if issubclass(type_, Unicode):
        item = getattr(facets, "list_item", None)
        if item is not None:
            return values.list_of(codec_of(item))
        words = getattr(facets, "words", None)
        if words is not None:
            return values.enumeration(words)
        if issubclass(type_, AnyUri):
            return values.any_uri()
        return values.string(
            shortest=int(facets.min_len),
            longest=None if facets.max_len == float("inf") else int(facets.max_len),
            pattern=facets.pattern,
            collapsed=getattr(facets, "collapsed", False),
        )
    for base, codec in _CODECS:
        if issubclass(type_, base):
            return codec
    raise TypeError(f"{type_!r} is not a simple type that can be declared here")


_CODECS: tuple[tuple[Any, Codec], ...] = (
    (Boolean, values.BOOLEAN),
    (Integer32, INT32),
    (Float, values.FLOAT),
    (DateTime, values.TIME),
    (Duration, values.DURATION),
)
