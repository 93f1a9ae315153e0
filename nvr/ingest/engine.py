"""Makes what control wants: connects the receivers that are needed, feeds the tracks that jobs have won, tells states.

`apply` takes the whole desired state and is idempotent; the difference to what runs is worked out here and nowhere
else. Only what a change concerns is touched. A change that concerns much is made in slices, between which the loop runs
others; a state that is asked for meanwhile is made right first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from nvr.ingest.arbiter import SourceStream, lines_of, takes_part
from nvr.ingest.assignment import Assignment, Binding, differing
from nvr.ingest.buffers import usable_receive_buffer
from nvr.ingest.counters import ReceiverCounters
from nvr.ingest.delivery import SampleTap
from nvr.ingest.drain import Drain
from nvr.ingest.event_needs import excesses, needs_of
from nvr.ingest.gate import Gates, NoGates
from nvr.ingest.handover import HandOvers
from nvr.ingest.live import LiveOffer, LiveTap
from nvr.ingest.memory import HeldMemory
from nvr.ingest.names import named
from nvr.ingest.settings import IngestSettings, Times
from nvr.ingest.source import Source, Watcher
from nvr.ingest.subscriptions import Subscriptions
from nvr.ingest.tracks import Storage
from nvr.ingest.trust import Trust
from nvr.ingest.turns import Turns
from nvr.model.errors import UnknownToken
from nvr.model.job import (
    RECEIVER_TYPE,
    JobState,
    RecordingJob,
    RecordingJobSource,
    RecordingJobState,
    SourceReference,
    SourceState,
    TrackState,
    aggregate,
)
from nvr.model.receiver import Receiver, ReceiverMode, ReceiverState, Reception
from nvr.model.recording import Recording
from nvr.model.time import UtcNs
from nvr.model.timeline import GapReason
from nvr.model.tokens import JobToken, ReceiverToken, RecordingToken, TrackKey

logger = logging.getLogger(__name__)

NO_MEDIA_URI = "the receiver has no MediaUri yet"
SLICE_NS = 3_000_000
"""So long may a change of the configuration hold the event loop, one step aside."""


class IngestEngine:
    """All receivers and jobs of the daemon. Belongs to the event loop; nothing here blocks."""

    def __init__(
        self,
        storage: Storage,
        settings: IngestSettings | None = None,
        times: Times | None = None,
        memory: HeldMemory | None = None,
    ) -> None:
        """`memory` is what ingest may hold, shared with the queues of storage."""
        self.on_streams: Callable[[ReceiverToken, Sequence[SourceStream]], None] = lambda token, streams: None
        """Called when the session description of a receiver is known, before its tracks are mapped."""
        self.watcher: Watcher | None = None
        self.gates: Gates = NoGates()
        """Of the jobs that record while events last."""
        self.memory = HeldMemory() if memory is None else memory
        self.memory.name_of = self._name_of
        self._storage = storage
        self._settings = settings or IngestSettings()
        self._times = times or Times()
        self._drain = Drain(self._times.monotonic)
        self._assignment = Assignment(lambda job: self.gates.gate(job))
        self._turns = Turns(self._assignment, self._settings.hand_over_ns, self._events_changed)
        self._receivers: dict[ReceiverToken, Receiver] = {}
        self._due: dict[ReceiverToken, None] = {}
        """Receivers for which something has changed that is not made yet."""
        self._told: set[str] = set()
        """What cannot be held of Before: each is logged once."""
        self._slice: asyncio.Handle | None = None
        """The next slice of what is due."""
        self._sources: dict[ReceiverToken, Source] = {}
        self._leaving: dict[asyncio.Task[None], Source] = {}
        self._past: dict[ReceiverToken, ReceiverCounters] = {}
        """Of the connections that a receiver had before, as long as the receiver exists."""
        self._hand_overs = HandOvers(self._settings.hand_over_ns, self._let_go)
        self._subscriptions = Subscriptions(self._source_of)
        self._live: dict[ReceiverToken, list[LiveTap]] = {}
        self._offered: dict[ReceiverToken, tuple[str, Sequence[LiveOffer]]] = {}
        """What receivers sent that are not at work any more, with their media URI of that time."""
        self._silent_udp: dict[ReceiverToken, tuple[str, str]] = {}
        """Where nothing came over UDP; see `Source`."""
        self._receive_buffer: int | None = None
        self._trust: Trust | None = None
        self._running = False

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to make what has been applied, and what will be.

        Raises OperatorError where `tls_ca_file` holds no certificates or `tls_fingerprints` no fingerprints.
        """
        if self._settings.tls_ca_file is not None or self._settings.tls_fingerprints:
            await self._tls()
        self._receive_buffer = await asyncio.to_thread(
            usable_receive_buffer, self._settings.receive_buffer_bytes, self._settings.udp_receive_buffer_bytes
        )
        self._running = True
        self._weigh()
        self._due.update(dict.fromkeys(self._receivers))
        while True:
            if not self._make_some(self._slice_end()):
                return
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """Runs end with reason daemon-stopped, sessions with TEARDOWN; every wait in it has a deadline.

        It returns when all sources have ended: behind one that fails the others still hand over what they have.
        """
        self._running = False
        self._turns.stop()
        self._hand_overs.drop()
        sources, self._sources = self._sources, {}
        ended = await asyncio.gather(
            *(s.stop(GapReason.DAEMON_STOPPED) for s in sources.values()), return_exceptions=True
        )
        for token, result in zip(sources, ended, strict=True):
            if isinstance(result, BaseException):
                _log_fault(self.label(token), result)
        while self._leaving:
            await asyncio.wait(set(self._leaving))

    # -- what shall be -----------------------------------------------------------------------------------------------

    def apply(
        self, recordings: Iterable[Recording], jobs: Iterable[RecordingJob], receivers: Iterable[Receiver]
    ) -> None:
        """The whole desired state. What has not changed is not disturbed."""
        until_ns = self._slice_end()
        known, jobs_before = self._assignment.recordings, self._assignment.jobs
        self._assignment.change(recordings, jobs)
        for recording in known.keys() - self._assignment.recordings.keys():
            self.memory.forget(recording)
        if self._running and self._waits_otherwise(jobs_before):
            self._weigh()
        before, self._receivers = self._receivers, {r.token: r for r in receivers}
        for token in differing(before, self._receivers):
            self._due[token] = None
            if token not in self._receivers:
                self._past.pop(token, None)
                self._silent_udp.pop(token, None)
        if self._running and self._slice is None:
            self._next_slice(until_ns)

    def _waits_otherwise(self, before: Mapping[JobToken, RecordingJob]) -> bool:
        """Whether a job waits for events that did not, or waits for others."""
        after = self._assignment.jobs
        filters = ((before.get(t), after.get(t)) for t in differing(before, after))
        return any(now is not None and now.configuration.event_filter is not None for _, now in filters)

    def _weigh(self) -> None:
        """Says where the memory that is set cannot hold what jobs with an EventFilter ask for."""
        needs = needs_of(self._assignment.recordings, self._assignment.jobs.values())
        most = self._settings.pipeline.event_buffer_bytes
        for told in excesses(needs, most, self.memory.limit, self.memory.label):
            if told not in self._told:
                logger.warning("%s", told)
            self._told.add(told)

    def label(self, token: ReceiverToken) -> str:
        """A receiver for people: with the name of the camera that it records, where there is one."""
        for recording in {key.recording: None for key in self._assignment.bindings(token)}:
            if name := self._name_of(recording):
                return named(token, name)
        return named(token, self._name_of(self._assignment.recording_with(token)))

    def _name_of(self, recording: RecordingToken | None) -> str:
        found = None if recording is None else self._assignment.recordings.get(recording)
        return "" if found is None else found.configuration.source.name

    def _slice_end(self) -> int:
        return self._times.monotonic() + SLICE_NS

    def _next_slice(self, until_ns: int | None = None) -> None:
        self._slice = None
        try:
            if self._running:
                self._make_some(self._slice_end() if until_ns is None else until_ns)
        finally:  # a receiver that fails must not keep the others waiting
            if self._running and (self._assignment.due or self._due):
                self._slice = asyncio.get_running_loop().call_soon(self._next_slice)

    def _make_some(self, until_ns: int) -> bool:
        """One slice of what is due, at least one step; True where something is left."""
        recordings, receivers = self._assignment.due, self._due
        while recordings or receivers:
            # Those that lose a track let go of it, in the first step, before another takes it in the second.
            if recordings:
                self._settle(next(iter(recordings)))
            else:
                self._make(next(iter(receivers)))
            if self._times.monotonic() >= until_ns:
                break
        self._subscriptions.follow()
        return bool(recordings or receivers)

    def _settle(self, recording: RecordingToken) -> None:
        if recording not in self._assignment.due:
            return
        settled = self._assignment.settle(recording)
        self._turns.settled(recording)
        self._hand_overs.settled(recording, self._assignment)
        for key, (feed, binding) in settled.outranked.items():
            winner = self._assignment.winner(key)
            receiver = self._receivers.get(winner.receiver) if winner is not None else None
            source = self._sources.get(feed.receiver)
            if winner is None or receiver is None or source is None:
                continue
            if source.records(key) and self._wants(receiver):
                self._hand_overs.begin(key, feed, binding, receiver.token)
                for gate in (binding.gate, self._assignment.rivals(recording).get(winner.job)):
                    self._turns.handed_over(gate)
        for token in settled.losers:
            source = self._sources.get(token)
            if source is not None:
                source.keep_only({b.key for b in self._bindings(token)})
        self._due.update(dict.fromkeys(settled.concerned))

    def _events_changed(self, recording: RecordingToken) -> None:
        if self._running and recording in self._assignment.recordings:
            self._assignment.due[recording] = None
            if self._slice is None:
                self._slice = asyncio.get_running_loop().call_soon(self._next_slice)

    def _bindings(self, token: ReceiverToken) -> list[Binding]:
        """The tracks that a receiver feeds, and those that it feeds until another one begins."""
        return [*self._assignment.bindings(token).values(), *self._hand_overs.bindings(token)]

    def _let_go(self, token: ReceiverToken) -> None:
        """A track of this receiver is in other hands now."""
        source = self._sources.get(token)
        if source is not None:
            source.fetch()
            source.keep_only({b.key for b in self._bindings(token)})
        self._due[token] = None  # nobody may need it any more
        if self._running and self._slice is None:
            self._slice = asyncio.get_running_loop().call_soon(self._next_slice)

    def _make(self, token: ReceiverToken) -> None:
        """Connects, feeds, reconfigures or dismisses a receiver, as is wanted now."""
        self._due.pop(token, None)
        known, receiver = self._sources.get(token), self._receivers.get(token)
        if receiver is None or not self._wants(receiver):
            if known is not None:
                self._dismiss(known)
            return
        bindings = self._bindings(token)
        if known is None:
            known = self._sources[token] = self._new_source(receiver)
            known.bind(bindings)
            for tap in tuple(self._live.get(token, ())):
                known.watch(tap)
            known.start()
        else:
            known.bind(bindings)
            known.reconfigure(receiver.configuration)

    def _make_now(self, recordings: Sequence[RecordingToken], receivers: Iterable[ReceiverToken]) -> None:
        """What concerns these, ahead of its slice: somebody asks for their state."""
        for recording in recordings:
            self._settle(recording)
        wanted = {*receivers, *(f.receiver for r in recordings for f in self._assignment.winners(r))}
        if self._running and (due := wanted & self._due.keys()):
            for token in due:
                self._make(token)
            self._subscriptions.follow()

    def _wants(self, receiver: Receiver) -> bool:
        """Whether the receiver shall be connected now (10.4)."""
        if not receiver.configuration.media_uri:
            return False
        mode = receiver.configuration.mode
        if mode is ReceiverMode.AUTO_CONNECT:
            token = receiver.token
            return bool(self._bindings(token)) or token in self._live or self._assignment.is_kept(token)
        return mode is ReceiverMode.ALWAYS_CONNECT

    def _new_source(self, receiver: Receiver) -> Source:
        return Source(
            receiver,
            self._storage,
            self._settings,
            self._times,
            self._drain,
            receive_buffer=self._receive_buffer,
            tls=self._tls,
            silent_udp=self._silent_udp,
            on_streams=lambda token, streams: self.on_streams(token, streams),
            on_start=partial(self._hand_overs.started, receiver.token),
            watcher=lambda: self.watcher,
            gates=lambda: self.gates,
            memory=self.memory,
            label=partial(self.label, receiver.token),
        )

    def _dismiss(self, source: Source) -> None:
        token = source.token
        del self._sources[token]
        self._hand_overs.drop(token)
        source.keep_only(())  # now, not when the task runs: another source may take the tracks at once
        self._offered = {t: offered for t, offered in self._offered.items() if t in self._receivers}
        self._offered[token] = source.configuration.media_uri, source.offers()
        for tap in tuple(self._live.get(token, ())):
            source.unwatch(tap)
            tap.lost("the receiver is not connected any more")
        task = asyncio.get_running_loop().create_task(source.stop(GapReason.JOB_STOPPED))
        self._leaving[task] = source
        task.add_done_callback(self._dismissed)

    def _dismissed(self, task: asyncio.Task[None]) -> None:
        source = self._leaving.pop(task)
        if source.token in self._receivers:
            total = self._past.get(source.token, ReceiverCounters()) + source.counters()
            self._past[source.token] = replace(total, clock_overruled=False)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log_fault(self.label(source.token), error)

    # -- what is -----------------------------------------------------------------------------------------------------

    def job_state(self, token: JobToken) -> JobState:
        """State of a job, its sources and tracks, one to one with its configuration. Raises UnknownToken."""
        job = self._assignment.jobs.get(token)
        if job is None:
            raise UnknownToken("RecordingJob", token)
        self._make_now([job.configuration.recording], ())
        configuration = job.configuration
        sources = [self._source_state(job, i, source) for i, source in enumerate(configuration.sources)]
        return JobState(configuration.recording, tuple(sources))

    def _source_state(self, job: RecordingJob, index: int, source: RecordingJobSource) -> SourceState:
        recording = self._assignment.recordings.get(job.configuration.recording)
        lines = source.tracks if recording is None else lines_of(job, source, recording)
        states = []
        for n, line in enumerate(lines):
            key = TrackKey(job.configuration.recording, line.destination)
            state, error = self._line_state(job, index, n, key, source.source)
            states.append(TrackState(line.source_tag, line.destination, state, error))
        reference = source.source or SourceReference("")
        if source.tracks:
            return SourceState(reference, tuple(states))
        return SourceState(reference, (), aggregate(s.state for s in states))

    def _line_state(
        self, job: RecordingJob, index: int, line: int, key: TrackKey, reference: SourceReference | None
    ) -> tuple[RecordingJobState, str | None]:
        idle = RecordingJobState.IDLE, None
        if not takes_part(job):
            return idle
        if reference is None or reference.type != RECEIVER_TYPE:
            return RecordingJobState.ERROR, "this device records from receivers only"
        winner = self._assignment.winner(key)
        if winner is None or (winner.job, winner.source, winner.line) != (job.token, index, line):
            return idle
        receiver = self._receivers.get(winner.receiver)
        if receiver is None:
            return RecordingJobState.ERROR, f"the receiver {winner.receiver} does not exist"
        if receiver.configuration.mode is ReceiverMode.NEVER_CONNECT:
            return idle
        if not receiver.configuration.media_uri:
            return RecordingJobState.ERROR, NO_MEDIA_URI
        source = self._sources.get(winner.receiver)
        return idle if source is None else source.track_state(key)

    def behind(self, key: TrackKey) -> int | None:
        """How much later than its time what goes to this track arrives, in nanoseconds, as far as its camera has told;
        None where no receiver feeds it."""
        winner = self._assignment.winner(key)
        source = self._sources.get(winner.receiver) if winner is not None else None
        return None if source is None else source.behind_ns

    def held_since(self, key: TrackKey) -> UtcNs | None:
        """The first instant of what has come of this track and has not been handed to storage; None where nothing
        waits."""
        winner = self._assignment.winner(key)
        source = self._sources.get(winner.receiver) if winner is not None else None
        return None if source is None else source.held_since(key)

    def receiver_state(self, token: ReceiverToken) -> ReceiverState:
        """Raises UnknownToken."""
        if token not in self._receivers:
            raise UnknownToken("Receiver", token)
        self._make_now(self._assignment.due_for(token), (token,))
        source = self._sources.get(token)
        return ReceiverState.NOT_CONNECTED if source is None else source.state

    def reception(self, token: ReceiverToken) -> Reception | None:
        """How a receiver fares; None for one that is not at work."""
        source = self._sources.get(token)
        return None if source is None else source.reception()

    def changed_receivers(self) -> list[ReceiverToken]:
        """Receivers at work with a track whose state is another than when this was asked last."""
        return [token for token, source in self._sources.items() if source.tracks_changed()]

    def counters(self) -> dict[ReceiverToken, ReceiverCounters]:
        """Since the start, of every receiver that is or was at work and still exists; for metrics."""
        found = dict(self._past)
        for source in (*self._leaving.values(), *self._sources.values()):
            if source.token in self._receivers:
                before, now = found.get(source.token), source.counters()
                found[source.token] = now if before is None else before + now
        return found

    def clock_votes(self) -> tuple[int, int]:
        """How many connected cameras have the time of this recorder, and how many another one."""
        votes = [source.clock_agrees for source in self._sources.values()]
        return votes.count(True), votes.count(False)

    @property
    def full_slices(self) -> int:
        """Slices of the drain that ended because their 5 ms were over; many of them mean too slow a machine."""
        return self._drain.slices_used_up

    # -- live edge ---------------------------------------------------------------------------------------------------

    def subscribe(self, key: TrackKey, tap: SampleTap) -> Callable[[], None]:
        """Hand every sample that is recorded into this track to `tap` as it comes, whichever job feeds it, until the
        returned function is called. The source is drained at the pace of somebody who watches meanwhile."""
        return self._subscriptions.add(key, tap)

    def offers(self, token: ReceiverToken) -> Sequence[LiveOffer]:
        """What a receiver sends, or sent when it was connected last since the start; empty while that is not known."""
        source, receiver = self._sources.get(token), self._receivers.get(token)
        if source is not None:
            return source.offers()
        uri, offers = self._offered.get(token, ("", ()))
        return offers if receiver is not None and receiver.configuration.media_uri == uri else ()

    def watch(self, token: ReceiverToken, tap: LiveTap) -> Callable[[], None]:
        """Tell `tap` of this receiver's sessions and samples until the returned function is called.

        A receiver in mode AutoConnect is connected for it (10.4: on demand), one in mode NeverConnect is not. The
        source is drained at the pace of somebody who watches.
        """
        self._live.setdefault(token, []).append(tap)
        source = self._sources.get(token)
        if source is not None:
            source.watch(tap)
        else:
            self._make_at_once(token)

        def unwatch() -> None:
            taps = self._live.get(token, [])
            if tap not in taps:
                return
            taps.remove(tap)
            if not taps:
                del self._live[token]
            at = self._sources.get(token)
            if at is not None:
                at.unwatch(tap)
            self._make_at_once(token)

        return unwatch

    def retry(self, token: ReceiverToken) -> bool:
        """Somebody waits for this receiver: the next attempt is made sooner. False where that may not be (a camera that
        has refused the password), or the receiver is not to be connected."""
        source = self._sources.get(token)
        return source is not None and source.retry()

    def _make_at_once(self, token: ReceiverToken) -> None:
        """Whether somebody watches has changed."""
        if self._running:
            self._make(token)
            self._subscriptions.follow()

    def _source_of(self, key: TrackKey) -> Source | None:
        """That of the job which has won the track."""
        winner = self._assignment.winner(key)
        return self._sources.get(winner.receiver) if winner is not None else None

    async def _tls(self) -> Trust:
        """Made once, on a thread: reading the system's certificates takes tens of milliseconds."""
        if self._trust is None:
            self._trust = await asyncio.to_thread(Trust.of, self._settings)
        return self._trust


def _log_fault(label: str, error: BaseException) -> None:
    logger.error("receiver %s: fault while disconnecting", label, exc_info=error)
