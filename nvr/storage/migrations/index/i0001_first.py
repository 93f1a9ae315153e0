"""The first schema of the index of footage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "i0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "track_files",
        sa.Column("file_id", sa.String(32), primary_key=True),
        sa.Column("volume_id", sa.String(64), nullable=False),
        sa.Column("recording", sa.String(64), nullable=False),
        sa.Column("track", sa.String(64), nullable=False),
        sa.Column("run_id", sa.String(32), nullable=False),
        sa.Column("run_place", sa.Integer, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("start_ns", sa.BigInteger, nullable=False),
        sa.Column("end_ns", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("encoding", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("samples", sa.BigInteger, nullable=False),
        sa.Column("lost_packets", sa.BigInteger, nullable=False),
        sa.Column("dropped_units", sa.BigInteger, nullable=False),
        sa.Column("gap_before", sa.String(32)),
        sa.Column("end_reason", sa.String(32)),
    )
    op.create_index(
        "track_files_by_time", "track_files", ["recording", "track", "start_ns", "file_id", "end_ns", "state"]
    )
    op.create_index("track_files_by_volume", "track_files", ["volume_id", "file_id"])
    op.create_index("track_files_by_state", "track_files", ["volume_id", "state", "file_id"])
