"""Filters of subscriptions over SOAP, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from nvr.soap.names import TNS1, WSA, WSNT
from tests.support.event_house import (
    CONCRETE_SET,
    EventHouse,
    an_event_house,
    content,
    create,
    topic,
)
from tests.support.events import data_present, something
from tests.support.soap_house import HOST


@pytest_asyncio.fixture
async def house() -> AsyncIterator[EventHouse]:
    async with an_event_house() as opened:
        yield opened


@pytest.mark.requirement("CO-62", "CO-63")
async def test_topic_and_content_filters_choose_the_messages(house: EventHouse) -> None:
    both = topic("tns1:Receiver//.|tns1:RecordingHistory//.") + content(
        'boolean(//tt:SimpleItem[@Name="ReceiverToken" and @Value="rcv-2"])'
    )
    uri = await house.pull_point(both)
    something(house.broker, "rcv-1")
    something(house.broker, "rcv-2")
    data_present(house.broker, True)
    assert [m.items("Source") for m in await house.pull(uri)] == [{"ReceiverToken": "rcv-2"}]


@pytest.mark.requirement("CO-62")
async def test_prefixes_of_an_expression_mean_what_is_declared_where_it_stands(house: EventHouse) -> None:
    expression = f'<wsnt:TopicExpression Dialect="{CONCRETE_SET}" xmlns:x="{TNS1}">x:Receiver//.</wsnt:TopicExpression>'
    uri = await house.pull_point(expression)
    something(house.broker)
    assert len(await house.pull(uri)) == 1


@pytest.mark.requirement("CO-62", "CO-63", "CO-68", "CO-69")
@pytest.mark.parametrize(
    ("inner", "fault", "child"),
    [
        (f"<tev:Filter>{topic('tns1:VideoSource//.')}</tev:Filter>", "TopicNotSupportedFault", None),
        (f"<tev:Filter>{topic('nowhere:Receiver//.')}</tev:Filter>", "InvalidTopicExpressionFault", None),
        (f"<tev:Filter>{topic('tns1:Receiver', 'urn:x')}</tev:Filter>", "TopicExpressionDialectUnknownFault", None),
        (f"<tev:Filter>{content('//tt:SimpleItem[')}</tev:Filter>", "InvalidMessageContentExpressionFault", None),
        (
            f"<tev:Filter>{content('//tt:SimpleItem', 'urn:x')}</tev:Filter>",
            "InvalidMessageContentExpressionFault",
            None,
        ),
        (
            f"<tev:Filter>{content('x', 'urn:x').replace('MessageContent', 'ProducerProperties')}</tev:Filter>",
            "InvalidProducerPropertiesExpressionFault",
            None,
        ),
        ("<tev:Filter><tt:Something/></tev:Filter>", "InvalidFilterFault", "UnknownFilter"),
        (
            "<tev:SubscriptionPolicy><tt:Something/></tev:SubscriptionPolicy>",
            "UnrecognizedPolicyRequestFault",
            "UnrecognizedPolicy",
        ),
        (
            "<tev:SubscriptionPolicy><wsnt:UseRaw/></tev:SubscriptionPolicy>",
            "UnsupportedPolicyRequestFault",
            "UnsupportedPolicy",
        ),
        (
            "<tev:InitialTerminationTime>PT0S</tev:InitialTerminationTime>",
            "UnacceptableInitialTerminationTimeFault",
            "MinimumTime",
        ),
        (
            "<tev:InitialTerminationTime>2020-01-01T00:00:00Z</tev:InitialTerminationTime>",
            "UnacceptableInitialTerminationTimeFault",
            "MinimumTime",
        ),
        (
            "<tev:InitialTerminationTime>P1Y</tev:InitialTerminationTime>",
            "UnacceptableInitialTerminationTimeFault",
            "MaximumTime",
        ),
    ],
)
async def test_a_refused_subscription_tells_why_in_the_fault_of_the_standard(
    house: EventHouse, inner: str, fault: str, child: str | None
) -> None:
    reply = await house.send(create(inner), header="<wsa:MessageID>urn:uuid:7</wsa:MessageID>")
    assert (reply.status, reply.fault, reply.detail_name) == (500, "Receiver", fault)
    assert reply.detail.tag == f"{{{WSNT}}}{fault}"
    assert reply.detail.findtext("{http://docs.oasis-open.org/wsrf/bf-2}Description") == reply.reason
    assert (reply.header("Action"), reply.header("RelatesTo")) == (f"{WSA}/soap/fault", "urn:uuid:7")
    if child is not None:
        value = reply.detail.findtext(f"{{{WSNT}}}{child}")
        assert value is not None
        if child == "MinimumTime":
            again = await house.send(create(f"<tev:InitialTerminationTime>{value}</tev:InitialTerminationTime>"))
            assert again.fault is None
    assert house.broker.counts()[0] == (child == "MinimumTime")


@pytest.mark.parametrize("termination", ["soon", "P", "PT1H junk", "2026-13-01T00:00:00Z", "1"])
async def test_a_termination_time_that_is_neither_duration_nor_instant_is_a_bad_argument(
    house: EventHouse, termination: str
) -> None:
    reply = await house.send(create(f"<tev:InitialTerminationTime>{termination}</tev:InitialTerminationTime>"))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal")


@pytest.mark.requirement("CO-52")
async def test_changed_only_is_taken(house: EventHouse) -> None:
    data_present(house.broker, True)
    reply = await house.send(create("<tev:SubscriptionPolicy><tev:ChangedOnly/></tev:SubscriptionPolicy>"))
    uri = reply.text("tev:SubscriptionReference/wsa:Address").removeprefix(f"http://{HOST}")
    assert await house.pull(uri) == []
    data_present(house.broker, True, "AUDIO001")
    data_present(house.broker, False)
    (message,) = await house.pull(uri)
    assert message.message.get("PropertyOperation") == "Changed"


async def test_expressions_are_counted_and_measured_before_any_is_parsed(
    house: EventHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    monkeypatch.setattr("nvr.soap.event_wire.parse_content", lambda text, _: parsed.append(text))
    monkeypatch.setattr("nvr.soap.event_wire.parse", lambda *given: parsed.append(given[0]))
    for inner in (content("//a") * 9, topic("tns1:Receiver//.") * 9, content("//a or " * 600) * 2):
        reply = await house.send(create(f"<tev:Filter>{inner}</tev:Filter>"))
        assert (reply.status, reply.fault) == (400, "Sender/InvalidArgVal")
    assert parsed == []
