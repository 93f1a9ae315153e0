"""Jobs that record while events last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "c0004"
down_revision = "c0003"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("event_filter", sa.Text))
