"""Live mounts: units as they come, true times in sender reports, slow viewers that harm nobody."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from nvr.media.unit import Sample
from nvr.model.time import NS, UtcNs, utc_from_ntp
from nvr.replay.live import LiveBudget, LiveMount, LiveSink, LiveStream
from nvr.replay.mounts import Mounts, PlayRequest
from nvr.replay.server import RtspServer
from tests.support.replay_store import ParameterVideo, PlainAudio, PlainVideo, plain_packetizer
from tests.support.rtsp_client import Packet, RtspClient, until
from tests.support.udp_client import ClientPorts


class Source:
    """A live source that a test feeds by hand."""

    def __init__(self) -> None:
        self.there = True
        self.sinks: list[LiveSink] = []

    def streams(self) -> Sequence[LiveStream]:
        return (LiveStream("video", PlainVideo()), LiveStream("audio", PlainAudio())) if self.there else ()

    def subscribe(self, sink: LiveSink) -> Callable[[], None]:
        self.sinks.append(sink)
        return lambda: self.sinks.remove(sink)

    def emit(self, data: str, stream: int = 0, clean: bool | None = None, utc_ns: UtcNs | None = None) -> None:
        is_clean = data.startswith("I") or stream == 1 if clean is None else clean
        live = self.streams()[stream]
        sample = Sample(time.time_ns() if utc_ns is None else utc_ns, data.encode(), is_clean)
        for sink in list(self.sinks):
            sink(live.name, sample, live.configuration)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def server(source: Source) -> AsyncIterator[RtspServer]:
    server = RtspServer(Mounts(live={"camera": LiveMount(source)}), packetizers=plain_packetizer(1000))
    await server.start("127.0.0.1", 0)
    yield server
    await server.stop()
    assert source.sinks == []


@pytest.fixture
async def client(server: RtspServer) -> AsyncIterator[RtspClient]:
    client = await RtspClient.connect(server.port)
    yield client
    await client.close()


@pytest.mark.requirement("PB-8.3.1-16")
async def test_a_viewer_sees_units_as_they_come_from_the_next_clean_point_on(
    client: RtspClient, source: Source
) -> None:
    described = await client.request("DESCRIBE", "/live/camera")
    assert b"m=video 0 RTP/AVP 96" in described.body
    assert b"x-onvif-track" not in described.body
    await client.set_up("/live/camera", "video", "audio")
    answer = await client.request("PLAY", "/live/camera", Range="npt=0.000-", Require="onvif-replay")
    assert answer.status == 200
    assert answer.header("Range") is None
    source.emit("P0")
    source.emit("a0", stream=1)
    source.emit("I1")
    source.emit("P2")
    packets = await client.packets(3)
    assert [(p.channel, p.payload) for p in packets] == [(2, b"a0"), (0, b"I1"), (0, b"P2")]
    assert all(p.word3 is None for p in packets)


async def test_a_viewer_that_asks_for_it_in_setup_gets_the_time_and_the_flags_of_each_unit(
    client: RtspClient, source: Source
) -> None:
    await client.set_up("/live/camera", "video", Require="onvif-replay")
    answer = await client.request("PLAY", "/live/camera", Require="onvif-replay")
    at = 1_800_000_000 * NS
    source.emit("I1", utc_ns=at)
    source.emit("P2", utc_ns=at + NS // 25)
    packets = await client.packets(2)
    assert [utc_from_ntp(p.ntp or 0) // 1000 for p in packets] == [at // 1000, (at + NS // 25) // 1000]
    assert [p.flags for p in packets] == ["C", ""]
    assert {p.word3[1] for p in packets if p.word3 is not None} == {int(answer["CSeq"])}
    assert (await client.request("PAUSE", "/live/camera")).status == 200
    await client.request("PLAY", "/live/camera")
    source.emit("I9")
    assert (await client.packet()).flags == "CD"


async def test_live_streams_come_by_udp_as_well(client: RtspClient, source: Source) -> None:
    with ClientPorts() as ports:
        answer = await client.request("SETUP", "/live/camera/video", Transport=ports.transport)
        client.session = answer["Session"].partition(";")[0]
        assert (await client.request("PLAY", "/live/camera")).status == 200
        source.emit("I1")
        source.emit("P2")
        assert [p.payload for p in await ports.packets(2)] == [b"I1", b"P2"]
        assert (await client.request("TEARDOWN", "/live/camera")).status == 200


async def test_sender_reports_come_first_and_give_the_time_of_each_unit(client: RtspClient, source: Source) -> None:
    await client.set_up("/live/camera", "video", "audio")
    await client.request("PLAY", "/live/camera")
    at = time.time_ns()
    source.emit("I1", utc_ns=at)
    source.emit("a1", stream=1, utc_ns=at + NS // 4)
    packets = await client.packets(2)
    reports = [e for e in client.log if isinstance(e, tuple)]
    assert [channel for channel, _ in reports] == [1, 3]
    assert client.log.index(reports[1]) < client.log.index(packets[0])
    for (_, report), packet, rate, sent_ns in zip(reports, packets, (90_000, 8_000), (at, at + NS // 4), strict=True):
        ssrc, ntp, rtp_time = struct.unpack_from(">xxxxIQI", report)
        assert ssrc == packet.ssrc
        elapsed = (packet.rtp_time - rtp_time + (1 << 31)) % (1 << 32) - (1 << 31)
        assert abs(utc_from_ntp(ntp) + elapsed * NS // rate - sent_ns) <= NS // rate + 1


async def test_what_makes_no_sense_for_a_live_stream_is_refused(client: RtspClient) -> None:
    await client.set_up("/live/camera", "video")
    assert (await client.request("PLAY", "/live/camera", Range="clock=20260101T000000Z-")).status == 457
    assert (await client.request("PLAY", "/live/camera", Scale="2")).status == 456
    assert (await client.request("PLAY", "/live/camera")).status == 200


async def test_a_source_that_is_not_there_is_404(client: RtspClient, source: Source, server: RtspServer) -> None:
    source.there = False
    assert (await client.request("DESCRIBE", "/live/camera")).status == 404
    server.mounts.remove_live("camera")
    source.there = True
    assert (await client.request("DESCRIBE", "/live/camera")).status == 404
    with pytest.raises(ValueError, match="cannot be the name"):
        server.mounts.add_live("a/b", LiveMount(source))


async def test_who_watches_what_is_not_there_any_more_can_pause_and_end(
    client: RtspClient, source: Source, server: RtspServer
) -> None:
    await client.set_up("/live/camera", "video")
    await client.request("PLAY", "/live/camera")
    server.mounts.remove_live("camera")
    source.emit("I1")
    assert (await client.packet()).payload == b"I1"
    assert (await client.request("PAUSE", "/live/camera")).status == 200
    assert source.sinks == []
    assert (await client.request("PLAY", "/live/camera")).status == 404
    assert (await client.request("TEARDOWN", "/live/camera")).status == 200


async def test_pause_lets_the_source_go_and_play_goes_on_live(client: RtspClient, source: Source) -> None:
    await client.set_up("/live/camera", "video")
    await client.request("PLAY", "/live/camera")
    source.emit("I1")
    first = await client.packet()
    assert (await client.request("PAUSE", "/live/camera")).status == 200
    assert source.sinks == []
    source.emit("P2")
    await client.request("PLAY", "/live/camera")
    source.emit("P3")
    source.emit("I4")
    packet = await client.packet()
    assert packet.payload == b"I4"
    assert packet.seq == (first.seq + 1) & 0xFFFF


class TestSlowViewers:
    async def test_overflow_drops_up_to_the_next_clean_point_and_counts(self, source: Source) -> None:
        mount = LiveMount(source, queue_bytes=10)
        playback = await mount.play(await mount.present(), [0, 1], PlayRequest(), jump=False)
        for name in ("I0..", "P1..", "P2..", "P3..", "P4.."):
            source.emit(name)
        assert [u.data for u in await playback.source.units()] == [b"I0..", b"P1.."]
        source.emit("P5..")
        source.emit("a5", stream=1)
        source.emit("I6..")
        assert [u.data for u in await playback.source.units()] == [b"a5", b"I6.."]
        assert mount.dropped == 4
        playback.source.close()
        playback.source.close()
        assert (mount.viewers, source.sinks) == (0, [])

    async def test_what_follows_dropped_units_does_not_continue_what_came_before(self, source: Source) -> None:
        mount = LiveMount(source, queue_bytes=10)
        playback = await mount.play(await mount.present(), [0], PlayRequest(), jump=False)
        for name in ("I1.......", "P2.......", "P3", "I4", "P5"):
            source.emit(name)
        units = await playback.source.units()
        assert [(u.data[:2], u.discontinuity) for u in units] == [(b"I1", False)]
        for name in ("P6", "I7", "P8"):
            source.emit(name)
        units = await playback.source.units()
        assert [(u.data, u.discontinuity) for u in units] == [(b"I7", True), (b"P8", False)]
        playback.source.close()

    async def test_a_unit_larger_than_the_queue_is_sent_all_the_same(self, source: Source) -> None:
        mount = LiveMount(source, queue_bytes=10)
        playback = await mount.play(await mount.present(), [0], PlayRequest(), jump=False)
        source.emit("I" + "." * 100)
        assert len(await playback.source.units()) == 1
        playback.source.close()

    async def test_when_all_queues_are_full_together_the_slowest_loses_what_waits_for_it(self) -> None:
        sources, budget = [Source(), Source()], LiveBudget(30)
        mounts = [LiveMount(source, 1 << 20, budget) for source in sources]
        slow, quick = [await m.play(await m.present(), [0, 1], PlayRequest(), jump=False) for m in mounts]
        for name in ("I1......", "P2......", "P3......"):
            sources[0].emit(name)
        sources[0].emit("P4......")  # who has most waiting gets no more, were it alone as well
        assert (mounts[0].dropped, budget.queued_bytes) == (1, 24)
        sources[1].emit("I1......")  # and gives way to others
        assert (mounts[0].dropped, mounts[1].dropped, budget.queued_bytes) == (4, 0, 8)
        waiting = asyncio.ensure_future(slow.source.units())
        await asyncio.sleep(0)  # it finds nothing, though there was something
        for name in ("P5......", "I6......"):
            sources[0].emit(name)
        assert [(u.data[:2], u.discontinuity) for u in await waiting] == [(b"I6", True)]
        assert [u.data[:2] for u in await quick.source.units()] == [b"I1"]
        assert (mounts[0].dropped, budget.queued_bytes) == (5, 0)
        sources[0].emit("P7......")
        slow.source.close()
        assert budget.queued_bytes == 0
        quick.source.close()

    async def test_a_unit_larger_than_the_budget_is_sent_where_nothing_else_waits(self, source: Source) -> None:
        mount = LiveMount(source, budget=LiveBudget(10))
        playback = await mount.play(await mount.present(), [0], PlayRequest(), jump=False)
        source.emit("I" + "." * 100)
        assert len(await playback.source.units()) == 1
        playback.source.close()

    async def test_a_viewer_that_does_not_read_does_not_hold_up_another(self, source: Source) -> None:
        mount = LiveMount(source, queue_bytes=1 << 20)
        server = RtspServer(Mounts(live={"camera": mount}), packetizers=plain_packetizer(50_000))
        await server.start("127.0.0.1", 0)
        stalled, reading = await RtspClient.connect(server.port, 1 << 14), await RtspClient.connect(server.port)
        try:
            for client in (stalled, reading):
                await client.set_up("/live/camera", "video")
                await client.request("PLAY", "/live/camera")
            for i in range(400):
                source.emit(f"I{i}".ljust(50_000, "."))
                packet = await reading.packet()
                assert packet.payload.startswith(f"I{i}.".encode())
            await until(lambda: mount.dropped > 0)
            received: list[Packet] = []
            while len(received) < 20:
                received.append(await stalled.packet())
            assert [p.seq for p in received] == [(received[0].seq + i) & 0xFFFF for i in range(20)]
        finally:
            await stalled.close()
            await reading.close()
            await server.stop()


@pytest.mark.parametrize("moment", ["fresh", "playing", "paused"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Scale": "2"}, 456),
        ({"Speed": "2"}, 456),
        ({"Scale": "-1"}, 456),
        ({"Frames": "intra"}, 456),
        ({"Range": "clock=20260101T100000Z-"}, 457),
    ],
    ids=["scale", "speed", "reverse", "frames", "clock"],
)
async def test_what_a_live_stream_has_not_is_refused_whenever_it_is_asked_for(
    client: RtspClient, source: Source, moment: str, headers: dict[str, str], status: int
) -> None:
    await client.set_up("/live/camera", "video")
    if moment != "fresh":
        await client.request("PLAY", "/live/camera")
    if moment == "paused":
        await client.request("PAUSE", "/live/camera")
    assert (await client.request("PLAY", "/live/camera", **headers)).status == status
    if moment != "playing":
        assert (await client.request("PLAY", "/live/camera")).status == 200
    source.emit("I1")
    assert (await client.packet()).payload == b"I1"


async def test_a_live_stream_has_no_pause_points(client: RtspClient, source: Source) -> None:
    await client.set_up("/live/camera", "video")
    await client.request("PLAY", "/live/camera")
    for point in ("npt=5", "clock=20260101T100000Z"):
        assert (await client.request("PAUSE", "/live/camera", Range=point)).status == 457
    source.emit("I1")
    assert (await client.packet()).payload == b"I1"


async def test_what_a_viewer_was_handed_is_little_and_the_rest_counts_for_its_limit(source: Source) -> None:
    mount = LiveMount(source, 1 << 20)
    playback = await mount.play(await mount.present(), [0, 1], PlayRequest(), False)
    for _ in range(20):
        source.emit("I".ljust(100_000))
    assert mount.dropped == 10
    handed = [u for _ in range(3) for u in await playback.source.units()]
    assert len(handed) == 3
    for _ in range(20):
        source.emit("I".ljust(100_000))
    assert mount.dropped == 10 + 17
    assert [len(await playback.source.units()) for _ in range(10)] == [1] * 10
    playback.source.close()


async def test_parameter_sets_that_changed_behind_the_description_come_in_band_each_time() -> None:
    """The client knows what DESCRIBE said, whatever the camera has sent between that and SETUP."""

    class Changing(Source):
        sets = "AQID"

        def streams(self) -> Sequence[LiveStream]:
            return (LiveStream("video", ParameterVideo(sets=self.sets)),)

    source = Changing()
    server = RtspServer(Mounts(live={"camera": LiveMount(source)}), packetizers=plain_packetizer(1000))
    await server.start("127.0.0.1", 0)
    client = await RtspClient.connect(server.port)
    assert b"sprop-parameter-sets=AQID" in (await client.request("DESCRIBE", "/live/camera")).body
    source.sets = "BAUG"
    await client.set_up("/live/camera", "video")
    await client.request("PLAY", "/live/camera")
    for name in ("I1", "P2", "I3"):
        source.emit(name)
    found = [p.payload for p in await client.packets(3)]
    assert found == [b"\0\0\0\3\4\5\6I1", b"P2", b"\0\0\0\3\4\5\6I3"]
    await client.close()
    await server.stop()
