"""Forward replay over real sockets: order, flags, times and ends, as a client receives them."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator

import pytest

from nvr.media.codecs.metadata import MetadataConfiguration
from nvr.media.rtcp import SenderReport, SourceDescription, parse_compound
from nvr.model.errors import StorageError
from nvr.model.time import NS, ntp_from_utc, parse_clock, unwrap, utc_from_ntp
from nvr.model.tokens import AUDIO001, META001, VIDEO001, RecordingToken, TrackKey
from nvr.storage.rows import FragmentRef
from tests.replay.conftest import (
    ORIGIN,
    PATH,
    TEN,
    TOKEN,
    Serve,
    flags_of,
    long_track,
    nothing_comes,
    playing,
    worked_example,
)
from tests.support.replay_store import ManualClock, MemoryTrack, ParameterVideo, PlainAudio


@pytest.mark.requirement(
    "PB-8.1-03", "PB-8.1-24", "PB-8.3.2-02", "PB-8.5.1-08", "PB-8.6.4-01", "PB-8.3.1-13",
    "PB-8.3.1-01", "PB-8.3.1-02", "PB-8.3.1-03", "PB-8.3.1-04", "PB-8.3.1-05", "PB-8.3.1-08",
    "PB-8.3.1-09", "PB-8.3.1-10", "PB-8.3.1-11", "PB-8.3.1-12",
)  # fmt: skip
async def test_the_worked_example_goes_over_the_wire_as_the_standard_writes_it(serve: Serve) -> None:
    served = await serve({VIDEO001: worked_example()}, origin=lambda: ORIGIN)
    client = await served.client()
    await client.set_up(PATH, VIDEO001)
    client.cseq = 299
    answer = await client.request("PLAY", PATH + "/", Rate_Control="no", Require="onvif-replay")
    assert answer["CSeq"] == "300"
    assert answer["Range"] == "clock=20260101T100000Z-"
    assert answer["RTP-Info"] == f"url={client.base}{PATH}/VIDEO001;seq=5000;rtptime=1000000"
    packets = await client.packets(16)
    assert flags_of(packets) == ("I0..:C .. P1: P2: I3..:C .. P4: P5:E I6..:C .. P7: P8: I9..:C .. P10: P11:ET")
    assert [p.seq for p in packets] == list(range(5000, 5016))
    section = [1_000_000 + 90_000 * s for s in (0, 0, 1, 2, 3, 3, 4, 5)]
    assert [p.rtp_time for p in packets] == section + [t + 5_400_000 for t in section]
    assert [p.marker for p in packets] == [False, True, True, True] * 4
    seconds = [p.ntp >> 32 for p in packets if p.ntp is not None]
    assert seconds == [0xED00C420 + s for s in (*range(6), *range(60, 66))]
    assert {p.word3[1:] for p in packets if p.word3 is not None} == {b"\x2c\0\0"}
    assert [p.word3[0] for p in packets if p.word3 is not None] == [
        0x80, 0, 0, 0x80, 0, 0x40, 0x80, 0, 0, 0x80, 0, 0x50,
    ]  # fmt: skip
    assert packets[0].raw == bytes.fromhex("90601388 000f4240 1a2b3c4d abac0003 ed00c420 00000000 802c0000") + b"I0.."
    assert {(p.version, p.cc, p.payload_type, p.ssrc, p.channel) for p in packets} == {(2, 0, 96, 0x1A2B3C4D, 0)}


@pytest.mark.requirement("PB-8.3.1-13")
async def test_the_terminal_flag_stands_in_the_last_packet_of_the_terminal_unit(serve: Serve) -> None:
    track = MemoryTrack().starting_at(TEN).with_gop(["I0", "P1..2..3.."]).with_end()
    client = await (await serve({VIDEO001: track})).client()
    await playing(client)
    packets = await client.packets(4)
    assert flags_of(packets) == "I0:C P1..:E 2..3 ..:ET"
    assert packets[1].ntp == packets[3].ntp


@pytest.mark.requirement("PB-8.5.3-05", "PB-8.1-09", "PB-8.3.1-12", "PB-8.3.1-15")
async def test_two_tracks_are_interleaved_in_recorded_order_on_their_channels(serve: Serve) -> None:
    sound = MemoryTrack(PlainAudio()).starting_at(TEN).with_gop([f"a{i}" for i in range(6)], NS // 2).with_end()
    track = MemoryTrack().starting_at(TEN).with_gop(["I0", "P1", "P2"]).with_end()
    client = await (await serve({VIDEO001: track, AUDIO001: sound})).client()
    answer = await playing(client, VIDEO001, AUDIO001)
    packets = await client.packets(9)
    assert [p.payload for p in packets] == [b"I0", b"a0", b"a1", b"P1", b"a2", b"a3", b"P2", b"a4", b"a5"]
    assert {p.channel for p in packets if p.payload[:1] == b"a"} == {2}
    times = [p.ntp for p in packets]
    assert times == sorted(times, key=lambda t: t or 0)
    sounds = [p for p in packets if p.channel == 2]
    assert all("C" in p.flags for p in sounds)
    assert len({p.rtp_time for p in sounds}) == len(sounds)
    infos = answer["RTP-Info"].split(",")
    assert [i.split(";")[0].rpartition("/")[2] for i in infos] == [VIDEO001, AUDIO001]


@pytest.mark.requirement("PB-8.5.1-01", "PB-8.5.1-06", "PB-8.5.1-07", "PB-8.5.2-01", "PB-8.5.2-10", "PB-8.5.2-12")
@pytest.mark.parametrize(
    ("start", "first"),
    [
        ("20260101T100000Z", "I0.."),
        ("20260101T100004Z", "I3.."),
        ("20260101T100004.3Z", "I3.."),
        ("20260101T100003.000000000Z", "I3.."),
        ("20260101T100002.999999999Z", "I0.."),
        ("20260101T100030Z", "I6.."),
        ("20000101T000000Z", "I0.."),
    ],
)
async def test_the_answer_states_where_playback_really_begins(serve: Serve, start: str, first: str) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    answer = await playing(client, Range=f"clock={start}-")
    packet = await client.packet()
    assert packet.payload.decode() == first
    stated = parse_clock(answer["Range"].removeprefix("clock=").removesuffix("-"))
    assert packet.ntp == ntp_from_utc(stated)
    assert f";seq={packet.seq};rtptime={packet.rtp_time}" in answer["RTP-Info"]


@pytest.mark.requirement("PB-8.5.2-02", "PB-8.5.2-05", "PB-8.9-01")
async def test_a_closed_range_stops_by_itself_and_a_new_play_works_at_once(serve: Serve) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    answer = await playing(client, Range="clock=20260101T100001Z-20260101T100004Z")
    assert answer["Range"] == "clock=20260101T100000Z-20260101T100004Z"
    assert flags_of(await client.packets(6)) == "I0..:C .. P1: P2: I3..:C .."
    assert await nothing_comes(client) == []
    answer = await client.request("PLAY", PATH, Range="clock=20260101T100103Z-", Rate_Control="no")
    assert answer.status == 200
    assert flags_of(await client.packets(4)) == "I9..:CD .. P10: P11:ET"


@pytest.mark.requirement("PB-8.5.1-09", "PB-8.9-01", "PB-8.9-03")
async def test_the_session_stays_playing_at_the_end_of_footage(serve: Serve) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    await playing(client)
    await client.packets(16)
    assert await nothing_comes(client) == []
    assert (await client.request("PAUSE", PATH)).status == 200
    reports = [e[1] for e in client.log if isinstance(e, tuple)]
    assert [type(p) for data in reports for p in parse_compound(data)] == [SenderReport, SourceDescription]  # no BYE


@pytest.mark.requirement("PB-8.2-05")
async def test_the_description_states_the_span_absolutely_and_the_time_it_plays(serve: Serve) -> None:
    """In this order: FFmpeg takes the last of them, and of a clock alone makes nonsense; GStreamer takes the first."""
    track = worked_example()
    client = await (await serve({VIDEO001: track})).client()
    body = (await client.request("DESCRIBE", PATH)).body.decode()
    spans = [line for line in body.split("\r\n") if line.startswith("a=range")]
    assert spans == ["a=range:clock=20260101T100000Z-20260101T100106Z", "a=range:npt=0-12"]
    track.with_gop(["I12", "P13"])
    body = (await client.request("DESCRIBE", PATH)).body.decode()
    spans = [line for line in body.split("\r\n") if line.startswith("a=range")]
    assert spans == ["a=range:clock=20260101T100000Z-", "a=range:npt=0-14"]


@pytest.mark.requirement("PB-8.5.4-03")
@pytest.mark.parametrize("scale", ["1.0", "-1.0"])
@pytest.mark.parametrize(("short_ns", "chosen"), [(0, 4), (1_000, 4), (125_000, 4), (126_000, 5), (250_000, 5)])
async def test_an_interval_of_intra_frames_is_counted_in_whole_milliseconds(
    serve: Serve, scale: str, short_ns: int, chosen: int
) -> None:
    """A camera's seconds come out a little short: four of them are 4000 ms as long as they round to that."""
    track = MemoryTrack().starting_at(TEN)
    for i in range(20):
        track.with_gop([str(i)], NS - short_ns)
    client = await (await serve({VIDEO001: track.with_end()})).client()
    await playing(
        client, Frames="intra/4000", Scale=scale, Range="clock=20260101T100100Z-" if scale < "0" else "npt=0-"
    )
    numbers = [int(p.payload) for p in await client.packets(4)]
    assert numbers == ([19 - chosen * n for n in range(4)] if scale < "0" else [chosen * n for n in range(4)])


