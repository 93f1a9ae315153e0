"""What the metrics tell of cameras."""

from __future__ import annotations

from typing import Any

from nvr.auth.credentials import Vault
from nvr.auth.users import UserStore
from nvr.model.receiver import ReceiverState
from nvr.observation import IngestObservation
from nvr.operations import Operations
from tests.support.control import Controlled
from tests.test_operations import NoPersistence


class IdleIngest:
    full_slices = 0

    def receiver_state(self, token: object) -> ReceiverState:
        return ReceiverState.NOT_CONNECTED

    def counters(self) -> dict[object, object]:
        return {}


async def test_the_name_of_a_camera_stands_beside_the_tokens_that_log_and_counters_carry() -> None:
    house, ingest = Controlled(), IdleIngest()
    operations = Operations(UserStore(Vault(bytes(32)), NoPersistence()), house.control, house.receivers)
    added = await operations.add_camera("yard", "rtsp://u:secret@192.0.2.1/s")
    told: Any = ingest
    metrics = {m.name: m for m in IngestObservation(told, house.receivers, house.control).metrics()}
    labels = {"receiver": added.receiver, "recording": added.recording, "name": "yard"}
    assert [(s.value, s.labels) for s in metrics["nvr_camera_info"].samples] == [(1.0, labels)]
