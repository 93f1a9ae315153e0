"""The event service over SOAP: what it announces, and pull points. Every answer is held against the official schema."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from lxml import etree

from nvr.model.event import TOPICS
from nvr.model.time import format_iso, parse_iso
from nvr.soap.names import TEV, TNS1, TT, WSTOP, XS
from tests.support.event_house import (
    CONCRETE_SET,
    EVENT,
    ITEM_FILTER,
    MANAGER,
    EventHouse,
    an_event_house,
    create,
    pull_messages,
    topic,
)
from tests.support.events import START, data_present, somebody_waits, something
from tests.support.soap_house import HOST, NAMESPACES


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


@pytest.mark.requirement("CO-02", "CO-25")
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
@pytest.mark.requirement("RS-6.17-04", "RS-6.17-06")
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


@pytest.mark.requirement("CO-53", "CO-74")
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


@pytest.mark.requirement("CO-61")
def test_a_message_names_each_item_once() -> None:
    for described in TOPICS:
        names = [item.name for item in (*described.source, *described.data)]
        assert len(set(names)) == len(names)