@pytest.mark.requirement("PB-8.8-02", "PB-8.8-03", "PB-8.9-02")
async def test_playing_goes_on_with_what_is_recorded_and_after_recording_resumes(serve: Serve) -> None:
    track = MemoryTrack().starting_at(TEN).with_gop(["I0", "P1"])
    client = await (await serve({VIDEO001: track})).client()
    await playing(client)
    assert flags_of([await client.packet()]) == "I0:C"
    assert await nothing_comes(client) == []
    track.with_gop(["I2", "P3"])
    assert flags_of(await client.packets(2)) == "P1: I2:C"
    track.with_end()
    assert flags_of(await client.packets(1)) == "P3:ET"
    track.with_gap(TEN + 60 * NS).with_gop(["I4", "P5"]).with_gop(["I6"])
    assert flags_of(await client.packets(2)) == "I4:C P5:"


@pytest.mark.requirement("PB-8.1-29")
async def test_once_changed_parameter_sets_go_before_each_picture_that_needs_them(serve: Serve) -> None:
    track = MemoryTrack(ParameterVideo(sets="AQID")).starting_at(TEN).with_gop(["\0\0\0\1A"])
    track.with_configuration(ParameterVideo(sets="BAUG,Bw==")).with_gop(["\0\0\0\1B"]).with_gop(["\0\0\0\1C"])
    track.with_configuration(ParameterVideo(sets="AQID")).with_gop(["\0\0\0\1D"]).with_end()
    client = await (await serve({VIDEO001: track}, payload=100)).client()
    await playing(client)
    assert [p.payload for p in await client.packets(4)] == [
        b"\0\0\0\1A",
        b"\0\0\0\3\4\5\6\0\0\0\1\7\0\0\0\1B",
        b"\0\0\0\3\4\5\6\0\0\0\1\7\0\0\0\1C",
        b"\0\0\0\3\1\2\3\0\0\0\1D",
    ]
    await client.request("PLAY", PATH, Range="clock=20260101T100001Z-", Rate_Control="no")
    assert (await client.packet()).payload.startswith(b"\0\0\0\3\4\5\6")


