"""What tests of ingest share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.ingest_house import House


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    await house.engine.start()
    yield house
    await house.engine.stop()
