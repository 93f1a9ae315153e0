"""A server on a free port of loopback, with footage in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest

from nvr.model.recording import Recording, RecordingConfiguration, Track, TrackConfiguration, TrackType
from nvr.model.time import NS, parse_iso
from nvr.model.tokens import AUDIO001, META001, VIDEO001, RecordingToken, TrackKey, TrackToken
from nvr.replay.mounts import Mounts, RecordingMounts
from nvr.replay.sender import Origin
from nvr.replay.server import RtspServer
from tests.support.replay_store import MemoryStore, MemoryTrack, plain_packetizer
from tests.support.rtsp_client import RtspClient

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
