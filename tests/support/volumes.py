"""A volume that fails on purpose, and the invariants of storage (docs/design/storage.md) as a check."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

from nvr.media.unit import Fragment, Sample
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.model.tokens import TrackKey
from nvr.storage.disk import Disk
from nvr.storage.engine import StorageEngine
from nvr.storage.footage import Footage
from nvr.storage.rows import FileState, FootageIndex, FragmentRef, TrackFileRow
from nvr.storage.settings import FsyncPolicy, StorageSettings, VolumeSettings
from nvr.storage.track_file import FOOTAGE, Figures, read_closing, read_head
from nvr.storage.volume import IDENTITY_FILE

NEVER = 3600 * NS


@dataclass(frozen=True)
class Failure:
    kind: str
    calls: range
    code: int
    short: bool


class Hang:
    """One call that hangs: `begun` is set when it has been met, `release` lets it go on, or fail."""

    def __init__(self, kind: str, nth: int, under: Path | None) -> None:
        self.begun = threading.Event()
        self._released = threading.Event()
        self._kind = kind
        self._left = nth
        self._code = 0
        self.under = under

    def meet(self, kind: str, where: Path | int) -> None:
        if kind != self._kind or self.begun.is_set() or self._released.is_set():
            return
        if self.under is not None:
            path = where if isinstance(where, Path) else Path(f"/proc/self/fd/{where}").readlink()
            if not path.is_relative_to(self.under):
                return
        self._left -= 1
        if self._left == 0:
            self.begun.set()
            self._released.wait()
            if self._code:
                raise OSError(self._code, os.strerror(self._code))

    def release(self, code: int = 0) -> None:
        self._code = code
        self._released.set()


class FailingDisk(Disk):
    """Counts the calls of each kind, and lets those fail that it is told to. Forces nothing to the disk: no test cuts
    the power, and hundreds of small volumes would wait for it.

    `free` overrides what is free on the file system.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.free: int | None = None
        self._failures: list[Failure] = []
        self._hang: Hang | None = None
        self._gate = threading.Lock()

    def fail(
        self, kind: str, nth: int = 1, *, code: int = errno.EIO, times: int = 1, short: bool = False, also: bool = False
    ) -> None:
        """The `nth` call of this kind from now on (from 1) fails, and `times` - 1 behind it; a `short` write takes half
        of its bytes first. What was set before is forgotten unless `also`."""
        first = self.counts.get(kind, 0) + nth
        kept = self._failures if also else []
        self._failures = [*kept, Failure(kind, range(first, first + times), code, short)]

    def mend(self) -> None:
        self._failures = []

    def hang(self, kind: str, nth: int = 1, under: Path | None = None) -> Hang:
        """The `nth` call of this kind from now on, of those below `under`, does not come back until it is released."""
        self._hang = Hang(kind, nth, under)
        return self._hang

    def held(self) -> threading.Lock:
        """While it is held (`with disk.held():`), writes wait."""
        return self._gate

    def _meet(self, kind: str, where: Path | int) -> None:
        if self._hang is not None:
            self._hang.meet(kind, where)

    def _count(self, kind: str) -> Failure | None:
        number = self.counts[kind] = self.counts.get(kind, 0) + 1
        return next((f for f in self._failures if f.kind == kind and number in f.calls), None)

    def _check(self, kind: str, where: Path | int) -> None:
        self._meet(kind, where)
        failure = self._count(kind)
        if failure is not None:
            raise OSError(failure.code, os.strerror(failure.code))

    def create(self, path: Path) -> int:
        self._check("open", path)
        return super().create(path)

    def reopen(self, path: Path) -> int:
        self._check("reopen", path)
        return super().reopen(path)

    def make_directory(self, path: Path) -> None:
        self._check("mkdir", path)
        super().make_directory(path)

    def write_once(self, fd: int, parts: Sequence[bytes | memoryview], offset: int) -> int:
        self._meet("write", fd)
        with self._gate:
            failure = self._count("write")
        if failure is None:
            return super().write_once(fd, parts, offset)
        if failure.short:
            data = b"".join(parts)
            super().write_once(fd, [data[: len(data) // 2]], offset)
        raise OSError(failure.code, os.strerror(failure.code))

    def truncate(self, fd: int, size: int) -> None:
        self._check("truncate", fd)
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        self._check("fsync", fd)

    def sync_directory(self, path: Path) -> None:
        self._check("fsync directory", path)

    def unlink(self, path: Path) -> None:
        self._check("unlink", path)
        super().unlink(path)

    def free_bytes(self, path: Path) -> int:
        self._check("look", path)
        return self.free if self.free is not None else super().free_bytes(path)


def settings_in(
    data: Path,
    *,
    rotation_ns: int = 5_000_000_000,
    queue_bytes: int = 64 << 20,
    fsync: FsyncPolicy = FsyncPolicy.INTERVAL,
    volumes: Sequence[str] = ("default",),
    minimum_free: int = 0,
    quota: int = 0,
    retry_ns: int = 1_000_000,
    **others: Any,
) -> StorageSettings:
    """Short rotation and quick retries; retention sweeps when a test says so."""
    others = {"reserve_bytes": 0, "retention_interval_ns": NEVER, **others}
    return StorageSettings(
        tuple(VolumeSettings(data / name, minimum_free, quota) for name in volumes),
        data / "volumes.json",
        rotation_ns=rotation_ns,
        queue_bytes=queue_bytes,
        fsync=fsync,
        retry_ns=retry_ns,
        retry_limit_ns=retry_ns,
        **others,
    )


def same(samples: Iterable[Sample]) -> list[tuple[int, bytes, bool]]:
    """What must come back of samples, whatever happens."""
    return [(s.utc_ns, s.data, s.clean_point) for s in samples]


def read_all(footage: Footage) -> list[tuple[FragmentRef, list[Sample]]]:
    return [(ref, footage.read(ref)) for ref in footage.fragments(0)]


def check_invariants(
    engine: StorageEngine,
    index: FootageIndex,
    keys: Iterable[TrackKey],
    handed: dict[TrackKey, list[Fragment]],
    told: dict[TrackKey, list[FragmentRef]],
    *,
    hung: bool = False,
) -> None:
    """The numbered invariants that can be seen while an engine runs. `told` is what `on_append` told; `hung`: a run may
    have begun elsewhere before it was known whether anything of the run before it would come to the disk."""
    for key in keys:
        found = read_all(engine.footage(key))  # 1: what is shown can be read
        by_start = {f.start_ns: f for f in handed[key]}
        for ref, samples in found:
            fragment = by_start[ref.start_ns]  # 2: nothing is shown that was not handed over
            assert same(samples) == same(fragment.samples)
            assert (ref.end_ns, ref.samples) == (fragment.end_ns, len(fragment.samples))
        places = [(ref.file_id, ref.offset) for ref, _ in found]
        assert len(set(places)) == len(places)  # 3: each once, in order
        starts = [ref.start_ns for ref, _ in found]
        assert starts == sorted(starts)
        assert {(r.file_id, r.offset) for r in told[key]} <= set(places)  # 4: what was told is there
        runs = {run.run_id: run for run in engine.timeline(key).runs}  # 5: timeline and footage agree
        assert set(runs) == {ref.run_id for ref, _ in found}
        for run_id, run in runs.items():
            refs = [ref for ref, _ in found if ref.run_id == run_id]
            assert (run.start_ns, run.end_ns) == (min(r.start_ns for r in refs), max(r.end_ns for r in refs))
            cut = min(row.run_place for row in _rows(index, key) if row.run_id == run_id) > 0  # by retention
            assert [r.first_of_run for r in refs] == [not cut] + [False] * (len(refs) - 1)
        # 6: what is missing lies in a gap, and the gap has a reason
        missing = [f for f in handed[key] if f.start_ns not in set(starts)]
        for fragment in missing:
            assert engine.timeline(key).run_at(fragment.start_ns) is None
        ends = {run_id: run.end_reason for run_id, run in runs.items()}
        ordered = [run.run_id for run in engine.timeline(key).runs]
        assert None not in [ends[run_id] for run_id in ordered[:-1]]
        begins = {row.run_id: row.gap_before for row in _rows(index, key) if row.run_place == 0}
        for before, after in pairwise(ordered):
            if after in begins:  # the beginning of the run has not been deleted
                unknown = hung and GapReason.STORAGE in (begins[after], ends[before])
                assert begins[after] == ends[before] or unknown
        assert GapReason.UNKNOWN not in ends.values()
        for row in _rows(index, key):
            check_file(engine, row)


def check_settled(root: Path, index: FootageIndex, keys: Iterable[TrackKey]) -> None:
    """What holds beyond that when nothing is being recorded: 7, every file has a CLOSED row or a tombstone, and every
    CLOSED row its file."""
    rows = [row for key in keys for row in _rows(index, key)]
    assert {row.state for row in rows} <= {FileState.CLOSED}
    files = {p.relative_to(root).as_posix() for p in (root / FOOTAGE).rglob("*") if p.is_file()}
    volume_id = json.loads((root / IDENTITY_FILE).read_text())["id"]
    hidden = {row.path for row in index.deleting_files(volume_id)}
    assert files - hidden == {row.path for row in rows if row.volume_id == volume_id}


def check_file(engine: StorageEngine, row: TrackFileRow) -> None:
    """8: a closed file says of itself what its row says, and a stock player reads its samples."""
    if row.state is not FileState.CLOSED:
        return
    root = next(v.root for v in engine.volumes() if v.id == row.volume_id)
    path = root / row.path
    fd = os.open(path, os.O_RDONLY)
    try:
        head, closing = read_head(fd), read_closing(fd)
    finally:
        os.close(fd)
    assert head is not None
    assert closing is not None
    who = head.identity
    assert (who.file, who.recording, who.track, who.run) == (row.file_id, row.recording, row.track, row.run_id)
    assert (who.volume, who.place, who.start_ns) == (row.volume_id, row.run_place, row.start_ns)
    assert (who.gap_before, closing.end_reason) == (row.gap_before, row.end_reason)
    figures = Figures(row.end_ns, row.size, row.samples, row.lost_packets, row.dropped_units)
    assert figures == Figures.of(closing.entries, path.stat().st_size)
    assert demuxed(path) == row.samples


def demuxed(path: Path) -> int:
    """Number of packets that FFmpeg finds; their decode times rise strictly (9)."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux() if p.size]
    times = [p.dts for p in packets]
    assert all(a < b for a, b in pairwise(times)), times
    return len(packets)


def _rows(index: FootageIndex, key: TrackKey) -> list[TrackFileRow]:
    return index.files(key, 0, limit=10_000)


async def until(condition: Callable[[], bool]) -> None:
    """Gives the loop away until a thread has brought the condition about; the test's time limit ends it."""
    while not condition():  # noqa: ASYNC110 - a thread, not a task, changes what is asked for
        await asyncio.sleep(0.001)
