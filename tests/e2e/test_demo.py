from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.daemon import run_nvr


@pytest.mark.timeout(180)
def test_the_demo_records_finds_and_replays_every_frame(tmp_path: Path) -> None:
    done = run_nvr("demo", "--seconds", "3", "--directory", str(tmp_path / "demo"), timeout_s=150)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) of (\d+) recorded frames replayed", done.stdout)
    assert found is not None
    assert found[1] == found[2]
    assert int(found[1]) >= 50
    assert re.search(r"backwards  all of them as an ONVIF client, in [2-9] groups", done.stdout)
    thumbnail = (tmp_path / "demo" / "thumbnail.jpg").read_bytes()
    assert thumbnail.startswith(b"\xff\xd8")
    assert thumbnail.endswith(b"\xff\xd9")
