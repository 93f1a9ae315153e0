"""Vocabularies go with the last file that has them: which one that is, an index tells. Those left behind go now."""

from __future__ import annotations

from alembic import op

revision = "e0002"
down_revision = "e0001"


def upgrade() -> None:
    op.create_index("metadata_files_by_vocabulary", "metadata_files", ["vocabulary"])
    op.execute("DELETE FROM vocabularies WHERE id NOT IN (SELECT vocabulary FROM metadata_files)")
    op.execute("DELETE FROM streams WHERE NOT EXISTS (SELECT 1 FROM camera_events WHERE stream = streams.id)")
    op.execute("DELETE FROM metadata_tracks WHERE id NOT IN (SELECT track FROM metadata_files)")
