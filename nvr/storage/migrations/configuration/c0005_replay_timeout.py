"""The time-out of replay's RTSP sessions, as a client has set it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "c0005"
down_revision = "c0004"


def upgrade() -> None:
    op.add_column("device", sa.Column("replay_timeout_ns", sa.BigInteger))
