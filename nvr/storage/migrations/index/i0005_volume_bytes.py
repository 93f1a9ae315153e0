"""The bytes of a volume are summed without reading its rows."""

from __future__ import annotations

from alembic import op

revision = "i0005"
down_revision = "i0004"


def upgrade() -> None:
    op.drop_index("track_files_by_volume", "track_files")
    op.create_index("track_files_by_volume", "track_files", ["volume_id", "file_id", "size"])
