"""The composition root: builds the daemon from its rooms, runs it, and ends it in the reverse order.

Start: lock, key, databases, volumes (with recovery), accounts, listeners, then recording. A step that fails undoes
those before it. Stop: commands, recording, listeners, storage, databases, lock, within a deadline.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Collection, Sequence
from uuid import UUID

from nvr.auth.credentials import Vault
from nvr.auth.lockout import Lockout
from nvr.auth.users import REALM, UserStore
from nvr.background import check_of_index, loop_probe, running
from nvr.clock_evidence import ClockEvidence, synchronised
from nvr.config import Endpoint, Settings
from nvr.control.device import DeviceMemory
from nvr.control.host_rules import NetworkProtocol
from nvr.control.receivers import Receivers
from nvr.control.recordings import RecordingControl
from nvr.control.replay import ReplayConfiguration
from nvr.control.state import ControlState
from nvr.data_directory import DataDirectory
from nvr.discovery.endpoint import Discovery
from nvr.discovery.links import Served
from nvr.event_recording import EventRecording, EventRecordingObservation
from nvr.events.broker import Broker
from nvr.events.delivery import Deliveries
from nvr.events.publisher import Configured, Publisher
from nvr.first_start import first_administrator, require_user_beyond_loopback
from nvr.http.consumer import Notifier
from nvr.http.listener import Address, Listener
from nvr.ingest.arbiter import SourceStream
from nvr.ingest.engine import IngestEngine
from nvr.ingest.memory import HeldMemory
from nvr.lifecycle import Parts
from nvr.model.errors import UnknownToken
from nvr.model.receiver import Receiver, TransportProtocol
from nvr.model.recording import Recording
from nvr.model.time import NS
from nvr.model.tokens import ReceiverToken, RecordingToken
from nvr.observation import (
    CameraObservation,
    DiscoveryObservation,
    EventObservation,
    IngestObservation,
    LockoutObservation,
    LoopObservation,
    RtspObservation,
    SearchObservation,
    StorageObservation,
)
from nvr.operations.access import operations_of
from nvr.operations.control_socket import ControlSocket
from nvr.operations.upkeep import UpkeepOperations
from nvr.replay.authentication import DigestAuthenticator
from nvr.replay.live import LiveBudget
from nvr.replay.mounts import Mounts, RecordingMounts
from nvr.replay.relay import RelayMounts
from nvr.replay.server import RtspServer
from nvr.rooms import Player, Recorder, Stores
from nvr.search.edge import Coming, LiveEdge
from nvr.search.indexer import MetadataIndexer
from nvr.search.sessions import SearchSessions
from nvr.server_tls import ServerTls
from nvr.services import Process, read_links, soap_of
from nvr.soap.device import fixed_scopes
from nvr.soap.rtsp_address import TRANSPORTS, RtspAddress
from nvr.soap.wsdl import Contract, contract_directory
from nvr.sources.cameras import Cameras
from nvr.storage.configuration import ConfigurationStore
from nvr.storage.engine import StorageEngine
from nvr.storage.events import EventIndex
from nvr.storage.index import SqlFootageIndex
from nvr.storage.volume import VolumeState, VolumeStatus
from nvr.storage.watcher import Watchers
from nvr.web.health import Part

log = logging.getLogger(__name__)

VOLUMES_STOP_S = 15.0
"""What the volumes have to write what is queued and close their files."""


class Daemon:
    """Everything, put together. Enter it to start, leave it to stop."""

    def __init__(self, directory: DataDirectory, settings: Settings) -> None:
        """`directory` is locked by the caller."""
        self.restart_wanted = False
        """Whether the daemon has stopped to be started again."""
        self._stop: asyncio.Event | None = None
        self._directory = directory
        self._settings = settings
        self.http = settings.listen.http
        self.rtsp = settings.listen.rtsp
        self.https = settings.listen.https
        self.rtsps = settings.listen.rtsps

    @property
    def addresses(self) -> str:
        """Where it listens, ports as they are, parted by spaces."""
        named = (("http", self.http), ("rtsp", self.rtsp), ("https", self.https), ("rtsps", self.rtsps))
        return " ".join(f"{scheme}://{endpoint}" for scheme, endpoint in named if endpoint is not None)

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> bool:
        """Starts, calls `ready`, and stops when `stop` is set, which may be before the start has ended.

        Whether every part has ended as it should. Raises NvrError when it cannot start.
        """
        self._stop = stop
        parts = Parts()
        starting = asyncio.create_task(self._start(parts))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                log.info("told to end before the start has ended")
                starting.cancel()
                await asyncio.wait({starting})
            if not starting.cancelled():
                starting.result()
                if not stop.is_set():
                    ready()
                await stopping
        finally:
            stopping.cancel()
            in_order = await parts.stop()
        return in_order

    def restart(self) -> None:
        """Stops in order; whoever runs the daemon finds `restart_wanted` and starts it again."""
        assert self._stop is not None, "nobody can ask before the daemon runs"
        self.restart_wanted = True
        self._stop.set()

    def _protocols(self) -> tuple[NetworkProtocol, ...]:
        """Where clients reach the services."""
        found = (("HTTP", self.http), ("HTTPS", self.https), ("RTSP", self.rtsp))
        return tuple(NetworkProtocol(name, True, (endpoint.port,)) for name, endpoint in found if endpoint is not None)

    def _served(self) -> tuple[Served, ...]:
        """Where the device service is found."""
        found = (("http", self.http), ("https", self.https))
        return tuple(Served(scheme, e.host, e.port) for scheme, e in found if e is not None)

    async def _start(self, parts: Parts) -> None:
        settings = self._settings
        stores = await self._open_stores(parts)
        await first_administrator(stores.users)
        require_user_beyond_loopback(stores.users, settings)
        recorder = await self._make_recorder(parts, stores)
        broker, deliveries, told_of_events = await self._start_events(parts, recorder)
        lockout = Lockout(lambda name: stores.users.user(name) is not None, settings.auth.lockout)
        tls = await self._open_tls(parts)
        memory = DeviceMemory(stores.stored.device, stores.configuration, fixed_scopes(settings.device))
        player = await self._start_rtsp(parts, recorder, lockout, tls, memory)
        loop_delays = await parts.enter("loop probe", loop_probe())
        ingest, storage = recorder.ingest, stores.storage
        searches = SearchSessions(
            recorder.control,
            storage,
            settings.search,
            archive=stores.archive,
            files=storage.index,
            source_of=recorder.cameras.source,
            edge=LiveEdge(recorder.indexer.reach, Coming(ingest.behind, ingest.held_since, storage.unwritten_since)),
        )
        parts.started("searches", searches.stop)

        def revoked(names: Collection[str]) -> None:
            broker.end_of(names)
            player.server.end_of(names)
            searches.end_of(names)

        stores.users.watcher = revoked
        await parts.enter("camera descriptions", running(recorder.cameras.run(), "what cameras say of themselves"))
        process = Process(self.restart, self._protocols, self._served)
        soap = soap_of(settings, recorder, player, (broker, deliveries), searches, memory, lockout, process)
        discovery = Discovery(settings.discovery, memory, UUID(hex=stores.configuration.installation), read_links)
        told_of_storage = StorageObservation(stores.storage, stores.configuration, stores.index)
        told_of_searches = SearchObservation(searches, recorder.indexer)
        listener = Listener(
            settings.http,
            soap,
            Contract(contract_directory()),
            parts=(told_of_storage, told_of_events, told_of_searches),
            sources=(
                told_of_storage,
                IngestObservation(recorder.ingest, recorder.receivers, recorder.control),
                RtspObservation(player.server, player.relays),
                LockoutObservation(lockout, time.time_ns),
                DiscoveryObservation(discovery),
                EventObservation(broker, deliveries),
                told_of_events,
                told_of_searches,
                CameraObservation(recorder.cameras),
                LoopObservation(loop_delays),
            ),
            tls=tls,
            tunnels=player.server,
        )
        await self._start_http(parts, listener)
        # Requests that wait for messages are answered before the listener ends.
        parts.started("event broker", broker.stop)

        recorder.control.start()
        await recorder.ingest.start()
        parts.started("receivers", recorder.ingest.stop)
        await self._start_commands(parts, recorder, (told_of_storage, told_of_events, told_of_searches))
        stores.storage.recover()  # now that cameras are recorded
        await parts.enter("check of the index", check_of_index(stores.index))
        await discovery.start(self._served())  # its Hello says that everything else answers
        parts.started("discovery", discovery.stop)

    async def _open_stores(self, parts: Parts) -> Stores:
        vault = await asyncio.to_thread(Vault.load_or_create, self._directory.path)
        roots = [v.root for v in self._settings.storage.volumes]
        configuration = await asyncio.to_thread(ConfigurationStore.open, self._directory.configuration, vault, roots)
        parts.started("configuration", configuration.close)
        index = await asyncio.to_thread(SqlFootageIndex.open, self._directory.index)
        parts.started("index of footage", index.shut)
        storage = StorageEngine(self._settings.storage, index)
        storage.retention.clock.evidence = synchronised
        await storage.start(recover=False)
        parts.started("volumes", storage.stop, VOLUMES_STOP_S)
        await asyncio.to_thread(configuration.write_snapshots)  # volumes are there now
        stored = await asyncio.to_thread(configuration.load)
        users = UserStore(vault, configuration, stored.users, passwords=self._settings.auth.passwords)
        archive = await asyncio.to_thread(EventIndex.open, self._directory.events)
        parts.started("index of camera events", archive.shut)
        return Stores(configuration, stored, users, index, storage, archive)

    async def _make_recorder(self, parts: Parts, stores: Stores) -> Recorder:
        """Nothing of it runs yet."""
        settings = self._settings
        ingest = IngestEngine(stores.storage, settings.ingest, memory=HeldMemory(stores.storage.memory))
        stores.storage.retention.clock.evidence = ClockEvidence(ingest.clock_votes)
        state = await ControlState.load(stores.configuration, ingest, settings.control)
        control = RecordingControl(state, stores.storage)

        def retention_of(token: RecordingToken) -> int:
            recording = state.now.recordings.get(token)
            return 0 if recording is None else recording.configuration.maximum_retention_ns

        stores.storage.retention_of = retention_of
        for unknown in {r.recording for r in settings.storage.recordings} - set(state.now.recordings):
            log.warning("storage.recordings: there is no recording %r; what is said of it has no effect", unknown)
        receivers = Receivers(state)
        authorities = settings.ingest.tls_ca_file
        verify = settings.ingest.tls_verify and (True if authorities is None else str(authorities))
        wsdl = contract_directory() / "devicemgmt.wsdl"
        cameras = Cameras(settings.cameras, receivers, wsdl, verify=verify, label=ingest.label)

        def streams_known(token: ReceiverToken, streams: Sequence[SourceStream]) -> None:
            control.streams_known(token, streams)
            cameras.connected(token)

        ingest.on_streams = streams_known
        parts.started("recording control", control.stop)
        indexer = MetadataIndexer(stores.storage, stores.storage.index, stores.archive)
        return Recorder(stores, state, control, receivers, ingest, cameras, indexer)

    async def _open_tls(self, parts: Parts) -> ssl.SSLContext | None:
        """The context of the listeners that speak TLS; None where there is none, and no certificate is needed."""
        secure = self._settings.listen.secure()
        if not secure:
            return None
        tls = ServerTls(self._settings.http, self._directory.path)
        parts.started("certificate", tls.stop)
        return await tls.start([endpoint.host for endpoint in secure])

    async def _start_events(
        self, parts: Parts, recorder: Recorder
    ) -> tuple[Broker, Deliveries, EventRecordingObservation]:
        """The broker, told by control, ingest and storage; and the indexer, told of footage as well."""
        state, storage = recorder.state, recorder.stores.storage
        broker = Broker(self._settings.events)
        notifier = Notifier(self._settings.events.consumer_timeout_ns / NS)
        parts.started("event deliveries", notifier.stop)
        deliveries = Deliveries(broker, notifier)
        parts.started("event subscriptions", deliveries.stop)
        publisher = Publisher(broker, recorder.control, storage.timeline, recorder.ingest.changed_receivers)
        publisher.start(state.now.receivers.values(), storage.volumes())
        held = recorder.ingest.memory
        event_recording = EventRecording(broker, state.now.jobs.values(), held, recorder.ingest.label)
        recorder.ingest.gates = event_recording
        documents = event_recording.documents
        await parts.enter("events of cameras", running(documents.run(), "the events of cameras"))

        def changed(before: Configured | None, after: Configured | None) -> None:
            event_recording.changed(before, after)
            publisher.changed(before, after)

        state.watcher = changed
        recorder.ingest.watcher = publisher
        storage.watcher = Watchers(publisher, recorder.indexer)

        def volume_changed(status: VolumeStatus) -> None:
            publisher.volume_changed(status)
            recorder.indexer.volume_changed(status)

        storage.on_volume = volume_changed
        await parts.enter("job states", running(publisher.run(), "states of recording jobs"))
        await parts.enter("metadata indexer", running(recorder.indexer.run(), "the index of camera events"))
        return broker, deliveries, EventRecordingObservation(held, documents)

    async def _start_rtsp(
        self, parts: Parts, recorder: Recorder, lockout: Lockout, tls: ssl.SSLContext | None, memory: DeviceMemory
    ) -> Player:
        settings = self._settings
        budget = LiveBudget(settings.rtsp.live_buffer_bytes)
        relays = RelayMounts(_receiver_finder(recorder.receivers), recorder.ingest, budget=budget)
        stores = recorder.stores
        mounts = Mounts(RecordingMounts(_recording_finder(recorder.control), stores.storage), receivers=relays)
        replay = ReplayConfiguration(memory, settings.rtsp.session_timeout_ns)
        algorithms = settings.auth.digest_algorithms
        authenticator = DigestAuthenticator(stores.users, REALM, algorithms=algorithms, lockout=lockout)
        server = RtspServer(mounts, authenticator, settings.rtsp, replay_timeout_ns=lambda: replay.session_timeout_ns)
        parts.started("RTSP server", server.stop)
        self.rtsp = Endpoint(self.rtsp.host, await server.start(self.rtsp.host, self.rtsp.port))
        if self.rtsps is not None:
            self.rtsps = Endpoint(self.rtsps.host, await server.start(self.rtsps.host, self.rtsps.port, tls))
        address = RtspAddress(
            self.rtsp.port,
            None if self.rtsps is None else self.rtsps.port,
            settings.replay.public_address,
            settings.replay.public_tls_address,
            TRANSPORTS if settings.rtsp.maximum_udp_streams else TRANSPORTS - {TransportProtocol.UDP},
            server.udp_ports,
        )
        return Player(server, relays, replay, address)

    async def _start_http(self, parts: Parts, listener: Listener) -> None:
        listen = self._settings.listen
        addresses = [Address(listen.http.host, listen.http.port)]
        if listen.https is not None:
            addresses.append(Address(listen.https.host, listen.https.port, tls=True))
        bound = await listener.start(addresses)
        parts.started("HTTP listener", listener.stop)
        self.http = Endpoint(bound[0].host, bound[0].port)
        if listen.https is not None:
            self.https = Endpoint(bound[1].host, bound[1].port)

    async def _start_commands(self, parts: Parts, recorder: Recorder, told: Sequence[Part]) -> None:
        storage = recorder.stores.storage
        upkeep = UpkeepOperations(
            mend=storage.mend,
            row_waits=storage.row_waits,
            health=lambda: [what for part in told for what in (*part.problems(), *part.warnings())],
            volumes=lambda: [(v.root, v.id) for v in storage.volumes() if v.state is not VolumeState.MISSING],
            confirm_clock=lambda: storage.retention.clock.confirm("an operator says so"),
        )
        operations = operations_of(
            recorder.stores.users,
            recorder.control,
            recorder.receivers,
            storage,
            upkeep,
            reception=recorder.ingest.reception,
        )
        commands = ControlSocket(self._directory.path, operations)
        await commands.start()
        parts.started("control socket", commands.stop)


def _recording_finder(control: RecordingControl) -> Callable[[str], Recording | None]:
    def find(token: str) -> Recording | None:
        try:
            return control.recording(RecordingToken(token))
        except UnknownToken:
            return None

    return find


def _receiver_finder(receivers: Receivers) -> Callable[[str], Receiver | None]:
    def find(token: str) -> Receiver | None:
        try:
            return receivers.receiver(ReceiverToken(token))
        except UnknownToken:
            return None

    return find
