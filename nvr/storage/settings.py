"""What an operator may set about storage. Sizes are bytes, times nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations
from pathlib import Path

from nvr.model.time import NS

_POSITIVE = (
    *("rotation_ns", "queue_bytes", "memory_bytes", "fsync_interval_ns", "retention_interval_ns"),
    *("clock_patience_ns", "retry_ns", "retry_limit_ns", "hang_ns"),
)


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
    quota_bytes: int = 0
    """What track files may take of it; 0 for no limit but the disk."""
    dedicated: bool = False
    """Takes only recordings that name it, others when there is nothing else."""


@dataclass(frozen=True, slots=True)
class RecordingSettings:
    """What holds for one recording beside its configuration by clients."""

    recording: str
    """Its token."""
    quota_bytes: int | None = None
    """What its closed and growing track files may take; 0 for no limit, None for `recording_quota_bytes`."""
    volumes: tuple[Path, ...] = ()
    """Roots of the volumes that it is recorded to; others only while none of them takes footage. Empty: any."""

    def __post_init__(self) -> None:
        if self.quota_bytes is not None and self.quota_bytes < 0:
            raise ValueError("quota is below 0")
        if len(set(self.volumes)) != len(self.volumes):
            raise ValueError(f"{self.recording} names a volume twice")


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
    memory_bytes: int = 256 << 20
    """Bound of all these queues together, and of what ingest holds: footage that waits for an event above all."""
    reserve_bytes: int = 256 << 20
    """With less than this above its minimum a volume is tight: the oldest footage makes room, or new files go
    elsewhere."""
    overwrite: bool = True
    """Whether the oldest footage is deleted to make room. False: a full volume takes no footage."""
    retention_interval_ns: int = NS
    """How often it is looked what is too old, or too much."""
    recording_quota_bytes: int = 0
    """What each recording may take unless `recordings` says otherwise; 0 for no limit."""
    recordings: tuple[RecordingSettings, ...] = ()
    clock_patience_ns: int = 7 * 86_400 * NS
    """So long a time of day that is far ahead at a start is doubted, and nothing deleted for its age, where nothing
    confirms it."""
    retry_ns: int = 2 * NS
    """First pause before a volume that failed is tried again; doubled up to `retry_limit_ns`."""
    retry_limit_ns: int = 60 * NS
    hang_ns: int = 10 * NS
    """A volume that a call has not come back from for so long counts as hanging: others take its footage."""

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.reserve_bytes < 0 or self.recording_quota_bytes < 0:
            raise ValueError("reserve and recording_quota must not be below 0")
        if not self.volumes:
            raise ValueError("no volume is configured")
        if len({v.root.absolute() for v in self.volumes}) != len(self.volumes):
            raise ValueError("a volume is configured twice")
        for inner, outer in permutations((v.root.absolute() for v in self.volumes), 2):
            if outer in inner.parents:
                raise ValueError(f"volume {inner} lies inside volume {outer}")
        if any(v.minimum_free_bytes < 0 or v.quota_bytes < 0 for v in self.volumes):
            raise ValueError("minimum_free and quota of a volume must not be below 0")
        if len({r.recording for r in self.recordings}) != len(self.recordings):
            raise ValueError("a recording has two tables in recordings")
        roots = {v.root.absolute() for v in self.volumes}
        for settings in self.recordings:
            for root in settings.volumes:
                if root.absolute() not in roots:
                    raise ValueError(f"{settings.recording} shall go to {root}, which is no configured volume")

    @classmethod
    def in_directory(cls, data: Path) -> StorageSettings:
        """The defaults: one volume inside the data directory."""
        return cls((VolumeSettings(data / "volumes" / "default"),), data / "volumes.json")
