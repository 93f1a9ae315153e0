"""Factory default and restart (ONVIF Core 8.3.12, 8.3.13).

A soft default puts back what clients have told the device of itself: scopes and discovery mode. Recordings, jobs,
receivers, footage and users stay, as a recorder that stops recording because of it would lose evidence.

A hard default puts everything back: every recording with its footage, every job and receiver, every account but the one
that asks. That one stays because a recorder without accounts refuses to listen beyond loopback: it would be lost to
those who use it. Each step is on the disk when it returns, and may be repeated; footage whose deletion was cut short is
taken up at the next start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

from nvr.auth.users import UserStore
from nvr.control.device import DeviceMemory
from nvr.control.receivers import Receivers
from nvr.control.recordings import RecordingControl
from nvr.model.errors import Refused, UnknownToken

log = logging.getLogger(__name__)


class DeviceSystem:
    """What can be done to the device as a whole."""

    def __init__(
        self,
        memory: DeviceMemory,
        control: RecordingControl,
        receivers: Receivers,
        users: UserStore,
        restart: Callable[[], None],
        *,
        hard_default_allowed: bool,
    ) -> None:
        """`restart` asks the daemon to stop in order and to start again; it returns at once."""
        self._memory = memory
        self._control = control
        self._receivers = receivers
        self._users = users
        self.restart = restart
        self._hard_default_allowed = hard_default_allowed

    async def soft_default(self) -> None:
        """Raises StorageError."""
        await self._memory.forget()

    async def hard_default(self, keep_user: str) -> None:
        """Raises Refused unless the settings allow it, StorageError; then what has been put back stays so."""
        if not self._hard_default_allowed:
            raise Refused("a hard default would delete all footage; the settings of the recorder do not allow it")
        log.warning("hard default, asked for by user %r: all recordings and their footage are deleted", keep_user)
        while recordings := self._control.recordings():  # another client may go on creating
            for recording in recordings:
                with suppress(UnknownToken):  # another client was faster
                    await self._control.delete_recording(recording.token)
        for receiver in self._receivers.receivers():
            with suppress(UnknownToken):
                await self._receivers.delete(receiver.token)
        await self._memory.forget()
        await self._users.remove_all([u.name for u in self._users.users() if u.name != keep_user])
        self.restart()
