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


def test_a_volume_that_does_not_answer_holds_neither_the_snapshots_of_the_others_nor_the_end(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = tmp_path_factory.mktemp("hung")
    (hung / IDENTITY_FILE).touch()
    met, released, write = threading.Event(), threading.Event(), snapshot.write

    def write_or_hang(data: bytes, to: Path) -> None:
        if to == hung:
            met.set()
            released.wait()
        write(data, to)

    monkeypatch.setattr(snapshot, "write", write_or_hang)
    monkeypatch.setattr(snapshot_writer, "LONGEST_REST_S", 0)
    taken = Taken()
    writer = SnapshotWriter(taken, [hung, root], patience_s=0.05)
    for serial in (1, 2):
        writer.request()
        writer.flush()
        found = snapshot.read(root)
        assert found is not None
        assert found.serial == serial
    assert met.is_set()
    assert snapshot.read(hung) is None
    released.set()
    for _ in range(3):  # what comes back late, what follows it, and what was asked for before
        taken.asked.acquire(timeout=20)
    writer.flush()
    writer.close()
    found = snapshot.read(hung)
    assert found is not None
    assert found.serial >= 2
