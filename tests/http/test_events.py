"""Events over real HTTP: deliveries to a consumer, and pullers that vanish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from lxml import etree

from nvr.events.delivery import Consumer, Deliveries
from nvr.http.consumer import Notifier
from nvr.http.listener import Address, Listener
from nvr.http.settings import HttpSettings
from nvr.model.errors import SourceError
from nvr.soap.wsdl import Contract, contract_directory
from tests.support.event_house import EventHouse, Notification, an_event_house, pull_messages
from tests.support.events import somebody_waits, something, subscribed
from tests.support.official_schema import validate_response
from tests.support.soap_house import NAMESPACES

NOTIFY = "http://docs.oasis-open.org/wsn/bw-2/NotificationConsumer/Notify"


class ConsumerServer:
    """Takes notifications; answers with the statuses of `statuses`, then with 200."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.bodies: asyncio.Queue[bytes] = asyncio.Queue()
        self.silent = False
        self.waiting: asyncio.Queue[str] = asyncio.Queue()
        """Told of each request that gets no answer."""
        self.address = ""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        assert request.content_type == "application/soap+xml"
        if self.silent or "hangs" in request.query:
            self.waiting.put_nowait(request.query_string)
            await asyncio.Event().wait()
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.bodies.put_nowait(body)
        return web.Response(status=status, headers={"Location": self.address} if 300 <= status < 400 else {})

    async def taken(self) -> bytes:
        async with asyncio.timeout(5):
            return await self.bodies.get()


@asynccontextmanager
async def a_consumer() -> AsyncIterator[ConsumerServer]:
    server = ConsumerServer()
    application = web.Application()
    application.router.add_post("/notify", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.01, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    server.address = f"http://127.0.0.1:{port}/notify"
    try:
        yield server
    finally:
        await runner.cleanup()


@asynccontextmanager
async def listening(house: EventHouse) -> AsyncIterator[str]:
    listener = Listener(HttpSettings(), house.soap, Contract(contract_directory()))
    (bound,) = await listener.start([Address("127.0.0.1", 0)])
    try:
        yield f"http://127.0.0.1:{bound.port}"
    finally:
        await listener.stop()


@pytest.mark.requirement("CO-67")
async def test_a_consumer_gets_each_message_once_as_a_valid_notify() -> None:
    async with a_consumer() as server, an_event_house(consumer_pause_ns=1_000_000) as house:
        notifier = Notifier(5)
        deliveries = Deliveries(house.broker, notifier)
        subscription = subscribed(house.broker, "tns1:Receiver//.", pushed=True)
        header = '<x:Channel xmlns:x="urn:x">7</x:Channel>'
        deliveries.begin(subscription, Consumer(server.address, header), "http://recorder/subscription?id=1")
        server.statuses = [503, 302]
        something(house.broker, "rcv-1")
        something(house.broker, "rcv-2")
        taken: list[Notification] = []
        while len(taken) < 2:
            body = await server.taken()
            notify = validate_response(body)
            assert etree.QName(notify).localname == "Notify"
            root = notify.getroottree().getroot()
            assert root.findtext("env:Header/wsa:Action", None, NAMESPACES) == NOTIFY
            assert root.findtext("env:Header/wsa:To", None, NAMESPACES) == server.address
            assert root.findtext("env:Header/{urn:x}Channel", None, NAMESPACES) == "7"
            taken += [Notification(e) for e in notify.findall("wsnt:NotificationMessage", NAMESPACES)]
        assert [m.items("Source")["ReceiverToken"] for m in taken] == ["rcv-1", "rcv-2"]
        reference = taken[0].element.findtext("wsnt:SubscriptionReference/wsa:Address", None, NAMESPACES)
        assert reference == "http://recorder/subscription?id=1"
        await deliveries.stop()
        await notifier.stop()
        assert deliveries.failed == 0


async def test_consumers_that_hang_do_not_keep_others_at_the_same_host_waiting() -> None:
    async with a_consumer() as server, an_event_house() as house:
        subscription = subscribed(house.broker)
        something(house.broker)
        (event,) = subscription.take(1)
        notifier = Notifier(3600)
        hanging = [
            asyncio.create_task(notifier(Consumer(f"{server.address}?hangs"), "", [event]))
            for _ in range(house.broker.settings.consumers - 1)
        ]
        async with asyncio.timeout(60):
            for _ in hanging:
                await server.waiting.get()
            await notifier(Consumer(server.address), "", [event])
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        await notifier.stop()


async def test_a_consumer_that_is_silent_gone_or_redirects_is_a_fault_of_its_own() -> None:
    async with a_consumer() as server, an_event_house() as house:
        subscription = subscribed(house.broker)
        something(house.broker)
        (event,) = subscription.take(1)
        quick = Notifier(0.05)
        server.silent = True
        with pytest.raises(SourceError, match="has not answered"):
            await quick(Consumer(server.address), "", [event])
        server.silent, server.statuses = False, [307]
        with pytest.raises(SourceError, match="307"):
            await quick(Consumer(server.address), "", [event])
        address = server.address
        await quick.stop()
    gone = Notifier(5)
    with pytest.raises(SourceError) as failed:
        await gone(Consumer(f"{address}?secret=1"), "", [event])
    assert "secret" not in str(failed.value)
    await gone.stop()


@pytest.mark.requirement("CO-53")
async def test_a_puller_that_hangs_up_takes_no_message_with_it() -> None:
    async with an_event_house() as house, listening(house) as base:
        uri = await house.pull_point()
        (subscription,) = house.broker._subscriptions.values()
        declared = " ".join(f'xmlns:{p}="{n}"' for p, n in NAMESPACES.items())
        body = f"<env:Envelope {declared}><env:Body>{pull_messages(10, 'PT60S')}</env:Body></env:Envelope>"
        headers = {"Content-Type": "application/soap+xml", "Authorization": "Named user"}
        async with aiohttp.ClientSession() as session:
            vanishing = asyncio.create_task(session.post(base + uri, data=body, headers=headers))
            await _until(lambda: subscription.waited_for)
            vanishing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await vanishing
            await _until(lambda: not subscription.waited_for)
            something(house.broker)
            async with session.post(base + uri, data=body, headers=headers) as response:
                reply = validate_response(await response.read())
        assert len(reply.findall("wsnt:NotificationMessage", NAMESPACES)) == 1


async def test_pulls_that_wait_are_answered_when_the_daemon_stops() -> None:
    async with an_event_house() as house:
        uri = await house.pull_point()
        (subscription,) = house.broker._subscriptions.values()
        waiting = asyncio.create_task(house.send(pull_messages(1, "PT60S"), uri))
        await somebody_waits(subscription)
        house.broker.stop()
        assert (await waiting).detail_name == "ResourceUnknownFault"


async def _until(condition: Callable[[], bool]) -> None:
    """The kernel tells of a connection that is gone when it likes: there is nothing to wait for but that."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
