"""The data directory: made on first use, owned by one process at a time.

lock           held while a daemon or a command uses the directory
secret.key     opens what is sealed in the databases
config.db      recordings, jobs, receivers, users
index.db       the index of footage
volumes.json   which volume stood where
volumes/default/   the default volume
tls/           key and certificate of HTTPS and RTSPS, where the operator gives none
control.sock   how commands reach a running daemon
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from nvr.model.errors import OperatorError

_TRACES = ("config.db", "index.db", "secret.key", "volumes.json")
"""What a recorder has made at its first start; any of it may have been lost since."""


def is_recorder(path: Path) -> bool:
    """Whether a recorder has used this directory. Raises OperatorError where that cannot be seen."""
    try:
        return any((path / name).exists() for name in _TRACES)
    except OSError as e:
        raise OperatorError(_advice(path, e)) from e


def require_recorder(path: Path) -> None:
    """Raises OperatorError where no recorder has been: a command that makes one would hide a mistyped name."""
    if not is_recorder(path):
        raise OperatorError(f"{path} is no data directory of a recorder")


class InUse(OperatorError):
    """Another process holds the directory."""


class DataDirectory:
    """A context manager that holds the directory's exclusive lock. Raises OperatorError on entry."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.configuration = self.path / "config.db"
        self.index = self.path / "index.db"
        self.events = self.path / "events.db"
        self._descriptor = -1

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise OperatorError(_advice(self.path, e)) from e
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            os.close(self._descriptor)
            if e.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise InUse(f"another nvr uses the data directory {self.path}") from e
            raise OperatorError(f"cannot lock {self.path / 'lock'}: {e.strerror}") from e
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def _advice(path: Path, error: OSError) -> str:
    if error.errno == errno.EROFS:
        return f"the data directory {path} is on a file system that is mounted read-only"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"the data directory {path} cannot be written by this user ({error.strerror})"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"the data directory {path} is or lies below a file"
    return f"the data directory {path} cannot be used: {error.strerror}"
