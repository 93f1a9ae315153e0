from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.e2e.crash import crash


@pytest.mark.requirement("RC-5.2-01")
@pytest.mark.timeout(180)
def test_ten_kills_at_random_moments_cost_at_most_the_open_fragment(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    crash(tmp_path, 10, random.Random(seed))
