from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from nvr.model.errors import FormatError
from nvr.model.xpath import MAX_DEPTH, MAX_LENGTH, MAX_VISITS, Filter, Layout, Node, matches, parse


def el(name: str, *children: Node | str, **attributes: str) -> Node:
    text = "".join(c for c in children if isinstance(c, str))
    return Node(name, text, attributes, tuple(c for c in children if isinstance(c, Node)))


def a_recording(location: str, *types: str, name: str = "Cam 1", at: str = "2024-05-01T12:00:00Z") -> Node:
    return el(
        "RecordingInformation",
        el("RecordingToken", "rec-1"),
        el("Source", el("Name", name), el("Location", location)),
        el("EarliestRecording", at),
        *(el("Track", el("TrackType", t), el("Description", f"{t} track")) for t in types),
    )


BASEMENT = a_recording("Basement", "Video", "Audio")


@pytest.mark.requirement("RS-6.18-04", "RS-6.18-12", "RS-6.18-13", "RS-6.2.4-04")
def test_the_example_of_the_standard_selects_recordings_in_the_basement_with_a_video_track() -> None:
    expression = parse('boolean(//Source[Location = "Basement"]) and boolean(//Track[TrackType = "Video"])')
    recordings = {
        "both": BASEMENT,
        "no video": a_recording("Basement", "Audio"),
        "elsewhere": a_recording("Attic", "Video"),
        "neither": a_recording("Attic"),
    }
    assert [name for name, root in recordings.items() if matches(expression, root)] == ["both"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("not(boolean(//Track[TrackType = 'Metadata']))", True),
        ("not(boolean(//Track))", False),
        ("boolean(//Nothing) or boolean(//Track) and boolean(//Nothing)", False),
        ("boolean(//Track) or boolean(//Nothing) and boolean(//Nothing)", True),
        ("(boolean(//Track) or boolean(//Nothing)) and boolean(//Nothing)", False),
        ("boolean(//Track) and (boolean(//Nothing) or not(boolean(//Nothing)))", True),
        ("boolean(//or) or boolean(//and) or boolean(//not) or boolean(//Track)", True),
        ("not(not(boolean(//Track)))", True),
    ],
)
@pytest.mark.requirement("RS-6.18-02", "RS-6.18-03")
def test_logic_and_its_precedence(text: str, expected: bool) -> None:
    assert matches(parse(text), BASEMENT) is expected


@pytest.mark.requirement("RS-6.18-05")
def test_contains_looks_into_the_text_of_the_element() -> None:
    expression = parse('contains(//Source/Name, "Cam")')
    assert matches(expression, BASEMENT)
    assert not matches(expression, a_recording("Basement", name="Gate"))
    assert not matches(parse('contains(//Nothing, "x")'), BASEMENT)
    assert matches(parse('contains(//Source, "Base")'), BASEMENT)  # the text of all that is inside


@pytest.mark.parametrize(
    ("sign", "expected"),
    [("=", [5]), ("!=", [4, 6, 10]), ("<", [4]), ("<=", [4, 5]), (">", [6, 10]), (">=", [5, 6, 10])],
)
@pytest.mark.requirement("RS-6.18-08", "RS-6.18-09")
def test_every_operator_compares_numbers_as_numbers(sign: str, expected: list[int]) -> None:
    expression = parse(f'boolean(//SimpleItem[@Name="Speed" and @Value {sign} "5"])')
    found = [
        n for n in (4, 5, 6, 10) if matches(expression, el("Message", el("SimpleItem", Name="Speed", Value=str(n))))
    ]
    assert found == expected


@pytest.mark.requirement("RS-6.18-06", "RS-6.18-07", "RS-6.18-08", "RS-6.18-10", "RS-6.18-11")
def test_items_and_elements_are_tested_by_attributes_and_children() -> None:
    message = el(
        "Message",
        el("Source", el("SimpleItem", Name="Track", Value="VIDEO001")),
        el("Data", el("SimpleItem", Name="IsRecording", Value="true"), el("ElementItem", Name="Information")),
        el("Object", el("Appearance", el("Shape", el("BoundingBox", right="0.6", bottom="0.4")))),
    )
    for text, expected in {
        'boolean(//SimpleItem[@Name="IsRecording" and @Value="true"])': True,
        'boolean(//SimpleItem[@Name="IsRecording" and @Value="false"])': False,
        'boolean(//SimpleItem[@Name="Track" and not(@Value="VIDEO001")])': False,
        'boolean(//SimpleItem[@Name="Track" and (@Value="x" or @Value="VIDEO001")])': True,
        'boolean(//ElementItem[@Name="Information"])': True,
        'boolean(//Object/Appearance/Shape/BoundingBox[@right > "0.5"])': True,
        'boolean(//Object/Appearance/Shape/BoundingBox[@bottom > "0.5"])': False,
        'boolean(//Appearance/BoundingBox[@right > "0.5"])': False,
    }.items():
        assert matches(parse(text), message) is expected, text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('//EarliestRecording < "2024-05-01T12:00:00.001Z"', True),
        ('//EarliestRecording < "2024-05-01T12:00:00Z"', False),
        ('//EarliestRecording = "2024-05-01T14:00:00+02:00"', True),
        ('//EarliestRecording > "yesterday"', False),
    ],
)
def test_times_compare_as_instants(text: str, expected: bool) -> None:
    assert matches(parse(text), BASEMENT) is expected


