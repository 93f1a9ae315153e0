"""The event service beside recording control and receivers, over SOAP without HTTP, with a publisher that runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from lxml import etree

from nvr.events.broker import Broker
from nvr.events.delivery import Consumer
from nvr.events.publisher import Publisher
from nvr.events.subscription import Subscription
from nvr.model.timeline import Timeline
from nvr.model.tokens import ReceiverToken, TrackKey
from nvr.soap.device import DeviceService
from nvr.soap.event import EventService, SubscriptionService
from nvr.soap.protocol import Request, Soap
from nvr.soap.receiver import ReceiverService
from nvr.soap.recording import RecordingService
from tests.support.control import Controlled
from tests.support.device import a_device_service
from tests.support.events import Clocks, a_broker
from tests.support.official_schema import official_client, own_client, validate_response
from tests.support.soap_house import HOST, NAMESPACES, Reply, ZeepCalls, believing_security

CONCRETE = "http://docs.oasis-open.org/wsn/t-1/TopicExpression/Concrete"
CONCRETE_SET = "http://www.onvif.org/ver10/tev/topicExpression/ConcreteSet"
ITEM_FILTER = "http://www.onvif.org/ver10/tev/messageContentFilter/ItemFilter"
EVENT, MANAGER = EventService.path, SubscriptionService.path
PATHS = {
    "tev": EVENT,
    "wsnt": MANAGER,
    "trc": RecordingService.path,
    "trv": ReceiverService.path,
    "tds": DeviceService.path,
}


@dataclass
class Begun:
    """Deliveries that have only been begun."""

    begun: list[tuple[Subscription, Consumer, str]] = field(default_factory=list)

    def begin(self, subscription: Subscription, consumer: Consumer, reference: str) -> None:
        self.begun.append((subscription, consumer, reference))


class EventHouse:
    def __init__(self, **settings: int) -> None:
        self.clocks = Clocks()
        self.broker: Broker = a_broker(self.clocks, **settings)
        self.rooms = Controlled()
        self.deliveries = Begun()
        self.timelines: dict[TrackKey, Timeline] = {}
        self.changed: list[ReceiverToken] = []
        self.publisher = Publisher(
            self.broker, self.rooms.control, lambda k: self.timelines.get(k, Timeline()), self._changed,
            utc=self.clocks.utc,
        )  # fmt: skip
        self.rooms.state.watcher = self.publisher.changed
        self.publisher.start(())
        limits = self.rooms.settings
        services = [
            RecordingService(self.rooms.control, limits),
            ReceiverService(self.rooms.receivers, limits),
            EventService(self.broker, self.deliveries),
        ]
        device = a_device_service(services)
        self.soap = Soap([device, *services, SubscriptionService(self.broker)], believing_security())

    def _changed(self) -> list[ReceiverToken]:
        changed, self.changed = self.changed, []
        return changed

    async def send(
        self,
        body: str,
        uri: str | None = None,
        *,
        header: str = "",
        user: str | None = "user",
        peer: str = "192.0.2.9",
    ) -> EventReply:
        """The body element with our prefixes; without `uri` it goes to the service of its prefix."""
        declared = " ".join(f'xmlns:{p}="{n}"' for p, n in NAMESPACES.items())
        envelope = (
            f"<env:Envelope {declared}><env:Header>{header}</env:Header><env:Body>{body}</env:Body></env:Envelope>"
        )
        uri = uri or PATHS[body.lstrip("<").partition(":")[0]]
        status, xml = await self._exchange(uri, envelope.encode(), user, peer)
        return EventReply(status, validate_response(xml), xml)

    async def _exchange(
        self, uri: str, envelope: bytes, user: str | None, peer: str = "192.0.2.9"
    ) -> tuple[int, bytes]:
        request = Request(
            method="POST",
            uri=uri,
            content_type="application/soap+xml",
            authorization=None if user is None else f"Named {user}",
            origin=f"http://{HOST}",
            host=HOST.rpartition(":")[0],
            peer=peer,
            body=envelope,
        )
        answer = await self.soap.answer(urlsplit(uri).path, request)
        return answer.status, answer.body

    def zeep(self, binding: str, address: str = f"http://{HOST}{EVENT}", *, own: bool = False) -> ZeepCalls:
        """A client from the official event.wsdl, or our own."""
        loop = asyncio.get_running_loop()

        def post(to: str, message: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
            parts = urlsplit(to)
            exchange = self._exchange(parts._replace(scheme="", netloc="").geturl(), message, "user")
            return asyncio.run_coroutine_threadsafe(exchange, loop).result(10)

        make = own_client if own else official_client
        return ZeepCalls(make("event", address, post=post, binding=binding))

    async def pull_point(self, filter_: str = "", termination: str = "PT60S", **more: Any) -> str:
        """The path and query of a new pull point."""
        inner = f"<tev:Filter>{filter_}</tev:Filter>" if filter_ else ""
        inner += f"<tev:InitialTerminationTime>{termination}</tev:InitialTerminationTime>" if termination else ""
        made = await self.send(f"<tev:CreatePullPointSubscription>{inner}</tev:CreatePullPointSubscription>", **more)
        assert made.fault is None, made.xml.decode()
        return made.text("tev:SubscriptionReference/wsa:Address").removeprefix(f"http://{HOST}")

    async def pull(self, uri: str, limit: int = 100, timeout: str = "PT0S") -> list[Notification]:
        reply = await self.send(pull_messages(limit, timeout), uri)
        assert reply.fault is None, reply.xml.decode()
        return [Notification(e) for e in reply.all("wsnt:NotificationMessage")]

    async def next(self, uri: str, topic: str) -> Notification:
        """The next message of this topic; others are passed over."""
        for _ in range(40):
            for found in await self.pull(uri, 1, "PT5S"):
                if found.topic == f"tns1:{topic}":
                    return found
        raise AssertionError(f"nothing of {topic}")

    async def settled(self) -> None:
        """Returns when the publisher has told the states of all jobs that it knows to have changed."""
        for _ in range(1000):
            if not self.publisher._stale:
                return
            await asyncio.sleep(0)
        raise AssertionError("the publisher does not come to an end")


class EventReply(Reply):
    """With the header of the answer, and the detail of a fault."""

    @property
    def detail(self) -> etree._Element:
        found = self.element.find("env:Detail", NAMESPACES)
        assert found is not None, f"no Detail in {self.xml.decode()}"
        assert len(found) == 1
        return found[0]

    @property
    def detail_name(self) -> str:
        return str(etree.QName(self.detail).localname)

    def header(self, name: str) -> str | None:
        root = self.element.getroottree().getroot()
        found = root.findtext(f"env:Header/wsa:{name}", namespaces=NAMESPACES)
        return None if found is None else str(found)


@dataclass(frozen=True)
class Notification:
    """wsnt:NotificationMessage, looked into."""

    element: etree._Element

    @property
    def topic(self) -> str:
        found = self.element.find("wsnt:Topic", NAMESPACES)
        assert found is not None
        assert found.get("Dialect", "").endswith("/Concrete")
        assert found.nsmap["tns1"] == NAMESPACES["tns1"]
        return str(found.text)

    @property
    def message(self) -> etree._Element:
        (message,) = self.element.findall("wsnt:Message/tt:Message", NAMESPACES)
        return message

    @property
    def operation(self) -> str | None:
        return self.message.get("PropertyOperation")

    @property
    def time(self) -> str:
        return str(self.message.get("UtcTime"))

    def items(self, group: str) -> dict[str, str]:
        """Name to value of the simple items of Source or Data."""
        return {
            str(e.get("Name")): str(e.get("Value"))
            for e in self.message.findall(f"tt:{group}/tt:SimpleItem", NAMESPACES)
        }

    def element_item(self, name: str) -> etree._Element:
        """The one element inside an ElementItem of Data."""
        (item,) = [e for e in self.message.findall("tt:Data/tt:ElementItem", NAMESPACES) if e.get("Name") == name]
        (content,) = list(item)
        return content


def pull_messages(limit: int = 100, timeout: str = "PT0S") -> str:
    return (
        f"<tev:PullMessages><tev:Timeout>{timeout}</tev:Timeout>"
        f"<tev:MessageLimit>{limit}</tev:MessageLimit></tev:PullMessages>"
    )


def content_of(element: etree._Element) -> list[tuple[str, str, dict[str, str]]]:
    """What an element holds, whatever its own name: to compare an element item with the answer of a getter."""
    below = list(element.iter())[1:]
    return [(str(e.tag), (e.text or "").strip(), {str(k): str(v) for k, v in e.attrib.items()}) for e in below]


@contextlib.asynccontextmanager
async def an_event_house(**settings: int) -> AsyncIterator[EventHouse]:
    house = EventHouse(**settings)
    task = asyncio.create_task(house.publisher.run())
    try:
        yield house
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await house.rooms.control.stop()


def topic(expression: str, dialect: str = CONCRETE_SET) -> str:
    return f'<wsnt:TopicExpression Dialect="{dialect}">{expression}</wsnt:TopicExpression>'


def content(expression: str, dialect: str = ITEM_FILTER) -> str:
    return f'<wsnt:MessageContent Dialect="{dialect}">{expression}</wsnt:MessageContent>'


def create(inner: str = "") -> str:
    return f"<tev:CreatePullPointSubscription>{inner}</tev:CreatePullPointSubscription>"
