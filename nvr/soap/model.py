"""How the messages and types of a service are declared.

Types are spyne models; the wire rules are ours (`reader.py`, `writer.py`), because those of spyne do not fit this
contract: it does not check namespaces, order or attributes, and drops what it does not know.

A type of the schema is a `Struct` whose members stand in schema order:

    class RecordingSourceInformation(Struct):
        __namespace__ = TT

        SourceId = required(AnyURI)
        Name = required(NAME)
        Description = optional(String)

    class TrackItem(Struct):
        __namespace__ = TT

        Track = many(TrackInformation)                      # 0..unbounded; many(T, at_least=1) for 1..unbounded
        token = attribute(ReferenceToken, use="required")
        TLS12 = attribute(Boolean, name="TLS1.2")           # where the wire name is no Python name

A type with text instead of elements (simple content) has one member `content(...)`. A member that the schema takes from
another namespace (`ref="wsnt:CurrentTime"`) says so: `CurrentTime = required(UtcTime, namespace=WSNT)`. Prefixes that a
type writes inside text are named in `__mentions__`, so that they are declared.

A member's Python name is its wire name unless `name` says otherwise. `Name = required(Name)` would hide the type for
the lines below it: give types that share their name with a member another Python name. Simple types are those at the
end of this file and what is made from them: `text(longest=64)`, `words(StrEnum)`, `list_of(Float)`.

Instances are made with keywords, `RecordingSourceInformation(SourceId="", Name="Door")`; an unknown keyword or
attribute raises. Members that are absent are None, absent `many` members are (). Values are native: UTC nanoseconds for
`UtcTime`, nanoseconds for `Duration`, members of the StrEnum for `words`. A `many` member of an answer may be any
iterable, also a generator: it is drawn while the answer is written, in slices that do not hold the event loop.

Elements and attributes that the declaration does not know are kept in `any_elements` and `any_attributes` and written
back, at the end of their parent, where the schema has its wildcards; only types that are open take them. A type says
with `__open__` what it takes; without it types of tt: take both, those of a service's own namespace neither.

Operations are declared in `service.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cache
from typing import Any, ClassVar, TypeAlias

from lxml import etree
from spyne.model import ComplexModel
from spyne.model.complex import XmlAttribute, XmlData
from spyne.model.primitive import AnyUri, DateTime, Integer32, Unicode
from spyne.model.primitive import Boolean as SpyneBoolean
from spyne.model.primitive import Duration as SpyneDuration
from spyne.model.primitive import Float as SpyneFloat

from nvr.soap.names import TT


class Open(Enum):
    """What a type takes that it does not declare, where it does not take all or nothing."""

    ELEMENTS = "xs:any"
    ATTRIBUTES = "xs:anyAttribute"
    OWN_ELEMENTS = "xs:any of the target namespace, xs:anyAttribute"


WireType: TypeAlias = Any
"""A class made by spyne: a Struct, a simple type or a variant of one with its occurrence."""


class Struct(ComplexModel):  # type: ignore[misc]  # spyne has no types
    """Base of all complex types; see the module for the rules."""

    __namespace__ = TT
    __open__: ClassVar[bool | Open | None] = None
    """True is both, False neither, None what the namespace says."""
    __mentions__: ClassVar[tuple[str, ...]] = ()
    """Namespaces whose prefixes stand in text."""

    any_elements: Sequence[etree._Element | Foreign | str]
    """A str is the text of elements, with the declarations that they need."""
    any_attributes: str
    """The text of attributes with the declarations that they need, each behind a space."""

    def __init__(self, **members: Any) -> None:
        # spyne's constructor ignores keywords that it does not know: a misspelt member would be lost without a word.
        cls: Any = type(self)  # an untyped base makes mypy doubt that the class is hashable
        blank = _blank(cls)
        if not members.keys() <= blank.keys():
            unknown = ", ".join(sorted(members.keys() - blank.keys()))
            raise TypeError(f"{cls.__name__} has no member {unknown}")
        self.__dict__.update(blank)
        self.__dict__.update(members)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no member {name}")
        self.__dict__[name] = value


@dataclass(frozen=True, slots=True)
class Foreign:
    """An element of another namespace inside xs:any, made from a Struct: `tag` is its qualified name in Clark
    notation.
    """

    tag: str
    value: Struct


@cache
def _blank(cls: Any) -> dict[str, Any]:
    """The members of an instance to which nothing has been given."""
    blank: dict[str, Any] = {"any_elements": (), "any_attributes": ""}
    for name, member in cls.get_flat_type_info(cls).items():
        if issubclass(member, XmlAttribute):
            blank[name] = member.type.Attributes.default
        else:
            blank[name] = () if member.Attributes.max_occurs > 1 else None
    return blank


# Members


def required(
    type_: WireType, name: str | None = None, namespace: str | None = None, nillable: bool = False
) -> WireType:
    """An element that occurs exactly once. A `nillable` one of a request may be xsi:nil, and is None then."""
    return type_.customize(min_occurs=1, max_occurs=1, nillable=nillable, **_renamed(name, namespace))


def optional(
    type_: WireType, name: str | None = None, namespace: str | None = None, nillable: bool = False
) -> WireType:
    """An element that occurs at most once. `nillable` as in `required`."""
    return type_.customize(min_occurs=0, max_occurs=1, nillable=nillable, **_renamed(name, namespace))


def many(type_: WireType, at_least: int = 0, name: str | None = None, namespace: str | None = None) -> WireType:
    """An element that occurs `at_least` times or more, without an upper bound."""
    return type_.customize(min_occurs=at_least, max_occurs="unbounded", nillable=False, **_renamed(name, namespace))


def content(type_: WireType) -> WireType:
    """The text of a type with simple content."""
    return XmlData(type_)


def attribute(type_: WireType, use: str = "optional", name: str | None = None, default: Any = None) -> WireType:
    """An unqualified attribute. `use` is `optional` or `required`; `default` is the native value when it is absent."""
    if use not in ("optional", "required"):
        raise ValueError(f"the use of an attribute is optional or required, not {use!r}")
    renamed = type_.customize(min_occurs=1 if use == "required" else 0, default=default, **_renamed(name))
    return XmlAttribute(renamed, use=use)


def _renamed(name: str | None, namespace: str | None = None) -> dict[str, str]:
    given = {"sub_name": name, "sub_ns": namespace}
    return {key: value for key, value in given.items() if value is not None}


# Simple types


String: WireType = Unicode
"""xs:string."""

AnyURI: WireType = AnyUri
"""xs:anyURI, whitespace collapsed, without facets; its scheme and parts are a matter of the domain."""

Boolean: WireType = SpyneBoolean
Int: WireType = Integer32
"""xs:int, 32 bits."""

Float: WireType = SpyneFloat
UtcTime: WireType = DateTime
"""xs:dateTime; native is int nanoseconds UTC, written with Z."""

Duration: WireType = SpyneDuration
"""xs:duration; native is int nanoseconds."""


def text(
    *, longest: int | None = None, shortest: int = 0, pattern: str | None = None, collapsed: bool = False
) -> WireType:
    """xs:string (xs:token with `collapsed`) with facets. Lengths in characters; the pattern matches the whole text."""
    facets: dict[str, Any] = {"min_len": shortest, "collapsed": collapsed}
    if longest is not None:
        facets["max_len"] = longest
    if pattern is not None:
        facets["pattern"] = pattern
    return Unicode.customize(**facets)


def words(values: type[StrEnum] | Iterable[str], name: str | None = None) -> WireType:
    """An enumeration of xs:string. Given a StrEnum, values are read as its members."""
    known = values if isinstance(values, type) else tuple(values)
    type_name = name or (values.__name__ if isinstance(values, type) else None)
    named = {} if type_name is None else {"type_name": type_name}
    return Unicode.customize(values={str(v) for v in known}, words=known, **named)


def list_of(item: WireType) -> WireType:
    """xs:list of a simple type, such as tt:StringAttrList; native is a tuple."""
    return Unicode.customize(list_item=item)


Token: WireType = text(collapsed=True)
"""xs:token."""

ReferenceToken: WireType = text(longest=64)
"""tt:ReferenceToken, and its names RecordingReference, TrackReference, RecordingJobReference and JobToken."""

NAME: WireType = text(longest=64)
"""tt:Name."""

StringAttrList: WireType = list_of(String)
FloatList: WireType = list_of(Float)
