"""Threads that read: a disk that hangs stops what is on it and nothing else."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter

import pytest

from nvr.model.errors import LimitReached, StorageError
from nvr.model.tokens import VIDEO001, RecordingToken
from nvr.replay import mounts, readers
from nvr.replay.readers import Readers
from tests.replay.conftest import PATH, TEN, Serve, worked_example
from tests.support.replay_store import MemoryTrack
from tests.support.rtsp_client import until


class Disk:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked = 0

    def read(self) -> str:
        self.asked += 1
        assert self.answers.wait(20)
        return "data"


async def test_calls_of_a_lane_run_one_after_the_other_and_their_results_come_back() -> None:
    threads, running, most = Readers(4), 0, 0

    def call(i: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        running -= 1
        if i == 3:
            raise StorageError("three is gone")
        return i

    results = [threads.run("one", lambda i=i: call(i)) for i in range(8)]  # type: ignore[misc]
    found = await asyncio.gather(*results, return_exceptions=True)
    assert [f for f in found if isinstance(f, int)] == [0, 1, 2, 4, 5, 6, 7]
    assert isinstance(found[3], StorageError)
    assert most == 1
    threads.close()


async def test_threads_go_on_by_themselves_while_the_loop_has_no_time() -> None:
    threads, all_made = Readers(2), threading.Event()
    results = [threads.run(f"recording {i % 3}", lambda i=i: i) for i in range(30)]  # type: ignore[misc]
    results.append(threads.run("recording 0", all_made.set))  # type: ignore[arg-type]
    assert all_made.wait(20)  # the loop stands still here
    assert (await asyncio.gather(*results))[:30] == list(range(30))
    threads.close()


async def test_a_call_that_hangs_behind_others_of_its_thread_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    threads, first, second = Readers(threads=1, patience_s=0.01), Disk(), Disk()
    results = [threads.run("one", first.read), threads.run("one", second.read)]
    other = threads.run("two", lambda: "fine")
    async with asyncio.timeout(10):
        assert await other == "fine"
        first.answers.set()
        await until(lambda: caplog.text.count("footage of one is waited for") == 2)
        assert threads.silent == ["one"]
        second.answers.set()
        assert await asyncio.gather(*results) == ["data"] * 2
    threads.close()


async def test_lanes_that_hang_hold_a_thread_each_and_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    threads, disk = Readers(threads=2, patience_s=0.01), Disk()
    hanging = [threads.run(f"recording {i}", disk.read) for i in range(5)]
    behind = [threads.run("recording 0", disk.read) for _ in range(3)]
    async with asyncio.timeout(10):
        assert [await threads.run(f"other {i}", lambda: "fine") for i in range(10)] == ["fine"] * 10
        # On a slow machine one of the others may have been slower than the patience lasts, too.
        names = [f"recording {i}" for i in range(5)]
        await until(lambda: all(f"footage of {name} is waited for" in caplog.text for name in names))
        await until(lambda: disk.asked == 5)
        assert sorted(threads.silent) == names
        disk.answers.set()
        assert await asyncio.gather(*hanging, *behind) == ["data"] * 8
    assert disk.asked == 8
    assert threads.silent == []
    assert all(f"footage of {name} can be read again" in caplog.text for name in names)
    threads.close()


async def test_a_call_that_is_cancelled_before_its_turn_is_not_made() -> None:
    threads, disk, made = Readers(1), Disk(), []
    first = threads.run("one", disk.read)
    for i in range(3):
        threads.run("one", lambda i=i: made.append(i)).cancel()  # type: ignore[misc]
    last = threads.run("one", lambda: made.append("last"))
    disk.answers.set()
    await asyncio.gather(first, last)
    assert made == ["last"]
    threads.close()


async def test_a_lane_whose_calls_were_cancelled_still_takes_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "LANE_LENGTH", 2)
    threads, busy, disk = Readers(2), Disk(), Disk()
    hanging = [threads.run(f"busy {i}", busy.read) for i in range(2)]
    for _ in range(2):
        threads.run("one", disk.read).cancel()
    waiting = [threads.run("one", disk.read) for _ in range(2)]
    busy.answers.set()
    await asyncio.gather(*hanging)
    assert await threads.run("another", lambda: "fine") == "fine"
    await until(lambda: disk.asked > 0)
    assert disk.asked == 1
    disk.answers.set()
    assert await asyncio.gather(*waiting) == ["data"] * 2
    threads.close()


async def test_requests_and_what_is_read_ahead_take_turns() -> None:
    threads, disk, made = Readers(1), Disk(), list[str]()
    first = threads.run("one", disk.read)
    results = [threads.run("one", lambda i=i: made.append(f"batch {i}")) for i in range(4)]  # type: ignore[misc]
    results += [
        threads.run("one", lambda i=i: made.append(f"request {i}"), request=True)  # type: ignore[misc]
        for i in range(3)
    ]
    results[1].cancel()
    disk.answers.set()
    await asyncio.gather(first, *results, return_exceptions=True)
    assert made == ["request 0", "batch 0", "request 1", "batch 2", "request 2", "batch 3"]
    threads.close()


async def test_whatever_is_cancelled_a_lane_runs_one_call_and_all_lanes_as_many_as_there_are_threads() -> None:
    threads, chance, lock = Readers(threads=3), random.Random(5), threading.Lock()
    inside, crowds, made = Counter[str](), Counter[bool](), Counter[str]()

    def call(lane: str, fails: bool) -> str:
        with lock:
            inside[lane] += 1
            crowds[inside[lane] > 1 or inside.total() > 3] += 1
        try:
            if fails:
                raise StorageError("gone")
            return lane
        finally:
            with lock:
                inside[lane] -= 1
                made[lane] += 1

    results, cancelled = [], 0
    for i in range(1500):
        lane = str(chance.randrange(10))
        fails = chance.random() < 0.1
        results.append(
            threads.run(lane, lambda lane=lane, fails=fails: call(lane, fails), request=chance.random() < 0.3)  # type: ignore[misc]
        )
        if chance.random() < 0.1:
            cancelled += results[chance.randrange(len(results))].cancel()
        if i % 50 == 0:
            await asyncio.sleep(0)
    found = await asyncio.gather(*results, return_exceptions=True)
    assert sum(isinstance(f, asyncio.CancelledError) for f in found) == cancelled
    assert made.total() >= 1500 - cancelled
    assert crowds.keys() == {False}
    assert threads.silent == []
    threads.close()


async def test_a_lane_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "LANE_LENGTH", 3)
    threads, disk = Readers(1), Disk()
    waiting = [threads.run("one", disk.read) for _ in range(4)]
    with pytest.raises(LimitReached):
        threads.run("one", disk.read)
    waiting.pop().cancel()
    waiting.append(threads.run("one", disk.read))
    disk.answers.set()
    assert await asyncio.gather(*waiting) == ["data"] * 4
    threads.close()


async def test_closing_waits_for_nobody() -> None:
    threads, disk = Readers(1), Disk()
    hanging, behind = threads.run("one", disk.read), threads.run("one", disk.read)
    threads.close()
    assert behind.cancelled()
    assert not hanging.done()
    disk.answers.set()
    assert await hanging == "data"


async def test_a_recording_whose_disk_hangs_is_refused_and_others_play(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = await serve({VIDEO001: worked_example()})
    served.add({VIDEO001: worked_example()}, RecordingToken("rec-2"))
    served.add(
        {VIDEO001: (stuck := MemoryTrack().starting_at(TEN).with_gop(["I0"]).with_end())}, RecordingToken("rec-3")
    )
    disk = Disk()

    def hang(ref: object) -> None:
        disk.read()

    client, other = await served.client(), await served.client()
    await client.set_up("/replay/rec-3", VIDEO001)
    stuck.open = hang  # type: ignore[assignment,method-assign]
    monkeypatch.setattr(mounts, "ANSWER_S", 0.05)
    assert (await client.request("PLAY", "/replay/rec-3")).status == 503
    assert (await client.request("DESCRIBE", "/replay/rec-3")).status == 503
    monkeypatch.setattr(mounts, "ANSWER_S", 8.0)
    await other.set_up(PATH, VIDEO001)
    assert (await other.request("PLAY", PATH, Rate_Control="no")).status == 200
    assert len(await other.packets(16)) == 16
    disk.answers.set()
