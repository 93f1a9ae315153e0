"""An index over runs: a start reads what stands in it, and not the rows."""

from __future__ import annotations

from alembic import op

revision = "i0003"
down_revision = "i0002"


def upgrade() -> None:
    op.create_index(
        "track_files_by_run",
        "track_files",
        [
            "recording",
            "track",
            "run_id",
            "run_place",
            "file_id",
            "state",
            "start_ns",
            "end_ns",
            "end_reason",
            "gap_before",
        ],
    )
