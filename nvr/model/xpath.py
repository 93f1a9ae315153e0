"""The dialect of search filters and message content filters: a subset of XPath 1.0 that is true or false for a document
(IEC 62676-2-32 6.18, ONVIF Core 9.4.4). Sans-I/O.

    expression  = conjunction *( "or" conjunction )
    conjunction = term *( "and" term )
    term        = "(" expression ")" / "not" "(" expression ")" / "boolean" "(" expression ")"
                / "contains" "(" path "," string ")" / path [ operator literal ]
    path        = [ "/" / "//" ] step *( ( "/" / "//" ) step )          in [...]: without the leading slash
    step        = ( name / "*" / "." ) *( "[" expression "]" ) / "@" name
    operator    = "=" / "!=" / "<" / "<=" / ">" / ">="
    literal     = string / number

It accepts somewhat more than the grammar of the standard, with the meaning of XPath 1.0. Names match by their local
part: filters come with the prefix tt, with another, or with none. Typographic quotes, as they stand in the printed
standard, quote as well. Beyond XPath 1.0, two xs:dateTime values compare as instants, so that
EarliestRecording < "2024-01-01T00:00:00Z" means what it says.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

from nvr.model.errors import BadFilter, FormatError
from nvr.model.time import parse_iso

DIALECT = "http://www.onvif.org/ver10/tse/searchFilter"
MAX_LENGTH = 4096
MAX_DEPTH = 32
"""Of brackets and parentheses: bounds the parser's recursion."""
MAX_STEPS = 64
"""Of all paths together."""
MAX_VISITS = 20_000
"""Elements that the steps of a filter may come upon in one document, which takes some milliseconds. In a document of a
hundred elements no filter gets there, since a predicate is judged once for each element."""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """An element: its local name, its own text, attributes by local name, child elements."""

    name: str
    text: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    children: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    """A local name, `*`, or `.` for the node itself."""
    anywhere: bool = False
    """Behind `//`: at any depth below."""
    attribute: bool = False
    predicates: tuple[Expression, ...] = ()


@dataclass(frozen=True, slots=True)
class Path:
    """True where it selects something."""

    steps: tuple[Step, ...]
    absolute: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """True where any node of the path compares so."""

    path: Path
    operator: str
    literal: str | float


