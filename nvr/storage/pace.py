"""Long work in Python on a thread, beside an event loop that records."""

from __future__ import annotations

import time

WORK_NS = 1_000_000
PAUSE_S = 0.0001


class Pace:
    """Gives the interpreter away every millisecond of work. A thread that computes without a pause hands it over only
    when it is asked to, 5 ms later (`sys.getswitchinterval`), and the loop asks behind each of its system calls: while
    2,000 events a second were indexed beside 32 streams, some of its rounds took a quarter of a second.
    """

    def __init__(self) -> None:
        self.since_ns = time.monotonic_ns()
        """The last pause: it changes while the work goes on."""

    def keep(self) -> None:
        """To be called often: between two pieces of work of a millisecond at most."""
        if time.monotonic_ns() - self.since_ns >= WORK_NS:
            time.sleep(PAUSE_S)
            self.since_ns = time.monotonic_ns()
