"""A joined sequence is what a copy would be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nvr.model.joined import Joined, alike

parts = st.lists(st.tuples(st.lists(st.integers(), max_size=6), st.integers(0, 6), st.integers(0, 6)), max_size=4)
places = st.none() | st.integers(-8, 24)


@given(parts, places, places, st.sampled_from([1, 1, -1, 2]))
def test_a_joined_sequence_has_the_elements_of_its_sections(
    found: list[tuple[list[int], int, int]], start: int | None, stop: int | None, step: int
) -> None:
    sections = [(of, min(low, len(of)), min(high, len(of))) for of, low, high in found]
    plain = tuple(x for of, low, high in sections for x in of[low:high])
    joined = Joined(*sections)
    assert joined == plain
    assert plain == joined
    assert [joined[i] for i in range(-len(plain), len(plain))] == [plain[i] for i in range(-len(plain), len(plain))]
    assert list(reversed(joined)) == list(reversed(plain))
    assert joined[start:stop:step] == plain[start:stop:step]
    for low in range(len(plain) + 1):
        for of in (joined, plain):
            assert Joined.behind((7,), of, low) == (7, *plain[low:])


@given(parts)
def test_what_is_appended_behind_a_section_is_not_seen(found: list[tuple[list[int], int, int]]) -> None:
    joined = Joined(*((of, 0, len(of)) for of, _, _ in found))
    before = tuple(joined)
    for of, _, _ in found:
        of.append(1)
    assert joined == before


@given(parts, parts, st.integers(0, 8), st.integers(0, 8), st.integers(0, 8), st.booleans())
def test_two_are_alike_where_their_elements_are(
    found: list[tuple[list[int], int, int]],
    others: list[tuple[list[int], int, int]],
    low: int,
    other_low: int,
    count: int,
    shared: bool,
) -> None:
    of = [(of, min(low, len(of)), min(high, len(of))) for of, low, high in found]
    one = Joined(*of)
    other = Joined(*of[1:]) if shared else Joined(*((of, 0, len(of)) for of, _, _ in others))
    for a, b in ((one, other), (one, tuple(other)), (tuple(one), other)):
        if low + count <= len(a) and other_low + count <= len(b):
            same = tuple(a)[low : low + count] == tuple(b)[other_low : other_low + count]
            assert alike(a, low, b, other_low, count) == same
