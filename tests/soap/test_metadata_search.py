"""Positions, metadata and media attributes on the wire, over footage on a real volume."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from nvr.model.recording import TrackType
from nvr.model.time import NS, format_iso, parse_iso
from nvr.model.timeline import GapReason
from nvr.model.tokens import AUDIO001, META001, VIDEO001, RecordingToken, TrackKey
from nvr.storage.footage import Footage
from tests.soap.conftest import LIMITS
from tests.support.footage import PCMU, START, a_track, video
from tests.support.metadata import a_document, a_fragment, a_position, an_event, an_object
from tests.support.recorded import Store, opened
from tests.support.soap_house import (
    Reply,
    SoapHouse,
    end_search,
    find_events,
    find_metadata,
    find_positions,
    recording_of,
    results_request,
    topic_xml,
)

LONG_AGO, FAR_OFF = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"
GENERIC = [
    "http://www.onvif.org/ver10/tptz/PanTiltSpaces/PositionGenericSpace",
    "http://www.onvif.org/ver10/tptz/ZoomSpaces/PositionGenericSpace",
]
HUMAN = 'boolean(//Object/Appearance/Class[Type = "Human"])'


@dataclass
class Recorded:
    """A recording whose camera moves, shows objects and tells events, and another that does the same elsewhere."""

    house: SoapHouse
    store: Store
    recording: str
    other: str

    async def found(self, what: str, request: str, user: str = "administrator") -> Reply:
        token = (await self.house.send(request, user)).text("tse:SearchToken")
        reply = await self.house.send(results_request(token, wait="PT30S", what=what), user)
        assert reply.text("tse:ResultList/tt:SearchState") == "Completed"
        return reply

    async def attributes(self, at: str, *tokens: str) -> Reply:
        named = "".join(f"<tse:RecordingTokens>{t}</tse:RecordingTokens>" for t in tokens)
        return await self.house.send(
            f"<tse:GetMediaAttributes>{named}<tse:Time>{at}</tse:Time></tse:GetMediaAttributes>"
        )


def at(second: float) -> str:
    return format_iso(START + int(second * NS))


@pytest_asyncio.fixture
async def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Recorded]:
    monkeypatch.setattr("nvr.search.attributes.PATIENCE_S", 600.0)  # on any machine
    async with opened(tmp_path) as store:
        house = await SoapHouse.open(LIMITS, recorded=store)
        recording, other = await recording_of(house), await recording_of(house)
        for token, shift in ((recording, 0), (other, 1)):
            key = TrackKey(RecordingToken(token), META001)
            documents = []
            for n in range(10):
                parts = [a_position(n / 10, -0.25, n / 20), an_object("Human" if n % 2 else "Vehicle", right=n / 10)]
                if n == 4:
                    parts.append(an_event(START, "tns1:RuleEngine/v:Odd", data={"Plate": "AB 1"}))
                documents.append((START + n * NS + shift, a_document(*parts)))
            await store.record(a_fragment(documents[:5]), a_fragment(documents[5:]), end=True, key=key)
        of_video = TrackKey(RecordingToken(recording), VIDEO001)
        a_track().with_gop(count=25).feed(store.storage.recorder(of_video, TrackType.VIDEO))
        audio = store.storage.recorder(TrackKey(RecordingToken(recording), AUDIO001), TrackType.AUDIO)
        a_track(PCMU).with_gop(count=25).feed(audio)
        audio.end_run(GapReason.SOURCE_LOST)
        await store.storage.flush()
        await store.indexer.catch_up()
        yield Recorded(house, store, recording, other)
        await house.close()


def results(reply: Reply, field: str) -> list[str]:
    return reply.texts(f"tse:ResultList/tt:Result/tt:{field}")


@pytest.mark.requirement("RS-6.3.7-01", "RS-6.3.7-02", "RS-6.3.7-03", "RS-6.3.7-04", "RS-6.11-05", "RS-6.12-04")
@pytest.mark.requirement("RS-6.3.8-05", "RS-6.3.8-02", "RS-6.3.8-04", "RS-6.2.5-01", "RS-6.2.6-04")
async def test_a_found_position_can_be_used_as_the_volume_that_finds_it_again(recorded: Recorded) -> None:
    scope = f"<tt:IncludedRecordings>{recorded.recording}</tt:IncludedRecordings>"
    everything = await recorded.found("PTZPosition", find_positions(LONG_AGO, FAR_OFF, scope=scope))
    assert results(everything, "RecordingToken") == [recorded.recording] * 10
    assert results(everything, "TrackToken") == [META001] * 10
    assert results(everything, "Time") == [at(n) for n in range(10)]
    newest_first = await recorded.found("PTZPosition", find_positions(FAR_OFF, LONG_AGO, scope=scope))
    assert results(newest_first, "Time") == [at(n) for n in reversed(range(10))]
    for n, position in enumerate(everything.all("tse:ResultList/tt:Result/tt:Position")):
        assert (position[0].attrib, position[1].attrib) == ({"x": repr(n / 10), "y": "-0.25"}, {"x": repr(n / 20)})
        same = f'<tt:PanTilt x="{position[0].get("x")}" y="-0.25"/><tt:Zoom x="{position[1].get("x")}"/>'
        again = await recorded.found(
            "PTZPosition", find_positions(LONG_AGO, FAR_OFF, least=same, most=same, scope=scope)
        )
        assert results(again, "Time") == [at(n)]
    mine = '<tt:PanTilt x="0" y="-1" space="urn:mine"/>'
    foreign = await recorded.found("PTZPosition", find_positions(LONG_AGO, least=mine, most=mine))
    assert results(foreign, "Time") == []


@pytest.mark.requirement("RS-6.3.8-03", "RS-6.11-13", "RS-6.2.1-05", "RS-6.11-07", "RS-6.12-06")
async def test_positions_come_in_both_directions_and_in_portions(recorded: Recorded) -> None:
    least, most = '<tt:PanTilt x="0.3" y="-1"/>', '<tt:PanTilt x="0.5" y="1"/>'
    request = find_positions(at(0), at(9.5), least=least, most=most)
    forward = results(await recorded.found("PTZPosition", request), "Time")
    assert forward == [format_iso(START + n * NS + shift) for n in (3, 4, 5) for shift in (0, 1)]
    backward = find_positions(at(9.5), at(0), least=least, most=most)
    assert results(await recorded.found("PTZPosition", backward), "Time") == forward[::-1]
    changes = find_positions(at(0), at(9.5), least=least, most=most, enter_or_exit=True)
    assert results(await recorded.found("PTZPosition", changes), "Time") == [
        format_iso(START + n * NS + shift) for n in (3, 6) for shift in (0, 1)
    ]
    token = (await recorded.house.send(find_positions(LONG_AGO, maximum=5))).text("tse:SearchToken")
    sizes = []
    for _ in range(3):
        portion = await recorded.house.send(results_request(token, maximum=2, wait="PT30S", what="PTZPosition"))
        sizes.append(len(results(portion, "Time")))
    assert sizes == [2, 2, 1]
    assert portion.text("tse:ResultList/tt:SearchState") == "Completed"


@pytest.mark.requirement("RS-6.3.10-01", "RS-6.3.10-02", "RS-6.3.10-03", "RS-6.13-04", "RS-6.14-04", "RS-6.3.9-01")
@pytest.mark.requirement("RS-6.3.9-02", "RS-6.13-11", "RS-6.13-12", "RS-6.18-10", "RS-6.18-11", "RS-6.18-01")
@pytest.mark.requirement("RS-6.2.5-01")
async def test_metadata_is_found_by_what_stands_in_it(recorded: Recorded) -> None:
    scope = f"<tt:IncludedRecordings>{recorded.recording}</tt:IncludedRecordings>"

    async def times(wanted: str, start: str = LONG_AGO, end: str | None = FAR_OFF) -> list[str]:
        reply = await recorded.found("Metadata", find_metadata(start, end, wanted=wanted, scope=scope))
        assert set(results(reply, "RecordingToken")) <= {recorded.recording}
        assert set(results(reply, "TrackToken")) <= {META001}
        return results(reply, "Time")

    assert await times(HUMAN) == [at(n) for n in (1, 3, 5, 7, 9)]
    assert await times(HUMAN, FAR_OFF, LONG_AGO) == [at(n) for n in (9, 7, 5, 3, 1)]
    assert await times(HUMAN, at(3), at(7)) == [at(n) for n in (3, 5, 7)]
    right = 'boolean(//Object/Appearance/Shape/BoundingBox[@right > "0.5"])'
    assert await times(f"{right} and {HUMAN}") == [at(7), at(9)]
    assert await times(f"{right} or boolean(//SimpleItem[@Name=“Plate”])") == [at(n) for n in (4, 6, 7, 8, 9)]
    assert await times('boolean(//Nothing[Token = "x"])') == []
    bad = await recorded.house.send(find_metadata(LONG_AGO, wanted="//Object["))
    assert bad.fault == "Sender/InvalidArgVal/InvalidFilterFault"


@pytest.mark.requirement("RS-6.12-08", "RS-6.12-10", "RS-6.14-08", "RS-6.14-10")
async def test_a_minimum_that_is_never_reached_gives_what_there_is(recorded: Recorded) -> None:
    for kind, request in (("PTZPosition", find_positions(LONG_AGO)), ("Metadata", find_metadata(LONG_AGO))):
        token = (await recorded.house.send(request)).text("tse:SearchToken")
        reply = await recorded.house.send(results_request(token, minimum=2_000_000_000, wait="P10Y", what=kind))
        assert (reply.text("tse:ResultList/tt:SearchState"), len(results(reply, "Time"))) == ("Completed", 20)


@pytest.mark.requirement("RS-6.2.2-02", "RS-6.3.6-04", "RS-6.9-05")
async def test_events_of_the_camera_are_found_in_the_recording(recorded: Recorded) -> None:
    wanted = topic_xml("tns1:RuleEngine//.")
    reply = await recorded.found("Event", find_events(LONG_AGO, FAR_OFF, wanted=wanted))
    assert results(reply, "RecordingToken") == [recorded.recording, recorded.other]
    assert results(reply, "Time") == [format_iso(START + 4 * NS + n) for n in range(2)]
    (message, _) = reply.all("tse:ResultList/tt:Result/tt:Event/wsnt:Message/tt:Message")
    assert message.get("UtcTime") == format_iso(START)
    assert [i.get("Value") for i in message.iter("{*}SimpleItem")] == ["V1", "AB 1"]


@pytest.mark.requirement(
    "RS-6.10-03", "RS-6.12-03", "RS-6.14-03", "RS-6.1-02", "RS-6.15-03", "RS-6.15-07", "RS-6.11-08", "RS-6.13-07"
)
async def test_a_session_is_of_one_kind_and_ends_where_it_is(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nvr.search.steps.STEP_NS", 60 * NS)  # the first step comes to the end, on any machine
    house, invalid = recorded.house, "Sender/InvalidArgVal/InvalidToken"
    kinds = {
        "PTZPosition": find_positions(at(0), at(7)),
        "Metadata": find_metadata(at(0), at(7)),
        "Event": find_events(at(0), at(7)),
    }
    for kind, request in kinds.items():
        token = (await house.send(request)).text("tse:SearchToken")
        for other in {*kinds, "Recording"} - {kind}:
            assert (await house.send(results_request(token, what=other))).fault == invalid
        unknown = await house.send(results_request("nosuch", what=kind))
        assert (unknown.status, unknown.fault) == (400, invalid)
        await asyncio.gather(*(s._step for _, s in house.searches._sessions.values() if s._step is not None))
        ended = await house.send(end_search(token))
        assert parse_iso(ended.text("tse:Endpoint")) == START + 7 * NS
        assert (await house.send(results_request(token, what=kind))).fault == invalid


@pytest.mark.requirement("RS-6.11-09", "RS-6.11-10", "RS-6.13-08", "RS-6.13-09", "RS-6.11-11", "RS-6.13-10")
async def test_searches_live_for_their_keep_alive_time(recorded: Recorded) -> None:
    house = recorded.house
    for kind, request in (("PTZPosition", find_positions), ("Metadata", find_metadata)):
        token = (await house.send(request(LONG_AGO))).text("tse:SearchToken")
        for _ in range(3):
            house.clock.advance(9)
            reply = await house.send(results_request(token, maximum=1, wait="PT30S", what=kind))
            assert reply.text("tse:ResultList/tt:SearchState") == "Searching"
        house.clock.advance(10.5)
        gone = await house.send(results_request(token, what=kind))
        assert gone.fault == "Sender/InvalidArgVal/InvalidToken"
        assert (await house.send(request(LONG_AGO, keep_alive="PT1H"))).fault is None


# Media attributes


@pytest.mark.requirement("RS-6.3.5-01", "RS-6.3.5-02", "RS-6.3.5-03", "RS-6.3.5-04", "RS-6.3.5-05", "RS-6.3.5-06")
@pytest.mark.requirement("RS-6.6-04", "RS-6.6-08", "RS-6.6-09", "RS-6.6-10")
async def test_attributes_are_those_of_the_footage_at_an_instant(recorded: Recorded) -> None:
    reply = await recorded.attributes(at(4), recorded.recording, recorded.other)
    items = "tse:MediaAttributes"
    assert reply.texts(f"{items}/tt:RecordingToken") == [recorded.recording, recorded.other]
    tracks = f"{items}/tt:TrackAttributes"
    assert reply.texts(f"{tracks}/tt:TrackInformation/tt:TrackToken") == [VIDEO001, AUDIO001, META001, META001]
    kinds = [[str(k.tag).rpartition("}")[2] for k in t[1:]] for t in reply.all(tracks)]
    assert kinds == [["VideoAttributes"], ["AudioAttributes"], ["MetadataAttributes"], ["MetadataAttributes"]]
    told = {str(e.tag).rpartition("}")[2]: e.text for e in reply.all(f"{tracks}/tt:VideoAttributes")[0]}
    assert (told["Encoding"], told["Width"], told["Height"]) == ("H264", str(video().width), str(video().height))
    assert float(told["Framerate"] or 0) == 25.0
    assert int(told["Bitrate"] or 0) > 0
    assert reply.texts(f"{tracks}/tt:AudioAttributes/tt:Encoding") == ["G711"]
    assert reply.texts(f"{tracks}/tt:AudioAttributes/tt:Samplerate") == ["8"]
    (metadata, _) = reply.all(f"{tracks}/tt:MetadataAttributes")
    assert [e.text for e in metadata] == ["true", "true", "true"]
    assert (metadata.get("PtzSpaces") or "").split() == GENERIC
    for n in range(10):  # the times of all the positions that FindPTZPosition finds there
        alone = await recorded.attributes(at(n), recorded.recording)
        (metadata,) = alone.all(f"{tracks}/tt:MetadataAttributes")
        assert metadata.findtext("{*}CanContainPTZ") == "true"
        assert (metadata.get("PtzSpaces") or "").split() == GENERIC
    for n in range(2):
        begin, end = (parse_iso(reply.texts(f"{items}/tt:{name}")[n]) for name in ("From", "Until"))
        assert begin <= START + 4 * NS <= end
        assert begin in (START, START + 1)


@pytest.mark.requirement("RS-6.6-03", "RS-6.6-04", "RS-6.6-06", "RS-6.6-07")
async def test_a_recording_without_data_at_the_instant_has_no_attributes(recorded: Recorded) -> None:
    tokens = "tse:MediaAttributes/tt:RecordingToken"
    assert (await recorded.attributes(at(4))).texts(tokens) == [recorded.recording, recorded.other]
    assert (await recorded.attributes(at(4), recorded.other)).texts(tokens) == [recorded.other]
    assert (await recorded.attributes(at(100))).texts(tokens) == []
    assert (await recorded.attributes(LONG_AGO)).texts(tokens) == []
    assert (await recorded.attributes(FAR_OFF)).texts(tokens) == []
    key = TrackKey(RecordingToken(recorded.other), META001)
    await recorded.store.record(a_fragment([(START + 200 * NS, a_document())]), end=True, key=key)
    assert (await recorded.attributes(at(200))).texts(tokens) == [recorded.other]
    assert (await recorded.attributes(at(100))).texts(tokens) == [], "a gap now"
    assert (await recorded.attributes(at(4), recorded.other, recorded.other)).texts(tokens) == [recorded.other]
    for named in (["nosuch"], [recorded.other, "nosuch"]):
        refused = await recorded.attributes(at(4), *named)
        assert (refused.status, refused.fault) == (400, "Sender/InvalidArgVal/InvalidToken")


@pytest.mark.requirement("RS-6.6-05", "RS-6.3.5-02")
async def test_what_does_not_answer_is_told_for_the_instant_alone(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr("nvr.search.attributes.PATIENCE_S", 0.01)
    monkeypatch.setattr(Footage, "section", lambda footage, at_ns, run_id: go_on.wait() and None)
    reply = await recorded.attributes(at(4))
    items = "tse:MediaAttributes"
    assert reply.texts(f"{items}/tt:RecordingToken") == [recorded.recording, recorded.other]
    tracks = f"{items}/tt:TrackAttributes"
    assert reply.texts(f"{tracks}/tt:TrackInformation/tt:TrackToken") == [VIDEO001, AUDIO001, META001, META001]
    for name in ("From", "Until"):
        assert {parse_iso(text) for text in reply.texts(f"{items}/tt:{name}")} == {START + 4 * NS}
    go_on.set()
