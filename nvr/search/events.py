"""FindEvents: the history of recordings and the events of their cameras, merged in the order of time (6.9).

Nothing is held but where the search stands: the next event of each recording's history is worked out from the runs as
they are when its turn comes, and camera events are read page by page. So footage that comes while the search runs is
found as long as the search has not passed it, and what is deleted meanwhile is not.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator, Sequence

from nvr.model import event as wire_events
from nvr.model import recorded, xpath
from nvr.model.event import RECORDING_STATE, TRACK_STATE, Event, PropertyOperation, Topic, wanted_item
from nvr.model.recorded import CameraEvent
from nvr.model.search import LAST_NS, EventFilter, FoundEvent, SearchInterval
from nvr.model.time import UtcNs
from nvr.model.tokens import RecordingToken
from nvr.search.archive import Archive, Walk
from nvr.search.chosen import ChosenRecordings
from nvr.search.edge import LiveEdge
from nvr.search.history import BEFORE_ALL, BEHIND_ALL, CAMERA_EVENT, History, Key
from nvr.search.shares import Share
from nvr.search.steps import SteppedSearch
from nvr.storage.event_rows import OTHER_TOPICS, EventRow, Place, Stream

FEW_MESSAGES = 64
"""Where so few messages have the item that the filter asks for, their events are sought, not those of all streams."""
ASTRAY = 1_000
"""So many events outside the scope may be come upon that way, beyond as many as inside it; then the streams are walked
after all. They take some ten milliseconds."""
_JUDGED = 10_000
"""Messages whose judgement by the content filter is remembered; most cameras send a few dozen different ones."""


class EventSearch(SteppedSearch[FoundEvent]):
    """With `start_state` virtual events tell the state of every property at the start, and backward at the end too."""

    def __init__(
        self,
        chosen: ChosenRecordings,
        share: Share,
        interval: SearchInterval,
        wanted: EventFilter,
        archive: Archive,
        now: Callable[[], UtcNs],
        edge: LiveEdge,
        *,
        start_state: bool = False,
    ) -> None:
        self._filter = wanted
        self._archive = archive
        self._start_state = start_state
        items = [item for e in wanted.contents if (item := wanted_item(e)) is not None]
        self._item = items[0] if items else None
        """A simple item that every match has, where the filter says so."""
        names = {name for name, _ in items}
        self._of_recording = wanted.wants(RECORDING_STATE.qualified) and names <= _names(RECORDING_STATE)
        self._of_tracks = wanted.wants(TRACK_STATE.qualified) and names <= _names(TRACK_STATE)
        self._walk: Walk[EventRow] | None = None
        self._by_message = False
        self._astray = 0
        """Events come upon by their messages that are outside the scope, less those inside it."""
        self._newest_stream = -1
        """The highest number of a stream that has been looked at."""
        self._streams: dict[int, Stream] = {}
        self._position: Key = (interval.start_ns, BEHIND_ALL if interval.backward else BEFORE_ALL, ())
        self._judged: dict[tuple[int, int], bool] = {}
        self._stretches: dict[object, UtcNs] = {}
        """Of the recordings and tracks that the search is in the midst of a stretch of: where it ends."""
        super().__init__(chosen, share, interval, now, edge)

    def endpoint(self) -> UtcNs:
        self._reached_ns = self._position[0]
        return super().endpoint()

    @property
    def held(self) -> int:
        walk = self._walk.held if self._walk is not None else 0
        return super().held + len(self._streams) + len(self._judged) + walk

    def let_go(self) -> None:
        super().let_go()
        self._walk = None
        self._streams = {}
        self._judged = {}

    def _begin_step(self) -> None:
        self._include_streams().look_again(self._place)

    def _all(self) -> Iterator[FoundEvent | None]:
        """Every match in order, None for each look without one."""
        if self._start_state:
            while self._stands_at(self._interval.start_ns):
                yield None
            yield from self._states(self._interval.start_ns)
        yield from self._stored()
        if self._start_state and self._backward:
            yield from self._states(self._interval.earliest_ns)

    def _stored(self) -> Iterator[FoundEvent | None]:
        while True:
            heads: list[tuple[Key, RecordingToken]] = []
            for history in self._histories():
                self._push(heads, history, self._position)
            if not heads and self._camera is None:
                if not self._stands_at(None):
                    return
                yield None
                continue
            yield from self._merged(heads)
            # Once more: what has come meanwhile, behind where the search stands now.

    def _merged(self, heads: list[tuple[Key, RecordingToken]]) -> Iterator[FoundEvent | None]:
        while True:
            row = self._camera
            camera: Key | None = None if row is None else (row.time_ns, CAMERA_EVENT, (row.file, row.place))
            key, recording = heads[-1 if self._backward else 0] if heads else (None, None)
            following = [k[0] for k in (key, camera) if k is not None]
            if following and self._stands_at(min(following)):
                yield None
                return  # the history may have got another next event meanwhile
            if key is not None and recording is not None and (camera is None or self._is_first(key, camera)):
                heads.pop(-1 if self._backward else 0)
                history = self._history(recording)
                if history is None:
                    continue
                before_ns = self._position[0]
                self._position = (min(key[0], before_ns), *key[1:]) if self._backward else key
                changed = self._change(history, key, before_ns)
                if changed is not None:
                    yield self._judge(changed)
                self._push(heads, history, self._moved(history, key))
            elif row is not None and camera is not None:
                assert self._walk is not None
                self._walk.take()
                self._position = camera
                yield self._camera_event(row)
                if self._by_message and self._astray > ASTRAY:
                    self._walk = None
                    self._include_streams()
            else:
                return

    @property
    def _camera(self) -> EventRow | None:
        """The next event of a camera."""
        row = self._walk.peek() if self._walk is not None else None
        return None if row is None or self._is_too_late(row.time_ns) else row

    def _is_too_late(self, time_ns: UtcNs) -> bool:
        return not self._backward and time_ns > self._latest_ns

    def _is_first(self, one: Key, other: Key) -> bool:
        return one > other if self._backward else one < other

    @property
    def _place(self) -> Place | None:
        """Behind which camera events are still to be found."""
        time_ns, rank, rest = self._position
        if rank == CAMERA_EVENT:
            return Place(time_ns, *(int(n) for n in rest))
        after_cameras = rank > CAMERA_EVENT
        return Place(time_ns, *((_MOST, _MOST) if after_cameras else (-1, -1)))

    # History

    def _histories(self) -> Iterator[History]:
        for token in self._chosen.tokens:
            history = self._history(token)
            if history is not None:
                yield history

    def _history(self, token: RecordingToken) -> History | None:
        tracks = self._chosen.coverages.get(token)
        if tracks is None or not (self._of_recording or self._of_tracks):
            return None
        return History(token, tracks, self._of_recording, self._of_tracks)

    def _push(self, heads: list[tuple[Key, RecordingToken]], history: History, from_key: Key) -> None:
        key = history.before(from_key) if self._backward else history.behind(from_key)
        if key is not None and self._interval.holds(key[0]) and not self._is_too_late(key[0]):
            insort(heads, (key, history.recording))

    def _change(self, history: History, key: Key, before_ns: UtcNs) -> FoundEvent | None:
        """The event with this key; None where it has been deleted since it was looked at.

        Under a retention time the first stretch begins later with every look: forward that is not told anew, backward
        not lost, and not told behind what was told before.
        """
        what, known = key[2], self._stretches
        if not self._backward:
            if not history.has(key):
                return None
            if not history.begins(key):
                known.pop(what, None)
            elif key[0] <= known.get(what, -LAST_NS):
                return None
            else:
                stretch = history.stretch_from(key)
                known[what] = stretch[1] if stretch is not None else key[0]
            return history.event(key)
        if not history.begins(key):
            if not history.has(key):
                return None
            known[what] = key[0]
            return history.event(key)
        ended_ns = known.pop(what, self._interval.start_ns)
        stretch = history.stretch_from(key)
        if stretch is None or stretch[0] > ended_ns:
            return None
        return history.event((min(stretch[0], before_ns), *key[1:]))

    def _moved(self, history: History, key: Key) -> Key:
        """Where a beginning stands now that retention has moved on: backward, others of that instant follow it."""
        stretch = history.stretch_from(key) if self._backward and history.begins(key) else None
        return key if stretch is None else (stretch[0], *key[1:])

    # Events of cameras

    def _include_streams(self) -> Walk[EventRow]:
        """Takes in the streams, or the few messages, that have come up since."""
        self._look_for_streams()
        messages = None
        if self._item is not None and self._astray <= ASTRAY:
            messages = self._archive.messages_with(*self._item, FEW_MESSAGES)
        if self._walk is None or (self._by_message and messages is None):  # they may have become many
            self._by_message = messages is not None
            self._walk = self._walk_over(self._by_message)
        self._walk.include(self._streams if messages is None or not self._by_message else messages, self._place)
        return self._walk

    def _look_for_streams(self) -> None:
        for stream in self._archive.streams():
            self._newest_stream = max(self._newest_stream, stream.id)
            is_new = stream.id not in self._streams and stream.key.recording in self._chosen.coverages
            if is_new and (stream.topic == OTHER_TOPICS or self._filter.wants(stream.topic)):
                self._streams[stream.id] = stream

    def _walk_over(self, messages: bool) -> Walk[EventRow]:
        def fetch(numbers: Sequence[int], after: Place | None, each: int) -> list[EventRow]:
            return self._archive.events(numbers, self._interval, after, each, messages)

        return Walk(fetch, lambda row: row.message if messages else row.stream, self._backward)

    def _camera_event(self, row: EventRow) -> FoundEvent | None:
        if row.stream > self._newest_stream:
            self._look_for_streams()  # it has come up within this step
        stream = self._streams.get(row.stream)
        if self._by_message:
            self._astray += 1 if stream is None else -1
        if stream is None or self._coverage(stream.key).stretch_at(row.time_ns) is None:
            return None  # it is of another recording or topic, or its footage has gone
        message = self._archive.message(row.message)
        if message is None or (stream.topic == OTHER_TOPICS and not self._filter.wants(message.topic)):
            return None
        found = FoundEvent(stream.key.recording, stream.key.track, row.time_ns, CameraEvent(message, row.utc_ns))
        return self._judge(found, row.message)

    # Filters

    def _judge(self, found: FoundEvent, message: int | None = None) -> FoundEvent | None:
        """The event where its content passes. What the filter says of a message is remembered, unless it asks for the
        time."""
        document: xpath.Node | None = None
        for number, expression in enumerate(self._filter.contents):
            known = None if message is None else self._judged.get((number, message))
            if known is None:
                if document is None:
                    event = found.event
                    document = wire_events.document(event) if isinstance(event, Event) else recorded.document(event)
                known = xpath.matches(expression, document)
                if message is not None and not xpath.mentions(expression, "UtcTime"):
                    if len(self._judged) >= _JUDGED:
                        self._judged.clear()
                    self._judged[number, message] = known
            if not known:
                return None
        return found

    # Virtual events

    def _states(self, at_ns: UtcNs) -> Iterator[FoundEvent | None]:
        """The state of every property at an instant, recording after recording (6.2.2)."""
        properties: dict[RecordingToken, list[Stream]] = {}
        for stream in self._streams.values():
            if stream.is_property:
                properties.setdefault(stream.key.recording, []).append(stream)
        for token in self._chosen.tokens:
            history = self._history(token)
            if history is not None:
                yield from map(self._judge, history.states(at_ns))
            yield from self._camera_states(properties.get(token, ()), at_ns)

    def _camera_states(self, streams: Sequence[Stream], at_ns: UtcNs) -> Iterator[FoundEvent | None]:
        """What a camera has told last of each property. It is known only as long as the camera could tell: since the
        beginning of the stretch in which the instant lies.
        """
        by_id = {stream.id: stream for stream in streams if self._coverage(stream.key).has_data_at(at_ns)}
        for row in sorted(self._archive.last_events(sorted(by_id), at_ns)) if by_id else ():
            stream = by_id[row.stream]
            stretch = self._coverage(stream.key).stretch_at(at_ns)
            message = self._archive.message(row.message)
            if stretch is None or row.time_ns < stretch[0] or message is None:
                continue
            if message.operation in (None, PropertyOperation.DELETED):
                continue
            state = recorded.initialized(message)
            found = FoundEvent(stream.key.recording, stream.key.track, at_ns, CameraEvent(state, at_ns), True)
            yield self._judge(found)


def _names(topic: Topic) -> set[str]:
    return {item.name for item in (*topic.source, *topic.data)}


_MOST = (1 << 63) - 1
"""Behind all files and places."""
