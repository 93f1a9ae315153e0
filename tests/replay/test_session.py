"""The RTSP session without a connection: what happens while a request is being prepared."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from nvr.media.rtsp.range import ClockRange
from nvr.model.errors import StorageError
from nvr.replay.clock import SystemClock
from nvr.replay.mounts import PlayRequest, Presentation
from nvr.replay.player import Pacing, Playback
from nvr.replay.sender import Buffer, RtpStream
from nvr.replay.session import RtspSession
from nvr.replay.states import SessionState
from nvr.replay.status import RequestRefused
from nvr.replay.unit import Position, Unit
from tests.support.replay_store import PlainVideo


class Source:
    """Has nothing to send, and fails when it is told to."""

    def __init__(self) -> None:
        self.fails = asyncio.Event()
        self.closed = False

    async def units(self) -> Sequence[Unit]:
        await self.fails.wait()
        raise StorageError("the disk is gone")

    at_end = False

    def end_with_footage(self) -> None: ...

    def rest(self) -> None: ...

    def close(self) -> None:
        self.closed = True


class SlowMount:
    """Plans when it is told to."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self.plans = asyncio.Event()

    async def present(self) -> Presentation:
        raise NotImplementedError

    def check(self, presentation: Presentation, streams: Sequence[int], request: PlayRequest) -> None: ...

    async def play(
        self, presentation: Presentation, streams: Sequence[int], request: PlayRequest, jump: bool
    ) -> Playback:
        await self.plans.wait()
        self.sources.append(Source())
        return Playback(self.sources[-1], Position.at(0))

    def pacing(self, request: PlayRequest) -> Pacing:
        return Pacing.UNTHROTTLED

    def playing_time(self, presentation: Presentation) -> None:
        return None


class NoTransport:
    async def send(self, packets: Sequence[Buffer]) -> None: ...

    async def send_report(self, stream: RtpStream, report: bytes) -> None: ...

    async def behind_answer(self) -> None: ...

    def close(self) -> None: ...


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


class Ending(Source):
    """Is over when it is told to."""

    async def units(self) -> Sequence[Unit]:
        await self.fails.wait()
        return ()


async def test_what_was_queued_and_begins_while_another_play_is_prepared_is_let_go() -> None:
    mount = SlowMount()
    mount.plans.set()
    session = RtspSession("/replay/rec-1", mount, Presentation((), 0), NoTransport(), SystemClock(), "nvr@here", print)
    session.state = SessionState.READY
    await session.play(PlayRequest(), 1)
    assert session._playback is not None
    session._playback.source = first = Ending()
    session.begin()
    await session.play(PlayRequest(range=ClockRange(5)), 2)
    queued = mount.sources[1]
    mount.plans.clear()
    jump = asyncio.create_task(session.play(PlayRequest(range=ClockRange(7), immediate=True), 3))
    await asyncio.sleep(0)
    first.fails.set()
    async with asyncio.timeout(5):
        while session._playback.source is not queued:  # noqa: ASYNC110
            await asyncio.sleep(0)
    mount.plans.set()
    await jump
    assert first.closed
    assert queued.closed
    assert not mount.sources[2].closed
    await session.close()


class Stubborn(Source):
    """Ends only when it is told to."""

    async def units(self) -> Sequence[Unit]:
        try:
            await asyncio.Event().wait()
        finally:
            await self.fails.wait()
        return ()


async def test_a_play_whose_connection_ends_while_the_one_before_is_stopped_leaves_nothing_behind() -> None:
    mount = SlowMount()
    mount.plans.set()
    session = RtspSession("/replay/rec-1", mount, Presentation((), 0), NoTransport(), SystemClock(), "nvr@here", print)
    session.state = SessionState.READY
    await session.play(PlayRequest(), 1)
    first = Stubborn()
    assert session._playback is not None
    session._playback.source = first
    session.begin()
    jump = asyncio.create_task(session.play(PlayRequest(range=ClockRange(5), immediate=True), 2))
    while len(mount.sources) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    jump.cancel()
    with pytest.raises(asyncio.CancelledError):
        await jump
    assert mount.sources[1].closed
    first.fails.set()
    await session.close()
    assert first.closed


