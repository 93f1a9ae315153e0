"""Sound that changes its rate or its channels inside a track: a payload type for each format, all of it replayed."""

from __future__ import annotations

import asyncio
import struct
from fractions import Fraction
from typing import Any

import pytest

from nvr.media.codecs import packetizer_for
from nvr.media.codecs.aac import AacConfiguration
from nvr.media.codecs.g711 import PcmuConfiguration
from nvr.media.codecs.l16 import L16Configuration
from nvr.media.sdp import SessionDescription
from nvr.media.unit import CodecConfiguration
from nvr.model.errors import FormatError, LimitReached
from nvr.model.time import NS
from nvr.model.timeline import GapReason
from nvr.model.tokens import AUDIO001, VIDEO001, TrackKey
from nvr.replay.description import describe, payload_types
from nvr.replay.formats import LOOKS, SoundFormats
from nvr.replay.mounts import Presentation, PresentedStream
from nvr.replay.player import Line, Pacing, Playback, Player
from nvr.replay.readers import Readers
from nvr.replay.sender import Buffer, Origin, RtpStream
from nvr.replay.unit import Position, Unit
from tests.replay.conftest import PATH, TEN, TOKEN, Serve, worked_example
from tests.replay.test_player import Listed, Recorded
from tests.support.replay_store import HandTurnedClock, MemoryStore, MemoryTrack, PlainMetadata, PlainVideo
from tests.support.rtsp_client import Packet, RtspClient, until

SLOW, FAST, STEREO = L16Configuration(8000), L16Configuration(48_000), L16Configuration(8000, 2)
KEY = TrackKey(TOKEN, AUDIO001)


def changing(*formats: CodecConfiguration, seconds: int = 2) -> MemoryTrack:
    """Two units of a second in each format, one behind the other without a gap."""
    track = MemoryTrack(formats[0]).starting_at(TEN)
    for n, configuration in enumerate(formats):
        track.with_configuration(configuration).with_gop([f"{n}{i}.." for i in range(seconds)])
        track.with_end(GapReason.CONFIGURATION_CHANGED if n < len(formats) - 1 else GapReason.JOB_STOPPED)
        track.with_rotation()
    return track


async def playing(client: RtspClient, **headers: str) -> str:
    await client.set_up(PATH, AUDIO001)
    answer = await client.request("PLAY", PATH, **{"Rate_Control": "no", **headers})
    assert answer.status == 200
    return answer["RTP-Info"]


def shown(packets: list[Packet]) -> list[tuple[int, str, bytes]]:
    return [(p.payload_type, p.flags, p.payload) for p in packets]


@pytest.mark.requirement("PB-8.1-24", "PB-8.6.4-01")
async def test_each_format_is_described_and_played_with_its_own_payload_type_and_clock(serve: Serve) -> None:
    client = await (await serve({AUDIO001: changing(SLOW, FAST, STEREO, SLOW)}, payload=None)).client()
    media = SessionDescription.parse((await client.request("DESCRIBE", PATH)).body).media[0]
    assert [(f.payload_type, f.rtpmap) for f in sorted(media.formats, key=lambda f: -f.payload_type)] == [
        (127, "L16/48000"),
        (123, "L16/8000/2"),
        (97, "L16/8000"),
    ]
    await playing(client)
    packets = await client.packets(8)
    assert [p.payload_type for p in packets] == [97, 97, 127, 127, 123, 123, 97, 97]
    assert [p.flags for p in packets] == ["C"] * 7 + ["CET"]
    base = packets[0].rtp_time
    rates = [8000, 8000, 48_000, 48_000, 8000, 8000, 8000, 8000]
    assert [(p.rtp_time - base) & 0xFFFF_FFFF for p in packets] == [s * rate for s, rate in enumerate(rates)]
    assert [p.seq for p in packets] == [(packets[0].seq + i) & 0xFFFF for i in range(8)]
    assert {p.ssrc for p in packets} == {packets[0].ssrc}