@pytest.mark.parametrize(
    "text",
    [
        "/RecordingInformation/Source/Location",
        "/RecordingInformation//Location[. = 'Basement']",
        "//tt:Track[tt:TrackType='Video']",
        "//*[Location]",
        "//Track[TrackType='Audio' or TrackType='Video'][contains(Description, 'Audio')]",
        "//Source[Name!='x']/Location = 'Basement'",
        "  boolean( //Track [ TrackType = 'Video' ] )  ",
    ],
)
def test_what_clients_write_beyond_the_letter_of_the_grammar_has_the_meaning_of_xpath(text: str) -> None:
    assert matches(parse(text), BASEMENT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the name of an element at 0, where it ends"),
        ("boolean(//Track", r"'\)' at 15, where it ends"),
        ("boolean(//Track))", r"the end at 16, where there is '\)'"),
        ("//Track[", "the name of an element at 8"),
        ("//Track[1]", "the name of an element at 8, where there is '1'"),
        ("count(//Track) > 1", "boolean, contains or not at 0, where there is 'count'"),
        ("//Track[//Source]", "begins at the element in front of the bracket at 8"),
        ("//Track/@a/b", "nothing behind an attribute at 10"),
        ("//Track = //Source", "a text in quotes at 10"),
        ("contains(//Track, Video)", "a text in quotes at 18"),
        ("//Track and", "at 11, where it ends"),
        ("//Track # 1", "unexpected '#' at 7"),
        ('//Track = "Video', "unexpected '\"' at 9"),
        ("//parent::Track", "the end at 8, where there is '::'"),
        ("(" * (MAX_DEPTH + 1), "nests deeper than 32"),
        ("x" * (MAX_LENGTH + 1), "has 4097 characters"),
        ("//." * 65, "more than 64 steps"),
    ],
)
def test_what_does_not_parse_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse(text)


@given(st.text() | st.text("ab()[]/@=<>!'\"., 1:*") | st.text("aond/ []()='").map(lambda t: f"boolean(//{t})"))
def test_any_text_parses_or_is_refused_with_a_format_error(text: str) -> None:
    with contextlib.suppress(FormatError):
        assert matches(parse(text), BASEMENT) in (True, False)


# Work


NESTED = "//*" + "[.//*" * 30 + "]" * 30
GREEDY = [
    " or ".join(f'//*="x{n}"' for n in range(60)),
    " and ".join(f'not(//*="x{n}")' for n in range(60)),
    " or ".join(f'//*//*="x{n}"' for n in range(31)),
    "//*" + '[.//*="x" or .//*!="x"]' * 15,
    f'{NESTED}="x"',
]


@pytest.mark.parametrize("text", GREEDY)
def test_no_filter_is_refused_on_the_largest_recording_that_the_defaults_allow(text: str) -> None:
    matches(parse(text), a_recording("Basement", *["Video"] * 12))


@pytest.mark.parametrize("text", GREEDY)
def test_what_looks_at_too_much_of_a_document_is_refused_and_says_what_to_do(text: str) -> None:
    with pytest.raises(FormatError, match=f"more than {MAX_VISITS} elements .* name the elements that are meant"):
        matches(parse(text), a_recording("Basement", *["Video"] * 2000))


