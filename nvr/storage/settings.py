"""What an operator may set about storage. Sizes are bytes, times nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nvr.model.time import NS


class FsyncPolicy(StrEnum):
    """When written footage is forced to the disk; docs/design/storage.md says what a power cut can cost under each."""

    NONE = "none"
    """When a file is closed."""
    INTERVAL = "interval"
    """Also every `fsync_interval_ns`."""
    FRAGMENT = "fragment"
    """Also after every fragment."""


@dataclass(frozen=True, slots=True)
class VolumeSettings:
    """One directory that holds footage."""

    root: Path
    minimum_free_bytes: int = 1 << 30
    """What stays free: below it the volume counts as full."""


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """`registry` is the file that remembers which volume stood where; without it a lost mount would look like a new,
    empty volume, and the system disk would fill up."""

    volumes: tuple[VolumeSettings, ...]
    registry: Path
    rotation_ns: int = 300 * NS
    queue_bytes: int = 64 << 20
    """Bound of the queue in front of each volume's writer."""
    fsync: FsyncPolicy = FsyncPolicy.INTERVAL
    fsync_interval_ns: int = 10 * NS
    retry_ns: int = 2 * NS
    """First pause before a volume that failed is tried again; doubled up to `retry_limit_ns`."""
    retry_limit_ns: int = 60 * NS

    def __post_init__(self) -> None:
        for name in ("rotation_ns", "queue_bytes", "fsync_interval_ns", "retry_ns", "retry_limit_ns"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not self.volumes:
            raise ValueError("no volume is configured")
        if len({v.root.absolute() for v in self.volumes}) != len(self.volumes):
            raise ValueError("a volume is configured twice")
        if any(v.minimum_free_bytes < 0 for v in self.volumes):
            raise ValueError("minimum_free_bytes is below 0")

    @classmethod
    def in_directory(cls, data: Path) -> StorageSettings:
        """The defaults: one volume inside the data directory."""
        return cls((VolumeSettings(data / "volumes" / "default"),), data / "volumes.json")
