"""The snapshot follows each change, and many changes in a row share a few."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from nvr.storage import snapshot, snapshot_writer
from nvr.storage.snapshot import Snapshot
from nvr.storage.snapshot_writer import SnapshotWriter
from nvr.storage.volume import IDENTITY_FILE


class Taken:
    """Gives snapshots of a rising serial and tells when one is asked for."""

    def __init__(self) -> None:
        self.serial = 0
        self.asked = threading.Semaphore(0)

    def __call__(self) -> Snapshot:
        self.serial += 1
        self.asked.release()
        return Snapshot("here", self.serial, "c0001", {})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / IDENTITY_FILE).touch()
    return tmp_path


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes every snapshot seem to take so many seconds, and the rest behind it as long as it likes to be."""

    def slow(seconds: float) -> None:
        ticks = count()
        monkeypatch.setattr(snapshot_writer, "time", SimpleNamespace(monotonic=lambda: next(ticks) * seconds))
        monkeypatch.setattr(snapshot_writer, "LONGEST_REST_S", 3600)

    return slow


def test_after_a_snapshot_the_writer_rests_and_what_changes_meanwhile_shares_the_next(
    root: Path, slow: Callable[[float], None]
) -> None:
    slow(60)
    taken = Taken()
    writer = SnapshotWriter(taken, [root])
    writer.request()
    assert taken.asked.acquire(timeout=10)
    for _ in range(100):
        writer.request()
    assert not taken.asked.acquire(timeout=0.05)
    writer.close()
    assert taken.serial == 2
    found = snapshot.read(root)
    assert found is not None
    assert found.serial == 2


def test_whoever_waits_for_a_snapshot_ends_the_rest(root: Path, slow: Callable[[float], None]) -> None:
    slow(60)
    taken = Taken()
    writer = SnapshotWriter(taken, [root])
    for expected in (1, 2, 3):
        writer.request()
        writer.flush()
        assert taken.serial == expected
    writer.close()
