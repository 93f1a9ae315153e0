"""A start behind a crash, with a large store: a million track files in the index, 120 of them open.

.venv/bin/python -m benchmarks.startup [--cameras 40] [--days 30] [--open-mb 8] [--sparse] [--times 3]

Rows are made, not recorded; the open files are real ones without a tail, as kill -9 leaves them. `--sparse` makes the
closed files too, as holes of their size, so that looking through the directories costs what it would cost. Told: how
long `nvr serve` takes until it is ready, how long until everything is checked, and what memory that takes; each with
what the kernel had read before forgotten (cold, which takes root) and kept (warm). The peer is the same daemon with an
empty store.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nvr.auth.credentials import Vault
from nvr.media.codecs.h264 import H264Configuration
from nvr.media.unit import Fragment, Sample
from nvr.model.recording import Recording, RecordingConfiguration, RecordingSourceInformation, default_tracks
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.model.tokens import RecordingToken
from nvr.storage.changes import Save
from nvr.storage.configuration import ConfigurationStore
from nvr.storage.disk import Disk
from nvr.storage.index import SqlFootageIndex
from nvr.storage.rows import FileState, TrackFileRow
from nvr.storage.settings import VolumeSettings
from nvr.storage.track_file import TrackFileWriter, track_file_path
from nvr.storage.volume import Volume, VolumeRegistry

FILE_NS = 300 * NS
FILES_IN_RUN = 50
FRAGMENT_BYTES = 500_000
SPARSE_BYTES = 1 << 20
CONFIGURATION = H264Configuration((bytes.fromhex("6742c01e95a0280bfe54"),), (bytes.fromhex("68ce3c80"),))


def rows(volume_id: str, cameras: int, days: int, end_ns: int) -> Iterator[TrackFileRow]:
    """Closed files, and one open file at the end of each track; runs of 50 files."""
    number = 0
    per_track = days * 288
    for camera in range(cameras):
        recording = RecordingToken(f"rec-{camera:032x}")
        for track in default_tracks():
            for place in range(per_track):
                number += 1
                last = place == per_track - 1
                run, run_place = divmod(place, FILES_IN_RUN)
                start_ns = end_ns - (per_track - place) * FILE_NS
                file_id = f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032x}"
                row = TrackFileRow(
                    file_id=file_id,
                    volume_id=volume_id,
                    recording=recording,
                    track=track.token,
                    run_id=f"{camera:08x}{track.token:>12}{run:012x}",
                    run_place=run_place,
                    path="",
                    start_ns=start_ns,
                    end_ns=start_ns if last else start_ns + FILE_NS - (NS if run_place == FILES_IN_RUN - 1 else 0),
                    state=FileState.OPEN if last else FileState.CLOSED,
                    encoding="H264",
                    size=0 if last else SPARSE_BYTES,
                    samples=0 if last else 7500,
                    gap_before=GapReason.SOURCE_LOST if run and run_place == 0 else None,
                    end_reason=GapReason.SOURCE_LOST if run_place == FILES_IN_RUN - 1 and not last else None,
                )
                yield replace(row, path=track_file_path(row.key, file_id, start_ns))


def write_open(root: Path, row: TrackFileRow, total: int) -> None:
    """A file of whole fragments without a tail, and a torn write behind them."""
    writer = TrackFileWriter(Disk(), root, row, CONFIGURATION)
    count = max(total // FRAGMENT_BYTES, 1)
    for n in range(count):
        at_ns = row.start_ns + n * 2 * NS
        samples = [Sample(at_ns + i * NS // 25, os.urandom(FRAGMENT_BYTES // 50), i == 0) for i in range(50)]
        writer.append(Fragment(CONFIGURATION, samples, at_ns + 2 * NS))
    with writer.path.open("ab") as file:
        file.write(os.urandom(1000))


def make(data: Path, cameras: int, days: int, open_mb: int, *, sparse: bool) -> int:
    """Returns the number of rows."""
    root = data / "volumes" / "default"
    volume = Volume(VolumeSettings(root, 0), VolumeRegistry(data / "volumes.json", Disk()), Disk())
    volume.open(time.time_ns())
    volume.close()
    assert volume.id is not None
    store = ConfigurationStore.open(data / "config.db", Vault.load_or_create(data), [root])
    recordings = [
        Recording(
            RecordingToken(f"rec-{n:032x}"),
            RecordingConfiguration(RecordingSourceInformation(f"urn:camera:{n}", f"Camera {n}")),
            default_tracks(),
        )
        for n in range(cameras)
    ]
    store.apply([Save(r) for r in recordings])
    store.close()
    index = SqlFootageIndex.open(data / "index.db")
    made = list(rows(volume.id, cameras, days, time.time_ns() - 60 * NS))
    index.replace_volume(volume.id, made)
    index.shut()
    directories = set()
    for row in made:
        if row.state is FileState.OPEN:
            write_open(root, row, open_mb << 20)
        elif sparse:
            path = root / row.path
            if path.parent not in directories:
                path.parent.mkdir(parents=True, exist_ok=True)
                directories.add(path.parent)
            fd = os.open(path, os.O_CREAT | os.O_WRONLY)
            os.ftruncate(fd, row.size)
            os.close(fd)
    return len(made)


def reopen(data: Path) -> None:
    """The newest file of each track as it was before the recovery: row OPEN, its tail torn."""
    connection = sqlite3.connect(data / "index.db")
    newest = connection.execute("select file_id, path, max(start_ns) from track_files group by recording, track")
    for file_id, path, _ in newest.fetchall():
        found = data / "volumes" / "default" / path
        os.truncate(found, found.stat().st_size - 10)
        connection.execute("update track_files set state = 'open', end_ns = start_ns where file_id = ?", (file_id,))
    connection.commit()
    connection.close()


def drop_caches() -> bool:
    """Whether the kernel has forgotten what it had read: a start behind a power cut finds nothing in memory."""
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return False
    return True


def memory_mb(pid: int) -> float:
    fields = Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()
    return int(fields[0]) / 1000


def health(address: str) -> dict[str, object]:
    with urllib.request.urlopen(address + "/healthz", timeout=30) as answer:
        return dict(json.load(answer))


def start_once(data: Path) -> tuple[float, float, float, float]:
    """Seconds until ready, seconds until checked, MB when ready, MB in the end. Ends by kill -9."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "nvr", "serve", "--data", str(data)]
    command += ["--http", "127.0.0.1:0", "--rtsp", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        ready = time.perf_counter() - begin
        assert "is ready" in line, line
        first_mb = memory_mb(process.pid)
        address = line.split("is ready: ")[1].split()[0]
        while "being checked" in json.dumps(health(address)):
            time.sleep(0.1)
        checked = time.perf_counter() - begin
        return ready, checked, first_mb, memory_mb(process.pid)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=40)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--open-mb", type=int, default=8, help="size of each open file")
    parser.add_argument("--sparse", action="store_true", help="make the closed files too, as holes")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=None, help="keep the store here, and use one that is there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        data = arguments.directory or Path(temporary)
        if not (data / "index.db").exists():
            begin = time.perf_counter()
            count = make(data, arguments.cameras, arguments.days, arguments.open_mb, sparse=arguments.sparse)
            print(f"{count} files made in {time.perf_counter() - begin:.0f} s", flush=True)
        print(f"index of {(data / 'index.db').stat().st_size / 1e6:.0f} MB", flush=True)
        for number in range(arguments.times):
            for kept in ("cold", "warm"):
                if number or kept == "warm" or arguments.directory:
                    reopen(data)
                tell(kept, "store", data)
                with tempfile.TemporaryDirectory() as empty:
                    tell(kept, "empty store", Path(empty))


def tell(kept: str, what: str, data: Path) -> None:
    if kept == "cold" and not drop_caches():
        kept = "warm, the caches cannot be dropped"
    ready, checked, first_mb, last_mb = start_once(data)
    print(
        f"{kept}, {what}: ready {ready:.2f} s ({first_mb:.0f} MB), checked {checked:.1f} s ({last_mb:.0f} MB)",
        flush=True,
    )


if __name__ == "__main__":
    main()