@pytest.mark.requirement("PB-8.3.2-03")
async def test_a_unit_has_the_same_times_in_every_unthrottled_replay(serve: Serve) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    await playing(client)
    first = {p.payload: (p.ntp, p.rtp_time) for p in await client.packets(16) if p.word3 is not None}
    await client.request("PLAY", PATH, Range="clock=20260101T100004Z-", Rate_Control="no")
    second = {p.payload: (p.ntp, p.rtp_time) for p in await client.packets(12) if p.word3 is not None}
    assert len(second) == 9
    assert second.items() <= first.items()


@pytest.mark.requirement("PB-8.11-02", "PB-8.3.2-04", "PB-8.11-04")
async def test_a_sender_report_states_the_wall_clock_when_rate_control_is_on(serve: Serve) -> None:
    clock = ManualClock()
    client = await (await serve({VIDEO001: worked_example()}, clock=clock)).client()
    await playing(client, Rate_Control="yes")
    channel, report = await client.report()
    packet = await client.packet()
    assert channel == 1
    kind, ssrc, ntp, rtp_time = struct.unpack_from(">xBxxIQI", report)
    assert (kind, ssrc) == (200, packet.ssrc)
    assert utc_from_ntp(ntp) == clock.utc_ns()
    assert packet.ntp is not None
    assert utc_from_ntp(packet.ntp) == TEN
    assert abs(unwrap(packet.rtp_time, rtp_time) - rtp_time) < 90_000
    client.send(b"$\x01\x00\x08" + struct.pack(">BBHI", 0x80, 201, 1, 7))
    assert (await client.request("OPTIONS", PATH)).status == 200


