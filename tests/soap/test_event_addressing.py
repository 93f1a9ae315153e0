"""WS-Addressing of the event service, its faults, and who may use it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from nvr.soap.names import TER, TEV, WSA
from tests.support.event_house import (
    CONCRETE,
    CONCRETE_SET,
    EVENT,
    MANAGER,
    EventHouse,
    an_event_house,
    create,
    pull_messages,
)
from tests.support.events import data_present, something
from tests.support.soap_house import HOST

BW = "http://docs.oasis-open.org/wsn/bw-2"


@pytest_asyncio.fixture
async def house() -> AsyncIterator[EventHouse]:
    async with an_event_house() as opened:
        yield opened


@pytest.mark.requirement("CO-47")
async def test_answers_carry_their_action_and_the_message_they_relate_to(house: EventHouse) -> None:
    uri = await house.pull_point()
    header = (
        "<wsa:MessageID>urn:uuid:1&amp;2</wsa:MessageID><wsa:ReplyTo><wsa:Address>"
        + f"{WSA}/anonymous</wsa:Address></wsa:ReplyTo>"
    )
    renew = "<wsnt:Renew><wsnt:TerminationTime>PT60S</wsnt:TerminationTime></wsnt:Renew>"
    for body, to, action in (
        ("<tev:GetServiceCapabilities/>", EVENT, f"{TEV}/EventPortType/GetServiceCapabilitiesResponse"),
        ("<tev:GetEventProperties/>", EVENT, f"{TEV}/EventPortType/GetEventPropertiesResponse"),
        (create(), EVENT, f"{TEV}/EventPortType/CreatePullPointSubscriptionResponse"),
        (pull_messages(), uri, f"{TEV}/PullPointSubscription/PullMessagesResponse"),
        ("<tev:SetSynchronizationPoint/>", uri, f"{TEV}/PullPointSubscription/SetSynchronizationPointResponse"),
        (renew, uri, f"{BW}/SubscriptionManager/RenewResponse"),
        ("<wsnt:Unsubscribe/>", uri, f"{BW}/SubscriptionManager/UnsubscribeResponse"),
    ):
        asked = f'<wsa:Action env:mustUnderstand="1">{action.removesuffix("Response")}Request</wsa:Action>'
        where = f'<wsa:To env:mustUnderstand="1">http://{HOST}{to}</wsa:To>'
        reply = await house.send(body, to, header=asked + where + header)
        assert (reply.status, reply.header("Action"), reply.header("RelatesTo")) == (200, action, "urn:uuid:1&2")


@pytest.mark.requirement("CO-47")
async def test_the_to_header_names_the_subscription_where_the_request_line_does_not(house: EventHouse) -> None:
    uri = await house.pull_point()
    something(house.broker)
    reply = await house.send(pull_messages(), MANAGER, header=f"<wsa:To>http://{HOST}{uri}</wsa:To>")
    assert len(reply.all("wsnt:NotificationMessage")) == 1
    for bad in ("", "<wsa:To>http://[x?id=1</wsa:To>", f"<wsa:To>http://{HOST}{MANAGER}?id=1</wsa:To>"):
        assert (await house.send(pull_messages(), MANAGER, header=bad)).detail_name == "ResourceUnknownFault"


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("<wsa:ReplyTo><wsa:Address>http://192.0.2.1/</wsa:Address></wsa:ReplyTo>",
         "Sender/InvalidAddressingHeader/OnlyAnonymousAddressSupported"),
        ("<wsa:FaultTo><wsa:Address>http://192.0.2.1/</wsa:Address></wsa:FaultTo>",
         "Sender/InvalidAddressingHeader/OnlyAnonymousAddressSupported"),
        (f"<wsa:ReplyTo><wsa:Address>{WSA}/none</wsa:Address></wsa:ReplyTo>",
         "Sender/InvalidAddressingHeader/OnlyAnonymousAddressSupported"),
        ("<wsa:ReplyTo/>", "Sender/InvalidAddressingHeader"),
        ("<wsa:MessageID>a</wsa:MessageID><wsa:MessageID>b</wsa:MessageID>", "Sender/InvalidAddressingHeader"),
        (f"<wsa:MessageID>{'x' * 5000}</wsa:MessageID>", "Sender/InvalidAddressingHeader"),
    ],
)  # fmt: skip
async def test_headers_that_cannot_be_followed_are_refused(house: EventHouse, header: str, fault: str) -> None:
    reply = await house.send(create(), header=header)
    assert (reply.status, reply.fault) == (400, fault)
    assert house.broker.counts() == (0, 0)


async def test_a_pull_whose_answer_nobody_wants_takes_no_message(house: EventHouse) -> None:
    uri = await house.pull_point()
    something(house.broker)
    nowhere = f"<wsa:ReplyTo><wsa:Address>{WSA}/none</wsa:Address></wsa:ReplyTo>"
    assert (await house.send(pull_messages(), uri, header=nowhere)).status == 400
    assert len(await house.pull(uri)) == 1


@pytest.mark.parametrize(
    ("inner", "fault"),
    [
        (
            f'<wsnt:Topic Dialect="{CONCRETE}">tns1:RecordingConfig/JobState</wsnt:Topic>',
            "NoCurrentMessageOnTopicFault",
        ),
        (f'<wsnt:Topic Dialect="{CONCRETE}">tns1:NoSuch</wsnt:Topic>', "TopicNotSupportedFault"),
        (f'<wsnt:Topic Dialect="{CONCRETE}">tns1:</wsnt:Topic>', "InvalidTopicExpressionFault"),
        ('<wsnt:Topic Dialect="urn:own">tns1:NoSuch</wsnt:Topic>', "TopicExpressionDialectUnknownFault"),
        (f'<wsnt:Topic Dialect="{CONCRETE_SET}">tns1:RecordingConfig//.</wsnt:Topic>', "MultipleTopicsSpecifiedFault"),
    ],
)
async def test_no_message_of_a_topic_is_kept(house: EventHouse, inner: str, fault: str) -> None:
    data_present(house.broker, True)
    reply = await house.send(f"<wsnt:GetCurrentMessage>{inner}</wsnt:GetCurrentMessage>", EVENT)
    assert (reply.fault, reply.detail_name) == ("Receiver", fault)


@pytest.mark.parametrize("inner", ["", "<tt:x/>", f'<tt:x/><wsnt:Topic Dialect="{CONCRETE}">tns1:x</wsnt:Topic>'])
async def test_the_current_message_of_no_topic_is_a_bad_argument(house: EventHouse, inner: str) -> None:
    reply = await house.send(f"<wsnt:GetCurrentMessage>{inner}</wsnt:GetCurrentMessage>", EVENT)
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgs")


async def test_faults_are_counted_by_the_name_of_their_detail(house: EventHouse) -> None:
    await house.send(pull_messages(), f"{MANAGER}?id=1")
    assert dict(house.soap.requests) == {(MANAGER, "PullMessages", "Receiver/ResourceUnknownFault"): 1}


@pytest.mark.requirement("CO-03")
async def test_operations_that_are_optional_or_at_another_path_are_not_supported(house: EventHouse) -> None:
    for body, uri in (
        ("<tev:Seek><tev:UtcTime>2026-03-01T12:00:00Z</tev:UtcTime></tev:Seek>", MANAGER),
        (pull_messages(), EVENT),
        (create(), MANAGER),
    ):
        reply = await house.send(body, uri)
        assert (reply.status, reply.fault) == (500, "Receiver/ActionNotSupported")
    assert (await house.send("<tev:AddEventBroker/>", EVENT)).fault == "Sender/UnknownAction"


async def test_nobody_without_a_login_subscribes_or_pulls(house: EventHouse) -> None:
    uri = await house.pull_point()
    for body, to in (
        (create(), EVENT),
        ("<tev:GetEventProperties/>", EVENT),
        (pull_messages(), uri),
        ("<wsnt:Unsubscribe/>", uri),
    ):
        reply = await house.send(body, to, user=None)
        assert (reply.status, reply.fault) == (401, "Sender/NotAuthorized"), TER
    assert house.broker.counts() == (1, 0)
