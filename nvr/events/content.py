"""Expressions on the items of messages, at a bounded price (ONVIF Core 9.4.4). Sans-I/O.

What clients send is `boolean(//tt:SimpleItem[@Name="..." and @Value="..."])`, a few of them joined with `and`, `or` and
`not`. These are looked up in the set of the items of a message, any number of alternatives in one go. Every other form
that the dialect allows is left to the evaluator (`nvr.model.xpath`), which is a hundred times slower: its steps are
counted, and whoever takes an expression refuses what has too many.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nvr.model import xpath
from nvr.model.event import wanted_item

MAX_STEPS = 16
"""Steps that are left to the evaluator in one subscription, or in the conditions of one job: four expressions on an
item. An expression that is looked up has none."""
MAX_LOOKUPS = 32
"""Look-ups in the expressions of one subscription, or of one job; alternatives on single items are one together."""


class Subject(ABC):
    """A message while expressions are asked of it; each that has to be evaluated is so once, however many ask it."""

    __slots__ = ("_document", "_held", "_items", "evaluations")

    def __init__(self) -> None:
        self.evaluations = 0
        """How often the evaluator was needed."""
        self._document: xpath.Node | None = None
        self._items: frozenset[tuple[str, str]] | None = None
        self._held: dict[str, bool] = {}

    @abstractmethod
    def simple_items(self) -> Iterable[tuple[str, str]]:
        """Names and values."""

    @abstractmethod
    def as_document(self) -> xpath.Node:
        """tt:Message."""

    @property
    def items(self) -> frozenset[tuple[str, str]]:
        if self._items is None:
            self._items = frozenset(self.simple_items())
        return self._items

    def holds(self, content: Content) -> bool:
        """Whether the expression is true for the message."""
        if not content.steps:
            return content.test.holds(self)
        known = self._held.get(content.text)
        if known is None:
            known = self._held[content.text] = content.test.holds(self)
        return known

    def evaluate(self, expression: xpath.Expression) -> bool:
        """The slow way. The steps of an expression and the items of a message are so few that `xpath.MAX_VISITS` is
        not reached."""
        self.evaluations += 1
        if self._document is None:
            self._document = self.as_document()
        return xpath.matches(expression, self._document)


@dataclass(frozen=True, slots=True)
class Content:
    """An expression, parsed. `text` is what it is known by."""

    text: str
    test: Test

    @classmethod
    def parse(cls, text: str) -> Content:
        """Raises FormatError, also where it would take too long to judge."""
        # Look-ups are cheap, so that a list of tokens may be as long as the text.
        expression = xpath.parse(text, max_steps=xpath.MAX_LENGTH)
        return cls(text.strip(), _compiled(expression))

    @property
    def steps(self) -> int:
        """Those that are left to the evaluator."""
        return self.test.steps

    @property
    def lookups(self) -> int:
        return self.test.lookups


def too_costly(contents: Sequence[Content]) -> str | None:
    """Why these expressions together would take too long, or None when they do not."""
    steps, lookups = sum(c.steps for c in contents), sum(c.lookups for c in contents)
    if steps > MAX_STEPS:
        form = '//tt:SimpleItem[@Name="..." and @Value="..."]'
        return f"the filter has {steps} steps, more than {MAX_STEPS}, that are not of the form {form}"
    if lookups > MAX_LOOKUPS:
        return f"the filter asks for {lookups} combinations of items, more than {MAX_LOOKUPS}"
    return None


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of the items is there."""

    items: frozenset[tuple[str, str]]
    steps: int = 0
    lookups: int = 1

    def holds(self, subject: Subject) -> bool:
        return not self.items.isdisjoint(subject.items)


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of the items are there."""

    items: frozenset[tuple[str, str]]
    steps: int = 0
    lookups: int = 1

    def holds(self, subject: Subject) -> bool:
        return self.items <= subject.items


@dataclass(frozen=True, slots=True)
class Or:
    terms: tuple[Test, ...]
    steps: int
    lookups: int

    def holds(self, subject: Subject) -> bool:
        return any(term.holds(subject) for term in self.terms)


@dataclass(frozen=True, slots=True)
class And:
    terms: tuple[Test, ...]
    steps: int
    lookups: int

    def holds(self, subject: Subject) -> bool:
        return all(term.holds(subject) for term in self.terms)


@dataclass(frozen=True, slots=True)
class Not:
    inner: Test
    steps: int
    lookups: int

    def holds(self, subject: Subject) -> bool:
        return not self.inner.holds(subject)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Every other form."""

    expression: xpath.Expression
    steps: int
    lookups: int = 1

    def holds(self, subject: Subject) -> bool:
        return subject.evaluate(self.expression)


Test: TypeAlias = AnyOf | AllOf | Or | And | Not | Evaluated


def _compiled(expression: xpath.Expression) -> Test:
    match expression:
        case xpath.Or(terms):
            parts = [_compiled(term) for term in terms]
            single = frozenset[tuple[str, str]]().union(*(p.items for p in parts if isinstance(p, AnyOf)))
            rest: list[Test] = [p for p in parts if not isinstance(p, AnyOf)]
            joined = _cheapest_first([AnyOf(single), *rest] if single else rest)
            return joined[0] if len(joined) == 1 else Or(joined, *_price(joined))
        case xpath.And(terms):
            parts = [_compiled(term) for term in terms]
            every = frozenset[tuple[str, str]]().union(*map(_together, parts))
            rest = [p for p in parts if not _together(p)]
            joined = _cheapest_first([AllOf(every), *rest] if every else rest)
            return joined[0] if len(joined) == 1 else And(joined, *_price(joined))
        case xpath.Not(inner):
            part = _compiled(inner)
            return Not(part, part.steps, part.lookups + 1)
    item = wanted_item(expression)
    return Evaluated(expression, _steps(expression)) if item is None else AnyOf(frozenset((item,)))


def _together(test: Test) -> frozenset[tuple[str, str]]:
    """The items that must all be there; none where the test is of another kind."""
    if isinstance(test, AllOf) or (isinstance(test, AnyOf) and len(test.items) == 1):
        return test.items
    return frozenset()


def _cheapest_first(tests: Iterable[Test]) -> tuple[Test, ...]:
    return tuple(sorted(tests, key=lambda test: (test.steps, test.lookups)))


def _price(tests: Iterable[Test]) -> tuple[int, int]:
    return sum(t.steps for t in tests), 1 + sum(t.lookups for t in tests)


def _steps(expression: xpath.Expression) -> int:
    match expression:
        case xpath.Path(steps):
            return sum(1 + sum(_steps(p) for p in step.predicates) for step in steps)
        case xpath.Comparison(path) | xpath.Contains(path):
            return _steps(path)
        case xpath.Not(inner):
            return _steps(inner)
        case xpath.And(terms) | xpath.Or(terms):
            return sum(map(_steps, terms))
