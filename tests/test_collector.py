"""The garbage collector does not hold the running daemon."""

from __future__ import annotations

import gc

from nvr.serving import spare_the_collector


def test_a_full_collection_looks_only_at_what_was_made_after_the_start() -> None:
    try:
        spare_the_collector()
        assert gc.get_freeze_count() > 50_000
        assert len(gc.get_objects()) < 1_000
        spare_the_collector()
        assert gc.get_freeze_count() > 50_000
    finally:
        gc.unfreeze()
