"""The services of recording, receivers, search and replay over the rooms below them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from nvr.control.state import ControlSettings
from tests.support.soap_house import SoapHouse

LIMITS = ControlSettings(recordings=3, jobs=3, receivers=4, tracks_per_type=2)


@pytest_asyncio.fixture
async def house() -> AsyncIterator[SoapHouse]:
    opened = await SoapHouse.open(LIMITS)
    yield opened
    await opened.close()
