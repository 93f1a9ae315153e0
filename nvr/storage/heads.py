"""The head of a track file made again, where its first bytes are destroyed and its fragments are whole.

Who the file is stands in its row. The codec configuration comes from the first of these that fits: a file of the same
run (a run has one configuration), the sample entry of the destroyed head itself, the samples, another file of the
track. It fits when it has the encoding of the row, and when the times of a whole fragment come out to the nanosecond
with its clock rate and the start of the row: the fragment box tells them as well.

The new head takes exactly the place of the old one, so that no fragment moves; the old bytes are kept beside the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from nvr.media import codecs
from nvr.media.bmff.boxes import read_box
from nvr.media.bmff.fragment import FragmentEntry
from nvr.media.bmff.init import MAX_HEAD, Head, build_head
from nvr.media.unit import CodecConfiguration, Sample
from nvr.model.errors import FormatError, NvrError
from nvr.model.recording import TrackType
from nvr.model.time import NS
from nvr.storage.disk import Disk
from nvr.storage.rows import FileState, FootageIndex, TrackFileRow
from nvr.storage.track_file import identity_of, open_for_reading, read_closing, read_fragment, read_head, scan
from nvr.storage.volume import Volume

_LOOKED_AT = 8
"""Fragments that are tried for one that is whole, and files of another run for one that can be read."""
_AROUND_NS = 86_400 * NS
"""So far from the file its siblings are looked for."""
_PAYLOAD = 1400
_SOUND_RATES = {"OPUS": 48_000}
_SOUND_RATE = 8000
"""Of G.711 and G.726 (RFC 3551 table 4); a wrong guess does not fit the times."""


@dataclass(frozen=True, slots=True)
class NewHead:
    """What takes the place of the first `len(data)` bytes of a file."""

    data: bytes
    source: str
    """Where the codec configuration comes from, in words."""


def make_head(volume: Volume, index: FootageIndex, row: TrackFileRow) -> NewHead:
    """Reads only; on any thread. Raises OSError, StorageError; FormatError that says why no head can be made."""
    fd = open_for_reading(volume.path(row.path))
    try:
        closing = read_closing(fd)
        entries = closing.entries if closing is not None else tuple(islice(scan(fd, 0), _LOOKED_AT))
        if not entries or not 0 < entries[0].offset <= MAX_HEAD:
            raise FormatError("no whole fragment follows it")
        room = entries[0].offset
        refused = "no file of its track and none of its samples tell its codec configuration"
        for configuration, source in _candidates(fd, room, entries, volume, index, row):
            try:
                _check_times(fd, entries, row, configuration.clock_rate)
                return NewHead(_fitted(configuration, row, room), source)
            except FormatError as e:
                refused = f"with the codec configuration from {source}: {e}"
        raise FormatError(refused)
    finally:
        os.close(fd)


def put_head(disk: Disk, path: Path, head: NewHead, kept: Path) -> None:
    """Keeps the bytes that stand there in `kept`, then writes. Cut short, it may be repeated. Raises OSError."""
    fd = disk.reopen(path)
    try:
        if not kept.exists():  # an attempt that was cut short has kept the bytes that were there first
            draft = kept.with_name(f"{kept.name}.new")
            draft.unlink(missing_ok=True)
            copy = disk.create(draft)
            try:
                disk.write(copy, [os.pread(fd, len(head.data), 0)], 0)
                disk.sync(copy)
            finally:
                disk.close(copy)
            disk.rename(draft, kept)
            disk.sync_directory(kept.parent)
        disk.write(fd, [head.data], 0)
        disk.sync(fd)
    finally:
        disk.close(fd)


def _candidates(
    fd: int, room: int, entries: Sequence[FragmentEntry], volume: Volume, index: FootageIndex, row: TrackFileRow
) -> Iterator[tuple[CodecConfiguration, str]]:
    """Configurations of the encoding, the surest first."""
    siblings = _siblings(index, row)
    same_run = [s for s in siblings if s.run_id == row.run_id]
    others = [s for s in siblings if s.run_id != row.run_id]
    attempts: list[tuple[Callable[[], CodecConfiguration | None], str]] = [
        *((lambda s=s: _of_file(volume, s), f"{s.path} of the same run") for s in same_run[:_LOOKED_AT]),
        (lambda: _of_destroyed_head(fd, room), "what is left of its head"),
        (lambda: _of_samples(fd, entries, row), "its samples"),
        *((lambda s=s: _of_file(volume, s), f"{s.path} of another run") for s in others[:_LOOKED_AT]),
    ]
    for attempt, source in attempts:
        try:
            configuration = attempt()
        except (NvrError, OSError):
            continue  # it does not tell; what nothing tells becomes the error of the whole
        if configuration is not None and configuration.encoding == row.encoding:
            yield configuration, source


def _siblings(index: FootageIndex, row: TrackFileRow) -> list[TrackFileRow]:
    """Closed files of the track on the same volume, the nearest first."""
    found = [
        s
        for s in index.files(row.key, row.start_ns - _AROUND_NS, row.end_ns + _AROUND_NS, limit=1000)
        if s.state is FileState.CLOSED and s.file_id != row.file_id and s.volume_id == row.volume_id
    ]
    return sorted(found, key=lambda s: abs(s.start_ns - row.start_ns))


def _of_file(volume: Volume, row: TrackFileRow) -> CodecConfiguration | None:
    fd = open_for_reading(volume.path(row.path))
    try:
        head: Head | None = read_head(fd)
        return codecs.from_sample_entry(head.sample_entry) if head is not None else None
    finally:
        os.close(fd)


def _of_destroyed_head(fd: int, room: int) -> CodecConfiguration | None:
    """Of the sample entry behind the first `stsd` (ISO/IEC 14496-12 8.5.2), which no checksum guards: it must be the
    very bytes that its configuration would be written as."""
    data = os.pread(fd, room, 0)
    at = data.find(b"stsd")
    found = read_box(data, at + 12, len(data)) if at >= 0 else None
    if found is None:
        return None
    entry = data[found.offset : found.end]
    configuration = codecs.from_sample_entry(entry)
    return configuration if configuration.sample_entry() == entry else None


def _of_samples(fd: int, entries: Sequence[FragmentEntry], row: TrackFileRow) -> CodecConfiguration | None:
    """What a depacketizer learns of samples that are sent to it as a camera would have sent them."""
    kind = codecs.track_type_of(row.encoding)
    rate = _SOUND_RATES.get(row.encoding, _SOUND_RATE) if kind is TrackType.AUDIO else 90_000
    depacketizer = codecs.depacketizer_for(row.encoding, rate)
    if depacketizer.configuration is not None:
        return depacketizer.configuration
    sample = next((s for e in entries[:_LOOKED_AT] for s in _read(fd, e, row, rate)[:1] if s.clean_point), None)
    if sample is None:
        return None
    packetizer = codecs.packetizer_of(row.encoding, _PAYLOAD)
    payloads = [prefix + bytes(piece) for prefix, piece in packetizer.packetize(memoryview(sample.data))]
    for i, payload in enumerate(payloads):
        depacketizer.push(memoryview(payload), 0, len(payload), 0, i == len(payloads) - 1)
    return depacketizer.configuration


def _check_times(fd: int, entries: Sequence[FragmentEntry], row: TrackFileRow, rate: int) -> None:
    for entry in entries[:_LOOKED_AT]:
        samples = _read(fd, entry, row, rate)
        if samples:
            told = min(s.utc_ns for s in samples)
            if told != entry.start_ns:
                raise FormatError(f"its first sample would be at {told}, and its fragment says {entry.start_ns}")
            return
    raise FormatError("none of its first fragments is whole")


def _read(fd: int, entry: FragmentEntry, row: TrackFileRow, rate: int) -> list[Sample]:
    """Empty where the fragment is damaged."""
    try:
        return read_fragment(fd, entry.offset, entry.length, row.start_ns, rate)
    except FormatError:
        return []


def _fitted(configuration: CodecConfiguration, row: TrackFileRow, room: int) -> bytes:
    # That files before it are lost (`holes.py`) is no fact of its own, and there may be no room for it.
    said = replace(row, gap_before=None) if row.run_place > 0 else row
    head = build_head(configuration, identity_of(said), room)
    if len(head) != room:
        raise FormatError(f"the new head has {len(head)} bytes, and the first fragment stands at {room}")
    return head
