"""Receivers as live mounts: who is connected when, what viewers get, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from nvr.media.unit import CodecConfiguration, Sample
from nvr.model.receiver import Receiver, ReceiverConfiguration, ReceiverMode
from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.model.tokens import ReceiverToken
from nvr.replay.mounts import Mounts
from nvr.replay.relay import Relay, RelayMounts
from nvr.replay.server import RtspServer
from tests.support.replay_store import PlainAudio, PlainVideo, plain_packetizer
from tests.support.rtsp_client import RtspClient, until

TOKEN = ReceiverToken("rcv-0123")
PATH = f"/live/{TOKEN}"


@dataclass(frozen=True, slots=True)
class Offer:
    index: int
    track_type: TrackType
    configuration: CodecConfiguration | None


VIDEO = Offer(0, TrackType.VIDEO, PlainVideo())
AUDIO = Offer(1, TrackType.AUDIO, PlainAudio())


class Cameras:
    """Receivers that a test connects by hand."""

    def __init__(self) -> None:
        self.known = {
            TOKEN: ReceiverConfiguration(ReceiverMode.AUTO_CONNECT, "rtsp://camera.example/"),
            "rcv-never": ReceiverConfiguration(ReceiverMode.NEVER_CONNECT, "rtsp://camera.example/"),
            "rcv-empty": ReceiverConfiguration(),
        }
        self.tap: Relay | None = None
        self.watched = 0
        self.retried = 0
        self.on_retry: Callable[[], bool] = lambda: False
        self.on_watch: Callable[[Relay], None] = lambda relay: relay.connected((VIDEO, AUDIO))

    def find(self, token: str) -> Receiver | None:
        configuration = self.known.get(token)
        return None if configuration is None else Receiver(ReceiverToken(token), configuration)

    def watch(self, token: ReceiverToken, tap: Relay, /) -> Callable[[], None]:
        assert self.tap is None
        self.tap = tap
        self.watched += 1
        asyncio.get_running_loop().call_soon(self.on_watch, tap)
        return self.unwatch

    def unwatch(self) -> None:
        self.tap = None

    def retry(self, token: ReceiverToken, /) -> bool:
        self.retried += 1
        return self.on_retry()

    def send(self, data: str, stream: int = 0, configuration: CodecConfiguration | None = None) -> None:
        assert self.tap is not None
        usual = PlainVideo() if stream == 0 else PlainAudio()
        clean = data.startswith("I") or stream == 1
        self.tap.sample(stream, Sample(NS, data.encode(), clean), configuration or usual)


@pytest.fixture
def cameras() -> Cameras:
    return Cameras()


@pytest.fixture
async def mounts(cameras: Cameras) -> RelayMounts:
    """Nothing ends by itself on a slow machine; tests of an end shorten these times."""
    return RelayMounts(cameras.find, cameras, connect_s=100, linger_s=100)


@pytest.fixture
async def server(mounts: RelayMounts, cameras: Cameras) -> AsyncIterator[RtspServer]:
    server = RtspServer(Mounts(receivers=mounts), packetizers=plain_packetizer(1000))
    await server.start("127.0.0.1", 0)
    yield server
    await server.stop()
    assert cameras.tap is None


@pytest.fixture
async def client(server: RtspServer) -> AsyncIterator[RtspClient]:
    client = await RtspClient.connect(server.port)
    yield client
    await client.close()


async def test_a_viewer_sees_what_the_camera_sends_from_the_next_clean_point_on(
    client: RtspClient, cameras: Cameras, mounts: RelayMounts
) -> None:
    described = await client.request("DESCRIBE", PATH)
    assert described.status == 200
    assert b"a=control:video0" in described.body
    assert b"a=control:audio1" in described.body
    await client.set_up(PATH, "video0", "audio1")
    assert (await client.request("PLAY", PATH)).status == 200
    assert mounts.viewers == 1
    for data, stream in (("P0", 0), ("a1", 1), ("I1", 0), ("P2", 0)):
        cameras.send(data, stream)
    assert [(p.channel, p.payload) for p in await client.packets(3)] == [(2, b"a1"), (0, b"I1"), (0, b"P2")]
    assert cameras.watched == 1


async def test_two_viewers_share_one_receiver_and_the_last_lets_it_go_after_a_while(
    client: RtspClient, server: RtspServer, cameras: Cameras, mounts: RelayMounts
) -> None:
    other = await RtspClient.connect(server.port)
    for viewer in (client, other):
        await viewer.set_up(PATH, "video0")
        await viewer.request("PLAY", PATH)
    cameras.send("I1")
    assert [(await v.packet()).payload for v in (client, other)] == [b"I1", b"I1"]
    mounts.relay(TOKEN)._linger_s = 0
    await other.request("TEARDOWN", PATH)
    await other.close()
    for _ in range(3):  # longer than it lingers
        await client.request("GET_PARAMETER", PATH)
    assert cameras.tap is not None
    await client.request("TEARDOWN", PATH)
    await until(lambda: cameras.tap is None)
    assert cameras.watched == 1


async def test_a_description_alone_lets_it_go_too_and_play_after_that_watches_again(
    client: RtspClient, cameras: Cameras, mounts: RelayMounts
) -> None:
    mounts._linger_s = 0
    await client.set_up(PATH, "video0")
    await until(lambda: cameras.tap is None)
    mounts._linger_s = 100
    assert (await client.request("PLAY", PATH)).status == 200
    cameras.send("I1")
    assert (await client.packet()).payload == b"I1"
    assert cameras.watched == 2


async def test_a_stream_without_parameters_is_described_when_its_first_unit_has_come(
    client: RtspClient, cameras: Cameras
) -> None:
    def connect(relay: Relay) -> None:
        relay.connected((Offer(0, TrackType.VIDEO, None), AUDIO))
        asyncio.get_running_loop().call_soon(cameras.send, "I0")

    cameras.on_watch = connect
    described = await client.request("DESCRIBE", PATH)
    assert b"m=video" in described.body


async def test_a_stream_that_stays_silent_is_left_out_in_the_end(
    client: RtspClient, cameras: Cameras, mounts: RelayMounts
) -> None:
    mounts.connect_s = 0.1
    cameras.on_watch = lambda relay: relay.connected((Offer(0, TrackType.VIDEO, None), AUDIO))
    described = await client.request("DESCRIBE", PATH)
    assert described.status == 200
    assert b"m=audio" in described.body
    assert b"m=video" not in described.body


async def test_a_camera_that_does_not_answer_is_503_with_the_reason_in_the_log(
    client: RtspClient, cameras: Cameras, mounts: RelayMounts, caplog: pytest.LogCaptureFixture
) -> None:
    mounts.connect_s, mounts._linger_s = 0.1, 0
    caplog.set_level("DEBUG", "nvr")
    cameras.on_watch = lambda relay: relay.lost("nobody is there")
    assert (await client.request("DESCRIBE", PATH)).status == 503
    assert "nobody is there" in caplog.text
    await until(lambda: cameras.tap is None)
    cameras.on_watch = lambda relay: None
    assert (await client.request("DESCRIBE", PATH)).status == 503
    assert "gives no stream within 0.1 s" in caplog.text


@pytest.mark.parametrize(("comes", "status"), [(True, 200), (False, 503)])
async def test_a_camera_between_two_attempts_is_tried_again_and_the_outcome_waited_for(
    client: RtspClient, cameras: Cameras, comes: bool, status: int
) -> None:
    cameras.on_watch = lambda relay: relay.lost("the cable is cut")
    assert (await client.request("DESCRIBE", PATH)).status == 503
    assert cameras.retried == 0, "it has just been tried"

    def retry() -> bool:
        tap = cameras.tap
        assert tap is not None
        outcome = (lambda: tap.connected((VIDEO, AUDIO))) if comes else (lambda: tap.lost("it is cut still"))
        asyncio.get_running_loop().call_later(0.05, outcome)
        return True

    cameras.on_retry = retry
    assert (await client.request("DESCRIBE", PATH)).status == status
    assert cameras.retried == 1


async def test_a_camera_that_may_not_be_tried_soon_is_503_at_once(client: RtspClient, cameras: Cameras) -> None:
    cameras.on_watch = lambda relay: relay.lost("the password is refused")
    for asked in range(2):
        assert (await client.request("DESCRIBE", PATH)).status == 503
        assert cameras.retried == asked


@pytest.mark.parametrize(("token", "status"), [("rcv-unknown", 404), ("rcv-never", 503), ("rcv-empty", 503)])
async def test_receivers_that_cannot_be_watched_are_refused_at_once(
    client: RtspClient, cameras: Cameras, token: str, status: int
) -> None:
    assert (await client.request("DESCRIBE", f"/live/{token}")).status == status
    assert cameras.watched == 0


async def test_a_viewer_outlives_the_loss_of_the_camera_and_gets_nothing_that_was_not_described(
    client: RtspClient, cameras: Cameras
) -> None:
    await client.set_up(PATH, "video0", "audio1")
    await client.request("PLAY", PATH)
    assert cameras.tap is not None
    cameras.tap.lost("the cable is cut")
    cameras.tap.connected((Offer(0, TrackType.VIDEO, PlainAudio()), AUDIO))
    cameras.send("I1", 0, PlainAudio())
    cameras.send("a2", 1)
    cameras.tap.connected((VIDEO, AUDIO))
    cameras.send("I3", 0)
    assert [p.payload for p in await client.packets(2)] == [b"a2", b"I3"]


async def test_what_comes_behind_a_loss_of_the_camera_begins_with_a_clean_point_and_says_so(
    client: RtspClient, cameras: Cameras
) -> None:
    await client.set_up(PATH, "video0", Require="onvif-replay")
    await client.request("PLAY", PATH)
    cameras.send("I1")
    assert (await client.packet()).flags == "C"
    assert cameras.tap is not None
    cameras.tap.lost("the cable is cut")
    cameras.tap.connected((VIDEO, AUDIO))
    for name in ("P7", "I8", "P9"):
        cameras.send(name)
    assert [(p.payload, p.flags) for p in await client.packets(2)] == [(b"I8", "CD"), (b"P9", "")]


async def test_a_receiver_that_is_deleted_is_404_for_who_comes_and_silent_for_who_watches(
    client: RtspClient, server: RtspServer, cameras: Cameras
) -> None:
    await client.set_up(PATH, "video0")
    await client.request("PLAY", PATH)
    del cameras.known[TOKEN]
    late = await RtspClient.connect(server.port)
    assert (await late.request("DESCRIBE", PATH)).status == 404
    await late.close()
    assert (await client.request("GET_PARAMETER", PATH)).status == 200


async def test_a_receiver_that_connects_slowly_is_not_let_go_while_somebody_waits_for_its_description(
    cameras: Cameras,
) -> None:
    mounts = RelayMounts(cameras.find, cameras, connect_s=60, linger_s=0.01)
    cameras.on_watch = lambda relay: None
    mount = mounts.mount(TOKEN)
    assert mount is not None
    waiting = asyncio.create_task(mount.present())
    await asyncio.sleep(0.05)  # longer than it lingers
    assert cameras.tap is not None, "somebody waits"
    cameras.tap.connected((VIDEO, AUDIO))
    assert len((await waiting).streams) == 2
    assert cameras.watched == 1
    await until(lambda: cameras.tap is None)
