"""What `nvr check` can find, and what can be asked to be mended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nvr.model.time import UtcNs, format_iso
from nvr.model.tokens import TrackKey


class Kind(StrEnum):
    """What is wrong. The values are told to machines and are stable."""

    MISSING = "missing"
    """The index has a file that is not there."""
    LEFT_OPEN = "left-open"
    """A file that no daemon writes is not closed."""
    ORPHAN = "orphan"
    """A file that the index does not have."""
    COPY = "copy"
    """A file whose id belongs to another file."""
    FOREIGN = "foreign"
    """A file without a row that was recorded on another volume or for another track, or that no recorder has made."""
    UNREADABLE = "unreadable"
    """A file whose head is destroyed, or that the disk does not give."""
    SIZE = "size"
    """The file has another size than its row says."""
    TABLE = "table"
    """The table at the end of the file is damaged, or does not fit what stands before it."""
    IDENTITY = "identity"
    """The file says of itself that it is another one than its row says."""
    ROW = "row"
    """The row says other figures than the file."""
    CHECKSUM = "checksum"
    """Bytes of a fragment are not as they were written."""
    OVERLAP = "overlap"
    """Two files of one run cover the same time, or have the same place in it."""
    HOLE = "hole"
    """Files of a run between two others are not in the index, and the run seems whole."""


MENDED_FROM_FILE = frozenset({Kind.SIZE, Kind.TABLE, Kind.IDENTITY, Kind.ROW})
"""The row, and where need be the table, is made again from what the file holds."""
NEVER_MENDED = {
    Kind.COPY: "nothing is changed; move one of the two files away",
    Kind.FOREIGN: "nothing is changed; move it away",
    Kind.OVERLAP: "nothing is changed; both files are kept and shown",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one file."""

    kind: Kind
    volume_id: str
    path: str
    """Relative to the root of the volume."""
    text: str
    file_id: str = ""
    key: TrackKey | None = None
    offset: int | None = None
    """Where the bytes stand that are meant, and how many they are."""
    length: int = 0
    start_ns: UtcNs | None = None
    """The time that is meant."""
    end_ns: UtcNs | None = None
    known: bool = False
    """Found before, and said to be known by `--repair`, or set aside by a recovery."""

    def __str__(self) -> str:
        parts = [f"{self.kind}:", self.path]
        if self.offset is not None:
            parts.append(f"at byte {self.offset} ({self.length} bytes)")
        if self.start_ns is not None and self.end_ns in (None, self.start_ns):
            parts.append(f"from {format_iso(self.start_ns, 3)} on")
        elif self.start_ns is not None and self.end_ns is not None:
            parts.append(f"from {format_iso(self.start_ns, 3)} to {format_iso(self.end_ns, 3)}")
        return " ".join(parts) + f": {self.text}" + (" (known)" if self.known else "")

    def as_fields(self) -> dict[str, object]:
        """For machines. Times are ISO 8601 in UTC."""
        return {
            "kind": self.kind.value,
            "volume": self.volume_id,
            "recording": self.key.recording if self.key else None,
            "track": self.key.track if self.key else None,
            "file": self.file_id or None,
            "path": self.path,
            "offset": self.offset,
            "length": self.length if self.offset is not None else None,
            "from": None if self.start_ns is None else format_iso(self.start_ns, 9),
            "until": None if self.end_ns is None else format_iso(self.end_ns, 9),
            "what": self.text,
            "known": self.known,
        }


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a file that are known not to be as they were written."""

    file_id: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Repair:
    """What is asked of the writer of a volume. It looks again before it changes anything."""

    kind: Kind
    volume_id: str
    path: str
    file_id: str = ""
    damage: tuple[Damage, ...] = ()
