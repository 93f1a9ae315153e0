"""Sessions of which nobody has thought: any requests in any order, on any footage, while it is recorded."""

from __future__ import annotations

import asyncio
import logging
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.model.recording import Recording, RecordingConfiguration, Track, TrackConfiguration, TrackType
from nvr.model.time import NS
from nvr.model.tokens import AUDIO001, META001, VIDEO001, TrackKey
from nvr.replay.mounts import Mounts, RecordingMounts
from nvr.replay.server import RtspServer
from tests.replay.conftest import PATH, TEN, TOKEN, sound, worked_example
from tests.support.replay_store import ManualClock, MemoryStore, MemoryTrack, PlainMetadata, plain_packetizer
from tests.support.rtsp_client import Packet, RtspClient, until
from tests.support.udp_client import ClientPorts

TYPES = {VIDEO001: TrackType.VIDEO, AUDIO001: TrackType.AUDIO, META001: TrackType.METADATA}
AT_FIRST = ("SETUP", "SETUP", "DESCRIBE")
METHODS = ("SETUP", "SETUP", *["PLAY"] * 5, "PAUSE", "PAUSE", "TEARDOWN", "GET_PARAMETER", "DESCRIBE")


def a_time(rng: random.Random) -> str:
    seconds = rng.choice([0, 1, 2, 3, 5, 6, 59, 60, 61, 64, 66, 90])
    return f"20260101T10{seconds // 60:02}{seconds % 60:02}.{rng.choice(['000', '500'])}Z"


def a_range(rng: random.Random) -> str:
    start, end = a_time(rng), a_time(rng)
    npt = rng.randrange(13)
    return rng.choice(
        [
            f"clock={start}-",
            f"clock={start}-{end}",
            "npt=0-",
            "npt=now-",
            f"npt={npt}-{rng.randrange(13)}",
            f"npt=-{npt}",
        ]
    )


def headers_of(rng: random.Random, method: str) -> dict[str, str]:
    offered = {
        "SETUP": {"Transport": [f"RTP/AVP/TCP;unicast;interleaved={2 * rng.randrange(3)}-{2 * rng.randrange(3) + 1}"]},
        "PLAY": {
            "Range": [a_range(rng), a_range(rng), ""],
            "Scale": ["-1", "-2", "1.0", "8", "", "", ""],
            "Speed": ["2", "0.5", "", ""],
            "Rate_Control": ["no", "yes", ""],
            "Immediate": ["no", "yes"],
            "Frames": ["intra", "intra/2000", "intra/100000", "predicted", "all", "", ""],
            "Require": ["onvif-replay", ""],
        },
        "PAUSE": {"Range": [f"clock={a_time(rng)}", f"npt={rng.randrange(9)}", "", ""]},
    }.get(method, {})
    chosen = {name: rng.choice(values) for name, values in offered.items()}
    if method == "SETUP" and rng.random() < 0.5:
        chosen["Transport"] = "RTP/AVP/TCP;unicast"
    return {name: value for name, value in chosen.items() if value}


def some_footage(rng: random.Random) -> dict[TrackKey, MemoryTrack]:
    recorded = MemoryTrack().starting_at(TEN).with_gop(["I0....", "P1"]).with_gop(["I2", "P3"])
    video = rng.choice([worked_example(), recorded])
    if rng.random() < 0.3:
        video.unreadable = {rng.randrange(4)}
    metadata = MemoryTrack(PlainMetadata()).starting_at(TEN).with_gop(["m0"]).with_gop(["m1"])
    return {TrackKey(TOKEN, VIDEO001): video, TrackKey(TOKEN, AUDIO001): sound(), TrackKey(TOKEN, META001): metadata}


async def a_session(rng: random.Random) -> None:
    store = MemoryStore(some_footage(rng))
    video = store.tracks[TrackKey(TOKEN, VIDEO001)]
    recording = Recording(
        TOKEN, RecordingConfiguration(), tuple(Track(t, TrackConfiguration(kind)) for t, kind in TYPES.items())
    )
    mounts = RecordingMounts({str(TOKEN): recording}.get, store, 2, 0.005, lambda: TEN + 10 * NS)
    clock = ManualClock(TEN + 10 * NS)
    server = RtspServer(Mounts(mounts), packetizers=plain_packetizer(4), clock=clock)
    await server.start("127.0.0.1", 0)
    asked: list[object] = []
    packets: list[Packet] = []
    ports = {track: ClientPorts() for track in TYPES} if rng.random() < 0.3 else {}
    try:
        client = await RtspClient.connect(server.port)
        for _ in range(rng.randint(3, 14)):
            method = rng.choice(METHODS if client.session else AT_FIRST)
            track = rng.choice([VIDEO001, VIDEO001, AUDIO001, META001])
            uri = f"{PATH}/{track}" if method == "SETUP" else PATH
            headers = headers_of(rng, method)
            if method == "SETUP" and ports:
                headers["Transport"] = ports[track].transport
            answering = asyncio.create_task(client.request(method, uri, **headers))
            for _ in range(rng.randrange(8)):
                await asyncio.sleep(0)
            clock.advance(rng.choice([0, NS // 2, 3 * NS]))  # while the request is being worked at
            answer = await answering
            packets += [packet for port in ports.values() for packet in port.waiting()]
            asked.append((method, uri, headers, answer.status))
            assert answer.status < 500, asked
            if method == "SETUP" and answer.status == 200:
                client.session = answer["Session"].partition(";")[0]
            if method == "TEARDOWN" and answer.status == 200:
                client.session = None
            if rng.random() < 0.2 and video.runs[-1].end_reason is None:
                video.with_gop(["I8", "P9"])
        await client.request("OPTIONS", "*")  # what stands before its answer has come
        await client.close()
        last: dict[int, int] = {}
        for packet in packets or [entry for entry in client.log if isinstance(entry, Packet)]:
            assert packet.seq == (last.get(packet.ssrc, packet.seq - 1) + 1) & 0xFFFF, asked
            last[packet.ssrc] = packet.seq
        await until(lambda: not sum(store.subscriptions.values()))
    except TimeoutError:
        raise AssertionError(asked) from None
    finally:
        for port in ports.values():
            port.close()
        await server.stop()


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=15)
def test_any_session_is_answered_without_a_fault_of_ours_and_leaves_nothing_behind(seed: int) -> None:
    """Each request is answered, below 500; sequence numbers have no gap; no subscription is left."""
    told: list[str] = []

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    handler = Told(logging.ERROR)
    logging.getLogger("nvr").addHandler(handler)
    try:
        asyncio.run(a_session(random.Random(seed)))
    finally:
        logging.getLogger("nvr").removeHandler(handler)
    assert told == []
