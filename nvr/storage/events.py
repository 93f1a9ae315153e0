"""The index of camera events on SQL: what cameras have told in their metadata streams, and where they looked.

It holds nothing that does not stand in the footage: a damaged one is kept aside and made again. One transaction takes
in what was read of a file together with how far it was read, so that a crash costs a second reading and never a second
row. Every page is sought by key.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from nvr.model.errors import StorageError
from nvr.model.recorded import RecordedMessage
from nvr.model.search import SearchInterval
from nvr.model.time import UtcNs
from nvr.model.tokens import RecordingToken, TrackKey, TrackToken
from nvr.storage import event_pages
from nvr.storage.database import Database, DatabaseDamaged, History, Statement, keep_aside
from nvr.storage.event_forgetting import forget_some
from nvr.storage.event_pages import BATCH
from nvr.storage.event_rows import Documents, EventRow, IndexedFile, Place, PositionRow, Stream
from nvr.storage.event_writing import Known, Writing, batches
from nvr.storage.message_bodies import ReadMessages, item_digest, message_of, topic_of, words_of
from nvr.storage.schema import (
    message_items,
    messages,
    metadata_files,
    metadata_tracks,
    streams,
    vocabularies,
)

log = logging.getLogger(__name__)

_MOST_NS = (1 << 63) - 1


class EventIndex:
    """Blocking; safe to call from several threads, of which one writes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._shut = False
        self._known = Known()
        self._contents = ReadMessages()
        self._load()

    @classmethod
    def open(cls, path: Path) -> EventIndex:
        """A damaged file is kept aside, and told. Raises OperatorError when the file cannot be opened."""
        try:
            return cls(Database(path, History.EVENTS, synchronous="NORMAL"))
        except DatabaseDamaged as e:
            kept = keep_aside(path)
            log.error("%s; it is kept as %s, and made again from the footage", e, kept)
            return cls(Database(path, History.EVENTS, synchronous="NORMAL"))

    def check(self) -> None:
        """Beside its use; what is wrong is told. (A small one has been checked when it was opened.)"""
        if not self._database.unchecked:
            return
        try:
            self._database.check(lambda: not self._shut)
        except DatabaseDamaged as e:
            log.error("%s; stop the recorder and move the file away: it is made again from the footage", e)
        except StorageError as e:
            log.error("the index of camera events is not checked: %s", e)

    def shut(self) -> None:
        self._shut = True
        self._database.close()

    def _load(self) -> None:
        with self._database.read() as connection:
            for number, recording, track in connection.execute(sa.select(metadata_tracks)):
                self._known.tracks[TrackKey(RecordingToken(recording), TrackToken(track))] = number
            keys = {number: key for key, number in self._known.tracks.items()}
            found = {}
            for row in connection.execute(sa.select(streams).order_by(streams.c.id)).mappings():
                stream = Stream(row["id"], keys[row["track"]], topic_of(row["topic"]), row["is_property"])
                found[row["track"], row["topic"], row["source"]] = stream
            self._known.take(found)
            for table in (metadata_tracks, metadata_files, vocabularies, streams, messages):
                self._known.numbers[table.name] = connection.execute(sa.select(sa.func.max(table.c.id))).scalar() or 0

    # What has been read

    def indexed(self, file_ids: Sequence[str]) -> dict[str, IndexedFile]:
        """How far each of these files has been read; those that have not been begun are left out."""
        c, found = metadata_files.c, {}
        with self._database.read() as connection:
            for batch in batches(file_ids):
                for row in connection.execute(sa.select(c.file_id, c.upto, c.done).where(c.file_id.in_(batch))):
                    found[row.file_id] = IndexedFile(*row)
        return found

    def files(
        self, key: TrackKey, after: tuple[UtcNs, int] | None = None, limit: int = BATCH
    ) -> list[tuple[str, tuple[UtcNs, int]]]:
        """Ids of the files of a track that have been begun, oldest first, each with what names the place behind it."""
        track = self._known.tracks.get(key)
        if track is None:
            return []
        c = metadata_files.c
        query = sa.select(c.file_id, c.start_ns, c.id).where(c.track == track)
        if after is not None:
            query = query.where(c.start_ns >= after[0], sa.or_(c.start_ns > after[0], c.id > after[1]))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(c.start_ns, c.id).limit(limit)).all()
        return [(row.file_id, (row.start_ns, row.id)) for row in rows]

    def tracks(self) -> list[TrackKey]:
        """Tracks of which files have been read."""
        return list(self._known.tracks)

    def add(self, documents: Documents) -> None:
        """Takes in what was read of a file, in one transaction. Raises StorageError where another has read of it since
        that reading began: nothing stands twice."""
        with self._lock:
            with self._database.write() as connection:
                writing = Writing(self._known, connection)
                writing.add(documents)
            writing.commit()

    def forget(self, file_ids: Sequence[str]) -> None:
        """Everything that was read of these files is gone, in slices."""
        for file_id in file_ids:
            while not self._forget_some(file_id):
                pass

    def _forget_some(self, file_id: str) -> bool:
        """Whether nothing is left."""
        with self._lock:
            with self._database.write() as connection:
                gone = forget_some(connection, file_id)
            if gone.streams:
                self._known.drop(gone.streams)
            for number, name in gone.messages:
                self._known.messages.pop(name, None)
                self._contents.forget(number)
            if gone.track is not None:
                self._known.tracks = {key: n for key, n in self._known.tracks.items() if n != gone.track}
        return gone.whole

    @property
    def crowded(self) -> int:
        """Events since the start that share a stream with other sources or topics: they are found as all others, and
        are no properties with states."""
        return self._known.crowded

    # What searches ask

    def streams(self) -> Sequence[Stream]:
        """All there are, in the order in which they came up. From memory."""
        return self._known.listed

    def events(
        self, numbers: Sequence[int], interval: SearchInterval, after: Place | None, each: int, by_message: bool = False
    ) -> list[EventRow]:
        """Of each stream, or each message, at most `each` events inside the interval, the next ones behind `after` in
        its direction, in that order."""
        with self._database.read() as connection:
            return event_pages.events(connection, numbers, interval, after, each, by_message)

    def last_events(self, numbers: Sequence[int], at_ns: UtcNs) -> list[EventRow]:
        """Of each stream the last event at or before an instant."""
        return self.events(numbers, SearchInterval(at_ns, -_MOST_NS), None, 1)

    def messages_with(self, name: str, value: str, most: int) -> list[int] | None:
        """The messages with this simple item, or a few that only seem to have it; None where there are more than
        `most`."""
        with self._database.read() as connection:
            rows = _WITH_ITEM.rows(connection, item=item_digest(name, value), most=most + 1)
        found = [number for (number,) in rows]
        return found if len(found) <= most else None

    def message(self, number: int) -> RecordedMessage | None:
        """None where it has gone with the last of its events."""
        known = self._contents.get(number)
        if known is None:
            with self._database.read() as connection:
                rows = _BODY.rows(connection, number=number)
            if not rows:
                return None
            known = message_of(rows[0][0])
            self._contents.put(number, known, rows[0][0])
        return known

    def position_tracks(self) -> dict[int, TrackKey]:
        """Tracks by their numbers in this index."""
        return {number: key for key, number in self._known.tracks.items()}

    def positions(
        self, tracks: Sequence[int], interval: SearchInterval, after: Place | None, each: int
    ) -> list[PositionRow]:
        """Of each track at most `each` positions, as `events`."""
        with self._database.read() as connection:
            return event_pages.positions_of(connection, tracks, interval, after, each)

    def words(self, file_ids: Sequence[str], *, whole: bool = True) -> dict[str, frozenset[str]]:
        """The words of files that have been read to their end, or as far as they have been read where `whole` is not
        asked for; others are left out."""
        joined = metadata_files.join(vocabularies, vocabularies.c.id == metadata_files.c.vocabulary)
        c, found = metadata_files.c, {}
        with self._database.read() as connection:
            for batch in batches(file_ids):
                query = sa.select(c.file_id, vocabularies.c.words).select_from(joined)
                query = query.where(c.file_id.in_(batch), c.done if whole else sa.true())
                for file_id, words in connection.execute(query):
                    found[file_id] = words_of(words)
        return found


_WITH_ITEM = Statement(
    sa.select(message_items.c.message)
    .where(message_items.c.item == sa.bindparam("item"))
    .order_by(message_items.c.message)
    .limit(sa.bindparam("most"))
)
_BODY = Statement(sa.select(messages.c.body).where(messages.c.id == sa.bindparam("number")))
