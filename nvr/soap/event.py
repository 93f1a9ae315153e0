"""The event service and the manager of its subscriptions (ONVIF Core 9, event.wsdl).

Each subscription has an address of its own: that of the manager with a token that is not to be guessed in its query.
Clients that post to the manager's bare address and name the subscription in wsa:To are served too.
"""

from __future__ import annotations

from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from nvr.events.broker import Broker
from nvr.events.delivery import Consumer, check_consumer
from nvr.events.errors import MultipleTopics, NoCurrentMessage, UnknownSubscription
from nvr.events.filters import ITEM_FILTER
from nvr.events.subscription import Subscription
from nvr.events.topics import CONCRETE, CONCRETE_SET, FULL, parse
from nvr.model.errors import FormatError
from nvr.model.event import TOPICS
from nvr.soap import event_wire as wire
from nvr.soap.faults import invalid_args
from nvr.soap.model import (
    AnyURI,
    Boolean,
    Duration,
    Int,
    String,
    Struct,
    UtcTime,
    attribute,
    many,
    optional,
    required,
)
from nvr.soap.names import TEV, WSNT, WSTOP
from nvr.soap.service import AccessClass, Call, Result, Service, operation

TOPIC_NAMESPACE_LOCATION = "http://www.onvif.org/onvif/ver10/topics/topicns.xml"
MESSAGE_SCHEMA_LOCATION = "http://www.onvif.org/onvif/ver10/schema/onvif.xsd"
MANAGER_PATH = "/onvif/subscription_service"

_PORT = f"{TEV}/EventPortType"
_PULL_POINT = f"{TEV}/PullPointSubscription"
_PRODUCER = "http://docs.oasis-open.org/wsn/bw-2/NotificationProducer"
_MANAGER = "http://docs.oasis-open.org/wsn/bw-2/SubscriptionManager"


class Starter(Protocol):
    """Begins the delivery to a consumer (`nvr.events.delivery`)."""

    def begin(self, subscription: Subscription, consumer: Consumer, reference: str) -> None: ...


class Capabilities(Struct):
    __namespace__ = TEV
    __open__ = True

    WSSubscriptionPolicySupport = attribute(Boolean)
    WSPullPointSupport = attribute(Boolean)
    WSPausableSubscriptionManagerInterfaceSupport = attribute(Boolean)
    MaxNotificationProducers = attribute(Int)
    MaxPullPoints = attribute(Int)
    PersistentNotificationStorage = attribute(Boolean)


class EventService(Service):
    """Where subscriptions are made."""

    namespace = TEV
    path = "/onvif/event_service"
    contract = "event.wsdl"

    def __init__(self, broker: Broker, deliveries: Starter) -> None:
        self._broker = broker
        self._deliveries = deliveries
        self._topic_set = wire.encode_topic_set()

    def capabilities(self) -> Capabilities:
        """The policies of WS-BaseNotification are not supported; the pull point is that of ONVIF Core 9.1."""
        return Capabilities(
            WSSubscriptionPolicySupport=False,
            WSPullPointSupport=True,
            WSPausableSubscriptionManagerInterfaceSupport=False,
            MaxNotificationProducers=self._broker.settings.consumers,
            MaxPullPoints=self._broker.settings.pull_points,
            PersistentNotificationStorage=False,
        )

    @operation(
        "GetServiceCapabilities",
        AccessClass.PRE_AUTH,
        response={"Capabilities": required(Capabilities)},
        action=f"{_PORT}/GetServiceCapabilities",
    )
    def get_service_capabilities(self, _: Call) -> Result:
        return {"Capabilities": self.capabilities()}

    @operation(
        "GetEventProperties",
        AccessClass.READ_MEDIA,
        response={
            "TopicNamespaceLocation": many(AnyURI, at_least=1),
            "FixedTopicSet": required(Boolean, namespace=WSNT),
            "TopicSet": required(wire.TopicSet, namespace=WSTOP),
            "TopicExpressionDialect": many(AnyURI, at_least=1, namespace=WSNT),
            "MessageContentFilterDialect": many(AnyURI, at_least=1),
            "ProducerPropertiesFilterDialect": many(AnyURI),
            "MessageContentSchemaLocation": many(AnyURI, at_least=1),
        },
        action=f"{_PORT}/GetEventProperties",
    )
    def get_event_properties(self, _: Call) -> Result:
        return {
            "TopicNamespaceLocation": [TOPIC_NAMESPACE_LOCATION],
            "FixedTopicSet": True,
            "TopicSet": self._topic_set,
            "TopicExpressionDialect": [CONCRETE, CONCRETE_SET, FULL],
            "MessageContentFilterDialect": [ITEM_FILTER],
            "MessageContentSchemaLocation": [MESSAGE_SCHEMA_LOCATION],
        }

    @operation(
        "CreatePullPointSubscription",
        AccessClass.READ_MEDIA,
        request={
            "Filter": optional(wire.FilterType),
            "InitialTerminationTime": optional(String, nillable=True),
            "SubscriptionPolicy": optional(wire.SubscriptionPolicy),
        },
        response={
            "SubscriptionReference": required(wire.EndpointReference),
            "CurrentTime": required(UtcTime, namespace=WSNT),
            "TerminationTime": required(UtcTime, namespace=WSNT),
        },
        action=f"{_PORT}/CreatePullPointSubscription",
        open_request=True,
    )
    def create_pull_point_subscription(self, call: Call) -> Result:
        return self._made(call, self._subscribe(call, pushed=False))

    @operation(
        "Subscribe",
        AccessClass.READ_MEDIA,
        request={
            "ConsumerReference": required(wire.EndpointReference),
            "Filter": optional(wire.FilterType),
            "InitialTerminationTime": optional(String, nillable=True),
            "SubscriptionPolicy": optional(wire.SubscriptionPolicy),
        },
        response={
            "SubscriptionReference": required(wire.EndpointReference),
            "CurrentTime": optional(UtcTime),
            "TerminationTime": optional(UtcTime),
        },
        namespace=WSNT,
        action=f"{_PRODUCER}/Subscribe",
        open_request=True,
    )
    def subscribe(self, call: Call) -> Result:
        asked = call.request.ConsumerReference
        parameters = () if asked.ReferenceParameters is None else asked.ReferenceParameters.any_elements
        consumer = Consumer(check_consumer(asked.Address, call.peer), wire.header_blocks(parameters))
        subscription = self._subscribe(call, pushed=True)
        self._deliveries.begin(subscription, consumer, _address(call, subscription))
        return self._made(call, subscription)

    @operation(
        "GetCurrentMessage",
        AccessClass.READ_MEDIA,
        namespace=WSNT,
        action=f"{_PRODUCER}/GetCurrentMessage",
        open_request=True,
    )
    def get_current_message(self, call: Call) -> Result:
        """Messages are not kept: a new subscription, or SetSynchronizationPoint, tells the states of properties.

        The topic is read from its element, since its prefixes mean what is declared there.
        """
        elements = [e for e in call.request.any_elements if e.tag.startswith(f"{{{WSNT}}}")]
        if [e.tag for e in elements] != [f"{{{WSNT}}}Topic"] or elements != list(call.request.any_elements[:1]):
            raise invalid_args("GetCurrentMessage does not begin with its one Topic")
        (topic,) = elements
        expression = parse("".join(topic.itertext()), topic.get("Dialect", ""), topic.nsmap, TOPICS)
        if sum(expression.matches(known) for known in TOPICS) > 1:
            raise MultipleTopics("the expression matches several topics")
        raise NoCurrentMessage("messages are not kept: subscribe to the topic, which tells its states")

    def _subscribe(self, call: Call, *, pushed: bool) -> Subscription:
        asked = call.request
        return self._broker.subscribe(
            wire.decode_filter(asked.Filter),
            wire.decode_termination(asked.InitialTerminationTime),
            changed_only=wire.decode_policy(asked.SubscriptionPolicy),
            owner=f"{call.caller.name} at {call.peer}",
            account=call.caller.name,
            pushed=pushed,
        )

    def _made(self, call: Call, subscription: Subscription) -> Result:
        lease = self._broker.lease(subscription)
        return {
            "SubscriptionReference": wire.EndpointReference(Address=_address(call, subscription)),
            "CurrentTime": lease.current_ns,
            "TerminationTime": lease.termination_ns,
        }


