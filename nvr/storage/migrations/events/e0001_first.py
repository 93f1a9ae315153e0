"""The first schema of the index of camera events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "e0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "metadata_tracks",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("recording", sa.String(64), nullable=False),
        sa.Column("track", sa.String(64), nullable=False),
        sa.UniqueConstraint("recording", "track"),
    )
    op.create_table(
        "vocabularies",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("digest", sa.LargeBinary(16), nullable=False, unique=True),
        sa.Column("words", sa.Text, nullable=False),
    )
    op.create_table(
        "metadata_files",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("file_id", sa.String(32), nullable=False, unique=True),
        sa.Column("track", sa.Integer, nullable=False),
        sa.Column("start_ns", sa.BigInteger, nullable=False),
        sa.Column("last_ns", sa.BigInteger, nullable=False),
        sa.Column("upto", sa.BigInteger, nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
        sa.Column("told", sa.Integer, nullable=False),
        sa.Column("vocabulary", sa.Integer, nullable=False),
    )
    op.create_index("metadata_files_by_time", "metadata_files", ["track", "start_ns", "id"])
    op.create_table(
        "streams",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("track", sa.Integer, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("source", sa.LargeBinary(16), nullable=False),
        sa.Column("is_property", sa.Boolean, nullable=False),
        sa.UniqueConstraint("track", "topic", "source"),
    )
    op.create_table(
        "messages",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("digest", sa.LargeBinary(16), nullable=False, unique=True),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "message_items",
        sa.Column("item", sa.BigInteger, primary_key=True),
        sa.Column("message", sa.Integer, primary_key=True),
    )
    op.create_index("message_items_by_message", "message_items", ["message"])
    op.create_table(
        "camera_events",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("stream", sa.Integer, nullable=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        sa.Column("file", sa.Integer, nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("message", sa.Integer, nullable=False),
        sa.Column("utc_ns", sa.BigInteger, nullable=False),
    )
    op.create_index("camera_events_by_stream", "camera_events", ["stream", "time_ns", "file", "place"])
    op.create_index("camera_events_by_message", "camera_events", ["message", "time_ns", "file", "place"])
    op.create_table(
        "positions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("track", sa.Integer, nullable=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        sa.Column("file", sa.Integer, nullable=False),
        sa.Column("pan", sa.Double),
        sa.Column("tilt", sa.Double),
        sa.Column("pan_tilt_space", sa.Text),
        sa.Column("zoom", sa.Double),
        sa.Column("zoom_space", sa.Text),
    )
    op.create_index("positions_by_time", "positions", ["track", "time_ns", "file"])
