"""Fixtures that more than one room uses."""

from __future__ import annotations

import pytest

from tests.support.official_schema import OfficialSchemas, official_schemas


@pytest.fixture(scope="session")
def official() -> OfficialSchemas:
    """The official schemas, compiled: `official.validate_response(xml)` raises AssertionError on a bad answer."""
    return official_schemas()
