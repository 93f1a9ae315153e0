"""FindEvents and its results on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from nvr.model.event import PropertyOperation
from nvr.model.recorded import RecordedItem, RecordedMessage
from nvr.model.time import format_iso, parse_iso
from nvr.model.timeline import GapReason, Run, Timeline
from nvr.model.tokens import META001, VIDEO001, RecordingToken, TrackKey, TrackToken
from nvr.model.topics import CONCRETE
from tests.support.search import MOTION, VENDOR, a_message
from tests.support.soap_house import (
    NAMESPACES,
    Reply,
    SoapHouse,
    end_search,
    find_events,
    find_metadata,
    find_positions,
    find_recordings,
    recording_of,
    results_request,
    topic_xml,
)

DAY = "2026-03-01T{}Z"
START, END = (parse_iso(DAY.format(t)) for t in ("10:00:00.123456789", "11:00:00.000001"))


def has_recorded(
    house: SoapHouse, recording: str, track: TrackToken, *ranges: tuple[int, int], growing: bool = False
) -> TrackKey:
    key = TrackKey(RecordingToken(recording), track)
    house.footage.timelines[key] = Timeline.of(
        Run(f"run-{start}", start, end, None if growing else GapReason.JOB_STOPPED) for start, end in ranges
    )
    return key


async def search_of(house: SoapHouse, request: str) -> str:
    return (await house.send(request)).text("tse:SearchToken")


async def found(house: SoapHouse, request: str) -> Reply:
    """The one answer that holds all results."""
    token = await search_of(house, request)
    reply = await house.send(results_request(token, wait="PT20S", what="Event"))
    assert reply.text("tse:ResultList/tt:SearchState") == "Completed"
    return reply


def results(reply: Reply, field: str) -> list[str]:
    return reply.texts(f"tse:ResultList/tt:Result/tt:{field}")


@pytest.mark.requirement("RS-6.3.6-01", "RS-6.3.6-02", "RS-6.3.6-03", "RS-6.3.6-04", "RS-6.3.6-05", "RS-6.2.2-01")
@pytest.mark.requirement(
    "RS-6.9-05", "RS-6.10-04", "RS-6.17-03", "RS-6.17-04", "RS-6.17-06", "RS-6.2.6-02", "RS-6.2.6-03"
)
async def test_a_found_event_is_the_notification_with_where_and_when_it_was(house: SoapHouse) -> None:
    recording = await recording_of(house)
    key = has_recorded(house, recording, META001, (START, END))
    crossed = START + 5
    house.archive.add(key, crossed, a_message("yes", VENDOR, None))
    reply = await found(house, find_events(format_iso(START), format_iso(END)))
    assert results(reply, "RecordingToken") == [recording] * 5
    assert results(reply, "TrackToken") == ["", META001, META001, META001, ""]
    assert results(reply, "Time") == [format_iso(t) for t in (START, START, crossed, END, END)]
    assert results(reply, "StartStateEvent") == ["false"] * 5
    event = "tse:ResultList/tt:Result/tt:Event"
    assert reply.texts(f"{event}/wsnt:Topic")[::2] == [
        "tns1:RecordingHistory/Recording/State", "tns1:VideoSource/v1:LineCrossed",
        "tns1:RecordingHistory/Recording/State",
    ]  # fmt: skip
    topic = reply.all(f"{event}/wsnt:Topic")[2]
    assert (topic.get("Dialect"), topic.nsmap["v1"]) == (CONCRETE, "http://vendor.example/topics")
    messages = reply.all(f"{event}/wsnt:Message/tt:Message")
    assert [m.get("UtcTime") for m in messages] == results(reply, "Time")
    items = [[dict(i.attrib) for i in m.iterfind(".//tt:SimpleItem", NAMESPACES)] for m in messages]
    assert items[0] == [{"Name": "RecordingToken", "Value": recording}, {"Name": "IsRecording", "Value": "true"}]
    assert items[1] == [
        {"Name": "RecordingToken", "Value": recording},
        {"Name": "Track", "Value": META001},
        {"Name": "IsDataPresent", "Value": "true"},
    ]
    assert items[2] == [{"Name": "Source", "Value": "V1"}, {"Name": "State", "Value": "yes"}]


@pytest.mark.requirement("RS-6.9-13", "RS-6.2.1-05", "RS-6.2.1-01", "RS-6.9-12")
async def test_backward_the_same_events_come_byte_by_byte_in_reversed_order(house: SoapHouse) -> None:
    recording = await recording_of(house)
    key = has_recorded(house, recording, META001, (START, END))
    for n in range(5):
        house.archive.add(key, START + 7 * n, a_message(str(n)))
    forward = await found(house, find_events(format_iso(START), format_iso(END)))
    backward = await found(house, find_events(format_iso(END), format_iso(START)))

    def pieces(reply: Reply) -> list[bytes]:
        return reply.xml.replace(b"</tt:Result>", b"<tt:Result>").split(b"<tt:Result>")[1::2]

    assert len(pieces(forward)) == 9
    assert pieces(backward) == pieces(forward)[::-1]


@pytest.mark.requirement("RS-6.2.6-01", "RS-6.2.6-04", "RS-6.2.1-02")
async def test_any_instant_bounds_a_search(house: SoapHouse) -> None:
    recording = await recording_of(house)
    has_recorded(house, recording, VIDEO001, (START, END))
    for start, end, number in (
        ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", 4),
        ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", 4),
        ("0001-01-01T00:00:00Z", None, 4),
        ("9999-12-31T23:59:59Z", None, 0),
        (DAY.format("10:30:00.5"), DAY.format("12:00:00"), 2),
        ("2026-03-01T12:30:00+02:00", None, 2),
    ):
        assert len(results(await found(house, find_events(start, end)), "Time")) == number, (start, end)


@pytest.mark.requirement("RS-6.9-14", "RS-6.17-02", "RS-6.18-06", "RS-6.18-07", "RS-6.18-08")
async def test_topic_and_content_filters_choose(house: SoapHouse) -> None:
    recording = await recording_of(house)
    key = has_recorded(house, recording, META001, (START, END))
    has_recorded(house, recording, VIDEO001, (START, END))
    house.archive.add(key, START + 1, a_message("true", MOTION))
    told = (RecordedItem("Information", element='<v:Seen xmlns:v="http://vendor.example/seen"/>'),)
    house.archive.add(key, START + 2, RecordedMessage(VENDOR, PropertyOperation.CHANGED, data=told))
    everything = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z")

    async def number(wanted: str) -> int:
        return len(results(await found(house, find_events(*everything, wanted=wanted)), "Time"))

    dialect = "http://www.onvif.org/ver10/tev/messageContentFilter/ItemFilter"

    def content(expression: str) -> str:
        escaped = expression.replace("<", "&lt;")
        return f'<wsnt:MessageContent Dialect="{dialect}">{escaped}</wsnt:MessageContent>'

    assert await number("") == 8
    assert await number(topic_xml("tns1:RecordingHistory//.")) == 6
    assert await number(topic_xml("tns1:RecordingHistory/Recording/State", CONCRETE)) == 2
    assert await number(content('boolean(//tt:SimpleItem[@Name="IsRecording" and @Value="true"])')) == 1
    assert await number(content('boolean(//SimpleItem[@Name="Track" and not(@Value="VIDEO001")])')) == 2
    assert await number(content('boolean(//ElementItem[@Name="Information"])')) == 1
    assert await number(content('boolean(//ElementItem[@Name="Nothing"])')) == 0
    assert await number(topic_xml("tns1:RecordingHistory//.") + content('boolean(//SimpleItem[@Value="META001"])')) == 2


@pytest.mark.requirement("RS-6.9-15", "RS-6.9-16", "RS-6.9-17", "RS-6.9-20", "RS-6.9-21", "RS-6.2.2-03", "RS-6.3.6-05")
async def test_virtual_events_stand_at_the_ends(house: SoapHouse) -> None:
    recording = await recording_of(house)
    has_recorded(house, recording, VIDEO001, (START, END), growing=True)
    begin, end = DAY.format("10:30:00"), DAY.format("10:45:00")
    forward = await found(house, find_events(begin, end, start_state=True))
    assert results(forward, "TrackToken") == ["", "VIDEO001", "AUDIO001", "META001"]
    assert (set(results(forward, "Time")), set(results(forward, "StartStateEvent"))) == ({begin}, {"true"})
    messages = forward.all("tse:ResultList/tt:Result/tt:Event/wsnt:Message/tt:Message")
    assert {(m.get("UtcTime"), m.get("PropertyOperation")) for m in messages} == {(begin, "Initialized")}
    values = [m.findall("tt:Data/tt:SimpleItem", NAMESPACES)[0].get("Value") for m in messages]
    assert values == ["true", "true", "false", "false"]
    backward = await found(house, find_events(end, begin, start_state=True))
    assert results(backward, "Time") == [end] * 4 + [begin] * 4
    assert set(results(backward, "StartStateEvent")) == {"true"}
    messages = backward.all("tse:ResultList/tt:Result/tt:Event/wsnt:Message/tt:Message")
    assert [m.get("UtcTime") for m in messages] == results(backward, "Time")
    assert {m.get("PropertyOperation") for m in messages} == {"Initialized"}
    assert results(await found(house, find_events(begin, end)), "Time") == []


@pytest.mark.requirement("RS-6.16-05", "RS-6.9-19")
async def test_virtual_events_of_the_camera_are_announced_and_there(house: SoapHouse) -> None:
    (capabilities,) = (await house.send("<tse:GetServiceCapabilities/>")).all("tse:Capabilities")
    assert capabilities.get("GeneralStartEvents") == "true"
    key = has_recorded(house, await recording_of(house), META001, (START, END))
    house.archive.add(key, START + 1, a_message("true", MOTION))
    wanted = topic_xml("tns1:VideoSource//.")
    reply = await found(house, find_events(DAY.format("10:30:00"), wanted=wanted, start_state=True))
    assert results(reply, "StartStateEvent") == ["true"]
    (message,) = reply.all("tse:ResultList/tt:Result/tt:Event/wsnt:Message/tt:Message")
    assert (message.get("PropertyOperation"), message.get("UtcTime")) == ("Initialized", DAY.format("10:30:00"))


@pytest.mark.requirement("RS-6.9-04")
async def test_a_filter_that_is_not_understood_is_an_invalid_filter(house: SoapHouse) -> None:
    for wanted in (topic_xml("tns1:"), topic_xml("tns1:A", "urn:unknown"), topic_xml("x:A"), "<wsnt:Other/>"):
        reply = await house.send(find_events(format_iso(START), wanted=wanted))
        assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal/InvalidFilterFault")


@pytest.mark.requirement("RS-6.9-03", "RS-6.11-03", "RS-6.13-03")
@pytest.mark.parametrize("find", [find_events, find_positions, find_metadata])
async def test_no_more_sessions_than_the_limit(house: SoapHouse, find: Callable[[str], str]) -> None:
    for _ in range(4):
        assert (await house.send(find(format_iso(START)))).fault is None
    refused = await house.send(find(format_iso(START)))
    assert (refused.status, refused.fault) == (500, "Receiver/Action/ResourceProblem")


@pytest.mark.requirement("RS-6.10-03", "RS-6.8-03", "RS-6.1-02", "RS-6.15-03")
async def test_a_token_of_another_kind_or_another_user_is_invalid(house: SoapHouse) -> None:
    events = await search_of(house, find_events(format_iso(START)))
    recordings = await search_of(house, find_recordings())
    invalid = "Sender/InvalidArgVal/InvalidToken"
    refused = await house.send(results_request(events))
    assert (refused.status, refused.fault) == (400, invalid)
    assert (await house.send(results_request(recordings, what="Event"))).fault == invalid
    assert (await house.send(results_request(events, what="Event"), "user")).fault == invalid
    assert (await house.send(end_search(events), "user")).fault == invalid
    state = "<tse:GetSearchState><tse:SearchToken>{}</tse:SearchToken></tse:GetSearchState>"
    assert (await house.send(state.format(events))).text("tse:State") == "Searching"
    assert (await house.send(state.format("nosuch"))).fault == invalid
    assert (await house.send(end_search(events))).fault is None
    assert (await house.send(state.format(events))).fault == invalid


@pytest.mark.requirement(
    "RS-6.9-07", "RS-6.10-05", "RS-6.10-06", "RS-6.10-08", "RS-6.10-10", "RS-6.2.3-04", "RS-6.1-01"
)
async def test_results_come_in_portions_up_to_the_matches_that_were_asked_for(house: SoapHouse) -> None:
    recording = await recording_of(house)
    has_recorded(house, recording, VIDEO001, *((START + n * 10, START + n * 10 + 5) for n in range(20)))
    token = await search_of(house, find_events(format_iso(START), maximum=23))
    times: list[str] = []
    sizes, states = [], []
    for _ in range(3):
        reply = await house.send(results_request(token, maximum=10, wait="PT20S", what="Event"))
        portion = reply.texts("tse:ResultList/tt:Result/tt:Time")
        times += portion
        sizes.append(len(portion))
        states.append(reply.text("tse:ResultList/tt:SearchState"))
    assert (sizes, states) == ([10, 10, 3], ["Searching", "Searching", "Completed"])
    assert times == sorted(times)
    again = await house.send(results_request(token, what="Event"))
    assert again.fault == "Sender/InvalidArgVal/InvalidToken"
    token = await search_of(house, find_events(format_iso(START), maximum=3))
    reply = await house.send(results_request(token, minimum=2_000_000_000, wait="P10Y", what="Event"))
    assert len(results(reply, "Time")) == 3


@pytest.mark.requirement("RS-6.9-09", "RS-6.9-10", "RS-6.9-11", "RS-6.9-08", "RS-6.15-05")
async def test_a_session_lives_for_its_keep_alive_time_and_until_it_is_ended(house: SoapHouse) -> None:
    recording = await recording_of(house)
    has_recorded(house, recording, VIDEO001, *((START + n * 10, START + n * 10 + 5) for n in range(500)))
    token = await search_of(house, find_events(format_iso(START), format_iso(END)))
    for _ in range(3):
        house.clock.advance(9)
        reply = await house.send(results_request(token, maximum=1, wait="PT5S", what="Event"))
        assert reply.text("tse:ResultList/tt:SearchState") == "Searching"
    house.clock.advance(10.5)
    assert (await house.send(results_request(token, what="Event"))).fault == "Sender/InvalidArgVal/InvalidToken"
    assert (await house.send(find_events(format_iso(START), keep_alive="PT1H"))).fault is None
    token = await search_of(house, find_events(format_iso(START), format_iso(END)))
    await house.send(results_request(token, maximum=10, wait="PT5S", what="Event"))
    ended = await house.send(end_search(token))
    assert START < parse_iso(ended.text("tse:Endpoint")) < END
    assert (await house.send(results_request(token, what="Event"))).fault == "Sender/InvalidArgVal/InvalidToken"


async def test_a_thousand_searches_leave_no_more_than_the_limit(house: SoapHouse) -> None:
    answers = [await house.send(find_events(format_iso(START)), "user") for _ in range(50)]
    assert [a.fault for a in answers].count(None) == 4
    assert {a.fault for a in answers} == {None, "Receiver/Action/ResourceProblem"}
    await asyncio.sleep(0)
    assert (await house.send(find_events(format_iso(START)), "operator")).fault is None
