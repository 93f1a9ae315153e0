"""Content filters: the short way for the common form gives what the dialect means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.events.filters import ITEM_FILTER, Message, parse_content
from nvr.model import xpath
from nvr.model.event import CHANGE_STATE, DELETE_TRACK_DATA, JOB_STATE, Event, PropertyOperation, document, wanted_item
from nvr.model.job import JobState
from nvr.model.tokens import RecordingToken
from tests.support.events import START

NAMES = st.sampled_from(["ReceiverToken", "NewState", "Name", "", "2026-03-01T12:00:00Z"])
VALUES = st.sampled_from(["rcv-1", "Connected", "", "2026-03-01T12:00:00Z", "2026-03-01T13:00:00+01:00", "T", "x" * 80])
RANGE = {"StartTime": START, "EndTime": START + 1}


def holds(text: str, event: Event) -> bool:
    return Message(event).holds(parse_content(text, ITEM_FILTER))


@given(NAMES, VALUES, VALUES)
def test_the_common_form_is_decided_as_by_the_evaluator(name: str, wanted: str, there: str) -> None:
    event = Event(CHANGE_STATE, START, {"ReceiverToken": there}, {"NewState": "Connected"})
    text = f'boolean(//tt:SimpleItem[@Name="{name}" and @Value="{wanted}"])'
    assert holds(text, event) == xpath.matches(xpath.parse(text), document(event))


def test_the_common_form_is_known_and_others_are_left_to_the_evaluator() -> None:
    known = '//SimpleItem[@Name="ReceiverToken" and @Value="rcv-1"]'
    for text in (known, f"boolean({known})", f"({known})", known.replace("//", "//tt:")):
        assert wanted_item(xpath.parse(text)) == ("ReceiverToken", "rcv-1")
    for text in (
        "//SimpleItem",
        '//SimpleItem[@Name="a"]',
        '//SimpleItem[@Name="a" and @Value!="b"]',
        '//SimpleItem[@Name="a" and @Value=1]',
        '//SimpleItem[@Value="b" and @Name="a"]',
        '//SimpleItem[@Name="a" or @Value="b"]',
        '/SimpleItem[@Name="a" and @Value="b"]',
        '//ElementItem[@Name="a" and @Value="b"]',
        '//SimpleItem[@Name="a" and @Value="b"]/@Name',
        'not(//SimpleItem[@Name="a" and @Value="b"])',
        '//SimpleItem[@Name="a" and @Value="2026-03-01T12:00:00Z"]',
    ):
        assert wanted_item(xpath.parse(text)) is None


@pytest.mark.requirement("CO-63")
def test_items_of_source_and_data_and_names_of_element_items_can_be_asked_for() -> None:
    source = {"RecordingToken": "rec-1", "TrackToken": "VIDEO001"}
    event = Event(DELETE_TRACK_DATA, START, source, RANGE)
    assert holds('boolean(//tt:SimpleItem[@Name="TrackToken" and @Value="VIDEO001"])', event)
    assert holds('boolean(//tt:SimpleItem[@Name="StartTime" and @Value="2026-03-01T12:00:00Z"])', event)
    assert holds('boolean(//tt:Data/tt:SimpleItem[@Name="EndTime" and @Value > "2026-03-01T11:00:00Z"])', event)
    assert not holds('boolean(//tt:SimpleItem[@Name="TrackToken" and @Value="AUDIO001"])', event)
    data = {"State": "Idle", "Information": JobState(RecordingToken("rec-1"), ())}
    state = Event(JOB_STATE, START, {"RecordingJobToken": "job-1"}, data, PropertyOperation.CHANGED)
    assert holds('boolean(//tt:ElementItem[@Name="Information"]) and boolean(//tt:SimpleItem[@Value="Idle"])', state)
    assert holds('boolean(/tt:Message[@PropertyOperation="Changed"])', state)
