"""A daemon of which one of two volumes does not answer: at its start, while it records, and when it is back."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.e2e.crash import camera
from tests.support.daemon import DaemonProcess, run_nvr
from tests.support.flow import Flow, until
from tests.support.hanging_daemon import hanging

pytestmark = pytest.mark.timeout(180)

CONFIG = """
[storage]
fsync = "none"
rotation = "2s"
hang = "1s"
[[storage.volumes]]
root = "volumes/one"
minimum_free = "1MiB"
[[storage.volumes]]
root = "volumes/two"
minimum_free = "1MiB"
"""


def newest(root: Path) -> float:
    """When something was written last to the footage of a volume; 0 for an empty one."""
    return max((p.stat().st_mtime for p in root.rglob("*.mp4")), default=0)


def test_recording_goes_on_beside_a_volume_that_hangs_and_nobody_waits_for_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    roots = [data / "volumes" / name for name in ("one", "two")]
    roots[0].parent.mkdir(parents=True)
    with camera() as uri:
        with hanging(roots[1]):
            daemon = DaemonProcess(data, CONFIG, module="tests.support.hanging_daemon")
            assert f"{roots[1]} is hanging: opening it has not come back for" in daemon.health()
        with daemon:
            until(lambda: "hanging" not in daemon.health(), "the late volume has joined")
            flow = Flow(daemon)
            recording, _, _ = flow.record(uri)
            other, job, _ = flow.record(uri)
            flow.until_recorded(recording, 3)
            flow.until_recorded(other, 3)
            used = max(roots, key=lambda root: len(list((root / "footage" / recording).rglob("*.mp4"))))
            (left,) = (root for root in roots if root != used)

            with hanging(used):
                health = until(lambda: next((h for h in [daemon.health()] if "hanging" in h), ""), "told")
                assert f"{used} is hanging: " in health
                assert json.loads(health)["status"] == "degraded"
                hung = time.time()
                until(lambda: newest(left / "footage" / recording) > hung + 1, "recorded on the other volume")
                until(lambda: flow.information(recording).LatestRecording.timestamp() > hung + 1, "and shown")
                flow.recording.DeleteRecordingJob(JobToken=job)
                flow.recording.DeleteRecording(RecordingToken=other)
            until(lambda: "hanging" not in daemon.health(), "it answers again")
            until(lambda: not list((used / "footage").glob(f"{other}*")), "what was deleted is unlinked")
            back = time.time()
            until(lambda: flow.information(recording).LatestRecording.timestamp() > back, "recorded again")
            assert daemon.stop() == 0
            assert "Traceback" not in daemon.log
    checked = run_nvr("check", "--data", str(data), "--config", str(tmp_path / "data.toml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr
