"""Large configurations: a change touches what it concerns, in slices, and states are right at once."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

import pytest

import nvr.ingest.engine as engine_module
from nvr.ingest.engine import IngestEngine
from nvr.ingest.source import Source
from nvr.model.job import RecordingJob, RecordingJobMode, RecordingJobState
from nvr.model.receiver import Receiver, ReceiverMode, ReceiverState
from nvr.model.recording import Recording, RecordingConfiguration
from nvr.model.timeline import GapReason
from nvr.model.tokens import JobToken, ReceiverToken
from tests.support.camera import Camera, h264_track
from tests.support.ingest import MS, QUICK, FakeStorage, a_job, a_receiver, a_recording, a_source, until

NOWHERE = "rtsp://127.0.0.1:1/nothing"
PATIENT = dataclasses.replace(QUICK, back_off_ns=60_000 * MS, back_off_maximum_ns=60_000 * MS)
IDLE, ERROR = RecordingJobState.IDLE, RecordingJobState.ERROR


class Plant:
    """So many recordings with a job and a receiver each."""

    def __init__(self, number: int) -> None:
        self.recordings = [a_recording(f"rec-{n}") for n in range(number)]
        self.jobs = [
            a_job(a_source(f"rcv-{n}", ("", "VIDEO001")), token=f"job-{n}", recording=f"rec-{n}") for n in range(number)
        ]
        self.receivers = [a_receiver(NOWHERE, f"rcv-{n}") for n in range(number)]

    @property
    def state(self) -> tuple[list[Recording], list[RecordingJob], list[Receiver]]:
        return self.recordings, self.jobs, self.receivers


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> list[ReceiverToken]:
    """Receivers that were given tracks, one entry each time."""
    seen: list[ReceiverToken] = []
    bind = Source.bind

    def spy(self: Source, bindings: object) -> None:
        seen.append(self.token)
        bind(self, bindings)  # type: ignore[arg-type]

    monkeypatch.setattr(Source, "bind", spy)
    return seen


async def settled(engine: IngestEngine) -> None:
    await until(lambda: engine._slice is None)


async def test_a_change_touches_only_the_receivers_that_it_concerns(bound: list[ReceiverToken]) -> None:
    plant, engine = Plant(50), IngestEngine(FakeStorage(), PATIENT)
    engine.apply(*plant.state)
    await engine.start()
    assert len(bound) == 50
    bound.clear()
    engine.apply(*Plant(50).state)
    assert bound == [], "equal objects are no change"
    plant.recordings[7] = dataclasses.replace(plant.recordings[7], configuration=RecordingConfiguration(content="x"))
    engine.apply(*plant.state)
    assert bound == ["rcv-7"]
    await engine.stop()


async def test_what_is_asked_for_is_made_ahead_of_its_slice(
    monkeypatch: pytest.MonkeyPatch, bound: list[ReceiverToken]
) -> None:
    monkeypatch.setattr(engine_module, "SLICE_NS", 0)  # one step each
    plant, engine = Plant(20), IngestEngine(FakeStorage(), PATIENT)
    await engine.start()
    engine.apply(*plant.state)
    assert bound == []
    assert engine.job_state(JobToken("job-15")).state is IDLE
    assert engine.receiver_state(ReceiverToken("rcv-17")) is ReceiverState.NOT_CONNECTED
    assert bound == ["rcv-15", "rcv-17"]
    plant.receivers[3] = a_receiver("", "rcv-3")
    plant.jobs[4] = dataclasses.replace(
        plant.jobs[4], configuration=dataclasses.replace(plant.jobs[4].configuration, mode=RecordingJobMode.IDLE)
    )
    engine.apply(*plant.state)
    assert engine.job_state(JobToken("job-3")).state is ERROR, "the receiver has no MediaUri"
    assert engine.job_state(JobToken("job-4")).state is IDLE
    await settled(engine)
    assert sorted(bound) == sorted(f"rcv-{n}" for n in range(20) if n not in (3, 4))
    await engine.stop()


async def test_between_two_slices_the_loop_runs_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "SLICE_NS", 0)
    plant, engine = Plant(30), IngestEngine(FakeStorage(), PATIENT)
    engine.apply(*plant.state)
    rounds = 0

    async def other() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await engine.start()
    assert rounds >= 59, "thirty recordings, thirty receivers"
    task.cancel()
    await engine.stop()


async def test_a_state_replaced_before_it_was_made_leaves_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, bound: list[ReceiverToken]
) -> None:
    monkeypatch.setattr(engine_module, "SLICE_NS", 0)
    plant, engine = Plant(10), IngestEngine(FakeStorage(), PATIENT)
    await engine.start()
    engine.apply(*plant.state)
    engine.apply(plant.recordings[:1], plant.jobs[:1], plant.receivers[:1])
    await settled(engine)
    assert bound == ["rcv-0"]
    engine.apply([], [], [])
    await settled(engine)
    assert engine.counters() == {}
    await engine.stop()


async def test_a_track_changes_hands_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "SLICE_NS", 0)
    order: list[tuple[str, ReceiverToken]] = []
    keep_only, bind = Source.keep_only, Source.bind

    def spy_keep(self: Source, keys: object) -> None:
        if not keys:
            order.append(("lets go", self.token))
        keep_only(self, keys)  # type: ignore[arg-type]

    def spy_bind(self: Source, bindings: object) -> None:
        order.append(("takes", self.token))
        bind(self, bindings)  # type: ignore[arg-type]

    monkeypatch.setattr(Source, "keep_only", spy_keep)
    monkeypatch.setattr(Source, "bind", spy_bind)
    engine = IngestEngine(FakeStorage(), PATIENT)
    low = a_job(a_source("rcv-1", ("", "VIDEO001")))
    high = a_job(a_source("rcv-2", ("", "VIDEO001")), token="job-2", priority=2)
    receivers = [a_receiver(NOWHERE), a_receiver(NOWHERE, "rcv-2")]
    await engine.start()
    engine.apply([a_recording()], [low], receivers)
    await settled(engine)
    order.clear()
    engine.apply([a_recording()], [low, high], receivers)
    await settled(engine)
    assert order.index(("lets go", ReceiverToken("rcv-1"))) < order.index(("takes", ReceiverToken("rcv-2")))
    await engine.stop()


async def test_counters_go_on_when_a_receiver_is_dismissed_and_wanted_again() -> None:
    engine = IngestEngine(FakeStorage(), QUICK)
    await engine.start()
    token, job = ReceiverToken("rcv-1"), a_job(a_source("rcv-1", ("", "VIDEO001")))
    async with Camera([h264_track()]) as camera:
        for connects in (1, 2, 3):
            engine.apply([a_recording()], [job], [a_receiver(camera.uri)])
            await until(lambda n=connects: engine.counters()[token].connects == n)  # type: ignore[misc]
            engine.apply([a_recording()], [job], [a_receiver(camera.uri, mode=ReceiverMode.NEVER_CONNECT)])
            assert engine.counters()[token].connects == connects, "while it leaves"
            await until(lambda: not engine._leaving)
            assert engine.counters()[token].connects == connects, "when it has left"
        engine.apply([a_recording()], [], [])
        assert engine.counters() == {}
        await engine.stop()


async def test_a_receiver_that_fails_to_stop_does_not_end_the_stop_of_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[ReceiverToken] = []
    stop = Source.stop

    async def slow(self: Source, reason: GapReason) -> None:
        await stop(self, reason)
        if self.token == "rcv-0":
            raise RuntimeError("broken")
        for _ in range(20):
            await asyncio.sleep(0)
        ended.append(self.token)

    monkeypatch.setattr(Source, "stop", slow)
    plant, engine = Plant(3), IngestEngine(FakeStorage(), PATIENT)
    engine.apply(*plant.state)
    await engine.start()
    with caplog.at_level(logging.ERROR):
        await engine.stop()
    assert ended == ["rcv-1", "rcv-2"]
    assert "receiver rcv-0: fault while disconnecting" in caplog.text


async def test_a_receiver_that_fails_to_start_does_not_keep_the_others_waiting(
    monkeypatch: pytest.MonkeyPatch, bound: list[ReceiverToken]
) -> None:
    monkeypatch.setattr(engine_module, "SLICE_NS", 0)
    failed: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failed.append(str(context["exception"])))
    make = IngestEngine._new_source

    def broken(self: IngestEngine, receiver: Receiver) -> Source:
        if receiver.token == "rcv-2":
            raise ValueError("no such thing")
        return make(self, receiver)

    monkeypatch.setattr(IngestEngine, "_new_source", broken)
    plant, engine = Plant(5), IngestEngine(FakeStorage(), PATIENT)
    await engine.start()
    engine.apply(*plant.state)
    await settled(engine)
    assert bound == ["rcv-0", "rcv-1", "rcv-3", "rcv-4"]
    assert failed == ["no such thing"]
    assert "rcv-2" not in engine.counters()
    await engine.stop()
