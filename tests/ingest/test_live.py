"""Watching a receiver: what is told to who watches, and what that does to the connection."""

from __future__ import annotations

import dataclasses
import struct
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from nvr.ingest.engine import IngestEngine
from nvr.ingest.live import LiveOffer
from nvr.ingest.settings import IngestSettings, Times
from nvr.media.rtsp.message import Response
from nvr.media.unit import CodecConfiguration, Sample
from nvr.model.receiver import Receiver, ReceiverMode, ReceiverState
from nvr.model.time import NS
from nvr.model.tokens import ReceiverToken
from tests.support.camera import Camera, h264_track, key_frame, pcmu_track, picture
from tests.support.ingest import MS, QUICK, FakeStorage, a_job, a_receiver, a_recording, a_source, key, until

RECEIVER = ReceiverToken("rcv-1")


class Tap:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.sessions: list[list[LiveOffer]] = []
        self.units: list[tuple[int, bytes]] = []
        self.losses: list[str] = []

    def connected(self, streams: Sequence[LiveOffer], /) -> None:
        self.sessions.append(list(streams))

    def sample(self, stream: int, sample: Sample, configuration: CodecConfiguration, /) -> None:
        self.units.append((stream, sample.data))

    def lost(self, reason: str, /) -> None:
        self.losses.append(reason)


class Clock:
    """Nanoseconds, for both of the daemon's clocks."""

    now_ns = 1_800_000_000 * NS

    def __call__(self) -> int:
        return self.now_ns


class House:
    def __init__(self, settings: IngestSettings = QUICK) -> None:
        self.storage = FakeStorage()
        self.engine = IngestEngine(self.storage, settings)
        self.tap = Tap()

    def apply(self, receiver: Receiver | None, *, recorded: bool = False) -> None:
        jobs = [a_job(a_source("rcv-1", ("", "VIDEO001")))] if recorded else []
        self.engine.apply([a_recording()], jobs, [] if receiver is None else [receiver])

    @property
    def state(self) -> ReceiverState:
        return self.engine.receiver_state(RECEIVER)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    await house.engine.start()
    yield house
    await house.engine.stop()


@pytest.mark.requirement("RX-10.4-03")
async def test_a_receiver_that_nothing_records_is_connected_while_somebody_watches(house: House) -> None:
    video, audio = h264_track(), pcmu_track()
    async with Camera([video, audio]) as camera:
        house.apply(a_receiver(camera.uri))
        assert house.state is ReceiverState.NOT_CONNECTED
        unwatch = house.engine.watch(RECEIVER, house.tap)
        await camera.playing()
        now = time.time_ns()
        camera.send_report(video, now, 0)
        camera.send_report(audio, now, 0)
        camera.send_unit(video, key_frame(0), 0)
        camera.send(audio.frames([audio.packet(b"sound" * 32, 0)]))
        camera.send_unit(video, picture(1), 3600)
        await until(lambda: len(house.tap.units) >= 3)
        assert [d for s, d in house.tap.units if s == 0][:2] == [key_frame(0), picture(1)]
        assert (1, b"sound" * 32) in house.tap.units
        (offers,) = house.tap.sessions
        assert [(o.index, o.track_type) for o in offers] == [(0, "Video"), (1, "Audio")]
        assert all(o.configuration is not None for o in offers)
        unwatch()
        unwatch()
        await until(lambda: camera.methods()[-1] == "TEARDOWN")
        await until(lambda: house.state is ReceiverState.NOT_CONNECTED)
        assert house.storage.recorders == {}


@pytest.mark.requirement("RX-10.4-02")
async def test_a_receiver_in_mode_never_connect_stays_alone(house: House) -> None:
    async with Camera([h264_track()]) as camera:
        house.apply(a_receiver(camera.uri, mode=ReceiverMode.NEVER_CONNECT))
        house.engine.watch(RECEIVER, house.tap)
        assert house.state is ReceiverState.NOT_CONNECTED
        house.apply(a_receiver(camera.uri))
        await camera.playing()
        assert len(house.tap.sessions) == camera.connections == 1


