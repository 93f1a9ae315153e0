"""Event-driven recording: what goes through a gate, and what waits and is dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.ingest.gate import LATE_NS, MOST_HELD, EventGate
from nvr.ingest.gated import BURST_BYTES, GatedRecorder
from nvr.ingest.memory import HeldMemory
from nvr.ingest.settings import Times
from nvr.media.unit import Fragment
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from tests.support.footage import START, TrackScript, video
from tests.support.ingest import key

ENDLESS = 1 << 40


@dataclass
class Storage:
    taken: list[Fragment] = field(default_factory=list)
    steps: list[int | GapReason] = field(default_factory=list)
    refuses: bool = False

    def append(self, fragment: Fragment) -> bool:
        if self.refuses:
            return False
        self.taken.append(fragment)
        self.steps.append((fragment.start_ns - START) // NS)
        return True

    def end_run(self, reason: GapReason) -> None:
        self.steps.append(reason)

    def correct_gap(self, reason: GapReason) -> None:
        assert isinstance(self.steps[-1], GapReason)
        self.steps[-1] = reason


class House:
    """A camera with a picture group of one second, each fragment named by its second."""

    def __init__(
        self, before: int = 0, after: int = 0, most: int = ENDLESS, memory: HeldMemory | None = None, name: str = "1"
    ) -> None:
        self.storage = Storage()
        self.gate = EventGate(before * NS, after * NS)
        self.waiting: list[Callable[[], None]] = []
        self.memory = HeldMemory() if memory is None else memory
        self.key = key(recording=f"rec-{name}")
        self.recorder = GatedRecorder(self.key, self.storage, self.gate, most, self.memory, self.waiting.append)
        self.script = TrackScript(video())

    def send(self, seconds: int, *, clean: bool = True, size: int = 300) -> bool:
        taken = True
        for _ in range(seconds):
            self.script.with_gop(10, size, interval_ns=NS // 10, clean=clean)
            fragment = self.script.steps.pop()
            assert isinstance(fragment, Fragment)
            taken = self.recorder.append(fragment)
        return taken

    def gap(self, seconds: int, reason: GapReason) -> None:
        self.recorder.end_run(reason)
        self.script.at_ns += seconds * NS

    def set_back(self, by_ns: int) -> None:
        self.recorder.end_run(GapReason.CLOCK_JUMP)
        self.script.at_ns -= by_ns

    def seconds(self) -> list[int]:
        """What was recorded, without the gaps."""
        return [s for s in self.storage.steps if not isinstance(s, GapReason)]

    @property
    def dropped(self) -> int:
        return next((b.dropped for b in self.memory.buffers() if b.key == self.key), 0)

    def at(self, second: float) -> int:
        return START + int(second * NS)

    def later(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


def test_without_an_event_nothing_is_recorded_and_little_waits() -> None:
    house = House(before=2)
    house.send(60)
    assert house.storage.steps == []
    assert house.recorder.held_bytes < 10 * 10 * 300


@pytest.mark.requirement("RC-N5.3.4-01")
def test_it_records_while_the_condition_holds() -> None:
    house = House()
    house.send(5)
    house.gate.begin("motion", house.at(5.5))
    house.send(3)
    house.gate.end("motion", house.at(7.5))
    house.send(3)
    assert house.storage.steps == [5, 6, 7, GapReason.NO_EVENT]


@pytest.mark.requirement("RC-N5.3.4-03", "RC-N5.3.4-04")
def test_before_and_after_are_recorded_with_whole_picture_groups() -> None:
    house = House(before=3, after=2)
    house.send(20)
    house.gate.begin("motion", house.at(19.5))
    house.send(1)
    house.gate.end("motion", house.at(20.5))
    house.send(10)
    assert house.storage.steps == [16, 17, 18, 19, 20, 21, 22, GapReason.NO_EVENT]


@pytest.mark.requirement("RC-N5.3.4-05")
def test_an_event_that_is_no_property_is_one_picture_group_at_least() -> None:
    house = House()
    house.send(10)
    house.gate.pulse(house.at(8.2))
    house.send(3)
    assert house.storage.steps == [8, GapReason.NO_EVENT]
    assert house.storage.taken[0].clean_point


def test_an_event_that_is_told_late_still_finds_what_was_before_it() -> None:
    house = House(before=1)
    house.send(20)
    house.gate.pulse(house.at(20) - LATE_NS)
    house.send(2)
    assert house.storage.steps == [14, 15, GapReason.NO_EVENT]


def test_a_long_picture_group_is_recorded_from_its_clean_point_to_its_end() -> None:
    house = House()
    house.send(1)
    house.send(5, clean=False)
    house.gate.pulse(house.at(3.5))
    house.send(2, clean=False)
    house.send(2)
    assert house.storage.steps == [0, 1, 2, 3, 4, 5, 6, 7, GapReason.NO_EVENT]


def test_conditions_that_overlap_are_one_recording() -> None:
    house = House(after=1)
    house.send(2)
    house.gate.begin("motion", house.at(2))
    house.send(1)
    house.gate.begin("line", house.at(3))
    house.gate.end("motion", house.at(3))
    house.gate.end("motion", house.at(3))
    house.send(3)
    house.gate.end("line", house.at(6))
    house.send(4)
    assert house.storage.steps == [2, 3, 4, 5, 6, GapReason.NO_EVENT]
    assert not house.gate.holds


def test_after_counts_from_the_latest_end_in_whatever_order_ends_are_told() -> None:
    house = House(after=5)
    house.send(1)
    house.gate.begin("motion", house.at(1))
    house.gate.begin("line", house.at(1))
    house.send(4)
    house.gate.end("line", house.at(4.5))
    house.gate.end("motion", house.at(2))
    house.send(9)
    assert house.storage.steps == [1, 2, 3, 4, 5, 6, 7, 8, 9, GapReason.NO_EVENT]


def test_a_camera_whose_sources_never_repeat_does_not_fill_memory() -> None:
    house = House()
    for number in range(MOST_HELD + 50):
        house.gate.begin(number, house.at(0))
    house.gate.end_all(lambda _: True, house.at(0))
    assert not house.gate.holds
    house.gate.begin("one more", house.at(1))
    assert house.gate.holds


def test_an_event_that_comes_back_goes_on_without_a_gap() -> None:
    house = House(before=2, after=1)
    house.gate.pulse(house.at(0.5))
    house.send(5)
    house.gate.pulse(house.at(5))
    house.send(3)
    assert house.storage.steps == [0, 1, GapReason.NO_EVENT, 3, 4, 5, 6, GapReason.NO_EVENT]
    assert house.storage.taken[2].start_ns == house.at(3)


def test_a_gap_of_the_stream_keeps_its_reason() -> None:
    house = House()
    house.gate.begin("motion", START)
    house.send(2)
    house.gap(3, GapReason.SOURCE_LOST)
    house.send(1)
    house.gate.end("motion", house.at(5.5))
    house.gap(3, GapReason.PACKET_LOSS)
    house.send(1)
    assert house.storage.steps == [0, 1, GapReason.SOURCE_LOST, 5, GapReason.PACKET_LOSS]


def test_a_gap_in_what_waited_is_a_gap_in_what_is_recorded() -> None:
    house = House(before=9)
    house.send(2)
    house.gap(3, GapReason.SOURCE_LOST)
    house.send(2)
    house.gate.pulse(house.at(7))
    assert house.storage.steps == [0, 1, GapReason.SOURCE_LOST, 5, 6]


@pytest.mark.parametrize("reason", [GapReason.JOB_STOPPED, GapReason.DAEMON_STOPPED])
def test_at_the_end_of_a_job_what_is_wanted_is_handed_over_at_once(reason: GapReason) -> None:
    house = House(before=8)
    house.send(6, size=BURST_BYTES)
    house.gate.begin("motion", house.at(6))
    assert len(house.storage.taken) < 6
    house.recorder.end_run(reason)
    house.recorder.close()
    assert house.storage.steps == [0, 1, 2, 3, 4, 5, reason]
    house.later()
    house.gate.pulse(house.at(7))
    assert house.storage.steps[-1] is reason
    assert house.recorder.held_bytes == 0


def test_what_has_waited_goes_to_storage_in_bursts() -> None:
    house = House(before=60)
    house.send(40, size=BURST_BYTES // 4)
    whole = house.recorder.held_bytes
    house.gate.begin("motion", house.at(40))
    assert 0 < sum(f.size for f in house.storage.taken) < 4 * BURST_BYTES < whole
    house.later()
    assert house.recorder.held_bytes == 0
    assert house.storage.steps == list(range(40))


def test_memory_is_bounded_and_what_is_dropped_is_counted() -> None:
    house = House(before=60, most=20_000)
    house.send(60)
    assert house.recorder.held_bytes <= 20_000
    assert house.dropped > 0
    house.gate.pulse(house.at(60))
    assert house.storage.steps == list(range(house.dropped, 60))


def test_what_lacks_its_beginning_is_marked() -> None:
    house = House(most=10_000)
    house.send(1)
    house.send(20, clean=False)
    assert house.recorder.held_bytes <= 10_000
    house.gate.begin("motion", house.at(21))
    house.send(1, clean=False)
    house.send(1)
    *headless, last = house.storage.taken
    assert headless
    assert all(s.damaged for f in headless for s in f.samples)
    assert not any(s.damaged for s in last.samples)


def test_what_storage_refuses_is_said_and_what_follows_is_marked() -> None:
    house = House()
    house.gate.begin("motion", START)
    house.storage.refuses = True
    assert not house.send(1)
    house.storage.refuses = False
    assert house.send(1, clean=False)
    assert house.send(1)
    assert [all(s.damaged for s in f.samples) for f in house.storage.taken] == [True, False]


HOUR = 3600 * NS


@pytest.mark.parametrize("told_first", [False, True])
def test_a_condition_that_holds_while_the_clock_is_set_back_is_recorded_to_its_end(told_first: bool) -> None:
    house = House(before=2, after=2)
    house.send(10)
    house.gate.begin("motion", house.at(10))
    house.send(5)
    house.set_back(HOUR)
    if told_first:  # the news of an end overtake the footage
        house.gate.end("motion", house.at(18) - HOUR)
    house.send(3)
    house.gate.end("motion", house.at(18) - HOUR)
    house.send(5)
    assert house.seconds() == [*range(8, 15), *range(15 - 3600, 20 - 3600)]
    assert house.storage.steps[7] is GapReason.CLOCK_JUMP
    assert house.storage.steps[-1] is GapReason.NO_EVENT


def test_what_is_wanted_behind_an_event_is_recorded_also_where_the_clock_is_set_back() -> None:
    house = House(after=6)
    house.send(3)
    house.gate.pulse(house.at(2.5))
    house.send(2)
    house.set_back(HOUR)
    house.send(9)
    assert house.seconds() == [2, 3, 4, *range(5 - 3600, 9 - 3600)]


def test_an_event_behind_a_clock_that_was_set_back_has_its_own_after() -> None:
    house = House(after=2)
    house.send(1)
    house.gate.begin("motion", house.at(0.5))
    house.gate.end("motion", house.at(1.5))
    house.send(5)
    house.set_back(HOUR)
    house.send(5)
    house.gate.pulse(house.at(11) - HOUR)
    house.send(6)
    assert house.seconds() == [0, 1, 2, 3, 11 - 3600, 12 - 3600, 13 - 3600]


def test_behind_a_clock_that_was_set_back_as_much_is_held_as_before() -> None:
    house = House(before=3)
    house.send(20)
    held = house.recorder.held_bytes
    house.set_back(HOUR)
    house.send(20)
    assert house.recorder.held_bytes < held + 3000
    house.gate.pulse(house.script.at_ns)
    assert house.seconds() == [37 - 3600, 38 - 3600, 39 - 3600]


def test_before_an_event_counts_also_what_was_there_when_the_clock_was_set_back() -> None:
    house = House(before=4)
    house.send(20)
    house.set_back(HOUR)
    house.send(2)
    house.gate.pulse(house.script.at_ns)
    assert house.storage.steps == [18, 19, GapReason.CLOCK_JUMP, 20 - 3600, 21 - 3600]


def test_clocks_that_disagree_change_a_turn_by_seconds_at_most() -> None:
    utc, monotonic = 1000 * HOUR, 5 * NS
    gate = EventGate(0, 30 * NS, Times(lambda: utc, lambda: monotonic))
    assert gate.waits
    for at_ns in (utc, utc + HOUR, utc - HOUR):
        gate.begin("motion", at_ns)
        assert gate.left_ns is None
        utc -= HOUR
        monotonic += HOUR
        gate.end("motion", at_ns)
        assert not gate.waits
        assert gate.left_ns is not None
        assert abs(gate.left_ns - gate.after_ns) <= LATE_NS
        monotonic += gate.left_ns
        assert gate.waits


def test_a_clock_that_is_set_back_again_and_again_leaves_no_spans_behind() -> None:
    monotonic = 0
    gate = EventGate(5 * NS, 5 * NS, Times(lambda: START - monotonic, lambda: monotonic))
    for _ in range(500):
        monotonic += 20 * NS
        gate.pulse(START - monotonic)
    assert len(gate._spans) < 10


EVENTS = st.one_of(
    st.tuples(st.just("group"), st.integers(1, 4)),
    st.tuples(st.just("gap"), st.integers(1, 5)),
    st.tuples(st.sampled_from(["begin", "end", "pulse"]), st.integers(0, 4)),
)


@given(st.lists(EVENTS, max_size=40), st.integers(0, 6), st.integers(0, 6))
def test_every_wanted_second_is_recorded_once_and_nothing_without_a_reason(
    events: list[tuple[str, int]], before: int, after: int
) -> None:
    house = House(before, after)
    groups: list[tuple[int, int]] = []
    spans: list[list[int]] = []
    until_told: list[tuple[int, int]] = []
    held = False
    for kind, value in events:
        now = house.script.at_ns
        at = now - value * NS
        if kind == "group":
            groups.append((now, now + value * NS))
            house.send(1)
            house.send(value - 1, clean=False)
        elif kind == "gap":
            house.gap(value, GapReason.SOURCE_LOST)
        elif kind == "pulse":
            house.gate.pulse(at)
            spans.append([at - before * NS, at + after * NS + 1])
        elif kind == "begin" and not held:
            house.gate.begin(1, at)
            held = True
            spans.append([at - before * NS, 1 << 63])
        elif kind == "end" and held:
            house.gate.end(1, at)
            held = False
            open_span = next(s for s in spans if s[1] == 1 << 63)
            open_span[1] = max(at + after * NS, open_span[0] + before * NS + 1)
            until_told.append((open_span[0], now))
    house.recorder.end_run(GapReason.JOB_STOPPED)
    house.later()

    starts = [f.start_ns for f in house.storage.taken]
    assert starts == sorted(set(starts))
    for start in starts:
        group = next(g for g in groups if g[0] <= start < g[1])
        assert any(s[0] < group[1] and group[0] < s[1] for s in [*spans, *until_told]), "recorded, and nobody wanted it"
    told = [s for s in house.storage.steps if isinstance(s, GapReason)]
    assert len(told) <= len(starts)
    if len(spans) == 1:
        for second in (t for g in groups for t in range(g[0], g[1], NS)):
            if spans[0][0] < second + NS and second < spans[0][1]:
                assert second in starts, "wanted, and not recorded"
