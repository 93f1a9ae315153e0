"""The threads and the slices of the loop that searches take, in turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from nvr.search.shares import THREADS, Shares, Turns


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
    assert {t.name.split("_")[0] for t in threads} == {"search"}
    assert len(threads) <= THREADS
    await shares.stop()
    assert not any(t.is_alive() for t in threads)


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
