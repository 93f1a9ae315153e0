"""What ends a doubt about the time of day."""

from __future__ import annotations

import pytest

from nvr.clock_evidence import ClockEvidence, synchronised
from nvr.ingest.clock import SessionClock
from nvr.model.errors import Refused
from nvr.model.time import NS
from nvr.operations.upkeep import UpkeepOperations

UTC = 1_800_000_000 * NS


def ntp(utc_ns: int) -> int:
    return ((utc_ns // NS + 2_208_988_800) % (1 << 32)) << 32


@pytest.mark.parametrize(
    ("agree", "differ", "believed"), [(0, 0, False), (1, 0, True), (2, 1, True), (1, 1, False), (0, 3, False)]
)
def test_cameras_confirm_the_time_where_most_of_them_have_it(agree: int, differ: int, believed: bool) -> None:
    assert (ClockEvidence(lambda: (agree, differ), lambda: None)() is not None) is believed


@pytest.mark.parametrize(
    ("agree", "differ", "believed"), [(0, 0, True), (3, 0, True), (4, 4, True), (1, 2, False), (0, 9, False)]
)
def test_a_time_service_confirms_it_unless_most_cameras_contradict(agree: int, differ: int, believed: bool) -> None:
    assert ClockEvidence(lambda: (agree, differ), lambda: "kept")() == ("kept" if believed else None)


def test_the_kernel_can_be_asked() -> None:
    assert synchronised() in (None, "the system's clock is synchronised")


def test_a_camera_agrees_by_its_last_report_only() -> None:
    clock = SessionClock()
    stream = clock.stream(90_000)
    assert not clock.agrees
    clock.sender_report(stream, ntp(UTC), 0, UTC + NS)
    assert clock.agrees
    clock.rejudge()
    assert not clock.agrees, "this recorder's clock has jumped"
    clock.sender_report(stream, ntp(UTC - 100 * NS), 0, UTC)
    assert (clock.agrees, clock.overruled) == (False, True)


async def test_an_operator_confirms_the_time_of_a_running_recorder() -> None:
    doubted = [True, False]
    running = UpkeepOperations(confirm_clock=lambda: doubted.pop(0))
    assert await running.confirm_clock() == [{"doubted": "yes"}]
    assert await running.confirm_clock() == [{"doubted": "no"}]
    with pytest.raises(Refused, match="does not run"):
        await UpkeepOperations(running=False).confirm_clock()
