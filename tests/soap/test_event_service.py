"""The event service over SOAP: subscriptions, messages, filters, faults, addressing. Every answer is held against the
official schema."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from lxml import etree

from nvr.model.event import TOPICS
from nvr.model.job import JobState, RecordingJobState, SourceState
from nvr.model.receiver import ReceiverState
from nvr.model.time import format_iso, parse_iso
from nvr.model.tokens import AUDIO001, JobToken, ReceiverToken, RecordingToken, TrackKey
from nvr.soap.names import TER, TEV, TNS1, TT, WSA, WSNT, WSTOP, XS
from tests.support.event_house import (
    EVENT,
    MANAGER,
    EventHouse,
    an_event_house,
    content_of,
    pull_messages,
)
from tests.support.events import START, data_present, somebody_waits, something
from tests.support.soap_house import HOST, NAMESPACES, create_job, create_recording, source_xml

CONCRETE = "http://docs.oasis-open.org/wsn/t-1/TopicExpression/Concrete"
CONCRETE_SET = "http://www.onvif.org/ver10/tev/topicExpression/ConcreteSet"
ITEM_FILTER = "http://www.onvif.org/ver10/tev/messageContentFilter/ItemFilter"
BW = "http://docs.oasis-open.org/wsn/bw-2"


def topic(expression: str, dialect: str = CONCRETE_SET) -> str:
    return f'<wsnt:TopicExpression Dialect="{dialect}">{expression}</wsnt:TopicExpression>'


def content(expression: str, dialect: str = ITEM_FILTER) -> str:
    return f'<wsnt:MessageContent Dialect="{dialect}">{expression}</wsnt:MessageContent>'


def create(inner: str = "") -> str:
    return f"<tev:CreatePullPointSubscription>{inner}</tev:CreatePullPointSubscription>"


@pytest_asyncio.fixture
async def house() -> AsyncIterator[EventHouse]:
    async with an_event_house() as opened:
        yield opened


# Capabilities and properties


@pytest.mark.requirement("CO-66")
async def test_the_capabilities_tell_the_limits_to_anybody(house: EventHouse) -> None:
    reply = await house.send("<tev:GetServiceCapabilities/>", user=None)
    attributes = dict(reply.all("tev:Capabilities")[0].attrib)
    assert attributes == {
        "WSSubscriptionPolicySupport": "false",
        "WSPullPointSupport": "true",
        "WSPausableSubscriptionManagerInterfaceSupport": "false",
        "MaxNotificationProducers": str(house.broker.settings.consumers),
        "MaxPullPoints": str(house.broker.settings.pull_points),
        "PersistentNotificationStorage": "false",
    }
    assert house.broker.settings.pull_points >= 200


@pytest.mark.requirement("CO-02")
async def test_the_device_service_names_the_event_service(house: EventHouse) -> None:
    services = await house.send(
        "<tds:GetServices><tds:IncludeCapability>true</tds:IncludeCapability></tds:GetServices>"
    )
    entries = {e.findtext("tds:Namespace", None, NAMESPACES): e for e in services.all("tds:Service")}
    assert entries[TEV].findtext("tds:XAddr", None, NAMESPACES) == f"http://{HOST}{EVENT}"
    assert entries[TEV].find("tds:Capabilities/tev:Capabilities", NAMESPACES) is not None
    assert not any(MANAGER in (e.findtext("tds:XAddr", "", NAMESPACES)) for e in entries.values())
    for category in ("", "<tds:Category>Events</tds:Category>", "<tds:Category>All</tds:Category>"):
        told = await house.send(f"<tds:GetCapabilities>{category}</tds:GetCapabilities>")
        assert told.text("tds:Capabilities/tt:Events/tt:XAddr") == f"http://{HOST}{EVENT}"
        assert told.text("tds:Capabilities/tt:Events/tt:WSPullPointSupport") == "true"
        assert told.text("tds:Capabilities/tt:Events/tt:WSSubscriptionPolicySupport") == "false"


@pytest.mark.requirement("CO-64", "CO-65", "RC-5.25.1-01", "RC-5.25.1-02", "RX-10.7.1-01")
async def test_the_topic_set_describes_every_topic_with_its_items_and_types(house: EventHouse) -> None:
    reply = await house.send("<tev:GetEventProperties/>")
    dialects = reply.texts("wsnt:TopicExpressionDialect")
    assert {"http://docs.oasis-open.org/wsn/t-1/TopicExpression/Concrete", CONCRETE_SET} <= set(dialects)
    assert reply.texts("tev:MessageContentFilterDialect") == [ITEM_FILTER]
    assert reply.text("tev:TopicNamespaceLocation") == "http://www.onvif.org/onvif/ver10/topics/topicns.xml"
    assert reply.text("tev:MessageContentSchemaLocation") == "http://www.onvif.org/onvif/ver10/schema/onvif.xsd"
    assert reply.text("wsnt:FixedTopicSet") == "true"
    (tree,) = reply.all("wstop:TopicSet")
    assert {etree.QName(e).namespace for e in tree} == {TNS1}
    found = {}
    for description in tree.iter(f"{{{TT}}}MessageDescription"):
        leaf = description.getparent()
        names = [etree.QName(e).localname for e in (leaf, *leaf.iterancestors())]
        path = "/".join(reversed(names[: names.index("TopicSet")]))
        assert leaf.get(f"{{{WSTOP}}}topic") == "true"
        below_root = [leaf, *leaf.iterancestors()][: len(path.split("/")) - 1]
        assert all(etree.QName(e).namespace is None for e in below_root)
        items = {}
        for group in ("Source", "Data"):
            for item in description.iterfind(f"tt:{group}/*", NAMESPACES):
                prefix, _, name = item.get("Type").partition(":")
                assert item.nsmap[prefix] in (TT, XS)
                kind = etree.QName(item).localname.removesuffix("ItemDescription")
                items[group, item.get("Name")] = f"{kind} {prefix}:{name}"
        found[path] = (description.get("IsProperty"), items)
    recording, track = "Simple tt:RecordingReference", "Simple tt:TrackReference"
    job, token = "Simple tt:RecordingJobReference", "Simple tt:ReferenceToken"
    of_track = {("Source", "RecordingToken"): recording, ("Source", "TrackToken"): track}
    assert found == {
        "RecordingConfig/JobState": (
            "true",
            {
                ("Source", "RecordingJobToken"): job,
                ("Data", "State"): "Simple xs:string",
                ("Data", "Information"): "Element tt:RecordingJobStateInformation",
            },
        ),
        "RecordingConfig/RecordingConfiguration": (
            "false",
            {("Source", "RecordingToken"): recording, ("Data", "Configuration"): "Element tt:RecordingConfiguration"},
        ),
        "RecordingConfig/TrackConfiguration": (
            "false",
            {**of_track, ("Data", "Configuration"): "Element tt:TrackConfiguration"},
        ),
        "RecordingConfig/RecordingJobConfiguration": (
            "false",
            {("Source", "RecordingJobToken"): job, ("Data", "Configuration"): "Element tt:RecordingJobConfiguration"},
        ),
        "RecordingConfig/DeleteTrackData": (
            "false",
            {**of_track, ("Data", "StartTime"): "Simple xs:dateTime", ("Data", "EndTime"): "Simple xs:dateTime"},
        ),
        "RecordingConfig/CreateRecording": ("false", {("Source", "RecordingToken"): recording}),
        "RecordingConfig/DeleteRecording": ("false", {("Source", "RecordingToken"): recording}),
        "RecordingConfig/CreateTrack": ("false", of_track),
        "RecordingConfig/DeleteTrack": ("false", of_track),
        "RecordingHistory/Recording/State": (
            "true",
            {("Source", "RecordingToken"): token, ("Data", "IsRecording"): "Simple xs:boolean"},
        ),
        "RecordingHistory/Track/State": (
            "true",
            {
                ("Source", "RecordingToken"): token,
                ("Source", "Track"): token,
                ("Data", "IsDataPresent"): "Simple xs:boolean",
            },
        ),
        "Receiver/ChangeState": (
            "false",
            {
                ("Source", "ReceiverToken"): token,
                ("Data", "NewState"): "Simple tt:ReceiverState",
                ("Data", "MediaUri"): "Simple tt:MediaUri",
            },
        ),
        "Receiver/ConnectionFailed": (
            "false",
            {("Source", "ReceiverToken"): token, ("Data", "MediaUri"): "Simple tt:MediaUri"},
        ),
        "Device/HardwareFailure/StorageFailure": (
            "true",
            {("Source", "Token"): token, ("Data", "Failed"): "Simple xs:boolean"},
        ),
    }
    assert set(found) == {t.path for t in TOPICS}


# Pull points


@pytest.mark.requirement("CO-48", "CO-49")
@pytest.mark.parametrize(
    ("termination", "life_s"),
    [("PT120S", 120), ("2026-03-01T12:05:00Z", 300), ("2026-03-01T13:10:00+01:00", 600), ("", 60)],
)
async def test_a_pull_point_lives_as_long_as_asked(house: EventHouse, termination: str, life_s: int) -> None:
    asked = f"<tev:InitialTerminationTime>{termination}</tev:InitialTerminationTime>" if termination else ""
    reply = await house.send(create(asked))
    address = reply.text("tev:SubscriptionReference/wsa:Address")
    assert address.startswith(f"http://{HOST}{MANAGER}?id=")
    assert len(address.partition("=")[2]) >= 32
    assert reply.text("wsnt:CurrentTime") == format_iso(START)
    assert parse_iso(reply.text("wsnt:TerminationTime")) - START == life_s * 10**9


async def test_a_termination_time_that_is_nil_is_left_to_the_device(house: EventHouse) -> None:
    nil = 'xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true"'
    made = await house.send(create(f"<tev:InitialTerminationTime {nil}/>"))
    uri = made.text("tev:SubscriptionReference/wsa:Address").removeprefix(f"http://{HOST}")
    renewed = await house.send(f"<wsnt:Renew><wsnt:TerminationTime {nil}/></wsnt:Renew>", uri)
    for told in (made, renewed):
        assert parse_iso(told.text("wsnt:TerminationTime")) - START == house.broker.settings.default_termination_ns
    refused = await house.send(f"<tev:PullMessages><tev:Timeout {nil}/></tev:PullMessages>", uri)
    assert refused.fault == "Sender/InvalidArgs"


@pytest.mark.requirement("CO-48", "CO-53", "CO-57", "CO-61")
async def test_messages_are_pulled_with_topic_time_and_items_until_unsubscribe(house: EventHouse) -> None:
    uri = await house.pull_point()
    something(house.broker, "rcv-1", "Connecting")
    data_present(house.broker, True)
    first, second = await house.pull(uri)
    assert (first.topic, first.operation, first.time) == ("tns1:Receiver/ChangeState", None, format_iso(START))
    assert (first.items("Source"), first.items("Data")) == ({"ReceiverToken": "rcv-1"}, {"NewState": "Connecting"})
    assert (second.topic, second.operation) == ("tns1:RecordingHistory/Track/State", "Initialized")
    assert second.items("Source") == {"RecordingToken": "rec-1", "Track": "VIDEO001"}
    assert second.items("Data") == {"IsDataPresent": "true"}
    assert (await house.send("<wsnt:Unsubscribe/>", uri)).name == "UnsubscribeResponse"
    for body in (pull_messages(), "<wsnt:Unsubscribe/>", "<tev:SetSynchronizationPoint/>",
                 "<wsnt:Renew><wsnt:TerminationTime>PT60S</wsnt:TerminationTime></wsnt:Renew>"):  # fmt: skip
        gone = await house.send(body, uri)
        assert (gone.status, gone.fault, gone.detail_name) == (500, "Receiver", "ResourceUnknownFault")


@pytest.mark.requirement("CO-53")
async def test_a_long_poll_is_answered_by_the_first_message(house: EventHouse) -> None:
    uri = await house.pull_point()
    waiting = asyncio.create_task(house.send(pull_messages(10, "PT60S"), uri))
    for subscription in house.broker._subscriptions.values():
        await somebody_waits(subscription)
    second = await house.send(pull_messages(10, "PT60S"), uri)
    assert (second.status, second.detail_name) == (500, "UnableToGetMessagesFault")
    something(house.broker)
    reply = await waiting
    assert len(reply.all("wsnt:NotificationMessage")) == 1
    lease = [parse_iso(reply.text(f"tev:{name}")) for name in ("CurrentTime", "TerminationTime")]
    assert lease[1] - lease[0] >= 60 * 10**9


@pytest.mark.requirement("CO-54")
async def test_a_timeout_beyond_the_limit_is_refused_with_the_limits_and_a_large_message_limit_is_not(
    house: EventHouse,
) -> None:
    uri = await house.pull_point()
    refused = await house.send(pull_messages(1, "PT24H"), uri)
    assert (refused.status, refused.fault, refused.detail_name) == (500, "Receiver", "PullMessagesFaultResponse")
    assert refused.detail.findtext("tev:MaxTimeout", None, NAMESPACES) == "PT5M"
    assert refused.detail.findtext("tev:MaxMessageLimit", None, NAMESPACES) == "256"
    assert await house.pull(uri, 100_000) == []


@pytest.mark.parametrize(
    ("limit", "timeout", "fault"),
    [("0", "PT1S", "InvalidArgVal"), ("-1", "PT1S", "InvalidArgVal"), ("1", "-PT1S", "InvalidArgVal"),
     ("x", "PT1S", "InvalidArgs"), ("1", "soon", "InvalidArgs")],
)  # fmt: skip
async def test_a_pull_with_bad_arguments_is_refused(house: EventHouse, limit: str, timeout: str, fault: str) -> None:
    uri = await house.pull_point()
    reply = await house.send(pull_messages(limit, timeout), uri)  # type: ignore[arg-type]
    assert (reply.status, reply.fault) == (400, f"Sender/{fault}")


@pytest.mark.requirement("CO-55", "CO-56")
async def test_renew_moves_the_end_by_duration_and_by_instant(house: EventHouse) -> None:
    uri = await house.pull_point(termination="PT10S")
    for termination, end in (("PT60S", START + 60 * 10**9), ("2026-03-01T12:30:00Z", START + 1800 * 10**9)):
        renewed = await house.send(
            f"<wsnt:Renew><wsnt:TerminationTime>{termination}</wsnt:TerminationTime></wsnt:Renew>", uri
        )
        assert parse_iso(renewed.text("wsnt:TerminationTime")) == end
        assert renewed.text("wsnt:CurrentTime") == format_iso(START)
    refused = await house.send("<wsnt:Renew><wsnt:TerminationTime>PT0S</wsnt:TerminationTime></wsnt:Renew>", uri)
    assert (refused.status, refused.detail_name) == (500, "UnacceptableTerminationTimeFault")
    house.clocks.advance(1801)
    assert (await house.send(pull_messages(), uri)).detail_name == "ResourceUnknownFault"


@pytest.mark.requirement("CO-59", "CO-60")
async def test_a_synchronization_point_repeats_the_properties(house: EventHouse) -> None:
    data_present(house.broker, True)
    uri = await house.pull_point(topic("tns1:RecordingHistory//."))
    assert [m.operation for m in await house.pull(uri)] == ["Initialized"]
    data_present(house.broker, False)
    assert [m.operation for m in await house.pull(uri)] == ["Changed"]
    assert (await house.send("<tev:SetSynchronizationPoint/>", uri)).name == "SetSynchronizationPointResponse"
    assert [(m.operation, m.items("Data")) for m in await house.pull(uri)] == [
        ("Initialized", {"IsDataPresent": "false"})
    ]


@pytest.mark.requirement("CO-58")
async def test_more_pull_points_than_announced_are_refused_and_unsubscribe_makes_room() -> None:
    async with an_event_house(pull_points=3) as house:
        uris = [await house.pull_point() for _ in range(3)]
        assert len(set(uris)) == 3
        refused = await house.send(create())
        assert (refused.status, refused.fault, refused.detail_name) == (500, "Receiver", "SubscribeCreationFailedFault")
        await house.send("<wsnt:Unsubscribe/>", uris[0])
        await house.pull_point()


async def test_two_hundred_pull_points_are_served_at_once(house: EventHouse) -> None:
    uris = [await house.pull_point(topic("tns1:Receiver//.")) for _ in range(200)]
    waiting = [asyncio.create_task(house.send(pull_messages(5, "PT60S"), uri)) for uri in uris]
    for subscription in house.broker._subscriptions.values():
        await somebody_waits(subscription)
    something(house.broker)
    replies = await asyncio.gather(*waiting)
    assert {len(r.all("wsnt:NotificationMessage")) for r in replies} == {1}


# Filters and policies


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


# Addressing


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
        reply = await house.send(body, to, header=header)
        assert (reply.header("Action"), reply.header("RelatesTo")) == (action, "urn:uuid:1&2")


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


# Subscribe


def subscribe(address: str, inner: str = "", parameters: str = "") -> str:
    return (
        f"<wsnt:Subscribe><wsnt:ConsumerReference><wsa:Address>{address}</wsa:Address>{parameters}"
        f"</wsnt:ConsumerReference>{inner}</wsnt:Subscribe>"
    )


@pytest.mark.requirement("CO-67")
async def test_subscribe_begins_a_delivery_and_its_subscription_is_managed_like_others(house: EventHouse) -> None:
    parameters = '<wsa:ReferenceParameters><x:Channel xmlns:x="urn:x">7</x:Channel></wsa:ReferenceParameters>'
    reply = await house.send(
        subscribe("http://192.0.2.9:81/notify", f"<wsnt:Filter>{topic('tns1:Receiver//.')}</wsnt:Filter>", parameters),
        EVENT,
        header="<wsa:MessageID>m</wsa:MessageID>",
    )
    assert (reply.name, reply.header("Action")) == ("SubscribeResponse", f"{BW}/NotificationProducer/SubscribeResponse")
    assert parse_iso(reply.text("wsnt:TerminationTime")) > parse_iso(reply.text("wsnt:CurrentTime"))
    address = reply.text("wsnt:SubscriptionReference/wsa:Address")
    ((subscription, consumer, reference),) = house.deliveries.begun
    assert (consumer.address, reference) == ("http://192.0.2.9:81/notify", address)
    assert 'IsReferenceParameter="true"' in consumer.header
    something(house.broker)
    assert subscription.backlog == 1
    uri = address.removeprefix(f"http://{HOST}")
    assert (await house.send(pull_messages(), uri)).detail_name == "ResourceUnknownFault"
    renewed = await house.send("<wsnt:Renew><wsnt:TerminationTime>PT90S</wsnt:TerminationTime></wsnt:Renew>", uri)
    assert renewed.fault is None
    assert (await house.send("<wsnt:Unsubscribe/>", uri)).fault is None
    assert subscription.ended


async def test_a_consumer_that_must_not_be_reached_is_refused(house: EventHouse) -> None:
    for address in (
        "http://127.0.0.1:81/",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "http://a:b@192.0.2.9/",
    ):
        reply = await house.send(subscribe(address), EVENT)
        assert (reply.status, reply.detail_name) == (500, "SubscribeCreationFailedFault")
    assert house.deliveries.begun == []
    assert (await house.send(subscribe("http://127.0.0.1:81/"), EVENT, peer="127.0.0.1")).fault is None


# What is told of recordings, jobs and receivers


async def made_recording(house: EventHouse) -> RecordingToken:
    reply = await house.send(create_recording(), user="operator")
    return RecordingToken(reply.text("trc:RecordingToken"))


@pytest.mark.requirement("RC-5.25.1-03", "RC-5.25.3-01", "RC-5.25.3-02", "RC-5.25.5-01", "RC-5.25.5-03")
async def test_configurations_in_messages_are_what_the_getters_answer(house: EventHouse) -> None:
    uri = await house.pull_point(topic("tns1:RecordingConfig//."))
    token = await made_recording(house)
    created = await house.pull(uri)
    assert [m.topic.partition("/")[2] for m in created] == ["CreateRecording", *["CreateTrack"] * 3]
    assert created[1].items("Source") == {"RecordingToken": token, "TrackToken": "VIDEO001"}
    assert all(m.message.find("tt:Data", NAMESPACES) is not None and m.items("Data") == {} for m in created)

    await house.send(
        f"<trc:SetRecordingConfiguration><trc:RecordingToken>{token}</trc:RecordingToken><trc:RecordingConfiguration>"
        f"{source_xml(name='Gate &amp; &lt;yard&gt;')}<tt:Content>Trucks</tt:Content><tt:MaximumRetentionTime>P1DT0.5S"
        "</tt:MaximumRetentionTime></trc:RecordingConfiguration></trc:SetRecordingConfiguration>",
        user="operator",
    )
    (told,) = await house.pull(uri)
    assert (told.topic, told.items("Source")) == (
        "tns1:RecordingConfig/RecordingConfiguration",
        {"RecordingToken": token},
    )
    held = told.element_item("Configuration")
    assert held.tag == f"{{{TT}}}RecordingConfiguration"
    answered = await house.send(
        f"<trc:GetRecordingConfiguration><trc:RecordingToken>{token}</trc:RecordingToken></trc:GetRecordingConfiguration>"
    )
    assert content_of(held) == content_of(answered.all("trc:RecordingConfiguration")[0]) != []

    of_track = f"<trc:RecordingToken>{token}</trc:RecordingToken><trc:TrackToken>{AUDIO001}</trc:TrackToken>"
    await house.send(
        f"<trc:SetTrackConfiguration>{of_track}<trc:TrackConfiguration><tt:TrackType>Video</tt:TrackType>"
        "<tt:Description>North</tt:Description></trc:TrackConfiguration></trc:SetTrackConfiguration>",
        user="operator",
    )
    (told,) = await house.pull(uri)
    assert told.items("Source") == {"RecordingToken": token, "TrackToken": "AUDIO001"}
    held = told.element_item("Configuration")
    assert held.tag == f"{{{TT}}}TrackConfiguration"
    answered = await house.send(f"<trc:GetTrackConfiguration>{of_track}</trc:GetTrackConfiguration>")
    assert content_of(held) == content_of(answered.all("trc:TrackConfiguration")[0]) != []


@pytest.mark.requirement("RC-5.25.1-03", "RC-5.25.2-01", "RC-5.25.2-02", "RC-5.25.2-04", "RC-5.25.3-03")
async def test_the_state_of_a_job_is_told_as_its_getter_answers_it(house: EventHouse) -> None:
    uri = await house.pull_point(topic("tns1:RecordingConfig/JobState|tns1:RecordingConfig/RecordingJobConfiguration"))
    token = await made_recording(house)
    job = (await house.send(create_job(token), user="operator")).text("trc:JobToken")
    of_job = f"<trc:JobToken>{job}</trc:JobToken>"
    first = await house.next(uri, "RecordingConfig/JobState")
    assert (first.operation, first.items("Source"), first.items("Data")) == (
        "Initialized", {"RecordingJobToken": job}, {"State": "Idle"},
    )  # fmt: skip

    await house.send(
        f"<trc:SetRecordingJobMode>{of_job}<trc:Mode>Active</trc:Mode></trc:SetRecordingJobMode>", user="operator"
    )
    changed = await house.next(uri, "RecordingConfig/RecordingJobConfiguration")
    held = changed.element_item("Configuration")
    assert held.tag == f"{{{TT}}}RecordingJobConfiguration"
    answered = await house.send(f"<trc:GetRecordingJobConfiguration>{of_job}</trc:GetRecordingJobConfiguration>")
    assert content_of(held) == content_of(answered.all("trc:JobConfiguration")[0]) != []
    assert held.find(".//tt:AutoCreateReceiver", NAMESPACES) is None

    await house.settled()
    house.clocks.advance(5)
    (source,) = house.rooms.control.job_state(JobToken(job)).sources
    tracks = tuple(replace(track, state=RecordingJobState.ACTIVE) for track in source.tracks)
    active = SourceState(source.source, tracks, RecordingJobState.ACTIVE)
    house.rooms.engine.job_states[JobToken(job)] = JobState(token, (active,))
    house.publisher.receiver_changed(ReceiverToken(source.source.token), ReceiverState.CONNECTED)
    told = await house.next(uri, "RecordingConfig/JobState")
    assert (told.operation, told.items("Data"), told.time) == (
        "Changed",
        {"State": "Active"},
        format_iso(START + 5 * 10**9),
    )
    held = told.element_item("Information")
    assert held.tag == f"{{{TT}}}RecordingJobStateInformation"
    assert held.findtext("tt:State", None, NAMESPACES) == "Active"
    answered = await house.send(f"<trc:GetRecordingJobState>{of_job}</trc:GetRecordingJobState>")
    assert content_of(held) == content_of(answered.all("trc:State")[0]) != []

    late = await house.pull(await house.pull_point(topic("tns1:RecordingConfig/JobState")), 1)
    assert [(m.operation, m.items("Data")) for m in late] == [("Initialized", {"State": "Active"})]
    await house.send(f"<trc:DeleteRecordingJob>{of_job}</trc:DeleteRecordingJob>", user="operator")
    last = await house.next(uri, "RecordingConfig/JobState")
    assert (last.operation, last.items("Source")) == ("Deleted", {"RecordingJobToken": job})


@pytest.mark.requirement("RC-5.25.5-02", "RC-5.25.5-04")
async def test_deletions_are_told(house: EventHouse) -> None:
    token = await made_recording(house)
    uri = await house.pull_point(topic("tns1:RecordingConfig//."))
    await house.send(
        f"<trc:DeleteRecording><trc:RecordingToken>{token}</trc:RecordingToken></trc:DeleteRecording>", user="operator"
    )
    house.publisher.footage_deleted(TrackKey(token, AUDIO001), START, START + 1_500_000_000)
    told = await house.pull(uri)
    assert [m.topic.partition("/")[2] for m in told] == [*["DeleteTrack"] * 3, "DeleteRecording", "DeleteTrackData"]
    assert told[-1].items("Data") == {"StartTime": "2026-03-01T12:00:00Z", "EndTime": "2026-03-01T12:00:01.500Z"}


# Clients written against the official WSDL, and against ours


@pytest.mark.requirement("CO-48", "CO-49", "CO-55", "CO-57")
@pytest.mark.parametrize("own", [False, True], ids=["official", "own"])
async def test_zeep_subscribes_pulls_renews_and_unsubscribes(house: EventHouse, own: bool) -> None:
    events = house.zeep("EventBinding", own=own)
    properties = await events.GetEventProperties()
    assert properties.FixedTopicSet is True
    made = await events.CreatePullPointSubscription(InitialTerminationTime="PT120S")
    reference = made.SubscriptionReference.Address
    address = reference if isinstance(reference, str) else reference._value_1
    puller = house.zeep("PullPointSubscriptionBinding", address, own=own)
    something(house.broker)
    pulled = await puller.PullMessages(Timeout="PT1S", MessageLimit=10)
    (message,) = pulled.NotificationMessage
    assert message.Topic.Dialect == "http://docs.oasis-open.org/wsn/t-1/TopicExpression/Concrete"
    await puller.SetSynchronizationPoint()
    manager = house.zeep("SubscriptionManagerBinding", address, own=own)
    renewed = await manager.Renew(TerminationTime="PT300S")
    assert renewed.TerminationTime > renewed.CurrentTime
    await manager.Unsubscribe()
    assert house.broker.counts() == (0, 0)
    producer = house.zeep("NotificationProducerBinding", own=own)
    subscribed = await producer.Subscribe(ConsumerReference={"Address": "http://192.0.2.9/"})
    assert subscribed.SubscriptionReference is not None
    assert len(house.deliveries.begun) == 1


def test_a_message_names_each_item_once() -> None:
    for described in TOPICS:
        names = [item.name for item in (*described.source, *described.data)]
        assert len(set(names)) == len(names)
