"""Clients that nobody here wrote find a recording and where to replay it: onvif-python, and onvif-zeep-async.

Both import as `onvif`, so that the second needs an environment of its own. NVR_ONVIF_ZEEP_ASYNC names a Python that has
it; without it one is made from PyPI, and where that is out of reach the test is skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.crash import camera
from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess
from tests.support.flow import Flow

pytestmark = pytest.mark.timeout(180)

CLIENTS = Path(__file__).with_name("clients")
ZEEP_ASYNC = "onvif-zeep-async==4.3.0"


@dataclass(frozen=True, slots=True)
class Recorded:
    daemon: DaemonProcess
    recording: str
    job: str

    def drive(self, python: str, program: str, *arguments: str) -> dict[str, object]:
        """Runs a client to its end and gives what it has found."""
        address = urlsplit(self.daemon.http)
        assert address.hostname is not None
        command = [python, str(CLIENTS / program), address.hostname, str(address.port), ADMIN, *arguments]
        # Without the path of this process: each client shall find its own library.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            command, input=PASSWORD, capture_output=True, text=True, timeout=90, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def judge(self, found: dict[str, object]) -> None:
        assert found["recordings"] == [self.recording]
        assert found["tracks"] == ["VIDEO001", "AUDIO001", "META001"]
        assert (found["state"], found["found"]) == ("Completed", [self.recording])
        (seconds,) = found["seconds"]  # type: ignore[misc]
        assert seconds >= 1
        assert found["uri"] == f"{self.daemon.rtsp}/replay/{self.recording}"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """A daemon that records the built-in camera."""
    with camera() as uri, DaemonProcess(tmp_path_factory.mktemp("clients") / "data") as daemon:
        flow = Flow(daemon)
        recording, job, _ = flow.record(uri)
        flow.until_job_is(job, "Active")
        flow.until_recorded(recording, 1)
        yield Recorded(daemon, recording, job)


@pytest.fixture(scope="module")
def zeep_async(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that has onvif-zeep-async and not onvif-python."""
    given = os.environ.get("NVR_ONVIF_ZEEP_ASYNC")
    if given:
        return given
    environment = tmp_path_factory.mktemp("onvif-zeep-async")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=60)
    python = environment / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    try:
        done = subprocess.run(
            [*install, "--retries", "1", "--timeout", "10", ZEEP_ASYNC], capture_output=True, text=True, timeout=90
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{ZEEP_ASYNC} cannot be installed within 90 s")
    if done.returncode:
        pytest.skip(f"{ZEEP_ASYNC} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    return str(python)


@pytest.mark.parametrize("kind", ["digest", "token"])
def test_onvif_python_finds_the_recording_and_where_to_replay_it(recorded: Recorded, kind: str) -> None:
    recorded.judge(recorded.drive(sys.executable, "with_onvif_python.py", kind))


@pytest.mark.requirement("RS-6.2.1-05")
def test_onvif_python_walks_the_time_line_in_both_directions(recorded: Recorded) -> None:
    found = recorded.drive(sys.executable, "with_onvif_python.py", "digest", "timeline")
    forward, backward = found["timeline"]  # type: ignore[misc]
    assert forward[0][1:] == ["", "IsRecording=true"]
    assert {value for _, track, value in forward if track} == {"IsDataPresent=true"}
    assert backward == forward[::-1]


def test_onvif_zeep_async_finds_the_recording_and_where_to_replay_it(recorded: Recorded, zeep_async: str) -> None:
    recorded.judge(recorded.drive(zeep_async, "with_onvif_zeep_async.py"))


@pytest.mark.parametrize("kind", ["digest", "token"])
def test_onvif_python_pulls_events(recorded: Recorded, kind: str) -> None:
    found = recorded.drive(sys.executable, "with_onvif_python.py", kind, "events")
    active = ["Initialized", f"RecordingJobToken={recorded.job}", "State=Active"]
    assert active in found["messages"]  # type: ignore[operator]


def test_onvif_zeep_async_pulls_events(recorded: Recorded, zeep_async: str) -> None:
    found = recorded.drive(zeep_async, "with_onvif_zeep_async.py", "events")
    assert "tns1:RecordingConfig/JobState" in found["topics"]  # type: ignore[operator]
