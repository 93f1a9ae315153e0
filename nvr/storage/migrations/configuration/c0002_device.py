"""What the device remembers of itself: discovery mode, configurable scopes, counters of WS-Discovery."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "c0002"
down_revision = "c0001"


def upgrade() -> None:
    op.create_table(
        "device",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("discovery_mode", sa.String(16), nullable=False),
        sa.Column("instance", sa.BigInteger, nullable=False),
        sa.Column("metadata_version", sa.BigInteger, nullable=False),
        sa.Column("announced", sa.String(64), nullable=False),
    )
    op.create_table(
        "scopes",
        sa.Column("place", sa.Integer, primary_key=True),
        sa.Column("item", sa.Text, nullable=False, unique=True),
    )
