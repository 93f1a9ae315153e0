"""What is added to the index of camera events: one transaction for what was read of a file."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

from nvr.media.onvif_metadata import ANY_WORD
from nvr.model.errors import StorageError
from nvr.model.ptz import PtzVector
from nvr.model.recorded import RecordedMessage
from nvr.model.time import UtcNs
from nvr.model.tokens import TrackKey
from nvr.storage.database import Statement
from nvr.storage.event_pages import BATCH
from nvr.storage.event_rows import OTHER_TOPICS, Documents, Stream
from nvr.storage.message_bodies import (
    body_of,
    digest,
    item_digests,
    source_digest,
    topic_text,
    words_of,
    words_text,
)
from nvr.storage.pace import Pace
from nvr.storage.schema import (
    camera_events,
    message_items,
    messages,
    metadata_files,
    metadata_tracks,
    positions,
    streams,
    vocabularies,
)

log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")

MAX_SOURCES = 256
"""Sources of one topic on one track that are told apart; events of all others share a stream."""
MAX_STREAMS = 1024
"""Streams of one track; events of further topics share one."""
OTHER_SOURCES = b""
MAX_WORDS = 2000
"""Of one file; one with more is taken to hold every word."""
MAX_SPACES = 16
"""Spaces of positions that are known of such a file."""
MAX_TEXT = 64 << 10
"""Characters of the words of one file."""
_REMEMBERED = 8192
_VOCABULARIES = 256


@dataclass(slots=True)
class Known:
    """Numbers of what stands in the database, so that few are asked for: all tracks and streams, some messages."""

    tracks: dict[TrackKey, int] = field(default_factory=dict)
    """Replaced where it changes, as `listed`: searches go through both on their threads."""
    streams: dict[tuple[int, str, bytes], Stream] = field(default_factory=dict)
    """By track, topic and digest of the source."""
    streams_of: Counter[int | tuple[int, str]] = field(default_factory=Counter)
    """How many streams a track has, and a topic of a track."""
    messages: OrderedDict[bytes, int] = field(default_factory=OrderedDict)
    vocabularies: OrderedDict[int, frozenset[str]] = field(default_factory=OrderedDict)
    listed: tuple[Stream, ...] = ()
    numbers: dict[str, int] = field(default_factory=dict)
    """The last number that a table has given away. None is given twice while the process lasts: a search that stands at
    what has gone must not take another thing for it."""
    crowded: int = 0
    """Events that share a stream with other sources or topics, since the start."""

    def take(self, streams: Mapping[tuple[int, str, bytes], Stream]) -> None:
        for key, stream in streams.items():
            self.streams[key] = stream
            self.streams_of.update((key[0], key[:2]))
        if streams:
            self.listed = tuple(self.streams.values())

    def drop(self, gone: Collection[int]) -> None:
        """These streams have gone with the last of their events."""
        for key in [key for key, stream in self.streams.items() if stream.id in gone]:
            del self.streams[key]
            self.streams_of.subtract((key[0], key[:2]))
        self.streams_of = +self.streams_of  # without those that have none left
        self.listed = tuple(self.streams.values())

    def number(self, table: sa.Table) -> int:
        """A new one for a row of this table."""
        self.numbers[table.name] = self.numbers.get(table.name, 0) + 1
        return self.numbers[table.name]


class Writing:
    """One transaction that adds. What it adds is known only once it is committed: `commit` says so."""

    def __init__(self, known: Known, connection: sa.Connection) -> None:
        self._known = known
        self._connection = connection
        self.new_streams: dict[tuple[int, str, bytes], Stream] = {}
        self._new_of: Counter[int | tuple[int, str]] = Counter()
        """How many of the new streams a track has, and a topic of a track."""
        self.new_tracks: dict[TrackKey, int] = {}
        self.new_messages: dict[bytes, int] = {}
        self._bodies: list[dict[str, object]] = []
        self._items: list[dict[str, object]] = []
        self._crowded = 0

    def commit(self) -> None:
        self._known.take(self.new_streams)
        for name, number in self.new_messages.items():
            remember(self._known.messages, name, number)
        if self.new_tracks:
            self._known.tracks = {**self._known.tracks, **self.new_tracks}  # another thread may go through them
        self._known.crowded += self._crowded

    def add(self, documents: Documents) -> None:
        track = self._track(documents.key)
        file, told = self._file(documents, track)
        rows: list[dict[str, object]] = []
        pace = Pace()
        seen: dict[RecordedMessage, tuple[int, int, bool]] = {}
        """Cameras tell the same again and again: what it is made of is looked up once."""
        found: dict[UtcNs, PtzVector] = {}
        for time_ns, content in documents.contents:
            for event in content.events:
                pace.keep()
                numbers = seen.get(event.message)
                if numbers is None:
                    stream, crowded = self._stream(documents.key, track, event.message)
                    numbers = seen[event.message] = stream, self._message(event.message), crowded
                stream, message, crowded = numbers
                self._crowded += crowded
                rows.append(
                    {
                        "stream": stream,
                        "time_ns": time_ns,
                        "file": file,
                        "place": told + len(rows),
                        "message": message,
                        "utc_ns": event.utc_ns,
                    }
                )
            if content.position is not None:
                found[time_ns] = content.position  # a track tells one position for one time: the last
        places = [_position(track, file, t, p) for t, p in found.items()]
        for new, into in (
            (self._bodies, _NEW_MESSAGE),
            (self._items, _NEW_ITEM),
            (rows, _NEW_EVENT),
            (places, _NEW_POSITION),
        ):
            if new:
                into.run(self._connection, *new)

    def _track(self, key: TrackKey) -> int:
        known = self._known.tracks.get(key)
        if known is None:
            values = {"recording": key.recording, "track": key.track}
            known = self.new_tracks[key] = self._insert(metadata_tracks, values)
        return known

    def _file(self, documents: Documents, track: int) -> tuple[int, int]:
        """The number of the file, and how many events of it there were before. Raises StorageError where another has
        read of it since."""
        c = metadata_files.c
        told = sum(len(content.events) for _, content in documents.contents)
        # Whatever times its documents have: by these two instants its events are found when it goes.
        times = [documents.start_ns, *(time_ns for time_ns, _ in documents.contents)]
        first_ns, last_ns = min(times), max(times)
        words = frozenset[str]().union(*(content.words for _, content in documents.contents))
        query = sa.select(c.id, c.start_ns, c.last_ns, c.vocabulary, c.told, c.upto, c.done)
        known = self._connection.execute(query.where(c.file_id == documents.file_id)).one_or_none()
        begin = 0 if known is None else known.upto
        if documents.begin != begin or (known is not None and known.done):
            raise StorageError(f"{documents.file_id}: what was read from {documents.begin} on has changed meanwhile")
        values: dict[str, object] = {"upto": documents.upto, "done": documents.done}
        if known is None:
            values |= {"file_id": documents.file_id, "track": track, "start_ns": first_ns}
            values |= {"last_ns": last_ns, "told": told, "vocabulary": self._vocabulary(bounded(words))}
            return self._insert(metadata_files, values), 0
        before = self._words_of(known.vocabulary)
        after = bounded(words | before)
        if after != before:
            values["vocabulary"] = self._vocabulary(after)
        values |= {"start_ns": min(first_ns, known.start_ns), "last_ns": max(last_ns, known.last_ns)}
        values["told"] = known.told + told
        self._connection.execute(sa.update(metadata_files).where(c.id == known.id).values(**values))
        if after != before:
            forget_vocabulary(self._connection, known.vocabulary)
        return int(known.id), int(known.told)

    def _words_of(self, vocabulary: int) -> frozenset[str]:
        found = self._known.vocabularies.get(vocabulary)
        if found is None:
            stored = sa.select(vocabularies.c.words).where(vocabularies.c.id == vocabulary)
            found = words_of(self._connection.execute(stored).scalar_one())
            # Numbers are not given twice: what is remembered of a transaction that is undone harms nobody.
            remember(self._known.vocabularies, vocabulary, found, _VOCABULARIES)
        return found

    def _vocabulary(self, words: frozenset[str]) -> int:
        text = words_text(words)
        name = digest(text)
        found = self._connection.execute(sa.select(vocabularies.c.id).where(vocabularies.c.digest == name)).scalar()
        return int(found) if found is not None else self._insert(vocabularies, {"digest": name, "words": text})

    def _stream(self, key: TrackKey, track: int, message: RecordedMessage) -> tuple[int, bool]:
        """Its number, and whether other sources or topics share it."""
        topic, source = topic_text(message.topic), source_digest(message)
        found = self._known_stream(track, topic, source)
        if found is None and self._streams_of((track, topic)) >= MAX_SOURCES:
            source = OTHER_SOURCES
            found = self._known_stream(track, topic, source)
        told = message.topic
        if found is None and self._streams_of(track) >= MAX_STREAMS - 1:
            told, source = OTHER_TOPICS, OTHER_SOURCES
            topic = topic_text(told)
            found = self._known_stream(track, topic, source)
        if found is None:
            if source == OTHER_SOURCES:
                log.warning(
                    "%s tells of more %s than are told apart: events of the others are found, and have no states",
                    key,
                    "sources of a topic" if told else "topics and sources",
                )
            # Events of mixed sources are no property that has a state.
            is_property = message.operation is not None and source != OTHER_SOURCES
            values = {"track": track, "topic": topic, "source": source, "is_property": is_property}
            found = Stream(self._insert(streams, values), key, told, is_property)
            self.new_streams[track, topic, source] = found
            self._new_of.update((track, (track, topic)))
        return found.id, source == OTHER_SOURCES

    def _streams_of(self, whose: int | tuple[int, str]) -> int:
        return self._known.streams_of[whose] + self._new_of[whose]

    def _known_stream(self, track: int, topic: str, source: bytes) -> Stream | None:
        place = (track, topic, source)
        return self._known.streams.get(place) or self.new_streams.get(place)

    def _message(self, message: RecordedMessage) -> int:
        body = body_of(message)
        name = digest(body)
        known = self._known.messages.get(name) or self.new_messages.get(name)
        if known is None:
            query = sa.select(messages.c.id).where(messages.c.digest == name)
            known = self._connection.execute(query).scalar()
            if known is None:
                known = self._known.number(messages)
                self._bodies.append({"id": known, "digest": name, "body": body})
                self._items += ({"item": item, "message": known} for item in item_digests(message))
            self.new_messages[name] = known
        return int(known)

    def _insert(self, table: sa.Table, values: Mapping[str, object]) -> int:
        number = self._known.number(table)
        self._connection.execute(sa.insert(table).values(id=number, **values))
        return number


def _new(table: sa.Table, *, numbered: bool = False) -> Statement:
    """A row; of those that are `numbered` the database gives the number."""
    return Statement(sa.insert(table), (c.name for c in table.columns if not (numbered and c.name == "id")))


_NEW_MESSAGE, _NEW_ITEM = _new(messages), _new(message_items)
_NEW_EVENT, _NEW_POSITION = _new(camera_events, numbered=True), _new(positions, numbered=True)


def bounded(words: frozenset[str]) -> frozenset[str]:
    """The words of a file, or what stands for them where they are too many."""
    if ANY_WORD not in words and len(words) <= MAX_WORDS and sum(map(len, words)) <= MAX_TEXT:
        return words
    spaces = sorted(w for w in words if w.startswith("space=") and len(w) <= MAX_TEXT // MAX_SPACES)
    return frozenset((ANY_WORD, *spaces[:MAX_SPACES]))


def forget_vocabulary(connection: sa.Connection, number: int) -> None:
    """It goes with the last file that has it."""
    used = sa.select(metadata_files.c.id).where(metadata_files.c.vocabulary == number).limit(1)
    if connection.execute(used).scalar() is None:
        connection.execute(sa.delete(vocabularies).where(vocabularies.c.id == number))


def _position(track: int, file: int, time_ns: UtcNs, position: PtzVector) -> dict[str, object]:
    pan_tilt, zoom = position.pan_tilt, position.zoom
    return {
        "track": track,
        "time_ns": time_ns,
        "file": file,
        "pan": None if pan_tilt is None else pan_tilt.x,
        "tilt": None if pan_tilt is None else pan_tilt.y,
        "pan_tilt_space": None if pan_tilt is None else pan_tilt.space,
        "zoom": None if zoom is None else zoom.x,
        "zoom_space": None if zoom is None else zoom.space,
    }


def remember(known: OrderedDict[K, V], key: K, value: V, most: int = _REMEMBERED) -> None:
    """The oldest goes when there are too many."""
    known[key] = value
    if len(known) > most:
        known.popitem(last=False)


def batches(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
