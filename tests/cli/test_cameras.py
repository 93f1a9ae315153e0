"""`nvr camera` on the files of a stopped recorder, as an operator types it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from nvr.auth.credentials import Vault
from nvr.cli.cameras import in_units
from nvr.model.recording import Recording
from nvr.model.time import NS
from nvr.model.tokens import AUDIO001
from nvr.operations.access import Recorder
from nvr.storage.changes import Deletion, StoredConfiguration
from nvr.storage.configuration import ConfigurationStore
from tests.support.commands import status_of
from tests.support.footage import CAMERA, PCMU, START, a_track
from tests.support.prepared import Section, prepare


@pytest.fixture
def data(tmp_path: Path) -> tuple[str, str]:
    chosen = ("--data", str(tmp_path))
    assert status_of("camera", "add", "yard", "rtsp://u:old@192.0.2.1/s", *chosen) == 0
    return chosen


def stored(data: tuple[str, str]) -> StoredConfiguration:
    path = Path(data[1])
    configuration = ConfigurationStore.open(path / "config.db", Vault.load_or_create(path), [])
    try:
        return configuration.load()
    finally:
        configuration.close()


def uri_in(data: tuple[str, str]) -> str:
    return stored(data).receivers[0].configuration.media_uri


def recording_in(data: tuple[str, str]) -> Recording:
    return stored(data).recordings[0]


def test_a_list_of_a_stopped_recorder_says_that_nothing_is_recorded_and_fails_only_as_a_check(
    data: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    for check, status in (((), 0), (("--check",), 1)):
        assert status_of("camera", "list", *check, *data) == status
        told = capsys.readouterr()
        assert re.search(r"^yard +Stopped ", told.out, re.MULTILINE)
        assert told.err == "nvr: the recorder is not running: nothing is recorded\n"


def test_a_list_for_machines_has_one_object_a_line(data: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("camera", "change", "yard", "--retention", "30d", *data) == 0
    capsys.readouterr()
    assert status_of("camera", "list", "--json", *data) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["recording"]) == ("yard", recording_in(data).token)
    assert (told["state"], told["transport"], told["transport_asked"]) == ("Stopped", [], ["tcp"])
    assert (told["oldest"], told["next_attempt_s"], told["retention_s"]) == (None, None, 30 * 86_400)
    assert told["uris"] == ["rtsp://192.0.2.1/s"]


def test_a_password_comes_from_a_file_from_the_environment_or_from_stdin_and_is_not_shown(
    tmp_path: Path, data: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text("p@1\n")
    assert status_of("camera", "change", "yard", "--password-file", str(file), *data) == 0
    assert uri_in(data) == "rtsp://u:p%401@192.0.2.1/s"
    monkeypatch.setenv("NVR_CAMERA_PASSWORD", "p@2")
    assert status_of("camera", "change", "yard", "--uri", "rtsp://192.0.2.2/s", *data) == 0
    assert uri_in(data) == "rtsp://u:p%401@192.0.2.2/s", "the environment is read only where that is said"
    assert status_of("camera", "change", "yard", "--password", *data) == 0
    assert uri_in(data) == "rtsp://u:p%402@192.0.2.2/s"
    monkeypatch.setattr("sys.stdin", io.StringIO("p@3\n"))
    assert status_of("camera", "change", "yard", "--user", "v", "--password-stdin", *data) == 0
    assert uri_in(data) == "rtsp://v:p%403@192.0.2.2/s"
    assert status_of("camera", "change", "yard", "--no-user", *data) == 0
    assert uri_in(data) == "rtsp://192.0.2.2/s"
    told = capsys.readouterr()
    assert "(yard): credentials changed" in told.out
    assert not re.search("p(@|%40)[123]", told.out + told.err)


def test_a_camera_is_added_with_a_password_that_no_list_of_processes_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", str(tmp_path))
    monkeypatch.setenv("NVR_CAMERA_PASSWORD", "p@ss")
    assert status_of("camera", "add", "yard", "rtsp://192.0.2.1/s", "--user", "ü", "--password", *data) == 0
    assert uri_in(data) == "rtsp://%C3%BC:p%40ss@192.0.2.1/s"
    assert status_of("camera", "add", "gate", "rtsp://192.0.2.2/s", "--password", *data) == 1
    assert "give --user as well" in capsys.readouterr().err
    assert len(stored(data).recordings) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "say what to change"),
        (("--user", "u"), "a user has a password"),
        (("--no-user", "--user", "u"), "--no-user goes with neither"),
        (("--uri", "-", "--password-stdin"), "stdin can hold"),
        (("--retention", "soon"), "--retention: 'soon' is not a duration"),
        (("--retention", "1ms"), "less than a second"),
    ],
)
def test_a_change_that_makes_no_sense_ends_with_2(
    data: tuple[str, str], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    assert status_of("camera", "change", "yard", *arguments, *data) == 2
    assert told in capsys.readouterr().err


def test_an_unknown_camera_ends_with_1(data: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    for command in (("change", "gate", "--name", "x"), ("remove", "gate")):
        assert status_of("camera", *command, *data) == 1
        assert "there is no camera 'gate'; `nvr camera list` shows" in capsys.readouterr().err


def test_a_camera_is_renamed_kept_for_a_time_and_removed(
    data: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert status_of("camera", "change", "yard", "--name", "gate", "--retention", "12h", *data) == 0
    assert capsys.readouterr().out.endswith(" (gate): name, retention changed\n")
    assert recording_in(data).configuration.maximum_retention_ns == 12 * 3600 * NS
    assert status_of("camera", "change", "gate", "--retention", "none", *data) == 0
    assert recording_in(data).configuration.maximum_retention_ns == 0
    assert status_of("camera", "remove", "gate", *data) == 0
    assert capsys.readouterr().out.endswith(" (gate) is removed\n")
    assert stored(data).recordings == stored(data).jobs == stored(data).receivers == ()


def test_footage_that_is_removed_while_no_recorder_runs_is_deleted_by_the_next_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    footage = a_track(PCMU, START).with_gop(interval_ns=NS // 10, count=2).fragments
    prepare(tmp_path, {CAMERA.recording: [Section(AUDIO001, footage)]})
    chosen = ("--data", str(tmp_path))
    assert status_of("camera", "remove", CAMERA.recording, "--delete-footage", "--yes", *chosen) == 0
    told = capsys.readouterr()
    assert told.out.endswith("its footage is deleted when the recorder starts\n"), told
    left = stored(chosen)
    assert left.recordings == ()
    assert left.deletions == (Deletion(CAMERA.recording),)
    assert list(tmp_path.rglob("*.mp4"))


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [(30 * 86_400 * NS, "30d"), (36 * 3600 * NS, "36h"), (90 * 60 * NS, "90m"), (61 * NS, "61s"), (NS // 2, "0s")],
)
def test_a_retention_time_is_shown_as_it_can_be_given(duration_ns: int, text: str) -> None:
    assert in_units(duration_ns) == text


def test_a_name_of_several_lines_stays_on_one_line_of_what_is_told(
    data: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert status_of("camera", "change", "yard", "--name", "a\nb", *data) == 0
    wrong = {"name": "a\nb", "state": "Error", "why": "away", "transport": "", "asked": "tcp", "next_attempt_ns": ""}
    row = wrong | dict.fromkeys(("recording", "job", "receiver", "oldest", "retention_ns", "uri"), "")
    monkeypatch.setattr(Recorder, "ask", lambda _, command, arguments: [row] if command == "camera list" else [])
    capsys.readouterr()
    assert status_of("camera", "list", "--check", *data) == 1
    told = capsys.readouterr()
    heading, listed, why = told.out.splitlines()
    assert heading.split()[:2] == ["NAME", "STATE"]
    assert listed.startswith("a?b ")
    assert why == "    away"
    assert told.err == "nvr: a?b: away\n"
