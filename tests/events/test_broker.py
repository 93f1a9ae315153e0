"""Properties, subscriptions, queues and leases."""

from __future__ import annotations

import asyncio
import logging

import pytest

from nvr.events.broker import Broker, Termination
from nvr.events.errors import (
    BadContentExpression,
    PullTooLong,
    SubscriptionFailed,
    UnableToGetMessages,
    UnacceptableInitialTermination,
    UnacceptableTermination,
    UnknownSubscription,
)
from nvr.events.filters import parse_content
from nvr.events.subscription import Subscription
from nvr.model.event import CREATE_TRACK, JOB_STATE, TRACK_STATE, Event, PropertyOperation
from nvr.model.time import NS
from tests.support.events import (
    START,
    Clocks,
    a_broker,
    a_filter,
    data_present,
    seconds,
    somebody_waits,
    something,
    subscribed,
    told,
)

INITIALIZED, CHANGED, DELETED = PropertyOperation.INITIALIZED, PropertyOperation.CHANGED, PropertyOperation.DELETED


async def pulled(broker: Broker, subscription: Subscription, limit: int = 100, timeout_ns: int = 0) -> list[Event]:
    return (await broker.pull(subscription.token, timeout_ns, limit))[1]


def test_an_event_has_the_items_of_its_topic_and_no_others() -> None:
    source = {"RecordingToken": "r", "TrackToken": "t"}
    Event(CREATE_TRACK, 0, source)
    with pytest.raises(ValueError, match="has the items"):
        Event(CREATE_TRACK, 0, {"RecordingToken": "r"})
    with pytest.raises(ValueError, match="has the items"):
        Event(CREATE_TRACK, 0, source, {"State": "x"})
    with pytest.raises(ValueError, match="do not go together"):
        Event(CREATE_TRACK, 0, source, operation=CHANGED)
    with pytest.raises(ValueError, match="do not go together"):
        Event(JOB_STATE, 0, {"RecordingJobToken": "j"})


@pytest.mark.requirement("CO-50")
async def test_without_a_filter_everything_is_delivered_in_order() -> None:
    broker = a_broker()
    everything = subscribed(broker)
    something(broker)
    data_present(broker, False)
    something(broker, state="NotConnected")
    assert told(await pulled(broker, everything)) == [
        (None, "rcv-1", "Connected"),
        (INITIALIZED, "rec-1", "VIDEO001", False),
        (None, "rcv-1", "NotConnected"),
    ]


async def test_a_filter_of_topics_and_one_of_content_must_both_pass() -> None:
    broker = a_broker()
    content = 'boolean(//tt:SimpleItem[@Name="Track" and @Value="VIDEO001"])'
    both = subscribed(broker, "tns1:RecordingHistory//.", content)
    only_content = subscribed(broker, content='boolean(//tt:SimpleItem[@Name="ReceiverToken" and @Value="rcv-2"])')
    something(broker, "rcv-1")
    something(broker, "rcv-2")
    data_present(broker, True, "VIDEO001")
    data_present(broker, True, "AUDIO001")
    assert told(await pulled(broker, both)) == [(INITIALIZED, "rec-1", "VIDEO001", True)]
    assert told(await pulled(broker, only_content)) == [(None, "rcv-2", "Connected")]


@pytest.mark.parametrize("text", ["", "//tt:SimpleItem[", "count(//tt:SimpleItem) = 1"])
def test_a_bad_content_expression_is_refused(text: str) -> None:
    with pytest.raises(BadContentExpression):
        parse_content(text, "http://www.onvif.org/ver10/tev/messageContentFilter/ItemFilter")
    with pytest.raises(BadContentExpression):
        parse_content("boolean(//tt:SimpleItem)", "http://www.w3.org/TR/1999/REC-xpath-19991116")


@pytest.mark.requirement("CO-60")
async def test_a_property_is_initialized_then_changed_then_deleted() -> None:
    clocks = Clocks()
    broker = a_broker(clocks)
    data_present(broker, False)
    late = subscribed(broker)
    data_present(broker, False)  # the same state again is no event
    clocks.advance(1)
    data_present(broker, True)
    data_present(broker, True, "AUDIO001")  # comes into being while the subscription lives
    broker.delete_property(TRACK_STATE, {"RecordingToken": "rec-1", "Track": "VIDEO001"})
    broker.delete_property(TRACK_STATE, {"RecordingToken": "rec-1", "Track": "never"})
    events = await pulled(broker, late)
    assert told(events) == [
        (INITIALIZED, "rec-1", "VIDEO001", False),
        (CHANGED, "rec-1", "VIDEO001", True),
        (INITIALIZED, "rec-1", "AUDIO001", True),
        (DELETED, "rec-1", "VIDEO001", True),
    ]
    assert [e.utc_ns - START for e in events] == [0, NS, NS, NS]
    assert told(await pulled(broker, subscribed(broker))) == [(INITIALIZED, "rec-1", "AUDIO001", True)]


