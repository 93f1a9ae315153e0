"""What clients put into configurations beyond what this edition knows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "c0003"
down_revision = "c0002"


def upgrade() -> None:
    for table in ("recordings", "tracks", "jobs", "job_sources", "job_tracks"):
        op.add_column(table, sa.Column("extensions", sa.Text))
    op.add_column("receivers", sa.Column("extensions_sealed", sa.LargeBinary))
