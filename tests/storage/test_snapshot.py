from __future__ import annotations

import contextlib
import json
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.model.errors import FormatError, OperatorError
from nvr.storage import snapshot
from nvr.storage.snapshot import NAME, Snapshot

VALUES = st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")) | st.binary()
ROWS = st.lists(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), VALUES, max_size=4), max_size=3)
SNAPSHOTS = st.builds(
    Snapshot,
    st.text("0123456789abcdef", max_size=32),
    st.integers(0),
    st.just("c0001"),
    st.dictionaries(st.text("abc", min_size=1), ROWS, max_size=3),
)


def a_snapshot(serial: int = 1, installation: str = "here") -> Snapshot:
    return Snapshot(installation, serial, "c0001", {"users": [{"name": "é", "secret": b"\0\xff", "role": None}]})


@given(SNAPSHOTS)
def test_a_snapshot_comes_back_as_it_was_written(taken: Snapshot) -> None:
    assert Snapshot.parse(bytes(taken)) == taken


@given(st.binary() | st.recursive(VALUES.filter(lambda v: not isinstance(v, bytes)), st.lists).map(json.dumps))
def test_anything_else_is_refused_with_a_format_error(data: bytes | str) -> None:
    with pytest.raises(FormatError):
        Snapshot.parse(data if isinstance(data, bytes) else data.encode())


@given(st.data())
def test_a_changed_byte_is_found(data: st.DataObject) -> None:
    whole = bytearray(bytes(a_snapshot()))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(FormatError):
        assert Snapshot.parse(bytes(whole)) == a_snapshot()  # white space between the values


def test_every_truncation_is_found() -> None:
    whole = bytes(a_snapshot())
    for size in range(len(whole) - 1):
        with pytest.raises(FormatError):
            Snapshot.parse(whole[:size])


def test_content_that_lacks_a_part_is_refused_even_with_a_right_checksum() -> None:
    for missing in ("installation", "serial", "revision", "tables"):
        whole = json.loads(bytes(a_snapshot()))
        del whole["content"][missing]
        whole["sha256"] = snapshot._digest(snapshot._canonical(whole["content"]).encode())
        with pytest.raises(FormatError, match="lacks what its format owes"):
            Snapshot.parse(json.dumps(whole).encode())


def test_writing_replaces_the_snapshot_and_leaves_nothing_else(tmp_path: Path) -> None:
    for serial in (1, 2):
        snapshot.write(bytes(a_snapshot(serial)), tmp_path)
        assert snapshot.read(tmp_path) == a_snapshot(serial)
    assert [p.name for p in tmp_path.iterdir()] == [NAME]
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_the_snapshot_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot.write(bytes(a_snapshot(1)), tmp_path)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        snapshot.write(bytes(a_snapshot(2)), tmp_path)
    assert snapshot.read(tmp_path) == a_snapshot(1)
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


def test_the_newest_valid_snapshot_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    roots = [tmp_path / name for name in ("a", "b", "c", "gone")]
    for root, serial in zip(roots, (3, 7, 9), strict=False):
        root.mkdir()
        snapshot.write(bytes(a_snapshot(serial)), root)
    (roots[2] / NAME).write_bytes(b"{")
    assert snapshot.newest(roots) == (a_snapshot(7), roots[1])
    assert "cannot be used: a configuration snapshot is no JSON" in caplog.text
    assert snapshot.newest([roots[3]]) is None


def test_snapshots_of_several_recorders_are_left_to_the_operator(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        snapshot.write(bytes(a_snapshot(installation=name)), tmp_path / name)
    with pytest.raises(OperatorError, match=r"snapshots of several recorders: .*recorder a.*recorder b"):
        snapshot.newest([tmp_path / "a", tmp_path / "b"])


def test_a_volume_that_does_not_answer_is_named_instead_of_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(snapshot, "read", lambda root: released.wait() and None)
    with pytest.raises(OperatorError, match=f"the volume {tmp_path}, which may hold its snapshot, has not answered"):
        snapshot.newest([tmp_path], patience_s=0.01)
    released.set()
