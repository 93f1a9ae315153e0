"""Conditions of jobs: which notifications they meet, and what that does to the gate."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

import pytest

from nvr.events.conditions import Condition, EventConditions, parse_filter
from nvr.events.errors import BadTopicExpression
from nvr.media.onvif_events import MAX_ITEMS
from nvr.model import xpath
from nvr.model.errors import FormatError
from nvr.model.event import PropertyOperation
from nvr.model.job import EventCondition, RecordingEventFilter
from nvr.model.notification import Notification
from nvr.model.tokens import JobToken, ReceiverToken

JOB = JobToken("job-1")
FRONT, BACK = ReceiverToken("rcv-front"), ReceiverToken("rcv-back")
MOTION = ("RuleEngine", "CellMotionDetector", "Motion")


class Steps:
    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.holding: set[Hashable] = set()

    def begin(self, condition: Hashable, at_ns: int) -> None:
        self.holding.add(condition)
        self.told.append(("begin", at_ns))

    def end(self, condition: Hashable, at_ns: int) -> None:
        self.holding.discard(condition)
        self.told.append(("end", at_ns))

    def end_all(self, which: Callable[[Hashable], bool], at_ns: int) -> None:
        for condition in [c for c in self.holding if which(c)]:
            self.end(condition, at_ns)

    def pulse(self, at_ns: int) -> None:
        self.told.append(("pulse", at_ns))


def motion(value: str, operation: PropertyOperation | None = PropertyOperation.CHANGED, at: int = 5) -> Notification:
    return Notification(MOTION, at, (("VideoSourceToken", "v1"), ("Rule", "r")), (("IsMotion", value),), operation)


def heard(*conditions: EventCondition, own: tuple[Notification, ...] = ()) -> tuple[EventConditions[Steps], Steps]:
    made = EventConditions(lambda _: Steps(), lambda wanted: (n for n in own if wanted(n.topic)))
    made.set_job(JOB, RecordingEventFilter(conditions), [FRONT])
    steps = made.gate(JOB)
    assert steps is not None
    return made, steps


TOPIC = EventCondition("tns1:RuleEngine/CellMotionDetector/Motion")


@pytest.mark.requirement("RC-N5.3.4-01")
def test_a_property_holds_from_true_to_false() -> None:
    conditions, steps = heard(TOPIC)
    conditions.heard_from(FRONT, motion("true"), 10)
    assert steps.holding
    conditions.heard_from(FRONT, motion("false"), 20)
    assert steps.told == [("begin", 10), ("end", 20)]
    assert not steps.holding


@pytest.mark.parametrize("topic", ["tns1:RuleEngine//.", "RuleEngine/*/Motion", "tns1:PTZ|x:RuleEngine//Motion"])
def test_topics_match_by_their_names(topic: str) -> None:
    conditions, steps = heard(EventCondition(topic))
    conditions.heard_from(FRONT, motion("1"), 10)
    assert steps.told == [("begin", 10)]


@pytest.mark.requirement("RC-N5.3.4-02")
def test_the_source_of_the_message_is_filtered() -> None:
    wanted = 'boolean(//tt:SimpleItem[@Name="VideoSourceToken" and @Value="{}"])'
    conditions, steps = heard(EventCondition(TOPIC.topic, wanted.format("v2")))
    conditions.heard_from(FRONT, motion("true"), 10)
    assert steps.told == []
    conditions, steps = heard(EventCondition(TOPIC.topic, wanted.format("v1")))
    conditions.heard_from(FRONT, motion("true"), 10)
    assert steps.told == [("begin", 10)]


def test_other_topics_and_other_receivers_do_nothing() -> None:
    conditions, steps = heard(TOPIC)
    conditions.heard_from(BACK, motion("true"), 10)
    conditions.heard_from(FRONT, Notification(("RuleEngine", "Motion"), 1, operation=PropertyOperation.CHANGED), 10)
    assert steps.told == []
    assert conditions.hears(FRONT)
    assert not conditions.hears(BACK)


def test_a_deleted_property_holds_no_longer() -> None:
    conditions, steps = heard(TOPIC)
    conditions.heard_from(FRONT, motion("true"), 10)
    conditions.heard_from(FRONT, motion("true", PropertyOperation.DELETED), 11)
    assert steps.told == [("begin", 10), ("end", 11)]


def test_a_property_without_a_boolean_holds_while_it_exists() -> None:
    conditions, steps = heard(EventCondition("tns1:Device/Trigger/Relay"))
    relay = Notification(
        ("Device", "Trigger", "Relay"), 1, (), (("LogicalState", "active"),), PropertyOperation.INITIALIZED
    )
    conditions.heard_from(FRONT, relay, 1)
    assert steps.told == [("begin", 1)]


@pytest.mark.requirement("RC-N5.3.4-05")
def test_an_event_that_is_no_property_is_a_pulse() -> None:
    conditions, steps = heard(TOPIC)
    conditions.heard_from(FRONT, motion("true", None), 10)
    assert steps.told == [("pulse", 10)]


@pytest.mark.requirement("RC-N5.3.4-01")
def test_one_condition_of_several_is_enough_and_each_ends_by_itself() -> None:
    conditions, steps = heard(TOPIC, EventCondition("tns1:RuleEngine//."))
    conditions.heard_from(FRONT, motion("true"), 10)
    assert len(steps.holding) == 2
    conditions.heard_from(FRONT, motion("false"), 20)
    assert not steps.holding


def test_what_this_recorder_tells_counts_for_every_job_and_its_states_count_at_once() -> None:
    state = motion("true", PropertyOperation.INITIALIZED, at=3)
    conditions, steps = heard(TOPIC, own=(state,))
    assert steps.told == [("begin", 3)]
    conditions.heard_here(motion("false", at=9))
    assert steps.told[-1] == ("end", 9)


def test_a_filter_that_stays_is_not_begun_anew() -> None:
    conditions, steps = heard(TOPIC, own=(motion("true"),))
    conditions.set_job(JOB, RecordingEventFilter((TOPIC,)), [FRONT, BACK])
    assert len(steps.told) == 1
    conditions.heard_from(BACK, motion("true"), 10)
    assert len(steps.told) == 2
    assert conditions.gate(JOB) is steps
    conditions.set_job(JOB, None, [])
    conditions.heard_from(BACK, motion("false"), 10)
    assert len(steps.told) == 2
    assert not conditions.hears(FRONT)
    assert conditions.gate(JOB) is None


def test_a_bad_filter_is_refused() -> None:
    with pytest.raises(BadTopicExpression):
        Condition.parse(EventCondition("no topic at all"))
    with pytest.raises(FormatError):
        Condition.parse(EventCondition(TOPIC.topic, "boolean(("))


def test_the_dearest_expression_on_the_largest_message_is_judged() -> None:
    conditions, steps = heard(EventCondition(TOPIC.topic, " and ".join(["//*[@Name]"] * (xpath.MAX_STEPS // 2))))
    items = tuple((f"n{i}", "v") for i in range(MAX_ITEMS))
    conditions.heard_from(FRONT, Notification(MOTION, 1, items, items, PropertyOperation.CHANGED), 1)
    assert steps.told == [("begin", 1)]


def test_a_condition_that_many_jobs_share_is_evaluated_once_for_an_event() -> None:
    source = '//tt:Source/tt:SimpleItem[@Value="v1"]'
    conditions = EventConditions(lambda _: Steps(), lambda wanted: ())
    jobs = [JobToken(f"job-{i}") for i in range(50)]
    for job in jobs:
        conditions.set_job(job, RecordingEventFilter((EventCondition(TOPIC.topic, source),) * 4), [FRONT])
    conditions.heard_from(FRONT, motion("true"), 10)
    assert conditions.evaluations == 1
    for job in jobs:
        steps = conditions.gate(job)
        assert steps is not None
        assert len(steps.holding) == 4
    conditions.heard_from(BACK, motion("true"), 10)
    conditions.heard_from(FRONT, Notification(("RuleEngine", "Motion"), 1), 10)
    assert conditions.evaluations == 1


def test_only_states_of_wanted_topics_are_asked_for_and_what_was_stored_is_taken_whatever_its_price() -> None:
    asked: list[tuple[str, ...]] = []

    def own(wanted: Callable[[tuple[str, ...]], bool]) -> Iterator[Notification]:
        for topic in (MOTION, ("Device", "Trigger")):
            asked.append(topic)
            if wanted(topic):
                yield Notification(topic, 1, operation=PropertyOperation.INITIALIZED)

    conditions = EventConditions(lambda _: Steps(), own)
    dear = EventCondition(TOPIC.topic, "not(" + " or ".join(f"//*[@Name='{i}']" for i in range(20)) + ")")
    conditions.set_job(JOB, RecordingEventFilter((dear,)), [FRONT])
    assert len(asked) == 2
    assert conditions.evaluations == 20
    with pytest.raises(FormatError, match="steps, more than"):
        parse_filter(RecordingEventFilter((dear,)))


def test_topics_of_cameras_do_not_pile_up_in_memory() -> None:
    conditions, _ = heard(TOPIC)
    for number in range(2000):
        conditions.heard_from(FRONT, Notification((f"T{number}",), 1), 10)
    assert len(conditions._of_topic) <= 256


def test_what_a_receiver_told_ends_when_it_leaves_the_job_or_gets_another_camera() -> None:
    conditions, steps = heard(TOPIC)
    conditions.heard_from(FRONT, motion("true"), 10)
    conditions.set_job(JOB, RecordingEventFilter((TOPIC,)), [BACK])
    assert not steps.holding
    conditions.heard_from(BACK, motion("true"), 20)
    conditions.heard_here(motion("true"))
    conditions.forget(FRONT)
    assert len(steps.holding) == 2
    conditions.forget(BACK)
    assert len(steps.holding) == 1, "what this recorder tells goes on to hold"
