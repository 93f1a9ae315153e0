"""What the closed files of each run come to, kept by triggers in the transaction that changes the files.

A file that is closed extends its run, at the same cost however many files that has; the first one that goes, as it does
again and again where there is a retention time, gives its place to the next. Only for what changes the end of a run, or
the gap before it, all its files are looked at: `files` is -1 while that is to be done, inside a trigger.
"""

# ruff: noqa: S608 (the statements are put together from what stands here)

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "i0007"
down_revision = "i0006"

TOKEN = sa.String(64)

SUMMED = """
    insert or replace into runs
        (recording, track, run_id, start_ns, end_ns, first_place, last_place, files, gap_before, end_reason)
    select t.recording, t.track, t.run_id, min(t.start_ns), max(t.end_ns),
        (
            select f.run_place from track_files f
            where f.recording = t.recording and f.track = t.track and f.run_id = t.run_id and f.state = 'closed'
            order by f.start_ns, f.file_id limit 1
        ),
        max(t.run_place), count(*), max(t.gap_before),
        (
            select f.end_reason from track_files f
            where f.recording = t.recording and f.track = t.track and f.run_id = t.run_id and f.state = 'closed'
            order by f.run_place desc, f.file_id desc limit 1
        )
    from {which} t where t.state = 'closed'
"""


def trigger(when: str, condition: str, *statements: str) -> str:
    name = "runs_" + when.replace(" ", "_") + "_" + condition.split(" ", 1)[0].replace(".", "_")
    return f"create trigger {name} after {when} on track_files when {condition} begin {'; '.join(statements)}; end"


def of_run(row: str) -> str:
    return f"recording = {row}.recording and track = {row}.track and run_id = {row}.run_id"


def marked(row: str, because: str) -> str:
    return f"update runs set files = -1 where {of_run(row)} and ({because})"


def sum_where_marked(row: str) -> tuple[str, str]:
    # A cross join is made in the order in which it stands: no file is looked at where nothing is marked.
    marked_run = f"(select recording, track, run_id from runs where {of_run(row)} and files = -1) r"
    same_run = "t.recording = r.recording and t.track = r.track and t.run_id = r.run_id"
    return (
        SUMMED.format(which=f"{marked_run} cross join track_files") + f" and {same_run} group by 1, 2, 3",
        f"delete from runs where {of_run(row)} and files = -1",  # no file is left
    )


ADD = (
    marked("new", "start_ns = new.start_ns or last_place = new.run_place"),
    """
    insert into runs
        (recording, track, run_id, start_ns, end_ns, first_place, last_place, files, gap_before, end_reason)
    values (new.recording, new.track, new.run_id, new.start_ns, new.end_ns, new.run_place, new.run_place, 1,
            new.gap_before, new.end_reason)
    on conflict (recording, track, run_id) do update set
        start_ns = min(start_ns, new.start_ns),
        end_ns = max(end_ns, new.end_ns),
        first_place = case when new.start_ns < start_ns then new.run_place else first_place end,
        last_place = max(last_place, new.run_place),
        files = files + 1,
        gap_before = coalesce(max(gap_before, new.gap_before), gap_before, new.gap_before),
        end_reason = case when new.run_place > last_place then new.end_reason else end_reason end
    where files > 0
    """,
    *sum_where_marked("new"),
)

# The next first file is looked for from the old one on: in front of it stand only tombstones, thousands of them where a
# whole run is deleted.
TAKE = (
    marked("old", "last_place = old.run_place or end_ns = old.end_ns or old.gap_before is not null"),
    f"update runs set files = files - 1 where {of_run('old')} and files > 0",
    f"""
    update runs set (start_ns, first_place) = (
        select f.start_ns, f.run_place from track_files f
        where f.recording = old.recording and f.track = old.track and f.run_id = old.run_id and f.state = 'closed'
            and f.start_ns >= old.start_ns
        order by f.start_ns, f.file_id limit 1
    )
    where {of_run("old")} and files > 0 and start_ns = old.start_ns
    """,
    *sum_where_marked("old"),
)

CHANGE = (marked("new", "1"), *sum_where_marked("new"))

TRIGGERS = (
    trigger("insert", "new.state = 'closed'", *ADD),
    trigger("update", "new.state = 'closed' and old.state <> 'closed'", *ADD),
    trigger("update", "old.state = 'closed' and new.state <> 'closed'", *TAKE),
    trigger("delete", "old.state = 'closed'", *TAKE),
    "create trigger runs_changed after update on track_files when old.state = 'closed' and new.state = 'closed' "
    f"begin {'; '.join(CHANGE)}; end",
)


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("recording", TOKEN, primary_key=True),
        sa.Column("track", TOKEN, primary_key=True),
        sa.Column("run_id", sa.String(32), primary_key=True),
        sa.Column("start_ns", sa.BigInteger, nullable=False),
        sa.Column("end_ns", sa.BigInteger, nullable=False),
        sa.Column("first_place", sa.Integer, nullable=False),
        sa.Column("last_place", sa.Integer, nullable=False),
        sa.Column("files", sa.Integer, nullable=False),
        sa.Column("gap_before", sa.String(32)),
        sa.Column("end_reason", sa.String(32)),
        sqlite_with_rowid=False,
    )
    op.execute(SUMMED.format(which="track_files") + " group by 1, 2, 3")
    for statement in TRIGGERS:
        op.execute(statement)