def test_a_predicate_is_judged_once_for_each_element(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nested predicates would multiply: this one would look at half a million elements."""
    monkeypatch.setattr("nvr.model.xpath.evaluation.MAX_VISITS", 5000)
    deep = el("leaf", "x")
    for _ in range(8):
        deep = el("branch", deep)
    assert not matches(parse(NESTED), deep)


def a_nest(text: str, levels: int) -> Node:
    nest = el("a", text)
    for _ in range(levels):
        nest = el("a", "x", nest)
    return nest


def test_the_text_of_a_deep_document_is_not_kept_for_each_of_its_levels() -> None:
    nest, unequal = a_nest("y" * 100_000, 40), parse('//a = "z"')
    tracemalloc.start()
    try:
        assert not matches(unequal, nest)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_filter_that_compares_too_much_text_of_one_document_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvr.model.xpath.evaluation.MAX_CHARACTERS", 10_000)
    nest = a_nest("y" * 1000, 20)
    with pytest.raises(FormatError, match=r"more than 10000 characters .* name the elements whose own text is meant"):
        matches(parse('//a = "z"'), nest)
    assert not matches(parse('boolean(//a[a = "z"]/b)'), a_nest("y" * 1000, 4))
    assert matches(parse(f'/a = "{"x" * 20 + "y" * 1000}"'), nest)


# Against lxml's XPath 1.0

NAMES = st.sampled_from(["A", "B", "C"])
VALUES = st.sampled_from(["", "1", "2.0", "10", "x", "A"])
ATTRIBUTES = st.dictionaries(st.sampled_from(["m", "n"]), VALUES)
LEAVES = st.builds(Node, NAMES, VALUES, ATTRIBUTES)
NODES = st.recursive(
    LEAVES,
    lambda inner: st.builds(Node, NAMES, st.just(""), ATTRIBUTES, st.lists(inner, max_size=3).map(tuple)),
    max_leaves=12,
)
SIGNS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
LITERALS = st.sampled_from(["'1'", "'2'", "'x'", "''", "2", "10.0"])


def paths(absolute: bool) -> st.SearchStrategy[str]:
    predicates = st.lists(st.deferred(lambda: terms(False)).map(lambda t: f"[{t}]"), max_size=1).map("".join)
    plain = st.builds("{}{}".format, st.sampled_from(["A", "B", "C", "*"]), predicates if absolute else st.just(""))
    steps = st.lists(plain, min_size=1, max_size=3)
    joined = st.builds(lambda steps, between: between.join(steps), steps, st.sampled_from(["/", "//"]))
    ending = st.builds("{}{}".format, joined, st.sampled_from(["", "", "/@m"]))
    if not absolute:
        return ending | st.just("@n") | st.just(".")
    return st.builds("{}{}".format, st.sampled_from(["/", "//"]), ending)


def terms(absolute: bool) -> st.SearchStrategy[str]:
    path = paths(absolute)
    simple = (
        st.builds("boolean({})".format, path)
        | st.builds("{} {} {}".format, path, SIGNS, LITERALS)
        | st.builds("contains({}, '1')".format, path)
    )
    return st.recursive(
        simple,
        lambda inner: (
            st.builds("{} and {}".format, inner, inner)
            | st.builds("{} or {}".format, inner, inner)
            | st.builds("({})".format, inner)
            | st.builds("not({})".format, inner)
        ),
        max_leaves=4,
    )


def as_xml(node: Node) -> etree._Element:
    element = etree.Element(node.name, dict(node.attributes))
    element.text = node.text
    element.extend([as_xml(child) for child in node.children])
    return element


@settings(max_examples=150, deadline=None)
@given(NODES, terms(absolute=True))
def test_an_expression_means_what_xpath_1_0_says(root: Node, text: str) -> None:
    assert matches(parse(text), root) is as_xml(root).getroottree().xpath(f"boolean({text})"), text


def a_row(length: int) -> Layout:
    """A root with so many children."""
    layout = Layout()
    places = [layout.open(name) for name in ("", "A", *("B" * length))]
    for place in places[2:]:
        layout.end[place] = place + 1
    layout.close(1, places[2:])
    layout.close(0, [1])
    return layout


class Row:
    """Documents of one layout: a root with twelve children."""

    layout = a_row(12)

    def __init__(self, number: int) -> None:
        self._number = number

    def text(self, place: int) -> str:
        return str(self._number >> place & 1)

    def attributes(self, place: int) -> dict[str, str]:
        return {}


def test_what_a_filter_remembers_of_many_documents_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A predicate that holds for other elements of each document gives the next step something new each time."""
    monkeypatch.setattr("nvr.model.xpath.evaluation._MAX_REMEMBERED", 100)
    wanted = Filter(parse('//A/B[. = "1"]/. = "1"'))
    for number in range(0, 1 << 14, 4):
        assert wanted.matches(Row(number)) is (number > 0)
    assert 5 < wanted.remembered <= 100
