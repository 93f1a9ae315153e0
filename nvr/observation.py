"""What the daemon's parts count and whether they are well, in the shapes that web/ serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from itertools import accumulate

from nvr.auth.lockout import Lockout
from nvr.background import LOOP_DELAYS_NS, LoopDelays
from nvr.control.receivers import Receivers
from nvr.control.recordings import RecordingControl
from nvr.discovery.endpoint import Discovery
from nvr.events.broker import Broker
from nvr.events.delivery import Deliveries
from nvr.ingest.engine import IngestEngine
from nvr.model.receiver import ReceiverState
from nvr.model.time import NS, UtcNs, format_iso
from nvr.replay.relay import RelayMounts
from nvr.replay.server import RtspServer
from nvr.search.indexer import MetadataIndexer
from nvr.search.sessions import SearchSessions
from nvr.sources.ask import Outcome
from nvr.sources.cameras import Cameras
from nvr.storage.configuration import ConfigurationStore
from nvr.storage.engine import StorageEngine
from nvr.storage.index import SqlFootageIndex
from nvr.storage.volume import VolumeState
from nvr.web.metrics import Metric, Sample


class StorageObservation:
    """Volumes and their queues."""

    name = "storage"

    def __init__(self, storage: StorageEngine, configuration: ConfigurationStore, index: SqlFootageIndex) -> None:
        self._storage = storage
        self._configuration = configuration
        self._index = index

    def problems(self) -> Sequence[str]:
        """A volume that does not take footage is a problem as long as no other one does; an index that cannot be
        written, once as much waits for it as may."""
        if self._index.broken:
            return (self._index.broken,)
        if self._storage.index.full:
            return (f"{self._waiting()}; no new file is begun",)
        volumes = self._storage.volumes()
        if any(v.state is VolumeState.ONLINE for v in volumes):
            return ()
        return [f"volume {v.root} is {v.state}: {v.why}" for v in volumes]

    def warnings(self) -> Sequence[str]:
        """Volumes that do not take footage, or whose footage cannot be reached, while others do; footage that is not
        shown, or that is not there."""
        found = [
            f"volume {v.root} is {v.state}: {v.why}"
            for v in self._storage.volumes()
            if v.state is not VolumeState.ONLINE
        ]
        if self._storage.index.waiting:
            found.append(f"{self._waiting()}; recording goes on")
        if (doubt := self._storage.retention.clock.doubt) is not None:
            found.append(doubt)
        for c in self._storage.checking():
            if c.pending > c.failed:
                found.append(
                    f"volume {c.root}: {c.pending - c.failed} files that a crash left open are still being "
                    "checked; their footage is shown when that is done"
                )
            if c.failed:
                found.append(f"volume {c.root}: {c.failed} files that were open cannot be recovered; the log says why")
            if c.missing:
                found.append(
                    f"volume {c.root}: {c.missing} files of the index are not there, such as {c.first_missing}; "
                    "`nvr check` names them"
                )
        return found

    def _waiting(self) -> str:
        index = self._storage.index
        return f"the index of footage cannot be written: {index.trouble}; {index.waiting} rows wait in memory"

    def notes(self) -> Sequence[str]:
        """Checks that are under way beside recording."""
        found = [
            f"volume {c.root}: the files of {c.days} days of tracks are still being checked against the index"
            for c in self._storage.checking()
            if c.days
        ]
        if self._index.unchecked and not self._index.broken:
            found.append("the index of footage is still being checked")
        return found

    def metrics(self) -> Iterator[Metric]:
        volumes = self._storage.volumes()
        yield Metric(
            "nvr_volume_online",
            "Whether a volume takes footage.",
            "gauge",
            [Sample(float(v.state is VolumeState.ONLINE), {"root": str(v.root), "state": v.state}) for v in volumes],
        )
        yield Metric(
            "nvr_volume_free_bytes",
            "Free space of a volume.",
            "gauge",
            [Sample(float(v.free), {"root": str(v.root)}) for v in volumes if v.free is not None],
        )
        checking = self._storage.checking()
        for name, text, values in (
            (
                "nvr_volume_pending_files",
                "Files left open by a crash that are not shown yet.",
                [c.pending for c in checking],
            ),
            (
                "nvr_volume_unchecked_days",
                "Days of tracks still to be compared with the index.",
                [c.days for c in checking],
            ),
            ("nvr_volume_missing_files", "Files of the index that are not there.", [c.missing for c in checking]),
            (
                "nvr_volume_unknown_files",
                "Files that have no row in the index and get none.",
                [c.strange for c in checking],
            ),
        ):
            samples = [Sample(float(n), {"root": str(c.root)}) for c, n in zip(checking, values, strict=True)]
            yield Metric(name, text, "gauge", samples)
        yield _single(
            "nvr_index_unchecked", "Whether the index is still being checked.", "gauge", self._index.unchecked
        )
        text = "Rows that wait in memory because the index cannot be written."
        yield _single("nvr_index_waiting_rows", text, "gauge", self._storage.index.waiting)
        text = "How often the index has ceased to be writable."
        yield _single("nvr_index_failures_total", text, "counter", self._storage.index.failures)
        yield Metric(
            "nvr_volume_state",
            "1 for the state that a volume is in.",
            "gauge",
            [Sample(float(v.state is s), {"root": str(v.root), "state": s}) for v in volumes for s in VolumeState],
        )
        for name, text, kind, value in (
            ("nvr_volume_failures_total", "How often a volume has ceased to take footage.", "counter", "failures"),
            ("nvr_volume_queued_bytes", "Bytes that wait to be written to a volume.", "gauge", "queued_bytes"),
            ("nvr_volume_refused_fragments_total", "Fragments that a volume's queue refused.", "counter", "refused"),
            ("nvr_volume_minimum_free_bytes", "What shall stay free on a volume.", "gauge", "minimum_free"),
        ):
            samples = [Sample(float(getattr(v, value)), {"root": str(v.root)}) for v in volumes]
            yield Metric(name, text, "counter" if kind == "counter" else "gauge", samples)
        limited = [v for v in volumes if v.quota]
        if limited:
            text = "Bytes of track files on a volume that has a quota."
            samples = [Sample(float(v.used or 0), {"root": str(v.root)}) for v in limited]
            yield Metric("nvr_volume_used_bytes", text, "gauge", samples)
            samples = [Sample(float(v.quota), {"root": str(v.root)}) for v in limited]
            yield Metric("nvr_volume_quota_bytes", "What track files may take of a volume.", "gauge", samples)
        retention = self._storage.retention
        deleted = retention.deleted.items()
        samples = [Sample(float(d.files), {"rule": rule}) for rule, d in deleted]
        yield Metric("nvr_retention_deleted_files_total", "Track files deleted by a rule.", "counter", samples)
        samples = [Sample(float(d.bytes), {"rule": rule}) for rule, d in deleted]
        yield Metric("nvr_retention_deleted_bytes_total", "Bytes of these files.", "counter", samples)
        text = "Sweeps of retention that could not do what they should."
        yield _single("nvr_retention_failures_total", text, "counter", retention.failures)
        clock = retention.clock
        text = "Whether the time of day is doubted, and nothing deleted for its age."
        yield _single("nvr_clock_doubted", text, "gauge", clock.doubted)
        yield _single("nvr_clock_doubts_total", "How often the time of day was doubted.", "counter", clock.doubts)
        yield _single("nvr_retention_holds", "Ranges of footage that are held now.", "gauge", len(retention.holds))
        yield _single("nvr_storage_queued_bytes", "Bytes that wait to be written.", "gauge", self._storage.queued_bytes)
        text = "Bytes that wait to be written, for an event, for a clock, or to be read."
        yield _single("nvr_memory_held_bytes", text, "gauge", self._storage.memory.used)
        text = "What may wait in all."
        yield _single("nvr_storage_memory_limit_bytes", text, "gauge", self._storage.memory.limit)
        yield _single(
            "nvr_storage_refused_fragments_total",
            "Fragments refused because the queue of a volume was full or no volume took footage.",
            "counter",
            self._storage.refused,
        )
        yield _single(
            "nvr_storage_lost_fragments_total",
            "Fragments that waited in a queue when their volume failed.",
            "counter",
            self._storage.lost,
        )
        yield _single(
            "nvr_configuration_snapshot_failures_total",
            "Snapshots of the configuration that could not be written to a volume.",
            "counter",
            self._configuration.snapshot_failures,
        )


class IngestObservation:
    """Receivers and what they have received. Counters carry the receiver's token, never its URI."""

    def __init__(self, ingest: IngestEngine, receivers: Receivers, control: RecordingControl) -> None:
        self._ingest = ingest
        self._receivers = receivers
        self._control = control

    def _cameras(self) -> Iterator[dict[str, str]]:
        """Labels that tell which receiver records what, under which name."""
        for job in self._control.jobs():
            source = self._control.recording(job.configuration.recording).configuration.source
            for reference in (s.source for s in job.configuration.sources if s.source is not None):
                yield {"receiver": reference.token, "recording": job.configuration.recording, "name": source.name}

    def metrics(self) -> Iterator[Metric]:
        tokens = [r.token for r in self._receivers.receivers()]
        yield Metric(
            "nvr_receiver_connected",
            "Whether a receiver is connected to its source.",
            "gauge",
            [Sample(float(self._ingest.receiver_state(t) is ReceiverState.CONNECTED), {"receiver": t}) for t in tokens],
        )
        text = "1 for each receiver that a recording job names; `name` is that of the camera."
        yield Metric("nvr_camera_info", text, "gauge", [Sample(1.0, labels) for labels in self._cameras()])
        yield _single(
            "nvr_ingest_full_slices_total",
            "Visits of the drain that used up their 5 ms of the event loop.",
            "counter",
            self._ingest.full_slices,
        )
        counted = [({"receiver": t}, c) for t, c in self._ingest.counters().items()]
        if not counted:
            return
        for name in (f.name for f in fields(counted[0][1])):
            samples = [Sample(float(getattr(c, name)), labels) for labels, c in counted]
            if name == "clock_overruled":
                text = "Whether the clock of a source is not believed now."
                yield Metric(f"nvr_receiver_{name}", text, "gauge", samples)
            else:
                text = f"Of a receiver since the start: {name.replace('_', ' ')}."
                yield Metric(f"nvr_receiver_{name}_total", text, "counter", samples)


