"""Topic expressions: which topics each dialect names, and what is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.events.errors import BadTopicExpression, TopicNotSupported, UnknownTopicDialect
from nvr.events.topics import CONCRETE, CONCRETE_SET, DIALECTS, FULL, MAX_LENGTH, parse
from nvr.model import topics
from nvr.model.event import TOPIC_NAMESPACE, TOPICS, Topic

SCOPE: dict[str | None, str] = {"tns1": TOPIC_NAMESPACE, "o": "http://example.org/other"}
RECORDING_CONFIG = {t.path for t in TOPICS if t.path.startswith("RecordingConfig/")}
RECEIVER = {"Receiver/ChangeState", "Receiver/ConnectionFailed"}
HISTORY = {"RecordingHistory/Recording/State", "RecordingHistory/Track/State"}


def matched(text: str, dialect: str = CONCRETE_SET, scope: dict[str | None, str] | None = None) -> set[str]:
    expression = parse(text, dialect, SCOPE if scope is None else scope, TOPICS)
    return {t.path for t in TOPICS if expression.matches(t)}


@pytest.mark.parametrize(
    ("text", "dialect", "paths"),
    [
        ("tns1:RecordingConfig/JobState", CONCRETE, {"RecordingConfig/JobState"}),
        (" tns1:RecordingConfig/JobState ", CONCRETE_SET, {"RecordingConfig/JobState"}),
        ("tns1:RecordingConfig/tns1:JobState", CONCRETE, {"RecordingConfig/JobState"}),
        ("tns1:RecordingConfig//.", CONCRETE_SET, RECORDING_CONFIG),
        ("tns1:RecordingHistory/Track//.", CONCRETE_SET, {"RecordingHistory/Track/State"}),
        ("tns1:RecordingHistory/Track/State//.", CONCRETE_SET, {"RecordingHistory/Track/State"}),
        ("tns1:Receiver//.|tns1:RecordingHistory//.", CONCRETE_SET, RECEIVER | HISTORY),
        ("tns1:Receiver/ChangeState | tns1:RecordingConfig/JobState", CONCRETE_SET,
         {"Receiver/ChangeState", "RecordingConfig/JobState"}),
        ("tns1:VideoSource//.|tns1:Receiver//.|o:Thing", CONCRETE_SET, RECEIVER),
        ("tns1:*", FULL, set()),
        ("tns1:*/*", FULL, RECORDING_CONFIG | RECEIVER),
        ("tns1:*//.", FULL, {t.path for t in TOPICS}),
        ("tns1://State", FULL, HISTORY),
        ("tns1:RecordingHistory/*/State", FULL, HISTORY),
        ("tns1:RecordingHistory//State", FULL, HISTORY),
        ("tns1:Receiver/ChangeState/.", FULL, {"Receiver/ChangeState"}),
    ],
)  # fmt: skip
@pytest.mark.requirement("CO-62")
def test_an_expression_names_these_topics(text: str, dialect: str, paths: set[str]) -> None:
    if paths:
        assert matched(text, dialect) == paths
    else:
        with pytest.raises(TopicNotSupported):
            matched(text, dialect)


@pytest.mark.requirement("CO-62")
@pytest.mark.parametrize("text", ["tns1:VideoSource//.", "tns1:RecordingConfig", "o:Receiver//.", "tns1:Receiver/X"])
def test_an_expression_that_no_topic_matches_is_not_supported(text: str) -> None:
    with pytest.raises(TopicNotSupported):
        matched(text)


@pytest.mark.requirement("CO-62")
@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("", CONCRETE_SET),
        ("|", CONCRETE_SET),
        ("tns1:Receiver//.|", CONCRETE_SET),
        ("nowhere:Receiver//.", CONCRETE_SET),
        ("tns1:Receiver/nowhere:ChangeState", CONCRETE_SET),
        ("tns1:Receiver/*", CONCRETE_SET),
        ("tns1:Receiver//ChangeState", CONCRETE_SET),
        ("tns1:Receiver/", CONCRETE_SET),
        ("tns1:Receiver ChangeState", CONCRETE_SET),
        ("tns1:Receiver//.", CONCRETE),
        ("tns1:Receiver/ChangeState|tns1:Receiver/ConnectionFailed", CONCRETE),
        ("Receiver/ChangeState", CONCRETE),
        ("tns1:" + "x" * MAX_LENGTH, FULL),
        ("tns1:a" + "/b" * 20, FULL),
        ("|".join(["tns1:Receiver//."] * 65), CONCRETE_SET),
    ],
)
def test_what_is_no_expression_of_its_dialect_is_refused(text: str, dialect: str) -> None:
    with pytest.raises(BadTopicExpression):
        matched(text, dialect)


def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(UnknownTopicDialect):
        matched("tns1:Receiver//.", "http://www.w3.org/TR/1999/REC-xpath-19991116")


def test_the_prefix_means_what_the_scope_says() -> None:
    assert matched("x:Receiver//.", scope={"x": TOPIC_NAMESPACE}) == RECEIVER
    with pytest.raises(TopicNotSupported):
        matched("tns1:Receiver//.", scope={"tns1": "http://example.org/other"})


@given(st.text(alphabet="tns1:/.*|aRx ", max_size=40), st.sampled_from(DIALECTS))
def test_any_text_is_an_expression_or_refused(text: str, dialect: str) -> None:
    with contextlib.suppress(BadTopicExpression, TopicNotSupported):
        matched(text, dialect)


NAMES = st.sampled_from(["a", "b", "c"])


@given(st.lists(st.lists(NAMES, min_size=1, max_size=4), min_size=1, max_size=5))
def test_a_tree_takes_in_exactly_what_lies_below(paths: list[list[str]]) -> None:
    topics = [Topic("/".join(p)) for p in paths]
    root = paths[0]
    expression = parse("tns1:" + "/".join(root) + "//.", CONCRETE_SET, SCOPE, topics)
    for topic in topics:
        assert expression.matches(topic) == (list(topic.names[: len(root)]) == root)


@pytest.mark.parametrize(
    ("text", "dialect", "below"),
    [
        ("tns1:RecordingHistory//.", CONCRETE_SET, True),
        ("tns1:RecordingHistory/Track/State|tns1:RecordingHistory/Recording/State", CONCRETE_SET, True),
        ("tns1:RecordingHistory//.|tns1:VideoSource//.", CONCRETE_SET, False),
        ("//RecordingHistory", FULL, False),
        ("*/Recording", FULL, False),
    ],
)
def test_whether_an_expression_stays_below_a_root(text: str, dialect: str, below: bool) -> None:
    assert topics.parse(text, dialect, None).is_below("RecordingHistory") is below
