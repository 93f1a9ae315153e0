"""Whoever watches the configuration is told of each change, in order, once it is on the disk, and cannot undo it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest

from nvr.control.state import Configured
from nvr.model.errors import StorageError
from nvr.model.job import RecordingJob, RecordingJobConfiguration, RecordingJobMode, RecordingJobSource
from nvr.model.receiver import Receiver, ReceiverConfiguration
from nvr.model.recording import Recording, RecordingConfiguration
from tests.support.control import Controlled


@dataclass
class Watcher:
    rooms: Controlled
    told: list[tuple[Configured | None, Configured | None]] = field(default_factory=list)
    written: list[int] = field(default_factory=list)

    def __call__(self, before: Configured | None, after: Configured | None) -> None:
        self.told.append((before, after))
        self.written.append(len(self.rooms.store.applied))


def watched() -> tuple[Controlled, Watcher]:
    rooms = Controlled()
    watcher = Watcher(rooms)
    rooms.state.watcher = watcher
    return rooms, watcher


async def test_every_object_is_told_when_it_comes_changes_and_goes() -> None:
    rooms, watcher = watched()
    control = rooms.control
    recording = await control.create_recording(RecordingConfiguration())
    source = RecordingJobSource(None, auto_create_receiver=True, implied_tracks=True)
    job = await control.create_job(RecordingJobConfiguration(recording.token, RecordingJobMode.IDLE, 1, (source,)))
    await control.set_job_mode(job.token, RecordingJobMode.ACTIVE)
    await rooms.receivers.create(ReceiverConfiguration(media_uri="rtsp://192.0.2.1/"))
    await control.delete_recording(recording.token)
    kinds = [(type(before).__name__, type(after).__name__) for before, after in watcher.told]
    nothing, made, job_, receiver = "NoneType", Recording.__name__, RecordingJob.__name__, Receiver.__name__
    assert kinds == [
        (nothing, made),
        (nothing, receiver),
        (nothing, job_),
        (job_, job_),
        (nothing, receiver),
        (job_, nothing),
        (receiver, nothing),
        (made, nothing),
    ]
    assert watcher.told[3] == (job, control_job(watcher, 3))
    assert watcher.written == sorted(watcher.written)
    assert watcher.written[0] == 1, "what is told is on the disk"


def control_job(watcher: Watcher, place: int) -> Configured | None:
    after = watcher.told[place][1]
    assert isinstance(after, RecordingJob)
    assert after.configuration.mode is RecordingJobMode.ACTIVE
    return after


async def test_a_change_that_is_not_written_is_not_told() -> None:
    rooms, watcher = watched()
    rooms.store.failing = True
    with pytest.raises(StorageError):
        await rooms.control.create_recording(RecordingConfiguration())
    assert watcher.told == []


async def test_a_watcher_that_fails_is_logged_and_the_change_stands(caplog: pytest.LogCaptureFixture) -> None:
    rooms = Controlled()

    def fails(before: Configured | None, after: Configured | None) -> None:
        raise RuntimeError("no")

    rooms.state.watcher = fails
    with caplog.at_level(logging.ERROR):
        recording = await rooms.control.create_recording(RecordingConfiguration())
    assert rooms.control.recording(recording.token) == recording
    assert rooms.engine.recordings == (recording,)
    assert "could not be told" in caplog.text