class RtspObservation:
    """The RTSP server and the live relays of receivers."""

    def __init__(self, server: RtspServer, relays: RelayMounts) -> None:
        self._server = server
        self._relays = relays

    def metrics(self) -> Iterator[Metric]:
        yield _single("nvr_rtsp_connections", "RTSP connections open now.", "gauge", self._server.connections)
        yield _single(
            "nvr_rtsp_connections_refused_total",
            "RTSP connections turned away because there were too many.",
            "counter",
            self._server.refused_connections,
        )
        yield _single(
            "nvr_rtsp_handshakes_failed_total",
            "RTSP connections that have ended before their TLS handshake.",
            "counter",
            self._server.failed_handshakes,
        )
        yield _single(
            "nvr_rtsp_requests_refused_total",
            "RTSP requests answered with an error, the first 401 of a login aside.",
            "counter",
            self._server.refused_requests,
        )
        yield _single("nvr_rtsp_udp_streams", "Streams sent by UDP now.", "gauge", self._server.udp_streams)
        yield _single("nvr_live_viewers", "Who watches receivers live now.", "gauge", self._relays.viewers)
        queued = self._relays.budget.queued_bytes
        yield _single("nvr_live_queued_bytes", "What waits for viewers of receivers to take it.", "gauge", queued)
        yield _single(
            "nvr_live_dropped_units_total",
            "Access units that viewers of receivers have missed because they were too slow.",
            "counter",
            self._relays.dropped,
        )


