from __future__ import annotations

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
