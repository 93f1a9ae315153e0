"""Each parser of what RTSP clients send keeps to its promises for any bytes; see fuzz.py."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.replay import fuzz

PARSERS = [f for f in fuzz.SEEDS if f is not fuzz.fuzz_connection]


@pytest.mark.parametrize("fuzz_one", PARSERS, ids=lambda f: f.__name__)
@given(data=st.binary(max_size=300), seed=st.integers(0, 1 << 32))
@settings(max_examples=70)
def test_any_bytes_and_any_damage_are_understood_or_refused(
    fuzz_one: Callable[[bytes], None], data: bytes, seed: int
) -> None:
    fuzz_one(data)
    fuzz_one(fuzz.damaged(random.Random(seed), fuzz.SEEDS[fuzz_one]))


def test_every_request_gets_one_answer_whatever_is_damaged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "nvr")
    rng = random.Random(5)
    for _ in range(60):
        fuzz.fuzz_connection(fuzz.damaged(rng, fuzz.SEEDS[fuzz.fuzz_connection]))
