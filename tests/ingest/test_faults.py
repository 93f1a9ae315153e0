"""What cameras and networks do to a stream, over TCP and over UDP, and the exact timeline that is recorded of it.

Pictures are numbered from 0, 25 a second, a key frame with every tenth. A timeline is written as

    0-9 11-19~ 20-29 /packet-loss 80-99 /daemon-stopped

: the numbers of pictures that stand in a run, `~` behind those that are marked as damaged, `/` and why the run ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from nvr.ingest.counters import ReceiverCounters
from nvr.ingest.engine import IngestEngine
from nvr.media.rtsp.message import Request, Response
from nvr.media.unit import Fragment
from nvr.model.receiver import TransportProtocol
from nvr.model.recording import TrackType
from nvr.model.tokens import ReceiverToken
from tests.support.camera import Camera, h264_track, key_frame, picture
from tests.support.ingest import MS, QUICK, FakeStorage, a_job, a_receiver, a_recording, a_source, key, until

RECEIVER = ReceiverToken("rcv-1")
GOP = 10
FRAME = 3600
FRAME_NS = 40 * MS
RTP_START = (1 << 32) - 15 * FRAME
"""RTP time wraps with picture 15, sequence numbers wrap with picture 1."""
OTHER_SETS = (bytes.fromhex("674d001f965402802dc8"), bytes.fromhex("68ee3c80"))


def data_of(number: int) -> bytes:
    return key_frame(number) if number % GOP == 0 else picture(number, 2000)


class Scene:
    """One camera that is recorded over one transport."""

    def __init__(self, protocol: TransportProtocol) -> None:
        self.protocol = protocol
        self.track = h264_track()
        self.camera = Camera([self.track])
        self.storage = FakeStorage()
        self.engine = IngestEngine(self.storage, QUICK)
        self.begin_ns = time.time_ns()
        self.sent = 0

    @property
    def udp(self) -> bool:
        return self.protocol is TransportProtocol.UDP

    async def connected(self, times: int = 1) -> None:
        await self.camera.playing(times)
        reports = self.counters.sender_reports
        self.report(0, self.begin_ns)
        await until(lambda: self.counters.sender_reports > reports)

    @property
    def counters(self) -> ReceiverCounters:
        return self.engine.counters()[RECEIVER]

    def rtp(self, number: int) -> int:
        return (RTP_START + number * FRAME) & 0xFFFF_FFFF

    def report(self, number: int, utc_ns: int) -> None:
        self.camera.send_report(self.track, utc_ns, self.rtp(number))

    def packets(self, *numbers: int) -> list[bytes]:
        return [p for n in numbers for p in self.track.unit(data_of(n), self.rtp(n))]

    async def send(self, packets: list[bytes], *, counted: int | None = None) -> None:
        """Returns when as many as are to be counted have been taken."""
        self.sent += len(packets) if counted is None else counted
        self.camera.send_packets(self.track, packets)
        await until(lambda: self.counters.packets >= self.sent)

    async def pictures(self, *numbers: int) -> None:
        await self.send(self.packets(*numbers))

    def timeline(self) -> str:
        told, numbers = [], []
        for event in self.storage.recorder(key(), TrackType.VIDEO).events:
            if isinstance(event, Fragment):
                numbers += [(self._number(s.data), s.damaged) for s in event.samples]
            else:
                told += [*_ranges(numbers), f"/{event.value}"]
                numbers = []
        return " ".join((*told, *_ranges(numbers)))

    def _number(self, data: bytes) -> int:
        """Behind the parameter sets, where there are any."""
        at = max(data.rfind(b"\x65\x88\x00"), data.rfind(b"\x41\x9a\x00"))
        return int.from_bytes(data[at + 2 : at + 6], "big")

    def times(self) -> dict[int, int]:
        """Nanoseconds since the beginning, by picture."""
        samples = self.storage.recorder(key(), TrackType.VIDEO).samples
        return {self._number(s.data): s.utc_ns - self.begin_ns for s in samples}


def _ranges(numbers: list[tuple[int, bool]]) -> list[str]:
    """Runs of consecutive numbers that are alike."""
    found: list[tuple[int, int, bool]] = []
    for number, damaged in numbers:
        if found and found[-1][1] + 1 == number and found[-1][2] == damaged:
            found[-1] = found[-1][0], number, damaged
        else:
            found.append((number, number, damaged))
    return [f"{a}-{b}{'~' * damaged}" if a != b else f"{a}{'~' * damaged}" for a, b, damaged in found]


async def nothing_happens(s: Scene) -> str:
    await s.pictures(*range(30))
    assert (s.counters.lost, s.counters.restarts) == (0, 0)
    return "0-29 /daemon-stopped"


async def a_packet_is_lost(s: Scene) -> str:
    await s.pictures(*range(5))
    first, second = s.packets(5)
    await s.send([first])
    await s.pictures(*range(6, 30))
    assert second
    await until(lambda: s.counters.lost == 1)
    return "0-4 6-9~ 10-29 /daemon-stopped"


async def whole_pictures_are_lost(s: Scene) -> str:
    await s.pictures(*range(12))
    s.packets(12, 13, 14)
    await s.pictures(*range(15, 30))
    return "0-11 15-19~ 20-29 /daemon-stopped"


async def two_seconds_are_lost(s: Scene) -> str:
    await s.pictures(*range(12))
    s.packets(*range(12, 61))
    await s.pictures(*range(61, 75))
    return "0-11 /packet-loss 61-69~ 70-74 /daemon-stopped"


async def the_camera_stalls(s: Scene) -> str:
    await s.pictures(*range(12))
    await s.pictures(*range(61, 75))
    assert s.counters.lost == 0
    return "0-11 /source-lost 61-69~ 70-74 /daemon-stopped"


async def packets_come_twice(s: Scene) -> str:
    packets = s.packets(*range(30))
    await s.send([p for packet in packets for p in (packet, packet)], counted=len(packets))
    await until(lambda: s.counters.duplicates == len(packets))
    assert s.counters.lost == 0
    return "0-29 /daemon-stopped"


async def neighbours_change_places(s: Scene) -> str:
    """TCP keeps the order: what comes so over it is a mistake of the camera, and taken for a loss and a late packet."""
    await s.pictures(*range(5))
    a, b = s.packets(5)
    await s.send([b, a], counted=2 if s.udp else 1)
    await s.pictures(*range(6, 30))
    if s.udp:
        assert (s.counters.lost, s.counters.reordered) == (0, 1)
        return "0-29 /daemon-stopped"
    assert (s.counters.lost, s.counters.duplicates) == (1, 1)
    return "0-4 6-9~ 10-29 /daemon-stopped"


async def garbage_stands_between_packets(s: Scene) -> str:
    await s.pictures(*range(5))
    for junk in (b"\x00\xff" * 30, b"RTP!", b"\x80"):
        if s.udp:
            assert s.track.udp is not None
            s.track.udp.send(junk)
        else:
            s.camera.send(junk + b"\r\n")
    await s.pictures(*range(5, 30))
    counters = s.counters
    assert counters.lost == 0
    assert counters.bad_packets == 3 if s.udp else counters.garbage > 0
    return "0-29 /daemon-stopped"


async def the_connection_breaks_inside_a_picture(s: Scene) -> str:
    await s.pictures(*range(12))
    await s.send(s.packets(12)[:1])
    s.camera.hang_up(reset=True)
    await s.connected(2)
    await s.pictures(*range(25, 40))
    return "0-11 /source-lost 30-39 /daemon-stopped"


async def the_camera_says_goodbye(s: Scene) -> str:
    await s.pictures(*range(12))
    s.camera.send_packets(s.track, [s.track.bye("restarting")], rtcp=True)
    await s.connected(2)
    await s.pictures(*range(30, 35))
    return "0-11 /source-lost 30-34 /daemon-stopped"


async def the_source_is_another(s: Scene) -> str:
    await s.pictures(*range(12))
    s.track.ssrc, s.track.sequence = 0x9999, 7
    await s.pictures(*range(20, 22))
    s.report(20, s.begin_ns + 20 * FRAME_NS)
    await s.pictures(*range(22, 35))
    return "0-11 /source-lost 20-34 /daemon-stopped"


async def the_rtp_clock_begins_anew(s: Scene) -> str:
    await s.pictures(*range(12))
    packets = [p for n in range(12, 25) for p in s.track.unit(data_of(n), n * FRAME + 500_000_000)]
    await s.send(packets)
    s.camera.send_report(s.track, s.begin_ns + 12 * FRAME_NS, 12 * FRAME + 500_000_000)
    await until(lambda: s.counters.sender_reports == 2)
    return "0-11 /clock-jump 12-19~ 20-24 /daemon-stopped"


async def the_cameras_clock_is_set_by_three_seconds(s: Scene) -> str:
    await s.pictures(*range(12))
    s.report(12, s.begin_ns + 12 * FRAME_NS + 3000 * MS)
    await until(lambda: s.counters.sender_reports == 2)
    await s.pictures(*range(12, 25))
    return "0-11 /clock-jump 12-19~ 20-24 /daemon-stopped"


async def other_parameter_sets_come(s: Scene) -> str:
    await s.pictures(*range(10))
    sets = b"".join(len(nal).to_bytes(4, "big") + nal for nal in OTHER_SETS)
    await s.send(s.track.unit(sets + data_of(10), s.rtp(10)))
    await s.pictures(*range(11, 25))
    return "0-9 /configuration-changed 10-24 /daemon-stopped"


SHIFTED = {"the_cameras_clock_is_set_by_three_seconds": 12}
"""Scripts in which all pictures from this one on have another time, 3 s later."""
SCRIPTS: list[Callable[[Scene], Awaitable[str]]] = [
    nothing_happens,
    a_packet_is_lost,
    whole_pictures_are_lost,
    two_seconds_are_lost,
    the_camera_stalls,
    packets_come_twice,
    neighbours_change_places,
    garbage_stands_between_packets,
    the_connection_breaks_inside_a_picture,
    the_camera_says_goodbye,
    the_source_is_another,
    the_rtp_clock_begins_anew,
    the_cameras_clock_is_set_by_three_seconds,
    other_parameter_sets_come,
]


@pytest.mark.parametrize("protocol", [TransportProtocol.RTSP, TransportProtocol.UDP], ids=["TCP", "UDP"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
async def test_the_timeline_of_a_fault(script: Callable[[Scene], Awaitable[str]], protocol: TransportProtocol) -> None:
    scene = Scene(protocol)
    await scene.engine.start()
    async with scene.camera:
        job = a_job(a_source("rcv-1", ("", "VIDEO001")))
        scene.engine.apply([a_recording()], [job], [a_receiver(scene.camera.uri, protocol=protocol)])
        await scene.connected()
        try:
            expected = await script(scene)
        finally:
            await scene.engine.stop()
    assert scene.timeline() == expected
    later = SHIFTED.get(script.__name__, 1 << 30)
    for number, at_ns in scene.times().items():
        assert abs(at_ns - number * FRAME_NS - 3000 * MS * (number >= later)) < 5 * MS, f"picture {number}"


async def test_answers_that_come_in_two_parts_are_put_together() -> None:
    scene = Scene(TransportProtocol.RTSP)

    def split(request: Request, response: Response) -> bytes | None:
        whole = bytes(response)
        writer = scene.camera.answering
        writer.write(whole[:1])
        loop = asyncio.get_running_loop()
        loop.call_later(0.002, writer.write, whole[1 : len(whole) // 2])
        loop.call_later(0.004, writer.write, whole[len(whole) // 2 :])
        return None

    scene.camera.answers = dict.fromkeys(("OPTIONS", "DESCRIBE", "SETUP", "PLAY"), split)
    await scene.engine.start()
    async with scene.camera:
        job = a_job(a_source("rcv-1", ("", "VIDEO001")))
        scene.engine.apply([a_recording()], [job], [a_receiver(scene.camera.uri)])
        await until(lambda: scene.counters.connects == 1)
        await scene.connected()
        await scene.pictures(*range(12))
        await scene.engine.stop()
    assert scene.timeline() == "0-11 /daemon-stopped"
