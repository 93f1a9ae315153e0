"""Topic expressions of subscriptions: those of `nvr.model.topics`, held against what this device tells. Sans-I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nvr.events.errors import BadTopicExpression, TopicNotSupported, UnknownTopicDialect
from nvr.model import topics as expressions
from nvr.model.errors import FormatError
from nvr.model.event import Topic
from nvr.model.topics import CONCRETE, CONCRETE_SET, DIALECTS, FULL, MAX_LENGTH, UnknownDialect

__all__ = ["CONCRETE", "CONCRETE_SET", "DIALECTS", "FULL", "MAX_LENGTH", "TopicExpression", "parse", "parse_names"]


@dataclass(frozen=True, slots=True)
class TopicExpression:
    """Of the topics of this device, or of names alone."""

    expression: expressions.TopicExpression

    def matches(self, topic: Topic) -> bool:
        return self.expression.matches(topic.qualified)

    def matches_names(self, names: Sequence[str]) -> bool:
        """Names from the root, without prefixes."""
        return self.expression.matches(tuple(("", name) for name in names))


def parse(text: str, dialect: str, namespaces: Mapping[str | None, str], topics: Sequence[Topic]) -> TopicExpression:
    """`namespaces` are those in scope by prefix, `topics` what the device tells.

    Raises UnknownTopicDialect, BadTopicExpression, and TopicNotSupported where no topic can ever match.
    """
    expression = _parsed(text, dialect, namespaces)
    if not any(expression.matches(topic) for topic in topics):
        raise TopicNotSupported("no topic of the device matches the topic expression")
    return expression


def parse_names(text: str) -> TopicExpression:
    """An expression of the Full dialect that stands as a plain string, without namespaces in scope: topics, also those
    of cameras, match by their names, whatever the prefixes. Raises BadTopicExpression.
    """
    return _parsed(text, FULL, None)


def _parsed(text: str, dialect: str, namespaces: Mapping[str | None, str] | None) -> TopicExpression:
    try:
        return TopicExpression(expressions.parse(text, dialect, namespaces))
    except UnknownDialect as e:
        raise UnknownTopicDialect(str(e)) from e
    except FormatError as e:
        raise BadTopicExpression(str(e)) from e
