"""What a device remembers of itself: scopes and discovery mode (ONVIF Core 7.3, 8.3.14 to 8.3.19)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DiscoveryMode(StrEnum):
    """tt:DiscoveryMode."""

    DISCOVERABLE = "Discoverable"
    NON_DISCOVERABLE = "NonDiscoverable"


@dataclass(frozen=True, slots=True)
class DeviceState:
    """`scopes` are the configurable ones, in the order in which they were set."""

    discovery_mode: DiscoveryMode = DiscoveryMode.DISCOVERABLE
    scopes: tuple[str, ...] = ()
    instance: int = 0
    """InstanceId of the last start, an unsigned 32-bit number that rises from start to start (WS-Discovery, App. I)."""
    metadata_version: int = 1
    """Rises whenever what discovery announces is another than before."""
    announced: str = ""
    """Digest of what `metadata_version` stands for; empty before the first announcement."""
    replay_timeout_ns: int | None = None
    """Of RTSP sessions of replay, where a client has set it (IEC 62676-2-32 7.3)."""
