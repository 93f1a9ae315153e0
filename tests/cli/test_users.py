"""`nvr user` on the files of a stopped recorder, as an operator types it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tests.support.commands import status_of


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    chosen = ("--data", str(tmp_path / "data"))
    monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))
    assert status_of("user", "add", "anna", "--role", "administrator", "--password-stdin", *chosen) == 0
    told = capsys.readouterr()
    assert told.out == "user anna (administrator) added\n"
    assert told.err == f"nvr: {tmp_path / 'data'} is a new data directory\n"
    return chosen


def test_users_are_made_listed_changed_and_removed(
    tmp_path: Path, data: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "password"
    file.write_text("from a file\nand no more\n")
    assert status_of("user", "add", "ute", "--role", "user", "--password-file", str(file), *data) == 0
    assert status_of("user", "role", "ute", "operator", *data) == 0
    assert status_of("user", "password", "ute", "--password-file", str(file), *data) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["user ute is operator now", "user ute has another password"]
    assert status_of("user", "list", *data) == 0
    assert capsys.readouterr().out.splitlines() == ["NAME  ROLE", "anna  administrator", "ute   operator"]
    assert status_of("user", "remove", "ute", *data) == 0
    capsys.readouterr()
    assert status_of("user", "list", "--json", *data) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "anna", "role": "administrator", "locked": False}


def test_the_last_administrator_can_neither_be_removed_nor_lose_the_role(
    data: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (("remove", "anna"), ("role", "anna", "user")):
        assert status_of("user", *command, *data) == 1
        assert capsys.readouterr().err == "nvr: user 'anna' is the last administrator\n"


def test_a_password_that_nobody_gives_is_asked_for_in_clear_words(
    tmp_path: Path, data: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert status_of("user", "password", "anna", *data) == 2
    assert "give it by --password-stdin, or by --password-file" in capsys.readouterr().err
    assert status_of("user", "password", "anna", "--password-stdin", *data) == 2
    assert status_of("user", "password", "anna", "--password-file", str(tmp_path / "absent"), *data) == 2
    assert f"cannot read {tmp_path / 'absent'}" in capsys.readouterr().err
