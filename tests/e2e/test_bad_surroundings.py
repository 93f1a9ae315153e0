"""What an operator meets when ports, disks, databases or cameras are not as they should be."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.crash import camera, nal_units
from tests.support.daemon import DaemonProcess, run_nvr
from tests.support.disk_samples import track_samples
from tests.support.flow import Flow, until
from tests.support.replayed import replay

pytestmark = pytest.mark.timeout(180)


def refused(result: subprocess.CompletedProcess[str], status: int = 2) -> str:
    """The message of a command that ended with this status: one line, without a traceback."""
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("nvr: ")
    return last


def serve(data: Path, *arguments: str, http: str = "127.0.0.1:0", rtsp: str = "127.0.0.1:0") -> str:
    """The message with which `nvr serve` refuses to start."""
    return refused(run_nvr("serve", "--data", str(data), "--http", http, "--rtsp", rtsp, *arguments))


@contextmanager
def tmpfs(directory: Path, size: str) -> Iterator[Path]:
    directory.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", directory], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        assert taken in serve(tmp_path / "a", http=taken)
        assert taken in serve(tmp_path / "b", rtsp=taken)


def test_a_read_only_data_directory_is_named(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "mount", "1m") as place:
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        assert "read-only" in serve(place / "data")


def test_a_file_in_place_of_the_data_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a directory")
    assert str(tmp_path / "data") in serve(tmp_path / "data")


def test_a_second_daemon_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path / "data"):
        assert "another nvr uses the data directory" in serve(tmp_path / "data")


def test_beyond_loopback_a_user_is_required(tmp_path: Path) -> None:
    message = serve(tmp_path / "data", http="0.0.0.0:0")
    assert "nvr user add" in message


def test_a_setting_that_does_not_exist_is_named(tmp_path: Path) -> None:
    file = tmp_path / "nvr.toml"
    file.write_text('[storage]\nrotatoin = "5m"\n')
    assert "storage.rotatoin" in serve(tmp_path / "data", "--config", str(file))


def test_commands_work_on_a_stopped_and_on_a_running_recorder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    added = run_nvr(
        "user", "add", "anna", "--role", "operator", "--password-stdin", "--data", str(data), stdin="secret\n"
    )
    assert added.returncode == 0, added.stderr
    stopped = run_nvr("camera", "add", "yard", "rtsp://127.0.0.1:9/a", "--data", str(data))
    assert stopped.returncode == 0, stopped.stderr
    with DaemonProcess(data) as daemon:
        running = run_nvr("camera", "add", "gate", "-", "--data", str(data), stdin="rtsp://127.0.0.1:9/b\n")
        assert running.returncode == 0, running.stderr
        again = run_nvr("user", "add", "anna", "--role", "user", "--password-stdin", "--data", str(data), stdin="x\n")
        assert "exists already" in refused(again, 1)
        refuses_bad_uris(data)
        assert daemon.stop() == 0
    refuses_bad_uris(data)


def refuses_bad_uris(data: Path) -> None:
    """With the same words and status whether a daemon runs on the data or not."""
    assert "rtsp://" in refused(run_nvr("camera", "add", "roof", "http://127.0.0.1/", "--data", str(data)), 1)
    assert "is empty" in refused(run_nvr("camera", "add", "roof", "-", "--data", str(data)), 1)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a few seconds of footage; the daemon has ended."""
    data = tmp_path_factory.mktemp("recorded") / "data"
    with camera() as uri, DaemonProcess(data) as daemon:
        flow = Flow(daemon)
        recording, job, _ = flow.record(uri)
        flow.until_recorded(recording, 3)
        flow.set_idle(job, recording)
        assert daemon.stop() == 0
    return data


async def assert_all_is_replayed(data: Path) -> None:
    with DaemonProcess(data) as daemon:
        flow = Flow(daemon)
        (item,) = flow.recording.GetRecordings()
        units = await replay(flow.replay_uri(item.RecordingToken), "VIDEO001")
        assert [u.h264() for u in units] == [nal_units(s) for s in track_samples(data, "VIDEO001")]
        assert daemon.stop() == 0


