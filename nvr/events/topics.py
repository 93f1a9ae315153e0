"""Topic expressions (WS-Topics 1.3 section 8, ONVIF Core 9.6.3). Sans-I/O.

Concrete names one topic: `tns1:RecordingConfig/JobState`. ConcreteSet joins several with `|`, and `//.` behind a topic
takes in all below it. Full, of which those two are parts, has `*` for one name and `//` for any depth as well:

    expression = path *( "|" path )
    path       = [ prefix ":" ] [ "//" ] ( name / "*" ) *( ( "/" / "//" ) ( [ prefix ":" ] name / "*" / "." ) )

A root topic is qualified: the namespaces in scope where the expression stands say what its prefix means. Names below it
are unqualified, and may carry the prefix of the root, as clients write them both ways.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nvr.events.errors import BadTopicExpression, TopicNotSupported, UnknownTopicDialect
from nvr.model.event import TOPIC_NAMESPACE, Topic

CONCRETE = "http://docs.oasis-open.org/wsn/t-1/TopicExpression/Concrete"
CONCRETE_SET = "http://www.onvif.org/ver10/tev/topicExpression/ConcreteSet"
FULL = "http://docs.oasis-open.org/wsn/t-1/TopicExpression/Full"
DIALECTS = (CONCRETE, CONCRETE_SET, FULL)

MAX_LENGTH = 4096
MAX_PATHS = 64
MAX_STEPS = 16
"""Of one path; topics are four names deep at most."""

_NAME = r"[^\W\d][\w.\-]*"
_CONCRETE = re.compile(rf"{_NAME}:{_NAME}(?:/(?:{_NAME}:)?{_NAME})*")
_SET = re.compile(rf"{_CONCRETE.pattern}(?://\.)?")
_FULL = re.compile(rf"(?:{_NAME}:)?(?://)?(?:{_NAME}|\*)(?://?(?:(?:{_NAME}:)?{_NAME}|\*|\.))*")
_FORMS = {CONCRETE: _CONCRETE, CONCRETE_SET: _SET, FULL: _FULL}
_ROOT = re.compile(rf"(?:({_NAME}):)?(//)?({_NAME}|\*)")
_STEP = re.compile(rf"(//?)(?:(?:({_NAME}):)?({_NAME})|(\*|\.))")


@dataclass(frozen=True, slots=True)
class Step:
    """One name, `*` for any, `.` for the topic itself. `anywhere` is `//` in front of it: at any depth below."""

    name: str
    anywhere: bool = False


@dataclass(frozen=True, slots=True)
class TopicExpression:
    """Alternatives; a topic that matches one of them matches."""

    paths: tuple[tuple[Step, ...], ...]

    def matches(self, topic: Topic) -> bool:
        return self.matches_names(topic.names)

    def matches_names(self, names: Sequence[str]) -> bool:
        """Names from the root, without prefixes."""
        return any(_matches(path, names) for path in self.paths)


def parse(text: str, dialect: str, namespaces: Mapping[str | None, str], topics: Sequence[Topic]) -> TopicExpression:
    """`namespaces` are those in scope by prefix, `topics` what the device tells.

    Raises UnknownTopicDialect, BadTopicExpression, and TopicNotSupported where no topic can ever match.
    """
    expression = TopicExpression(tuple(_paths(text, dialect, namespaces)))
    if not any(expression.matches(topic) for topic in topics):
        raise TopicNotSupported("no topic of the device matches the topic expression")
    return expression


def parse_names(text: str) -> TopicExpression:
    """An expression of the Full dialect that stands as a plain string, without namespaces in scope: topics, also those
    of cameras, match by their names, whatever the prefixes. Raises BadTopicExpression.
    """
    return TopicExpression(tuple(_paths(text, FULL, None)))


def _paths(text: str, dialect: str, namespaces: Mapping[str | None, str] | None) -> Iterator[tuple[Step, ...]]:
    form = _FORMS.get(dialect.strip())
    if form is None:
        raise UnknownTopicDialect(f"the dialect of the topic expression is none of {', '.join(DIALECTS)}")
    if len(text) > MAX_LENGTH:
        raise BadTopicExpression(f"the topic expression has {len(text)} characters, more than {MAX_LENGTH}")
    alternatives = [part.strip() for part in text.split("|")]
    if len(alternatives) > (1 if form is _CONCRETE else MAX_PATHS):
        raise BadTopicExpression("the topic expression has more alternatives than its dialect takes")
    for alternative in alternatives:
        if form.fullmatch(alternative) is None:
            raise BadTopicExpression(f"{alternative[:80]!r} is no topic path of its dialect")
        path = _path(alternative, namespaces)
        if path is not None:
            yield path


def _path(text: str, namespaces: Mapping[str | None, str] | None) -> tuple[Step, ...] | None:
    """None where the namespace is another than that of this device's topics: nothing can match."""
    root = _ROOT.match(text)
    assert root is not None, "the form of the dialect has been checked"
    prefix, anywhere, name = root.groups()
    ours = _namespace(prefix, namespaces) == TOPIC_NAMESPACE
    steps = [Step(name, anywhere is not None)]
    place = root.end()
    while place < len(text):
        found = _STEP.match(text, place)
        assert found is not None, "the form of the dialect has been checked"
        slashes, prefix, name, sign = found.groups()
        if prefix is not None:
            ours = ours and _namespace(prefix, namespaces) == TOPIC_NAMESPACE
        steps.append(Step(name or sign, slashes == "//"))
        place = found.end()
    if len(steps) > MAX_STEPS:
        raise BadTopicExpression(f"the topic expression has more than {MAX_STEPS} steps")
    return tuple(steps) if ours else None


def _namespace(prefix: str | None, namespaces: Mapping[str | None, str] | None) -> str | None:
    if namespaces is None:
        return TOPIC_NAMESPACE
    if prefix is not None and prefix not in namespaces:
        raise BadTopicExpression(f"the prefix {prefix!r} of the topic expression is not declared where it stands")
    return namespaces.get(prefix)


def _matches(path: Sequence[Step], names: Sequence[str]) -> bool:
    """Whether the path can end at the last of the names. `reached` are the numbers of names consumed so far."""
    reached = {0}
    for step in path:
        starts = set(range(min(reached), len(names) + 1)) if step.anywhere else reached
        if step.name == ".":
            reached = starts
        else:
            reached = {n + 1 for n in starts if n < len(names) and step.name in ("*", names[n])}
        if not reached:
            return False
    return len(names) in reached
