from __future__ import annotations

import shutil
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nvr.auth.access import Role
from nvr.auth.users import User
from nvr.model.errors import OperatorError, StorageError
from nvr.model.extension import Extension, Extensions
from nvr.model.job import RecordingJobMode, RecordingJobSource, SourceReference
from nvr.model.receiver import ReceiverMode, StreamSetup, StreamType, TransportProtocol
from nvr.model.recording import Recording, RecordingConfiguration, RecordingSourceInformation
from nvr.model.tokens import RecordingToken, TrackToken
from nvr.storage import snapshot
from nvr.storage.changes import Deleted, DeleteJob, DeleteRecording, Deletion, Save, StoredConfiguration
from nvr.storage.configuration import ConfigurationStore
from tests.support.configuration import XorSealer, a_job, a_receiver, a_recording

SECRET_URI = "rtsp://admin:s3cret@camera.example:554/live?password=hunter2"


def open_store(directory: Path, *roots: Path, sealer: XorSealer | None = None) -> ConfigurationStore:
    return ConfigurationStore.open(directory / "config.db", sealer or XorSealer(), roots)


def a_volume(root: Path) -> Path:
    root.mkdir()
    (root / "volume.json").write_text("{}")
    return root


def fill(store: ConfigurationStore) -> StoredConfiguration:
    """One of each, with every field set."""
    job = a_job("job-2", "rec-1", "rcv-1", "VIDEO001", "AUDIO001", mode=RecordingJobMode.ACTIVE, activation=4)
    implied = RecordingJobSource(SourceReference("rcv-2", "urn:type"), implied_tracks=True)
    extensions = (
        Extension("", ' a="1"', "<v:x xmlns:v='urn:v'>\u00fc \U0001f3a5</v:x>"),
        Extension("Extension", "", "<y/>"),
    )
    first = job.configuration.sources[0]
    tracks = tuple(replace(track, extensions=extensions[:1]) for track in first.tracks)
    sources = (replace(first, tracks=tracks, extensions=extensions[1:]), implied)
    configuration = replace(job.configuration, sources=sources, schedule_token="night", extensions=extensions)
    receiver = a_receiver("rcv-2", SECRET_URI, auto_created=True)
    setup = StreamSetup(StreamType.RTP_UNICAST, TransportProtocol.RTSP)
    receiver = replace(
        receiver,
        configuration=replace(
            receiver.configuration,
            mode=ReceiverMode.NEVER_CONNECT,
            stream_setup=setup,
            extensions=(Extension("", "", "<v:Login xmlns:v='urn:v'>hunter2</v:Login>"),),
        ),
    )
    source = RecordingSourceInformation("urn:x", "Tör 1", "<Basement>", "a & b", "http://camera.example/")
    stored = StoredConfiguration(
        (
            _with_extensions(a_recording("rec-2"), extensions),
            Recording(RecordingToken("rec-1"), RecordingConfiguration(source, "C", 1 << 60), ()),
        ),
        (replace(job, configuration=configuration), a_job("job-1", "rec-2", "rcv-1")),
        (receiver, a_receiver("rcv-1")),
        (User("admin", Role.ADMINISTRATOR, b"\0hash\xff"),),
        (Deletion(RecordingToken("rec-9")), Deletion(RecordingToken("rec-2"), TrackToken("VIDEO002"))),
    )
    items: tuple[Any, ...] = (*stored.recordings, *stored.jobs, *stored.receivers, *stored.users, *stored.deletions)
    store.apply([Save(item) for item in items])
    return replace(stored, deletions=tuple(reversed(stored.deletions)))  # by key


def _with_extensions(recording: Recording, extensions: Extensions) -> Recording:
    tracks = tuple(replace(t, configuration=replace(t.configuration, extensions=extensions)) for t in recording.tracks)
    return replace(recording, configuration=replace(recording.configuration, extensions=extensions), tracks=tracks)


