"""A run that is split where files of it are lost: thousands of rows get another run_id in one transaction. They are not
summed up one by one: who changes a run_id has each of the two runs summed up at the end, by touching a row of it.
"""

# ruff: noqa: S608 (the statements are put together from what stands here)

from __future__ import annotations

from alembic import op

revision = "i0008"
down_revision = "i0007"

RUN = "recording = new.recording and track = new.track and run_id = new.run_id"
FILES = "f.recording = new.recording and f.track = new.track and f.run_id = new.run_id and f.state = 'closed'"

SUM = f"""
    insert or replace into runs
        (recording, track, run_id, start_ns, end_ns, first_place, last_place, files, gap_before, end_reason)
    select f.recording, f.track, f.run_id, min(f.start_ns), max(f.end_ns),
        (select f.run_place from track_files f where {FILES} order by f.start_ns, f.file_id limit 1),
        max(f.run_place), count(*), max(f.gap_before),
        (select f.end_reason from track_files f where {FILES} order by f.run_place desc, f.file_id desc limit 1)
    from track_files f where {FILES} group by 1, 2, 3
"""


def upgrade() -> None:
    op.execute("drop trigger runs_changed")
    op.execute(
        "create trigger runs_changed after update on track_files "
        "when old.state = 'closed' and new.state = 'closed' and new.run_id = old.run_id "
        f"begin {SUM}; end"
    )
