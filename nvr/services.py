"""The web services of the recorder, over the rooms that app.py has put together."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from nvr.auth.digest import DigestPolicy, DigestServer
from nvr.auth.lockout import Lockout
from nvr.auth.username_token import UsernameTokenVerifier
from nvr.auth.users import REALM
from nvr.config import Settings
from nvr.control.device import DeviceMemory
from nvr.control.host_rules import NetworkProtocol
from nvr.control.system import DeviceSystem
from nvr.discovery.links import Link, Served, is_wanted
from nvr.events.broker import Broker
from nvr.events.delivery import Deliveries
from nvr.replay.websocket import PATH as WEBSOCKET_PATH
from nvr.rooms import Player, Recorder
from nvr.search.sessions import SearchSessions
from nvr.soap.device import DeviceService
from nvr.soap.event import EventService, SubscriptionService
from nvr.soap.host_network import HostNetwork
from nvr.soap.media import MediaService
from nvr.soap.protocol import Soap
from nvr.soap.receiver import ReceiverService
from nvr.soap.recording import RecordingService
from nvr.soap.replay import ReplayService
from nvr.soap.search import SearchService
from nvr.soap.security import Security
from nvr.soap.service import Service


@dataclass(frozen=True, slots=True)
class Process:
    """What the device service asks of the daemon that it belongs to."""

    restart: Callable[[], None]
    protocols: Callable[[], tuple[NetworkProtocol, ...]]
    served: Callable[[], tuple[Served, ...]]


def soap_of(
    settings: Settings,
    recorder: Recorder,
    player: Player,
    events: tuple[Broker, Deliveries],
    searches: SearchSessions,
    memory: DeviceMemory,
    lockout: Lockout,
    process: Process,
) -> Soap:
    """All services behind one security."""
    broker, deliveries = events
    control, receivers = recorder.control, recorder.receivers
    services: tuple[Service, ...] = (
        RecordingService(control, settings.control),
        ReceiverService(receivers, settings.control),
        SearchService(searches),
        EventService(broker, deliveries),
        ReplayService(control, player.address, player.replay, WEBSOCKET_PATH),
        MediaService(
            receivers,
            control,
            recorder.ingest.offers,
            settings.control,
            player.address,
            settings.rtsp.session_timeout_ns,
        ),
    )
    device = _device(settings, recorder, memory, services, process)
    users = recorder.stores.users
    security = Security(
        users.role,
        DigestServer(REALM, users.ha1, DigestPolicy(settings.auth.digest_algorithms)),
        UsernameTokenVerifier(users.password, skew_ns=settings.auth.username_token_skew_ns),
        time.time_ns,
        lockout,
    )
    return Soap((device, *services, SubscriptionService(broker)), security, settings.http.body_bytes)


def _device(
    settings: Settings, recorder: Recorder, memory: DeviceMemory, services: tuple[Service, ...], process: Process
) -> DeviceService:
    users, installation = recorder.stores.users, recorder.stores.configuration.installation
    system = DeviceSystem(
        memory,
        recorder.control,
        recorder.receivers,
        users,
        process.restart,
        hard_default_allowed=settings.device.allow_hard_default,
    )
    return DeviceService(
        settings.device,
        installation,
        services,
        time.time_ns,
        users=users,
        memory=memory,
        endpoint=UUID(hex=installation),
        system=system,
        protocols=process.protocols,
        discovery=is_wanted(settings.discovery, process.served()),
        ip_version6=any(e.ip_version6 for e in settings.listen.endpoints()),
        tls=settings.listen.https is not None,
        hashing_algorithms=settings.auth.digest_algorithms,
    )


def read_links() -> list[Link]:
    """The interfaces of the host on which something can be heard. Blocking."""
    return [
        Link(i.name, i.loopback, tuple(ipaddress.ip_interface((a.address, a.prefix_length)) for a in i.addresses))
        for i in HostNetwork().interfaces()
        if i.up and (i.multicast or i.loopback)
    ]
