"""The compiled serializer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from nvr.soap.model import Foreign, Struct
from nvr.soap.names import PREFIXES, TEV, TT
from nvr.soap.reader import read
from nvr.soap.service import BoundService
from nvr.soap.writer import escape_attribute, escape_text, write
from tests.support.soap_models import Capabilities, Colour, Derived, EchoService, Item, Point, Values

ECHO = BoundService(EchoService()).find(f"{{{TEV}}}Echo")
assert ECHO is not None
DECLARED = " ".join(f'xmlns:{prefix}="{ns}"' for ns, prefix in PREFIXES.items())


def written(value: Struct, tag: str = f"{{{TT}}}Item") -> str:
    pieces: list[str] = []
    for _ in write(value, tag, pieces):
        pass
    return "".join(pieces)


def body(value: Struct, tag: str = f"{{{TT}}}Item") -> etree._Element:
    return etree.fromstring(written(value, tag).encode())[0][0]


def test_members_are_written_in_order_with_fixed_prefixes() -> None:
    xml = written(Item(Tag=["a"], Colour=Colour.RED, Name="n", dotted=False, list=(1.0, 2.5)))
    assert xml.endswith(
        '<tt:Item TLS1.2="false" list="1.0 2.5"><tt:Name>n</tt:Name><tt:Colour>deep-red</tt:Colour>'
        "<tt:Tag>a</tt:Tag></tt:Item></env:Body></env:Envelope>"
    )


def test_each_namespace_is_declared_once_on_the_envelope() -> None:
    message = ECHO.response(Item=[Item(Name=str(i), Point=Point(x=1.0)) for i in range(50)])
    xml = written(message, ECHO.response_tag)
    assert xml.count("xmlns:") == 3
    assert xml.index("xmlns:tt") < xml.index("<env:Body>")


def test_inherited_members_are_written_in_their_own_namespace() -> None:
    element = body(Derived(Inherited="a", Own=1), f"{{{TEV}}}D")
    assert [str(e.tag) for e in element] == [f"{{{TT}}}Inherited", f"{{{TEV}}}Own"]


def test_a_required_member_that_is_absent_raises_instead_of_writing_nil() -> None:
    with pytest.raises(ValueError, match=r"Item\.Name is required"):
        written(Item())
    with pytest.raises(ValueError, match=r"Point\.x is required"):
        written(Item(Name="n", Point=Point()))


def test_a_str_in_place_of_a_sequence_raises_instead_of_being_split() -> None:
    with pytest.raises(TypeError, match="takes a sequence"):
        written(Item(Name="n", Tag="abc"))


def test_a_struct_of_the_wrong_type_raises() -> None:
    with pytest.raises(TypeError, match="tt:Point takes"):
        written(Item(Name="n", Point=Item(Name="n")))


def test_a_value_of_the_wrong_type_raises_and_names_the_element() -> None:
    with pytest.raises(TypeError, match="tev:Time: "):
        written(Values(Time=1.5), f"{{{TEV}}}V")


def test_a_repeated_member_may_be_a_generator() -> None:
    def drawn() -> Iterator[str]:
        yield from ("a", "b")

    assert [e.text for e in body(Item(Name="n", Tag=drawn())).iterfind(f"{{{TT}}}Tag")] == ["a", "b"]


def test_foreign_content_is_written_back_behind_the_known_members() -> None:
    source = etree.fromstring(
        f"<tt:Item {DECLARED} xmlns:x='urn:x' x:flag='a &quot;b&quot;'><tt:Name>n</tt:Name>"
        "<x:Own q='x:name'><x:b>1 &lt; 2</x:b></x:Own></tt:Item>"
    )
    element = body(read(Item, source))
    assert [str(e.tag) for e in element] == [f"{{{TT}}}Name", "{urn:x}Own"]
    assert element.get("{urn:x}flag") == 'a "b"'
    own = element[1]
    assert own.nsmap["x"] == "urn:x", "a qualified name inside the content must keep its prefix"
    assert own[0].text == "1 < 2"


def test_a_struct_of_another_namespace_declares_its_prefix_where_it_stands() -> None:
    value = Item(Name="n", any_elements=[Foreign(f"{{{TEV}}}Capabilities", Capabilities(MaxPullPoints=2))])
    element = body(value)
    assert element[1].tag == f"{{{TEV}}}Capabilities"
    assert element[1].get("MaxPullPoints") == "2"


@given(st.text())
def test_any_text_survives_or_is_replaced_where_xml_has_no_character_for_it(text: str) -> None:
    element = etree.fromstring(f'<a b="{escape_attribute(text)}">{escape_text(text)}</a>')
    expected = "".join(c if _is_xml(c) else "\ufffd" for c in text)
    assert (element.text or "") == expected
    assert element.get("b") == expected


def _is_xml(c: str) -> bool:
    return c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c >= "\U00010000"


ITEMS = st.builds(
    lambda name, tags, x: Item(Name=name, Tag=tags, Point=Point(x=x)),
    st.text(max_size=64).filter(lambda text: all(_is_xml(c) for c in text)),
    st.lists(st.just("a & b"), min_size=1, max_size=3),
    st.floats(allow_nan=False),
)


@given(st.lists(ITEMS, min_size=1, max_size=4))
def test_what_is_written_is_read_back_the_same(items: list[Item]) -> None:
    message = ECHO.response(Item=items)
    read_back = read(ECHO.response, etree.fromstring(written(message, ECHO.response_tag).encode())[0][0])
    assert repr(read_back) == repr(message)
