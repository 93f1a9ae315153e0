"""One ceiling for the queues of storage and for what ingest holds: what goes first, what is said, what comes back."""

from __future__ import annotations

import logging
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nvr.ingest import gated
from nvr.ingest.event_needs import excesses, needs_of
from nvr.ingest.memory import HeldMemory
from nvr.media.unit import Fragment, Sample
from nvr.model.job import EventCondition, RecordingEventFilter, RecordingJob
from nvr.model.recording import Recording, RecordingConfiguration, RecordingSourceInformation, default_tracks
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.model.tokens import JobToken, RecordingToken
from nvr.storage.writer_thread import MemoryCeiling
from tests.ingest.test_gate import House
from tests.support.ingest import a_job, a_source, key

GROUP = 3000
"""Bytes of a second of `House`."""


class EvenHouse(House):
    """Groups of exactly ten pictures of `size` bytes a second."""

    def send(self, seconds: int, *, clean: bool = True, size: int = GROUP // 10) -> bool:
        taken = True
        for _ in range(seconds):
            at = self.script.at_ns
            self.script.at_ns += NS
            samples = [Sample(at + n * NS // 10, bytes(size), clean and n == 0) for n in range(10)]
            taken = self.recorder.append(Fragment(self.script.configuration, samples, at + NS))
        return taken


def two_houses(limit: int) -> tuple[MemoryCeiling, EvenHouse, EvenHouse]:
    ceiling = MemoryCeiling(limit)
    memory = HeldMemory(ceiling)
    return ceiling, EvenHouse(before=60, memory=memory, name="1"), EvenHouse(before=60, memory=memory, name="2")


def test_what_waits_for_events_counts_in_the_memory_of_all() -> None:
    ceiling, one, other = two_houses(1 << 30)
    one.send(5)
    other.send(3)
    assert ceiling.used == one.recorder.held_bytes + other.recorder.held_bytes == 8 * GROUP


def test_where_the_ceiling_is_reached_the_oldest_of_all_tracks_goes() -> None:
    ceiling, one, other = two_houses(20 * GROUP)
    for _ in range(30):
        one.send(1)
        other.send(1)
        assert ceiling.used <= ceiling.limit
    assert (one.recorder.held_bytes, other.recorder.held_bytes) == (10 * GROUP, 10 * GROUP)
    assert (one.dropped, other.dropped) == (20, 20)


def test_a_queue_of_storage_gets_what_waits_for_events_before_footage_is_refused() -> None:
    ceiling, one, _ = two_houses(10 * GROUP)
    one.send(10)
    assert ceiling.take(4 * GROUP)
    assert one.recorder.held_bytes == 6 * GROUP
    one.gate.pulse(one.at(10))
    assert one.storage.steps == [4, 5, 6, 7, 8, 9]
    assert not ceiling.take(7 * GROUP), "nothing is left that can be done without"


def test_what_an_event_has_asked_for_is_never_dropped_for_memory() -> None:
    ceiling, one, other = two_houses(10 * GROUP)
    one.send(10)
    one.gate.begin("motion", one.at(10))
    other.send(10)
    one.send(10)
    assert one.storage.steps == list(range(20))
    assert ceiling.used <= ceiling.limit


def test_footage_that_is_wanted_does_not_wait_for_its_turn_while_memory_is_full() -> None:
    ceiling = MemoryCeiling(12 << 20)
    one = EvenHouse(before=60, memory=HeldMemory(ceiling))
    written = one.storage.append

    def queued(fragment: Fragment) -> bool:
        ceiling.add(fragment.size)
        return written(fragment)

    one.storage.append = queued  # type: ignore[method-assign]
    one.send(10, size=100 << 10)
    one.gate.begin("motion", one.at(10))
    assert one.recorder.held_bytes > 0, "the rest of what waited comes in bursts"
    ceiling.add(ceiling.limit - ceiling.used)
    one.send(1, size=100 << 10)
    assert one.recorder.held_bytes == 0
    assert one.storage.steps == list(range(11))


def test_all_memory_is_given_back_when_jobs_let_go_of_their_tracks() -> None:
    ceiling, one, other = two_houses(15 * GROUP)
    one.gate.begin("motion", one.at(5))
    one.send(12)
    other.send(12)
    other.recorder.end_run(GapReason.JOB_STOPPED)
    for house in (one, other):
        house.recorder.close()
    assert ceiling.used == 0
    assert one.memory.shortages() == []


class Queued(EvenHouse):
    """Storage has a queue within the memory of all, and asks for room while footage is handed over."""

    def __init__(self, before: int, ceiling: MemoryCeiling, memory: HeldMemory, name: str) -> None:
        super().__init__(before=before, memory=memory, name=name)
        self.ceiling = ceiling
        self.queue: list[int] = []
        self.written = self.storage.append
        self.storage.append = self.offered  # type: ignore[method-assign]

    def offered(self, fragment: Fragment) -> bool:
        if not self.ceiling.take(fragment.size):
            return False
        self.queue.append(fragment.size)
        return self.written(fragment)

    def write(self, fragments: int) -> None:
        """The disk has taken so many."""
        for _ in range(min(fragments, len(self.queue))):
            self.ceiling.give(self.queue.pop(0))

    def is_right(self) -> bool:
        return self.recorder.held_bytes == sum(f.size for g in self.recorder._groups for f in g.fragments)


STEPS = st.one_of(
    st.tuples(st.just("clean"), st.integers(1, 3)),
    st.tuples(st.just("follows"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["pulse", "begin", "end", "gap", "writes", "others"]), st.integers(0, 6)),
    st.tuples(st.sampled_from(["later", "job stops"]), st.just(0)),
)
BUSY = [("clean", 1), ("follows", 1)] + [("clean", 1)] * 4 + [("pulse", 6), ("others", 5), ("later", 0)]
"""The first group goes in two bursts; before the second the ceiling is passed, by what cannot be done without."""


@mock.patch.object(gated, "BURST_BYTES", 1)
@given(st.lists(st.tuples(st.integers(0, 1), STEPS), max_size=50), st.integers(3, 12), st.integers(0, 5))
@example([(0, step) for step in BUSY], 4, 0)
def test_while_a_queue_asks_for_memory_every_byte_is_counted_once(
    steps: list[tuple[int, tuple[str, int]]], limit: int, before: int
) -> None:
    ceiling = MemoryCeiling(limit * GROUP)
    memory = HeldMemory(ceiling)
    houses = [Queued(before, ceiling, memory, name) for name in "12"]
    others = 0
    for number, (step, value) in steps:
        house = houses[number]
        now = house.script.at_ns
        if step in ("clean", "follows"):
            house.send(1, clean=step == "clean", size=value * 100)
        elif step == "gap":
            house.gap(value, GapReason.SOURCE_LOST)
        elif step == "pulse":
            house.gate.pulse(now - value * NS)
        elif step == "begin":
            house.gate.begin("motion", now - value * NS)
        elif step == "end":
            house.gate.end("motion", now - value * NS)
        elif step == "writes":
            house.write(value)
        elif step == "others":  # units that wait for their clock
            memory.give(others)
            others = value * GROUP // 2
            memory.add(others)
            memory.relieve()
        elif step == "later":
            house.later()
        else:
            house.recorder.end_run(GapReason.JOB_STOPPED)
        assert all(h.is_right() for h in houses)
        assert ceiling.used == others + sum(h.recorder.held_bytes + sum(h.queue) for h in houses)
    memory.give(others)
    for house in houses:
        house.recorder.end_run(GapReason.JOB_STOPPED)
        house.recorder.close()
        house.write(len(house.queue))
    assert ceiling.used == 0


def test_storage_that_asks_for_memory_gets_none_of_the_track_that_it_is_being_given() -> None:
    ceiling = MemoryCeiling(1 << 30)
    house = Queued(0, ceiling, HeldMemory(ceiling), "1")
    house.send(4)
    ceiling.limit = ceiling.used
    ceiling.add(1)  # somebody else has passed the ceiling
    house.gate.pulse(house.at(0.5))
    assert house.dropped == 0
    ceiling.give(1)
    house.gate.pulse(house.at(2.5))
    assert [s for s in house.storage.steps if not isinstance(s, GapReason)] == [2]
    assert house.is_right()


@pytest.mark.parametrize("limits", [(1 << 40, 10 * GROUP), (10 * GROUP, 1 << 40)], ids=["track", "all"])
def test_a_gap_for_want_of_memory_has_the_reason_storage(
    limits: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    ceiling = MemoryCeiling(limits[0])
    memory = HeldMemory(ceiling)
    memory.name_of = {"rec-1": "yard"}.__getitem__
    house = EvenHouse(before=20, most=limits[1], memory=memory)
    with caplog.at_level(logging.WARNING):
        house.gate.pulse(house.at(0))
        house.send(40)
        assert house.storage.steps == [0, GapReason.NO_EVENT]
        assert len(memory.shortages()) == 1
        house.gate.pulse(house.at(40))
    assert house.storage.steps == [0, GapReason.STORAGE, *range(30, 40)]
    assert [r.message.partition(":")[0] for r in caplog.records] == ["rec-1/VIDEO001 (yard)"] * 2
    (buffer,) = memory.buffers()
    assert buffer.key == house.key
    assert buffer.dropped > 0


def test_a_gap_that_memory_has_no_part_in_keeps_its_reason() -> None:
    house = EvenHouse(before=4, most=10 * GROUP)
    house.gate.pulse(house.at(0))
    house.send(2)
    house.send(12, clean=False)  # a group longer than memory has room for, long before the event
    house.send(20)
    assert house.dropped > 0
    house.gate.pulse(house.at(34))
    assert house.storage.steps == [0, GapReason.NO_EVENT, *range(30, 34)]
    assert house.memory.shortages() == []


def test_a_group_that_had_to_be_dropped_while_it_grew_is_followed_by_the_next_one() -> None:
    house = EvenHouse(before=60, most=3 * GROUP)
    house.send(1)
    house.send(3, clean=False)
    house.send(2)
    house.gate.pulse(house.at(6))
    assert house.storage.steps[-2:] == [4, 5]


def waiting_for(recording: str, before_s: int, priority: int = 1) -> tuple[Recording, RecordingJob]:
    wanted = RecordingEventFilter((EventCondition("tns1:Device//."),), before_s * NS, 0)
    job = a_job(a_source("rcv-1", ("", "VIDEO001"), ("", "AUDIO001")), token=f"job-{recording}", recording=recording)
    configuration = RecordingConfiguration(RecordingSourceInformation(name="yard"))
    waits = RecordingJob(
        JobToken(job.token),
        type(job.configuration)(
            RecordingToken(recording), job.configuration.mode, priority, job.configuration.sources, event_filter=wanted
        ),
        1,
    )
    return Recording(RecordingToken(recording), configuration, default_tracks()), waits


def test_what_before_needs_is_reckoned_from_the_jobs_that_wait_for_events() -> None:
    recording, job = waiting_for("rec-1", 10)
    always = a_job(a_source("rcv-1", ("", "VIDEO001")), token="job-2")
    needs = needs_of({recording.token: recording}, [job, always])
    assert needs == {key("VIDEO001"): 17 * 500_000, key("AUDIO001"): 17 * 16_000}


def test_settings_that_cannot_hold_before_are_told() -> None:
    pairs = [waiting_for(f"rec-{n}", 60) for n in range(8)]
    needs = needs_of({r.token: r for r, _ in pairs}, [j for _, j in pairs])
    assert list(excesses(needs, 64 << 20, 1 << 30, str)) == []
    (told,) = excesses(needs, 64 << 20, 256 << 20, str)
    assert "16 tracks" in told
    assert "storage.memory is 256 MiB" in told
    (told,) = excesses(needs, 16 << 20, 1 << 30, str)
    assert "event_buffer" in told
    assert "7 other tracks" in told