async def test_who_watches_what_is_recorded_gets_the_same_units_over_the_same_connection(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.apply(a_receiver(camera.uri), recorded=True)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        unwatch = house.engine.watch(RECEIVER, house.tap)
        for n in range(1, 30):
            camera.send_unit(track, key_frame(n) if n % 10 == 0 else picture(n), n * 3600)
        await until(lambda: len(house.tap.units) >= 29)
        unwatch()
        assert house.state is ReceiverState.CONNECTED
        assert camera.methods().count("PLAY") == 1
        seen = len(house.tap.units)
        camera.send_unit(track, key_frame(30), 30 * 3600)
        camera.send_unit(track, key_frame(40), 40 * 3600)
        await until(lambda: len(house.storage.recorder(key(), None).samples) >= 30)  # type: ignore[arg-type]
        assert len(house.tap.units) == seen
        recorded = [s.data for s in house.storage.recorder(key(), None).samples]  # type: ignore[arg-type]
        assert [d for _, d in house.tap.units if d != key_frame(0)] == recorded[1:30]


async def test_the_source_is_read_at_the_live_interval_while_somebody_watches() -> None:
    house = House(IngestSettings(drain_interval_ns=60_000 * MS, live_interval_ns=5 * MS, teardown_timeout_ns=200 * MS))
    await house.engine.start()
    track = h264_track()
    async with Camera([track]) as camera:
        house.apply(a_receiver(camera.uri), recorded=True)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        house.engine.watch(RECEIVER, house.tap)
        camera.send_unit(track, picture(1), 3600)
        await until(lambda: bool(house.tap.units))
        await house.engine.stop()


async def test_a_loss_is_told_and_so_is_the_next_session(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.apply(a_receiver(camera.uri))
        house.engine.watch(RECEIVER, house.tap)
        await camera.playing()
        camera.hang_up()
        await until(lambda: len(house.tap.losses) == 1)
        await camera.playing(2)
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(7), 0)
        camera.send_unit(track, key_frame(8), 3600)
        await until(lambda: bool(house.tap.units))
        assert len(house.tap.sessions) == 2


async def test_an_attempt_that_fails_is_told_with_its_reason_and_to_who_comes_later_as_well(house: House) -> None:
    answers = {"DESCRIBE": lambda request, answer: bytes(Response(404, answer.headers))}
    async with Camera([h264_track()], answers=answers) as camera:
        house.apply(a_receiver(camera.uri, mode=ReceiverMode.ALWAYS_CONNECT))
        house.engine.watch(RECEIVER, house.tap)
        await until(lambda: bool(house.tap.losses))
        assert "404" in house.tap.losses[0]
        late = Tap()
        house.engine.watch(RECEIVER, late)
        await until(lambda: bool(late.losses))


async def test_a_receiver_that_is_deleted_tells_so_and_nothing_after(house: House) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.apply(a_receiver(camera.uri))
        unwatch = house.engine.watch(RECEIVER, house.tap)
        await camera.playing()
        house.apply(None)
        assert house.tap.losses == ["the receiver is not connected any more"]
        await until(lambda: camera.methods()[-1] == "TEARDOWN")
        unwatch()
        assert len(house.tap.losses) == 1


async def test_what_a_receiver_sends_is_known_while_it_is_connected_and_after_that_until_its_uri_changes(
    house: House,
) -> None:
    track = h264_track()
    async with Camera([track]) as camera:
        house.apply(a_receiver(camera.uri))
        assert house.engine.offers(RECEIVER) == ()
        unwatch = house.engine.watch(RECEIVER, house.tap)
        await camera.playing()
        (offer,) = house.engine.offers(RECEIVER)
        assert (offer.track_type, offer.frame_rate) == ("Video", None)
        assert offer.configuration is not None
        unwatch()
        await until(lambda: house.state is ReceiverState.NOT_CONNECTED)
        assert [o.configuration for o in house.engine.offers(RECEIVER)] == [offer.configuration]
        house.apply(a_receiver(camera.uri + "/other"))
        assert list(house.engine.offers(RECEIVER)) == []
        house.apply(None)
        assert list(house.engine.offers(RECEIVER)) == []


async def test_the_frame_rate_is_measured_over_two_seconds_of_taken_units() -> None:
    clock = Clock()
    house = House()
    house.engine = IngestEngine(house.storage, QUICK, Times(clock, clock))
    await house.engine.start()
    track = h264_track()
    async with Camera([track]) as camera:
        house.apply(a_receiver(camera.uri))
        house.engine.watch(RECEIVER, house.tap)
        await camera.playing()
        camera.send_report(track, clock.now_ns, 0)
        told = []
        for n in range(40):
            clock.now_ns += 80 * MS
            camera.send_unit(track, key_frame(n), n * 7200)
            await until(lambda n=n: len(house.tap.units) == n + 1)  # type: ignore[misc]
            told.append(house.engine.offers(RECEIVER)[0].frame_rate)
        assert [rate is None for rate in told] == [n < 25 for n in range(40)]
        assert all(abs(rate - 12.5) < 0.01 for rate in told if rate is not None)
        await house.engine.stop()


@pytest.mark.requirement("RX-10.2-01")
async def test_who_begins_to_watch_a_flowing_stream_has_the_camera_asked_for_a_key_frame(house: House) -> None:
    pli = struct.pack(">BBH", 0x81, 206, 2)
    track = h264_track()
    async with Camera([track]) as camera:
        house.apply(a_receiver(camera.uri), recorded=True)
        await camera.playing()
        camera.send_report(track, time.time_ns(), 0)
        camera.send_unit(track, key_frame(0), 0)
        camera.send_unit(track, key_frame(1), 90_000)
        await until(lambda: bool(house.storage.recorder(key(), None).fragments))  # type: ignore[arg-type]
        assert not any(pli in report for _, report in camera.raw_reports)
        house.engine.watch(RECEIVER, house.tap)
        await until(lambda: any(pli in report for _, report in camera.raw_reports))


async def test_who_waits_for_a_camera_has_it_tried_sooner_and_not_more_often_than_the_first_back_off() -> None:
    settings = dataclasses.replace(QUICK, back_off_ns=60 * MS, back_off_maximum_ns=3600 * NS)
    house = House(settings)
    await house.engine.start()
    async with Camera([h264_track()]) as camera:
        uri = camera.uri
    house.apply(a_receiver(uri, mode=ReceiverMode.ALWAYS_CONNECT))
    source = house.engine._sources[RECEIVER]
    for _ in range(12):  # the pause would be minutes by now
        await until(lambda: source._paused_at is not None)
        began, failed = source._paused_at, house.engine.counters()[RECEIVER].failed_attempts
        assert began is not None
        assert all(house.engine.retry(RECEIVER) for _ in range(100))
        await until(lambda n=failed: house.engine.counters()[RECEIVER].failed_attempts > n)  # type: ignore[misc]
        assert time.monotonic_ns() - began > 20 * MS
    await house.engine.stop()
    assert not house.engine.retry(RECEIVER)


async def test_a_camera_that_has_refused_the_password_is_not_asked_sooner() -> None:
    house = House()
    await house.engine.start()
    async with Camera([h264_track()], username="u", password="right", schemes=("Digest",)) as camera:
        house.apply(a_receiver(camera.uri.replace("//", "//u:wrong@"), mode=ReceiverMode.ALWAYS_CONNECT))
        await until(lambda: house.engine.counters()[RECEIVER].failed_attempts == 1)
        assert not house.engine.retry(RECEIVER)
        house.apply(a_receiver(camera.uri.replace("//", "//u:right@"), mode=ReceiverMode.ALWAYS_CONNECT))
        await camera.playing()
        assert house.engine.retry(RECEIVER)
        await house.engine.stop()