class SubscriptionService(Service):
    """Where subscriptions are pulled, renewed and ended."""

    namespace = TEV
    path = MANAGER_PATH
    contract = "event.wsdl"
    not_implemented = frozenset({"Seek"})

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def capabilities(self) -> Struct:
        """It is no service of its own: nobody asks."""
        raise NotImplementedError("the capabilities are those of the event service")

    @operation(
        "PullMessages",
        AccessClass.READ_MEDIA,
        request={"Timeout": required(Duration), "MessageLimit": required(Int)},
        response={
            "CurrentTime": required(UtcTime),
            "TerminationTime": required(UtcTime),
            "NotificationMessage": many(wire.NotificationMessage, namespace=WSNT),
        },
        action=f"{_PULL_POINT}/PullMessages",
        open_request=True,
    )
    async def pull_messages(self, call: Call) -> Result:
        asked = call.request
        if asked.Timeout < 0:
            raise FormatError("Timeout must not be negative")
        if asked.MessageLimit < 1:
            raise FormatError("MessageLimit must be at least 1")
        lease, events = await self._broker.pull(_token(call), asked.Timeout, asked.MessageLimit)
        return {
            "CurrentTime": lease.current_ns,
            "TerminationTime": lease.termination_ns,
            "NotificationMessage": (wire.encode_notification(event) for event in events),
        }

    @operation("SetSynchronizationPoint", AccessClass.READ_MEDIA, action=f"{_PULL_POINT}/SetSynchronizationPoint")
    def set_synchronization_point(self, call: Call) -> None:
        self._broker.synchronize(_token(call))

    @operation(
        "Renew",
        AccessClass.READ_MEDIA,
        request={"TerminationTime": required(String, nillable=True)},
        response={"TerminationTime": required(UtcTime), "CurrentTime": optional(UtcTime)},
        namespace=WSNT,
        action=f"{_MANAGER}/Renew",
        open_request=True,
    )
    def renew(self, call: Call) -> Result:
        lease = self._broker.renew(_token(call), wire.decode_termination(call.request.TerminationTime))
        return {"TerminationTime": lease.termination_ns, "CurrentTime": lease.current_ns}

    @operation(
        "Unsubscribe", AccessClass.READ_MEDIA, namespace=WSNT, action=f"{_MANAGER}/Unsubscribe", open_request=True
    )
    def unsubscribe(self, call: Call) -> None:
        self._broker.unsubscribe(_token(call))


def _address(call: Call, subscription: Subscription) -> str:
    return f"{call.origin}{MANAGER_PATH}?id={subscription.token}"


def _token(call: Call) -> str:
    """The subscription that is meant. Raises UnknownSubscription."""
    for address in (call.uri, call.addressing.to or ""):
        try:
            found = parse_qs(urlsplit(address).query).get("id")
        except ValueError:
            continue
        if found:
            return found[0]
    raise UnknownSubscription
