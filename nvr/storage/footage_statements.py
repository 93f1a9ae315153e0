"""Statements of the index of footage that are compiled once: what replay asks for between any two files, and what
changes thousands of rows at a time.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from nvr.storage.database import Statement
from nvr.storage.rows import REACHING_OVER, FileState
from nvr.storage.schema import track_files

SHOWN = (FileState.OPEN, FileState.CLOSED)
_SHOWN = track_files.c.state.in_([sa.literal_column(f"'{state}'") for state in SHOWN])
_OF_TRACK = sa.and_(track_files.c.recording == sa.bindparam("recording"), track_files.c.track == sa.bindparam("track"))
_OF_RUN = sa.and_(_OF_TRACK, track_files.c.run_id == sa.bindparam("run_id"))


def behind(query: sa.Select[Any], after: tuple[Any, Any] | None) -> sa.Select[Any]:
    """The rows of the next page, in the order of (start_ns, file_id)."""
    if after is None:
        return query
    c = track_files.c
    start_ns, file_id = after
    # The first term alone lets the index seek; the second settles files that start together.
    return query.where(c.start_ns >= start_ns, sa.or_(c.start_ns > start_ns, c.file_id > file_id))


def _before(which: sa.ColumnElement[bool]) -> Statement:
    c = track_files.c
    start_ns: sa.BindParameter[int] = sa.bindparam("start_ns")
    file_id: sa.BindParameter[str] = sa.bindparam("file_id")
    query = sa.select(track_files).where(
        which, _SHOWN, c.start_ns <= start_ns, sa.or_(c.start_ns < start_ns, c.file_id < file_id)
    )
    return Statement(query.order_by(c.start_ns.desc(), c.file_id.desc()).limit(sa.bindparam("limit")))


def _run_from() -> Statement:
    c = track_files.c
    from_ns: sa.BindParameter[int] = sa.bindparam("from_ns")
    holding = sa.select(c.start_ns).where(_OF_RUN, _SHOWN, c.start_ns <= from_ns)
    last = holding.order_by(c.start_ns.desc(), c.file_id.desc()).limit(REACHING_OVER).subquery()
    first = sa.func.coalesce(sa.select(sa.func.min(last.c.start_ns)).scalar_subquery(), from_ns)
    query = sa.select(track_files).where(_OF_RUN, _SHOWN, c.start_ns >= first)
    return Statement(query.order_by(c.start_ns, c.file_id).limit(sa.bindparam("limit")))


def _run_behind() -> Statement:
    c = track_files.c
    query = behind(sa.select(track_files).where(_OF_RUN, _SHOWN), (sa.bindparam("start_ns"), sa.bindparam("file_id")))
    return Statement(query.order_by(c.start_ns, c.file_id).limit(sa.bindparam("limit")))


FILE = Statement(sa.select(track_files).where(track_files.c.file_id == sa.bindparam("file_id")))
BEFORE, BEFORE_IN_RUN = _before(_OF_TRACK), _before(_OF_RUN)
RUN_FROM, RUN_BEHIND = _run_from(), _run_behind()


# For a run of which thousands of rows change: triggers do not follow a run_id that does (i0008), so each run is summed
# up in the end, as the touch of one of its rows does.

SET_PLACE = Statement(
    sa.text(
        "update track_files set run_id = :run_id, gap_before = :gap_before, end_reason = :end_reason "
        "where file_id = :file_id and state = :state"
    )
)
_CLOSED_OF_RUN = "recording = :recording and track = :track and run_id = :run_id and state = 'closed'"
SUM_UP = Statement(
    sa.text(
        "update track_files set run_place = run_place "  # noqa: S608 (of what stands here)
        f"where file_id = (select file_id from track_files where {_CLOSED_OF_RUN} limit 1)"
    )
)
FORGET_EMPTY = Statement(
    sa.text(
        "delete from runs where recording = :recording and track = :track and run_id = :run_id "  # noqa: S608
        f"and not exists (select 1 from track_files where {_CLOSED_OF_RUN})"
    )
)
