"""What expressions cost: which are looked up, which are evaluated, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.events.content import MAX_LOOKUPS, MAX_STEPS, AllOf, AnyOf, Content
from nvr.events.errors import BadContentExpression
from nvr.events.filters import ITEM_FILTER, Filter, Message, parse_content
from nvr.model import xpath
from nvr.model.event import CHANGE_STATE, Event, document
from tests.support.events import START


def item(value: str, name: str = "ReceiverToken") -> str:
    return f'boolean(//tt:SimpleItem[@Name="{name}" and @Value="{value}"])'


def a_message(receiver: str, state: str = "Connected") -> Message:
    return Message(Event(CHANGE_STATE, START, {"ReceiverToken": receiver}, {"NewState": state}))


@pytest.mark.requirement("CO-63")
def test_a_list_of_tokens_is_one_look_up_and_nothing_is_evaluated() -> None:
    wanted = Content.parse(" or ".join(item(f"rcv-{i}") for i in range(40)))
    assert isinstance(wanted.test, AnyOf)
    assert (wanted.steps, wanted.lookups) == (0, 1)
    for receiver, expected in (("rcv-39", True), ("rcv-40", False)):
        message = a_message(receiver)
        assert message.holds(wanted) is expected
        assert message.evaluations == 0
    both = Content.parse(f"{item('rcv-1')} and {item('Connected', 'NewState')}")
    assert isinstance(both.test, AllOf)
    assert [a_message("rcv-1", s).holds(both) for s in ("Connected", "NotConnected")] == [True, False]


ITEMS = st.sampled_from([item("rcv-1"), item("rcv-2"), item("Connected", "NewState"), '//SimpleItem[@Value="rcv-1"]'])
EXPRESSIONS = st.recursive(
    ITEMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})"),
        inner.map("not({})".format),
    ),
    max_leaves=8,
)


@given(EXPRESSIONS, st.sampled_from(["rcv-1", "rcv-2"]), st.sampled_from(["Connected", "Unknown"]))
def test_what_is_looked_up_is_decided_as_by_the_evaluator(text: str, receiver: str, state: str) -> None:
    message = a_message(receiver, state)
    assert message.holds(Content.parse(text)) == xpath.matches(xpath.parse(text), document(message.event))


def test_an_expression_that_must_be_evaluated_is_so_once_for_all_who_ask_it() -> None:
    message = a_message("rcv-1")
    for _ in range(250):
        assert Filter((), [parse_content('//tt:Source/tt:SimpleItem[@Value="rcv-1"]', ITEM_FILTER)]).passes(message)
    assert message.evaluations == 1


def test_filters_that_would_take_long_are_refused() -> None:
    def parsed(*texts: str) -> Filter:
        return Filter((), [parse_content(text, ITEM_FILTER) for text in texts])

    step = "//*[@Name='x{}']".format  # two steps
    parsed(" or ".join(step(i) for i in range(MAX_STEPS // 2)))
    parsed(*(f"not({item(str(i))})" for i in range(8)))
    with pytest.raises(BadContentExpression, match=f"18 steps, more than {MAX_STEPS}"):
        parsed(*(" or ".join(step(3 * k + i) for i in range(3)) for k in range(3)))
    with pytest.raises(BadContentExpression, match=f"more than {MAX_LOOKUPS}"):
        parsed(" or ".join(f'not(//SimpleItem[@Name="{i}" and @Value="1"])' for i in range(20)))
