"""The oldest files of a volume are found without reading the others."""

from __future__ import annotations

from alembic import op

revision = "i0002"
down_revision = "i0001"


def upgrade() -> None:
    op.drop_index("track_files_by_state", "track_files")
    op.create_index("track_files_by_state", "track_files", ["volume_id", "state", "start_ns", "file_id"])
