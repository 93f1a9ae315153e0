"""The few calls that change a volume, in one place, so that a test can let each of them fail."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

_IOV_MAX = 1024
"""Parts that the kernel takes in one write (limits.h of Linux)."""


class Disk:
    """Blocking. Errors are OSError."""

    def make_directories(self, path: Path, above: Path) -> None:
        """`path` and what lacks between it and `above`, each new name forced to the disk."""
        if path == above or path.is_dir():
            return
        self.make_directories(path.parent, above)
        try:
            self.make_directory(path)
        except FileExistsError:
            return
        self.sync_directory(path.parent)

    def make_directory(self, path: Path) -> None:
        path.mkdir()

    def create(self, path: Path) -> int:
        """A new file, opened for writing and reading. FileExistsError when there is one."""
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o640)

    def reopen(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def write(self, fd: int, parts: Sequence[bytes], offset: int) -> None:
        """All parts at `offset`: one call to the kernel, more only when it takes less than it was given."""
        if len(parts) > _IOV_MAX:
            parts = [*parts[: _IOV_MAX - 1], b"".join(parts[_IOV_MAX - 1 :])]
        total = sum(map(len, parts))
        written = self.write_once(fd, parts, offset)
        if written == total:
            return
        rest = memoryview(b"".join(parts))
        while written < total:
            step = self.write_once(fd, [rest[written:]], offset + written)
            if step == 0:
                raise OSError(errno.ENOSPC, f"wrote 0 of {total - written} bytes at {offset + written}")
            written += step

    def write_once(self, fd: int, parts: Sequence[bytes | memoryview], offset: int) -> int:
        return os.pwritev(fd, parts, offset)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        os.fdatasync(fd)

    def sync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def remove_directory(self, path: Path) -> None:
        path.rmdir()

    def total_bytes(self, path: Path) -> int:
        """What the file system of `path` holds when it is empty."""
        found = os.statvfs(path)
        return found.f_blocks * found.f_frsize

    def free_bytes(self, path: Path) -> int:
        """What this process may still write on the file system of `path`. OSError where it is mounted read-only."""
        found = os.statvfs(path)
        if found.f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return found.f_bavail * found.f_frsize
