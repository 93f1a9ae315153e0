"""`nvr gaps` on the files of a stopped recorder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nvr.auth.credentials import Vault
from nvr.model.time import NS, format_iso
from nvr.model.tokens import AUDIO001, TrackKey
from nvr.storage.changes import Deletion
from nvr.storage.configuration import ConfigurationStore
from nvr.storage.index import SqlFootageIndex
from tests.support.commands import status_of
from tests.support.footage import CAMERA, PCMU, START, a_track
from tests.support.prepared import Section, prepare


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two runs of two seconds, ten seconds apart."""
    path: Path = tmp_path_factory.mktemp("gaps") / "data"
    runs = [a_track(PCMU, at_ns).with_gop(interval_ns=NS // 10, count=2) for at_ns in (START, START + 12 * NS)]
    prepare(path, {CAMERA.recording: [Section(AUDIO001, run.fragments) for run in runs]})
    return "--data", str(path)


def test_what_a_killed_recorder_left_open_is_told_as_not_told_yet(
    data: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    index = SqlFootageIndex.open(Path(data[1]) / "index.db")
    newest = index.newest(TrackKey(CAMERA.recording, AUDIO001))
    assert newest is not None
    index.reopen(newest.file_id)
    try:
        index.shut()
        assert status_of("gaps", CAMERA.recording, *data) == 0
        assert "left files of 1 track open" in capsys.readouterr().err
    finally:
        index = SqlFootageIndex.open(Path(data[1]) / "index.db")
        index.put(newest)
        index.shut()


def test_footage_that_is_deleted_without_a_recorder_goes_when_it_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data"
    run = a_track(PCMU).with_gop(interval_ns=NS // 10)
    prepare(path, {CAMERA.recording: [Section(AUDIO001, run.fragments)]})
    chosen = ("--data", str(path))
    assert status_of("camera", "remove", CAMERA.recording, *chosen) == 2
    assert "say --keep-footage or --delete-footage" in capsys.readouterr().err
    assert status_of("camera", "remove", CAMERA.recording, "--delete-footage", "--yes", *chosen) == 0
    told = capsys.readouterr()
    assert told.out == f"{CAMERA.recording} is removed; its footage is deleted when the recorder starts\n"
    assert told.err == ""
    configuration = ConfigurationStore.open(path / "config.db", Vault.load_or_create(path), [])
    stored = configuration.load()
    configuration.close()
    assert (stored.recordings, stored.deletions) == ((), (Deletion(CAMERA.recording),))
    assert list(path.rglob("*.mp4"))


def test_footage_and_gaps_are_shown_with_their_times_and_reasons(
    data: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("gaps", CAMERA.recording, *data) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{CAMERA.recording}/AUDIO001"
    assert lines[2].split() == ["2026-01-01T00:00:00.123Z", "2026-01-01T00:00:02.123Z", "00:00:02.000", "recorded"]
    assert lines[3].split()[2:] == ["00:00:10.000", "gap:", "job-stopped"]
    assert lines[5].endswith("gap: job-stopped, goes on")
    assert len(lines) == 7, "tracks without footage are not shown"


def test_a_range_is_cut_out_and_told_for_machines(data: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    within = ("--since", format_iso(START + NS), "--until", format_iso(START + 13 * NS))
    assert status_of("gaps", "--json", "--track", "AUDIO001", *within, *data) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(span["kind"], span["reason"], span["goes_on"]) for span in told] == [
        ("recorded", None, False),
        ("gap", "job-stopped", False),
        ("recorded", None, False),
    ]
    assert (told[0]["from"], told[2]["until"]) == (format_iso(START + NS), format_iso(START + 13 * NS))
    assert (told[1]["recording"], told[1]["track"], told[1]["name"]) == (CAMERA.recording, "AUDIO001", "")
    assert status_of("gaps", "--only-gaps", "--json", *within, *data) == 0
    assert [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()] == ["gap"]
    assert status_of("gaps", "--since", "2026-01-01", "--until", "2026-01-01T00:00:01Z", "--json", *data) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("gate",), 1, "there is no camera 'gate'"),
        (("--track", "VIDEO002"), 2, "there is no track 'VIDEO002'; those that there are: AUDIO001, META001, VIDEO001"),
        (("--since", "yesterday"), 2, "'yesterday' is no time such as"),
        (("--since", "1h", "--until", "2h"), 2, "--since is not before --until"),
    ],
)
def test_what_cannot_be_shown_is_told(
    data: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    status: int,
    told: str,
) -> None:
    assert status_of("gaps", *arguments, *data) == status
    assert told in capsys.readouterr().err
