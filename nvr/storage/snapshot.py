"""The snapshot of the configuration on each volume, from which a lost configuration database is restored.

One JSON file at the root of a volume, replaced as a whole after each change (written beside it, fsync, rename, fsync of
the directory):

    {"format": "nvr configuration", "version": 1, "sha256": hex digits of the canonical JSON of content,
     "content": {"installation": "...", "revision": "c0001", "serial": 7, "tables": {"recordings": [{...}, ...], ...}}}

The tables hold the rows as they stand in the database at that revision of its schema, so that migrations serve both.
Bytes stand as {"base64": "..."}; secrets are sealed before they come here.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nvr.model.errors import FormatError, OperatorError

log = logging.getLogger(__name__)

NAME = "configuration.json"
FORMAT = "nvr configuration"
VERSION = 1

STEP = 32
"""Rows between two pauses, 0.3 ms of work."""
PAUSE_S = 0.0002
PATIENCE_S = 10.0
"""How long a volume may take to answer when a lost configuration is looked for."""

T = TypeVar("T")
Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`installation` names the recorder, `serial` counts its changes, `revision` is that of the schema of `tables`."""

    installation: str
    serial: int
    revision: str
    tables: Mapping[str, Sequence[Row]]

    def __bytes__(self) -> bytes:
        tables = []
        for name in sorted(self.tables):
            rows = ",".join(_canonical(_encoded(row)) for row in unhurried(self.tables[name]))
            tables.append(f"{_canonical(name)}:[{rows}]")
        content = (
            f'{{"installation":{_canonical(self.installation)},"revision":{_canonical(self.revision)},'
            f'"serial":{self.serial},"tables":{{{",".join(tables)}}}}}'
        ).encode()
        head = f'{{"format":{_canonical(FORMAT)},"version":{VERSION},"sha256":"{_digest(content)}",\n"content":'
        return head.encode() + content + b"}\n"

    @classmethod
    def parse(cls, data: bytes) -> Snapshot:
        """Raises FormatError."""
        try:
            whole = json.loads(data)
        except (ValueError, RecursionError) as e:
            raise FormatError(f"a configuration snapshot is no JSON: {e}") from e
        if not isinstance(whole, dict) or whole.get("format") != FORMAT:
            raise FormatError("a configuration snapshot does not name its format")
        if whole.get("version") != VERSION:
            raise FormatError(f"a configuration snapshot has version {whole.get('version')!r}, not {VERSION}")
        content = whole.get("content")
        if not isinstance(content, dict) or whole.get("sha256") != _digest(_canonical(content).encode()):
            raise FormatError("the checksum of a configuration snapshot does not match")
        try:
            tables: dict[str, Sequence[Row]] = {
                name: [_decoded(row) for row in rows] for name, rows in content["tables"].items()
            }
            return cls(str(content["installation"]), int(content["serial"]), str(content["revision"]), tables)
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as e:
            raise FormatError(f"a configuration snapshot lacks what its format owes: {e!r}") from e


def unhurried(rows: Iterable[T]) -> Iterator[T]:
    """The rows, with a pause after every few. Who computes without one keeps the event loop from the interpreter for
    5 ms at each of its turns, several in a row (`sys.getswitchinterval`): beside a snapshot of 3000 recordings a tenth
    of its steps came 10 to 15 ms late, and 1.5 to 3 with the pauses.
    """
    for place, row in enumerate(rows, 1):
        yield row
        if place % STEP == 0:
            time.sleep(PAUSE_S)


def write(data: bytes, root: Path) -> None:
    """Replaces the snapshot at the root of a volume; when it returns the new one is on the disk. Raises OSError."""
    path = root / NAME
    beside = path.with_name(NAME + ".new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to report; a left-over is overwritten next time
            beside.unlink(missing_ok=True)
        raise
    _sync_directory(root)


def read(root: Path) -> Snapshot | None:
    """The snapshot at the root of a volume, or None when there is none. Raises FormatError, OSError."""
    try:
        return Snapshot.parse((root / NAME).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None


def set_aside(root: Path, found: Snapshot) -> Path:
    """Renames a snapshot that must not be overwritten. Raises OSError."""
    kept = root / f"configuration.{found.installation}.{found.serial}.json"
    (root / NAME).rename(kept)
    _sync_directory(root)
    return kept


def newest(roots: Iterable[Path], patience_s: float = PATIENCE_S) -> tuple[Snapshot, Path] | None:
    """The valid snapshot with the highest serial and the root that holds it.

    What cannot be read is logged and passed over. Raises OperatorError when the volumes hold snapshots of several
    recorders: which of them this is, only the operator knows; and when a volume does not answer: it may hold what is
    looked for.
    """
    found: list[tuple[Snapshot, Path]] = []
    for root, answer in [(root, _asked(root)) for root in roots]:
        if not wait([answer], patience_s).done:
            raise OperatorError(
                f"the configuration is lost and the volume {root}, which may hold its snapshot, has not answered for "
                f"{patience_s:g} s: start again when it does, or take it out of the settings"
            )
        try:
            snapshot = answer.result()
        except (FormatError, OSError) as e:
            log.error("the configuration snapshot %s cannot be used: %s", root / NAME, e)
            continue
        if snapshot is not None:
            found.append((snapshot, root))
    if len({snapshot.installation for snapshot, _ in found}) > 1:
        places = ", ".join(f"{root / NAME} (recorder {snapshot.installation})" for snapshot, root in found)
        raise OperatorError(
            f"the configuration is lost and the volumes hold snapshots of several recorders: {places}; "
            "leave the file of the right one in place, rename the others, and start again"
        )
    return max(found, key=lambda pair: pair[0].serial, default=None)


def _asked(root: Path) -> Future[Snapshot | None]:
    """What `read` gives, from a thread that nobody has to wait for."""
    answer: Future[Snapshot | None] = Future()

    def ask() -> None:
        try:
            answer.set_result(read(root))
        except Exception as e:
            answer.set_exception(e)

    threading.Thread(target=ask, name=f"snapshot {root.name}", daemon=True).start()
    return answer


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def _canonical(value: object) -> str:
    """JSON in ASCII, without white space, names in order: the text that the checksum covers."""
    return _ENCODER.encode(value)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _encoded(row: Row) -> dict[str, object]:
    return {
        name: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for name, value in row.items()
    }


def _decoded(row: Mapping[str, object]) -> dict[str, object]:
    return {
        name: base64.b64decode(value["base64"], validate=True) if isinstance(value, dict) else value
        for name, value in row.items()
    }


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
