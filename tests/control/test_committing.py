"""Changes of several clients at once: in order, on the disk before they count, and few transactions for many."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from nvr.control.state import ControlSettings, ControlState
from nvr.model.errors import StorageError, UnknownToken
from nvr.model.receiver import ReceiverMode
from nvr.model.recording import RecordingConfiguration
from nvr.storage.changes import Change, DeleteRecording, Save, StoredConfiguration
from tests.support.configuration import a_receiver, a_recording
from tests.support.control import Controlled, FakeEngine, FakeStore


class SlowStore(FakeStore):
    """Holds each transaction until it is let go; refuses those that hold what is `bad`."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: Change | None = None
        self._turns = threading.Semaphore(0)

    def let(self, transactions: int) -> None:
        self._turns.release(transactions)

    def apply(self, changes: Sequence[Change]) -> None:
        assert self._turns.acquire(timeout=60), "the test never let this transaction go"
        if self.bad in changes:
            raise StorageError("this one cannot be written")
        super().apply(changes)


async def begun(*works: object) -> list[asyncio.Task[object]]:
    """Started, and as far as they get without the disk."""
    tasks = [asyncio.ensure_future(work) for work in works]  # type: ignore[arg-type]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_what_comes_while_one_transaction_is_written_shares_the_next() -> None:
    store = SlowStore()
    c = Controlled(store=store)
    first = await begun(c.control.create_recording(RecordingConfiguration(content="0")))
    more = await begun(*(c.control.create_recording(RecordingConfiguration(content=str(n))) for n in range(1, 6)))
    assert c.control.recordings() == (), "nobody is told of what is not written"
    assert c.engine.applications == 0
    store.let(2)
    made = await asyncio.gather(*first, *more)
    assert [len(changes) for changes in store.applied] == [1, 5]
    assert c.control.recordings() == tuple(made)
    assert [r.configuration.content for r in c.control.recordings()] == list("012345")
    assert c.engine.applications == 2


async def test_a_change_that_changes_nothing_is_answered_when_what_it_rests_on_is_written() -> None:
    store = SlowStore()
    store.stored = StoredConfiguration(receivers=(a_receiver(),))
    c = Controlled(store=store)
    token = store.stored.receivers[0].token
    first, same = await begun(
        c.receivers.set_mode(token, ReceiverMode.NEVER_CONNECT), c.receivers.set_mode(token, ReceiverMode.NEVER_CONNECT)
    )
    assert not same.done()
    store.let(1)
    await asyncio.gather(first, same)
    assert len(store.applied) == 1
    await c.receivers.set_mode(token, ReceiverMode.NEVER_CONNECT)
    assert len(store.applied) == 1


async def test_a_change_that_cannot_be_written_takes_along_what_was_decided_after_it_and_nothing_before() -> None:
    store = SlowStore()
    state = ControlState(StoredConfiguration(), store, FakeEngine(), ControlSettings())
    good, bad, after, behind = (Save(a_recording(f"rec-{n}")) for n in range(4))
    store.bad = bad
    first = await begun(state.commit([Save(a_recording("rec-9"))]))
    batch = await begun(state.commit([good]), state.commit([bad]), state.commit([after]))
    store.let(2)  # the first alone; then the three together, in vain
    await first[0]
    late = await begun(state.commit([behind]))
    store.let(2)  # one by one, up to the bad one
    outcomes = await asyncio.gather(*batch, *late, return_exceptions=True)
    assert [type(o) for o in outcomes] == [type(None), StorageError, StorageError, StorageError]
    assert list(state.now.recordings) == list(state.coming.recordings) == ["rec-9", "rec-0"]
    assert [c for changes in store.applied for c in changes] == [Save(a_recording("rec-9")), good]
    store.let(1)
    await state.commit([after])
    assert list(state.now.recordings) == ["rec-9", "rec-0", "rec-2"]


async def test_what_is_being_deleted_cannot_be_changed_any_more() -> None:
    store = SlowStore()
    store.stored = StoredConfiguration(recordings=(a_recording("rec-1"),))
    c = Controlled(store=store)
    token = store.stored.recordings[0].token
    deleted = await begun(c.control.delete_recording(token))
    with pytest.raises(UnknownToken):
        await c.control.set_recording_configuration(token, RecordingConfiguration())
    assert c.control.recording(token).token == token
    store.let(2)
    await asyncio.gather(*deleted)
    assert DeleteRecording(token) in store.applied[0]
    assert c.control.recordings() == ()