@pytest.mark.parametrize("rate_control", ["no", "yes"])
async def test_a_play_that_begins_in_another_format_is_answered_in_its_clock(serve: Serve, rate_control: str) -> None:
    client = await (await serve({AUDIO001: changing(SLOW, FAST, SLOW)}, payload=None)).client()
    await playing(client)
    await client.packets(6)
    for start, payload_type in (("100003", 127), ("100005", 97)):
        wanted = {"Range": f"clock=20260101T{start}Z-", "Rate_Control": rate_control, "Immediate": "yes"}
        info = (await client.request("PLAY", PATH, **wanted))["RTP-Info"]
        packet = await client.packet()
        assert packet.payload_type == payload_type
        assert info.endswith(f";seq={packet.seq};rtptime={packet.rtp_time}")


async def test_what_was_not_described_is_told_and_goes_on_when_it_is_known_again(serve: Serve) -> None:
    """The format has come behind DESCRIBE and SETUP: nobody knows what its payload type would mean."""
    track = MemoryTrack(SLOW).starting_at(TEN).with_gop(["00..", "01.."])
    served = await serve({AUDIO001: track}, payload=None)
    client = await served.client()
    await playing(client)
    assert shown([await client.packet()]) == [(97, "C", b"00..")]
    track.with_end(GapReason.CONFIGURATION_CHANGED).with_rotation().with_configuration(FAST).with_gop(["10..", "11.."])
    track.with_end(GapReason.CONFIGURATION_CHANGED).with_rotation().with_configuration(SLOW).with_gop(["20..", "21.."])
    track.with_end().with_rotation().with_configuration(STEREO).with_gop(["30..", "31.."]).with_end()
    found = await client.packets(6)
    assert shown(found) == [
        (97, "C", b"01.."),
        (97, "E", b""),
        (97, "CD", b"20.."),
        (97, "C", b"21.."),
        (97, "E", b""),
        (97, "ET", b""),
    ]
    assert [p.seq for p in found] == [(found[0].seq + i) & 0xFFFF for i in range(6)]
    again = await served.client()
    await playing(again)
    assert [p.payload_type for p in await again.packets(8)] == [97, 97, 127, 127, 97, 97, 123, 123]


async def test_payload_types_stay_what_they_were_when_another_track_gets_footage(serve: Serve) -> None:
    served = await serve({AUDIO001: changing(SLOW, FAST)}, payload=None)
    client = await served.client()
    before = SessionDescription.parse((await client.request("DESCRIBE", PATH)).body).media[0]
    served.store.tracks[TrackKey(TOKEN, VIDEO001)] = worked_example()
    served.store.tracks[KEY].fragments_.pop(0)  # and retention has taken the first format
    served.store.tracks[KEY].runs.pop(0)
    await playing(client)
    packet = await client.packet()
    found = before.format(packet.payload_type)
    assert found is not None
    assert found.rtpmap == "L16/48000"


def units(*configurations: CodecConfiguration, **last: bool) -> list[Unit]:
    found = [Unit(0, TEN + n * NS, n, n, b"abcd", c, True) for n, c in enumerate(configurations)]
    for name, value in last.items():
        setattr(found[-1], name, value)
    return found


def sent(stream: RtpStream, units: list[Unit]) -> list[Packet]:
    out: list[Buffer] = []
    for n, unit in enumerate(units):
        stream.append(unit, n, 5, out)
    return [Packet(0, bytes(p)) for p in out]


class Choosy:
    """Refuses some units."""

    marker_on_last = True

    def packetize(self, data: memoryview) -> list[tuple[bytes, memoryview]]:
        if bytes(data) == b"bad":
            raise FormatError("it is bad")
        return [(b"", data[:2]), (b"", data[2:])]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, ["C", "C", "CD", "C"]),
        ({"discontinuity": True}, ["C", "C", "CD", "C"]),
        ({"end": True}, ["C", "C", "E", "CD", "C"]),
        ({"end": True, "terminal": True}, ["C", "C", "ET", "CD", "C"]),
    ],
    ids=lambda value: ",".join(value) or "none",
)
def test_the_flags_of_a_unit_that_cannot_be_packetized_are_sent_all_the_same(
    flags: dict[str, bool], expected: list[str]
) -> None:
    stream = RtpStream(PlainVideo(), 96, lambda c: Choosy(), Origin(7, 65_534, 0), None)
    good, bad, after = units(PlainVideo(), PlainVideo(), PlainVideo())
    bad.data = b"bad"
    for name, value in flags.items():
        setattr(bad, name, value)
    found = sent(stream, [good, bad, after])
    assert [p.flags for p in found] == expected
    assert [p.seq for p in found] == [(65_534 + i) & 0xFFFF for i in range(len(found))]
    assert (stream.refused, stream.last_refusal) == (1, "it is bad")


