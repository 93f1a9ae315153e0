"""The files of one run are found by time."""

from __future__ import annotations

from alembic import op

revision = "i0006"
down_revision = "i0005"


def upgrade() -> None:
    op.drop_index("track_files_by_run", "track_files")
    op.create_index(
        "track_files_by_run",
        "track_files",
        [
            "recording",
            "track",
            "run_id",
            "start_ns",
            "file_id",
            "state",
            "end_ns",
            "run_place",
            "end_reason",
            "gap_before",
        ],
    )
