"""Volumes: a directory with an identity file, a lock, a state, and limits of what may be written to it."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import threading
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nvr.model.errors import OperatorError, StorageError, VolumeFull
from nvr.model.time import NS, UtcNs, format_iso
from nvr.storage.disk import Disk
from nvr.storage.settings import VolumeSettings

log = logging.getLogger(__name__)

IDENTITY_FILE = "volume.json"
FORMAT = 1
_BELIEVED_NS = 10 * NS
_NOT_OPENED = "not opened yet"
_FREE_AGAIN = 64 << 20
"""A full volume takes footage again with this much room (less where reserve or quota are small): it must not flap."""


class VolumeState(StrEnum):
    ONLINE = "online"
    FULL = "full"
    READ_ONLY = "read-only"
    FAILED = "failed"
    MISSING = "missing"
    HANGING = "hanging"
    """A call to it has not come back for `hang_ns`; judged from outside, as its writer cannot tell."""


@dataclass(frozen=True, slots=True)
class VolumeStatus:
    """What an operator sees of a volume."""

    id: str | None
    """None while the identity file has never been read."""
    root: Path
    state: VolumeState
    why: str
    """Cause of a state that is not ONLINE; empty otherwise."""
    free: int | None
    minimum_free: int
    used: int | None = None
    """Bytes of its track files, where it has a quota."""
    quota: int = 0
    failures: int = 0
    """How often it has ceased to take footage since the start."""
    queued_bytes: int = 0
    """What waits to be written to it."""
    refused: int = 0
    """Fragments that its queue refused since the start."""

    @property
    def token(self) -> str:
        """What names it in events (tt:ReferenceToken): the id, or the end of its root while there is none."""
        return self.id or str(self.root)[-64:]


class WrongVolume(StorageError):
    """The directory is not the volume that stood there before: a mount is missing, or another disk is in its place."""


class VolumeHangs(StorageError):
    """A call to the volume has not come back; nobody knows whether it will."""


class Volume:
    """One volume. Its writer thread calls the methods; state, id, room and status may be read anywhere.

    `state` is what its writer has found; the writer of a volume that hangs finds nothing, so that is told apart.
    """

    def __init__(self, settings: VolumeSettings, registry: VolumeRegistry, disk: Disk, reserve: int = 0) -> None:
        """`reserve`: with less room than this the volume is tight; a quota shrinks it to its eighth, and so does a
        small file system when the volume is opened."""
        self.root = settings.root
        self.minimum_free = settings.minimum_free_bytes
        self.quota = settings.quota_bytes
        self.dedicated = settings.dedicated
        self.reserve = min(reserve, settings.quota_bytes // 8) if settings.quota_bytes else reserve
        self._again = min(n for n in (_FREE_AGAIN, reserve, settings.quota_bytes // 8) if n)
        self.used: int | None = None
        """Bytes of its track files; its writer keeps it where there is a quota."""
        self.failures = 0
        self._promised = 0
        self._promised_until = 0
        self.hangs = ""
        """What has not come back, and for how long; empty while it answers. Written by the event loop only."""
        self.queue_refuses: Callable[[], bool] = lambda: False
        """Whether the queue in front of it takes nothing at present; set by who has the queue."""
        self.state = VolumeState.MISSING
        self.why = _NOT_OPENED
        self.free: int | None = None
        self._registry = registry
        self.disk = disk
        self.id = registry.known(settings.root)
        self._lock_fd: int | None = None

    @property
    def status(self) -> VolumeStatus:
        state, why = (VolumeState.HANGING, self.hangs) if self.hangs else (self.state, self.why)
        return VolumeStatus(
            *(self.id, self.root, state, why, self.free, self.minimum_free),
            used=self.used,
            quota=self.quota,
            failures=self.failures,
        )

    @property
    def takes_footage(self) -> bool:
        """It is online, it answers, and its queue is not full."""
        return self.state is VolumeState.ONLINE and not self.hangs and not self.queue_refuses()

    @property
    def room(self) -> int:
        """Bytes that may still be written; below 0 when there are too many already. As it was seen last."""
        return self._room(0)

    def _room(self, more: int) -> int:
        if self.free is None:
            return 0
        room = self.free + more - self.minimum_free
        return min(room, self.quota - (self.used or 0)) if self.quota else room

    def unlinked(self, size: int, free_before: int, now: int) -> None:
        """Files of so many bytes have gone, with nothing written meanwhile. Some file systems free the space later:
        what does not show yet is promised for a while."""
        self.free = self.disk.free_bytes(self.root)
        missing = size - (self.free - free_before)
        if missing > size // 2:
            self._promised = missing + (self._promised if now < self._promised_until else 0)
            self._promised_until = now + _BELIEVED_NS

    def count(self, more: int) -> None:
        """Track files have got larger, or smaller, by so many bytes. Without a quota nobody counts."""
        if self.used is not None:
            self.used = max(self.used + more, 0)

    def room_soon(self, now: int) -> int:
        """As `room`, with what was unlinked and is not free yet: to delete on until it shows would empty the volume."""
        return self._room(self._promised if now < self._promised_until else 0)

    @property
    def tight(self) -> bool:
        """There is less room than the reserve."""
        return self.room < self.reserve

    def open(self, now_ns: UtcNs, reserve: int = 0) -> None:
        """Reads or makes the identity file and takes the lock. May be called again after a failure.

        Raises OperatorError when another process holds the lock, StorageError or OSError when the volume is not usable;
        the state then says why.
        """
        self.take(now_ns)
        try:
            self._fit_reserve()
            self._check_writable()
            self.check_space(reserve)
        except (OSError, StorageError) as e:
            self.fail(e)
            raise
        self.state, self.why = VolumeState.ONLINE, ""

    def _fit_reserve(self) -> None:
        """A reserve that a small file system never has would have every file deleted as soon as it is closed."""
        share = self.disk.total_bytes(self.root) // 8
        if self.reserve > share:
            log.warning(
                "volume %s holds %d bytes in all: an eighth of them, %d, is kept in reserve instead of %d",
                self.root,
                share * 8,
                share,
                self.reserve,
            )
            self.reserve, self._again = share, min(self._again, share)

    def take(self, now_ns: UtcNs) -> None:
        """Identity and lock only, whether it can be written or not: enough to read it. Raises as `open`."""
        try:
            self._take_identity(now_ns)
        except (OSError, StorageError) as e:
            self.fail(e)
            raise

    def close(self) -> None:
        """Gives the lock back."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def fail(self, cause: BaseException) -> None:
        """Sets the state that the cause stands for, and logs the change."""
        before = None if self.why == _NOT_OPENED else self.state
        self.state, self.why = _state_of(cause, self.root), str(cause)
        if before is VolumeState.ONLINE:
            self.failures += 1
        if self.state is not before:
            log.error("volume %s (%s): %s: %s", self.id or "?", self.root, self.state, cause)

    def check_space(self, wanted: int) -> None:
        """Raises VolumeFull when `wanted` more bytes would leave less than the minimum free, or be above the quota."""
        self.free = self.disk.free_bytes(self.root)
        if self.free - wanted < self.minimum_free:
            raise VolumeFull(
                f"volume {self.root} has {self.free} bytes free, {self.minimum_free} shall stay free: "
                "delete footage, shorten retention or add a volume"
            )
        if self.quota and (self.used or 0) + wanted > self.quota:
            raise VolumeFull(
                f"volume {self.root} holds {self.used or 0} bytes of footage, its quota is {self.quota}: "
                "delete footage, shorten retention, raise the quota or add a volume"
            )

    def look(self) -> None:
        """Sees whether the volume is still there, and what is free. Raises WrongVolume, or OSError."""
        if not self._is_there():
            raise WrongVolume(f"{self.root} is not volume {self.id} any more: has it been unmounted or replaced?")
        self.free = self.disk.free_bytes(self.root)

    def probe(self, now_ns: UtcNs) -> None:
        """Whether a volume that failed can be written again: as `open`, and the space must have come back."""
        self.open(now_ns, self._again if self.state is VolumeState.FULL else 0)

    def path(self, relative: str) -> Path:
        return self.root / relative

    def present(self) -> bool:
        """Whether the directory holds this volume now, looked at now."""
        try:
            return self.id is not None and _read_identity(self.root / IDENTITY_FILE) == self.id
        except (OSError, StorageError):
            return False

    def _take_identity(self, now_ns: UtcNs) -> None:
        identity = self.root / IDENTITY_FILE
        if self._is_there() and _read_identity(identity) == self.id:
            return
        self.close()  # the directory behind a held lock may be another one by now
        expected = self._registry.known(self.root)
        if not identity.exists():
            if expected is not None:
                raise WrongVolume(f"{self.root} held volume {expected} and has no {IDENTITY_FILE} now: is it mounted?")
            self._create_identity(identity, now_ns)
        fd = os.open(identity, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = _read_identity(identity)
            if expected is not None and found != expected:
                raise WrongVolume(
                    f"{self.root} held volume {expected} and holds volume {found} now: to accept it, "
                    f"stop the recorder and take the line of {self.root} out of {self._registry.path}"
                )
            self._registry.remember(self.root, found)
        except BlockingIOError as e:
            os.close(fd)
            raise OperatorError(f"volume {self.root} is in use by another process: stop that one first") from e
        except BaseException:
            os.close(fd)
            raise
        self.id, self._lock_fd = found, fd

    def _is_there(self) -> bool:
        """Whether the identity file is the one that was locked: another file system may be mounted there by now."""
        if self._lock_fd is None:
            return False
        try:
            found = (self.root / IDENTITY_FILE).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return os.path.samestat(found, os.fstat(self._lock_fd))

    def _create_identity(self, identity: Path, now_ns: UtcNs) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        if any(not p.name.startswith(".") and p.name != "lost+found" for p in self.root.iterdir()):
            raise WrongVolume(f"{self.root} is not empty and has no {IDENTITY_FILE}: a new volume needs an empty place")
        text = json.dumps({"id": uuid.uuid4().hex, "created": format_iso(now_ns, 0), "format": FORMAT}, indent=2)
        _write_whole(self.disk, identity, text)
        log.info("made a new volume in %s", self.root)

    def _check_writable(self) -> None:
        probe = self.root / f".probe-{uuid.uuid4().hex}"
        fd = self.disk.create(probe)
        try:
            self.disk.write(fd, [b"x" * 4096], 0)
            self.disk.sync(fd)
        finally:
            os.close(fd)
            self.disk.unlink(probe)


class VolumeRegistry:
    """Remembers which volume stood in which directory: one small JSON file in the data directory."""

    def __init__(self, path: Path, disk: Disk) -> None:
        """Raises OperatorError when the file is there and cannot be read."""
        self.path = path
        self.disk = disk
        self._lock = threading.Lock()
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            self._ids: dict[str, str] = {}
            return
        except OSError as e:
            raise OperatorError(f"{path} cannot be read: {e}") from e
        try:
            self._ids = {str(root): str(found) for root, found in json.loads(text)["volumes"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise OperatorError(f"{path} is damaged ({e}): remove it to accept the volumes as they are now") from e

    def known(self, root: Path) -> str | None:
        """Id of the volume that stood at `root`."""
        return self._ids.get(str(root.absolute()))

    def others(self, present: Collection[str | None]) -> dict[Path, str]:
        """Volumes that stood somewhere and are none of those present, by root."""
        return {Path(root): found for root, found in self._ids.items() if found not in present}

    def remember(self, root: Path, volume_id: str) -> None:
        """Called from the writer threads of several volumes."""
        name = str(root.absolute())
        with self._lock:
            if self._ids.get(name) == volume_id:
                return
            ids = {**self._ids, name: volume_id}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(self.disk, self.path, json.dumps({"format": 1, "volumes": ids}, indent=2))
            self._ids = ids


def _read_identity(path: Path) -> str:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        found, version = fields["id"], fields["format"]
    except (ValueError, KeyError, TypeError) as e:
        raise StorageError(f"{path} is damaged: {e}") from e
    if version != FORMAT or not isinstance(found, str):
        raise StorageError(f"{path} has format {version!r}, this version knows {FORMAT}")
    return found


def _write_whole(disk: Disk, path: Path, text: str) -> None:
    """The file is there with all of its text, or as it was before."""
    draft = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    fd = disk.create(draft)
    try:
        disk.write(fd, [text.encode() + b"\n"], 0)
        disk.sync(fd)
        disk.rename(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    disk.sync_directory(path.parent)


def _state_of(cause: BaseException, root: Path) -> VolumeState:
    if isinstance(cause, VolumeFull):
        return VolumeState.FULL
    if isinstance(cause, WrongVolume):
        return VolumeState.MISSING
    if isinstance(cause, OSError):
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return VolumeState.FULL
        if cause.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return VolumeState.READ_ONLY
        if cause.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ESTALE) and not root.exists():
            return VolumeState.MISSING
    return VolumeState.FAILED


def left_out(registry: VolumeRegistry, volumes: Sequence[Volume]) -> list[VolumeStatus]:
    """Volumes with footage of this recorder that the settings do not name any more; each is told."""
    found = []
    for root, volume_id in registry.others({v.id for v in volumes}).items():
        why = "it is not among the configured volumes: what is on it cannot be found or replayed"
        log.error("volume %s, last at %s: %s", volume_id, root, why)
        found.append(VolumeStatus(volume_id, root, VolumeState.MISSING, why, None, 0))
    return found
