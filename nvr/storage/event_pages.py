"""Pages of camera events and positions, sought by key: one short descent of an index a stream, message or track.

Statements are compiled once: SQLAlchemy takes a millisecond to put one together, SQLite a fiftieth of it to answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from nvr.model.ptz import PanTilt, PtzVector, Zoom
from nvr.model.search import SearchInterval
from nvr.storage.database import Statement
from nvr.storage.event_rows import EventRow, Place, PositionRow
from nvr.storage.schema import camera_events, messages, positions, streams

BATCH = 500
"""Numbers in one statement: databases bound the parameters."""
ONE_BY_ONE = 64
"""So many numbers are asked for one after the other; beyond that one statement for a batch of them is quicker."""
_MOST = (1 << 63) - 1


def events(
    connection: sa.Connection,
    numbers: Sequence[int],
    interval: SearchInterval,
    after: Place | None,
    each: int,
    by_message: bool,
) -> list[EventRow]:
    """As `nvr.storage.events.EventIndex.events`."""
    bounds = _bounds(interval, after)
    found: list[EventRow] = []
    if len(numbers) <= ONE_BY_ONE:
        page = _EVENTS[by_message, interval.backward]
        for number in numbers:
            found += map(EventRow._make, page.rows(connection, number=number, each=each, **bounds))
    else:
        several = _SEVERAL[by_message, interval.backward]
        for start in range(0, len(numbers), BATCH):
            values = {**bounds, "each": each, "numbers": numbers[start : start + BATCH]}
            found += map(EventRow._make, connection.execute(several, values))
    found.sort(reverse=interval.backward)
    return found


def positions_of(
    connection: sa.Connection, tracks: Sequence[int], interval: SearchInterval, after: Place | None, each: int
) -> list[PositionRow]:
    """As `nvr.storage.events.EventIndex.positions`."""
    bounds = _bounds(interval, after)
    del bounds["place"]  # a track has one position for one time of a file
    page = _POSITIONS[interval.backward]
    found: list[PositionRow] = []
    for track in tracks:
        found += map(_position_row, page.rows(connection, number=track, each=each, **bounds))
    found.sort(key=lambda row: row.where, reverse=interval.backward)
    return found


def _bounds(interval: SearchInterval, after: Place | None) -> dict[str, int]:
    """The interval, and the place behind which rows are wanted; without one, that before all others."""
    low, high = max(interval.earliest_ns, -_MOST), min(interval.latest_ns, _MOST)
    if interval.backward:
        at_ns, file, place = after if after is not None else (high, _MOST, _MOST)
        high = min(high, at_ns)
    else:
        at_ns, file, place = after if after is not None else (low, -1, -1)
        low = max(low, at_ns)
    return {"low": low, "high": high, "at": at_ns, "file": file, "place": place}


def _behind(table: Any, backward: bool) -> Iterator[sa.ColumnElement[bool]]:
    """Inside the interval, and behind a place in its direction. The bounds on time alone let the index seek."""
    c = table.c
    at: sa.BindParameter[int] = sa.bindparam("at")
    file: sa.BindParameter[int] = sa.bindparam("file")
    yield c.time_ns >= sa.bindparam("low")
    yield c.time_ns <= sa.bindparam("high")
    later = [c.time_ns < at, c.file < file] if backward else [c.time_ns > at, c.file > file]
    if "place" in c:
        place: sa.BindParameter[int] = sa.bindparam("place")
        later.append(sa.and_(c.file == file, c.place < place if backward else c.place > place))
    yield sa.or_(*later)


def _order(table: Any, backward: bool) -> list[Any]:
    columns = [table.c[name] for name in ("time_ns", "file", "place") if name in table.c]
    return [c.desc() for c in columns] if backward else columns


def _columns(e: Any) -> tuple[Any, ...]:
    return e.c.time_ns, e.c.file, e.c.place, e.c.stream, e.c.message, e.c.utc_ns


def _page(by_message: bool, backward: bool) -> Statement:
    e = camera_events
    of = e.c.message if by_message else e.c.stream
    query = sa.select(*_columns(e)).where(of == sa.bindparam("number"), *_behind(e, backward))
    return Statement(query.order_by(*_order(e, backward)).limit(sa.bindparam("each")))


def _several(by_message: bool, backward: bool) -> sa.Select[Any]:
    """The next ones of each of several numbers."""
    e, x = camera_events, camera_events.alias("x")
    of = x.c.message if by_message else x.c.stream
    parents = messages if by_message else streams
    next_ones = (
        sa.select(x.c.id)
        .where(of == parents.c.id, *_behind(x, backward))
        .order_by(*_order(x, backward))
        .limit(sa.bindparam("each"))
        .correlate(parents)
    )
    joined = parents.join(e, e.c.id.in_(next_ones.scalar_subquery()))
    wanted = parents.c.id.in_(sa.bindparam("numbers", expanding=True))
    return sa.select(*_columns(e)).select_from(joined).where(wanted)


def _positions(backward: bool) -> Statement:
    p = positions
    query = sa.select(p).where(p.c.track == sa.bindparam("number"), *_behind(p, backward))
    return Statement(query.order_by(*_order(p, backward)).limit(sa.bindparam("each")))


def _position_row(row: Sequence[Any]) -> PositionRow:
    _, track, time_ns, file, pan, tilt, pan_tilt_space, zoom, zoom_space = row
    pan_tilt = None if pan is None else PanTilt(pan, tilt, pan_tilt_space)
    return PositionRow(time_ns, file, track, PtzVector(pan_tilt, None if zoom is None else Zoom(zoom, zoom_space)))


_EVENTS = {(by, backward): _page(by, backward) for by in (False, True) for backward in (False, True)}
_SEVERAL = {(by, backward): _several(by, backward) for by in (False, True) for backward in (False, True)}
_POSITIONS = {backward: _positions(backward) for backward in (False, True)}