async def test_a_damaged_index_is_rebuilt_from_the_track_files(recorded: Path, tmp_path: Path) -> None:
    data = shutil.copytree(recorded, tmp_path / "data")
    (data / "index.db").write_bytes(b"This is no database. " * 500)
    assert "nvr catalog rebuild" in serve(data)
    rebuilt = run_nvr("catalog", "rebuild", "--data", str(data))
    assert rebuilt.returncode == 0, rebuilt.stderr
    files = len(list(data.glob("volumes/*/footage/*/*/*/*.mp4")))
    assert f"{files} track files indexed" in rebuilt.stdout
    await assert_all_is_replayed(data)


async def test_a_lost_index_is_rebuilt_from_the_track_files(recorded: Path, tmp_path: Path) -> None:
    data = shutil.copytree(recorded, tmp_path / "data")
    for path in data.glob("index.db*"):
        path.unlink()
    assert run_nvr("catalog", "rebuild", "--data", str(data)).returncode == 0
    await assert_all_is_replayed(data)


async def test_a_damaged_configuration_is_restored_from_the_snapshot(recorded: Path, tmp_path: Path) -> None:
    data = shutil.copytree(recorded, tmp_path / "data")
    (data / "config.db").write_bytes(b"This is no database. " * 500)
    await assert_all_is_replayed(data)


def test_a_volume_that_the_settings_do_not_name_any_more_is_told(recorded: Path, tmp_path: Path) -> None:
    data = shutil.copytree(recorded, tmp_path / "data")
    other = f'[storage]\nvolumes = [{{ root = "{tmp_path}/other" }}]\n'
    (data / "volumes.json").write_text(
        json.dumps({"volumes": {str(data / "volumes" / "default"): json_id(data / "volumes" / "default")}})
    )
    with DaemonProcess(data, other) as daemon:
        status, answer = health(daemon)
        assert (status, answer["status"]) == (200, "degraded")
        assert str(data / "volumes" / "default") in json.dumps(answer)
        assert daemon.has_logged("is not among the configured volumes")
        assert daemon.stop() == 0
    message = refused(run_nvr("catalog", "rebuild", "--data", str(data), "--config", f"{data}.toml"))
    assert str(data / "volumes" / "default") in message


def test_the_catalogue_of_a_running_recorder_is_not_rebuilt(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path / "data"):
        assert "stop it first" in refused(run_nvr("catalog", "rebuild", "--data", str(tmp_path / "data")))


def json_id(volume: Path) -> str:
    return str(json.loads((volume / "volume.json").read_text())["id"])


def test_a_camera_that_is_not_there_does_not_disturb_another(tmp_path: Path) -> None:
    with camera() as uri, DaemonProcess(tmp_path / "data") as daemon:
        flow = Flow(daemon)
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            _, broken_job, _ = flow.record(f"rtsp://127.0.0.1:{closed.getsockname()[1]}/nothing")
            _, job, _ = flow.record(uri)
            flow.until_job_is(job, "Active")
            flow.until_job_is(broken_job, "Error")
        texts = [t.Error for s in flow.job_state(broken_job).Sources for t in s.Tracks.Track]
        assert all(texts)
        assert daemon.stop() == 0


def health(daemon: DaemonProcess) -> tuple[int, dict[str, object]]:
    try:
        with urllib.request.urlopen(f"{daemon.http}/healthz", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as e:
        with e:
            return e.code, json.load(e)


def test_a_full_disk_is_told_and_recording_goes_on_when_there_is_space(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "volume", "256m") as volume, camera() as uri:
        filler = volume / "filler"
        config = f'[storage]\nvolumes = [{{ root = "{volume}/nvr", minimum_free = "2MiB" }}]\nretry = "1s"\n'
        with DaemonProcess(tmp_path / "data", config) as daemon:
            flow = Flow(daemon)
            recording, job, _ = flow.record(uri)
            flow.until_recorded(recording, 1)
            free = shutil.disk_usage(volume).free
            filler.write_bytes(bytes(free - (2 << 20) - (200 << 10)))
            _, answer = until(lambda: (h := health(daemon))[0] == 503 and h, "the volume is full")
            assert "full" in json.dumps(answer)
            before = set(video_files_of(volume))
            filler.unlink()
            until(lambda: health(daemon)[0] == 200, "the volume is taken again")
            until(lambda: set(video_files_of(volume)) - before, "recording goes on")
            flow.set_idle(job, recording)
            assert daemon.has_logged("full")
            assert daemon.stop() == 0


def video_files_of(volume: Path) -> list[Path]:
    return list(volume.glob("nvr/footage/*/VIDEO001/*/*.mp4"))
