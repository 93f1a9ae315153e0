"""Bytes of track files that are known to be damaged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "i0004"
down_revision = "i0003"


def upgrade() -> None:
    op.create_table(
        "damage",
        sa.Column("file_id", sa.String(32), primary_key=True),
        sa.Column("at", sa.BigInteger, primary_key=True),
        sa.Column("length", sa.BigInteger, nullable=False),
    )