class LockoutObservation:
    """Failed log-ins on HTTP, RTSP and in SOAP headers, and who has to wait. No names: /metrics is public."""

    def __init__(self, lockout: Lockout, clock: Callable[[], UtcNs]) -> None:
        self._lockout = lockout
        self._clock = clock

    def metrics(self) -> Iterator[Metric]:
        lockout, now_ns = self._lockout, self._clock()
        failures, refused = "nvr_login_failures_total", "nvr_login_refused_while_locked_total"
        yield _single(failures, "Wrong passwords and unknown names.", "counter", lockout.failures)
        yield _single(refused, "Log-ins refused because of a lock, right or not.", "counter", lockout.refused)
        yield _single("nvr_locked_users", "Accounts locked now.", "gauge", lockout.locked_users(now_ns))
        yield _single("nvr_locked_addresses", "Addresses locked now.", "gauge", lockout.locked_addresses(now_ns))


class EventObservation:
    """Who is told of events, and what has been lost on the way."""

    def __init__(self, broker: Broker, deliveries: Deliveries) -> None:
        self._broker = broker
        self._deliveries = deliveries

    def metrics(self) -> Iterator[Metric]:
        pull_points, consumers = self._broker.counts()
        yield Metric(
            "nvr_event_subscriptions",
            "Living subscriptions to events.",
            "gauge",
            [Sample(float(pull_points), {"kind": "pull"}), Sample(float(consumers), {"kind": "consumer"})],
        )
        yield _single("nvr_events_total", "Events that have happened.", "counter", self._broker.published)
        yield _single(
            "nvr_event_messages_dropped_total",
            "Messages that a subscription has lost because its queue was full.",
            "counter",
            self._broker.dropped,
        )
        yield _single(
            "nvr_event_deliveries_failed_total",
            "Messages given up because their consumer did not take them.",
            "counter",
            self._deliveries.failed,
        )


