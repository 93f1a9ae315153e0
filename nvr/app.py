"""The composition root: builds the daemon from its rooms, runs it, and ends it in the reverse order.

Start: lock, key, databases, volumes (with recovery), accounts, listeners, then recording. A step that fails undoes
those before it. Stop: commands, recording, listeners, storage, databases, lock, within a deadline.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence, Sized
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn
from uuid import UUID

from nvr import __version__
from nvr.auth.access import Role
from nvr.auth.credentials import Vault
from nvr.auth.digest import DigestPolicy, DigestServer
from nvr.auth.lockout import Lockout
from nvr.auth.username_token import UsernameTokenVerifier
from nvr.auth.users import REALM, UserStore
from nvr.config import ADMIN_PASSWORD_VARIABLE, Endpoint, Settings, admin_password
from nvr.control.device import DeviceMemory
from nvr.control.host_rules import NetworkProtocol
from nvr.control.receivers import Receivers
from nvr.control.recordings import RecordingControl
from nvr.control.replay import ReplayConfiguration
from nvr.control.state import ControlState
from nvr.control.system import DeviceSystem
from nvr.data_directory import DataDirectory
from nvr.discovery.endpoint import Discovery
from nvr.discovery.links import Link, Served, is_wanted
from nvr.event_recording import EventRecording
from nvr.events.broker import Broker
from nvr.events.delivery import Deliveries
from nvr.events.publisher import Configured, Publisher
from nvr.http.consumer import Notifier
from nvr.http.listener import Address, Listener
from nvr.ingest.arbiter import SourceStream
from nvr.ingest.engine import IngestEngine
from nvr.lifecycle import Parts
from nvr.model.errors import NvrError, OperatorError, Refused, UnknownToken
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
from nvr.operations import ControlSocket, Operations
from nvr.replay.authentication import DigestAuthenticator
from nvr.replay.mounts import Mounts, RecordingMounts
from nvr.replay.relay import RelayMounts
from nvr.replay.server import RtspServer
from nvr.replay.websocket import PATH as WEBSOCKET_PATH
from nvr.search.indexer import MetadataIndexer
from nvr.search.sessions import SearchSessions
from nvr.server_tls import ServerTls
from nvr.soap.device import DeviceService, fixed_scopes
from nvr.soap.event import EventService, SubscriptionService
from nvr.soap.host_network import HostNetwork
from nvr.soap.media import MediaService
from nvr.soap.protocol import Soap
from nvr.soap.receiver import ReceiverService
from nvr.soap.recording import RecordingService
from nvr.soap.replay import ReplayService
from nvr.soap.rtsp_address import TRANSPORTS, RtspAddress
from nvr.soap.search import SearchService
from nvr.soap.security import Security
from nvr.soap.wsdl import Contract, contract_directory
from nvr.sources.cameras import Cameras
from nvr.storage.configuration import ConfigurationStore
from nvr.storage.engine import StorageEngine
from nvr.storage.events import EventIndex
from nvr.storage.index import SqlFootageIndex
from nvr.storage.volume import VolumeState
from nvr.storage.watcher import Watchers

log = logging.getLogger(__name__)

VOLUMES_STOP_S = 15.0
"""What the volumes have to write what is queued and close their files."""
ONE_SIGNAL_S = 1.0
"""Signals to end that come so soon behind the first are the same one: who ends a process and its group sends two."""
_LOOP_PROBE_S = 0.25


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
        vault = await asyncio.to_thread(Vault.load_or_create, self._directory.path)
        roots = [v.root for v in settings.storage.volumes]
        configuration = await asyncio.to_thread(ConfigurationStore.open, self._directory.configuration, vault, roots)
        parts.started("configuration", configuration.close)
        index = await asyncio.to_thread(SqlFootageIndex.open, self._directory.index)
        parts.started("index of footage", index.shut)
        storage = StorageEngine(settings.storage, index)
        await storage.start(recover=False)
        parts.started("volumes", storage.stop, VOLUMES_STOP_S)
        await asyncio.to_thread(configuration.write_snapshots)  # volumes are there now

        stored = await asyncio.to_thread(configuration.load)
        users = UserStore(vault, configuration, stored.users, passwords=settings.auth.passwords)
        await _first_administrator(users)
        _require_user_beyond_loopback(users, settings)

        ingest = IngestEngine(storage, settings.ingest)
        state = await ControlState.load(configuration, ingest, settings.control)
        control = RecordingControl(state, storage)
        storage.retention_of = _retention_finder(state)
        receivers = Receivers(state)
        contract = contract_directory()
        authorities = settings.ingest.tls_ca_file
        verify = settings.ingest.tls_verify and (True if authorities is None else str(authorities))
        cameras = Cameras(settings.cameras, receivers, contract / "devicemgmt.wsdl", verify=verify)

        def streams_known(token: ReceiverToken, streams: Sequence[SourceStream]) -> None:
            control.streams_known(token, streams)
            cameras.connected(token)

        ingest.on_streams = streams_known
        parts.started("recording control", control.stop)
        archive = await asyncio.to_thread(EventIndex.open, self._directory.events)
        parts.started("index of camera events", archive.shut)
        indexer = MetadataIndexer(storage, index, archive)
        broker, deliveries = await self._start_events(parts, state, control, storage, ingest, indexer)

        lockout = Lockout(lambda name: users.user(name) is not None, settings.auth.lockout)
        tls = await self._open_tls(parts)
        relays = RelayMounts(_receiver_finder(receivers), ingest)
        mounts = Mounts(RecordingMounts(_recording_finder(control), storage), receivers=relays)
        memory = DeviceMemory(stored.device, configuration, fixed_scopes(settings.device))
        replay = ReplayConfiguration(memory, settings.rtsp.session_timeout_ns)
        rtsp = await self._start_rtsp(parts, mounts, users, lockout, tls, replay)

        def revoked(names: Collection[str]) -> None:
            broker.end_of(names)
            rtsp.end_of(names)

        users.watcher = revoked
        public = settings.replay
        rtsp_address = RtspAddress(
            self.rtsp.port,
            None if self.rtsps is None else self.rtsps.port,
            public.public_address,
            public.public_tls_address,
            TRANSPORTS if settings.rtsp.maximum_udp_streams else TRANSPORTS - {TransportProtocol.UDP},
            rtsp.udp_ports,
        )
        worst_delay = await parts.enter("loop probe", _loop_probe())
        searches = SearchSessions(
            control,
            storage,
            settings.search,
            archive=archive,
            files=index,
            source_of=cameras.source,
            reach=indexer.reach,
        )
        parts.started("searches", searches.stop)
        await parts.enter("camera descriptions", _running(cameras.run(), "what cameras say of themselves"))
        services = (
            RecordingService(control, settings.control),
            ReceiverService(receivers, settings.control),
            SearchService(searches),
            EventService(broker, deliveries),
            ReplayService(control, rtsp_address, replay, WEBSOCKET_PATH),
            MediaService(
                receivers, control, ingest.offers, settings.control, rtsp_address, settings.rtsp.session_timeout_ns
            ),
        )
        device = DeviceService(
            settings.device,
            configuration.installation,
            services,
            time.time_ns,
            users=users,
            memory=memory,
            endpoint=UUID(hex=configuration.installation),
            system=DeviceSystem(
                memory,
                control,
                receivers,
                users,
                self.restart,
                hard_default_allowed=settings.device.allow_hard_default,
            ),
            protocols=self._protocols,
            discovery=is_wanted(settings.discovery, self._served()),
            ip_version6=any(e.ip_version6 for e in settings.listen.endpoints()),
            tls=settings.listen.https is not None,
            hashing_algorithms=settings.auth.digest_algorithms,
        )
        discovery = Discovery(settings.discovery, memory, UUID(hex=configuration.installation), _read_links)
        policy = DigestPolicy(settings.auth.digest_algorithms)
        security = Security(
            users.role,
            DigestServer(REALM, users.ha1, policy),
            UsernameTokenVerifier(users.password, skew_ns=settings.auth.username_token_skew_ns),
            time.time_ns,
            lockout,
        )
        soap = Soap((device, *services, SubscriptionService(broker)), security, settings.http.body_bytes)
        storage_observation = StorageObservation(storage, configuration, index)
        listener = Listener(
            settings.http,
            soap,
            Contract(contract),
            parts=(storage_observation,),
            sources=(
                storage_observation,
                IngestObservation(ingest, receivers, control),
                RtspObservation(rtsp, relays),
                LockoutObservation(lockout, time.time_ns),
                DiscoveryObservation(discovery),
                EventObservation(broker, deliveries),
                SearchObservation(searches, indexer),
                CameraObservation(cameras),
                LoopObservation(worst_delay),
            ),
            tls=tls,
            tunnels=rtsp,
        )
        await self._start_http(parts, listener)
        parts.started(
            "event broker", broker.stop
        )  # requests that wait for messages are answered before the listener ends

        control.start()
        await ingest.start()
        parts.started("receivers", ingest.stop)
        operations = Operations(
            users,
            control,
            receivers,
            remark=ingest.remark,
            mend=storage.mend,
            health=lambda: (*storage_observation.problems(), *storage_observation.warnings()),
            volumes=lambda: [(v.root, v.id) for v in storage.volumes() if v.state is not VolumeState.MISSING],
            oldest=storage.begin_of,
        )
        commands = ControlSocket(self._directory.path, operations)
        await commands.start()
        parts.started("control socket", commands.stop)
        storage.recover()  # now that cameras are recorded
        await parts.enter("check of the index", _checking(index))
        await discovery.start(self._served())  # its Hello says that everything else answers
        parts.started("discovery", discovery.stop)

    async def _open_tls(self, parts: Parts) -> ssl.SSLContext | None:
        """The context of the listeners that speak TLS; None where there is none, and no certificate is needed."""
        secure = self._settings.listen.secure()
        if not secure:
            return None
        tls = ServerTls(self._settings.http, self._directory.path)
        parts.started("certificate", tls.stop)
        return await tls.start([endpoint.host for endpoint in secure])

    async def _start_events(
        self,
        parts: Parts,
        state: ControlState,
        control: RecordingControl,
        storage: StorageEngine,
        ingest: IngestEngine,
        indexer: MetadataIndexer,
    ) -> tuple[Broker, Deliveries]:
        """The broker, told by control, ingest and storage; and the indexer, told of footage as well."""
        broker = Broker(self._settings.events)
        notifier = Notifier(self._settings.events.consumer_timeout_ns / NS)
        parts.started("event deliveries", notifier.stop)
        deliveries = Deliveries(broker, notifier)
        parts.started("event subscriptions", deliveries.stop)
        publisher = Publisher(broker, control, storage.timeline, ingest.changed_receivers)
        publisher.start(state.now.receivers.values(), storage.volumes())
        event_recording = EventRecording(broker, state.now.jobs.values())
        ingest.gates = event_recording

        def changed(before: Configured | None, after: Configured | None) -> None:
            event_recording.changed(before, after)
            publisher.changed(before, after)

        state.watcher = changed
        ingest.watcher = publisher
        storage.watcher = Watchers(publisher, indexer)
        storage.on_volume = publisher.volume_changed
        await parts.enter("job states", _running(publisher.run(), "states of recording jobs"))
        await parts.enter("metadata indexer", _running(indexer.run(), "the index of camera events"))
        return broker, deliveries

    async def _start_rtsp(
        self,
        parts: Parts,
        mounts: Mounts,
        users: UserStore,
        lockout: Lockout,
        tls: ssl.SSLContext | None,
        replay: ReplayConfiguration,
    ) -> RtspServer:
        algorithms = self._settings.auth.digest_algorithms
        authenticator = DigestAuthenticator(users, REALM, algorithms=algorithms, lockout=lockout)
        server = RtspServer(
            mounts, authenticator, self._settings.rtsp, replay_timeout_ns=lambda: replay.session_timeout_ns
        )
        parts.started("RTSP server", server.stop)
        self.rtsp = Endpoint(self.rtsp.host, await server.start(self.rtsp.host, self.rtsp.port))
        if self.rtsps is not None:
            self.rtsps = Endpoint(self.rtsps.host, await server.start(self.rtsps.host, self.rtsps.port, tls))
        return server

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


def _retention_finder(state: ControlState) -> Callable[[RecordingToken], int]:
    def find(token: RecordingToken) -> int:
        recording = state.now.recordings.get(token)
        return 0 if recording is None else recording.configuration.maximum_retention_ns

    return find


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


def _read_links() -> list[Link]:
    """The interfaces of the host on which something can be heard. Blocking."""
    return [
        Link(i.name, i.loopback, tuple(ipaddress.ip_interface((a.address, a.prefix_length)) for a in i.addresses))
        for i in HostNetwork().interfaces()
        if i.up and (i.multicast or i.loopback)
    ]


async def _first_administrator(users: UserStore) -> None:
    password = admin_password()
    if password is None:
        return
    if len(users):
        log.info("%s is ignored: there are users already", ADMIN_PASSWORD_VARIABLE)
        return
    try:
        await users.add("admin", Role.ADMINISTRATOR, password)
    except Refused as e:
        raise OperatorError(f"{ADMIN_PASSWORD_VARIABLE}: {e}") from e
    log.info("user admin made from %s", ADMIN_PASSWORD_VARIABLE)


def _before_first_start(settings: Settings) -> None:
    """What would forbid a start is told before a data directory is made for it. Raises OperatorError."""
    if admin_password() is None:
        _require_user_beyond_loopback((), settings)
    for endpoint in settings.listen.endpoints():
        try:
            found = socket.getaddrinfo(
                endpoint.host or None, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, kind, protocol, _, address = found[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen()
        except OSError as e:
            raise OperatorError(f"cannot listen at {endpoint}: {e.strerror or e}; nothing was made") from e


def _require_user_beyond_loopback(users: Sized, settings: Settings) -> None:
    exposed = [e for e in settings.listen.endpoints() if not e.loopback]
    if exposed and not len(users):
        raise OperatorError(
            f"there is no user, and {exposed[0]} is not a loopback address: make one with `nvr user add`, "
            f"or set {ADMIN_PASSWORD_VARIABLE} for the first start"
        )


@asynccontextmanager
async def _running(work: Coroutine[object, object, None], name: str) -> AsyncIterator[None]:
    """A task that runs until the daemon stops; that it has ended before is an error of ours, and told."""
    task = asyncio.create_task(work, name=name)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            log.error("the task for %s has ended", name, exc_info=task.exception())

    task.add_done_callback(ended)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def _checking(index: SqlFootageIndex) -> AsyncIterator[None]:
    """Checks an index beside its use that was too large to be checked before."""
    ending = threading.Event()

    async def check() -> None:
        begin = time.monotonic()
        try:
            await asyncio.to_thread(index.check, lambda: not ending.is_set())
        except NvrError as e:
            log.error("%s", e)
        else:
            log.info("the index of footage has been checked in %.1f s", time.monotonic() - begin)

    task = asyncio.create_task(check(), name="check of the index") if index.unchecked else None
    try:
        yield
    finally:
        ending.set()
        if task is not None:
            await asyncio.wait([task])


@asynccontextmanager
async def _loop_probe() -> AsyncIterator[Callable[[], int]]:
    """Measures how late the loop wakes a sleeper; gives the worst delay in nanoseconds since it was asked last."""
    worst = 0

    async def probe() -> None:
        nonlocal worst
        while True:
            due = time.monotonic_ns() + int(_LOOP_PROBE_S * NS)
            await asyncio.sleep(_LOOP_PROBE_S)
            worst = max(worst, time.monotonic_ns() - due)

    def read() -> int:
        nonlocal worst
        seen, worst = worst, 0
        return seen

    task = asyncio.create_task(probe())
    try:
        yield read
    finally:
        task.cancel()


def serve(data: Path, settings: Settings, ready: Callable[[str], None]) -> bool:
    """`nvr serve`: until SIGTERM or SIGINT, or until a client asks for a restart, which is what True says.

    A second signal, a second or more behind the first, ends it at once, as does a part that does not end: what is on
    the disk then is what kill -9 leaves.
    `ready` gets one line when the daemon is. Raises NvrError.
    """
    if not (data / "config.db").exists():
        _before_first_start(settings)
    with DataDirectory(data) as directory:
        return asyncio.run(_serve(directory, settings, ready))


async def _serve(directory: DataDirectory, settings: Settings, ready: Callable[[str], None]) -> bool:
    stop, told_to_end = asyncio.Event(), asyncio.Event()

    told_s = 0.0

    def end() -> None:
        nonlocal told_s
        now_s = asyncio.get_running_loop().time()
        if told_to_end.is_set() and now_s - told_s > ONE_SIGNAL_S:
            _leave("told a second time to end: leaving at once")
        if not told_to_end.is_set():
            told_s = now_s
        told_to_end.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    daemon = Daemon(directory, settings)

    def started() -> None:
        spare_the_collector()
        ready(f"nvr {__version__} is ready: {daemon.addresses}")

    if not await daemon.run(stop, started):
        _leave("not every part has ended as it should: leaving all the same")
    # Who ends a daemon that is about to restart wants it to end.
    return daemon.restart_wanted and not told_to_end.is_set()


def _leave(why: str) -> NoReturn:
    """Ends the process with status 1 without waiting for threads, which may hang in a disk that does not answer."""
    log.error("%s", why)
    logging.shutdown()
    os._exit(1)


def spare_the_collector() -> None:
    """Takes what is there after the start out of the garbage collector's sight.

    A full collection holds the loop while it looks at every object: 60 to 130 ms for the hundred thousand of the
    libraries' modules and tables, none of which ever becomes garbage; 1 ms or less for what a running recorder makes.
    """
    gc.unfreeze()  # what a daemon before this one left in this process
    gc.collect()
    gc.freeze()
