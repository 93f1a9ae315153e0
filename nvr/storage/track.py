"""What the event loop knows of one track: its runs, the file it writes, and who wants to hear of new fragments.

`TrackRecorder` decides which file a fragment belongs to: a new run, a rotation, or the file at hand. The bytes are the
business of the volume's writer.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Protocol
from zlib import crc32

from nvr.media.unit import CodecConfiguration, Fragment
from nvr.model.recording import TrackType
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import Extent, GapReason, Run, Timeline
from nvr.model.tokens import TrackKey
from nvr.storage.orders import Append, Close, CorrectEnd, GrowingFile, Order
from nvr.storage.rows import FileState, FragmentRef, TrackFileRow
from nvr.storage.runs import Runs
from nvr.storage.track_file import track_directory, track_file_path
from nvr.storage.volume import Volume

log = logging.getLogger(__name__)

_REORDERING_NS = NS
"""So far may a fragment reach back behind the start of the one before: B-frames behind a picture that was cut off from
them. Further back the clock has jumped."""


class TrackFootage:
    """Runs in memory and subscribers. Belongs to the event loop."""

    def __init__(self, key: TrackKey) -> None:
        self.key = key
        self.configuration: CodecConfiguration | None = None
        self.callbacks: list[Callable[[FragmentRef], None]] = []
        self._runs = Runs()
        self._corrected: tuple[str, GapReason] = "", GapReason.UNKNOWN
        """A run whose end is still on its way here, and why it ended."""
        self.awaited: dict[str, UtcNs] = {}
        """Runs that a daemon before this one did not end, and where their open files start: not shown until they have
        been examined, and known to have ended with that daemon."""
        self._coming: set[str] = set()
        """Runs whose first fragment is on its way to the disk."""

    def timeline(self) -> Timeline:
        return self._runs.timeline()

    def extent(self) -> Extent | None:
        """From the first to the last instant; None without footage. It is being recorded as long as a run is on its way
        to the disk as well: who stops a job, and waits for that, has the last instant then."""
        extent = self.timeline().extent
        return replace(extent, recording=True) if extent is not None and self.coming else extent

    @property
    def coming(self) -> bool:
        """Whether a run is on its way to the disk of which nothing can be shown yet."""
        return bool(self._coming)

    def expect(self, run_id: str) -> None:
        """The first fragment of a new run has been handed over: it comes (`grow`), or the run ends without (`end`)."""
        self._coming.add(run_id)

    def settle(self, run_id: str, run: Run | None, growing_ns: UtcNs | None = None) -> None:
        """The closed files of a run are others than before: what they come to, or None when there is none. `growing_ns`
        is where the first of its files that are not closed starts. The run that is being recorded goes on."""
        self.awaited.pop(run_id, None)
        known = self._runs.get(run_id)
        if known is not None and known.end_reason is None:
            starts = [at_ns for at_ns in (growing_ns, run.start_ns if run is not None else None) if at_ns is not None]
            end_ns = max(known.end_ns, run.end_ns) if run is not None else known.end_ns
            start_ns = min(min(starts, default=known.start_ns), end_ns)
            self._runs.put(replace(known, start_ns=start_ns, end_ns=end_ns))
        elif run is not None:
            self._runs.put(run)
        else:
            self._runs.cut({run_id: None})

    def grow(self, run_id: str, start_ns: UtcNs, end_ns: UtcNs) -> bool:
        """A fragment of this run is on the disk. True where it is the first of the run."""
        self._coming.discard(run_id)
        known = self._runs.get(run_id)
        if known is None:
            run = Run(run_id, start_ns, end_ns)
        else:
            # A run that has ended elsewhere may still get what waited for its volume; it has ended all the same.
            run = replace(known, start_ns=min(known.start_ns, start_ns), end_ns=max(known.end_ns, end_ns))
        self._runs.put(run)
        return known is None

    def end(self, run_id: str, reason: GapReason) -> Run | None:
        """The run has ended; the first reason stands. A run that never got a fragment is not there. Returns the run
        where this has ended it."""
        self._coming.discard(run_id)
        known = self._runs.get(run_id)
        if known is None or known.end_reason is not None:
            return None
        corrected_id, corrected = self._corrected
        ended = Run(run_id, known.start_ns, known.end_ns, corrected if corrected_id == run_id else reason)
        self._runs.put(ended)
        return ended

    def correct(self, run_id: str, reason: GapReason) -> None:
        """A run that has ended, or whose end is on its way here, ended for another reason than was told."""
        known = self._runs.get(run_id)
        if known is None or known.end_reason is None:
            self._corrected = run_id, reason
        else:
            self._runs.put(replace(known, end_reason=reason))

    def cut(self, starts: Mapping[str, UtcNs | None]) -> None:
        """Footage has been deleted: where the runs with these ids begin now, None where nothing of one is left."""
        left: dict[str, Run | None] = {}
        for run_id, start_ns in starts.items():
            known = self._runs.get(run_id)
            if known is not None and start_ns is not None:
                left[run_id] = replace(known, start_ns=min(max(known.start_ns, start_ns), known.end_ns))
            elif known is not None:
                left[run_id] = None
        self._runs.cut(left)
        if not self._runs:
            self.configuration = None

    def keep(self, runs: Iterable[Run], growing: str | None) -> None:
        """These are all the runs that the index has; `growing` is the id of the one that is being recorded."""
        self._coming.intersection_update((growing,))
        current = self._runs.get(growing) if growing is not None else None
        self._runs.replace((*runs, *((current,) if current is not None else ())))
        if not self._runs:
            self.configuration = None

    def end_of(self, run_id: str) -> UtcNs | None:
        """Where the run ends, so far as it is on the disk; None where nothing of it is."""
        run = self._runs.get(run_id)
        return None if run is None else run.end_ns

    def is_growing(self, run_id: str) -> bool:
        """Whether something of this run is shown, and its end has not come here yet."""
        run = self._runs.get(run_id)
        return run is not None and run.end_reason is None

    def has(self, run_id: str) -> bool:
        """Whether anything of this run is shown."""
        return run_id in self._runs

    @property
    def last_reason(self) -> GapReason | None:
        """Why the last run ended; None when there was none."""
        runs = self.timeline().runs
        if any(not runs or at_ns >= runs[-1].start_ns for at_ns in self.awaited.values()):
            return GapReason.DAEMON_STOPPED
        return runs[-1].end_reason if runs else None


class Writers(Protocol):
    """What a recorder needs of the engine."""

    def place(self, key: TrackKey, current: Volume | None, without: Collection[Volume] = ()) -> Volume | None:
        """Where the next file goes, or None when no volume takes footage; `without`: those that have refused it."""

    def offer(self, volume: Volume, order: Append) -> bool:
        """False when the queue of the volume is full."""

    def order(self, volume_id: str, order: Order) -> None:
        """Queues what is not footage."""

    def left(self, file: GrowingFile) -> None:
        """The run of this file has ended with it, and its volume may tell so only much later."""

    def refuse(self) -> None:
        """A fragment was not accepted."""

    def rotation_ns(self, key: TrackKey) -> int:
        """How long a file of the track may be."""


class TrackRecorder:
    """Takes the fragments of one track. Belongs to the event loop; never blocks, raises nothing that a disk caused."""

    def __init__(self, footage: TrackFootage, track_type: TrackType, writers: Writers) -> None:
        track_directory(footage.key)  # refuses tokens that cannot be names
        self.key = footage.key
        self.track_type = track_type
        self.refused = 0
        """Fragments that were not accepted: the queue was full, or no volume takes footage."""
        self.lost = 0
        """Fragments that were accepted and could not be written."""
        self._footage = footage
        self._writers = writers
        # Stable over restarts and spread over tracks, so that not all files are closed at once.
        self._phase = crc32(str(footage.key).encode())
        self._file: GrowingFile | None = None
        self._volume: Volume | None = None
        self._last: TrackFileRow | None = None
        """The last file of the last run that has ended in order."""
        self._last_start_ns: UtcNs = 0
        self._gap_before: GapReason | None = None
        self._gap_before_run: GapReason | None = None
        """The `gap_before` of the run under way."""
        self._ended_run: str | None = None
        """The run before, while none is under way."""
        self._broken = False
        """Something of ours was lost: what follows depends on it up to the next clean point."""
        self._refusing = False

    @property
    def unwritten_since(self) -> UtcNs | None:
        """From here on something has been handed over that is not on the disk yet; None where nothing has."""
        row = self._last if self._file is None else self._file.row
        if row is None:
            return None
        written_ns = self._footage.end_of(row.run_id)
        if written_ns is None:
            return row.start_ns if self._file is not None or self._footage.coming else None
        # What a run still owes when it has ended is written, or lost, before it is known here to have ended.
        owes = self._last_start_ns >= written_ns and self._footage.is_growing(row.run_id)
        return written_ns if owes else None

    @property
    def run_id(self) -> str | None:
        """Of the run that is under way."""
        return self._file.row.run_id if self._file is not None else None

    def append(self, fragment: Fragment) -> bool:
        """Hands a fragment to the writer of its volume; where that hangs or its queue is full, to that of another one,
        as the beginning of a new run: what went before it may never come to the disk.

        False: no volume has accepted it. It is counted, the run has ended with reason STORAGE, and the next `append`
        tries a new run.
        """
        if fragment.configuration.track_type is not self.track_type:
            raise ValueError(f"{self.key} has type {self.track_type}, not {fragment.configuration.track_type}")
        file = self._file
        if file is not None and fragment.configuration != file.configuration:
            self.end_run(GapReason.CONFIGURATION_CHANGED)
        elif file is not None and fragment.start_ns < self._last_start_ns - _REORDERING_NS:
            log.error("%s: a fragment at %d follows one at %d", self.key, fragment.start_ns, self._last_start_ns)
            self.end_run(GapReason.CLOCK_JUMP)
        self._leave_hanging()
        file, volume = self._file, self._volume
        if file is None or volume is None or self._due(file, fragment):
            return self._offer_new(fragment, [])
        if self._offer(file, volume, fragment):
            return True
        self._interrupt()
        return self._offer_new(fragment, [volume])

    def _leave_hanging(self) -> None:
        """A run does not wait for a volume that hangs while another one takes footage."""
        if self._file is None or self._volume is None or not self._volume.hangs:
            return
        elsewhere = self._writers.place(self.key, self._volume)
        if elsewhere is not None and elsewhere is not self._volume and elsewhere.takes_footage:
            file = self._file
            log.error("%s: the run ends, and goes on on %s: %s", self.key, elsewhere.root, self._volume.hangs)
            self._interrupt()
            self._writers.left(file)

    def _offer_new(self, fragment: Fragment, tried: list[Volume]) -> bool:
        """As the first fragment of a new file, to one volume after the other. `tried`: those that have refused it."""
        while True:
            before = self._file
            volume = self._writers.place(self.key, self._volume if before is not None else None, tried)
            if volume is None or volume in tried:
                self._refuse(f"the queue of volume {tried[0].root} is full" if tried else "no volume takes footage")
                return False
            here = self._volume
            if before is not None and here is not None and here is not volume and not here.takes_footage:
                self._interrupt()
                before = None
            file = self._next_file(before, volume, fragment)
            if self._offer(file, volume, fragment):
                self._begin(file, volume)
                return True
            tried.append(volume)
            if before is not None and volume is self._volume:
                self._interrupt()

    def _offer(self, file: GrowingFile, volume: Volume, fragment: Fragment) -> bool:
        damaged_start = self._broken and not fragment.clean_point
        if not self._writers.offer(volume, Append(file, fragment, damaged_start)):
            return False
        self._refusing = False
        self._broken = damaged_start and not any(s.clean_point for s in fragment.samples)
        self._last_start_ns = fragment.start_ns
        return True

    def _interrupt(self) -> None:
        """The run ends, because what has been handed over of it may be lost; so what follows may build on a loss."""
        self._broken = True
        self.end_run(GapReason.STORAGE)

    def end_run(self, reason: GapReason) -> None:
        """The next `append` starts a new run. Without a run under way nothing happens: a gap has the reason that it
        began with."""
        if self._file is not None:
            self._writers.order(self._file.row.volume_id, Close(self._file, reason))
            self._ended_run = self._file.row.run_id
            self._last, self._file = self._file.row, None
            self._gap_before = reason

    def correct_gap(self, reason: GapReason) -> None:
        """The gap since the last run has another reason than it began with. Nothing while a run is under way, and where
        the last run is of a daemon before this one."""
        last = self._last
        if self._file is not None or last is None:
            return
        self._gap_before = reason
        self._footage.correct(last.run_id, reason)
        self._writers.order(last.volume_id, CorrectEnd(last.file_id, reason))

    def on_failed(self, file: GrowingFile) -> None:
        """The writer gave this file up, be its run under way or ended. The fragments behind it are lost up to the next
        `append`."""
        current = self._file
        run_id = self._ended_run if current is None else current.row.run_id
        if run_id == file.row.run_id:
            if current is not None and current is not file:
                self._writers.order(current.row.volume_id, Close(current, GapReason.STORAGE))
            self._file, self._ended_run, self._last = None, run_id, None
            if self._footage.has(file.row.run_id):
                self._gap_before = GapReason.STORAGE
            else:  # a run of which nothing is shown has interrupted nothing: the gap keeps the reason it began with
                self._gap_before = self._gap_before_run or GapReason.STORAGE
            # What waits in the queue is lost with it; that will be told later than the next fragment comes.
            self._broken = True
        if not file.entries and file.previous is not None:
            self._writers.order(file.previous.volume_id, CorrectEnd(file.previous.file_id, GapReason.STORAGE))

    def on_lost(self, file: GrowingFile) -> None:
        """A fragment of this file could not be written."""
        self.lost += 1
        if self._file is None or self._file.row.run_id == file.row.run_id:  # a later run has begun with that knowledge
            self._broken = True

    def _refuse(self, why: str) -> None:
        self.refused += 1
        if not self._refusing:
            log.error("%s: a fragment is not recorded: %s", self.key, why)
        self._refusing = True
        self._writers.refuse()
        self._interrupt()

    def _due(self, file: GrowingFile, fragment: Fragment) -> bool:
        """Whether a rotation is due: at a clean point from the first boundary on, anywhere from the second; and as soon
        as the picture allows it when the volume is tight and another one is not."""
        period = self._writers.rotation_ns(self.key)
        phase_ns = self._phase * period >> 32
        passed = (fragment.start_ns - phase_ns) // period - (file.row.start_ns - phase_ns) // period
        if passed >= 2 or (passed == 1 and fragment.clean_point):
            return True
        here = self._volume
        if here is None or not here.takes_footage or not here.tight:
            return False
        if self.track_type is TrackType.VIDEO and not fragment.clean_point:
            return False
        elsewhere = self._writers.place(self.key, here)
        return elsewhere is not None and elsewhere is not here and elsewhere.takes_footage and not elsewhere.tight

    def _next_file(self, before: GrowingFile | None, volume: Volume, fragment: Fragment) -> GrowingFile:
        assert volume.id is not None
        file_id = uuid.uuid4().hex
        row = TrackFileRow(
            file_id=file_id,
            volume_id=volume.id,
            recording=self.key.recording,
            track=self.key.track,
            run_id=uuid.uuid4().hex if before is None else before.row.run_id,
            run_place=0 if before is None else before.row.run_place + 1,
            path=track_file_path(self.key, file_id, fragment.start_ns),
            start_ns=fragment.start_ns,
            end_ns=fragment.start_ns,
            state=FileState.OPEN,
            encoding=fragment.configuration.encoding,
            gap_before=(self._gap_before or self._footage.last_reason) if before is None else None,
        )
        return GrowingFile(row, fragment.configuration, None if before is None else before.row)

    def _begin(self, file: GrowingFile, volume: Volume) -> None:
        """Order of the queue: the file before is closed only after this one has been accepted."""
        if self._file is not None:
            self._writers.order(self._file.row.volume_id, Close(self._file, None))
        else:
            self._gap_before_run = file.row.gap_before
            self._footage.expect(file.row.run_id)
        self._file, self._volume, self._gap_before, self._last = file, volume, None, None
