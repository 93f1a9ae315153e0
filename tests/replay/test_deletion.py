"""Footage that retention deletes while a client replays it: the engine on real files behind the RTSP server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from nvr.model.recording import Recording, RecordingConfiguration, Track, TrackConfiguration, TrackType
from nvr.model.time import NS, UtcNs, format_clock
from nvr.model.timeline import Gap, GapReason
from nvr.model.tokens import META001
from nvr.replay.mounts import Mounts, RecordingMounts
from nvr.replay.server import RtspServer
from nvr.storage.findings import Kind, Repair
from tests.storage.test_retention import CAMERA, SOUND, Store
from tests.support.footage import START
from tests.support.replay_store import HandTurnedClock, plain_packetizer
from tests.support.replayed import utc_of
from tests.support.rtsp_client import Packet, RtspClient

PATH = f"/replay/{CAMERA.recording}"
SECONDS = 30
SIZE = 18_000
"""Of the largest picture: a client that does not read has been sent a small part of the footage."""
KEPT = 8
"""Seconds of retention; a file goes an eighth early."""


class PacingClock(HandTurnedClock):
    """Short waits pass at once; time-outs never come, nor would the end of a wait through a hole."""

    async def sleep(self, duration_ns: int) -> None:
        if duration_ns > 2 * NS:
            await asyncio.Event().wait()
        await super().sleep(duration_ns)


@dataclass
class Unit:
    utc_ns: UtcNs
    flags: str


class Replayed:
    """Half a minute of video and sound, in files of a second each, and a client that has asked for them."""

    def __init__(self, store: Store, client: RtspClient) -> None:
        self.store = store
        self.client = client

    async def play(self, *tracks: str, **headers: str) -> None:
        await self.client.set_up(PATH, *tracks)
        answer = await self.client.request("PLAY", PATH, **headers)
        assert answer.status == 200, answer

    async def expire(self) -> list[UtcNs]:
        """Deletes what is too old; starts of the fragments that are left."""
        self.store.retention[CAMERA.recording] = KEPT * NS
        await self.store.sweep()
        left = self.store.shown()
        assert len(left) == KEPT - 1
        assert self.store.files() == len(left), "nobody holds a file that is too old"
        return left

    async def units(self, count: int | None = None) -> list[Unit]:
        """The next units of the first track, or those up to T. Sequence numbers have no holes."""
        units: list[Unit] = []
        before: Packet | None = None
        while count is None or len(units) < count:
            packet = await self.client.packet()
            if packet.channel:
                continue
            assert before is None or packet.seq == before.seq + 1 & 0xFFFF
            before = packet
            assert packet.ntp is not None
            units.append(Unit(utc_of(packet.ntp), packet.flags))
            if count is None and "T" in packet.flags:
                break
        return units


@pytest.fixture
async def replayed(tmp_path: Path) -> AsyncIterator[Replayed]:
    store = Store(tmp_path)
    await store.start()
    for _ in range(SECONDS):
        await store.record(1, CAMERA, size=SIZE)
        await store.record(1, SOUND, size=200)
    types = {CAMERA.track: TrackType.VIDEO, SOUND.track: TrackType.AUDIO, META001: TrackType.METADATA}
    tracks = tuple(Track(token, TrackConfiguration(kind)) for token, kind in types.items())
    recording = Recording(CAMERA.recording, RecordingConfiguration(), tracks)
    mounts = Mounts(RecordingMounts(lambda token: recording, store.engine, edge_poll_s=0.05))
    server = RtspServer(mounts, packetizers=plain_packetizer(2 * SIZE), clock=PacingClock())
    await server.start("127.0.0.1", 0)
    client = await RtspClient.connect(server.port, 1 << 12)
    yield Replayed(store, client)
    await client.close()
    await server.stop()
    await store.engine.stop()


def sections(units: list[Unit]) -> list[list[Unit]]:
    """Cut behind each E."""
    found: list[list[Unit]] = [[]]
    for unit in units:
        found[-1].append(unit)
        if "E" in unit.flags:
            found.append([])
    return [section for section in found if section]


@pytest.mark.parametrize("rate_control", ["no", "yes"])
async def test_a_replay_goes_on_behind_what_was_deleted_and_shows_the_hole(
    replayed: Replayed, rate_control: str
) -> None:
    """Paced too: nobody waits for the time of what is not there any more."""
    await replayed.store.end_run(CAMERA, SOUND)
    await replayed.play(CAMERA.track, SOUND.track, Range=f"clock={format_clock(START)}-", Rate_Control=rate_control)
    units = await replayed.units(10)
    left = await replayed.expire()
    units += await replayed.units()

    # Files go one by one: who reads meanwhile may meet one between two that have gone.
    before, *between, behind = parts = sections(units)
    step_ns = 40_000_000
    assert all(abs(b.utc_ns - a.utc_ns - step_ns) < 2 for part in parts for a, b in pairwise(part))
    assert abs(before[0].utc_ns - START) < 2
    assert before[-1].utc_ns < left[0] - NS, "a client that did not read has not been sent it all"
    # A file goes a little before it is too old: until then it may have been read.
    ahead = round((left[0] - behind[0].utc_ns) / NS)
    assert ahead in (0, 1)
    assert abs(behind[0].utc_ns + ahead * NS - left[0]) < 2
    assert len(behind) == 25 * (len(left) + ahead)
    assert behind[0].flags == "C"
    assert {part[-1].flags for part in (before, *between)} == {"E"}
    assert behind[-1].flags == "ET"


@pytest.mark.parametrize("scale", ["1.0", "-1.0"])
async def test_a_replay_shows_the_hole_that_a_lost_file_leaves(replayed: Replayed, scale: str) -> None:
    store = replayed.store
    await store.end_run(CAMERA, SOUND)
    lost = store.index.files(CAMERA, 0, limit=100)[12]
    (store.data / "default" / lost.path).unlink()
    await store.engine.mend(Repair(Kind.MISSING, lost.volume_id, lost.path, lost.file_id))
    await store.engine.flush()
    assert store.engine.timeline(CAMERA).gaps() == (Gap(lost.start_ns, lost.end_ns, GapReason.STORAGE),)
    begin = START if scale == "1.0" else START + SECONDS * NS - 1
    await replayed.play(CAMERA.track, Range=f"clock={format_clock(begin)}-", Rate_Control="no", Scale=scale)
    first, second = sections(await replayed.units())
    earlier, later = (first, second) if scale == "1.0" else (second, first)
    assert abs(max(u.utc_ns for u in earlier) + 40_000_000 - lost.start_ns) < 2
    assert abs(min(u.utc_ns for u in later) - lost.end_ns) < 2
    assert len(first) + len(second) == (SECONDS - 1) * 25
    assert "E" in first[-1].flags
    assert "T" in second[-1].flags


async def test_reverse_replay_ends_where_the_footage_was_deleted(replayed: Replayed) -> None:
    await replayed.store.end_run(CAMERA, SOUND)
    end = format_clock(START + SECONDS * NS - 1)
    await replayed.play(CAMERA.track, Range=f"clock={end}-", Rate_Control="no", Scale="-1.0")
    units = await replayed.units(10)
    left = await replayed.expire()
    units += await replayed.units()
    assert [len(section) for section in sections(units)] == [len(units)], "no hole, and one end"
    assert units[-1].flags == "ET"
    assert all("D" in u.flags for u in units if "C" in u.flags)
    first_of_last_group = [u for u in units if "C" in u.flags][-1]
    assert first_of_last_group.utc_ns - left[0] < 2, "what is left has all been sent"


async def test_a_replay_of_what_is_being_recorded_comes_to_the_live_edge_over_the_hole(replayed: Replayed) -> None:
    await replayed.play(CAMERA.track, Range=f"clock={format_clock(START)}-", Rate_Control="no")
    await replayed.units(10)
    left = await replayed.expire()
    units = []
    while not units or units[-1].utc_ns < left[-1] + 23 * 40_000_000:
        units += await replayed.units(1)
    await replayed.store.record(1, CAMERA, size=SIZE)
    units += await replayed.units(20)
    assert [u.flags for u in units if "E" in u.flags] == ["E"], "the hole, and not the live edge"
    assert not [u for u in units if "T" in u.flags]


async def test_when_all_of_it_is_deleted_the_replay_ends_and_the_next_play_is_refused(replayed: Replayed) -> None:
    await replayed.store.end_run(CAMERA, SOUND)
    await replayed.play(CAMERA.track, Range=f"clock={format_clock(START)}-", Rate_Control="no")
    units = await replayed.units(10)
    replayed.store.extra_ns = 300 * NS  # no more than what a clock is believed
    replayed.store.retention[CAMERA.recording] = KEPT * NS
    await replayed.store.sweep()
    assert replayed.store.files() == 0
    units += await replayed.units()
    assert units[-1].flags == "ET"
    assert units[-1].utc_ns < START + (SECONDS - KEPT) * NS, "what was in memory, and no more"
    answer = await replayed.client.request("PLAY", PATH, Range=f"clock={format_clock(START)}-", Rate_Control="no")
    assert answer.status == 457
    assert (await replayed.client.request("DESCRIBE", PATH)).status == 404
