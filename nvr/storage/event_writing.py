"""What changes the index of camera events: one transaction for what was read of a file, one to forget a file."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

from nvr.model.ptz import PtzVector
from nvr.model.recorded import RecordedMessage
from nvr.model.time import UtcNs
from nvr.model.tokens import TrackKey
from nvr.storage.event_rows import Documents, Stream
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

K = TypeVar("K")
V = TypeVar("V")

MAX_SOURCES = 256
"""Sources of one topic on one track that are told apart; events of all others share a stream."""
OTHER_SOURCES = b""
BATCH = 500
"""Numbers in one statement: databases bound the parameters."""
_REMEMBERED = 8192


@dataclass(slots=True)
class Known:
    """Numbers of what stands in the database, so that few are asked for: all tracks and streams, some messages."""

    tracks: dict[TrackKey, int] = field(default_factory=dict)
    streams: dict[tuple[int, str, bytes], Stream] = field(default_factory=dict)
    """By track, topic and digest of the source."""
    sources: dict[tuple[int, str], int] = field(default_factory=dict)
    """How many streams a topic of a track has."""
    messages: OrderedDict[bytes, int] = field(default_factory=OrderedDict)
    listed: tuple[Stream, ...] = ()

    def take(self, key: tuple[int, str, bytes], stream: Stream) -> None:
        self.streams[key] = stream
        self.sources[key[:2]] = self.sources.get(key[:2], 0) + 1
        self.listed = (*self.listed, stream)


class Writing:
    """One transaction that adds. What it adds is known only once it is committed: `commit` says so."""

    def __init__(self, known: Known, connection: sa.Connection) -> None:
        self._known = known
        self._connection = connection
        self.new_streams: dict[tuple[int, str, bytes], Stream] = {}
        self.new_messages: dict[bytes, int] = {}
        self.new_tracks: dict[TrackKey, int] = {}

    def commit(self) -> None:
        for key, stream in self.new_streams.items():
            self._known.take(key, stream)
        for name, number in self.new_messages.items():
            remember(self._known.messages, name, number)
        self._known.tracks.update(self.new_tracks)

    def add(self, documents: Documents) -> None:
        track = self._track(documents.key)
        file, told = self._file(documents, track)
        rows: list[dict[str, object]] = []
        pace = Pace()
        found: dict[UtcNs, PtzVector] = {}
        for time_ns, content in documents.contents:
            for event in content.events:
                pace.keep()
                rows.append(
                    {
                        "stream": self._stream(documents.key, track, event.message),
                        "time_ns": time_ns,
                        "file": file,
                        "place": told + len(rows),
                        "message": self._message(event.message),
                        "utc_ns": event.utc_ns,
                    }
                )
            if content.position is not None:
                found[time_ns] = content.position  # a track tells one position for one time: the last
        if rows:
            self._connection.execute(sa.insert(camera_events), rows)
        if found:
            self._connection.execute(sa.insert(positions), [_position(track, file, t, p) for t, p in found.items()])

    def _track(self, key: TrackKey) -> int:
        known = self._known.tracks.get(key)
        if known is None:
            values = {"recording": key.recording, "track": key.track}
            known = self.new_tracks[key] = self._insert(metadata_tracks, values)
        return known

    def _file(self, documents: Documents, track: int) -> tuple[int, int]:
        """The number of the file, and how many events of it there were before."""
        c = metadata_files.c
        told = sum(len(content.events) for _, content in documents.contents)
        last_ns = max((time_ns for time_ns, _ in documents.contents), default=documents.start_ns)
        words = frozenset[str]().union(*(content.words for _, content in documents.contents))
        query = sa.select(c.id, c.last_ns, c.vocabulary, c.told).where(c.file_id == documents.file_id)
        known = self._connection.execute(query).one_or_none()
        values: dict[str, object] = {"upto": documents.upto, "done": documents.done}
        if known is None:
            values |= {"file_id": documents.file_id, "track": track, "start_ns": documents.start_ns}
            values |= {"last_ns": last_ns, "told": told, "vocabulary": self._vocabulary(words)}
            return self._insert(metadata_files, values), 0
        if words:
            stored = sa.select(vocabularies.c.words).where(vocabularies.c.id == known.vocabulary)
            before = words_of(self._connection.execute(stored).scalar_one())
            if not words <= before:
                values["vocabulary"] = self._vocabulary(words | before)
        values |= {"last_ns": max(last_ns, known.last_ns), "told": known.told + told}
        self._connection.execute(sa.update(metadata_files).where(c.id == known.id).values(**values))
        return int(known.id), int(known.told)

    def _vocabulary(self, words: frozenset[str]) -> int:
        text = words_text(words)
        return self._numbered(vocabularies, digest(text), {"words": text})

    def _stream(self, key: TrackKey, track: int, message: RecordedMessage) -> int:
        topic, source = topic_text(message.topic), source_digest(message)
        known, new = self._known.streams, self.new_streams
        found = known.get((track, topic, source)) or new.get((track, topic, source))
        if found is None:
            there = sum(key[:2] == (track, topic) for key in new) + self._known.sources.get((track, topic), 0)
            if there >= MAX_SOURCES:
                source = OTHER_SOURCES
                found = known.get((track, topic, source)) or new.get((track, topic, source))
        if found is None:
            # Events of mixed sources are no property that has a state.
            is_property = message.operation is not None and source != OTHER_SOURCES
            values = {"track": track, "topic": topic, "source": source, "is_property": is_property}
            found = Stream(self._insert(streams, values), key, message.topic, is_property)
            self.new_streams[track, topic, source] = found
        return found.id

    def _message(self, message: RecordedMessage) -> int:
        body = body_of(message)
        name = digest(body)
        known = self._known.messages.get(name) or self.new_messages.get(name)
        if known is None:
            query = sa.select(messages.c.id).where(messages.c.digest == name)
            known = self._connection.execute(query).scalar()
            if known is None:
                known = self._insert(messages, {"digest": name, "body": body})
                items = [{"item": item, "message": known} for item in item_digests(message)]
                if items:
                    self._connection.execute(sa.insert(message_items), items)
            self.new_messages[name] = known
        return int(known)

    def _numbered(self, table: sa.Table, name: bytes, values: Mapping[str, object]) -> int:
        known = self._connection.execute(sa.select(table.c.id).where(table.c.digest == name)).scalar()
        return int(known) if known is not None else self._insert(table, {"digest": name, **values})

    def _insert(self, table: sa.Table, values: Mapping[str, object]) -> int:
        key = self._connection.execute(sa.insert(table).values(**values)).inserted_primary_key
        assert key is not None
        return int(key[0])


def forget(connection: sa.Connection, file_id: str) -> None:
    """Everything that was read of a file is gone, and the messages that nothing else tells."""
    c = metadata_files.c
    file = connection.execute(sa.select(metadata_files).where(c.file_id == file_id)).mappings().one_or_none()
    if file is None:
        return
    of_track = list(connection.execute(sa.select(streams.c.id).where(streams.c.track == file["track"])).scalars())
    e = camera_events.c
    gone: set[int] = set()
    # By the streams of its track and its time: the index seeks there.
    for batch in batches(of_track):
        there = (e.stream.in_(batch), e.time_ns >= file["start_ns"], e.time_ns <= file["last_ns"], e.file == file["id"])
        gone.update(connection.execute(sa.select(e.message).where(*there).distinct()).scalars())
        connection.execute(sa.delete(camera_events).where(*there))
    p = positions.c
    inside = (p.time_ns >= file["start_ns"], p.time_ns <= file["last_ns"], p.file == file["id"])
    connection.execute(sa.delete(positions).where(p.track == file["track"], *inside))
    connection.execute(sa.delete(metadata_files).where(c.id == file["id"]))
    for message_batch in batches(sorted(gone)):
        used = sa.select(e.message).where(e.message.in_(message_batch)).distinct()
        unused = sorted(set(message_batch) - set(connection.execute(used).scalars()))
        if unused:
            connection.execute(sa.delete(message_items).where(message_items.c.message.in_(unused)))
            connection.execute(sa.delete(messages).where(messages.c.id.in_(unused)))


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


def remember(known: OrderedDict[K, V], key: K, value: V) -> None:
    """The oldest goes when there are too many."""
    known[key] = value
    if len(known) > _REMEMBERED:
        known.popitem(last=False)


def batches(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