class Batches:
    """Gives what it is told to, batch by batch, and waits where it has not been told yet."""

    def __init__(self, *batches: Sequence[Unit] | Exception) -> None:
        self.batches: asyncio.Queue[Sequence[Unit] | Exception] = asyncio.Queue()
        for batch in batches:
            self.batches.put_nowait(batch)
        self.asked = asyncio.Queue[None]()

    async def units(self) -> Sequence[Unit]:
        self.asked.put_nowait(None)
        found = await self.batches.get()
        if isinstance(found, Exception):
            self.batches.put_nowait(found)
            raise found
        return found

    at_end = False

    def end_with_footage(self) -> None: ...

    def rest(self) -> None: ...

    def close(self) -> None: ...


class ReadyMount(SlowMount):
    def __init__(self, source: Batches) -> None:
        super().__init__()
        self._source = source

    async def play(
        self, presentation: Presentation, streams: Sequence[int], request: PlayRequest, jump: bool
    ) -> Playback:
        return Playback(self._source, Position.at(0))


async def played(source: Batches) -> RtspSession:
    """A session that has sent the first batch, and whose player waits for the second."""
    mount = ReadyMount(source)
    session = RtspSession(
        "/replay/rec-1", mount, Presentation((), 0), NoTransport(), SystemClock(), "nvr@here", lambda _: None
    )
    session.state = SessionState.READY
    await session.play(PlayRequest(), 1)
    session.begin()
    for _ in range(2):
        await source.asked.get()
    return session


def units(*times: int) -> list[Unit]:
    return [Unit(0, t, t, t, b"", PlainVideo(), clean_point=True) for t in times]


@pytest.mark.parametrize("ask", ["pause", "play"])
async def test_what_comes_next_is_named_and_not_what_was_sent_last(ask: str) -> None:
    """Everything that was taken has been sent: what follows is on its way from the disk."""
    source = Batches(units(10, 20))
    session = await played(source)
    answer = asyncio.create_task(session.pause(None) if ask == "pause" else _start(session))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not answer.done()
    source.batches.put_nowait(units(30, 40))
    assert await answer == 30
    assert await _start(session) == 30
    await session.close()


async def _start(session: RtspSession) -> int | None:
    return (await session.play(PlayRequest(immediate=True), 2)).start_ns


async def test_at_the_live_edge_a_pause_is_answered_without_what_is_not_recorded_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nvr.replay.session.SETTLE_S", 0.01)
    source = Batches(units(10, 20))
    session = await played(source)
    assert await session.pause(None) == 20
    source.batches.put_nowait(units(30))
    assert await _start(session) == 30
    await session.close()


async def test_footage_that_cannot_be_read_does_not_refuse_the_pause() -> None:
    source = Batches(units(10, 20))
    session = await played(source)
    source.batches.put_nowait(StorageError("the disk is gone"))
    assert await session.pause(None) == 20
    assert session.state is SessionState.READY
    await session.close()


async def test_a_range_that_is_prepared_while_the_pause_point_is_reached_is_played() -> None:
    """The first range is paused when the plan for the second is there: it plays all the same, and the state says so."""
    first, second = Batches(units(10, 20, 30)), Batches(units(50))
    mount = SlowMount()
    sources = [first, second]

    async def play(presentation: Presentation, streams: Sequence[int], request: PlayRequest, jump: bool) -> Playback:
        await mount.plans.wait()
        return Playback(sources.pop(0), Position.at(0))

    mount.play = play  # type: ignore[method-assign]
    mount.plans.set()
    session = RtspSession(
        "/replay/rec-1", mount, Presentation((), 0), NoTransport(), SystemClock(), "nvr@here", lambda _: None
    )
    session.state = SessionState.READY
    await session.play(PlayRequest(), 1)
    session.begin()
    assert await session.pause(ClockRange(30)) == 30
    mount.plans.clear()
    queued = asyncio.create_task(session.play(PlayRequest(range=ClockRange(50)), 2))
    async with asyncio.timeout(5):
        while session.state is not SessionState.READY:  # noqa: ASYNC110
            await asyncio.sleep(0)
    mount.plans.set()
    await queued
    assert session.state is SessionState.PLAYING
    session.begin()
    await second.asked.get()
    await session.close()