@pytest.mark.requirement("CO-59")
async def test_a_synchronization_point_repeats_the_state_of_every_property_behind_what_waits() -> None:
    broker = a_broker()
    data_present(broker, False)
    subscription = subscribed(broker)
    data_present(broker, True)
    broker.synchronize(subscription.token)
    broker.synchronize(subscription.token)
    assert told(await pulled(broker, subscription)) == [
        (CHANGED, "rec-1", "VIDEO001", True),
        (INITIALIZED, "rec-1", "VIDEO001", True),
    ]


@pytest.mark.requirement("CO-52")
async def test_changed_only_keeps_initialized_and_deleted_away() -> None:
    broker = a_broker()
    data_present(broker, False)
    subscription = subscribed(broker, changed_only=True)
    data_present(broker, True)
    data_present(broker, True, "AUDIO001")
    broker.synchronize(subscription.token)
    broker.delete_property(TRACK_STATE, {"RecordingToken": "rec-1", "Track": "VIDEO001"})
    something(broker)
    assert [e.operation for e in await pulled(broker, subscription)] == [CHANGED, None]


async def test_a_full_queue_loses_its_oldest_messages_counts_them_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = a_broker(queue=3)
    slow, quick = subscribed(broker), subscribed(broker)
    with caplog.at_level(logging.WARNING):
        for number in range(5):
            something(broker, f"rcv-{number}")
            assert len(await pulled(broker, quick)) == 1
        assert len(caplog.records) == 1
        assert "is not read" in caplog.text
        assert [e.source["ReceiverToken"] for e in await pulled(broker, slow)] == ["rcv-2", "rcv-3", "rcv-4"]
        assert "has lost 2 messages" in caplog.text
        for number in range(4):
            something(broker, f"rcv-{number}")
    assert (broker.dropped, slow.dropped, quick.dropped) == (4, 3, 1)
    assert caplog.text.count("is not read") == 3  # a second episode of the one, and the first of the other


async def test_the_states_at_the_start_take_no_room_from_later_messages() -> None:
    broker = a_broker(queue=2)
    for number in range(10):
        data_present(broker, False, f"T{number}")
    subscription = subscribed(broker)
    something(broker)
    something(broker)
    assert len(await pulled(broker, subscription)) == 12
    assert broker.dropped == 0


@pytest.mark.requirement("CO-53")
async def test_a_pull_takes_what_waits_up_to_its_limit_and_keeps_the_rest() -> None:
    broker = a_broker(messages_per_pull=2)
    subscription = subscribed(broker)
    for number in range(4):
        something(broker, f"rcv-{number}")
    batches = [await pulled(broker, subscription, limit, 60 * NS) for limit in (1, 100_000, 1)]
    assert [[e.source["ReceiverToken"] for e in batch] for batch in batches] == [
        ["rcv-0"],
        ["rcv-1", "rcv-2"],
        ["rcv-3"],
    ]


@pytest.mark.requirement("CO-53")
async def test_a_pull_waits_for_the_first_message() -> None:
    broker = a_broker()
    subscription = subscribed(broker)
    waiting = asyncio.create_task(pulled(broker, subscription, timeout_ns=60 * NS))
    await somebody_waits(subscription)
    assert not waiting.done()
    something(broker)
    something(broker, "rcv-2")
    assert [e.source["ReceiverToken"] for e in await waiting] == ["rcv-1", "rcv-2"]


