"""Scopes and discovery mode: what clients tell the device to remember of itself (ONVIF Core 8.3.14 to 8.3.19),
and the time-out of replay.

Fixed scopes follow from the settings; configurable ones are kept. A change is on the disk before it counts, and who has
subscribed is told afterwards.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from nvr.control.state import unbroken
from nvr.model.device import DeviceState, DiscoveryMode
from nvr.model.errors import FormatError, LimitReached, Refused, UnknownToken
from nvr.storage.changes import Save

MAX_SCOPES = 32
"""Configurable ones. All scopes stand in one datagram of discovery."""
MAX_SCOPE_LENGTH = 256

# RFC 3986 2 and 3.1: a scheme, and characters that need no encoding. White space would split the list in a Hello.
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")


class FixedScope(Refused):
    """A scope that follows from the settings cannot be removed."""


class Store(Protocol):
    """Where the state is kept (`nvr.storage.configuration`). Blocking: called on a thread."""

    def apply(self, changes: Sequence[Save]) -> None:
        """All or none; on the disk when it returns. Raises StorageError."""


class DeviceMemory:
    """Reading is plain; changing methods are coroutines that return when the change is on the disk."""

    def __init__(self, state: DeviceState, store: Store, fixed_scopes: Sequence[str]) -> None:
        """A configurable scope that has become fixed by the settings since is dropped with the next change."""
        self.fixed_scopes = tuple(fixed_scopes)
        self._state = state
        self._store = store
        self._changing = asyncio.Lock()
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """`listener` is called on the loop after scopes or discovery mode have changed."""
        self._listeners.append(listener)

    @property
    def configurable_scopes(self) -> tuple[str, ...]:
        return self._without_fixed(self._state.scopes)

    @property
    def scopes(self) -> tuple[str, ...]:
        """All of them, the fixed ones first."""
        return (*self.fixed_scopes, *self.configurable_scopes)

    @property
    def discovery_mode(self) -> DiscoveryMode:
        return self._state.discovery_mode

    @property
    def instance(self) -> int:
        """InstanceId of this start."""
        return self._state.instance

    @property
    def metadata_version(self) -> int:
        return self._state.metadata_version

    async def set_scopes(self, scopes: Sequence[str]) -> None:
        """Replaces the configurable ones; fixed ones among `scopes` stay what they are.

        Raises FormatError, LimitReached, StorageError.
        """
        async with self._changing:
            await self._save(replace(self._state, scopes=self._checked(scopes)))

    async def add_scopes(self, scopes: Sequence[str]) -> None:
        """Those that are there already are not doubled. Raises FormatError, LimitReached, StorageError."""
        async with self._changing:
            await self._save(replace(self._state, scopes=self._checked((*self.configurable_scopes, *scopes))))

    async def remove_scopes(self, scopes: Sequence[str]) -> tuple[str, ...]:
        """Gives those that were removed: all or none. Raises FixedScope, UnknownToken, StorageError."""
        async with self._changing:
            leaving = dict.fromkeys(scopes)
            for scope in leaving:
                if scope in self.fixed_scopes:
                    raise FixedScope(f"the scope {scope} follows from the settings of the recorder")
                if scope not in self._state.scopes:
                    raise UnknownToken("Scope", scope)
            left = tuple(s for s in self.configurable_scopes if s not in leaving)
            await self._save(replace(self._state, scopes=left))
        return tuple(leaving)

    async def set_discovery_mode(self, mode: DiscoveryMode) -> None:
        """Raises StorageError."""
        async with self._changing:
            await self._save(replace(self._state, discovery_mode=mode))

    @property
    def replay_timeout_ns(self) -> int | None:
        """Time-out of RTSP sessions of replay; None where no client has set it."""
        return self._state.replay_timeout_ns

    async def set_replay_timeout(self, timeout_ns: int) -> None:
        """Raises StorageError."""
        async with self._changing:
            await self._save(replace(self._state, replay_timeout_ns=timeout_ns), tell=False)

    async def forget(self) -> None:
        """Scopes, discovery mode and the time-out of replay as on the first day; counters go on, since clients rely on
        it that they rise."""
        async with self._changing:
            initial = DeviceState()
            kept = replace(
                self._state,
                discovery_mode=initial.discovery_mode,
                scopes=initial.scopes,
                replay_timeout_ns=initial.replay_timeout_ns,
            )
            await self._save(kept)

    async def begin(self, now_s: int) -> int:
        """A new InstanceId for this start: above the last one, also when the configuration came from a snapshot."""
        async with self._changing:
            instance = max(self._state.instance + 1, now_s) & 0xFFFFFFFF
            await self._save(replace(self._state, instance=instance), tell=False)
        return instance

    async def announce(self, metadata: str) -> int:
        """The MetadataVersion for what discovery is about to say; one higher when that is not what it said last."""
        digest = hashlib.sha256(metadata.encode()).hexdigest()
        async with self._changing:
            if digest != self._state.announced:
                rising = bool(self._state.announced)
                version = self._state.metadata_version + rising
                await self._save(replace(self._state, announced=digest, metadata_version=version), tell=False)
            return self._state.metadata_version

    async def _save(self, state: DeviceState, *, tell: bool = True) -> None:
        if state == self._state:
            return

        def take() -> None:
            self._state = state
            for listener in self._listeners if tell else ():
                listener()

        await unbroken(asyncio.to_thread(self._store.apply, [Save(state)]), then=take)

    def _checked(self, scopes: Sequence[str]) -> tuple[str, ...]:
        checked = self._without_fixed(scopes)
        for scope in checked:
            if len(scope) > MAX_SCOPE_LENGTH:
                raise FormatError(f"a scope has at most {MAX_SCOPE_LENGTH} characters")
            if _URI.fullmatch(scope) is None:
                raise FormatError(f"the scope {scope!r} is not an absolute URI in the characters of RFC 3986")
        if len(checked) > MAX_SCOPES:
            raise LimitReached("Scope", MAX_SCOPES)
        return checked

    def _without_fixed(self, scopes: Sequence[str]) -> tuple[str, ...]:
        return tuple(s for s in dict.fromkeys(scopes) if s not in self.fixed_scopes)
