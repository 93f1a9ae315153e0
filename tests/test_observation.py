"""What the metrics tell of cameras and of the loop."""

from __future__ import annotations

import re
from typing import Any

from nvr.background import LoopDelays
from nvr.event_recording import EventRecordingObservation
from nvr.ingest.event_documents import EventDocuments
from nvr.ingest.memory import HeldMemory
from nvr.model.receiver import ReceiverState
from nvr.model.time import NS
from nvr.model.tokens import ReceiverToken
from nvr.observation import IngestObservation, LoopObservation, SearchObservation
from nvr.search.indexer import Completeness
from nvr.web.metrics import render
from tests.ingest.test_gate import House
from tests.support.operations import CommandHouse
from tests.support.search import Searched


class IdleIngest:
    full_slices = 0

    def receiver_state(self, token: object) -> ReceiverState:
        return ReceiverState.NOT_CONNECTED

    def counters(self) -> dict[object, object]:
        return {}


async def test_the_name_of_a_camera_stands_beside_the_tokens_that_log_and_counters_carry() -> None:
    commands, ingest = CommandHouse(), IdleIngest()
    house = commands.room
    added = await commands.cameras.add("yard", "rtsp://u:secret@192.0.2.1/s")
    told: Any = ingest
    metrics = {m.name: m for m in IngestObservation(told, house.receivers, house.control).metrics()}
    labels = {"receiver": added.receiver, "recording": added.recording, "name": "yard"}
    assert [(s.value, s.labels) for s in metrics["nvr_camera_info"].samples] == [(1.0, labels)]


async def test_what_waits_for_events_is_told_by_track_with_the_name_of_its_camera() -> None:
    memory = HeldMemory()
    memory.name_of = {"rec-1": "yard"}.__getitem__
    house = House(before=30, most=20_000, memory=memory)
    house.send(30)
    documents = EventDocuments(lambda receiver, told, at_ns: None, memory)
    documents.take(ReceiverToken("rcv-1"), b"<NotificationMessage", 1)
    seen = EventRecordingObservation(memory, documents)
    metrics = {m.name: m for m in seen.metrics()}
    labels = {"recording": "rec-1", "track": "VIDEO001", "name": "yard"}
    held, dropped = (metrics[f"nvr_event_buffer_{n}"].samples for n in ("bytes", "dropped_fragments_total"))
    assert [s.labels for s in (*held, *dropped)] == [labels] * 2
    assert 0 < held[0].value <= 20_000
    assert dropped[0].value == house.dropped > 0
    (unread,) = metrics["nvr_event_documents_unread_total"].samples
    assert (unread.value, unread.labels) == (1.0, {"receiver": "rcv-1"})
    (warning,) = seen.warnings()
    assert "rec-1/VIDEO001 (yard)" in warning
    house.recorder.close()
    assert seen.warnings() == []


async def test_what_the_index_of_camera_events_does_not_hold_yet_is_told() -> None:
    class Indexer:
        indexed, unreadable, crowded, lag = 7, 1, 2, 3
        complete = Completeness(0, 0, None)

        def completeness(self) -> Completeness:
            return self.complete

    indexer, searches = Indexer(), Searched().searches
    told: Any = indexer
    seen = SearchObservation(searches, told)
    assert (seen.problems(), seen.warnings(), seen.notes()) == ((), (), ())
    assert "complete_since" not in "".join(render(seen.metrics()))
    indexer.complete = Completeness(2, 1, 1_767_225_600 * NS + 5)
    (warning,), (note,) = seen.warnings(), seen.notes()
    assert warning.startswith("1 metadata tracks have files that cannot be read")
    assert note.endswith("2 tracks are not complete before 2026-01-01T00:00:00Z")
    text = "".join(render(seen.metrics()))
    for line in ("tracks_incomplete 2", "tracks_missed 1", "crowded_total 2", "complete_since_seconds 1767225600"):
        assert f"\nnvr_metadata_{line}\n" in text


async def test_delays_of_the_loop_are_told_as_a_histogram() -> None:
    delays = LoopDelays()
    for delay_ns in (500_000, NS // 1000, 6 * NS // 1000, 5 * NS):
        delays.add(delay_ns)
    text = "".join(render(LoopObservation(delays).metrics()))
    counted = dict(re.findall(r'nvr_loop_delay_seconds_bucket\{le="([^"]+)"\} (\d+)', text))
    assert counted["0.001"] == counted["0.005"] == "2"
    assert counted["0.007"] == counted["1.0"] == "3"
    assert counted["+Inf"] == "4"
    assert "# TYPE nvr_loop_delay_seconds histogram\n" in text
    assert "nvr_loop_delay_seconds_count 4\n" in text
    assert "nvr_loop_delay_seconds_sum 5.0075\n" in text