@pytest.mark.requirement("CO-53")
async def test_an_empty_answer_comes_when_the_timeout_is_over_and_not_before() -> None:
    broker = a_broker()
    subscription = subscribed(broker)
    loop = asyncio.get_running_loop()
    start = loop.time()
    assert await pulled(broker, subscription, timeout_ns=NS // 20) == []
    assert loop.time() - start >= 0.05


@pytest.mark.requirement("CO-74")
async def test_a_second_pull_is_refused_while_the_first_goes_on_and_loses_nothing() -> None:
    broker = a_broker()
    subscription = subscribed(broker)
    first = asyncio.create_task(pulled(broker, subscription, timeout_ns=60 * NS))
    await somebody_waits(subscription)
    with pytest.raises(UnableToGetMessages):
        await pulled(broker, subscription, timeout_ns=NS)
    something(broker)
    assert len(await first) == 1


async def test_a_client_that_vanishes_while_it_waits_takes_no_message_with_it() -> None:
    broker = a_broker()
    subscription = subscribed(broker)
    waiting = asyncio.create_task(pulled(broker, subscription, timeout_ns=60 * NS))
    await somebody_waits(subscription)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    something(broker)
    assert len(await pulled(broker, subscription)) == 1


@pytest.mark.requirement("CO-57")
async def test_unsubscribe_ends_the_pull_point_and_a_pull_that_waits() -> None:
    broker = a_broker()
    subscription = subscribed(broker)
    waiting = asyncio.create_task(pulled(broker, subscription, timeout_ns=60 * NS))
    await somebody_waits(subscription)
    broker.unsubscribe(subscription.token)
    with pytest.raises(UnknownSubscription):
        await waiting
    with pytest.raises(UnknownSubscription):
        await pulled(broker, subscription)
    with pytest.raises(UnknownSubscription):
        broker.renew(subscription.token, seconds(60))
    with pytest.raises(UnknownSubscription):
        broker.synchronize(subscription.token)


@pytest.mark.requirement("CO-54")
async def test_a_pull_of_more_than_the_longest_timeout_is_refused_with_the_limits() -> None:
    broker = a_broker()
    with pytest.raises(PullTooLong) as refused:
        await pulled(broker, subscribed(broker), timeout_ns=86_400 * NS)
    assert refused.value.longest_ns >= 60 * NS
    assert refused.value.most_messages == broker.settings.messages_per_pull


@pytest.mark.requirement("CO-58")
async def test_pull_points_are_limited_and_expiry_makes_room() -> None:
    clocks = Clocks()
    broker = a_broker(clocks, pull_points=2)
    subscribed(broker)
    kept = subscribed(broker)
    with pytest.raises(SubscriptionFailed):
        subscribed(broker)
    clocks.advance(30)
    broker.renew(kept.token, seconds(60))
    clocks.advance(31)
    subscribed(broker)
    assert broker.counts() == (2, 0)
    assert len({kept.token, *(s.token for s in [subscribed(a_broker()) for _ in range(50)])}) == 51


@pytest.mark.requirement("CO-51")
async def test_a_pull_keeps_its_subscription_alive_for_its_timeout() -> None:
    clocks = Clocks()
    broker = a_broker(clocks)
    subscription = broker.subscribe(a_filter(), seconds(10))
    data_present(broker, True)
    lease, _ = await broker.pull(subscription.token, 120 * NS, 1)
    assert lease.termination_ns - lease.current_ns >= 120 * NS
    clocks.advance(119)
    await broker.pull(subscription.token, 0, 1)


async def test_a_clock_that_is_set_neither_ends_nor_prolongs_a_subscription() -> None:
    clocks = Clocks()
    broker = a_broker(clocks)
    subscription = subscribed(broker)
    clocks.utc_ns += 86_400 * NS
    lease = broker.lease(subscription)
    assert (lease.current_ns, lease.termination_ns) == (START + 86_400 * NS, START + 86_460 * NS)
    clocks.monotonic_ns += 61 * NS
    with pytest.raises(UnknownSubscription):
        broker.renew(subscription.token, None)


@pytest.mark.requirement("CO-68")
@pytest.mark.parametrize(
    "termination",
    [
        Termination(0, True),
        Termination(-NS, True),
        Termination(START, False),
        Termination(START - NS, False),
        Termination(10**18, True),
        Termination(START + 10**18, False),
    ],
)
def test_a_termination_time_that_is_over_or_too_far_is_refused_with_acceptable_ones(termination: Termination) -> None:
    broker = a_broker()
    with pytest.raises(UnacceptableInitialTermination) as refused:
        broker.subscribe(a_filter(), termination)
    lease = broker.lease(broker.subscribe(a_filter(), Termination(refused.value.minimum_ns, False)))
    assert lease.termination_ns == refused.value.minimum_ns
    broker.subscribe(a_filter(), Termination(refused.value.maximum_ns, False))
    with pytest.raises(UnacceptableTermination):
        broker.renew(subscribed(broker).token, termination)


async def test_the_end_of_the_daemon_answers_those_who_wait() -> None:
    broker = a_broker()
    subscription = subscribed(broker)
    waiting = asyncio.create_task(pulled(broker, subscription, timeout_ns=60 * NS))
    await somebody_waits(subscription)
    broker.stop()
    with pytest.raises(UnknownSubscription):
        await waiting


async def test_a_thousand_events_reach_250_subscriptions_that_nobody_reads() -> None:
    broker = a_broker(queue=100)
    subscriptions = [subscribed(broker, "tns1:Receiver//.") for _ in range(250)]
    for number in range(1000):
        something(broker, f"rcv-{number}")
    assert {s.backlog for s in subscriptions} == {100}
    assert broker.dropped == 250 * 900


SLOW = "not(" + " or ".join(f"//*[@Name='{{0}}{i}']" for i in range(8)) + ")"
"""An expression that has to be evaluated."""


async def test_the_states_at_the_start_are_looked_at_in_slices_and_only_as_far_as_messages_are_wanted() -> None:
    broker = a_broker(messages_per_pull=500)
    for number in range(300):
        data_present(broker, False, f"T{number}")
    evaluated: list[int] = []

    class Counted(Subscription):
        def look_at_states(self, work: int) -> None:
            before = self._seen
            super().look_at_states(work)
            evaluated.append((self._seen or 300) - before)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nvr.events.broker.Subscription", Counted)
        subscription = subscribed(broker, content=SLOW.format("x"))
    assert evaluated == []  # to subscribe costs nothing
    data_present(broker, True, "T299")
    something(broker)
    assert len(await pulled(broker, subscription, 5)) == 5
    assert sum(evaluated) < 20
    first = sum(evaluated)
    rest = await pulled(broker, subscription, 500)
    assert max(evaluated) < 20
    assert len(evaluated) > 300 // 20
    assert sum(evaluated) == 300 > first
    assert [e.operation for e in rest] == [INITIALIZED] * 295 + [CHANGED, None]


async def test_what_comes_while_states_are_looked_at_stands_behind_them_and_a_second_pull_is_refused() -> None:
    broker = a_broker()
    for number in range(100):
        data_present(broker, False, f"T{number}")
    subscription = subscribed(broker, content=SLOW.format("x"))
    first = asyncio.create_task(pulled(broker, subscription, 1000, NS))
    await somebody_waits(subscription)
    assert not first.done()
    something(broker)
    with pytest.raises(UnableToGetMessages):
        await pulled(broker, subscription)
    assert [e.operation for e in await first] == [INITIALIZED] * 100 + [None]


async def test_a_synchronization_point_reaches_a_pull_that_waits() -> None:
    broker = a_broker()
    data_present(broker, True)
    subscription = subscribed(broker)
    assert len(await pulled(broker, subscription)) == 1
    waiting = asyncio.create_task(pulled(broker, subscription, timeout_ns=60 * NS))
    await somebody_waits(subscription)
    broker.synchronize(subscription.token)
    assert [e.operation for e in await waiting] == [INITIALIZED]


async def test_unread_states_do_not_let_the_queue_behind_them_grow() -> None:
    broker = a_broker(queue=3)
    data_present(broker, True)
    subscription = subscribed(broker)
    for number in range(50):
        something(broker, f"rcv-{number}")
    assert (subscription.backlog, subscription.dropped) == (3, 47)
    assert [e.source.get("ReceiverToken") for e in await pulled(broker, subscription)] == [
        None, "rcv-47", "rcv-48", "rcv-49",
    ]  # fmt: skip


def test_what_an_event_may_cost_with_all_subscriptions_together_is_bounded() -> None:
    broker = a_broker()
    for number in range(8):
        subscribed(broker, content=SLOW.format(number))
    for _ in range(50):
        subscribed(broker, content=SLOW.format(0))
    subscribed(broker, content='//SimpleItem[@Name="a" and @Value="b"]')
    with pytest.raises(SubscriptionFailed):
        subscribed(broker, content=SLOW.format("one more"))


async def test_subscriptions_end_with_their_account() -> None:
    broker = a_broker()
    gone, stays = (broker.subscribe(a_filter(), None, account=name) for name in ("bob", "eve"))
    waiting = asyncio.create_task(pulled(broker, gone, timeout_ns=60 * NS))
    await somebody_waits(gone)
    broker.end_of(["bob"])
    with pytest.raises(UnknownSubscription):
        await waiting
    assert (gone.ended, stays.ended, broker.counts()) == (True, False, (1, 0))
