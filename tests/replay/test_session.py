"""The RTSP session without a connection: what happens while a request is being prepared."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import pytest

from nvr.media.rtsp.range import ClockRange
from nvr.model.errors import StorageError
from nvr.replay.clock import SystemClock
from nvr.replay.mounts import PlayRequest, Presentation
from nvr.replay.player import Pacing, Playback
from nvr.replay.sender import Buffer, RtpStream
from nvr.replay.session import RtspSession, SessionState
from nvr.replay.status import RequestRefused
from nvr.replay.unit import Unit


class Source:
    """Has nothing to send, and fails when it is told to."""

    def __init__(self) -> None:
        self.fails = asyncio.Event()
        self.closed = False

    async def units(self) -> Sequence[Unit]:
        await self.fails.wait()
        raise StorageError("the disk is gone")

    def close(self) -> None:
        self.closed = True


class SlowMount:
    """Plans when it is told to."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self.plans = asyncio.Event()

    async def present(self) -> Presentation:
        raise NotImplementedError

    async def play(
        self, presentation: Presentation, streams: Sequence[int], request: PlayRequest, jump: bool
    ) -> Playback:
        await self.plans.wait()
        self.sources.append(Source())
        return Playback(self.sources[-1], 0, deque(), 0)

    def pacing(self, request: PlayRequest) -> Pacing:
        return Pacing.UNTHROTTLED


class NoTransport:
    async def send(self, packets: Sequence[Buffer]) -> None: ...

    async def send_report(self, stream: RtpStream, report: bytes) -> None: ...


async def test_a_play_that_is_prepared_while_the_session_fails_leaves_nothing_behind() -> None:
    mount = SlowMount()
    forgotten: list[RtspSession] = []
    session = RtspSession(
        "/replay/rec-1", mount, Presentation((), 0), NoTransport(), SystemClock(), "nvr@here", forgotten.append
    )
    session.state = SessionState.READY
    mount.plans.set()
    await session.play(PlayRequest(), 1)
    session.begin()
    mount.plans.clear()
    jump = asyncio.create_task(session.play(PlayRequest(range=ClockRange(5)), 2))
    await asyncio.sleep(0)  # both tasks begin: one waits for its units, the other for its plan
    mount.sources[0].fails.set()
    async with asyncio.timeout(5):
        while not forgotten:  # noqa: ASYNC110
            await asyncio.sleep(0)
    mount.plans.set()
    with pytest.raises(RequestRefused, match="has ended") as refused:
        await jump
    assert refused.value.status == 454
    assert [s.closed for s in mount.sources] == [True, True]
