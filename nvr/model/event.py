"""Events and their topics (IEC 62676-2-32 clauses 5.25, 6.17, 10.7; ONVIF Core 9).

A topic is declared once, with the names and types of its items as they stand on the wire. An event carries native
values; the type that its topic declares says how each is written. The values of element items are the objects of this
room, such as `JobState`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import TypeAlias

from nvr.model import topics, xpath
from nvr.model.errors import FormatError
from nvr.model.job import JobState, RecordingJobConfiguration
from nvr.model.recording import RecordingConfiguration, TrackConfiguration
from nvr.model.time import UtcNs, format_iso, parse_iso

TOPIC_NAMESPACE = "http://www.onvif.org/ver10/topics"
"""Of root topics; by custom its prefix is tns1. Topics below a root are unqualified (Core 9.6.2)."""

SimpleValue: TypeAlias = str | bool | UtcNs
"""For xs:string and the tokens, xs:boolean, xs:dateTime."""
ElementValue: TypeAlias = JobState | RecordingConfiguration | TrackConfiguration | RecordingJobConfiguration
Value: TypeAlias = SimpleValue | ElementValue
PropertyKey: TypeAlias = tuple[str, tuple[Value, ...]]
"""Path of the topic and the values of the source items: what names one property."""


class PropertyOperation(StrEnum):
    """tt:PropertyOperation (Core 9.4.2)."""

    INITIALIZED = "Initialized"
    CHANGED = "Changed"
    DELETED = "Deleted"


@dataclass(frozen=True, slots=True)
class Item:
    """Description of a SimpleItem or, with `element`, of an ElementItem. `type` is a qualified name with the prefix tt
    or xs.
    """

    name: str
    type: str
    element: bool = False
    optional: bool = False
    """An event may go without it."""


@dataclass(frozen=True, slots=True)
class Topic:
    """What is told under a topic. `path` is without prefix: `RecordingConfig/JobState`."""

    path: str
    is_property: bool = False
    source: tuple[Item, ...] = ()
    data: tuple[Item, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.path.split("/"))

    @property
    def qualified(self) -> topics.Topic:
        root, *below = self.names
        return ((TOPIC_NAMESPACE, root), *(("", name) for name in below))


_RECORDING = Item("RecordingToken", "tt:RecordingReference")
_TRACK = Item("TrackToken", "tt:TrackReference")
_JOB = Item("RecordingJobToken", "tt:RecordingJobReference")
_RECEIVER = Item("ReceiverToken", "tt:ReferenceToken")
# tt:MediaUri, the type that the text prints, is complex and cannot stand in a SimpleItem: its URI is sent alone.
_MEDIA_URI = Item("MediaUri", "tt:MediaUri")

# 5.25
JOB_STATE = Topic(
    "RecordingConfig/JobState",
    True,
    (_JOB,),
    (Item("State", "xs:string"), Item("Information", "tt:RecordingJobStateInformation", element=True)),
)
RECORDING_CONFIGURATION = Topic(
    "RecordingConfig/RecordingConfiguration",
    source=(_RECORDING,),
    data=(Item("Configuration", "tt:RecordingConfiguration", element=True),),
)
TRACK_CONFIGURATION = Topic(
    "RecordingConfig/TrackConfiguration",
    source=(_RECORDING, _TRACK),
    data=(Item("Configuration", "tt:TrackConfiguration", element=True),),
)
RECORDING_JOB_CONFIGURATION = Topic(
    "RecordingConfig/RecordingJobConfiguration",
    source=(_JOB,),
    data=(Item("Configuration", "tt:RecordingJobConfiguration", element=True),),
)
DELETE_TRACK_DATA = Topic(
    "RecordingConfig/DeleteTrackData",
    source=(_RECORDING, _TRACK),
    data=(Item("StartTime", "xs:dateTime"), Item("EndTime", "xs:dateTime")),
)
CREATE_RECORDING = Topic("RecordingConfig/CreateRecording", source=(_RECORDING,))
DELETE_RECORDING = Topic("RecordingConfig/DeleteRecording", source=(_RECORDING,))
CREATE_TRACK = Topic("RecordingConfig/CreateTrack", source=(_RECORDING, _TRACK))
DELETE_TRACK = Topic("RecordingConfig/DeleteTrack", source=(_RECORDING, _TRACK))

# 6.17. VideoParameters and AudioParameters may be left out, and are: VideoEncoding has no word for H.265, and nobody
# tells a recorder the values of VideoRateControl.
RECORDING_STATE = Topic(
    "RecordingHistory/Recording/State",
    True,
    (Item("RecordingToken", "tt:ReferenceToken"),),
    (Item("IsRecording", "xs:boolean"),),
)
TRACK_STATE = Topic(
    "RecordingHistory/Track/State",
    True,
    (Item("RecordingToken", "tt:ReferenceToken"), Item("Track", "tt:ReferenceToken")),
    (Item("IsDataPresent", "xs:boolean"),),
)

# 10.7
CHANGE_STATE = Topic(
    "Receiver/ChangeState",
    source=(_RECEIVER,),
    data=(Item("NewState", "tt:ReceiverState"), Item("MediaUri", "tt:MediaUri", optional=True)),
)
CONNECTION_FAILED = Topic("Receiver/ConnectionFailed", source=(_RECEIVER,), data=(_MEDIA_URI,))

# ONVIF Core 8.8.4. The token is the id of a volume; what kind of fault it has stands in /healthz, metrics and log.
STORAGE_FAILURE = Topic(
    "Device/HardwareFailure/StorageFailure",
    True,
    (Item("Token", "tt:ReferenceToken"),),
    (Item("Failed", "xs:boolean"),),
)

TOPICS: tuple[Topic, ...] = (
    JOB_STATE,
    RECORDING_CONFIGURATION,
    TRACK_CONFIGURATION,
    RECORDING_JOB_CONFIGURATION,
    DELETE_TRACK_DATA,
    CREATE_RECORDING,
    DELETE_RECORDING,
    CREATE_TRACK,
    DELETE_TRACK,
    RECORDING_STATE,
    TRACK_STATE,
    CHANGE_STATE,
    CONNECTION_FAILED,
    STORAGE_FAILURE,
)
"""Everything that this device tells, and nothing else."""


@dataclass(frozen=True, slots=True)
class Event:
    """What has happened at `utc_ns`. `operation` is set for the topics that are properties, and for no others.

    Raises ValueError for items that the topic does not declare, or lacks; the data of a Deleted may be left out.
    """

    topic: Topic
    utc_ns: UtcNs
    source: Mapping[str, Value] = field(default_factory=dict)
    data: Mapping[str, Value] = field(default_factory=dict)
    operation: PropertyOperation | None = None

    def __post_init__(self) -> None:
        if self.topic.is_property != (self.operation is not None):
            raise ValueError(f"{self.topic.path} and the property operation {self.operation} do not go together")
        _check(self.topic, self.topic.source, self.source)
        if self.data or self.operation is not PropertyOperation.DELETED:
            _check(self.topic, self.topic.data, self.data)

    @property
    def key(self) -> PropertyKey:
        return self.topic.path, tuple(self.source[item.name] for item in self.topic.source)


def _check(topic: Topic, declared: tuple[Item, ...], given: Mapping[str, Value]) -> None:
    known = {item.name for item in declared}
    needed = {item.name for item in declared if not item.optional}
    if not needed <= given.keys() <= known:
        raise ValueError(f"{topic.path} has the items {', '.join(sorted(known))}, not {', '.join(sorted(given))}")


def simple_text(item: Item, value: Value) -> str:
    """The lexical form of a simple item. Raises ValueError for a value that its type does not have."""
    if item.type == "xs:boolean" and isinstance(value, bool):
        return "true" if value else "false"
    if item.type == "xs:dateTime" and isinstance(value, int) and not isinstance(value, bool):
        return format_iso(value)
    if isinstance(value, str):
        return str(value)
    raise ValueError(f"{value!r} is no value of {item.name}, {item.type}")


def document(event: Event) -> xpath.Node:
    """tt:Message as content filters see it. Element items are there by name, without their content: the dialect tests
    items, not what is inside them.
    """
    groups = []
    for name, declared, values in (
        ("Source", event.topic.source, event.source),
        ("Data", event.topic.data, event.data),
    ):
        groups.append(xpath.Node(name, children=tuple(_node(i, values[i.name]) for i in declared if i.name in values)))
    return message_node(event.utc_ns, event.operation, groups)


def message_node(utc_ns: UtcNs, operation: str | None, groups: Iterable[xpath.Node]) -> xpath.Node:
    """tt:Message around its groups of items."""
    attributes = {"UtcTime": format_iso(utc_ns)}
    if operation is not None:
        attributes["PropertyOperation"] = operation
    return xpath.Node("Message", attributes=attributes, children=tuple(groups))


def _node(item: Item, value: Value) -> xpath.Node:
    if item.element:
        return xpath.Node("ElementItem", attributes={"Name": item.name})
    return xpath.Node("SimpleItem", attributes={"Name": item.name, "Value": simple_text(item, value)})


@lru_cache(maxsize=1024)
def wanted_item(expression: xpath.Expression) -> tuple[str, str] | None:
    """Name and value, where the expression is `boolean(//SimpleItem[@Name="..." and @Value="..."])`, as almost all are:
    250 clients that each wait for another token would otherwise hold the loop for 7 ms at every event.
    """
    match expression:
        case xpath.Path(
            steps=(
                xpath.Step(
                    name="SimpleItem",
                    anywhere=True,
                    attribute=False,
                    predicates=(
                        xpath.And(
                            terms=(
                                xpath.Comparison(path=name_path, operator="=", literal=str(name)),
                                xpath.Comparison(path=value_path, operator="=", literal=str(value)),
                            )
                        ),
                    ),
                ),
            ),
            absolute=True,
        ) if (name_path, value_path) == (_NAME, _VALUE) and not (_is_instant(name) or _is_instant(value)):
            return name, value
    return None


_NAME, _VALUE = (xpath.Path((xpath.Step(name, attribute=True),)) for name in ("Name", "Value"))


def _is_instant(text: str) -> bool:
    """Instants compare by what they mean, not by their text."""
    try:
        parse_iso(text)
    except FormatError:
        return False
    return True
