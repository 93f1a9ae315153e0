"""What subscribers are told of recordings, jobs and receivers, also those that are posted to; and stock clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from nvr.model.job import JobState, RecordingJobState, SourceState
from nvr.model.receiver import ReceiverState
from nvr.model.time import format_iso, parse_iso
from nvr.model.tokens import AUDIO001, JobToken, ReceiverToken, RecordingToken, TrackKey
from nvr.soap.names import TT
from tests.support.event_house import (
    EVENT,
    EventHouse,
    an_event_house,
    content_of,
    pull_messages,
    topic,
)
from tests.support.events import START, something
from tests.support.soap_house import HOST, NAMESPACES, create_job, create_recording, source_xml

BW = "http://docs.oasis-open.org/wsn/bw-2"


@pytest_asyncio.fixture
async def house() -> AsyncIterator[EventHouse]:
    async with an_event_house() as opened:
        yield opened


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


@pytest.mark.requirement("RC-5.25.1-03", "RC-5.25.2-01", "RC-5.25.2-02", "RC-5.25.2-04", "RC-5.25.3-03", "RC-5.3.3-18")
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

    other = (await house.send(create_job(token), user="operator")).text("trc:JobToken")
    second = await house.next(uri, "RecordingConfig/JobState")
    assert (second.operation, second.items("Source")) == ("Initialized", {"RecordingJobToken": other})
    for limit in (1, 2):
        late = await house.pull_point(topic("tns1:RecordingConfig/JobState"))
        pulled = [m for _ in range(2 // limit) for m in await house.pull(late, limit)]
        states = {m.items("Source")["RecordingJobToken"]: (m.operation, m.items("Data")["State"]) for m in pulled}
        assert states == {job: ("Initialized", "Active"), other: ("Initialized", "Idle")}
        assert await house.pull(late, limit) == []
    await house.send(f"<trc:DeleteRecordingJob>{of_job}</trc:DeleteRecordingJob>", user="operator")
    last = await house.next(uri, "RecordingConfig/JobState")
    assert (last.operation, last.items("Source")) == ("Deleted", {"RecordingJobToken": job})


@pytest.mark.requirement("RC-5.25.2-03")
async def test_the_state_of_a_job_names_the_state_of_each_track_where_they_differ(house: EventHouse) -> None:
    uri = await house.pull_point(topic("tns1:RecordingConfig/JobState"))
    token = await made_recording(house)
    job = JobToken((await house.send(create_job(token), user="operator")).text("trc:JobToken"))
    await house.next(uri, "RecordingConfig/JobState")
    (source,) = house.rooms.control.job_state(job).sources
    first, *others = source.tracks
    tracks = (replace(first, state=RecordingJobState.ACTIVE), *others)
    house.rooms.engine.job_states[job] = JobState(token, (SourceState(source.source, tracks),))
    house.publisher.receiver_changed(ReceiverToken(source.source.token), ReceiverState.CONNECTED)
    told = await house.next(uri, "RecordingConfig/JobState")
    assert told.items("Data") == {"State": "PartiallyActive"}
    held = told.element_item("Information")
    lines = held.findall("tt:Sources/tt:Tracks/tt:Track", NAMESPACES)
    texts = [[t.findtext(f"tt:{name}", None, NAMESPACES) for name in ("Destination", "State")] for t in lines]
    assert texts == [["VIDEO001", "Active"], ["AUDIO001", "Idle"], ["META001", "Idle"]]


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


@pytest.mark.requirement("CO-48", "CO-49", "CO-55", "CO-57", "CO-61")
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
