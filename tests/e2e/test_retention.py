"""Footage that grows old and a volume that leaves and returns, as clients of a daemon see it."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from nvr.model.time import parse_iso
from tests.e2e.crash import camera
from tests.e2e.test_events import Listener
from tests.e2e.test_profile_g import collected
from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess
from tests.support.flow import Flow, until
from tests.support.rtsp_client import RtspClient

pytestmark = pytest.mark.timeout(120)

CONFIG = (
    '[storage]\nfsync = "none"\nrotation = "1s"\nretry = "200ms"\nretry_limit = "400ms"\n[ingest]\nback_off = "200ms"\n'
)
FAILURE = "Device/HardwareFailure/StorageFailure"
RETENTION = timedelta(seconds=3)
CONFIGURATION = {
    "Source": {"SourceId": "camera", "Name": "camera", "Location": "", "Description": "", "Address": ""},
    "Content": "",
    "MaximumRetentionTime": RETENTION,
}


async def play(uri: str, start: datetime, end: datetime) -> int:
    """Status of the answer to PLAY of this range."""
    parts = urlsplit(uri)
    assert parts.port is not None
    client = await RtspClient.connect(parts.port)
    client.credentials = (ADMIN, PASSWORD)
    try:
        assert (await client.request("DESCRIBE", parts.path)).status == 200
        await client.set_up(parts.path, "VIDEO001")
        span = "-".join(t.strftime("%Y%m%dT%H%M%S.%fZ") for t in (start, end))
        answer = await client.request("PLAY", parts.path, Range=f"clock={span}", Require="onvif-replay")
        return answer.status
    finally:
        await client.close()


def history(flow: Flow, recording: str) -> list[datetime]:
    """The times of all that FindEvents finds in the recording, up to an hour from now."""
    search = flow.search.FindEvents(
        StartPoint=datetime(2000, 1, 1, tzinfo=UTC), EndPoint=datetime.now(UTC) + timedelta(hours=1),
        Scope={"IncludedRecordings": [recording]}, SearchFilter={}, IncludeStartState=False, KeepAliveTime="PT10S",
    )  # fmt: skip
    return [result.Time for result in collected(flow.search.GetEventSearchResults, search)]


def metric(daemon: DaemonProcess, name: str) -> float:
    """The value of a metric with its labels."""
    with urllib.request.urlopen(f"{daemon.http}/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).rpartition(" ")[2])


def track_files(data: Path) -> list[Path]:
    return list((data / "volumes").rglob("*.mp4"))


@pytest.mark.requirement("RC-5.3.1-02", "RC-5.3.1-03", "RC-5.7-08", "RC-5.25.4-01")
def test_footage_is_deleted_when_it_is_too_old_and_a_volume_that_returns_is_recorded_to(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with camera() as uri, DaemonProcess(data, CONFIG) as daemon:
        flow, listener = Flow(daemon), Listener(daemon)
        recording, job, _ = flow.record(uri)
        flow.until_recorded(recording, 4)
        oldest = flow.information(recording).EarliestRecording
        assert min(history(flow, recording)) <= oldest

        flow.recording.SetRecordingConfiguration(RecordingToken=recording, RecordingConfiguration=CONFIGURATION)
        asked = datetime.now(UTC)
        information = flow.information(recording)
        assert information.EarliestRecording >= asked - RETENTION, "at once, and deleted soon"
        assert flow.recording.GetRecordingConfiguration(RecordingToken=recording).MaximumRetentionTime == RETENTION
        listener.until("RecordingConfig/RecordingConfiguration", ("RecordingToken", recording))
        old = oldest + timedelta(seconds=1)
        assert asyncio.run(play(flow.replay_uri(recording), oldest, old)) == 457
        assert all(time >= asked - RETENTION for time in history(flow, recording))
        recent = datetime.now(UTC)
        assert (
            asyncio.run(play(flow.replay_uri(recording), recent - timedelta(seconds=2), recent + 60 * RETENTION)) == 200
        )
        for track in information.Track:
            gone = listener.until("RecordingConfig/DeleteTrackData", ("TrackToken", track.TrackToken))
            assert gone.items("Source")["RecordingToken"] == recording
            start, end = (parse_iso(gone.items("Data")[name]) / 1e9 for name in ("StartTime", "EndTime"))
            assert oldest.timestamp() - 1 < start < end < time.time()
        before = set(track_files(data))
        until(lambda: not before & set(track_files(data)), "files that are too old are gone")

        root = data / "volumes" / "default"
        (token,) = {m.items("Source")["Token"] for m in listener.of(FAILURE)}
        root.rename(tmp_path / "unplugged")
        listener.until(FAILURE, ("Token", token), ("Failed", "true"))
        assert metric(daemon, f'nvr_volume_state{{root="{root}",state="missing"}}') == 1
        assert "is missing" in daemon.health()
        (tmp_path / "unplugged").rename(root)
        listener.until(
            "Device/HardwareFailure/StorageFailure", ("Token", token), ("Failed", "false"), operation="Changed"
        )
        back = datetime.now(UTC)
        # None for a moment, where all that there was is too old.
        until(lambda: (latest := flow.information(recording).LatestRecording) and latest > back, "recorded again")
        assert metric(daemon, f'nvr_volume_failures_total{{root="{root}"}}') == 1
        until(lambda: metric(daemon, 'nvr_retention_deleted_files_total{rule="time"}') > 3, "deletions are counted")
        assert metric(daemon, 'nvr_retention_deleted_bytes_total{rule="time"}') > 1000
        assert metric(daemon, 'nvr_retention_deleted_files_total{rule="space"}') == 0

        flow.set_idle(job, recording)
        until(lambda: flow.information(recording).EarliestRecording is None, "all of it is too old")
        until(lambda: not track_files(data), "and gone")
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log
