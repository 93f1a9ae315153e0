"""A sequence made of sections of others, without a copy: what grows at its end, or loses its beginning, is shown anew
at the same cost however long it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar, overload

T_co = TypeVar("T_co", covariant=True)


class Section(NamedTuple):
    """Elements `low` to `high` (exclusive) of a sequence, which must not change there any more; it may grow."""

    of: Sequence[object]
    low: int
    high: int


class Joined(Sequence[T_co]):
    """The elements of some sequences one after the other. Immutable; equal to any sequence of the same elements."""

    __slots__ = ("_length", "_sections")

    def __init__(self, *sections: tuple[Sequence[T_co], int, int]) -> None:
        """Of each sequence the elements from the first index to the second (exclusive), where they are any."""
        self._sections = [Section(*s) for s in sections if s[1] < s[2]]
        self._length = sum(s.high - s.low for s in self._sections)

    @classmethod
    def behind(cls, first: Sequence[T_co], of: Sequence[T_co], low: int) -> Joined[T_co]:
        """`first`, and what stands in `of` from `low` on."""
        if not isinstance(of, Joined):
            return cls((first, 0, len(first)), (of, low, len(of)))
        rest: list[tuple[Sequence[T_co], int, int]] = []
        for section in of._sections:
            count = section.high - section.low
            rest.append((section.of, section.low + min(low, count), section.high))  # type: ignore[arg-type]
            low = max(0, low - count)
        return cls((first, 0, len(first)), *rest)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T_co: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T_co, ...]: ...
    def __getitem__(self, index: int | slice) -> T_co | tuple[T_co, ...]:
        if isinstance(index, slice):
            start, stop, step = index.indices(self._length)
            return self._slice(start, stop) if step == 1 else tuple(self)[index]
        if index < 0:
            index += self._length
        if index >= 0:
            for of, low, high in self._sections:
                at = low + index
                if at < high:
                    return of[at]  # type: ignore[return-value]
                index = at - high
        raise IndexError("there are no so many elements")

    def _slice(self, start: int, stop: int) -> tuple[T_co, ...]:
        found: list[T_co] = []
        for of, low, high in self._sections:
            count = high - low
            if start < count and stop > 0:
                found += of[low + max(start, 0) : low + min(stop, count)]  # type: ignore[arg-type]
            start, stop = start - count, stop - count
        return tuple(found)

    def __iter__(self) -> Iterator[T_co]:
        for of, low, high in self._sections:
            yield from of[low:high]  # type: ignore[misc]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return self is other or (len(self) == len(other) and tuple(self) == tuple(other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def alike(one: Sequence[object], low: int, other: Sequence[object], other_low: int, count: int) -> bool:
    """Whether `count` elements from `low` on are those of the other from `other_low` on; both have so many. What both
    show of the same sequence is not looked at.
    """
    mine, others = _pieces(one, low, count), _pieces(other, other_low, count)
    left = count
    here = there = Section((), 0, 0)
    while left:
        here = here if here.low < here.high else next(mine)
        there = there if there.low < there.high else next(others)
        number = min(here.high - here.low, there.high - there.low)
        same = here.of is there.of and here.low == there.low
        if not same and list(here.of[here.low : here.low + number]) != list(there.of[there.low : there.low + number]):
            return False
        here, there = here._replace(low=here.low + number), there._replace(low=there.low + number)
        left -= number
    return True


def _pieces(of: Sequence[object], low: int, count: int) -> Iterator[Section]:
    for section in of._sections if isinstance(of, Joined) else [Section(of, 0, len(of))]:
        length = section.high - section.low
        if low < length and count:
            number = min(length - low, count)
            yield Section(section.of, section.low + low, section.low + low + number)
            count -= number
            low = 0
        else:
            low -= min(low, length)
