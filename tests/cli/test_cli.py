from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from nvr import __version__
from tests.support.commands import status_of


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ((), "a first recorder"),
        (("serve",), "Port 0 takes a free port"),
        (("user", "add"), "administrator"),
        (("user", "role"), "search and replay"),
        (("camera", "add"), "percent-encoded"),
        (("camera", "change"), "NVR_CAMERA_PASSWORD"),
        (("camera", "remove"), "--keep-footage"),
        (("camera", "list"), "--check 1"),
        (("gaps",), "source-lost"),
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


@pytest.mark.parametrize(
    "command",
    [
        ("camera", "change", "yard", "--name", "gate"),
        ("camera", "remove", "yard"),
        ("camera", "list"),
        ("user", "list"),
        ("user", "role", "anna", "user"),
        ("user", "remove", "anna"),
        ("gaps",),
        ("clock", "confirm"),
    ],
    ids=" ".join,
)
def test_a_mistyped_directory_is_told_and_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    typo = tmp_path / "typo"
    assert status_of(*command, "--data", str(typo)) == 2
    assert capsys.readouterr().err == f"nvr: {typo} is no data directory of a recorder\n"
    assert not typo.exists()
    (tmp_path / "holiday.jpg").touch()
    assert status_of(*command, "--data", str(tmp_path)) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


def test_the_first_camera_makes_the_data_directory_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "new" / "data"
    assert status_of("camera", "add", "yard", "rtsp://192.0.2.1/", "--data", str(data)) == 0
    assert capsys.readouterr().err == f"nvr: {data} is a new data directory\n"
    (tmp_path / "holiday.jpg").touch()
    assert status_of("camera", "add", "yard", "rtsp://192.0.2.1/", "--data", str(tmp_path)) == 2
    assert capsys.readouterr().err == f"nvr: {tmp_path} is no data directory of a recorder\n"


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
