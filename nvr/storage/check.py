"""One track file against its row and its own checksums. Reads every byte, changes nothing."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from nvr.media.bmff.closing import Closing, build_tail
from nvr.media.bmff.fragment import FragmentBox, FragmentEntry, check_body
from nvr.media.bmff.init import Head
from nvr.model.errors import FormatError
from nvr.storage.findings import Finding, Kind
from nvr.storage.holes import with_losses
from nvr.storage.rows import FileState, TrackFileRow
from nvr.storage.settling import reason_of
from nvr.storage.track_file import Figures, read_closing, read_head, scan

Read = Callable[[int], None]
"""Told of bytes that have been read."""


def check_file(path: Path, row: TrackFileRow, *, growing: bool, read: Read) -> list[Finding]:
    """What is wrong with the file of an OPEN or CLOSED row.

    `growing`: a daemon may write the file of an OPEN row: what stands behind its last whole fragment is no finding.
    """
    found = partial(Finding, volume_id=row.volume_id, path=row.path, file_id=row.file_id, key=row.key)
    spanned = partial(found, start_ns=row.start_ns, end_ns=max(row.end_ns, row.start_ns))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if row.state is FileState.OPEN:
            return [] if growing else [spanned(Kind.LEFT_OPEN, text="it was begun and never written")]
        return [spanned(Kind.MISSING, text="the index has it and it is not there")]
    except OSError as e:
        return [spanned(Kind.UNREADABLE, text=f"it cannot be opened: {e.strerror}")]
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        return list(_check(fd, row, found, spanned, growing, read))
    except OSError as e:
        return [spanned(Kind.UNREADABLE, text=f"the disk does not give it: {e.strerror}")]
    finally:
        # What was read for this is not what replay will want next.
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def _check(
    fd: int, row: TrackFileRow, found: partial[Finding], spanned: partial[Finding], growing: bool, read: Read
) -> Iterator[Finding]:
    size = os.fstat(fd).st_size
    try:
        head = read_head(fd)
    except FormatError as e:
        yield spanned(Kind.UNREADABLE, text=f"its head is destroyed: {e}")
        return
    if head is None:
        if row.state is FileState.CLOSED:
            yield spanned(Kind.UNREADABLE, text=f"it ends after {size} bytes, inside its head")
        elif not growing:
            yield spanned(Kind.LEFT_OPEN, text="no fragment of it was written")
        return
    yield from _check_identity(head, row, spanned)
    closing = read_closing(fd)
    if row.state is FileState.OPEN and closing is None:
        yield from _walk(fd, head.size, found, read)
        if not growing:
            yield spanned(Kind.LEFT_OPEN, text="no daemon writes it and it is not closed")
        return
    if row.state is FileState.OPEN and not growing:
        yield spanned(Kind.LEFT_OPEN, text="it is closed and its row says that it is not")
    if row.state is FileState.CLOSED and size != row.size:
        yield spanned(Kind.SIZE, text=f"it has {size} bytes and its row says {row.size}")
    if closing is None:
        yield spanned(Kind.TABLE, text="it is not closed: there is no readable table at its end")
        yield from _walk(fd, head.size, found, read)
        return
    if row.state is FileState.CLOSED:
        yield from _check_figures(closing, size, row, spanned)
    yield from _check_table(closing, head.size, size, spanned)
    for entry in closing.entries:
        read(entry.length)
        wrong = _check_fragment(fd, entry)
        if wrong:
            yield _at(found, entry, wrong)


def _check_identity(head: Head, row: TrackFileRow, spanned: partial[Finding]) -> Iterator[Finding]:
    said = head.identity
    run, gap_before, _ = with_losses(row, said.run, reason_of(said.gap_before), None)
    pairs = {
        "file": (said.file, row.file_id),
        "recording": (said.recording, row.recording),
        "track": (said.track, row.track),
        "run": (run, row.run_id),
        "place": (said.place, row.run_place),
        "start": (said.start_ns, row.start_ns),
        "gap before": (gap_before, row.gap_before),
        "encoding": (said.encoding, row.encoding),
    }
    wrong = [f"{name} {file!s} (row: {index!s})" for name, (file, index) in pairs.items() if file != index]
    if wrong:
        yield spanned(Kind.IDENTITY, text=f"it says of itself {', '.join(wrong)}")


def _check_figures(closing: Closing, size: int, row: TrackFileRow, spanned: partial[Finding]) -> Iterator[Finding]:
    figures = Figures.of(closing.entries, size)
    _, _, end_reason = with_losses(row, row.run_id, None, reason_of(closing.end_reason))
    pairs = {
        "end": (figures.end_ns, row.end_ns),
        "samples": (figures.samples, row.samples),
        "lost packets": (figures.lost_packets, row.lost_packets),
        "dropped units": (figures.dropped_units, row.dropped_units),
        "reason of the end": (end_reason, row.end_reason),
    }
    wrong = [f"{name} {file!s} (row: {index!s})" for name, (file, index) in pairs.items() if file != index]
    if wrong:
        yield spanned(Kind.ROW, text=f"it says {', '.join(wrong)}")


def _check_table(closing: Closing, start: int, size: int, spanned: partial[Finding]) -> Iterator[Finding]:
    """Fragments follow each other without a hole, from the head to the tail. (A hole is what a recovery has found to be
    damaged and left in its place: it is found in the walk over the file, not here.)"""
    at = start
    for entry in closing.entries:
        if entry.offset < at:
            text = f"its table has a fragment at {entry.offset} inside the one that ends at {at}"
            yield spanned(Kind.TABLE, text=text)
            return
        at = entry.offset + entry.length
    if at + len(build_tail(closing)) != size:
        yield spanned(Kind.TABLE, text=f"its table ends at {at} and does not fit its {size} bytes")


def _check_fragment(fd: int, entry: FragmentEntry) -> str:
    """What is wrong with the bytes of a fragment; empty when nothing is."""
    data = os.pread(fd, entry.length, entry.offset)
    try:
        box = FragmentBox.parse(data)
        if box is None or box.total != entry.length or len(data) != entry.length:
            return f"{len(data)} of its {entry.length} bytes are there, or its box is another one"
        check_body(box, memoryview(data)[box.size :])
    except FormatError as e:
        return str(e)
    if (box.start_ns, box.end_ns, len(box.remainders)) != (entry.start_ns, entry.end_ns, entry.samples):
        return "its box says other times than the table of the file"
    return ""


def _walk(fd: int, start: int, found: partial[Finding], read: Read) -> Iterator[Finding]:
    """Holes between whole fragments of a file without a table."""
    at = start
    before: FragmentEntry | None = None
    for entry in scan(fd, start):
        read(entry.length)
        if entry.offset > at:
            yield found(
                Kind.CHECKSUM,
                text="these bytes are no whole fragment",
                offset=at,
                length=entry.offset - at,
                start_ns=before.end_ns if before is not None else None,
                end_ns=entry.start_ns,
            )
        at, before = entry.offset + entry.length, entry


def _at(found: partial[Finding], entry: FragmentEntry, text: str) -> Finding:
    return found(
        Kind.CHECKSUM,
        text=text,
        offset=entry.offset,
        length=entry.length,
        start_ns=entry.start_ns,
        end_ns=entry.end_ns,
    )


def check_order(rows: Sequence[TrackFileRow], reordering_ns: int) -> Iterator[Finding]:
    """Two files of a track that follow each other by their start: what is wrong between them.

    Runs may overlap where a clock was set back; files of one run may not, but for pictures that are sent out of order,
    and none may be missing between them.
    """
    for before, row in itertools.pairwise(rows):
        if before.run_id != row.run_id:
            continue
        found = partial(Finding, Kind.OVERLAP, row.volume_id, row.path, file_id=row.file_id, key=row.key)
        if row.run_place == before.run_place:
            yield found(text=f"it has the same place in its run as {before.path}")
        elif row.run_place > before.run_place + 1:
            count = row.run_place - before.run_place - 1
            text = f"{count} files of its run before it are gone, and the run seems whole"
            yield replace(found(text=text, start_ns=before.end_ns, end_ns=row.start_ns), kind=Kind.HOLE)
        elif before.end_ns - reordering_ns > row.start_ns:
            yield found(text=f"{before.path} ends behind its start", start_ns=row.start_ns, end_ns=before.end_ns)
