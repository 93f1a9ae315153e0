"""A server on a free port of loopback, with footage in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, ClassVar

import pytest

from nvr.auth.access import Role
from nvr.auth.digest import Algorithm, ha1
from nvr.model.recording import Recording, RecordingConfiguration, Track, TrackConfiguration, TrackType
from nvr.model.time import NS, parse_iso
from nvr.model.tokens import AUDIO001, META001, VIDEO001, RecordingToken, TrackKey, TrackToken
from nvr.replay.mounts import Mounts, RecordingMounts
from nvr.replay.sender import Origin
from nvr.replay.server import RtspServer
from tests.support.replay_store import (
    MemoryStore,
    MemoryTrack,
    PlainAudio,
    plain_packetizer,
)
from tests.support.rtsp_client import Answer, Packet, RtspClient

TEN = parse_iso("2026-01-01T10:00:00Z")
TOKEN = RecordingToken("rec-1")
PATH = f"/replay/{TOKEN}"
ORIGIN = Origin(0x1A2B3C4D, 5000, 1_000_000)


class Served:
    """A server under test."""

    def __init__(self, server: RtspServer, store: MemoryStore, stack: AsyncExitStack) -> None:
        self.server = server
        self.store = store
        self.recordings: dict[str, Recording] = {}
        self._stack = stack

    def add(self, tracks: dict[TrackToken, MemoryTrack], token: RecordingToken = TOKEN) -> None:
        types = {VIDEO001: TrackType.VIDEO, AUDIO001: TrackType.AUDIO, META001: TrackType.METADATA}
        self.recordings[token] = Recording(
            token, RecordingConfiguration(), tuple(Track(t, TrackConfiguration(types[t])) for t in types)
        )
        for name, track in tracks.items():
            self.store.tracks[TrackKey(token, name)] = track

    async def client(self, limit: int = 1 << 16) -> RtspClient:
        client = await RtspClient.connect(self.server.port, limit)
        self._stack.push_async_callback(client.close)
        return client


Serve = Callable[..., Coroutine[Any, Any, Served]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """`await serve(tracks, payload=4, **arguments of RtspServer)`."""
    async with AsyncExitStack() as stack:

        async def start(
            tracks: dict[TrackToken, MemoryTrack] | None = None,
            *,
            payload: int | None = 4,
            utc_ns: Callable[[], int] = lambda: TEN,
            **arguments: Any,
        ) -> Served:
            store = MemoryStore({})
            served: Served
            recordings = RecordingMounts(lambda token: served.recordings.get(token), store, 2, 0.05, utc_ns)
            if payload is not None:
                arguments.setdefault("packetizers", plain_packetizer(payload))
            server = RtspServer(Mounts(recordings), **arguments)
            served = Served(server, store, stack)
            if tracks is not None:
                served.add(tracks)
            await server.start("127.0.0.1", 0)
            stack.push_async_callback(server.stop)
            return served

        yield start


def worked_example() -> MemoryTrack:
    """Two sections of two groups of pictures; an intra picture takes two packets of four bytes, others one."""
    return (
        MemoryTrack()
        .starting_at(TEN)
        .with_gop(["I0....", "P1", "P2"])
        .with_gop(["I3....", "P4", "P5"])
        .with_gap(TEN + 60 * NS)
        .with_gop(["I6....", "P7", "P8"])
        .with_gop(["I9....", "P10", "P11"])
        .with_end()
    )


TCP = "RTP/AVP/TCP;unicast;interleaved=0-1"


def sound() -> MemoryTrack:
    return MemoryTrack(PlainAudio()).starting_at(TEN).with_gop(["a0", "a1"]).with_end()


def big_track() -> MemoryTrack:
    track = MemoryTrack().starting_at(TEN)
    for i in range(200):
        track.with_gop([f"I{i}".ljust(100_000, ".")])
    return track.with_end()


class Accounts:
    """One user of each role, and one whose role is not known any more."""

    roles: ClassVar = {"admin": Role.ADMINISTRATOR, "watcher": Role.USER}

    def ha1(self, name: str, algorithm: Algorithm) -> str | None:
        return ha1(algorithm, name, "nvr", "secret") if name in (*self.roles, "former") else None

    def role(self, name: str | None) -> Role | None:
        return self.roles.get(name or "")


async def playing(client: RtspClient, *tracks: str, **headers: str) -> Answer:
    await client.set_up(PATH, *(tracks or (VIDEO001,)))
    answer = await client.request("PLAY", PATH + "/", **{"Rate_Control": "no", **headers})
    assert answer.status == 200
    return answer


def flags_of(packets: list[Packet]) -> str:
    return " ".join(p.payload.decode() + ("" if p.word3 is None else ":" + p.flags) for p in packets)


async def nothing_comes(client: RtspClient) -> list[Packet]:
    """What arrived before the answer to a keep-alive: media of the same connection stand before it."""
    before = len(client.log)
    for _ in range(3):
        await client.request("GET_PARAMETER", PATH)
    return [e for e in client.log[before:] if isinstance(e, Packet)]


def long_track(seconds: int = 300, size: int = 1000) -> MemoryTrack:
    track = MemoryTrack().starting_at(TEN)
    for i in range(0, seconds, 2):
        track.with_gop([f"I{i}".ljust(size, "."), f"P{i + 1}".ljust(size, ".")])
        if i % 10 == 8:
            track.with_rotation()
    return track.with_end()
