"""The threads and the slices of the loop that searches take, in turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from nvr.model.errors import StorageError
from nvr.search import shares as shares_module
from nvr.search.shares import Shares, Turns
from nvr.storage.volume import VolumeHangs


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_turns_go_round_the_users_however_much_each_asks_for() -> None:
    turns, order = Turns(1), []

    async def work(user: str) -> None:
        await turns.take(user)
        order.append(user)
        await asyncio.sleep(0)
        turns.give_back(user)

    await asyncio.gather(*(work(user) for user in ["a"] * 6 + ["b"] * 2 + ["c"]))
    assert order == ["a", "a", "b", "c", "a", "b", "a", "a", "a"], "the first two before anybody else had come"
    assert not turns._waiting
    assert not turns._working


async def test_one_user_has_one_place_and_leaves_the_others_free() -> None:
    turns = Turns(2)
    greedy = [asyncio.create_task(turns.take("greedy")) for _ in range(9)]
    await settled()
    assert [t.done() for t in greedy] == [True] + [False] * 8
    await asyncio.wait_for(turns.take("modest"), 60)
    turns.give_back("modest")
    turns.give_back("greedy")
    await settled()
    assert [t.done() for t in greedy[:3]] == [True, True, False]
    for task in greedy:
        task.cancel()


async def test_who_gives_up_waiting_or_has_just_been_called_takes_no_turn_away() -> None:
    turns = Turns(1)
    await turns.take("a")
    waiting, called = (asyncio.create_task(turns.take(user)) for user in ("b", "c"))
    await settled()
    waiting.cancel()
    await settled()
    turns.give_back("a")
    called.cancel()  # its turn has come, and it has not seen it yet
    for task in (waiting, called):
        with pytest.raises(asyncio.CancelledError):
            await task
    await turns.take("d")
    turns.give_back("d")
    assert not turns._waiting
    assert not turns._working


async def test_work_that_was_cancelled_keeps_its_thread_until_it_ends_and_others_go_on() -> None:
    shares = Shares()
    begun, go_on = threading.Event(), threading.Event()
    names = []

    def long() -> None:
        begun.set()
        go_on.wait()

    task = asyncio.create_task(shares.of("a").thread(long))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    second = asyncio.create_task(shares.of("a").thread(lambda: names.append("a")))
    for _ in range(20):
        await shares.of("b").thread(lambda: names.append("b"))
    assert names == ["b"] * 20
    go_on.set()
    await second
    assert names[-1] == "a"
    await shares.stop()


async def test_searches_leave_the_threads_of_others_alone() -> None:
    """SQL and files wait in the executor of the loop."""
    shares = Shares()
    threads = {await shares.of(str(n)).thread(threading.current_thread) for n in range(8)}
    assert {t.name for t in threads} == {"search"}
    await shares.stop()
    for thread in threads:
        thread.join(60)
    assert not any(t.is_alive() for t in threads)
    with pytest.raises(StorageError, match="the recorder stops"):
        await shares.of("a").thread(threading.current_thread)


async def test_work_that_takes_long_leaves_its_place_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares_module, "LATE_S", 0.0)
    shares, go_on = Shares(), threading.Event()
    slow = [asyncio.create_task(shares.of(user).thread(go_on.wait)) for user in "abcd"]
    assert await shares.of("e").thread(lambda: "read") == "read", "four threads wait, and there are two places"
    again = asyncio.create_task(shares.of("a").thread(lambda: "read"))
    await settled()
    assert not again.done(), "its user has its turn still"
    go_on.set()
    assert await asyncio.gather(*slow) == [True] * 4
    assert await again == "read"
    await shares.stop()
    assert shares.on_threads._free == shares_module.THREADS
    assert not shares.at_work


async def test_work_that_shows_no_sign_of_life_is_given_up_and_what_is_left_behind_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shares, go_on = Shares(), threading.Event()
    monkeypatch.setattr(shares_module, "GIVE_UP_S", 0.0)
    for _ in range(shares_module.LEFT_BEHIND):
        with pytest.raises(VolumeHangs, match="footage has not come back"):
            await shares.of("a").thread(go_on.wait, footage=True)
    begun: list[str] = []
    with pytest.raises(VolumeHangs, match="2 reads of searches of a have not come back"):
        await shares.of("a").thread(lambda: begun.append("footage"), footage=True)
    assert not begun
    monkeypatch.setattr(shares_module, "GIVE_UP_S", 600.0)
    assert await shares.of("a").thread(lambda: "the index") == "the index", "it has not been on that disk"
    assert await shares.of("b").thread(lambda: "footage", footage=True) == "footage"
    ends = [work.thread_ended for work in shares.at_work]
    go_on.set()
    await asyncio.gather(*ends)
    assert await shares.of("a").thread(lambda: "footage", footage=True) == "footage"
    assert not shares.left_behind
    await shares.stop()


async def test_work_that_goes_on_is_waited_for_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares_module, "GIVE_UP_S", 0.0)
    shares, go_on, asked = Shares(), threading.Event(), 0

    def sign() -> int:
        nonlocal asked
        asked += 1
        if asked == 9:
            go_on.set()
            monkeypatch.setattr(shares_module, "GIVE_UP_S", 600.0)
        return asked

    assert await shares.of("a").thread(go_on.wait, sign=sign)
    await shares.stop()


async def test_a_stop_leaves_behind_what_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares_module, "STOP_S", 0.0)
    shares, go_on = Shares(), threading.Event()
    hanging = [asyncio.create_task(shares.of(user).thread(go_on.wait)) for user in "aab"]
    await settled()
    hanging[2].cancel()
    await shares.stop()
    outcomes = await asyncio.gather(*hanging, return_exceptions=True)
    assert [type(e) for e in outcomes] == [VolumeHangs, StorageError, asyncio.CancelledError]
    ends = [work.thread_ended for work in shares.at_work]
    go_on.set()
    await asyncio.gather(*ends)


async def test_a_failure_on_the_thread_gives_the_turn_back() -> None:
    shares = Shares()

    def fails() -> None:
        raise ValueError("broken")

    for _ in range(4):
        with pytest.raises(ValueError, match="broken"):
            await shares.of("a").thread(fails)
    await shares.stop()


async def test_long_looks_of_many_users_give_the_loop_away_behind_each_slice() -> None:
    clock_ns = 0
    held: list[int] = []

    def look() -> Iterator[int]:
        nonlocal clock_ns
        for n in range(40):
            clock_ns += 1_000_000
            yield n

    shares = Shares(lambda: clock_ns)
    tasks = [asyncio.create_task(shares.of(str(n % 3)).all_of(look())) for n in range(30)]
    while not all(t.done() for t in tasks):
        before_ns = clock_ns
        await asyncio.sleep(0)
        held.append(clock_ns - before_ns)
    assert [t.result() for t in tasks] == [list(range(40))] * 30
    assert max(held) <= 5_000_000, "the slices of one round of the loop do not add up"
