"""Jobs that wait for events beside others that want the same track: who records when, and that nothing is missing."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from nvr.ingest import turns
from nvr.ingest.engine import IngestEngine
from nvr.ingest.gate import EventGate, NoGates
from nvr.ingest.settings import Times
from nvr.model.job import RecordingJobMode
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.model.tokens import JobToken
from tests.ingest.test_jobs import ACTIVE, FRAME_NS, IDLE, Scene
from tests.support.ingest import MS, QUICK, a_job, a_receiver, a_recording, a_source, until


class TwoJobs(Scene, NoGates):
    """Job 1 (priority 1) records always, job 2 (priority 5) while an event lasts."""

    def __init__(self) -> None:
        super().__init__()
        self.now = time.time_ns()
        self.set_by = 0
        self.begin_ns = self.now - 3 * NS  # the first three seconds of pictures are of the past
        self.engine = IngestEngine(self.storage, QUICK, Times(utc=lambda: self.now))
        self.events = EventGate(0, 0, Times(lambda: self.now + self.set_by, lambda: self.now))
        self.engine.gates = self

    def gate(self, job: JobToken) -> EventGate | None:
        return self.events if job == "job-2" else None

    async def turn_ends(self) -> None:
        """What an event has asked for is over."""
        self.now += NS
        await until(lambda: self.states()[0] is ACTIVE)

    def at(self, number: int) -> int:
        return self.begin_ns + number * FRAME_NS

    def told(self) -> list[int]:
        return sorted(n % 1000 for n in self.recorded())

    async def begin(self) -> None:
        """Both cameras play, job 1 records."""
        self.apply(self.low, self.high)
        for n, camera in enumerate(self.cameras):
            await camera.playing()
            await self.report(n)
        await self.both(*range(15))
        assert self.states() == [ACTIVE, IDLE]

    async def both(self, *numbers: int) -> None:
        for number in numbers:
            for camera in (0, 1):
                await self.send(camera, number)


@pytest.fixture
async def jobs(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TwoJobs]:
    monkeypatch.setattr(turns, "SHORTEST_NS", 50 * MS)
    scene = TwoJobs()
    await scene.engine.start()
    async with scene.cameras[0], scene.cameras[1]:
        yield scene
        await scene.engine.stop()


async def test_an_event_takes_the_track_and_gives_it_back_and_of_every_instant_there_is_a_picture(
    jobs: TwoJobs,
) -> None:
    await jobs.begin()
    jobs.events.begin("motion", jobs.at(15))
    await until(lambda: jobs.states() == [IDLE, ACTIVE])
    await jobs.both(*range(15, 36))
    jobs.events.end("motion", jobs.at(30))
    await jobs.turn_ends()
    assert jobs.states() == [ACTIVE, IDLE]
    await jobs.both(*range(36, 56))
    await jobs.engine.stop()
    recorded = jobs.recorded()
    first, last = recorded.index(2015), len(recorded) - recorded[::-1].index(max(n for n in recorded if n > 2000)) - 1
    assert recorded[:first] == list(range(1000, 1016)), "job 1, up to the first picture of the other camera"
    assert recorded[first : last + 1] == list(range(2015, 2040)), "job 2, until job 1 has its next one"
    assert recorded[last + 1 :] == list(range(1040, 1056))
    assert jobs.recorder.reasons == [GapReason.JOB_STOPPED] * 2 + [GapReason.DAEMON_STOPPED]
    assert [c.connections for c in jobs.cameras] == [1, 1], "both stay connected"


async def test_an_event_without_length_has_its_group_of_pictures_and_costs_none(jobs: TwoJobs) -> None:
    await jobs.begin()
    jobs.events.pulse(jobs.at(15))
    await until(lambda: jobs.states()[0] is IDLE)
    await jobs.both(*range(15, 22))
    await jobs.turn_ends()
    await jobs.both(*range(22, 40))
    await jobs.engine.stop()
    assert [n for n in jobs.recorded() if n >= 2000] == list(range(2015, 2030))
    assert sorted({*jobs.told()}) == list(range(40))


async def test_a_clock_that_is_set_back_during_an_event_does_not_keep_the_track_from_its_job(jobs: TwoJobs) -> None:
    await jobs.begin()
    jobs.events.begin("motion", jobs.at(15))
    await until(lambda: jobs.states() == [IDLE, ACTIVE])
    await jobs.both(*range(15, 36))
    jobs.set_by = -3600 * NS
    jobs.events.end("motion", jobs.at(30) + jobs.set_by)
    await jobs.turn_ends()
    await jobs.both(*range(36, 56))
    await jobs.engine.stop()
    assert set(range(1040, 1056)) <= set(jobs.recorded())
    assert sorted({*jobs.told()}) == list(range(56))


async def test_without_another_job_it_keeps_the_track_and_what_is_before_its_event(jobs: TwoJobs) -> None:
    jobs.events.before_ns = NS
    jobs.apply(jobs.high)
    await jobs.cameras[1].playing()
    await jobs.report(1)
    await jobs.send(1, *range(40))
    assert jobs.engine.job_state(JobToken("job-2")).state is IDLE
    jobs.events.begin("motion", jobs.at(38))
    await jobs.send(1, *range(40, 50))
    await jobs.engine.stop()
    assert jobs.recorded() == list(range(2005, 2050))
    assert jobs.cameras[0].connections == 0


async def test_a_job_that_is_set_idle_during_its_event_gives_the_track_back_at_once(jobs: TwoJobs) -> None:
    await jobs.begin()
    jobs.events.begin("motion", jobs.at(15))
    await jobs.both(*range(15, 22))
    idle = a_job(*jobs.high.configuration.sources, token="job-2", priority=5, mode=RecordingJobMode.IDLE)
    jobs.apply(jobs.low, idle)
    await jobs.cameras[1].requested("TEARDOWN")
    for number in range(22, 40):
        await jobs.send(0, number)
    await jobs.engine.stop()
    assert jobs.recorded() == [*range(1000, 1016), *range(2015, 2022), *range(1030, 1040)]


async def test_two_jobs_on_one_stream_change_places_without_a_break(jobs: TwoJobs) -> None:
    high = a_job(a_source("rcv-1", ("", "VIDEO001")), token="job-2", priority=5)
    jobs.engine.apply([a_recording()], [jobs.low, high], [a_receiver(jobs.cameras[0].uri)])
    await jobs.cameras[0].playing()
    await jobs.report(0)
    await jobs.send(0, *range(15))
    jobs.events.begin("motion", jobs.at(14))
    await until(lambda: jobs.states() == [IDLE, ACTIVE])
    await jobs.send(0, *range(15, 18))
    jobs.events.end("motion", jobs.at(17))
    await jobs.turn_ends()
    await jobs.send(0, *range(18, 30))
    jobs.engine.apply([a_recording()], [high], [a_receiver(jobs.cameras[0].uri)])
    await jobs.send(0, *range(30, 40))
    await jobs.engine.stop()
    assert jobs.recorded() == list(range(1000, 1030)), "alone, it waits for its event"
    assert jobs.recorder.reasons == [GapReason.JOB_STOPPED]
