"""Reverse replay: the plan over built timelines, and the worked example byte by byte over a real socket."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.media.rtsp.play import FrameSet
from nvr.media.unit import Sample
from nvr.model.time import NS, UtcNs, ntp_from_utc
from nvr.model.timeline import GapReason
from nvr.model.tokens import AUDIO001, META001, VIDEO001
from nvr.replay import groups
from nvr.replay.unit import Selection, Unit
from tests.replay.conftest import ORIGIN, PATH, TEN, Serve, worked_example
from tests.replay.test_plan import audio, b_frames, drain, flags, naive, names, plan_of, recorded, video
from tests.replay.test_plan import worked_example as plain_example
from tests.support.replay_store import MemoryTrack, PlainMetadata, PlainVideo
from tests.support.rtsp_client import Packet

LATE = TEN + 3600 * NS


def reverse(
    tracks: MemoryTrack | Sequence[MemoryTrack],
    start_ns: UtcNs = LATE,
    end_ns: UtcNs | None = None,
    frames: FrameSet = FrameSet.ALL,
    interval_ns: int = 0,
) -> list[Unit]:
    tracks = [tracks] if isinstance(tracks, MemoryTrack) else tracks
    plan = plan_of(tracks, Selection(start_ns, end_ns, False, frames, interval_ns, reverse=True))
    found = drain(plan, tracks)
    assert plan.done
    assert [u.due_ns for u in found] == sorted(u.due_ns for u in found)
    return found


class TestOrder:
    @pytest.mark.requirement("PB-8.6.2-01", "PB-8.6.2-02", "PB-8.6.2-03", "PB-8.6.2-04", "PB-8.3.1-06")
    def test_groups_go_backwards_and_their_units_forwards(self) -> None:
        assert flags(reverse(plain_example())) == ("I9:CD P10: P11: I6:CD P7: P8:E I3:CD P4: P5: I0:CD P1: P2:ET")

    @pytest.mark.requirement("PB-8.6.4-06", "PB-8.6.4-07")
    def test_pictures_are_placed_at_their_times_of_rendering_and_the_gap_is_left_out(self) -> None:
        units = reverse(plain_example())
        base = min(u.shown_ns for u in units)
        assert [(u.shown_ns - base) // NS for u in units] == [2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9]
        assert units[0].due_ns == base

    @pytest.mark.requirement("PB-8.5.2-04", "PB-8.5.2-12", "PB-8.5.5-02", "PB-8.5.5-04")
    @pytest.mark.parametrize(
        ("seconds", "first"),
        [(3600, "I9"), (66, "I9"), (63, "I9"), (62.9, "I6"), (60, "I6"), (59.9, "I3"), (6, "I3"), (3, "I3"), (0, "I0")],
    )
    def test_play_begins_with_the_group_that_holds_the_start_or_lies_before_it(
        self, seconds: float, first: str
    ) -> None:
        track = plain_example()
        plan = plan_of([track], Selection(TEN + int(seconds * NS), reverse=True))
        units = drain(plan, [track])
        assert units[0].data.decode() == first
        assert plan.start == units[0].position

    def test_nothing_lies_before_the_first_footage(self) -> None:
        assert reverse(plain_example(), TEN - 1) == []

    @pytest.mark.requirement("PB-8.5.2-06")
    def test_a_closed_range_ends_behind_the_group_that_holds_its_end(self) -> None:
        units = reverse(plain_example(), TEN + 64 * NS, TEN + 4 * NS)
        assert flags(units) == "I9:CD P10: P11: I6:CD P7: P8:E I3:CD P4: P5:"

    @pytest.mark.parametrize(
        ("end", "last"),
        [
            (63, "P11:"),
            (62.5, "P8:E"),
            (60, "P8:E"),
            (30, "P8:E"),
            (6, "P8:E"),
            (5.9, "P5:"),
            (0, "P2:ET"),
            (-9, "P2:ET"),
        ],
    )
    def test_the_end_of_a_range_by_where_it_lies(self, end: float, last: str) -> None:
        assert flags(reverse(plain_example(), LATE, TEN + int(end * NS))).split()[-1] == last

    @pytest.mark.requirement("PB-8.6.2-05")
    def test_intra_sends_each_clean_point_as_a_group_of_its_own(self) -> None:
        assert flags(reverse(plain_example(), frames=FrameSet.INTRA)) == "I9:CD I6:CED I3:CD I0:CEDT"

    @pytest.mark.requirement("PB-8.6.2-05")
    def test_of_a_codec_without_other_pictures_each_is_a_group_of_its_own(self) -> None:
        """However many of them a fragment holds."""
        track = video().with_unit_list([Sample(TEN + i * NS, b"J%d" % i, True) for i in range(4)], TEN + 4 * NS)
        track.with_gap(TEN + 60 * NS).with_gop(["J4"]).with_gop(["J5"]).with_end()
        assert flags(reverse(track)) == "J5:CD J4:CED J3:CD J2:CD J1:CD J0:CEDT"

    @pytest.mark.requirement("PB-8.5.4-03")
    def test_an_interval_of_intra_frames_counts_back_from_the_last_one_sent(self) -> None:
        track = video()
        for i in range(10):
            track.with_gop([f"I{i}"])
        units = reverse(track.with_end(), frames=FrameSet.INTRA, interval_ns=4 * NS)
        assert flags(units) == "I9:CD I5:CD I1:CEDT"
        reads = track.reads
        assert len(reverse(track, frames=FrameSet.INTRA, interval_ns=4 * NS)) == 3
        assert track.reads - reads <= 5  # what lies between is not read

    def test_groups_that_share_a_fragment_are_told_apart(self) -> None:
        samples = [Sample(TEN + i * NS, b"%d" % i, i % 2 == 0) for i in range(6)]
        track = video().with_unit_list(samples, TEN + 6 * NS).with_end()
        assert names(reverse(track)) == "4 5 2 3 0 1"
        assert names(reverse(track, TEN + 3 * NS)) == "2 3 0 1"

    def test_b_frames_stay_in_decode_order_within_their_group(self) -> None:
        units = reverse(b_frames())
        assert names(units) == "I8 b6 b7 I2 P5 b3 b4"
        assert [u.discontinuity for u in units] == [True, False, False, True, False, False, False]

    def test_predicted_leaves_reordered_pictures_out(self) -> None:
        assert names(reverse(b_frames(), frames=FrameSet.PREDICTED)) == "I8 I2 P5"

    def test_rotation_and_a_change_of_configuration_end_no_section(self) -> None:
        track = video().with_gop(["I0"]).with_rotation().with_gop(["I1"])
        track.with_gap(TEN + 2 * NS, GapReason.CONFIGURATION_CHANGED).with_configuration(PlainVideo(version=2))
        assert flags(reverse(track.with_gop(["I2"]).with_end())) == "I2:CD I1:CD I0:CEDT"

    def test_a_fragment_that_cannot_be_read_ends_the_section_on_both_of_its_sides(self) -> None:
        track = video().with_gop(["I0", "P1"]).with_gop(["I2", "P3"]).with_gop(["p4"], clean=False).with_gop(["I5"])
        track.with_end().unreadable.add(1)
        assert flags(reverse(track)) == "I5:CED I0:CD P1:ET"

    def test_units_before_the_first_clean_point_of_a_section_are_not_sent(self) -> None:
        track = video().with_gop(["p0", "p1"], clean=False).with_gop(["I2", "P3"]).with_gap(TEN + 20 * NS)
        track.with_gop(["p4"], clean=False).with_gop(["I5"]).with_end()
        assert flags(reverse(track)) == "I5:CED I2:CD P3:ET"

    def test_footage_deleted_while_it_is_played_ends_it(self) -> None:
        track = video()
        for i in range(6):
            track.with_gop([f"I{i}", f"P{i}"])
        plan = plan_of([track.with_end()], Selection(LATE, reverse=True))
        units = plan.next_units([track.timeline], 1)
        del track.fragments_[:4]
        assert names(units + drain(plan, [track])) == "I5 P5 I4 P4"

    @pytest.mark.requirement("PB-8.5.2-12")
    def test_a_start_at_the_edge_of_a_running_recording_begins_with_what_is_on_the_disk(self) -> None:
        track = video().with_gop(["I0", "P1"]).with_gop(["I2", "P3"])
        assert flags(reverse(track, track.at_ns)) == "I2:CD P3: I0:CD P1:ET"


class TestLongGroups:
    def long(self, fragments: int = 40) -> MemoryTrack:
        track = video().with_gop(["I0"]).with_gop(["I1"])
        for i in range(fragments):
            track.with_gop([f"p{i}a", f"p{i}b"], clean=False)
        return track.with_end()

    def test_a_group_cut_into_many_fragments_goes_forwards(self) -> None:
        expected = " ".join(["I1", *(f"p{i}{x}" for i in range(40) for x in "ab"), "I0"])
        assert names(reverse(self.long())) == expected

    def test_what_memory_does_not_hold_of_a_group_is_read_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(groups, "HELD_SAMPLES", 8)
        track = self.long()
        expected = " ".join(["I1", *(f"p{i}{x}" for i in range(40) for x in "ab"), "I0"])
        assert names(reverse(track)) == expected
        assert 42 < track.reads <= 2 * 42

    def test_a_run_without_clean_points_is_played_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(groups, "LONGEST_GROUP_NS", 20 * NS)
        track = video()
        for i in range(20):
            track.with_gop([f"p{i}a", f"p{i}b"], clean=False)
        units = reverse(track.with_end())
        assert sorted(u.utc_ns for u in units) == [TEN + i * NS for i in range(40)]
        parts = [len(list(g)) for _, g in groupby(u.reach_ns for u in units)]
        assert parts == [22, 18]
        assert flags(units).split()[-1] == "p8b:ET"


class TestTracks:
    def three(self) -> list[MemoryTrack]:
        picture = video().with_gop(["I0", "P1", "P2"]).with_gop(["I3", "P4", "P5"]).with_end()
        sound = audio().with_gop([f"a{i}" for i in range(6)]).with_end()
        scene = MemoryTrack(PlainMetadata()).starting_at(TEN)
        for i in range(6):
            scene.with_gop([f"m{i}"])
        return [picture, sound, scene.with_end()]

    @pytest.mark.requirement("PB-8.6.2-06", "PB-8.6.2-07")
    def test_sound_is_left_out_and_metadata_fall_with_the_pictures(self) -> None:
        units = reverse(self.three())
        assert names(units) == "I3 P4 P5 m5 m4 m3 I0 P1 P2 m2 m1 m0"
        assert all(u.discontinuity for u in units if u.data[:1] == b"m")
        assert [u.data for u in units if u.terminal] == [b"P2", b"m0"]

    def test_metadata_cover_the_span_of_the_first_pictures(self) -> None:
        assert names(reverse(self.three(), TEN + 4 * NS)).startswith("I3 P4 P5 m5 m4 m3 I0")
        assert names(reverse(self.three(), TEN + 2 * NS)).startswith("I0 P1 P2 m2 m1 m0")

    @pytest.mark.requirement("PB-8.6.2-11", "PB-8.5.5-07")
    def test_metadata_alone_fall_document_by_document(self) -> None:
        scene = self.three()[2].with_gap(TEN + 20 * NS).with_gop(["m20"]).with_end()
        assert flags(reverse(scene)) == "m20:CED m5:CD m4:CD m3:CD m2:CD m1:CD m0:CEDT"
        assert names(reverse(scene, TEN + 4 * NS)) == "m4 m3 m2 m1 m0"
        assert names(reverse(scene, TEN + 4 * NS, TEN + 2 * NS)) == "m4 m3 m2"

    def test_a_gap_of_one_track_is_not_left_out(self) -> None:
        scene = MemoryTrack(PlainMetadata()).starting_at(TEN)
        for i in range(66):
            scene.with_gop([f"m{i}"])
        assert {-u.utc_ns - u.shown_ns for u in reverse([plain_example(), scene.with_end()])} == {0}


@given(recorded(), st.integers(0, 500), st.one_of(st.none(), st.integers(1, 200)))
def test_every_reverse_plan_is_a_naive_one(track: MemoryTrack, start_s: int, length_s: int | None) -> None:
    """Groups and sections made by sorting everything there is, and taken from the end."""
    start = TEN + start_s * NS
    end = None if length_s is None else start - length_s * NS
    reached = [g for g in naive(track) if g[1][0].utc_ns <= start]
    wanted = [g for g in reached if end is None or g[2] > end][::-1]
    units = reverse(track, start, end)
    assert [u.utc_ns for u in units] == [s.utc_ns for _, samples, _ in wanted for s in samples]
    expected = []
    for group, older in zip(wanted, [*reached[::-1][1:], None], strict=False):
        last = group[1][-1].utc_ns
        expected.append((last, older is None or older[0] != group[0], older is None))
    lasts = [
        u
        for u, following in zip(units, [*units[1:], None], strict=False)
        if following is None or following.discontinuity
    ]
    assert [(u.utc_ns, u.end, u.terminal) for u in lasts] == expected
    assert sum(u.end for u in units) == sum(e for _, e, _ in expected)
    for one, other in pairwise(units):
        assert one.due_ns <= other.due_ns


WIRE = [  # payload, sequence number, RTP time, marker, NTP seconds and first byte of word 3
    ("I9..", 5000, 6670000, 0, 0xED00C45F, 0xA0), ("..", 5001, 6670000, 1, None, None),
    ("P10", 5002, 6760000, 1, 0xED00C460, 0x00), ("P11", 5003, 6850000, 1, 0xED00C461, 0x00),
    ("I6..", 5004, 6400000, 0, 0xED00C45C, 0xA0), ("..", 5005, 6400000, 1, None, None),
    ("P7", 5006, 6490000, 1, 0xED00C45D, 0x00), ("P8", 5007, 6580000, 1, 0xED00C45E, 0x40),
    ("I3..", 5008, 1270000, 0, 0xED00C423, 0xA0), ("..", 5009, 1270000, 1, None, None),
    ("P4", 5010, 1360000, 1, 0xED00C424, 0x00), ("P5", 5011, 1450000, 1, 0xED00C425, 0x00),
    ("I0..", 5012, 1000000, 0, 0xED00C420, 0xA0), ("..", 5013, 1000000, 1, None, None),
    ("P1", 5014, 1090000, 1, 0xED00C421, 0x00), ("P2", 5015, 1180000, 1, 0xED00C422, 0x50),
]  # fmt: skip


class TestOnTheWire:
    @pytest.mark.requirement(
        "PB-8.3.1-08",
        "PB-8.3.1-06", "PB-8.3.1-07", "PB-8.5.1-02", "PB-8.6.1-01", "PB-8.6.2-01", "PB-8.6.2-02", "PB-8.6.2-03",
        "PB-8.6.2-04", "PB-8.6.2-08", "PB-8.6.2-09", "PB-8.6.2-10", "PB-8.6.3-01", "PB-8.6.4-01", "PB-8.6.4-04",
    )  # fmt: skip
    async def test_the_worked_example_goes_over_the_wire_as_the_standard_writes_it(self, serve: Serve) -> None:
        client = await (await serve({VIDEO001: worked_example()}, origin=lambda: ORIGIN)).client()
        await client.set_up(PATH, VIDEO001, Require="onvif-replay")
        client.cseq = 262
        headers = {"Range": "clock=20260101T100110Z-", "Scale": "-1.0", "Rate_Control": "no"}
        answer = await client.request("PLAY", PATH + "/", Require="onvif-replay", **headers)
        assert (answer.status, answer["CSeq"]) == (200, "263")
        assert answer["Scale"] == "-1.0"
        assert answer["Range"] == "clock=20260101T100103Z-"
        assert answer["RTP-Info"] == f"url={client.base}{PATH}/VIDEO001;seq=5000;rtptime=6670000"
        packets = await client.packets(16)
        assert [
            (
                p.payload.decode(),
                p.seq,
                p.rtp_time,
                p.marker,
                None if p.ntp is None else p.ntp >> 32,
                None if p.word3 is None else p.word3[0],
            )
            for p in packets
        ] == WIRE
        assert {p.word3[1:] for p in packets if p.word3 is not None} == {b"\x07\0\0"}
        assert (
            packets[0].raw == bytes.fromhex("90601388 0065c6b0 1a2b3c4d abac0003 ed00c45f 00000000 a0070000") + b"I9.."
        )
        assert (await client.request("GET_PARAMETER", PATH)).status == 200

    @pytest.mark.parametrize(
        ("asked", "told"),
        [
            ("20260101T100110Z-20260101T100000Z", "20260101T100106Z-20260101T100000Z"),  # where the first group ends
            ("20260101T100104Z-20260101T100004Z", "20260101T100104Z-20260101T100004Z"),
            ("20260101T100030Z-20260101T100004Z", "20260101T100006Z-20260101T100004Z"),
        ],
    )
    async def test_the_answer_to_a_closed_range_says_where_the_showing_begins(
        self, serve: Serve, asked: str, told: str
    ) -> None:
        client = await (await serve({VIDEO001: worked_example()})).client()
        await client.set_up(PATH, VIDEO001)
        answer = await client.request("PLAY", PATH, Range=f"clock={asked}", Scale="-1", Rate_Control="no")
        assert answer["Range"] == f"clock={told}"

    @pytest.mark.requirement("PB-8.6.4-02", "PB-8.3.2-03", "PB-8.6.1-02", "PB-8.6.3-02")
    async def test_a_unit_has_the_same_times_in_both_directions(self, serve: Serve) -> None:
        client = await (await serve({VIDEO001: worked_example()})).client()
        await client.set_up(PATH, VIDEO001)
        await client.request("PLAY", PATH, Rate_Control="no")
        forward = await client.packets(16)
        answer = await client.request("PLAY", PATH, Rate_Control="no", Scale="-1", Range="npt=70-", Immediate="yes")
        backward = await client.packets(16)
        assert {(p.ntp, p.rtp_time) for p in forward if p.ntp} == {(p.ntp, p.rtp_time) for p in backward if p.ntp}
        assert backward[0].seq == (forward[-1].seq + 1) & 0xFFFF
        assert "D" in backward[0].flags
        assert f";seq={backward[0].seq};" in answer["RTP-Info"]
        assert {p.word3[1] for p in backward if p.word3 is not None} == {client.cseq & 0xFF}

    @pytest.mark.requirement("PB-8.3.2-03", "PB-8.6.4-06", "PB-8.6.4-07", "PB-8.5.1-04")
    @pytest.mark.parametrize(("scale", "speed"), [("-32.0", None), ("-8.0", "4.0")])
    async def test_with_rate_control_rtp_times_are_those_of_rendering(
        self, serve: Serve, scale: str, speed: str | None
    ) -> None:
        client = await (await serve({VIDEO001: worked_example()})).client()
        await client.set_up(PATH, VIDEO001)
        headers = {"Scale": scale} if speed is None else {"Scale": scale, "Speed": speed}
        answer = await client.request("PLAY", PATH, Range="clock=20260101T100110Z-", **headers)
        assert (answer["Scale"], answer.header("Speed")) == (scale, speed)
        packets = [p for p in await client.packets(16) if p.word3 is not None]
        first = packets[2].rtp_time  # P11 is shown first
        steps = [((p.rtp_time - first) & 0xFFFF_FFFF) * 32 / 90_000 for p in packets]
        assert steps == pytest.approx([2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9], abs=0.001)
        assert f"rtptime={packets[0].rtp_time}" in answer["RTP-Info"]
        at_s = [*range(6), *range(60, 66)]
        wanted = [ntp_from_utc(TEN + at_s[int(p.payload.strip(b"IP."))] * NS) for p in packets]
        assert [p.ntp for p in packets] == wanted

    @pytest.mark.requirement("PB-8.5.1-10", "PB-8.6.3-01")
    async def test_pause_and_resume_in_reverse_lose_and_repeat_nothing(self, serve: Serve) -> None:
        track = MemoryTrack().starting_at(TEN)
        for i in range(0, 300, 2):
            track.with_gop([f"I{i}".ljust(40_000, "."), f"P{i + 1}".ljust(40_000, ".")])
        client = await (await serve({VIDEO001: track.with_end()}, payload=10_000)).client(1 << 14)
        await client.set_up(PATH, VIDEO001)
        answer = await client.request("PLAY", PATH, Rate_Control="no", Scale="-1")
        assert answer["Range"] == "clock=20260101T100458Z-"
        found: list[Packet] = []
        for _ in range(3):
            found += await client.packets(7)
            before = len(client.log)
            assert (await client.request("PAUSE", PATH)).status == 200
            found += [e for e in client.log[before:] if isinstance(e, Packet)]
            assert (await client.request("PLAY", PATH, Rate_Control="no", Scale="-1")).status == 200
            found.append(await client.packet())
            assert (
                f";seq={found[-1].seq};" in [e for e in client.log if not isinstance(e, Packet | tuple)][-1]["RTP-Info"]
            )
        while len(found) < 1200:
            found.append(await client.packet())
        assert [p.seq for p in found] == [(found[0].seq + i) & 0xFFFF for i in range(len(found))]
        order = [p.payload.decode().rstrip(".") for p in found if p.payload[:1] in b"IP"]
        assert order == [name for i in range(298, -1, -2) for name in (f"I{i}", f"P{i + 1}")]

    @pytest.mark.requirement("PB-8.5.1-17")
    async def test_a_pause_point_in_reverse_is_reached_with_the_group_that_holds_it(self, serve: Serve) -> None:
        client = await (await serve({VIDEO001: worked_example()})).client()
        await client.set_up(PATH, VIDEO001)
        client.write("PLAY", PATH, Scale="-32", Range="clock=20260101T100110Z-")
        client.write("PAUSE", PATH, Range="clock=20260101T100101Z")
        assert [(await client.answer()).status, (await client.answer()).status] == [200, 200]
        packets = [e for e in client.log if isinstance(e, Packet)]
        packets += await client.packets(8 - len(packets))
        assert packets[-1].payload == b"P8"
        client.write("PAUSE", PATH, Range="clock=20260101T100200Z")
        assert (await client.answer()).status in (200, 457)  # 457 while the last packets are on their way
        await client.request("PLAY", PATH, Rate_Control="no", Scale="-1")
        assert (await client.packet()).payload == b"I3.."

    @pytest.mark.requirement("PB-8.6.2-06", "PB-8.6.2-07", "PB-8.6.2-11")
    async def test_metadata_go_backwards_and_sound_is_silent(self, serve: Serve) -> None:
        scene = MemoryTrack(PlainMetadata()).starting_at(TEN)
        for i in range(6):
            scene.with_gop([f"<m{i}......>"])
        tracks = {
            VIDEO001: worked_example(),
            AUDIO001: audio().with_gop(["a0", "a1"]).with_end(),
            META001: scene.with_end(),
        }
        client = await (await serve(tracks)).client()
        await client.set_up(PATH, META001)
        await client.request("PLAY", PATH, Scale="-1.0", Rate_Control="no")
        packets = await client.packets(18)
        firsts = packets[::3]
        assert [p.payload.decode() for p in firsts] == [f"<m{i}." for i in (5, 4, 3, 2, 1, 0)]
        assert all("D" in p.flags and "C" in p.flags for p in firsts)
        assert [p.flags for p in packets if p.word3 is not None][-1] == "CET"
        only_sound = await (await serve(tracks)).client()
        await only_sound.set_up(PATH, AUDIO001)
        assert (await only_sound.request("PLAY", PATH, Scale="-1.0")).status == 456
        everything = await (await serve(tracks)).client()
        await everything.set_up(PATH, VIDEO001, AUDIO001, META001)
        answer = await everything.request("PLAY", PATH, Scale="-1.0", Rate_Control="no")
        assert answer["RTP-Info"].count("url=") == 3
        assert {p.channel for p in await everything.packets(16 + 18)} == {0, 4}
