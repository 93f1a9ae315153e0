"""What says that the time of day is right: the system's time synchronisation, or the cameras."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_TIMEX_BYTES = 512
"""More than struct timex has anywhere; all zero it asks and sets nothing (adjtimex(2))."""
_TIME_ERROR = 5
"""The clock is not synchronised."""


def synchronised() -> str | None:
    """Whether the kernel says that a time service keeps its clock, in words; None where not, or where it cannot be
    asked. Setting the clock by hand takes this away."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (AttributeError, OSError):  # another system than Linux
        return None
    return "the system's clock is synchronised" if 0 <= state < _TIME_ERROR else None


class ClockEvidence:
    """Asked while the time is doubted."""

    def __init__(self, votes: Callable[[], tuple[int, int]], synchronised: Callable[[], str | None] = synchronised):
        """`votes`: how many cameras tell the time that the recorder tells, and how many another one."""
        self._votes = votes
        self._synchronised = synchronised

    def __call__(self) -> str | None:
        agree, differ = self._votes()
        if differ > agree:  # a time service may be wrong: no footage is deleted on its word alone
            return None
        by = self._synchronised()
        if by is not None:
            return by
        return f"the clocks of {agree} cameras agree, of {differ} not" if agree > differ else None
