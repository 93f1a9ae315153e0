"""The facade of storage: recorders for ingest, timelines and footage for search and replay, deletion for control.

Belongs to the event loop. Each volume has a writer thread; what happens there arrives as events, in order, through
`call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

from nvr.media import codecs
from nvr.media.unit import CodecConfiguration
from nvr.model.errors import FormatError, StorageError
from nvr.model.recording import TrackType
from nvr.model.time import NS, UtcNs
from nvr.model.timeline import Extent, GapReason, Timeline
from nvr.model.tokens import RecordingToken, TrackKey
from nvr.storage.disk import Disk
from nvr.storage.findings import Repair
from nvr.storage.footage import Footage, FootageReader
from nvr.storage.holds import Hold
from nvr.storage.later import Checking, LaterRecovery
from nvr.storage.mending import Mended, examine_for
from nvr.storage.newest import NewestConfigurations
from nvr.storage.orders import (
    Append,
    Appended,
    Barrier,
    Closed,
    Done,
    Event,
    Failed,
    GrowingFile,
    Lost,
    Mend,
    Order,
    Recovered,
    VolumeChanged,
)
from nvr.storage.patient_index import PatientIndex
from nvr.storage.placement import MostFree, Placement
from nvr.storage.removal import Removal
from nvr.storage.retention import Retention, rotation_ns, time_limit
from nvr.storage.rows import FootageIndex, FragmentRef
from nvr.storage.settings import StorageSettings
from nvr.storage.stopping import stop_all
from nvr.storage.track import TrackRecorder
from nvr.storage.tracks import Tracks
from nvr.storage.volume import Volume, VolumeHangs, VolumeRegistry, VolumeState, VolumeStatus, left_out
from nvr.storage.volume_watch import VolumeWatch
from nvr.storage.watcher import Watcher
from nvr.storage.writer import VolumeWriter
from nvr.storage.writer_thread import MemoryCeiling, WriterThread

log = logging.getLogger(__name__)


class StorageEngine:
    """See docs/design/storage.md for procedures, threads and invariants."""

    def __init__(
        self,
        settings: StorageSettings,
        index: FootageIndex,
        *,
        placement: Placement | None = None,
        disk: Disk | None = None,
        decode: Callable[[bytes], CodecConfiguration] = codecs.from_sample_entry,
        now: Callable[[], int] = time.monotonic_ns,
        utc: Callable[[], UtcNs] = time.time_ns,
        stop_timeout_ns: int = 10 * NS,
    ) -> None:
        """`decode` reads the sample entry of a file; `now` and `utc` are the clocks; `stop_timeout_ns` is how long a
        stop waits for all volumes together. Touches no file.
        """
        self._settings = settings
        self.index = self._index = PatientIndex(index)
        """What all readers of the index shall read: it knows rows that could not be written yet."""
        self._placement = placement or MostFree(settings.recordings)
        self._disk = disk or Disk()
        self._now = now
        self._utc = utc
        self._stop_timeout_ns = stop_timeout_ns
        self.watcher: Watcher | None = None
        self.on_volume: Callable[[VolumeStatus], None] = lambda status: None
        """Told on the loop when a volume has another state."""
        self.retention_of: Callable[[RecordingToken], int] = lambda recording: 0
        """MaximumRetentionTime of a recording in nanoseconds, 0 for no limit. Asked on any thread."""
        self.lost = 0
        """Fragments that were accepted and could not be written, since the start."""
        self._refused = 0
        self._growing: dict[str, GrowingFile] = {}
        self._threads: list[WriterThread] = []
        self._recoveries: list[LaterRecovery] = []
        self._recorders: dict[TrackKey, TrackRecorder] = {}
        self._reader = FootageReader(self._index, self._growing, self._root_of, decode)
        self._tracks = Tracks(self._index, NewestConfigurations(self._index, self._reader, settings.hang_ns))
        self.watch = VolumeWatch(self._threads, self._recoveries, settings.hang_ns, now, self._tell_volume)
        self._removal = Removal(
            self._index, self._tracks.known, self._growing, self._threads, self.watch.done, self._deleted
        )
        self.retention = Retention(
            settings, self._index, self._placement, self._removal, lambda token: self.retention_of(token), utc, now
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._left_out: list[VolumeStatus] = []
        self.memory = MemoryCeiling(settings.memory_bytes)
        self._sweeping: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._entering: asyncio.Task[None] | None = None

    async def start(self, *, recover: bool = True) -> None:
        """Opens the volumes and loads the runs of all tracks. From then on footage is taken; files that were open when
        the daemon before this one died are examined meanwhile (`checking`, `settled`), and shown when they have been;
        without `recover` only once that is called for. A volume that hangs while it is opened is not waited for: it
        joins when it is open.

        Raises OperatorError when a volume is in use by another process or the registry is damaged, StorageError when
        the index cannot be read. A volume with another fault does not hinder the start: `volumes()` says what it has.
        """
        self._loop = asyncio.get_running_loop()
        registry = await asyncio.to_thread(VolumeRegistry, self._settings.registry, self._disk)
        # What waits for one that hangs must leave the others their part of the memory.
        queue_bytes = min(self._settings.queue_bytes, self._settings.memory_bytes // len(self._settings.volumes))
        for volume_settings in self._settings.volumes:
            volume = Volume(volume_settings, registry, self._disk, self._settings.reserve_bytes)
            writer = VolumeWriter(volume, self._index, self._settings, self._growing, self._now, self._utc)
            thread = WriterThread(writer, queue_bytes, self._publish, self._now, self.memory)
            self._threads.append(thread)
            later = LaterRecovery(volume, self._index, thread.order, thread.is_busy)
            writer.unfinished.later = later.take_up
            self._recoveries.append(later)
        for thread in self._threads:
            thread.start()
        try:
            await self.watch.until_open()
            await asyncio.sleep(0)  # what the opening of the volumes told is in the index already
            await self._tracks.load([t.writer.volume.id for t in self._threads if t.writer.volume.id is not None])
            await self.retention.begin(self._tracks.latest())
            self._left_out = left_out(registry, [t.writer.volume for t in self._threads])
        except BaseException:
            await asyncio.to_thread(self._stop_threads)
            raise
        self._sweeping = asyncio.create_task(self.retention.run(), name="retention")
        self._watching = asyncio.create_task(self.watch.run(), name="volumes that hang")
        self._entering = asyncio.create_task(self._enter_rows(), name="rows that wait for the index")
        if recover:
            self.recover()

    async def _enter_rows(self) -> None:
        """Tries again to write what the index could not take."""
        while True:
            await asyncio.sleep(self._settings.retry_ns / NS)
            if self._index.waiting:
                try:
                    await asyncio.to_thread(self._index.enter)
                except Exception:  # a fault of ours: the next try may do better, and without tries all would wait
                    log.exception("rows that wait for the index are not entered now")

    def recover(self) -> None:
        """Begins the part of the recovery for which recording does not wait. Called once."""
        for recovery in self._recoveries:
            recovery.begin()

    async def settled(self) -> None:
        """Returns when all that can be recovered now is, or the engine stops. A volume that hangs is not waited for."""
        await self.flush()  # a volume that is back has been opened before this
        for recovery in self._recoveries:
            await asyncio.to_thread(recovery.wait_until_done)
        await self.flush()

    async def mend(self, repair: Repair) -> Mended:
        """Mends what `nvr check` has found, where it still is so, and says what was done.

        Raises StorageError when the volume is not here or hangs, or the disk or the index fails.
        """
        thread = next((t for t in self._threads if t.writer.volume.id == repair.volume_id), None)
        if thread is None:
            raise StorageError(f"volume {repair.volume_id} is not here")
        try:
            volume = thread.writer.volume
            examined = await self.watch.read(volume, "mending", partial(examine_for, volume, repair))
        except (OSError, FormatError) as e:
            raise StorageError(f"{repair.path} cannot be mended: {e}") from e
        order = Mend(repair, examined)
        error = await self.watch.done(thread, order)
        if error is not None:
            raise StorageError(f"{repair.path} cannot be mended: {error}") from error
        return order.mended

    def row_waits(self, file_id: str) -> str | None:
        """Why the row of a file is not in the database of the index yet; None where nothing of it waits."""
        return self._index.trouble if self._index.waits(file_id) else None

    def checking(self) -> list[Checking]:
        """How far the recovery of each volume is."""
        return [r.checking for r in self._recoveries]

    async def stop(self) -> None:
        """Writes what is queued, closes all files with reason DAEMON_STOPPED, gives the volumes back.

        A volume whose disk hangs is left behind when the time is over, and logged; the next start recovers it.
        """
        for task in (self._sweeping, self._watching, self._entering):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await self._tracks.stop()
        for recorder in self._recorders.values():
            recorder.end_run(GapReason.DAEMON_STOPPED)
        await asyncio.to_thread(self._stop_threads)
        await asyncio.to_thread(self._index.enter)
        if self._index.waiting:
            log.error(
                "%d rows are not in the index: %s. The next start finds them in the files",
                self._index.waiting,
                self._index.trouble,
            )
        await asyncio.sleep(0)  # the last events are in the loop's queue before this

    async def flush(self) -> None:
        """Returns when everything appended so far is written, or lost and told so. A volume that hangs is not waited
        for."""
        await asyncio.gather(*(self.watch.done(thread, Barrier()) for thread in self._threads))

    def recorder(self, key: TrackKey, track_type: TrackType) -> TrackRecorder:
        """The one recorder of this track. Raises ValueError for tokens that cannot be names of directories."""
        found = self._recorders.get(key)
        if found is None or found.track_type is not track_type:
            if found is not None:
                found.end_run(GapReason.CONFIGURATION_CHANGED)
            found = TrackRecorder(self._tracks.of(key), track_type, self)
            self._recorders[key] = found
        return found

    def tracks(self) -> list[TrackKey]:
        """Those of which something has been recorded."""
        return list(self._tracks.known)

    def timeline(self, key: TrackKey) -> Timeline:
        """The runs of a track up to the last fragment on the disk, without what is too old. From memory."""
        track = self._tracks.known.get(key)
        if track is None:
            return Timeline()
        limit_ns = self._limit_ns(key)
        timeline = track.timeline()
        if limit_ns is None or timeline.earliest is None or timeline.earliest >= limit_ns:
            return timeline
        return timeline.since(limit_ns)

    def extent(self, key: TrackKey) -> Extent | None:
        """From the first to the last instant on the disk that is not too old; None without footage. From memory, and
        not slower where there are many runs."""
        track = self._tracks.known.get(key)
        if track is None or (extent := track.extent()) is None:
            return None
        limit_ns = self._limit_ns(key)
        if limit_ns is None or extent.earliest >= limit_ns:
            return extent
        shown = self.timeline(key).extent
        return replace(shown, recording=True) if shown is not None and track.coming else shown

    def awaits(self, key: TrackKey) -> bool:
        """Whether files that were open when the daemon before this one died are still to be examined, and not shown."""
        track = self._tracks.known.get(key)
        return track is not None and bool(track.awaited)

    def begin_of(self, token: RecordingToken) -> UtcNs | None:
        """The first instant of the footage of a recording that is not too old. From memory."""
        found = [
            e.earliest for key in self._tracks.known if key.recording == token and (e := self.extent(key)) is not None
        ]
        return min(found, default=None)

    def configuration(self, key: TrackKey) -> CodecConfiguration | None:
        """The codec configuration of the newest footage of a track. From memory."""
        track = self._tracks.known.get(key)
        return track.configuration if track is not None else None

    def unwritten_since(self, key: TrackKey) -> UtcNs | None:
        """The first instant of what storage has taken of a track and is not on the disk yet; None where all is."""
        recorder = self._recorders.get(key)
        return None if recorder is None else recorder.unwritten_since

    def footage(self, key: TrackKey, hold: Hold | None = None) -> Footage:
        """For reading on a thread. With a hold of this track, what was not too old when it was taken is shown."""
        if hold is not None:
            return Footage(key, self._reader, lambda: hold.limit_ns)
        return Footage(key, self._reader, lambda: self._limit_ns(key))

    async def hold(self, key: TrackKey, from_ns: UtcNs) -> Hold:
        """Keeps the footage of a track from `from_ns` on from all rules until it is released; what is still there when
        this returns stays. A deletion by a client goes on nevertheless."""
        hold = self.retention.holds.take(key, from_ns, self._limit_ns(key))
        await self.retention.settled()
        return hold

    def on_append(self, key: TrackKey, callback: Callable[[FragmentRef], None]) -> Callable[[], None]:
        """Has `callback` called on the loop after each fragment that is on the disk, until the result is called."""
        callbacks = self._tracks.of(key).callbacks
        entry = partial(callback)  # one object a subscription, so that the same callable may subscribe twice
        callbacks.append(entry)

        def unsubscribe() -> None:
            if entry in callbacks:
                callbacks.remove(entry)

        return unsubscribe

    def volumes(self) -> list[VolumeStatus]:
        """Those configured, then those that the registry knows and that are not."""
        return [*map(self.watch.status, self._threads), *self._left_out]

    @property
    def refused(self) -> int:
        """Fragments refused since the start, because queues were full or no volume took footage."""
        return self._refused

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be written."""
        return sum(t.queued_bytes for t in self._threads)

    async def delete_track(self, key: TrackKey) -> None:
        """All footage of a track: unlinked before this returns where the volume can be reached; where not, it is only
        hidden, and unlinked when the volume is back, or answers again. Raises StorageError when the index cannot be
        written.
        """
        self._require_running()
        before = self.timeline(key)
        recorder = self._recorders.get(key)
        if recorder is not None:
            recorder.end_run(GapReason.JOB_STOPPED)
        outcomes = await asyncio.gather(*(self._removal.delete_on(thread, key) for thread in self._threads))
        for error in outcomes:
            if error is not None:
                raise StorageError(f"footage of {key} is not deleted: {error}") from error
        # What a job has recorded since is kept.
        self.retention.changed(key.recording)
        left = await asyncio.to_thread(self._index.runs, key)
        self._tracks.of(key).keep(left, recorder.run_id if recorder is not None else None)
        start_ns, end_ns = before.earliest, before.latest
        if start_ns is not None and end_ns is not None:
            self._deleted(key, start_ns, end_ns)

    async def delete_recording(self, token: RecordingToken) -> None:
        """All footage of all tracks of a recording, and its directories. Raises as `delete_track`."""
        self._require_running()  # else no track is known, and all would seem to be deleted
        keys = {k for k in (*self._tracks.known, *self._recorders) if k.recording == token}
        for key in sorted(keys):
            await self.delete_track(key)
            self._recorders.pop(key, None)
            self._tracks.known.pop(key, None)

    def _require_running(self) -> None:
        if not self._threads:
            raise StorageError("footage can be deleted only while the daemon runs")

    def place(self, key: TrackKey, current: Volume | None, without: Collection[Volume] = ()) -> Volume | None:
        """For recorders, as the following."""
        volumes = [t.writer.volume for t in self._threads if t.writer.volume not in without]
        return self._placement.place(key, volumes, current) if volumes else None

    def offer(self, volume: Volume, order: Append) -> bool:
        return self._thread_of(volume.id).offer(order)

    def order(self, volume_id: str, order: Order) -> None:
        self._thread_of(volume_id).order(order)

    def left(self, file: GrowingFile) -> None:
        self._end_run(file, GapReason.STORAGE)

    def refuse(self) -> None:
        self._refused += 1

    def rotation_ns(self, key: TrackKey) -> int:
        """For recorders."""
        return rotation_ns(self._settings.rotation_ns, self.retention_of(key.recording))

    def _limit_ns(self, key: TrackKey) -> UtcNs | None:
        if self.retention.clock.doubted:
            return None  # nobody knows what is too old
        return time_limit(self._utc(), self.retention_of(key.recording))

    def _thread_of(self, volume_id: str | None) -> WriterThread:
        return next(t for t in self._threads if t.writer.volume.id == volume_id)

    def _root_of(self, volume_id: str) -> Path | None:
        """On any thread. Raises VolumeHangs: a read there would hold the thread for as long."""
        volume = next((t.writer.volume for t in self._threads if t.writer.volume.id == volume_id), None)
        if volume is not None and volume.hangs:
            raise VolumeHangs(f"volume {volume.root} hangs: {volume.hangs}")
        return volume.root if volume is not None else None

    def _stop_threads(self) -> None:
        stop_all(self._threads, self._recoveries, self._stop_timeout_ns, self._now)

    def _publish(self, events: list[Event]) -> None:
        """On a writer thread."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._on_events, events)
        except RuntimeError:
            log.error("the event loop is closed; %d events of a writer are not told", len(events))

    def _on_events(self, events: list[Event]) -> None:
        self.watch.look_again()
        for event in events:
            match event:
                case Appended(file, entry):
                    if not file.abandoned:
                        self._on_appended(file, file.ref(entry))
                case Closed(file, reason):
                    self.retention.changed(file.row.recording)
                    if reason is not None:
                        self._end_run(file, reason)
                case Failed(file, cause):
                    log.error("%s: the run ends: %s", file.row.key, cause)
                    self._end_run(file, GapReason.STORAGE)
                    if file.row.key in self._recorders:
                        self._recorders[file.row.key].on_failed(file)
                case Lost(file, _):
                    self.lost += 1
                    if file.row.key in self._recorders:
                        self._recorders[file.row.key].on_lost(file)
                case Done(order, error):
                    self.watch.is_done(order, error)
                case Recovered(runs):
                    for key, *_ in runs:
                        self.retention.changed(key.recording)
                    self._tracks.settle(event)
                case VolumeChanged(volume):
                    thread = next(t for t in self._threads if t.writer.volume is volume)
                    self._tell_volume(self.watch.status(thread))

    def _on_appended(self, file: GrowingFile, ref: FragmentRef) -> None:
        track = self._tracks.of(file.row.key)
        if track.grow(file.row.run_id, ref.start_ns, ref.end_ns):
            self._tell(lambda watcher: watcher.footage_begins(file.row.key, ref.start_ns))
        track.configuration = file.configuration
        for callback in tuple(track.callbacks):
            try:
                callback(ref)
            except Exception:
                log.exception("%s: a subscriber of new fragments failed", file.row.key)

    def _end_run(self, file: GrowingFile, reason: GapReason) -> None:
        track = self._tracks.of(file.row.key)
        ended = track.end(file.row.run_id, reason)
        if ended is not None and not track.timeline().recording:
            self._tell(lambda watcher: watcher.footage_ends(file.row.key, ended.end_ns))

    def _deleted(self, key: TrackKey, start_ns: UtcNs, end_ns: UtcNs) -> None:
        self._tell(lambda watcher: watcher.footage_deleted(key, start_ns, end_ns))

    def _tell_volume(self, status: VolumeStatus) -> None:
        if status.state is VolumeState.ONLINE:
            self._tracks.learn_configurations()
        try:
            self.on_volume(status)
        except Exception:
            log.exception("another state of a volume could not be told")

    def _tell(self, what: Callable[[Watcher], None]) -> None:
        if self.watcher is None:
            return
        try:
            what(self.watcher)
        except Exception:  # who is told of footage must not hinder its recording
            log.exception("a change of the footage could not be told")
