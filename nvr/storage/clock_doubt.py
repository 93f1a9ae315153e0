"""Whether the time of day is fit to delete footage by. Sans-I/O, but for the file that remembers the last good time.

A clock that is years ahead, because the battery of its chip was changed or a server lied, makes all footage too old.
So a time that is far ahead of what was believed before is doubted, and while it is nothing is deleted for its age.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nvr.model.time import NS, UtcNs, format_iso

log = logging.getLogger(__name__)

LEAP_NS: Final = 600 * NS
"""So far may the clock be set forward, while the recorder runs, without doubt."""
LEAP_DOUBT_NS: Final = 3600 * NS
"""So long a leap is doubted where nothing confirms it."""
ABSENCE_NS: Final = 24 * 3600 * NS
"""So long may the recorder have been off without doubt about the time at which it starts."""
_ASK_NS: Final = 10 * NS
"""Between two questions for evidence."""
KEEP_NS: Final = 600 * NS
"""Between two writes of the time that is believed."""


class ClockDoubt:
    """Belongs to the event loop. `utc` and `now` are the clocks of the world and of the process."""

    def __init__(self, utc: Callable[[], UtcNs], now: Callable[[], int], patience_ns: int) -> None:
        """`patience_ns`: the time of a start is doubted so long where nothing confirms it."""
        self.evidence: Callable[[], str | None] = lambda: None
        """What says that the time is right, in words; None where nothing does. Asked on the loop; must not block."""
        self.doubts = 0
        """How often the time was doubted since the start."""
        self._utc = utc
        self._now = now
        self._patience_ns = patience_ns
        self._good: tuple[UtcNs, int] | None = None
        """The time of day that was believed last, and the monotonic clock at that moment."""
        self._allowed_ns = LEAP_NS
        self._doubted: tuple[int, int] | None = None
        """How far the clock is ahead of what was believed, and the monotonic time at which it is believed all the
        same."""
        self._asked: int | None = None
        self._told = False

    def begin(self, good_ns: UtcNs | None) -> None:
        """The recorder starts; this is the latest time that is known to have been right. None: nothing is known."""
        if good_ns is not None:
            self._good = good_ns, self._now()
            self._allowed_ns = ABSENCE_NS

    @property
    def doubted(self) -> bool:
        return self._doubted is not None

    @property
    def doubt(self) -> str | None:
        """What is doubted, one sentence; None where the time is believed."""
        if self._doubted is None:
            return None
        ahead_ns, until = self._doubted
        return (
            f"the clock says {format_iso(self._utc())}, {ahead_ns // NS} s ahead of what it should be by what was "
            f"known before: nothing is deleted for its age for {max(until - self._now(), 0) // NS} s more, or until "
            "time synchronisation, cameras or `nvr clock confirm` say that it is right"
        )

    def believed_utc(self) -> UtcNs | None:
        """The time of day; None while it is doubted. To be asked about every second."""
        utc_ns, now = self._utc(), self._now()
        if self._good is None:
            self._believe(utc_ns, now)
            return utc_ns
        good_ns, at = self._good
        ahead_ns = utc_ns - (good_ns + now - at)
        if ahead_ns <= self._allowed_ns:
            if self._told:
                log.warning("the clock is back: footage that is too old is deleted again")
            self._believe(utc_ns, now)
            return utc_ns
        if self._doubted is None or ahead_ns - self._doubted[0] > LEAP_NS:
            starting = self._allowed_ns == ABSENCE_NS
            self._doubted = ahead_ns, now + (self._patience_ns if starting else LEAP_DOUBT_NS)
            # What cameras said before a leap is void: their next reports are waited for.
            self._asked = None if starting else now
            self._told = False
        if self._asked is None or now - self._asked >= _ASK_NS:
            self._asked = now
            by = self.evidence()
            if by is not None:
                self.confirm(by)
                return utc_ns
        if now >= self._doubted[1]:
            self.confirm("it has been doubted for long enough")
            return utc_ns
        if not self._told:
            self._told = True
            self.doubts += 1
            log.error("the time is doubted: %s", self.doubt)
        return None

    def confirm(self, by: str) -> bool:
        """The time is right, as this says. False where nobody doubted it."""
        if self._doubted is None:
            return False
        if self._told:
            log.warning("the clock is believed now (%s): footage that is too old is deleted again", by)
        else:
            log.info("the clock is %d s ahead of what was known before, and right (%s)", self._doubted[0] // NS, by)
        self._believe(self._utc(), self._now())
        return True

    def _believe(self, utc_ns: UtcNs, now: int) -> None:
        self._good, self._doubted, self._told = (utc_ns, now), None, False
        self._allowed_ns = LEAP_NS


class TimeMemory:
    """The file that remembers, over restarts, the last time of day that was believed. Blocking."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failing = False

    def read(self) -> UtcNs | None:
        """None where there is none, or none that can be read."""
        try:
            found = json.loads(self._path.read_text(encoding="ascii"))["believed_ns"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError) as e:
            log.warning("%s cannot be read (%s): the newest footage says what time it was last", self._path, e)
            return None
        return found if type(found) is int else None

    def write(self, utc_ns: UtcNs) -> None:
        """Whole or not at all. What prevents it is logged once: the newest footage has to do then."""
        partial = self._path.with_suffix(".new")
        try:
            with partial.open("w", encoding="ascii") as file:
                file.write(json.dumps({"believed_ns": utc_ns}))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
            self._failing = False
        except OSError as e:
            if not self._failing:
                log.warning("%s cannot be written: %s", self._path, e)
            self._failing = True
            with contextlib.suppress(OSError):
                partial.unlink()