@pytest.mark.requirement("PB-8.3.2-03", "PB-8.4-03", "PB-8.5.4-01", "PB-8.5.4-03", "PB-8.5.4-04")
@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ({"Frames": "all"}, [f"{'I' if i % 2 == 0 else 'P'}{i}" for i in range(20)]),
        ({"Frames": "intra"}, [f"I{i}" for i in range(0, 20, 2)]),
        ({"Frames": "intra/4000"}, [f"I{i}" for i in range(0, 20, 4)]),
        ({"Frames": "intra/4000", "Rate_Control": "yes", "Scale": "32"}, [f"I{i}" for i in range(0, 20, 4)]),
    ],
)
async def test_frames_chooses_pictures_on_the_timeline_of_the_recording(
    serve: Serve, headers: dict[str, str], names: list[str]
) -> None:
    client = await (await serve({VIDEO001: long_track(20, 10)}, payload=100)).client()
    await playing(client, **headers)
    packets = await client.packets(len(names))
    assert [p.payload.decode().rstrip(".") for p in packets] == names
    assert [p.ntp for p in packets] == [ntp_from_utc(TEN + int(name[1:]) * NS) for name in names]
    assert packets[-1].flags in ("CET", "ET")


@pytest.mark.requirement("PB-8.1-25")
async def test_sequence_numbers_and_rtp_times_begin_anywhere(serve: Serve) -> None:
    served = await serve({VIDEO001: worked_example()})
    starts = set()
    for _ in range(4):
        client = await served.client()
        await playing(client)
        packet = await client.packet()
        starts.add((packet.seq, packet.rtp_time, packet.ssrc))
    assert min(len({s[i] for s in starts}) for i in range(3)) >= 3  # of 65536 sequence numbers two may be the same


@pytest.mark.requirement("PB-8.5.2-11")
async def test_a_start_in_the_future_of_a_running_recording_waits(serve: Serve) -> None:
    track = MemoryTrack().starting_at(TEN).with_gop(["I0", "P1"])
    client = await (await serve({VIDEO001: track})).client()
    answer = await playing(client, Range="clock=20260101T100003Z-")
    assert answer["Range"] == "clock=20260101T100003Z-"
    assert await nothing_comes(client) == []
    track.with_gop(["I2", "P3"]).with_gop(["I4"])
    assert flags_of(await client.packets(2)) == "I2:C P3:"


@pytest.mark.requirement("PB-8.5.2-09")
async def test_a_start_more_than_a_day_ahead_is_refused_though_something_is_being_recorded(serve: Serve) -> None:
    track = MemoryTrack().starting_at(TEN).with_gop(["I0", "P1"])
    now = TEN + 30 * NS
    client = await (await serve({VIDEO001: track}, utc_ns=lambda: now)).client()
    await client.set_up(PATH, VIDEO001)
    for wanted, status in (
        ("clock=20260102T100030Z-", 200),
        ("clock=20260102T100031Z-", 457),
        ("clock=20400101T000000Z-", 457),
        ("npt=100000-", 457),
    ):
        assert (await client.request("PLAY", PATH, Range=wanted, Immediate="yes")).status == status


