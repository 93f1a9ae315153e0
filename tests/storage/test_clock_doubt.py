"""A time of day that may be wrong deletes nothing: when it is doubted, for how long, and what ends that."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from nvr.model.time import NS
from nvr.storage.clock_doubt import ABSENCE_NS, LEAP_DOUBT_NS, LEAP_NS, ClockDoubt, TimeMemory
from nvr.storage.retention import Rule
from tests.storage.test_retention import Store
from tests.support.footage import CAMERA, START

YEARS = 5 * 365 * 86_400 * NS
WEEK = 7 * 86_400 * NS


class Clock:
    """A recorder's two clocks, and the doubt about one of them."""

    def __init__(self) -> None:
        self.utc = START
        self.now = 0
        self.evidence: str | None = None
        self.asked = 0
        self.doubt = ClockDoubt(lambda: self.utc, lambda: self.now, WEEK)
        self.doubt.evidence = self._evidence

    def _evidence(self) -> str | None:
        self.asked += 1
        return self.evidence

    def pass_time(self, ns: int) -> None:
        self.utc += ns
        self.now += ns

    @property
    def believed(self) -> bool:
        return self.doubt.believed_utc() is not None


@pytest.mark.parametrize(
    ("absent_ns", "believed"),
    [(None, True), (-YEARS, True), (ABSENCE_NS, True), (ABSENCE_NS + NS, False), (YEARS, False)],
)
def test_a_start_is_doubted_where_the_clock_is_far_ahead_of_what_was_known(
    absent_ns: int | None, believed: bool
) -> None:
    clock = Clock()
    clock.doubt.begin(None if absent_ns is None else START - absent_ns)
    assert clock.believed is believed
    assert clock.doubt.doubted is not believed


def test_the_doubt_about_a_start_ends_with_its_patience_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    clock.doubt.begin(START - YEARS)
    for _ in range(7):
        assert not clock.believed
        assert clock.doubt.doubt is not None
        clock.pass_time(86_400 * NS)
    assert clock.believed
    assert clock.doubt.doubt is None
    assert clock.doubt.doubts == 1
    assert [r.levelname for r in caplog.records] == ["ERROR", "WARNING"]
    assert "nvr clock confirm" in caplog.text


def test_evidence_at_the_start_leaves_no_doubt_at_all(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    clock.evidence = "the system's clock is synchronised"
    clock.doubt.begin(START - YEARS)
    with caplog.at_level(logging.WARNING):
        assert clock.believed
    assert caplog.records == []
    assert clock.doubt.doubts == 0


def test_evidence_is_asked_for_now_and_then_and_ends_the_doubt(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    clock.doubt.begin(START - YEARS)
    for _ in range(60):
        assert not clock.believed
        clock.pass_time(NS)
    assert clock.asked == 6
    clock.evidence = "the clocks of 3 cameras agree, of 0 not"
    assert clock.believed
    assert "3 cameras agree" in caplog.records[-1].message


def test_an_operator_ends_the_doubt() -> None:
    clock = Clock()
    assert not clock.doubt.confirm("an operator says so"), "nobody doubts"
    clock.doubt.begin(START - YEARS)
    assert not clock.believed
    assert clock.doubt.confirm("an operator says so")
    assert clock.believed


def test_a_clock_that_is_set_right_is_believed_at_once() -> None:
    clock = Clock()
    clock.doubt.begin(START - YEARS)
    assert not clock.believed
    clock.utc -= YEARS
    assert clock.believed


def test_cameras_are_heard_anew_before_evidence_for_a_leap_is_asked_for() -> None:
    clock = Clock()
    assert clock.believed
    clock.evidence = "the system's clock is synchronised"
    clock.utc += YEARS
    for _ in range(10):
        assert not clock.believed
        clock.pass_time(NS)
    assert clock.asked == 0
    assert clock.believed


def test_a_leap_is_doubted_for_an_hour_and_another_one_anew() -> None:
    clock = Clock()
    assert clock.believed
    clock.utc += LEAP_NS
    assert clock.believed
    clock.utc += LEAP_NS + NS
    assert not clock.believed
    clock.pass_time(LEAP_DOUBT_NS - NS)
    clock.utc += YEARS
    assert not clock.believed
    clock.pass_time(LEAP_DOUBT_NS - NS)
    assert not clock.believed
    clock.pass_time(NS)
    assert clock.believed


async def test_a_wrong_clock_at_a_start_costs_no_footage_and_hides_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await store.start()
    await store.record(20)
    await store.engine.retention._keep_time()
    await store.engine.stop()
    store.retention[CAMERA.recording] = 5 * NS
    store.extra_ns = YEARS
    for _ in range(2):  # also behind a second cut of power, with footage of the wrong time
        engine = await store.start()
        assert engine.timeline(CAMERA).earliest == START
        await store.sweep()
        assert engine.retention.deleted[Rule.TIME].files == 0
        await store.record(1)
        await engine.stop()
    engine = await store.start()
    assert engine.retention.clock.confirm("an operator says so")
    await store.sweep()
    assert engine.retention.deleted[Rule.TIME].files >= 20
    await engine.stop()


def test_the_last_good_time_outlives_the_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    memory = TimeMemory(tmp_path / "clock.json")
    assert memory.read() is None
    memory.write(START)
    assert TimeMemory(tmp_path / "clock.json").read() == START
    assert [p.name for p in tmp_path.iterdir()] == ["clock.json"]
    for torn in (b"", b"{", b"[]", b'{"believed_ns": "x"}', b"\xff"):
        (tmp_path / "clock.json").write_bytes(torn)
        assert memory.read() is None
    missing = TimeMemory(tmp_path / "nowhere" / "clock.json")
    caplog.clear()
    for _ in range(3):
        missing.write(START)
    assert len(caplog.records) == 1