class SearchObservation:
    """Searches that are open, and how the index of camera events keeps up."""

    name = "search"

    def __init__(self, searches: SearchSessions, indexer: MetadataIndexer) -> None:
        self._searches = searches
        self._indexer = indexer

    def problems(self) -> Sequence[str]:
        return ()

    def warnings(self) -> Sequence[str]:
        """Events that are recorded and cannot be found."""
        missed = self._indexer.completeness().missed
        if not missed:
            return ()
        return (f"{missed} metadata tracks have files that cannot be read for now: their events are not found",)

    def notes(self) -> Sequence[str]:
        """Events that are not found yet."""
        complete = self._indexer.completeness()
        if complete.from_ns is None:
            return ()
        since = format_iso(max(complete.from_ns, 0), 0)
        return (f"the index of camera events is being made: {complete.older} tracks are not complete before {since}",)

    def metrics(self) -> Iterator[Metric]:
        searches = self._searches
        yield _single("nvr_searches", "Search sessions that are open.", "gauge", len(searches))
        yield _single(
            "nvr_searches_rows", "Rows that searches hold in hand to go on from, together.", "gauge", searches.held
        )
        indexer = self._indexer
        yield _single("nvr_metadata_documents_total", "Metadata documents indexed.", "counter", indexer.indexed)
        yield _single(
            "nvr_metadata_unreadable_total",
            "Metadata documents, fragments and events that could not be read for the index.",
            "counter",
            indexer.unreadable,
        )
        yield _single("nvr_metadata_tracks_behind", "Metadata tracks that wait to be indexed.", "gauge", indexer.lag)
        yield _single(
            "nvr_metadata_crowded_total",
            "Events of sources or topics beyond those that are told apart for each track.",
            "counter",
            indexer.crowded,
        )
        complete = indexer.completeness()
        for name, text, number in (
            ("incomplete", "Metadata tracks whose older footage is still being indexed.", complete.older),
            ("missed", "Metadata tracks with files that cannot be read for now.", complete.missed),
        ):
            yield _single(f"nvr_metadata_tracks_{name}", text, "gauge", number)
        if complete.from_ns is not None:
            text = "All metadata recorded since this time is indexed, older metadata not yet."
            yield _single("nvr_metadata_complete_since_seconds", text, "gauge", complete.from_ns // NS)


class CameraObservation:
    """How cameras have answered who they are."""

    def __init__(self, cameras: Cameras) -> None:
        self._cameras = cameras

    def metrics(self) -> Iterator[Metric]:
        samples = [Sample(float(self._cameras.outcomes[o]), {"outcome": o.value}) for o in Outcome]
        yield Metric("nvr_camera_questions_total", "Cameras asked who they are, by outcome.", "counter", samples)


class DiscoveryObservation:
    """Datagrams of WS-Discovery, by what became of them."""

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery

    def metrics(self) -> Iterator[Metric]:
        samples = [Sample(float(n), {"outcome": outcome}) for outcome, n in sorted(self._discovery.counts.items())]
        yield Metric("nvr_discovery_datagrams_total", "Datagrams of discovery that were heard.", "counter", samples)


class LoopObservation:
    """How late the event loop runs what is due: above 5 ms somebody holds it."""

    def __init__(self, delays: LoopDelays) -> None:
        self._delays = delays

    def metrics(self) -> Iterator[Metric]:
        delays = self._delays
        samples = [
            Sample(float(count), {"le": str(bound / NS)}, "_bucket")
            for bound, count in zip(LOOP_DELAYS_NS, accumulate(delays.counts), strict=False)
        ]
        total = float(sum(delays.counts))
        samples += [
            Sample(total, {"le": "+Inf"}, "_bucket"),
            Sample(delays.sum_ns / NS, suffix="_sum"),
            Sample(total, suffix="_count"),
        ]
        text = "How late the event loop wakes a sleeper."
        yield Metric("nvr_loop_delay_seconds", text, "histogram", samples)
        yield _single("nvr_tasks", "Tasks of the event loop.", "gauge", len(asyncio.all_tasks()))


def _single(name: str, text: str, kind: str, value: int) -> Metric:
    return Metric(name, text, "counter" if kind == "counter" else "gauge", [Sample(float(value))])
