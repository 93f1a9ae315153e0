"""What clients may set of replay: the time-out of its RTSP sessions (IEC 62676-2-32 7.2, 7.3)."""

from __future__ import annotations

from typing import Final

from nvr.control.device import DeviceMemory
from nvr.model.errors import CannotModify
from nvr.model.time import NS

SHORTEST_NS: Final = 10 * NS
LONGEST_NS: Final = 3600 * NS


class ReplayConfiguration:
    """The time-out that new RTSP sessions get: what a client has set, else the operator's setting."""

    def __init__(self, memory: DeviceMemory, default_ns: int) -> None:
        self.shortest_ns: Final = min(SHORTEST_NS, default_ns)
        self.longest_ns: Final = max(LONGEST_NS, default_ns)
        """Bounds of what may be set; the operator's setting lies between them."""
        self._memory = memory
        self._default_ns = default_ns

    @property
    def session_timeout_ns(self) -> int:
        kept = self._memory.replay_timeout_ns
        return self._default_ns if kept is None else kept

    async def set_session_timeout(self, timeout_ns: int) -> None:
        """On the disk when it returns, and in force for sessions that are set up from now on.

        Raises CannotModify, StorageError.
        """
        if not self.shortest_ns <= timeout_ns <= self.longest_ns:
            raise CannotModify(
                f"SessionTimeout lies between {self.shortest_ns / NS:g} s and {self.longest_ns / NS:g} s, "
                f"and {timeout_ns / NS:g} s does not"
            )
        await self._memory.set_replay_timeout(timeout_ns)
