"""The catalogue at size: the index of footage with a million files, the configuration with a thousand cameras.

.venv/bin/python -m benchmarks.catalogue [--cameras 40] [--days 30] [--configured 1000]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from nvr.auth.credentials import Vault
from nvr.model.job import (
    RecordingJob,
    RecordingJobConfiguration,
    RecordingJobMode,
    RecordingJobSource,
    RecordingJobTrack,
    SourceReference,
)
from nvr.model.receiver import Receiver, ReceiverConfiguration
from nvr.model.recording import Recording, RecordingConfiguration, RecordingSourceInformation, default_tracks
from nvr.model.time import NS
from nvr.model.tokens import RecordingToken, new_job_token, new_receiver_token, new_recording_token
from nvr.storage.changes import Save
from nvr.storage.configuration import ConfigurationStore
from nvr.storage.index import SqlFootageIndex
from nvr.storage.rows import FileState, TrackFileRow

FILE_NS = 300 * NS
FILES_IN_RUN = 50


def timed(what: str, work: Callable[[], object], repeat: int = 1) -> None:
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1000)
    print(f"{what:48} {statistics.median(times):10.2f} ms   worst {max(times):10.2f} ms")


def footage(cameras: int, days: int) -> Iterator[TrackFileRow]:
    number = 0
    for camera in range(cameras):
        recording = RecordingToken(f"rec-{camera:032x}")
        for track in default_tracks():
            for place in range(days * 288):
                number += 1
                file_id = f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032x}"
                start_ns = place * FILE_NS
                run, run_place = divmod(place, FILES_IN_RUN)
                path = f"footage/{recording}/{track.token}/20260101/000000-{file_id}.mp4"
                yield TrackFileRow(
                    file_id,
                    "volume",
                    recording,
                    track.token,
                    f"{run:032x}",
                    run_place,
                    path,
                    start_ns,
                    start_ns + FILE_NS,
                    FileState.CLOSED,
                    "H264",
                    150_000_000,
                    7500,
                )


def measure_index(directory: Path, cameras: int, days: int) -> None:
    path = directory / "index.db"
    rows = list(footage(cameras, days))
    index = SqlFootageIndex.open(path)
    timed(f"index: replace a volume of {len(rows)} files", lambda: index.replace_volume("volume", rows))
    index.shut()
    print(f"index: {path.stat().st_size / 1e6:.0f} MB")
    timed("index: open, with quick_check", lambda: SqlFootageIndex.open(path).shut(), 3)
    index = SqlFootageIndex.open(path)
    key = rows[-1].key
    for place in (0, days * 144, days * 288 - 1):
        timed(f"index: page of files from file {place}", lambda at=place * FILE_NS: index.files(key, at), 20)  # type: ignore[misc]
    timed("index: runs of one track", lambda: index.runs(key), 20)
    timed("index: all runs of all tracks", index.all_runs, 3)
    opened = (replace(rows[0], file_id=f"{n:032x}", state=FileState.OPEN) for n in range(200))
    timed("index: insert one row", lambda: index.insert_open(next(opened)), 200)
    index.shut()


def measure_configuration(directory: Path, cameras: int) -> None:
    volume = directory / "volume"
    volume.mkdir()
    (volume / "volume.json").write_text("{}")
    store = ConfigurationStore.open(directory / "config.db", Vault.load_or_create(directory), [volume])
    changes = []
    for n in range(cameras):
        source = RecordingSourceInformation(f"urn:camera:{n}", f"Camera {n}", "somewhere in the building")
        recording = Recording(new_recording_token(), RecordingConfiguration(source), default_tracks())
        uri = f"rtsp://admin:password@10.0.{n // 250}.{n % 250}/stream"
        receiver = Receiver(new_receiver_token(), ReceiverConfiguration(media_uri=uri), auto_created=True)
        lines = tuple(RecordingJobTrack("", track.token) for track in recording.tracks)
        job_source = RecordingJobSource(SourceReference(receiver.token), lines)
        job = RecordingJobConfiguration(recording.token, RecordingJobMode.ACTIVE, 1, (job_source,))
        changes += [Save(recording), Save(receiver), Save(RecordingJob(new_job_token(), job))]
    timed(f"configuration: {len(changes)} objects in one change", lambda: store.apply(changes))
    store.write_snapshots()
    timed("configuration: one change", lambda: store.apply(changes[:1]), 50)
    timed("configuration: one snapshot", store.write_snapshots, 5)
    timed("configuration: load", store.load, 3)
    print(f"configuration: snapshot of {(volume / 'configuration.json').stat().st_size / 1e6:.1f} MB")
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=40)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--configured", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        measure_configuration(Path(directory), arguments.configured)
        measure_index(Path(directory), arguments.cameras, arguments.days)


if __name__ == "__main__":
    main()
