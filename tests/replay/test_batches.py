"""What one batch of a plan may cost: the bytes that it keeps in memory, and the reads that others wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from nvr.media.bmff.fragment import Place
from nvr.media.bmff.windows import WINDOW_BYTES, Window
from nvr.media.rtsp.play import FrameSet
from nvr.model.recording import TrackType
from nvr.model.time import NS, parse_iso
from nvr.model.tokens import VIDEO001, RecordingToken, TrackKey
from nvr.replay.plan import BATCH_READS, Plan, PlanTrack
from nvr.replay.reader import PlanReader
from nvr.replay.readers import Readers
from nvr.replay.unit import Selection, Unit
from nvr.storage.rows import FragmentRef
from nvr.storage.stored_fragment import StoredFragment
from tests.replay.conftest import Serve, flags_of, playing
from tests.support.replay_store import MemoryStore, MemoryTrack

TEN = parse_iso("2026-01-01T10:00:00Z")
BATCH_BYTES = 128 << 10
FRAGMENT_BYTES = 400_000


class StoredTrack(MemoryTrack):
    """Its fragments are opened as those of files are: the samples are views of what was read."""

    def open(self, ref: FragmentRef) -> StoredFragment:  # type: ignore[override]
        samples = next(samples for known, samples in self.fragments_ if known == ref)
        body = b"".join(s.data for s in samples)
        places: list[Place] = []
        windows: list[Window] = []
        first, start, at = 0, 0, 0
        for i, s in enumerate(samples):
            places.append(Place(s.utc_ns, s.clean_point, s.damaged, at, len(s.data)))
            at += len(s.data)
            if at - start >= WINDOW_BYTES or i + 1 == len(samples):
                windows.append(Window(first, i + 1, start, at, 0, 0))
                first, start = i + 1, at
        return StoredFragment(places, windows, memoryview(body), lambda w: body[w.start : w.end])


def kept(units: list[Unit]) -> int:
    """Bytes that the units keep in memory, their own and those that stand beside them."""
    owners = [u.data.obj if isinstance(u.data, memoryview) else u.data for u in units]
    return sum({id(owner): memoryview(owner).nbytes for owner in owners}.values())


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("frames", list(FrameSet))
def test_a_batch_keeps_no_more_in_memory_than_it_counts(frames: FrameSet, at_once: bool, reverse: bool) -> None:
    """Small intra pictures of large fragments are copied; where all is sent, at most the fragments at both ends of a
    batch are kept besides, or their windows where it is taken at its pace."""
    track = StoredTrack().starting_at(TEN)
    for i in range(40):
        names = [f"I{i}".ljust(4000, "."), *(f"P{i}".ljust((FRAGMENT_BYTES - 4000) // 9, ".") for _ in range(9))]
        track.with_gop(names, every_ns=NS // 5)
    track.with_end()
    start = TEN + (1000 * NS if reverse else 0)
    plan = Plan(
        [PlanTrack(0, track, TrackType.VIDEO)],
        [track.timeline],
        Selection(start, frames=frames, at_once=at_once, reverse=reverse),
    )
    units = plan.next_units([track.timeline], BATCH_BYTES)
    data = sum(len(u.data) for u in units)
    assert 40_000 < data < 2 * BATCH_BYTES
    if frames is FrameSet.ALL:
        assert kept(units) <= data + 2 * (FRAGMENT_BYTES if at_once else 2 * WINDOW_BYTES)
    else:
        assert kept(units) == data


def clips() -> MemoryTrack:
    """As recording by events leaves them, each a run and a file of its own."""
    track = MemoryTrack()
    for i in range(100):
        track.starting_at(TEN + i * 10 * NS).with_gop([f"I{i}", f"P{i}"]).with_end().with_rotation()
    return track


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("unreadable", [False, True])
def test_a_batch_that_finds_nothing_ends_as_well_and_the_next_goes_on(reverse: bool, unreadable: bool) -> None:
    """Others wait in the lane of the recording while one looks for a picture that is far away, or for none."""
    track = clips()
    if unreadable:
        track.unreadable = set(range(1, 99))
    start, interval = TEN + (2000 * NS if reverse else 0), 0 if unreadable else 900 * NS
    selection = Selection(start, frames=FrameSet.INTRA, interval_ns=interval, reverse=reverse)
    plan = Plan([PlanTrack(0, track, TrackType.VIDEO)], [track.timeline], selection)
    assert track.reads <= BATCH_READS + 2
    assert not plan.empty
    found: list[Unit] = []
    batches = 0
    units: list[Unit] = []
    while batches == 0 or units or plan.more:
        before = track.reads
        units = plan.next_units([track.timeline], 1 << 20)
        found += units
        batches += 1
        assert batches < 100
        assert track.reads - before <= BATCH_READS + 2
    wanted = ["I99", "I0"] if unreadable else ["I99", "I9"]
    if not reverse:
        wanted = ["I0", "I99"] if unreadable else ["I0", "I90"]
    assert [bytes(u.data).decode() for u in found] == wanted
    assert [(u.end, u.terminal) for u in found] == [(True, False), (True, True)]
    assert batches > 5


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("why", ["unreadable", "no clean point"])
async def test_a_play_that_looks_far_for_its_beginning_lets_others_have_their_turn(reverse: bool, why: str) -> None:
    track = clips()
    if why == "unreadable":
        track.unreadable = set(range(1, 100) if reverse else range(99))
    else:
        track = MemoryTrack()
        for i in range(100):
            clean = i == (0 if reverse else 99)
            track.starting_at(TEN + i * 10 * NS).with_gop([f"I{i}"], clean=clean).with_end().with_rotation()
    key = TrackKey(RecordingToken("rec"), VIDEO001)
    turns: list[int] = []

    class Turns(Readers):
        def run(self, lane: str, call: Callable[[], Any], *, request: bool = False) -> asyncio.Future[Any]:
            def counted() -> Any:
                before = track.reads
                value = call()
                turns.append(track.reads - before)
                return value

            return super().run(lane, counted, request=request)

    readers = Turns(1)
    selection = Selection(TEN + (2000 * NS if reverse else 0), reverse=reverse)
    video = PlanTrack(0, track, TrackType.VIDEO)
    reader = await PlanReader.open(MemoryStore({key: track}), [key], [video], selection, readers)
    try:
        found = 0 if reverse else 99
        assert reader.start.utc_ns == TEN + found * 10 * NS
        assert not reader.hopeless
        first = (await reader.units())[0]
        assert (bytes(first.data).decode(), first.discontinuity) == (f"I{found}", reverse)
        assert len(turns) > 3
        assert max(turns) <= 2 * (BATCH_READS + 2)
    finally:
        reader.close()
        readers.close()


@pytest.mark.parametrize("clean", [False, True])
def test_whether_a_run_is_played_from_its_first_picture_is_looked_for_in_turns(clean: bool) -> None:
    """It begins without a clean point: played whole where it has none, as of an encoder that refreshes gradually."""
    track = MemoryTrack().starting_at(TEN).with_gop(["I0", "P1"]).with_gap(TEN + 60 * NS)
    for i in range(100):
        track.with_gop([f"R{i}"], clean=clean and i == 90)
    track.with_end()
    plan = Plan([PlanTrack(0, track, TrackType.VIDEO)], [track.timeline], Selection(TEN))
    found: list[Unit] = []
    units: list[Unit] = []
    while not found or units or plan.more:
        before = track.reads
        units = plan.next_units([track.timeline], 1 << 20)
        found += units
        assert track.reads - before <= BATCH_READS + 2
    names = [bytes(u.data).decode() for u in found]
    assert names == ["I0", "P1", *(f"R{i}" for i in range(90 if clean else 0, 100))]
    assert [u.end for u in found] == [False, True, *[False] * (len(found) - 3), True]


def test_a_beginning_that_is_not_there_is_looked_for_once() -> None:
    track = clips()
    track.unreadable = set(range(100))
    timeline = track.timeline
    plan = Plan([PlanTrack(0, track, TrackType.VIDEO)], [timeline], Selection(TEN + NS // 2))
    while plan.opening or plan.more:
        assert plan.next_units([timeline], 1) == []
    assert plan.empty
    assert track.reads == 101  # that of the start is seen from both sides
    track.unreadable.clear()
    assert plan.next_units([track.timeline], 1) != []


@pytest.mark.parametrize("scale", ["1", "-1"])
async def test_a_player_goes_on_from_batch_to_batch_until_the_picture_is_found(serve: Serve, scale: str) -> None:
    client = await (await serve({VIDEO001: clips()}, payload=10)).client()
    away = "clock=20260101T100000Z-" if scale == "1" else "clock=20260101T110000Z-20260101T100000Z"
    await playing(client, Frames="intra/900000", Scale=scale, Range=away)
    assert flags_of(await client.packets(2)) == {"1": "I0:CE I90:CET", "-1": "I99:CED I9:CEDT"}[scale]
