from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from nvr import lifecycle
from nvr.lifecycle import Parts


async def test_parts_end_in_the_reverse_order_of_their_start() -> None:
    ended: list[str] = []

    async def later() -> None:
        await asyncio.sleep(0)
        ended.append("second")

    parts = Parts()
    parts.started("first", lambda: ended.append("first"))
    parts.started("second", later)
    parts.started("third", lambda: ended.append("third"))
    assert await parts.stop()
    assert ended == ["third", "second", "first"]
    assert await parts.stop()
    assert len(ended) == 3


async def test_a_part_that_fails_or_hangs_does_not_keep_the_others_from_ending(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "LEAST_S", 0.01)
    ended: list[str] = []
    parts = Parts()
    parts.started("volumes", lambda: ended.append("volumes"))
    parts.started("hangs", asyncio.Event().wait, deadline_s=0)  # type: ignore[arg-type]

    def fail() -> None:
        raise OSError("no such device")

    parts.started("fails", fail)
    with caplog.at_level(logging.ERROR):
        assert not await parts.stop()
    assert ended == ["volumes"]
    assert "hangs does not end" in caplog.text
    assert "fails failed" in caplog.text


async def test_a_context_is_left_with_the_rest() -> None:
    ended: list[str] = []

    @asynccontextmanager
    async def part() -> AsyncIterator[int]:
        yield 7
        ended.append("context")

    parts = Parts()
    parts.started("before", lambda: ended.append("before"))
    assert await parts.enter("context", part()) == 7
    assert await parts.stop()
    assert ended == ["context", "before"]
