"""The merged walk over many sequences, against all their rows in one list."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nvr.search.archive import Walk
from nvr.storage.event_rows import EventRow, Place

SEQUENCES = st.lists(st.lists(st.integers(0, 30), max_size=20, unique=True), min_size=1, max_size=5)
STEPS = st.lists(st.one_of(st.none(), st.integers(0, 4)), max_size=60)
"""None takes the next row; a number drops the next one of a sequence."""


class ShortPages(Walk[EventRow]):
    PAGE, FIRST = 5, 1


@example([[0, 1, 11], list(range(14)), []], [None, None, None, 1], True)
@given(SEQUENCES, STEPS, st.booleans())
def test_every_row_comes_once_and_in_order_whatever_pages_it_came_by(
    sequences: list[list[int]], steps: list[int | None], backward: bool
) -> None:
    rows = [EventRow(t, n, 0, n, 0, t) for n, times in enumerate(sequences) for t in times]
    left = sorted(rows, reverse=backward)

    def fetch(numbers: Sequence[int], after: Place | None, each: int) -> list[EventRow]:
        found = []
        for number in numbers:
            behind = [
                r for r in sorted(rows, reverse=backward)
                if r.stream == number and (after is None or (r.where < after if backward else r.where > after))
            ]  # fmt: skip
            found += behind[:each]
        return sorted(found, reverse=backward)

    walk = ShortPages(fetch, lambda row: row.stream, backward)
    walk.include(range(len(sequences)), None)
    for step in [*steps, *[None] * len(rows)]:
        assert walk.peek() == (left[0] if left else None)
        of_one = [r for r in left if r.stream == step]
        if step is not None and step < len(sequences):
            assert walk.next_of(step) == (of_one[0] if of_one else None)
        if of_one:
            walk.drop(of_one[0].stream)
            left.remove(of_one[0])
        elif left and step is None:
            assert walk.take() == left.pop(0)
    assert walk.peek() is None


@pytest.mark.parametrize("every", [1, 2, 20, 400])
def test_sequences_that_tell_seldom_are_not_read_by_the_pages_of_one_that_tells_often(every: int) -> None:
    """One sequence has a row at each instant, four hundred have one at every so many, endlessly."""
    asked: list[int] = []

    def fetch(numbers: Sequence[int], after: Place | None, each: int) -> list[EventRow]:
        begin = 0 if after is None else after.time_ns + 1
        found = []
        for number in numbers:
            step = every if number else 1
            first = begin + (number - begin) % step
            found += [EventRow(first + step * n, number, 0, number, 0, 0) for n in range(each)]
        asked.append(len(found))
        return sorted(found)

    walk = Walk[EventRow](fetch, lambda row: row.stream, False)
    walk.include(range(401), None)
    taken = [walk.take() for _ in range(3000)]
    assert taken == sorted(taken)
    assert sum(asked) < 4 * len(taken)
    assert len(asked) < 40, "sequences that tell about equally often are read together"
