"""What the composition root has put together so far: values that app.py builds and services.py serves."""

from __future__ import annotations

from dataclasses import dataclass

from nvr.auth.users import UserStore
from nvr.control.receivers import Receivers
from nvr.control.recordings import RecordingControl
from nvr.control.replay import ReplayConfiguration
from nvr.control.state import ControlState
from nvr.ingest.engine import IngestEngine
from nvr.replay.relay import RelayMounts
from nvr.replay.server import RtspServer
from nvr.search.indexer import MetadataIndexer
from nvr.soap.rtsp_address import RtspAddress
from nvr.sources.cameras import Cameras
from nvr.storage.changes import StoredConfiguration
from nvr.storage.configuration import ConfigurationStore
from nvr.storage.engine import StorageEngine
from nvr.storage.events import EventIndex
from nvr.storage.index import SqlFootageIndex


@dataclass(frozen=True, slots=True)
class Stores:
    """What outlives the process."""

    configuration: ConfigurationStore
    stored: StoredConfiguration
    """The configuration as the start has found it."""
    users: UserStore
    index: SqlFootageIndex
    storage: StorageEngine
    archive: EventIndex


@dataclass(frozen=True, slots=True)
class Recorder:
    """What records."""

    stores: Stores
    state: ControlState
    control: RecordingControl
    receivers: Receivers
    ingest: IngestEngine
    cameras: Cameras
    indexer: MetadataIndexer


@dataclass(frozen=True, slots=True)
class Player:
    """What replays, and shows cameras live."""

    server: RtspServer
    relays: RelayMounts
    replay: ReplayConfiguration
    address: RtspAddress
