"""Expressions: their trees and their parser. The grammar stands at the package."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from nvr.model.errors import BadFilter

MAX_LENGTH = 4096
MAX_DEPTH = 32
"""Of brackets and parentheses: bounds the parser's recursion."""
MAX_STEPS = 64
"""Of all paths together."""


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


def parse(text: str, max_steps: int = MAX_STEPS) -> Expression:
    """Raises BadFilter that names the place."""
    if len(text) > MAX_LENGTH:
        raise BadFilter(f"the filter has {len(text)} characters, more than {MAX_LENGTH}")
    return _Parser(text, max_steps).whole()


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
_OPERATORS = frozenset(("=", "!=", "<", "<=", ">", ">="))


class _Parser:
    """Recursive descent over the tokens; each method leaves the place behind what it has read."""

    def __init__(self, text: str, max_steps: int) -> None:
        self._max_steps = max_steps
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
        if self._steps > self._max_steps:
            raise BadFilter(f"the filter has more than {self._max_steps} steps")
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
