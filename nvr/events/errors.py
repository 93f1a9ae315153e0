"""Why the event service refuses. Each class is a fault of WS-BaseNotification or WS-ResourceFramework of the same name;
`nvr.soap.event_faults` writes them.
"""

from __future__ import annotations

from nvr.model.errors import Refused
from nvr.model.time import UtcNs


class EventRefused(Refused):
    """Root of the refusals of this room."""


class UnknownSubscription(EventRefused):
    """ResourceUnknownFault: the subscription has never been, has ended, or was ended by its client."""

    def __init__(self) -> None:
        super().__init__("the subscription does not exist or has ended")


class UnknownFilter(EventRefused):
    """InvalidFilterFault: `names` are the elements of the filter that nobody knows, in Clark notation."""

    def __init__(self, *names: str) -> None:
        super().__init__(f"the filter holds {len(names)} elements that are unknown")
        self.names = names


class UnknownTopicDialect(EventRefused):
    """TopicExpressionDialectUnknownFault."""


class BadTopicExpression(EventRefused):
    """InvalidTopicExpressionFault."""


class TopicNotSupported(EventRefused):
    """TopicNotSupportedFault: the expression is right, and no topic of the device matches it."""


class MultipleTopics(EventRefused):
    """MultipleTopicsSpecifiedFault: one topic was to be named, and several match."""


class NoCurrentMessage(EventRefused):
    """NoCurrentMessageOnTopicFault: messages are not kept once they have been told."""


class BadProducerProperties(EventRefused):
    """InvalidProducerPropertiesExpressionFault."""


class BadContentExpression(EventRefused):
    """InvalidMessageContentExpressionFault."""


class UnacceptableInitialTermination(EventRefused):
    """UnacceptableInitialTerminationTimeFault: what would be accepted lies between the two instants."""

    def __init__(self, minimum_ns: UtcNs, maximum_ns: UtcNs) -> None:
        super().__init__("the termination time is too early or too late")
        self.minimum_ns = minimum_ns
        self.maximum_ns = maximum_ns


class UnacceptableTermination(UnacceptableInitialTermination):
    """UnacceptableTerminationTimeFault: the same for Renew."""


class UnrecognizedPolicy(EventRefused):
    """UnrecognizedPolicyRequestFault: `names` as in UnknownFilter."""

    def __init__(self, *names: str) -> None:
        super().__init__("the subscription policy is unknown")
        self.names = names


class UnsupportedPolicy(EventRefused):
    """UnsupportedPolicyRequestFault: `names` as in UnknownFilter."""

    def __init__(self, *names: str) -> None:
        super().__init__("the subscription policy is not supported")
        self.names = names


class SubscriptionFailed(EventRefused):
    """SubscribeCreationFailedFault: too many subscriptions, or a consumer that is not acceptable."""


class UnableToGetMessages(EventRefused):
    """UnableToGetMessagesFault: another request already waits for the messages of this pull point."""

    def __init__(self) -> None:
        super().__init__("another request waits for the messages of this pull point")


class PullTooLong(EventRefused):
    """PullMessagesFaultResponse: the timeout is longer than the device holds a request (Core 9.1.2)."""

    def __init__(self, longest_ns: int, most_messages: int) -> None:
        super().__init__("the timeout of the request is too long")
        self.longest_ns = longest_ns
        self.most_messages = most_messages