@pytest.mark.requirement("RC-5.2-01", "RX-10.3-01", "RX-10.3-02")
def test_every_field_of_every_object_survives_the_death_of_the_process_in_the_order_of_creation(
    tmp_path: Path,
) -> None:
    (tmp_path / "running").mkdir()
    store = open_store(tmp_path / "running")
    stored = fill(store)
    assert store.load() == stored
    shutil.copytree(tmp_path / "running", tmp_path / "after")  # the files as kill -9 would leave them now
    store.close()
    for directory in ("running", "after"):
        store = open_store(tmp_path / directory)
        assert store.load() == stored
        store.close()


def test_an_object_that_is_saved_again_keeps_its_place(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    stored = fill(store)
    job = replace(stored.jobs[0], activation=9, configuration=a_job("job-2", "rec-1", "rcv-2", "META001").configuration)
    receiver = replace(stored.receivers[0], configuration=a_receiver(uri="rtsp://other.example/").configuration)
    recording = replace(stored.recordings[0], tracks=stored.recordings[0].tracks[1:])
    store.apply([Save(job), Save(receiver), Save(recording)])
    assert store.load() == replace(
        stored,
        recordings=(recording, stored.recordings[1]),
        jobs=(job, stored.jobs[1]),
        receivers=(receiver, stored.receivers[1]),
    )
    store.close()


def test_deletion_takes_what_belongs_to_the_object(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    stored = fill(store)
    store.apply(
        [DeleteJob(stored.jobs[0].token), DeleteRecording(RecordingToken("rec-1")), Deleted(stored.deletions[0])]
    )
    store.delete_receiver(stored.receivers[0].token)
    store.delete_user("admin")
    assert store.load() == StoredConfiguration(
        stored.recordings[:1], stored.jobs[1:], stored.receivers[1:], (), stored.deletions[1:]
    )
    store.close()


def test_changes_are_applied_all_or_none(tmp_path: Path) -> None:
    a_volume(tmp_path / "volume")
    store = open_store(tmp_path, tmp_path / "volume")
    stored = fill(store)
    store.write_snapshots()
    before = snapshot.read(tmp_path / "volume")
    with pytest.raises(StorageError):
        store.apply([Save(a_recording("rec-7")), DeleteRecording(RecordingToken("rec-2"))])  # job-1 records into it
    assert store.load() == stored
    store.write_snapshots()
    assert snapshot.read(tmp_path / "volume") == before
    store.close()


def test_credentials_of_a_media_uri_stand_in_no_file(tmp_path: Path) -> None:
    a_volume(tmp_path / "volume")
    store = open_store(tmp_path, tmp_path / "volume")
    fill(store)
    store.write_snapshots()
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert {"config.db-wal", snapshot.NAME} <= {p.name for p in files}
    for path in files:
        data = path.read_bytes()
        assert b"s3cret" not in data
        assert b"hunter2" not in data
    store.close()


def test_a_lost_key_costs_the_credentials_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(tmp_path)
    stored = fill(store)
    store.close()
    store = open_store(tmp_path, sealer=XorSealer(0x11))
    bare = replace(stored.receivers[0].configuration, media_uri="rtsp://camera.example:554/live", extensions=())
    assert store.load().receivers == (replace(stored.receivers[0], configuration=bare), stored.receivers[1])
    assert "the credentials of receiver rcv-2 cannot be opened" in caplog.text
    assert "s3cret" not in caplog.text
    store.close()


def test_each_change_reaches_the_snapshot_on_every_volume(tmp_path: Path) -> None:
    roots = [tmp_path / "a", tmp_path / "b"]
    for root in roots:
        a_volume(root)
    store = open_store(tmp_path, *roots)
    for serial, name in enumerate(("x", "y"), 1):
        store.save_user(User(name, Role.USER, b""))
        store.write_snapshots()
        for root in roots:
            taken = snapshot.read(root)
            assert taken is not None
            assert taken.serial == serial
            assert taken.tables["users"][-1]["name"] == name
    store.close()


@pytest.mark.parametrize("harm", ["gone", "empty", "header", "cut"])
def test_a_lost_or_damaged_database_is_restored_from_the_newest_snapshot(
    harm: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    roots = [tmp_path / "a", tmp_path / "b"]
    for root in roots:
        a_volume(root)
    store = open_store(tmp_path, *roots)
    store.save_user(User("old", Role.USER, b""))
    store.write_snapshots()
    old = (roots[0] / snapshot.NAME).read_bytes()
    stored = fill(store)
    stored = replace(stored, users=(*stored.users, User("old", Role.USER, b"")))
    installation = store.installation
    store.close()
    (roots[0] / snapshot.NAME).write_bytes(old)  # as if volume a had been away

    path = tmp_path / "config.db"
    data = path.read_bytes()
    match harm:
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "header":
            path.write_bytes(b"\0" * 16 + data[16:])
        case "cut":
            path.write_bytes(data[:9000])
    store = open_store(tmp_path, *roots)
    assert store.load() == stored
    assert store.installation == installation
    assert f"{roots[1] / snapshot.NAME} (change 2)" in caplog.text
    kept = list(tmp_path.glob("config.db.damaged-*"))
    assert len(kept) == (1 if harm in ("header", "cut") else 0)
    store.write_snapshots()
    assert snapshot.read(roots[0]) == snapshot.read(roots[1])
    store.save_user(User("new", Role.USER, b""))
    store.close()
    store = open_store(tmp_path)
    assert store.load().users == (*stored.users[:1], User("new", Role.USER, b""), stored.users[1])
    store.close()


def test_a_damaged_database_without_a_snapshot_stops_the_start_and_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "config.db"
    path.write_bytes(b"x" * 100)
    with pytest.raises(OperatorError, match=r"no volume holds a valid snapshot.*put a backup in place"):
        open_store(tmp_path, tmp_path)
    assert path.read_bytes() == b"x" * 100


def test_a_snapshot_that_does_not_fit_its_schema_is_refused(tmp_path: Path) -> None:
    bad = snapshot.Snapshot("here", 1, "c0001", {"jobs": [{"id": 1, "token": "job-1"}]})
    snapshot.write(bytes(bad), tmp_path)
    with pytest.raises(OperatorError, match="cannot be restored"):
        open_store(tmp_path, tmp_path)
    unknown = replace(bad, revision="c9999")
    snapshot.write(bytes(unknown), tmp_path)
    with pytest.raises(OperatorError, match="does not know"):
        open_store(tmp_path, tmp_path)


def test_a_restoration_that_was_cut_short_begins_again(tmp_path: Path) -> None:
    root = a_volume(tmp_path / "volume")
    store = open_store(tmp_path, root)
    stored = fill(store)
    store.close()
    (tmp_path / "config.db").unlink()
    (tmp_path / "config.db.restoring").write_bytes(b"half")
    store = open_store(tmp_path, root)
    assert store.load() == stored
    store.close()


def test_an_empty_configuration_never_overwrites_the_snapshot_of_a_volume_that_comes_late(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = a_volume(tmp_path / "volume")
    store = open_store(tmp_path, root)
    fill(store)
    store.close()
    kept = snapshot.read(root)
    assert kept is not None
    (tmp_path / "config.db").unlink()
    store = open_store(tmp_path)  # the volume is not mounted
    store.set_snapshot_roots([root])
    taken = snapshot.read(root)
    assert taken is not None
    assert taken.installation == store.installation != kept.installation
    aside = root / f"configuration.{kept.installation}.1.json"
    assert snapshot.Snapshot.parse(aside.read_bytes()) == kept
    assert "the configuration of another recorder" in caplog.text
    store.close()


def test_a_snapshot_newer_than_the_database_is_kept_aside(tmp_path: Path) -> None:
    root = a_volume(tmp_path / "volume")
    store = open_store(tmp_path, root)
    newer = snapshot.Snapshot(store.installation, 99, "c0001", {})
    store.close()
    snapshot.write(bytes(newer), root)
    open_store(tmp_path, root).close()
    aside = root / f"configuration.{store.installation}.99.json"
    assert snapshot.Snapshot.parse(aside.read_bytes()) == newer
    taken = snapshot.read(root)
    assert taken is not None
    assert taken.serial == 0


def test_a_snapshot_that_cannot_be_written_is_counted_and_the_change_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad, missing = tmp_path / "good", tmp_path / "bad", tmp_path / "missing"
    a_volume(good)
    a_volume(bad)
    store = open_store(tmp_path, bad, good, missing)
    store.write_snapshots()
    real = snapshot.write

    def write(data: bytes, root: Path) -> None:
        if root == bad:
            raise OSError(30, "Read-only file system")
        real(data, root)

    monkeypatch.setattr(snapshot, "write", write)
    store.save_user(User("x", Role.USER, b""))
    store.write_snapshots()
    assert store.snapshot_failures >= 1
    assert "Read-only file system" in caplog.text
    taken = snapshot.read(good)
    assert taken is not None
    assert taken.serial == 1
    assert not missing.exists()
    monkeypatch.undo()
    store.save_user(User("y", Role.USER, b""))
    store.write_snapshots()
    taken = snapshot.read(bad)
    assert taken is not None
    assert taken.serial == 2
    store.close()


def test_changes_of_several_threads_are_all_kept(tmp_path: Path) -> None:
    root = a_volume(tmp_path / "volume")
    store = open_store(tmp_path, root)

    def save(thread: int) -> None:
        for n in range(5):
            store.save_user(User(f"{thread}-{n}", Role.USER, b""))
            store.load()

    threads = [threading.Thread(target=save, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.load().users) == 20
    store.write_snapshots()
    taken = snapshot.read(root)
    assert taken is not None
    assert taken.serial == 20
    assert len(taken.tables["users"]) == 20
    store.close()


def test_a_value_of_a_newer_version_is_told_not_guessed(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    fill(store)
    with sqlite3.connect(tmp_path / "config.db") as connection:
        connection.execute("UPDATE jobs SET mode = 'Paused'")
    connection.close()
    with pytest.raises(OperatorError, match=r"'Paused' is not a valid RecordingJobMode.*run the version that wrote it"):
        store.load()
    store.close()


def test_closing_leaves_the_last_change_in_the_snapshot_and_no_thread(tmp_path: Path) -> None:
    root = a_volume(tmp_path / "volume")
    before = threading.active_count()
    store = open_store(tmp_path, root)
    for n in range(5):
        store.save_user(User(str(n), Role.USER, b""))
    store.close()
    taken = snapshot.read(root)
    assert taken is not None
    assert taken.serial == 5
    assert threading.active_count() == before


def test_a_fault_in_the_snapshot_thread_is_counted_and_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = a_volume(tmp_path / "volume")
    store = open_store(tmp_path, root)
    store.write_snapshots()

    def fail(data: bytes, root: Path) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(snapshot, "write", fail)
    store.save_user(User("x", Role.USER, b""))
    store.write_snapshots()
    assert store.snapshot_failures >= 1
    assert "a fault" in caplog.text
    monkeypatch.undo()
    store.save_user(User("y", Role.USER, b""))
    store.close()
    taken = snapshot.read(root)
    assert taken is not None
    assert taken.serial == 2


def test_a_change_that_was_not_in_the_snapshot_when_the_process_died_is_there_after_the_next_start(
    tmp_path: Path,
) -> None:
    root = a_volume(tmp_path / "volume")
    store = open_store(tmp_path)
    store.save_user(User("x", Role.USER, b""))
    store.close()
    open_store(tmp_path, root).close()
    taken = snapshot.read(root)
    assert taken is not None
    assert taken.serial == 1


def test_a_directory_that_is_no_volume_is_left_empty(tmp_path: Path) -> None:
    root = tmp_path / "mount"
    root.mkdir()
    store = open_store(tmp_path, root)
    store.save_user(User("x", Role.USER, b""))
    store.write_snapshots()
    assert list(root.iterdir()) == []
    (root / "volume.json").write_text("{}")
    store.write_snapshots()
    taken = snapshot.read(root)
    assert taken is not None
    assert taken.serial == 1
    store.close()
