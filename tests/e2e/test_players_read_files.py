"""Stock players read the track files from the disk, while they grow and when they are closed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.crash import camera
from tests.support.daemon import DaemonProcess
from tests.support.disk_samples import samples
from tests.support.flow import Flow, until

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed"),
]


def probed(path: Path) -> int:
    """Packets that ffprobe counts; it must find no error."""
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-of", "json", "-count_packets", "-show_entries", "stream=nb_read_packets", path],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0
    assert done.stderr == "", f"{path}: {done.stderr}"
    (stream,) = json.loads(done.stdout)["streams"]
    return int(stream["nb_read_packets"])


def test_ffprobe_reads_growing_and_closed_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with camera() as uri, DaemonProcess(data, '[storage]\nrotation = "3s"\n') as daemon:
        flow = Flow(daemon)
        recording, job, _ = flow.record(uri)
        flow.until_recorded(recording, 2)
        growing = sorted(data.glob("volumes/*/footage/*/*/*/*.mp4"))
        copies = [Path(shutil.copy(path, tmp_path / f"{path.parent.parent.name}-{path.name}")) for path in growing]
        assert {c.name.partition("-")[0] for c in copies} >= {"VIDEO001", "AUDIO001"}
        for copy in copies:
            assert probed(copy) == len(samples(copy)) > 0
        until(lambda: len(list(data.glob("volumes/*/footage/*/VIDEO001/*/*.mp4"))) >= 3, "two rotations")
        flow.set_idle(job, recording)
        for path in data.glob("volumes/*/footage/*/*/*/*.mp4"):
            assert probed(path) == len(samples(path)) > 0
        assert daemon.stop() == 0
