"""The faults of WS-BaseNotification 1.3, WS-ResourceFramework 1.2 and ONVIF Core 9 as the detail of a SOAP fault."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from nvr.events import errors
from nvr.model.time import UtcNs
from nvr.soap.names import TEV, WSNT
from nvr.soap.values import format_duration, format_time

WSRF_BF = "http://docs.oasis-open.org/wsrf/bf-2"
WSRF_R = "http://docs.oasis-open.org/wsrf/r-2"

_NAMES: dict[type[errors.EventRefused], tuple[str, str]] = {
    errors.UnknownSubscription: (WSRF_R, "ResourceUnknownFault"),
    errors.UnknownFilter: (WSNT, "InvalidFilterFault"),
    errors.UnknownTopicDialect: (WSNT, "TopicExpressionDialectUnknownFault"),
    errors.BadTopicExpression: (WSNT, "InvalidTopicExpressionFault"),
    errors.TopicNotSupported: (WSNT, "TopicNotSupportedFault"),
    errors.MultipleTopics: (WSNT, "MultipleTopicsSpecifiedFault"),
    errors.NoCurrentMessage: (WSNT, "NoCurrentMessageOnTopicFault"),
    errors.BadProducerProperties: (WSNT, "InvalidProducerPropertiesExpressionFault"),
    errors.BadContentExpression: (WSNT, "InvalidMessageContentExpressionFault"),
    errors.UnacceptableInitialTermination: (WSNT, "UnacceptableInitialTerminationTimeFault"),
    errors.UnacceptableTermination: (WSNT, "UnacceptableTerminationTimeFault"),
    errors.UnrecognizedPolicy: (WSNT, "UnrecognizedPolicyRequestFault"),
    errors.UnsupportedPolicy: (WSNT, "UnsupportedPolicyRequestFault"),
    errors.SubscriptionFailed: (WSNT, "SubscribeCreationFailedFault"),
    errors.UnableToGetMessages: (WSNT, "UnableToGetMessagesFault"),
}
_QUALIFIED = {"InvalidFilterFault": "UnknownFilter"}
_QUALIFIED |= {f"{kind}PolicyRequestFault": f"{kind}Policy" for kind in ("Unrecognized", "Unsupported")}


def event_detail(error: errors.EventRefused, now_ns: UtcNs) -> str:
    """The element of the fault, with its declarations. Raises KeyError for a refusal that has no fault."""
    if isinstance(error, errors.PullTooLong):
        return (
            f'<tev:PullMessagesFaultResponse xmlns:tev="{TEV}">'
            f"<tev:MaxTimeout>{format_duration(error.longest_ns)}</tev:MaxTimeout>"
            f"<tev:MaxMessageLimit>{error.most_messages}</tev:MaxMessageLimit></tev:PullMessagesFaultResponse>"
        )
    namespace, name = _NAMES[type(error)]
    more = ""
    if isinstance(error, errors.UnacceptableInitialTermination):
        more = (
            f"<f:MinimumTime>{format_time(error.minimum_ns)}</f:MinimumTime>"
            f"<f:MaximumTime>{format_time(error.maximum_ns)}</f:MaximumTime>"
        )
    elif isinstance(error, errors.UnknownFilter | errors.UnrecognizedPolicy | errors.UnsupportedPolicy):
        for clark in error.names:
            home, _, local = clark[1:].rpartition("}")
            child = _QUALIFIED[name]
            more += f"<f:{child} xmlns:q={quoteattr(home)}>q:{escape(local)}</f:{child}>"
    return (
        f'<f:{name} xmlns:f="{namespace}" xmlns:bf="{WSRF_BF}">'
        f"<bf:Timestamp>{format_time(now_ns)}</bf:Timestamp>"
        f'<bf:Description xml:lang="en">{escape(str(error))}</bf:Description>{more}</f:{name}>'
    )