@dataclass(frozen=True, slots=True)
class Contains:
    """True where the first node of the path holds the text."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True)
class Not:
    inner: Expression


@dataclass(frozen=True, slots=True)
class And:
    terms: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    terms: tuple[Expression, ...]


Expression: TypeAlias = Path | Comparison | Contains | Not | And | Or


def parse(text: str) -> Expression:
    """Raises BadFilter that names the place."""
    if len(text) > MAX_LENGTH:
        raise BadFilter(f"the filter has {len(text)} characters, more than {MAX_LENGTH}")
    return _Parser(text).whole()


def matches(expression: Expression, root: Node, visits: int | None = None) -> bool:
    """Whether the expression is true for the document whose root element is `root`.

    Raises BadFilter where that takes more than `visits`, or `MAX_VISITS`.
    """
    return _Evaluation(root, MAX_VISITS if visits is None else visits).holds(expression, _ROOT)


def mentions(expression: Expression, attribute: str) -> bool:
    """Whether the expression looks at attributes of this name."""
    match expression:
        case Path(steps):
            return any(
                (s.attribute and s.name == attribute) or any(mentions(p, attribute) for p in s.predicates)
                for s in steps
            )
        case Comparison(path) | Contains(path):
            return mentions(path, attribute)
        case Not(inner):
            return mentions(inner, attribute)
        case And(terms) | Or(terms):
            return any(mentions(term, attribute) for term in terms)


_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"[^"]*"|'[^']*'|[\u201c-\u201e][^\u201c\u201d]*[\u201c\u201d]|[\u2018-\u201a][^\u2018\u2019]*[\u2018\u2019])
    | (?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)
    | (?P<name>(?:[^\W\d][\w.\-]*:)?[^\W\d][\w.\-]*)
    | (?P<sign>//|!=|<=|>=|\.\.|::|[/\[\]()@,=<>*.])
    )""",
    re.VERBOSE,
)
_OPERATORS: Mapping[str, Callable[[float | str, float | str], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NUMBER = re.compile(r"[ \t\r\n]*(-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))[ \t\r\n]*")


class _Parser:
    """Recursive descent over the tokens; each method leaves the place behind what it has read."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str, int]] = []
        """Kind, text, place; the kind of signs is the sign itself."""
        self._at = 0
        self._depth = 0
        self._steps = 0
        place, end = 0, len(text.rstrip())
        while place < end:
            m = _TOKEN.match(text, place)
            if m is None:
                raise BadFilter(f"the filter has an unexpected {text[place:].lstrip()[:1]!r} at {place}")
            kind = m.lastgroup
            assert kind is not None
            self._tokens.append((m[kind] if kind == "sign" else kind, m[kind], m.start(kind)))
            place = m.end()
        self._tokens.append(("end", "", len(text)))

    def whole(self) -> Expression:
        expression = self._expression(inside=False)
        if self._kind != "end":
            self._fail("the end")
        return expression

    @property
    def _kind(self) -> str:
        return self._tokens[self._at][0]

    @property
    def _text(self) -> str:
        return self._tokens[self._at][1]

    def _fail(self, expected: str) -> NoReturn:
        kind, text, place = self._tokens[self._at]
        found = "it ends" if kind == "end" else f"there is {text[:40]!r}"
        raise BadFilter(f"the filter needs {expected} at {place}, where {found}")

    def _take(self, kind: str, expected: str) -> str:
        if self._kind != kind:
            self._fail(expected)
        text = self._text
        self._at += 1
        return text

    def _taken(self, kind: str) -> bool:
        if self._kind != kind:
            return False
        self._at += 1
        return True

    def _word(self, word: str) -> bool:
        if (self._kind, self._text) != ("name", word):
            return False
        self._at += 1
        return True

    def _calls(self, function: str) -> bool:
        if self._text == function and self._kind == "name" and self._tokens[self._at + 1][0] == "(":
            self._at += 2
            return True
        return False

    def _expression(self, inside: bool) -> Expression:
        """`inside` a predicate paths are relative."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadFilter(f"the filter nests deeper than {MAX_DEPTH}")
        terms = [self._conjunction(inside)]
        while self._word("or"):
            terms.append(self._conjunction(inside))
        self._depth -= 1
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def _conjunction(self, inside: bool) -> Expression:
        terms = [self._term(inside)]
        while self._word("and"):
            terms.append(self._term(inside))
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def _term(self, inside: bool) -> Expression:
        if self._taken("(") or self._calls("boolean"):
            inner = self._expression(inside)
            self._take(")", "')'")
            return inner
        if self._calls("not"):
            inner = self._expression(inside)
            self._take(")", "')'")
            return Not(inner)
        if self._calls("contains"):
            path = self._path(inside)
            self._take(",", "','")
            text = self._take("string", "a text in quotes")[1:-1]
            self._take(")", "')'")
            return Contains(path, text)
        path = self._path(inside)
        if self._kind not in _OPERATORS:
            return path
        sign = self._take(self._kind, "an operator")
        if self._kind == "number":
            return Comparison(path, sign, float(self._take("number", "a number")))
        return Comparison(path, sign, self._take("string", "a text in quotes")[1:-1])

    def _path(self, inside: bool) -> Path:
        absolute = self._kind in ("/", "//")
        if absolute and inside:
            self._fail("a path that begins at the element in front of the bracket")
        anywhere = self._kind == "//"
        self._at += absolute
        steps = [self._step(anywhere)]
        while self._kind in ("/", "//"):
            if steps[-1].attribute:
                self._fail("nothing behind an attribute")
            anywhere = self._taken("//") or not self._taken("/")
            steps.append(self._step(anywhere))
        return Path(tuple(steps), absolute)

    def _step(self, anywhere: bool) -> Step:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise BadFilter(f"the filter has more than {MAX_STEPS} steps")
        if self._taken("@"):
            return Step(_local(self._take("name", "the name of an attribute")), anywhere, attribute=True)
        if self._kind in ("*", "."):
            name = self._take(self._kind, "a name")
        else:
            name = _local(self._take("name", "the name of an element"))
            if self._kind == "(":
                self._at -= 1
                self._fail("boolean, contains or not")
        predicates = []
        while self._taken("["):
            predicates.append(self._expression(inside=True))
            self._take("]", "']'")
        return Step(name, anywhere, predicates=tuple(predicates))


def _local(name: str) -> str:
    return name.rpartition(":")[2]


_DOCUMENT, _ROOT = 0, 1


class _Evaluation:
    """One expression on one document, whose nodes are numbered in document order: 0 is the document itself, 1 its root
    element, and what is inside node n are the numbers from n + 1 to before `_end[n]`.
    """

    def __init__(self, root: Node, visits: int) -> None:
        self._nodes: list[Node] = []
        self._end: list[int] = []
        self._children: list[list[int]] = []
        self._values: list[str | None] = []
        self._add(Node("", children=(root,)))
        self._most = self._left = visits
        self._judged: dict[tuple[int, int], bool] = {}
        """Of predicates, by their id and the node."""
        self._comparisons: dict[int, Callable[[str], bool]] = {}
        self._numbers: dict[str, float] = {}

    def _add(self, node: Node) -> int:
        place = len(self._nodes)
        self._nodes.append(node)
        self._end.append(place)
        self._values.append(None)
        children: list[int] = []
        self._children.append(children)
        children.extend([self._add(child) for child in node.children])
        self._end[place] = len(self._nodes)
        return place

    def holds(self, expression: Expression, context: int) -> bool:
        match expression:
            case Path():
                return bool(self._select(expression, context))
            case Comparison(path):
                return any(map(self._comparison(expression), self._texts(path, context)))
            case Contains(path, text):
                return text in next(self._texts(path, context), "")
            case Not(inner):
                return not self.holds(inner, context)
            case And(terms):
                return all(self.holds(term, context) for term in terms)
            case Or(terms):
                return any(self.holds(term, context) for term in terms)

    def _texts(self, path: Path, context: int) -> Iterator[str]:
        """The string values of what a path selects, in document order."""
        for found in self._select(path, context):
            yield found if isinstance(found, str) else self._value(found)

    def _value(self, place: int) -> str:
        """The string value: the text of the element and of all inside it."""
        value = self._values[place]
        if value is None:
            node = self._nodes[place]
            value = self._values[place] = node.text + "".join(map(self._value, self._children[place]))
        return value

    def _select(self, path: Path, context: int) -> Sequence[int] | Sequence[str]:
        """Nodes, or values of attributes, in document order, each once."""
        found: Sequence[int] = [_DOCUMENT if path.absolute else context]
        for step in path.steps:
            found = self._step(step, found)
            self._left -= len(found) + 1
            if self._left < 0:
                raise BadFilter(
                    f"the filter comes upon more than {self._most} elements of one document: "
                    "name the elements that are meant, instead of * and //"
                )
            if step.attribute:  # nothing stands behind it
                attributes = [self._nodes[place].attributes for place in found]
                return [values[step.name] for values in attributes if step.name in values]
            for predicate in step.predicates:
                found = [place for place in found if self._judge(predicate, place)]
        return found

    def _step(self, step: Step, found: Sequence[int]) -> Sequence[int]:
        """Without the predicates; for an attribute the elements that may have it."""
        nodes, name = self._nodes, step.name
        if not step.anywhere:
            if step.attribute or name == ".":
                return found
            # Behind a // one can stand inside another: then the children are not in order by themselves.
            children = [child for place in found for child in self._children[place]]
            return sorted(c for c in children if name in ("*", nodes[c].name))
        inside: list[int] = []
        itself = 0 if step.attribute or name == "." else 1
        end = 0
        for place in found:
            if place < end:  # it stands inside one before, and all that is inside of it as well
                continue
            end = self._end[place]
            inside.extend(range(place + itself, end))
        if itself and name != "*":
            self._left -= len(inside)
            return [place for place in inside if nodes[place].name == name]
        return inside

    def _judge(self, predicate: Expression, place: int) -> bool:
        key = id(predicate), place
        held = self._judged.get(key)
        if held is None:
            held = self._judged[key] = self.holds(predicate, place)
        return held

    def _comparison(self, comparison: Comparison) -> Callable[[str], bool]:
        """The comparison of a value with a literal, which is looked at once."""
        known = self._comparisons.get(id(comparison))
        if known is None:
            known = self._comparisons[id(comparison)] = _comparison(
                comparison.operator, comparison.literal, self._number
            )
        return known

    def _number(self, value: str) -> float:
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = _number(value)
        return number


def _comparison(sign: str, literal: str | float, number_of: Callable[[str], float]) -> Callable[[str], bool]:
    compares = _OPERATORS[sign]
    number = _number(literal)
    instant = _instant(literal) if isinstance(literal, str) else None
    as_text = isinstance(literal, str) and sign in ("=", "!=")

    def holds(value: str) -> bool:
        if instant is not None:
            found = _instant(value)
            if found is not None:
                return compares(found, instant)
        return compares(value, literal) if as_text else compares(number_of(value), number)

    return holds


def _number(value: str | float) -> float:
    """As number() of XPath 1.0: what is no number is NaN, which compares to nothing."""
    if isinstance(value, float):
        return value
    m = _NUMBER.fullmatch(value)
    return float(m[1]) if m else float("nan")


def _instant(value: str) -> int | None:
    if not 19 <= len(value) <= 64 or "T" not in value:  # most values are no time, and to be told so by an error is slow
        return None
    try:
        return parse_iso(value)
    except FormatError:
        return None