@pytest.mark.requirement("PB-8.5.2-09")
async def test_a_closed_range_that_lies_ahead_is_refused_unless_it_begins_at_once(serve: Serve) -> None:
    track = MemoryTrack().starting_at(TEN).with_gop(["I0", "P1"])
    now = TEN + 2 * NS
    client = await (await serve({VIDEO001: track}, utc_ns=lambda: now)).client()
    await client.set_up(PATH, VIDEO001)
    for wanted, status in (
        ("clock=20260101T110000Z-20260101T120000Z", 457),
        ("clock=20260101T100102.001Z-20260101T100200Z", 457),
        ("npt=3600-3660", 457),
        ("clock=20260101T100102Z-20260101T100200Z", 200),
        ("clock=20260101T100001Z-20260101T120000Z", 200),
    ):
        answer = await client.request("PLAY", PATH, Range=wanted, Immediate="yes", Rate_Control="no")
        assert answer.status == status, wanted
    track.with_gop(["I2", "P3"]).with_gop(["I4"])
    packets = await client.packets(4)
    assert "".join(p.payload.decode() for p in packets) == "I0P1I2P3"


async def test_a_replay_whose_footage_fails_ends_alone(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    served = await serve({VIDEO001: long_track(60)}, payload=1000)
    served.add({VIDEO001: worked_example()}, RecordingToken("rec-2"))
    good, bad = await served.client(), await served.client()
    await good.set_up("/replay/rec-2", VIDEO001)
    await bad.set_up(PATH, VIDEO001)
    track = served.store.tracks[TrackKey(TOKEN, VIDEO001)]
    answer = await bad.request("PLAY", PATH)
    assert answer.status == 200

    def broken(ref: FragmentRef) -> Iterator[FragmentRef]:
        raise StorageError("the index is gone")
        yield

    track.fragments_after = broken  # type: ignore[method-assign]
    await bad.request("PLAY", PATH, Rate_Control="no")
    track.with_end()
    async with asyncio.timeout(5):
        while (await bad.request("GET_PARAMETER", PATH)).status == 200:
            for callback in track.callbacks:
                callback(track.fragments_[0][0])
    assert "the index is gone" in caplog.text
    assert served.store.subscriptions[TrackKey(TOKEN, VIDEO001)] == 0
    assert (await good.request("PLAY", "/replay/rec-2", Rate_Control="no")).status == 200


@pytest.mark.requirement("PB-8.1-26", "PB-8.1-27", "PB-8.3.1-12", "PB-8.3.1-14")
async def test_metadata_documents_are_units_of_their_own(serve: Serve) -> None:
    configuration = MetadataConfiguration()
    track = MemoryTrack(configuration).starting_at(TEN)
    documents = [f"<tt:MetadataStream xmlns:tt='x' n='{i}'>{'.' * 3000}</tt:MetadataStream>" for i in range(3)]
    track.with_gop(documents).with_end()
    client = await (await serve({META001: track}, payload=None)).client()
    described = (await client.request("DESCRIBE", PATH)).body
    assert b"m=application 0 RTP/AVP 98\r\na=rtpmap:98 vnd.onvif.metadata/90000\r\n" in described
    await playing(client, META001)
    found, document = [], b""
    for _ in range(9):
        packet = await client.packet()
        if not document:
            assert "C" in packet.flags
            assert packet.ntp == ntp_from_utc(TEN + len(found) * NS)
        document += packet.payload
        if packet.marker:
            found.append(document.decode())
            document = b""
    assert found == documents


@pytest.mark.requirement("PB-8.5.2-07")
async def test_a_range_without_a_start_begins_at_the_beginning(serve: Serve) -> None:
    client = await (await serve({VIDEO001: worked_example()})).client()
    await playing(client, Range="clock=-20260101T100002Z")
    assert flags_of(await client.packets(3)) == "I0..:C .. P1:"
    assert await nothing_comes(client) == []
