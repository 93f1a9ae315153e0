"""Declarations: what a wrong one does, and what instances refuse."""

from __future__ import annotations

from typing import Any

import pytest
from spyne.model.primitive import Decimal

from nvr.soap.model import String, Struct, attribute, many, optional, required
from nvr.soap.names import TEV
from nvr.soap.plan import plan_of
from nvr.soap.service import AccessClass, BoundService, Call, Result, Service, operation
from tests.support.soap_models import DEFAULT_SPACE, EchoService, Item, Point


def test_a_misspelt_member_raises_when_made_and_when_set() -> None:
    with pytest.raises(TypeError, match="Item has no member Nmae"):
        Item(Nmae="x")
    made = Item(Name="x")
    with pytest.raises(AttributeError, match="Item has no member Nmae"):
        made.Nmae = "y"


def test_absent_members_are_none_repeated_ones_empty_and_attributes_their_default() -> None:
    made = Item()
    assert (made.Name, made.Tag, Point().space) == (None, (), DEFAULT_SPACE)


def test_occurrence_is_what_the_declaration_says_and_never_nillable() -> None:
    class Four(Struct):
        Once = required(String)
        Maybe = optional(String)
        Any = many(String)
        Some = many(String, at_least=1)

    plan = plan_of(Four)
    assert [(e.minimum, e.maximum) for e in plan.elements] == [(1, 1), (0, 1), (0, None), (1, None)]
    assert not any(t.Attributes.nillable for t in Four._type_info.values())


def test_a_type_without_lexical_rules_is_refused_when_it_is_declared() -> None:
    class Bad(Struct):
        Amount = required(Decimal)

    with pytest.raises(TypeError, match="is not a simple type"):
        plan_of(Bad)


def test_the_use_of_an_attribute_is_optional_or_required() -> None:
    with pytest.raises(ValueError, match="optional or required"):
        attribute(String, use="prohibited")


def test_an_operation_cannot_be_implemented_and_missing() -> None:
    class Confused(EchoService):
        not_implemented = frozenset({"Echo"})

    with pytest.raises(TypeError, match="implements Echo and says that it does not"):
        BoundService(Confused())


def test_one_operation_name_cannot_be_declared_by_two_methods() -> None:
    class Twice(Service):
        namespace, path, contract = TEV, "/x", "x.wsdl"

        def capabilities(self) -> Struct:
            return Item(Name="n")

        @operation("Same", AccessClass.PRE_AUTH)
        def first(self, call: Call) -> Result:
            return None

        @operation("Same", AccessClass.PRE_AUTH)
        def second(self, call: Call) -> Result:
            return None

    with pytest.raises(TypeError, match="Same"):
        BoundService(Twice())


def test_messages_are_closed_types_in_the_namespace_of_the_service() -> None:
    bound: Any = BoundService(EchoService()).find(f"{{{TEV}}}Echo")
    assert not plan_of(bound.request).takes_elements
    assert not plan_of(bound.request).takes_attributes
    assert bound.response_tag == f"{{{TEV}}}EchoResponse"
    assert [e.tag for e in plan_of(bound.request).elements] == [f"{{{TEV}}}Item"]