def test_the_end_of_all_footage_is_told_when_it_is_of_another_format() -> None:
    stream = RtpStream(SLOW, 97, lambda c: packetizer_for(c, 1400), Origin(7, 0, 0), None)
    found = sent(stream, units(SLOW, FAST, FAST, end=True, terminal=True))
    assert [p.flags for p in found] == ["C", "E", "ET"]
    assert [p.rtp_time for p in found] == [0, 0, 0]
    assert stream.refused == 2


def test_without_the_extension_nothing_is_sent_for_what_is_refused() -> None:
    stream = RtpStream(SLOW, 97, lambda c: packetizer_for(c, 1400), Origin(7, 0, 0), 0)
    out: list[Buffer] = []
    for unit in units(FAST, SLOW, end=True):
        stream.append(unit, 0, None, out)
    assert b"".join(out)[4] == 0x80  # one packet, no extension


class TestDescription:
    def presentation(self, *streams: PresentedStream, **more: Any) -> Presentation:
        return Presentation(streams, 0, **more)

    def test_static_types_stand_beside_dynamic_ones_and_the_first_format_is_told_last(self) -> None:
        sound = PresentedStream("a", PcmuConfiguration(16_000, 1), None, 1, 0, (PcmuConfiguration(8000, 1), FAST))
        text = describe(self.presentation(sound), "127.0.0.1").decode()
        assert "m=audio 0 RTP/AVP 97 0 127\r\n" in text
        lines = [line for line in text.split("\r\n") if line.startswith("a=rtpmap")]
        assert lines == ["a=rtpmap:127 L16/48000", "a=rtpmap:0 PCMU/8000", "a=rtpmap:97 PCMU/16000"]

    def test_audio_specific_configurations_are_formats(self) -> None:
        low, high = AacConfiguration(bytes.fromhex("1588"), 8000, 1), AacConfiguration(bytes.fromhex("1190"), 48_000, 2)
        formats = SessionDescription.parse(
            describe(self.presentation(PresentedStream("a", low, None, 1, 0, (high,))), "127.0.0.1")
        ).media[0].formats  # fmt: skip
        assert [f.parameters["config"].lower() for f in formats] == ["1588", "1190"]

    def test_no_two_streams_share_a_type_and_what_has_none_is_left_out(self) -> None:
        many = tuple(L16Configuration(rate) for rate in range(9000, 9010))
        streams = [PresentedStream(f"a{n}", SLOW, None, n, n, many) for n in range(6)]
        streams.append(PresentedStream("m", PlainMetadata(), None, 11))
        presentation = self.presentation(*streams, numbers=12)
        types = [[t for _, t in payload_types(presentation, i)] for i in range(len(streams))]
        assert [len(t) for t in types] == [6, 6, 6, 6, 1, 1, 1]
        assert len({t for of_stream in types for t in of_stream}) == sum(map(len, types))
        assert all(96 <= t <= 127 for of_stream in types for t in of_stream)


