from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from nvr import __version__
from nvr.cli import main


def status_of(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ((), "a first recorder"),
        (("serve",), "Port 0 takes a free port"),
        (("user", "add"), "administrator"),
        (("camera", "add"), "percent-encoded"),
        (("catalog", "rebuild"), "Nothing is deleted"),
        (("check",), "never removes footage"),
        (("demo",), "--seconds"),
    ],
)
def test_help_teaches(command: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(*command, "--help") == 0
    assert word in " ".join(capsys.readouterr().out.split())


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("--version") == 0
    assert capsys.readouterr().out == f"nvr {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("record",),
        ("serve",),
        ("user", "add", "anna", "--data", "x"),
        ("user", "add", "anna", "--role", "king", "--data", "x"),
        ("check",),
        ("demo", "--seconds", "0"),
    ],
)
def test_wrong_use_ends_with_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(*arguments) == 2
    assert "usage: nvr" in capsys.readouterr().err


def test_the_help_shows_a_uri_as_it_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    status_of("camera", "add", "--help")
    assert "rtsp://user:p%40ss@192.0.2.10/stream1" in capsys.readouterr().out


def test_an_operators_fault_is_one_line_and_2(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("catalog", "rebuild", "--data", f"{tmp_path}/absent") == 2
    assert capsys.readouterr().err == f"nvr: there is no data directory {tmp_path}/absent\n"


def test_a_list_of_a_directory_that_is_none_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typo = tmp_path / "typo"
    assert status_of("camera", "list", "--data", str(typo)) == 2
    assert capsys.readouterr().err == f"nvr: {typo} is no data directory of a recorder\n"
    assert not typo.exists()


def test_a_list_of_a_stopped_recorder_says_that_nothing_is_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", str(tmp_path))
    assert status_of("camera", "add", "yard", "rtsp://192.0.2.1/", *data) == 0
    assert status_of("camera", "list", *data) == 1
    told = capsys.readouterr()
    assert "Stopped" in told.out
    assert told.err == "nvr: the recorder is not running: nothing is recorded\n"


def test_a_first_start_that_cannot_be_makes_no_data_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NVR_ADMIN_PASSWORD", raising=False)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    data = tmp_path / "data"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert status_of("serve", "--data", str(data), "--http", "127.0.0.1:0", "--rtsp", address) == 2
        assert f"cannot listen at {address}" in capsys.readouterr().err
    assert status_of("serve", "--data", str(data), "--http", "192.0.2.1:80") == 2
    assert "there is no user" in capsys.readouterr().err
    assert not data.exists()
