"""One recorder with numbered pictures of some time ago, for all the players that are tried on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from nvr.model.time import NS
from nvr.model.tokens import VIDEO001, RecordingToken
from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess
from tests.support.footage import START, cut, numbered
from tests.support.prepared import Section, prepare

CONFIG = '[listen]\nhttps = "127.0.0.1:0"\nrtsps = "127.0.0.1:0"\n[storage]\nfsync = "none"\nrotation = "1s"\n'
NUMBERED = RecordingToken("rec-numbered")


class Stocked:
    """The daemon, and the address of its recording by each way. Whoever asks has to log in."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.daemon = daemon

    def uri(self, base: str, credentials: bool = True) -> str:
        scheme, _, where = base.partition("://")
        login = f"{ADMIN}:{quote(PASSWORD)}@" if credentials else ""
        return f"{scheme}://{login}{where}/replay/{NUMBERED}"


@pytest.fixture(scope="session")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stocked]:
    """Six seconds of pictures with their numbers burnt in, ten a second, a clean point every second, a gap of 20 s
    before number 30, in files of one second."""
    data: Path = tmp_path_factory.mktemp("stocked") / "data"
    configuration, samples = numbered(60, gap_before=30)
    sections = [
        Section(VIDEO001, cut(configuration, samples[:30], START + 3 * NS)),
        Section(VIDEO001, cut(configuration, samples[30:], START + 26 * NS)),
    ]
    file = data.parent / "prepare.toml"
    file.write_text(CONFIG)
    prepare(data, {NUMBERED: sections}, file)
    with DaemonProcess(data, CONFIG) as daemon:
        yield Stocked(daemon)
        assert PASSWORD not in daemon.log
        assert "Traceback" not in daemon.log
        assert daemon.stop() == 0
