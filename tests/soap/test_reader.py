"""The strict deserializer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from nvr.model.time import NS, parse_iso
from nvr.soap.faults import SoapFault
from nvr.soap.names import PREFIXES, TEV, TT, XSI
from nvr.soap.reader import read
from nvr.soap.service import BoundService
from tests.support.soap_models import DEFAULT_SPACE, Colour, Derived, EchoService, Item, Values

DECLARED = " ".join(f'xmlns:{prefix}="{ns}"' for ns, prefix in PREFIXES.items()) + f' xmlns:xsi="{XSI}" xmlns:x="urn:x"'


def item(inner: str, attributes: str = "") -> Any:
    return read(Item, etree.fromstring(f"<tt:Item {DECLARED} {attributes}>{inner}</tt:Item>"))


def refusal(cls: type, xml: str) -> str:
    """Subcodes and reason of the fault."""
    name, _, rest = xml.partition(">")
    with pytest.raises(SoapFault) as caught:
        read(cls, etree.fromstring(f"{name} {DECLARED}>{rest}"))
    assert caught.value.status == 400
    return f"{'/'.join(caught.value.subcodes)}: {caught.value.reason}"


def test_members_become_native_values() -> None:
    found = item(
        "<tt:Name>Gate</tt:Name><tt:Colour>deep-red</tt:Colour><tt:Point x='1.5'/><tt:Tag>a</tt:Tag><tt:Tag>b</tt:Tag>",
        "token='t1' TLS1.2='1' list='1 2.5'",
    )
    assert (found.Name, found.Colour, found.Point.x, found.Tag) == ("Gate", Colour.RED, 1.5, ["a", "b"])
    assert (found.token, found.dotted, found.list) == ("t1", True, (1.0, 2.5))
    assert found.Label is None


def test_times_and_durations_become_nanoseconds() -> None:
    xml = (
        f"<tev:Values {DECLARED}><tev:Time>2026-03-01T12:00:00+01:00</tev:Time>"
        "<tev:Duration>PT1.5S</tev:Duration></tev:Values>"
    )
    found: Any = read(Values, etree.fromstring(xml))
    assert (found.Time, found.Duration) == (parse_iso("2026-03-01T11:00:00Z"), 3 * NS // 2)


def test_an_empty_element_is_the_empty_string() -> None:
    assert item("<tt:Name/>").Name == ""
    assert item("<tt:Name></tt:Name>").Name == ""


def test_attributes_of_a_child_stay_with_the_child() -> None:
    found = item("<tt:Name>n</tt:Name><tt:Point x='1' Label='of the point'/>", "token='of the item'")
    assert found.Label is None  # the element Label of the item, which has the name of the child's attribute
    assert (found.Point.Label, found.token) == ("of the point", "of the item")


def test_an_absent_attribute_has_its_default() -> None:
    assert item("<tt:Name/><tt:Point x='1'/>").Point.space == DEFAULT_SPACE


def test_inherited_members_keep_the_namespace_of_the_type_that_declares_them() -> None:
    xml = f"<tev:D {DECLARED}><tt:Inherited>a</tt:Inherited><tev:Own>1</tev:Own></tev:D>"
    found: Any = read(Derived, etree.fromstring(xml))
    assert (found.Inherited, found.Own) == ("a", 1)
    assert "lacks Inherited" in refusal(Derived, "<tev:D><tev:Own>1</tev:Own></tev:D>")


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        ("<tt:I></tt:I>", "InvalidArgs: I lacks Name"),
        ("<tt:I><tt:Colour>blue</tt:Colour><tt:Name/></tt:I>", "InvalidArgs: Name stands out of order in I"),
        ("<tt:I><tt:Name/><tt:Name/></tt:I>", "InvalidArgs: I holds more than 1 Name"),
        ("<tt:I><Name/></tt:I>", "InvalidArgs: I holds the unknown element 'Name'"),
        ("<tt:I><tt:Name/><env:Body/></tt:I>", "unknown element"),
        ("<tt:I>text<tt:Name/></tt:I>", "InvalidArgs: I holds the stray text 'text'"),
        ("<tt:I><tt:Name/>text</tt:I>", "stray text"),
        ("<tt:I><tt:Name><tt:b/></tt:Name></tt:I>", "InvalidArgs: Name holds elements instead of a value"),
        ("<tt:I><tt:Name a='1'/></tt:I>", "InvalidArgs: Name has the unknown attribute 'a'"),
        ("<tt:I><tt:Name xsi:nil='true'/></tt:I>", "InvalidArgs: Name must not be nil"),
        ("<tt:I><tt:Name>" + "n" * 65 + "</tt:Name></tt:I>", "InvalidArgVal: Name:"),
        (
            "<tt:I><tt:Name/><tt:Colour>green</tt:Colour></tt:I>",
            "InvalidArgVal: Colour: 'green' is none of",
        ),
        ("<tt:I><tt:Name/><tt:Point/></tt:I>", "InvalidArgs: Point lacks the attribute x"),
        ("<tt:I><tt:Name/><tt:Point x='one'/></tt:I>", "InvalidArgs: Point/@x: 'one' is not an xs:float"),
    ],
)
def test_what_breaks_the_schema_is_refused_and_named(xml: str, expected: str) -> None:
    assert expected in refusal(Item, xml)


@pytest.mark.parametrize(
    "xml",
    [
        "<tev:V><tev:Int>1</tev:Int><tev:New>1</tev:New></tev:V>",
        "<tev:V><x:New>1</x:New></tev:V>",
        "<tev:V a='1'></tev:V>",
    ],
)
def test_a_closed_type_takes_nothing_that_it_does_not_know(xml: str) -> None:
    assert refusal(Values, xml).startswith("InvalidArgs: ")


def test_a_known_name_in_a_foreign_namespace_is_not_taken_for_the_member() -> None:
    assert "lacks Name" in refusal(Item, "<tt:I><x:Name>a</x:Name></tt:I>")


def test_open_types_keep_foreign_and_newer_elements_and_attributes() -> None:
    found = item("<tt:Name/><tt:Tag/><tt:Newer>1</tt:Newer><x:Own a='1'><x:b/></x:Own>", "x:flag='yes'")
    assert [str(e.tag) for e in found.any_elements] == [f"{{{TT}}}Newer", "{urn:x}Own"]
    assert found.any_attributes == ' xmlns:x="urn:x" x:flag="yes"'


def test_what_a_type_does_not_know_stands_behind_what_it_knows() -> None:
    """Where the wildcards of the schema are: it would not be given back in another place."""
    assert "Tag stands out of order in I" in refusal(Item, "<tt:I><tt:Name/><x:Own/><tt:Tag/></tt:I>")


def test_schema_instance_attributes_are_no_content() -> None:
    found = item("<tt:Name xsi:type='x:y'/>", "xsi:schemaLocation='a b'")
    assert not found.any_attributes


@pytest.mark.parametrize(
    ("member", "text", "subcode"),
    [
        ("Boolean", "yes", "InvalidArgs"),
        ("Int", "1_000", "InvalidArgs"),
        ("Int", "4294967296", "InvalidArgVal"),
        ("Float", "Infinity", "InvalidArgs"),
        ("Time", "9999-99-99T00:00:00Z", "InvalidArgs"),
        ("Duration", "PT1H junk", "InvalidArgs"),
        ("Duration", "P9999999Y", "InvalidArgs"),
        ("Token", "t" * 65, "InvalidArgVal"),
    ],
)
def test_bad_values_are_faults_of_the_sender(member: str, text: str, subcode: str) -> None:
    assert refusal(Values, f"<tev:V><tev:{member}>{text}</tev:{member}></tev:V>").startswith(f"{subcode}: {member}: ")


def test_deep_nesting_of_foreign_content_is_kept_without_recursion() -> None:
    deep = "<x:a>" * 200 + "</x:a>" * 200
    assert len(item(f"<tt:Name/>{deep}").any_elements) == 1


def test_a_long_text_of_the_sender_is_cut_in_the_reason() -> None:
    assert len(refusal(Values, f"<tev:V><tev:Int>{'x' * 10_000}</tev:Int></tev:V>")) < 200


NAMES = st.sampled_from(["Boolean", "Int", "Float", "Time", "Duration", "Token", "Item", "Name", "Values"])
LEAVES = st.builds(
    lambda prefix, name, text: (prefix, name, text, []),
    st.sampled_from(["tt", "tev", "x"]),
    NAMES,
    st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF), max_size=20),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda prefix, name, children: (prefix, name, "", children),
        st.sampled_from(["tt", "tev", "x"]),
        NAMES,
        st.lists(inner, max_size=4),
    ),
    max_leaves=12,
)


def built(tree: Any) -> etree._Element:
    prefix, name, text, children = tree
    element = etree.Element(f"{{{ {'tt': TT, 'tev': TEV, 'x': 'urn:x'}[prefix] }}}{name}")
    element.text = text
    element.extend(built(child) for child in children)
    return element


WRITE = BoundService(EchoService()).find(f"{{{TEV}}}Write")


@given(TREES)
def test_any_tree_is_either_read_or_refused_with_a_fault(tree: Any) -> None:
    assert WRITE is not None
    request = etree.Element(f"{{{TEV}}}Write")
    request.append(built(tree))
    try:
        read(WRITE.request, request)
        subcode = "InvalidArgs"
    except SoapFault as fault:
        (subcode,) = fault.subcodes
    assert subcode in ("InvalidArgs", "InvalidArgVal")
