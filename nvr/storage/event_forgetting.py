"""What is taken out of the index of camera events: a file, with all that nothing else tells, a slice a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from nvr.storage.event_writing import batches, forget_vocabulary
from nvr.storage.schema import (
    camera_events,
    message_items,
    messages,
    metadata_files,
    metadata_tracks,
    positions,
    streams,
)

SLICE = 2000
"""Events and positions of one transaction: readers and the writer wait for some tens of milliseconds."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What has gone by one slice."""

    whole: bool = True
    """Whether nothing of the file is left. The file itself goes last: a crash in between leaves it to be found."""
    streams: frozenset[int] = frozenset()
    messages: tuple[tuple[int, bytes], ...] = ()
    """Numbers and digests."""
    track: int | None = None


def forget_some(connection: sa.Connection, file_id: str) -> Forgotten:
    """A slice of what was read of a file is gone, and the streams, messages, words and track that nothing else has."""
    c = metadata_files.c
    file = connection.execute(sa.select(metadata_files).where(c.file_id == file_id)).mappings().one_or_none()
    if file is None:
        return Forgotten()
    found = _events(connection, file, SLICE)
    _delete(connection, camera_events, [row.id for row in found])
    p = positions.c
    inside = (
        p.track == file["track"],
        p.time_ns >= file["start_ns"],
        p.time_ns <= file["last_ns"],
        p.file == file["id"],
    )
    places = list(connection.execute(sa.select(p.id).where(*inside).limit(SLICE - len(found))).scalars())
    _delete(connection, positions, places)
    of_streams = _without_events(connection, streams, camera_events.c.stream, {row.stream for row in found})
    _delete(connection, streams, of_streams)
    of_messages = _without_events(connection, messages, camera_events.c.message, {row.message for row in found})
    told: list[tuple[int, bytes]] = []
    for batch in batches(of_messages):
        connection.execute(sa.delete(message_items).where(message_items.c.message.in_(batch)))
        query = sa.select(messages.c.id, messages.c.digest).where(messages.c.id.in_(batch))
        told += [(row.id, row.digest) for row in connection.execute(query)]
    _delete(connection, messages, of_messages)
    whole, track = len(found) + len(places) < SLICE, None
    if whole:
        connection.execute(sa.delete(metadata_files).where(c.id == file["id"]))
        forget_vocabulary(connection, file["vocabulary"])
        if connection.execute(sa.select(c.id).where(c.track == file["track"]).limit(1)).scalar() is None:
            track = int(file["track"])
            connection.execute(sa.delete(metadata_tracks).where(metadata_tracks.c.id == track))
    return Forgotten(whole, frozenset(of_streams), tuple(told), track)


def _events(connection: sa.Connection, file: Any, most: int) -> list[Any]:
    """By the streams of its track and its time: the index seeks there."""
    e = camera_events.c
    of_track = list(connection.execute(sa.select(streams.c.id).where(streams.c.track == file["track"])).scalars())
    found: list[Any] = []
    for batch in batches(of_track):
        if len(found) < most:
            there = (
                e.stream.in_(batch),
                e.time_ns >= file["start_ns"],
                e.time_ns <= file["last_ns"],
                e.file == file["id"],
            )
            query = sa.select(e.id, e.stream, e.message).where(*there).limit(most - len(found))
            found += connection.execute(query)
    return found


def _without_events(
    connection: sa.Connection, table: sa.Table, column: sa.ColumnElement[int], numbers: set[int]
) -> list[int]:
    """Those that no event has any more, one descent of the index each."""
    found: list[int] = []
    for batch in batches(sorted(numbers)):
        has_any = sa.select(sa.literal(1)).where(column == table.c.id).correlate(table).exists()
        found += connection.execute(sa.select(table.c.id).where(table.c.id.in_(batch), ~has_any)).scalars()
    return found


def _delete(connection: sa.Connection, table: sa.Table, numbers: Sequence[int]) -> None:
    for batch in batches(numbers):
        connection.execute(sa.delete(table).where(table.c.id.in_(batch)))
