from __future__ import annotations

import stat
from pathlib import Path

import pytest

from nvr.data_directory import DataDirectory, InUse
from nvr.model.errors import OperatorError


def test_an_absent_directory_is_made_and_closed_to_others(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "a" / "b") as directory:
        assert stat.S_IMODE(directory.path.stat().st_mode) & 0o007 == 0
        assert directory.configuration.parent == directory.index.parent == directory.path


def test_one_process_at_a_time_holds_it(tmp_path: Path) -> None:
    with (
        DataDirectory(tmp_path / "data"),
        pytest.raises(InUse, match="another nvr uses"),
        DataDirectory(tmp_path / "data"),
    ):
        pass
    with DataDirectory(tmp_path / "data"):
        pass  # given back


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match="is or lies below a file"), DataDirectory(tmp_path / "file" / "data"):
        pass
