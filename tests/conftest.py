"""Fixtures that more than one room uses."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.support.official_schema import OfficialSchemas, official_schemas
from tests.support.priority import give_up_real_time

give_up_real_time()

# A busy machine is no finding: property tests are judged by what they find, not by how long an example takes. The suite
# tries the same examples every time; NVR_TEST_EXAMPLES=random looks for new ones, as `make fuzz` does.
settings.register_profile(
    "nvr",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("NVR_TEST_EXAMPLES") != "random",
)
settings.load_profile("nvr")


@pytest.fixture(scope="session")
def official() -> OfficialSchemas:
    """The official schemas, compiled: `official.validate_response(xml)` raises AssertionError on a bad answer."""
    return official_schemas()
