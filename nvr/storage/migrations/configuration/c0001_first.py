"""The first schema of the configuration."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "c0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "facts",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "recordings",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("token", sa.String(64), nullable=False, unique=True),
        sa.Column("source_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("location", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("maximum_retention_ns", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "tracks",
        sa.Column("recording", sa.String(64), sa.ForeignKey("recordings.token", ondelete="CASCADE"), primary_key=True),
        sa.Column("token", sa.String(64), primary_key=True),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("track_type", sa.String(16), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("token", sa.String(64), nullable=False, unique=True),
        sa.Column("recording", sa.String(64), sa.ForeignKey("recordings.token"), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("schedule_token", sa.Text),
        sa.Column("activation", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "job_sources",
        sa.Column("job", sa.String(64), sa.ForeignKey("jobs.token", ondelete="CASCADE"), primary_key=True),
        sa.Column("place", sa.Integer, primary_key=True),
        sa.Column("source_token", sa.String(64)),
        sa.Column("source_type", sa.Text),
        sa.Column("implied_tracks", sa.Boolean, nullable=False),
    )
    op.create_table(
        "job_tracks",
        sa.Column("job", sa.String(64), primary_key=True),
        sa.Column("source_place", sa.Integer, primary_key=True),
        sa.Column("place", sa.Integer, primary_key=True),
        sa.Column("source_tag", sa.Text, nullable=False),
        sa.Column("destination", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["job", "source_place"], ["job_sources.job", "job_sources.place"], ondelete="CASCADE"),
    )
    op.create_table(
        "receivers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("token", sa.String(64), nullable=False, unique=True),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("media_uri", sa.Text, nullable=False),
        sa.Column("media_uri_sealed", sa.LargeBinary),
        sa.Column("stream", sa.String(16), nullable=False),
        sa.Column("protocol", sa.String(16), nullable=False),
        sa.Column("auto_created", sa.Boolean, nullable=False),
    )
    op.create_table(
        "users",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("secret", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "deletions",
        sa.Column("recording", sa.String(64), primary_key=True),
        sa.Column("track", sa.String(64), primary_key=True),
    )
