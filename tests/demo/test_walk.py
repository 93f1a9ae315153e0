from __future__ import annotations

from pathlib import Path

import pytest

from nvr.demo.walk import run_demo
from nvr.model.errors import OperatorError


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "used" / "data").mkdir(parents=True)
    (tmp_path / "file").touch()
    for directory, message in (("used", "earlier demonstration"), ("file/below", "cannot make the directory")):
        with pytest.raises(OperatorError, match=message):
            run_demo(1, keep=False, directory=tmp_path / directory)