class TestLooking:
    def many(self, runs: int, last: CodecConfiguration = FAST) -> MemoryTrack:
        track = MemoryTrack(SLOW).starting_at(TEN)
        for n in range(runs):
            track.with_configuration(last if n == runs // 2 else SLOW).with_gop(["x..."]).with_gap(track.at_ns + NS)
        return track

    async def test_a_track_of_many_runs_is_looked_at_in_turns(self, serve: Serve) -> None:
        served = await serve({AUDIO001: self.many(5 * LOOKS)}, payload=None)
        client = await served.client()
        first = SessionDescription.parse((await client.request("DESCRIBE", PATH)).body)
        assert [f.rtpmap for f in first.media[0].formats] == ["L16/8000"]
        formats: list[str] = []
        while len(formats) < 2:
            described = SessionDescription.parse((await client.request("DESCRIBE", PATH)).body)
            formats = [f.rtpmap for f in described.media[0].formats]
        assert formats == ["L16/8000", "L16/48000"]

    def test_the_ends_and_known_changes_come_first(self) -> None:
        track = self.many(100, SLOW)
        at = track.runs[70]
        track.runs[70] = type(at)(at.run_id, at.start_ns, at.end_ns, GapReason.CONFIGURATION_CHANGED)
        track.with_configuration(STEREO).with_gop(["x..."]).with_end()
        formats = SoundFormats()
        assert not formats.look(KEY, track.timeline, track, 3)
        assert formats.found(KEY, track.timeline) == (SLOW, STEREO)
        assert formats.look(KEY, track.timeline, track, 98)

    def test_each_run_is_looked_at_once_and_forgotten_when_it_has_gone(self) -> None:
        track = self.many(200)
        formats = SoundFormats()
        assert formats.look(KEY, track.timeline, track, 1000)
        track.fragments_.clear()  # nothing is looked at again
        assert formats.look(KEY, track.timeline, track, 0)
        assert formats.found(KEY, track.timeline) == (SLOW, FAST)
        del track.runs[:-1]
        assert formats.look(KEY, track.timeline, track, 0)
        assert formats.found(KEY, track.timeline) == (SLOW,)

    async def test_a_lane_that_is_full_is_asked_again_by_the_next_description(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Full(Readers):
            full = True

            def run(self, *args: Any, **options: Any) -> asyncio.Future[Any]:
                if self.full:
                    raise LimitReached("reads", 1)
                return super().run(*args, **options)

        formats, readers, store = SoundFormats(), Full(1), MemoryStore({KEY: self.many(3 * LOOKS)})
        formats.look_on(KEY, store, readers)
        assert "not all formats" in caplog.text
        readers.full = False
        formats.look_on(KEY, store, readers)
        await until(lambda: len(formats.found(KEY, store.timeline(KEY))) == 2)
        formats.close()
        readers.close()

    async def test_a_server_that_stops_looks_no_further(self, serve: Serve) -> None:
        served = await serve({AUDIO001: self.many(3 * LOOKS)}, payload=None)
        client = await served.client()
        await client.request("DESCRIBE", PATH)
        await served.server.stop()
        await until(lambda: served.server.connections == 0)


@pytest.mark.requirement("PB-8.5.2-12", "PB-8.5.5-07")
@pytest.mark.parametrize(("asked", "first"), [("00", b"00.."), ("00.000000999", b"00.."), ("00.000001", b"01..")])
async def test_a_beginning_that_a_client_has_rounded_is_the_beginning(serve: Serve, asked: str, first: bytes) -> None:
    client = await (await serve({AUDIO001: changing(SLOW)}, payload=None)).client()
    await playing(client, Range=f"clock=20260101T1000{asked}Z-")
    assert (await client.packet()).payload == first


async def test_a_report_follows_each_change_of_the_clock() -> None:
    """What the last one has tied to the wall clock is time of another clock."""
    hands = HandTurnedClock()
    transport = Recorded(hands)
    stream = RtpStream(SLOW, 97, lambda c: packetizer_for(c, 1400), Origin(7, 0, 0), None, None, [(FAST, 127)])
    formats = [SLOW, SLOW, FAST, FAST, SLOW]
    sounds = [Unit(0, TEN + n * NS, TEN + n * NS, TEN + n * NS, b"abcd", c, True) for n, c in enumerate(formats)]
    line = Line(TEN, 0, Fraction(1))
    playback = Playback(Listed(sounds), Position.at(TEN))
    player = Player(playback, {0: stream}, transport, hands, Pacing.PLAYING_TIME, line, TEN, 7, "here")
    async with asyncio.timeout(5):
        await player.run()
    assert transport.rtp_times == [0, 8000, 96_000, 144_000, 32_000]
    told = [(at // NS, struct.unpack_from(">I", report, 16)[0]) for at, report in transport.reports]
    assert told == [(0, 0), (2, 96_000), (4, 32_000)]
