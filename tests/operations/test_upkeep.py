"""What is wrong with the recorder, as its commands tell it."""

from __future__ import annotations

from nvr.operations.upkeep import UpkeepOperations


async def test_what_is_wrong_is_told_once() -> None:
    upkeep = UpkeepOperations(health=lambda: ["a is full", "b is full", "a is full"])
    assert await upkeep.health() == [{"what": "a is full"}, {"what": "b is full"}]
