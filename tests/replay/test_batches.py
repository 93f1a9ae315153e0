"""What one batch of a plan may cost: the bytes that it keeps in memory, and the reads that others wait for."""

from __future__ import annotations

import pytest

from nvr.media.bmff.fragment import Place
from nvr.media.bmff.windows import WINDOW_BYTES, Window
from nvr.media.rtsp.play import FrameSet
from nvr.model.recording import TrackType
from nvr.model.time import NS, parse_iso
from nvr.replay.plan import Plan, PlanTrack
from nvr.replay.unit import Selection, Unit
from nvr.storage.rows import FragmentRef
from nvr.storage.stored_fragment import StoredFragment
from tests.support.replay_store import MemoryTrack

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
