"""Joins what tells events with what records by them (docs/design/event_recording.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from nvr.events.broker import Broker
from nvr.events.conditions import EventConditions
from nvr.events.publisher import Configured
from nvr.ingest.event_documents import EventDocuments
from nvr.ingest.gate import EventGate
from nvr.ingest.memory import HeldMemory
from nvr.media.unit import Sample as FootageSample
from nvr.model.event import Event
from nvr.model.job import RECEIVER_TYPE, RecordingEventFilter, RecordingJob
from nvr.model.notification import Notification, notification
from nvr.model.receiver import Receiver
from nvr.model.tokens import JobToken, ReceiverToken
from nvr.web.metrics import Metric, Sample


class EventRecording:
    """The gates of the jobs with an EventFilter. Belongs to the event loop."""

    def __init__(
        self,
        broker: Broker,
        jobs: Iterable[RecordingJob],
        memory: HeldMemory,
        label: Callable[[ReceiverToken], str] = str,
    ) -> None:
        """`jobs` are those configured at the start; documents that wait to be read count in `memory`; `label` is what
        log lines call a receiver."""
        self._broker = broker
        self._conditions = EventConditions(_gate, self._own)
        self.documents = EventDocuments(self._conditions.heard_from, memory, label)
        for job in jobs:
            self.changed(None, job)
        broker.watcher = self._told

    def changed(self, before: Configured | None, after: Configured | None) -> None:
        """An object of the configuration is new, another, or gone; called before ingest is told of it."""
        if isinstance(after, RecordingJob):
            sources = (s.source for s in after.configuration.sources)
            receivers = {ReceiverToken(s.token) for s in sources if s is not None and s.type == RECEIVER_TYPE}
            self._conditions.set_job(after.token, after.configuration.event_filter, receivers)
        elif isinstance(before, RecordingJob):
            self._conditions.set_job(before.token, None, ())
        elif isinstance(before, Receiver) and (
            not isinstance(after, Receiver) or before.configuration.media_uri != after.configuration.media_uri
        ):
            self.documents.forget(before.token)
            self._conditions.forget(before.token)
            if after is None:
                self.documents.forget_counts(before.token)

    # What ingest asks for

    def gate(self, job: JobToken) -> EventGate | None:
        """None for a job that records always."""
        return self._conditions.gate(job)

    def hears(self, receiver: ReceiverToken) -> bool:
        """Whether events of this receiver can make a job record."""
        return self._conditions.hears(receiver)

    def heard(self, receiver: ReceiverToken, sample: FootageSample) -> None:
        """A metadata document of a receiver."""
        self.documents.take(receiver, sample.data, sample.utc_ns)

    def _told(self, event: Event) -> None:
        self._conditions.heard_here(notification(event))

    def _own(self, wanted: Callable[[tuple[str, ...]], bool]) -> Iterator[Notification]:
        return (notification(state) for state in self._broker.states() if wanted(state.topic.names))


def _gate(wanted: RecordingEventFilter) -> EventGate:
    return EventGate(wanted.before_ns or 0, wanted.after_ns or 0)


class EventRecordingObservation:
    """What waits in memory for events, and the documents in which cameras tell them."""

    name = "event recording"

    def __init__(self, memory: HeldMemory, documents: EventDocuments) -> None:
        self._memory = memory
        self._documents = documents

    def problems(self) -> Sequence[str]:
        """None: what waits for an event that may never come keeps nobody from recording."""
        return ()

    def warnings(self) -> Sequence[str]:
        """Tracks of which less is held than Before asks for."""
        return self._memory.shortages()

    def notes(self) -> Sequence[str]:
        return ()

    def metrics(self) -> Iterator[Metric]:
        buffers = self._memory.buffers()
        labels = [
            {"recording": b.key.recording, "track": b.key.track, "name": self._memory.name_of(b.key.recording)}
            for b in buffers
        ]
        for name, text, values in (
            ("nvr_event_buffer_bytes", "What waits in memory for an event.", [b.held_bytes for b in buffers]),
            (
                "nvr_event_buffer_dropped_fragments_total",
                "Fragments dropped for want of memory although an event could still have asked for them.",
                [b.dropped for b in buffers],
            ),
        ):
            samples = [Sample(float(n), of) for n, of in zip(values, labels, strict=True)]
            yield Metric(name, text, "counter" if name.endswith("_total") else "gauge", samples)
        documents = self._documents
        text = "Metadata documents that wait to be read for events."
        yield Metric("nvr_event_documents_waiting", text, "gauge", [Sample(float(documents.waiting))])
        for name, text, counted in (
            (
                "nvr_event_documents_unread_total",
                "Metadata documents that could hold events and could not be read.",
                documents.unread,
            ),
            (
                "nvr_event_documents_dropped_total",
                "Metadata documents not read for events because too many waited.",
                documents.dropped,
            ),
        ):
            yield Metric(name, text, "counter", [Sample(float(n), {"receiver": t}) for t, n in counted.items()])
