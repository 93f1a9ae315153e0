"""`nvr` on disks that hang: what is written to a volume waits as long as a FIFO `<root>.hangs` stands beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nvr.storage.disk import Disk


def marker(root: Path) -> Path:
    return root.with_name(f"{root.name}.hangs")


@contextmanager
def hanging(root: Path) -> Iterator[None]:
    """What is written there from now on does not come back before the end of the block. Ends well only where something
    was written."""
    fifo = marker(root)
    os.mkfifo(fifo)
    try:
        yield
    finally:
        end = os.open(fifo, os.O_RDWR)  # lets who reads go on, and does not wait for it
        fifo.unlink()
        os.close(end)


def main() -> None:
    write_once = Disk.write_once

    def write_or_hang(disk: Disk, fd: int, parts: Sequence[bytes | memoryview], offset: int) -> int:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        for fifo in map(marker, path.parents[:-1]):
            if fifo.exists():
                try:
                    with fifo.open("rb") as waiting:
                        waiting.read()
                except FileNotFoundError:  # it has just been let go
                    continue
        return write_once(disk, fd, parts, offset)

    Disk.write_once = write_or_hang  # type: ignore[method-assign]
    from nvr.cli import main as nvr

    raise SystemExit(nvr())


if __name__ == "__main__":
    main()
