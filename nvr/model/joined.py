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
