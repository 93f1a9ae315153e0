"""Topic expressions (WS-Topics 1.3 section 8, ONVIF Core 9.6.3). Sans-I/O.

Concrete names one topic: `tns1:RecordingConfig/JobState`. ConcreteSet joins several with `|`, and `//.` behind a topic
takes in all below it. Full, of which those two are parts, has `*` for one name and `//` for any depth as well:

    expression = path *( "|" path )
    path       = [ prefix ":" ] [ "//" ] ( name / "*" ) *( ( "/" / "//" ) ( [ prefix ":" ] name / "*" / "." ) )

A root topic is qualified: the namespaces in scope where the expression stands say what its prefix means. Names below it
are unqualified, and may carry the prefix of the root, as clients write them both ways; vendors put topics of their own
below roots of ONVIF, with a prefix of theirs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nvr.model.errors import FormatError

CONCRETE = "http://docs.oasis-open.org/wsn/t-1/TopicExpression/Concrete"
CONCRETE_SET = "http://www.onvif.org/ver10/tev/topicExpression/ConcreteSet"
FULL = "http://docs.oasis-open.org/wsn/t-1/TopicExpression/Full"
DIALECTS = (CONCRETE, CONCRETE_SET, FULL)

MAX_LENGTH = 4096
MAX_PATHS = 64
MAX_STEPS = 16
"""Of one path; topics are four names deep at most."""

Name: TypeAlias = tuple[str, str]
"""Namespace, empty for an unqualified name, and local name."""
Topic: TypeAlias = tuple[Name, ...]

_NAME = r"[^\W\d][\w.\-]*"
_CONCRETE = re.compile(rf"{_NAME}:{_NAME}(?:/(?:{_NAME}:)?{_NAME})*")
_SET = re.compile(rf"{_CONCRETE.pattern}(?://\.)?")
_FULL = re.compile(rf"(?:{_NAME}:)?(?://)?(?:{_NAME}|\*)(?://?(?:(?:{_NAME}:)?{_NAME}|\*|\.))*")
_FORMS = {CONCRETE: _CONCRETE, CONCRETE_SET: _SET, FULL: _FULL}
_ROOT = re.compile(rf"(?:({_NAME}):)?(//)?({_NAME}|\*)")
_STEP = re.compile(rf"(//?)(?:(?:({_NAME}):)?({_NAME})|(\*|\.))")


class UnknownDialect(FormatError):
    """The dialect is none of `DIALECTS`."""


@dataclass(frozen=True, slots=True)
class Step:
    """One name, `*` for any, `.` for the topic itself. `anywhere` is `//` in front of it: at any depth below. The
    namespace is None where no prefix stands.
    """

    name: str
    anywhere: bool = False
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class TopicExpression:
    """Alternatives; a topic that matches one of them matches."""

    paths: tuple[tuple[Step, ...], ...]

    def matches(self, topic: Topic) -> bool:
        return any(_matches(path, topic) for path in self.paths)

    def is_below(self, root: str) -> bool:
        """Whether it matches no other topics than those of this root, whatever its namespace."""
        return all(path[0].name == root and not path[0].anywhere for path in self.paths)


def parse(text: str, dialect: str, namespaces: Mapping[str | None, str] | None) -> TopicExpression:
    """`namespaces` are those in scope by prefix; with None prefixes mean nothing, and names of any namespace match.

    Raises UnknownDialect, or FormatError that names what is wrong.
    """
    form = _FORMS.get(dialect.strip())
    if form is None:
        raise UnknownDialect(f"the dialect of the topic expression is none of {', '.join(DIALECTS)}")
    if len(text) > MAX_LENGTH:
        raise FormatError(f"the topic expression has {len(text)} characters, more than {MAX_LENGTH}")
    alternatives = [part.strip() for part in text.split("|")]
    if len(alternatives) > (1 if form is _CONCRETE else MAX_PATHS):
        raise FormatError("the topic expression has more alternatives than its dialect takes")
    paths = []
    for alternative in alternatives:
        if form.fullmatch(alternative) is None:
            raise FormatError(f"{alternative[:80]!r} is no topic path of its dialect")
        paths.append(_path(alternative, namespaces))
    return TopicExpression(tuple(paths))


def _path(text: str, namespaces: Mapping[str | None, str] | None) -> tuple[Step, ...]:
    root = _ROOT.match(text)
    assert root is not None, "the form of the dialect has been checked"
    prefix, anywhere, name = root.groups()
    qualified = None if namespaces is None else _namespace(prefix, namespaces) or ""
    steps = [Step(name, anywhere is not None, qualified)]
    place = root.end()
    while place < len(text):
        found = _STEP.match(text, place)
        assert found is not None, "the form of the dialect has been checked"
        slashes, prefix, name, sign = found.groups()
        namespace = None if prefix is None or namespaces is None else _namespace(prefix, namespaces)
        steps.append(Step(name or sign, slashes == "//", namespace))
        place = found.end()
    if len(steps) > MAX_STEPS:
        raise FormatError(f"the topic expression has more than {MAX_STEPS} steps")
    return tuple(steps)


def _namespace(prefix: str | None, namespaces: Mapping[str | None, str]) -> str | None:
    if prefix is not None and prefix not in namespaces:
        raise FormatError(f"the prefix {prefix!r} of the topic expression is not declared where it stands")
    return namespaces.get(prefix)


def _matches(path: Sequence[Step], topic: Topic) -> bool:
    """Whether the path can end at the last name. `reached` are the numbers of names consumed so far."""
    if path[0].namespace not in (None, topic[0][0]):
        return False
    reached = {0}
    for step in path:
        starts = set(range(min(reached), len(topic) + 1)) if step.anywhere else reached
        if step.name == ".":
            reached = starts
        else:
            reached = {n + 1 for n in starts if n < len(topic) and _is_named(step, topic[n], topic[0][0])}
        if not reached:
            return False
    return len(topic) in reached


def _is_named(step: Step, name: Name, root: str) -> bool:
    if step.name not in ("*", name[1]):
        return False
    return step.namespace is None or step.namespace == name[0] or (not name[0] and step.namespace == root)
