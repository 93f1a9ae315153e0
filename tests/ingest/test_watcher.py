"""What ingest tells of receivers: every state of the connection, every attempt that fails, and tracks that change."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator

import pytest

from nvr.ingest.engine import IngestEngine
from nvr.model.receiver import ReceiverState
from nvr.model.tokens import ReceiverToken
from tests.support.camera import Camera, h264_track, key_frame
from tests.support.ingest import QUICK, FakeStorage, a_job, a_receiver, a_recording, a_source, until

RECEIVER = ReceiverToken("rcv-1")
CONNECTING, CONNECTED, NOT_CONNECTED = ReceiverState.CONNECTING, ReceiverState.CONNECTED, ReceiverState.NOT_CONNECTED


class Watcher:
    def __init__(self, engine: IngestEngine) -> None:
        self.engine = engine
        self.states: list[ReceiverState] = []
        self.asked: list[ReceiverState] = []
        """What the engine said when it was asked in that moment."""
        self.failed = 0
        self.at_failures: set[ReceiverState] = set()

    def receiver_changed(self, token: ReceiverToken, state: ReceiverState) -> None:
        assert token == RECEIVER
        self.states.append(state)
        self.asked.append(self.engine.receiver_state(RECEIVER))

    def connection_failed(self, token: ReceiverToken) -> None:
        assert token == RECEIVER
        self.failed += 1
        self.at_failures |= {self.states[-1], self.engine.receiver_state(RECEIVER)}


@pytest.fixture
async def engine() -> AsyncIterator[IngestEngine]:
    engine = IngestEngine(FakeStorage(), QUICK)
    await engine.start()
    yield engine
    await engine.stop()


def record(engine: IngestEngine, uri: str) -> None:
    engine.apply([a_recording()], [a_job(a_source("rcv-1", ("", "VIDEO001")))], [a_receiver(uri)])


@pytest.mark.requirement("RX-10.7.2-01", "RX-10.5.7-08")
async def test_each_state_of_a_connection_is_told_once(engine: IngestEngine) -> None:
    watcher = engine.watcher = Watcher(engine)
    async with Camera([h264_track()]) as camera:
        record(engine, camera.uri)
        await until(lambda: watcher.states == [CONNECTING, CONNECTED])
        camera.hang_up()
        await until(lambda: watcher.states[:5] == [CONNECTING, CONNECTED, NOT_CONNECTED, CONNECTING, CONNECTED])
        assert watcher.failed == 0, "a connection that is lost was no attempt that failed"
        engine.apply([a_recording()], [], [a_receiver(camera.uri)])
        await until(lambda: watcher.states[5:] == [NOT_CONNECTED])
    assert watcher.asked == watcher.states


@pytest.mark.requirement("RX-10.7.3-01", "RX-10.5.7-08", "RX-10.5.7-09")
async def test_each_attempt_that_fails_is_told(engine: IngestEngine) -> None:
    watcher = engine.watcher = Watcher(engine)
    async with Camera([h264_track()]) as camera:
        uri = camera.uri
    record(engine, uri)
    await until(lambda: watcher.failed >= 2)
    assert watcher.states[:4] == [CONNECTING, NOT_CONNECTED, CONNECTING, NOT_CONNECTED]
    assert watcher.at_failures == {NOT_CONNECTED}, "its state is told before its failure"
    assert watcher.asked == watcher.states


async def test_a_track_whose_first_packets_come_has_changed_and_then_not_again(engine: IngestEngine) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        record(engine, camera.uri)
        await camera.playing()
        assert engine.changed_receivers() == [RECEIVER]
        await until(lambda: engine.receiver_state(RECEIVER) is CONNECTED)
        engine.changed_receivers()
        assert engine.changed_receivers() == []
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        await until(lambda: engine.changed_receivers() == [RECEIVER])
        assert engine.changed_receivers() == []


async def test_a_watcher_that_fails_is_logged_and_ends_no_connection(
    engine: IngestEngine, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Watcher):
        def receiver_changed(self, token: ReceiverToken, state: ReceiverState) -> None:
            raise RuntimeError("no")

    engine.watcher = Failing(engine)
    async with Camera([h264_track()]) as camera:
        with caplog.at_level(logging.ERROR):
            record(engine, camera.uri)
            await camera.playing()
            await until(lambda: engine.receiver_state(RECEIVER) is CONNECTED)
    assert "could not be told" in caplog.text
