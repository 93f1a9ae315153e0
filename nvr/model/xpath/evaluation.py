"""Whether an expression is true for a document.

The elements of a document are numbered in document order. What a step without predicates selects depends on its layout
alone, on which elements there are: a `Filter` that is applied to many documents of one layout selects once, and then
only fetches the values that are compared.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from nvr.model.errors import BadFilter, FormatError
from nvr.model.time import UtcNs, format_iso, parse_iso
from nvr.model.xpath.expression import And, Comparison, Contains, Expression, Not, Or, Path, Step

MAX_VISITS = 20_000
"""Elements that the steps of a filter may come upon in one document, which takes some milliseconds. In a document of a
hundred elements no filter gets there, since a predicate is judged once for each element."""
MAX_CHARACTERS = 16_000_000
"""Of the values of elements with others inside that a filter may compare in one document, which takes some tenths of a
second. Such a value is the text of all that is inside, so with each level of a document it comes once more."""
_AN_ELEMENT = 16
"""So many characters of them an element counts for, whatever its text: to ask it for its text takes as long."""
_MAX_REMEMBERED = 20_000
"""Elements in the selections that a filter remembers."""

Text: TypeAlias = "str | UtcNs"
"""A number is an instant: its text is xs:dateTime."""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """An element: its local name, its own text, attributes by local name, child elements."""

    name: str
    text: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    children: tuple[Node, ...] = ()


class Layout:
    """The elements of a document by their place: 0 is the document itself, 1 its root element, and what is inside
    element n are the places from n + 1 to before `end[n]`. `names` are local.
    """

    __slots__ = ("children", "end", "names")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.end: list[int] = []
        self.children: list[list[int]] = []

    def open(self, name: str) -> int:
        """An element begins, behind the one before or inside the one that is open. Its place."""
        place = len(self.names)
        self.names.append(name)
        self.end.append(place)
        self.children.append([])
        return place

    def close(self, place: int, children: list[int]) -> int:
        """It ends, with these children inside. Its place."""
        self.end[place] = len(self.names)
        self.children[place] = children
        return place


class Document(Protocol):
    """What an expression looks at. `text` and `attributes` are those of the element itself, and are asked for no
    element but those that the expression compares.
    """

    @property
    def layout(self) -> Layout: ...
    def text(self, place: int) -> Text: ...
    def attributes(self, place: int) -> Mapping[str, str]: ...


def matches(expression: Expression, root: Node, visits: int | None = None) -> bool:
    """Whether the expression is true for the document whose root element is `root`.

    Raises BadFilter where that takes more than `visits`, or `MAX_VISITS`.
    """
    return Filter(expression, visits).matches(_Tree(root))


class Filter:
    """One expression, to be applied to any number of documents."""

    def __init__(self, expression: Expression, visits: int | None = None) -> None:
        self._expression = expression
        self._visits = MAX_VISITS if visits is None else visits
        self._comparisons: dict[int, Callable[[Text], bool]] = {}
        """By the id of the comparison."""
        self._selected: dict[tuple[int, Layout, tuple[int, ...]], tuple[Sequence[int], int]] = {}
        """What a step, by its id, finds from elements of a layout, and how many it comes upon."""
        self.remembered = 0
        """Elements in what is kept of them."""
        self._numbers: dict[str, float] = {}
        """Values of the document as numbers."""

    def matches(self, document: Document) -> bool:
        """Whether the expression is true for it. Raises BadFilter where that takes more than it may."""
        self._numbers.clear()
        return _Evaluation(self, document, self._visits).holds(self._expression, _ROOT)

    def select(self, step: Step, layout: Layout, found: Sequence[int]) -> tuple[Sequence[int], int]:
        """What the step finds from `found`, without its predicates, and how many elements it comes upon."""
        key = id(step), layout, tuple(found)
        known = self._selected.get(key)
        if known is None:
            known = _select(step, layout, found)
            size = len(found) + len(known[0]) + 1
            if self.remembered + size <= _MAX_REMEMBERED:
                self.remembered += size
                self._selected[key] = known
        return known

    def compares(self, comparison: Comparison) -> Callable[[Text], bool]:
        """The comparison of a value with a literal, which is looked at once."""
        known = self._comparisons.get(id(comparison))
        if known is None:
            literal = comparison.literal
            known = self._comparisons[id(comparison)] = _comparison(comparison.operator, literal, self._number)
        return known

    def _number(self, value: str) -> float:
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = _number(value)
        return number


class _Tree:
    """Nodes as a document."""

    __slots__ = ("_nodes", "layout")

    def __init__(self, root: Node) -> None:
        self._nodes: list[Node] = []
        self.layout = Layout()
        self._add(Node("", children=(root,)))

    def _add(self, node: Node) -> int:
        self._nodes.append(node)
        place = self.layout.open(node.name)
        return self.layout.close(place, [self._add(child) for child in node.children])

    def text(self, place: int) -> str:
        return self._nodes[place].text

    def attributes(self, place: int) -> Mapping[str, str]:
        return self._nodes[place].attributes


_DOCUMENT, _ROOT = 0, 1


class _Evaluation:
    """One filter on one document."""

    __slots__ = ("_characters", "_document", "_filter", "_judged", "_layout", "_left", "_most", "_texts_known")

    def __init__(self, filter: Filter, document: Document, visits: int) -> None:
        self._filter = filter
        self._document = document
        self._layout = document.layout
        self._most = self._left = visits
        self._judged: dict[tuple[int, int], bool] = {}
        """Of predicates, by their id and the element."""
        self._texts_known: dict[int, Text] = {}
        """What elements have said of themselves."""
        self._characters = MAX_CHARACTERS
        """That may still be joined."""

    def holds(self, expression: Expression, context: int) -> bool:
        match expression:
            case Path():
                return bool(self._select(expression, context))
            case Comparison(path):
                return any(map(self._filter.compares(expression), self._texts(path, context)))
            case Contains(path, text):
                return text in _as_text(next(self._texts(path, context), ""))
            case Not(inner):
                return not self.holds(inner, context)
            case And(terms):
                return all(self.holds(term, context) for term in terms)
            case Or(terms):
                return any(self.holds(term, context) for term in terms)

    def _texts(self, path: Path, context: int) -> Iterator[Text]:
        """The string values of what a path selects, in document order."""
        for found in self._select(path, context):
            yield found if isinstance(found, str) else self._value(found)

    def _value(self, place: int) -> Text:
        """The string value: the text of the element and of all inside it."""
        end = self._layout.end[place]
        if end == place + 1:
            return self._text(place)
        # Nothing of it is kept: in a deep document it would be the whole text for each level.
        value = "".join([_as_text(self._text(inside)) for inside in range(place, end)])
        self._characters -= len(value) + _AN_ELEMENT * (end - place)
        if self._characters < 0:
            raise BadFilter(
                f"the filter compares more than {MAX_CHARACTERS} characters of elements that have others inside: "
                "name the elements whose own text is meant"
            )
        return value

    def _text(self, place: int) -> Text:
        """Of the element itself, asked for once."""
        text = self._texts_known.get(place)
        if text is None:
            text = self._texts_known[place] = self._document.text(place)
        return text

    def _select(self, path: Path, context: int) -> Sequence[int] | Sequence[str]:
        """Elements, or values of attributes, in document order, each once."""
        found: Sequence[int] = (_DOCUMENT if path.absolute else context,)
        for step in path.steps:
            found, visits = self._filter.select(step, self._layout, found)
            self._left -= visits
            if self._left < 0:
                raise BadFilter(
                    f"the filter comes upon more than {self._most} elements of one document: "
                    "name the elements that are meant, instead of * and //"
                )
            if step.attribute:  # nothing stands behind it
                attributes = map(self._document.attributes, found)
                return [values[step.name] for values in attributes if step.name in values]
            for predicate in step.predicates:
                found = [place for place in found if self._judge(predicate, place)]
        return found

    def _judge(self, predicate: Expression, place: int) -> bool:
        key = id(predicate), place
        held = self._judged.get(key)
        if held is None:
            held = self._judged[key] = self.holds(predicate, place)
        return held


def _select(step: Step, layout: Layout, found: Sequence[int]) -> tuple[Sequence[int], int]:
    """Without the predicates, for an attribute the elements that may have it; and how many elements were looked at."""
    names, name = layout.names, step.name
    if not step.anywhere:
        if step.attribute or name == ".":
            return found, len(found) + 1
        # Behind a // one can stand inside another: then the children are not in order by themselves.
        children = [child for place in found for child in layout.children[place]]
        chosen = sorted(c for c in children if name in ("*", names[c]))
        return chosen, len(chosen) + 1
    inside: list[int] = []
    itself = 0 if step.attribute or name == "." else 1
    end = 0
    for place in found:
        if place < end:  # it stands inside one before, and all that is inside of it as well
            continue
        end = layout.end[place]
        inside.extend(range(place + itself, end))
    if itself and name != "*":
        chosen = [place for place in inside if names[place] == name]
        return chosen, len(inside) + len(chosen) + 1
    return inside, len(inside) + 1


_OPERATORS: Mapping[str, Callable[[float | str, float | str], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NUMBER = re.compile(r"[ \t\r\n]*(-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))[ \t\r\n]*")


def _comparison(sign: str, literal: str | float, number_of: Callable[[str], float]) -> Callable[[Text], bool]:
    compares = _OPERATORS[sign]
    number = _number(literal)
    instant = _instant(literal) if isinstance(literal, str) else None
    as_text = isinstance(literal, str) and sign in ("=", "!=")

    def holds(value: Text) -> bool:
        if instant is not None:
            found = _instant(value)
            if found is not None:
                return compares(found, instant)
        value = _as_text(value)
        return compares(value, literal) if as_text else compares(number_of(value), number)

    return holds


def _number(value: str | float) -> float:
    """As number() of XPath 1.0: what is no number is NaN, which compares to nothing."""
    if isinstance(value, float):
        return value
    m = _NUMBER.fullmatch(value)
    return float(m[1]) if m else float("nan")


def _as_text(value: Text) -> str:
    return value if isinstance(value, str) else format_iso(value)


def _instant(value: Text) -> UtcNs | None:
    if isinstance(value, int):
        return value
    if not 19 <= len(value) <= 64 or "T" not in value:  # most values are no time, and to be told so by an error is slow
        return None
    try:
        return parse_iso(value)
    except FormatError:
        return None
