"""Documents of events: read in the order of each camera, on a thread where they are large, bounded while they wait."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from nvr.ingest import event_documents
from nvr.ingest.event_documents import (
    AT_ONCE_BYTES,
    AT_ONCE_EVERY_NS,
    MOST_BYTES,
    MOST_DOCUMENTS,
    SLICE_NS,
    EventDocuments,
)
from nvr.ingest.memory import HeldMemory
from nvr.model.notification import Notification
from nvr.model.time import UtcNs
from nvr.model.tokens import ReceiverToken
from nvr.storage.writer_thread import MemoryCeiling
from tests.support.ingest import until

ONE, OTHER = ReceiverToken("rcv-1"), ReceiverToken("rcv-2")


def document(*names: str, padding: int = 0) -> bytes:
    told = "".join(
        f"<wsnt:NotificationMessage><wsnt:Topic>tns1:T/{name}</wsnt:Topic><wsnt:Message><tt:Message"
        ' UtcTime="2026-01-01T00:00:00Z"/></wsnt:Message></wsnt:NotificationMessage>'
        for name in names
    )
    return (
        '<tt:MetadataStream xmlns:tt="http://www.onvif.org/ver10/schema"'
        ' xmlns:wsnt="http://docs.oasis-open.org/wsn/b-2" xmlns:tns1="http://www.onvif.org/ver10/topics">'
        f"<tt:Event>{told}</tt:Event>{' ' * padding}</tt:MetadataStream>"
    ).encode()


class Reader:
    def __init__(self, limit: int = 1 << 30) -> None:
        self.ceiling = MemoryCeiling(limit)
        self.told: list[tuple[str, str, int]] = []
        self.threads: list[bool] = []
        self.documents = EventDocuments(self._tell, HeldMemory(self.ceiling))

    def _tell(self, receiver: ReceiverToken, told: Notification, at_ns: UtcNs) -> None:
        self.told.append((receiver, told.topic[-1], at_ns))


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    reader = Reader()
    task = asyncio.create_task(reader.documents.run())
    yield reader
    task.cancel()
    await asyncio.wait([task])


async def test_a_small_document_is_heard_at_once() -> None:
    reader = Reader()
    reader.documents.take(ONE, document("a", "b"), 7)
    assert reader.told == [(ONE, "a", 7), (ONE, "b", 7)]
    assert reader.documents.waiting == 0


async def test_a_large_document_is_read_on_a_thread_and_what_follows_it_waits(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, threads = event_documents._read, []

    def watched(data: bytes) -> object:
        threads.append(threading.current_thread() is threading.main_thread())
        return read(data)

    monkeypatch.setattr(event_documents, "_read", watched)
    large = document("a", "b", padding=AT_ONCE_BYTES)
    reader.documents.take(ONE, large, 1)
    reader.documents.take(ONE, document("c"), 2)
    reader.documents.take(ONE, gzip.compress(document("d")), 3)
    reader.documents.take(OTHER, document("e"), 4)
    assert reader.told == [(OTHER, "e", 4)], "another camera does not wait"
    assert reader.ceiling.used > len(large)
    await until(lambda: reader.documents.waiting == 0)
    assert reader.told[1:] == [(ONE, "a", 1), (ONE, "b", 1), (ONE, "c", 2), (ONE, "d", 3)]
    assert threads == [True, False, True, False], "a small one needs no thread"
    assert reader.ceiling.used == 0


async def test_cameras_have_their_turns() -> None:
    reader = Reader()
    for n in range(3):
        for receiver in (ONE, OTHER):
            reader.documents.take(receiver, document(str(n), padding=AT_ONCE_BYTES), n)
    task = asyncio.create_task(reader.documents.run())
    await until(lambda: reader.documents.waiting == 0)
    task.cancel()
    assert [r for r, _, _ in reader.told] == [ONE, OTHER] * 3


async def test_what_cannot_be_read_is_counted_by_its_camera_and_said_once(
    reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        reader.documents.take(ONE, b"<NotificationMessage", 1)
    reader.documents.take(ONE, b"\x1f\x8b no gzip", 1)
    await until(lambda: reader.documents.waiting == 0)
    assert reader.documents.unread == {ONE: 4}
    assert len([r for r in caplog.records if "rcv-1" in r.message]) == 1


async def test_hundreds_of_small_documents_in_one_visit_are_read_in_slices_and_in_order() -> None:
    now_ns = 0

    def monotonic() -> int:
        return now_ns

    def tell(receiver: ReceiverToken, told: Notification, at_ns: UtcNs) -> None:
        nonlocal now_ns
        now_ns += SLICE_NS // 4
        told_at.append((at_ns, turns))

    told_at: list[tuple[int, int]] = []
    turns = 0
    memory = MemoryCeiling(1 << 30)
    documents = EventDocuments(tell, HeldMemory(memory), monotonic=monotonic)
    for n in range(400):
        documents.take(ONE, document("a"), n)
    assert len(told_at) == 4, "a slice is read at once"
    task = asyncio.create_task(documents.run())
    while documents.waiting:
        turns += 1
        documents.take(OTHER, document("b"), -1)
        await asyncio.sleep(0)
    task.cancel()
    assert [at_ns for at_ns, _ in told_at if at_ns >= 0] == list(range(400))
    assert not documents.dropped
    of_a_turn = Counter(turn for at_ns, turn in told_at if at_ns >= 0)
    assert max(of_a_turn.values()) <= 4
    assert memory.used == 0
    now_ns += AT_ONCE_EVERY_NS
    documents.take(ONE, document("a"), 400)
    assert told_at[-1][0] == 400, "and the next ones at once again"


async def test_small_documents_that_wait_are_bounded() -> None:
    reader = Reader()
    reader.documents.take(ONE, document("a", padding=AT_ONCE_BYTES), 0)
    for n in range(MOST_DOCUMENTS + 10):
        reader.documents.take(ONE, document("b"), n)
    assert reader.documents.waiting == MOST_DOCUMENTS
    assert reader.documents.dropped == {ONE: 11}


@pytest.mark.parametrize("size", [10, MOST_BYTES // 4])
async def test_what_waits_is_bounded_and_what_is_passed_over_is_counted(
    size: int, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Reader()
    large = document("a", padding=max(AT_ONCE_BYTES, size))
    for n in range(2 * MOST_DOCUMENTS):
        reader.documents.take(ONE, large, n)
    waiting = reader.documents.waiting
    assert 0 < waiting <= MOST_DOCUMENTS
    assert reader.ceiling.used == waiting * len(large) <= MOST_BYTES
    assert reader.documents.dropped == {ONE: 2 * MOST_DOCUMENTS - waiting}
    assert len([r for r in caplog.records if "passed over" in r.message]) == 1
    reader.documents.forget_counts(ONE)
    assert reader.ceiling.used == 0
    assert not reader.documents.dropped


async def test_documents_wait_within_the_memory_of_all(caplog: pytest.LogCaptureFixture) -> None:
    reader = Reader(limit=3 * AT_ONCE_BYTES)
    for receiver in (ONE, OTHER, OTHER, OTHER):
        reader.documents.take(receiver, document("a", padding=AT_ONCE_BYTES), 1)
    assert reader.documents.waiting == 2
    assert reader.documents.dropped == {OTHER: 2}
    assert len([r for r in caplog.records if "memory is full" in r.message]) == 1


async def test_what_a_camera_said_before_it_was_replaced_is_not_heard() -> None:
    reader = Reader()
    reader.documents.take(ONE, document("old", padding=AT_ONCE_BYTES), 1)
    task = asyncio.create_task(reader.documents.run())
    await asyncio.sleep(0)  # the document is being read
    reader.documents.forget(ONE)
    reader.documents.take(ONE, document("new", padding=AT_ONCE_BYTES), 2)
    await until(lambda: reader.documents.waiting == 0)
    task.cancel()
    assert reader.told == [(ONE, "new", 2)]
    assert reader.ceiling.used == 0
