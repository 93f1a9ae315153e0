"""What clients put where the schema has its wildcards: kept, and told again in its place and with its meaning."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from nvr.control.state import ControlSettings
from nvr.model.extension import LONGEST
from nvr.soap import types
from nvr.soap.event_wire import ElementItem
from nvr.soap.extensions import extended, extensions_of
from nvr.soap.model import Foreign
from nvr.soap.names import TRV, TT
from nvr.soap.reader import read
from nvr.soap.writer import write
from nvr.storage.configuration import ConfigurationStore
from tests.support.configuration import XorSealer
from tests.support.soap_house import (
    SoapHouse,
    create_job,
    create_recording,
    receiver_of,
    receiver_xml,
    recording_of,
    source_xml,
    track_xml,
)

V = 'xmlns:v="urn:vendor"'


def vendor(what: str) -> str:
    return f'<v:{what} {V} v:unit="cm"><v:Depth>3 &lt; 4</v:Depth></v:{what}>'


@pytest_asyncio.fixture
async def kept_house(tmp_path: Path) -> AsyncIterator[Kept]:
    kept = Kept(tmp_path)
    await kept.open()
    yield kept
    await kept.house.close()
    kept.store.close()


class Kept:
    """A house over the real configuration, which can be left and entered again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def open(self) -> None:
        self.store = ConfigurationStore.open(self._directory / "config.db", XorSealer())
        self.house = await SoapHouse.open(ControlSettings(), store=self.store)

    async def reopen(self) -> None:
        await self.house.close()
        self.store.close()
        await self.open()

    async def told(self, request: str, path: str, user: str = "administrator") -> str:
        """The element at this path of the answer, as canonical XML with the declarations that it needs."""
        reply = await self.house.send(request, user)
        assert reply.fault is None, reply.reason
        (found,) = reply.all(path)
        return etree.tostring(found, method="c14n", exclusive=True).decode()


def inner(element: str) -> list[str]:
    """Names of the children, in order."""
    return [etree.QName(child).localname for child in etree.fromstring(element)]


async def test_extensions_of_a_recording_are_told_again_where_they_stood_also_after_a_restart(kept_house: Kept) -> None:
    source = source_xml().replace("</tt:Source>", f"{vendor('Map')}</tt:Source>")
    asked = create_recording(source.replace("<tt:Source>", f'<tt:Source {V} v:site="7" plain="a&#10;b">'), "yard")
    newer = (  # of an edition behind that of this recorder: the official schema knows it
        "<tt:Target><tt:Storage>s3</tt:Storage><tt:Format>mp4</tt:Format><tt:SegmentDuration>PT5M</tt:SegmentDuration>"
        "</tt:Target>"
    )
    asked = asked.replace("</trc:RecordingConfiguration>", f"{newer}{vendor('More')}</trc:RecordingConfiguration>")
    token = (await kept_house.house.send(asked)).text("trc:RecordingToken")
    request = f"<trc:RecordingToken>{token}</trc:RecordingToken>"
    request = f"<trc:GetRecordingConfiguration>{request}</trc:GetRecordingConfiguration>"
    before = await kept_house.told(request, "trc:RecordingConfiguration")
    assert inner(before) == ["Source", "Content", "MaximumRetentionTime", "Target", "More"]
    source_told = etree.fromstring(before)[0]
    assert inner(etree.tostring(source_told, encoding="unicode"))[-1] == "Map"
    assert (source_told.get("{urn:vendor}site"), source_told.get("plain")) == ("7", "a\nb")
    assert '<v:Map v:unit="cm"><v:Depth>3 &lt; 4</v:Depth></v:Map>' in before
    listed = await kept_house.told("<trc:GetRecordings/>", "trc:RecordingItem/tt:Configuration")
    assert [c.tag for c in etree.fromstring(listed)] == [c.tag for c in etree.fromstring(before)]
    await kept_house.reopen()
    assert await kept_house.told(request, "trc:RecordingConfiguration") == before


async def test_a_new_configuration_takes_the_place_of_the_old_one_with_its_extensions(kept_house: Kept) -> None:
    token = await recording_of(kept_house.house)
    track = f"<trc:RecordingToken>{token}</trc:RecordingToken><trc:TrackToken>VIDEO001</trc:TrackToken>"
    for name in ("One", "Two", ""):
        more = vendor(name) if name else ""
        given_ = track_xml().replace("</trc:TrackConfiguration>", f"{more}</trc:TrackConfiguration>")
        body = f"<trc:SetTrackConfiguration>{track}{given_}</trc:SetTrackConfiguration>"
        assert (await kept_house.house.send(body)).fault is None
        await kept_house.reopen()
        request = f"<trc:GetTrackConfiguration>{track}</trc:GetTrackConfiguration>"
        told = await kept_house.told(request, "trc:TrackConfiguration")
        assert inner(told)[2:] == [name] * bool(name)


async def test_extensions_of_a_job_stay_with_its_sources_and_tracks(kept_house: Kept) -> None:
    recording, receiver = await recording_of(kept_house.house), await receiver_of(kept_house.house)
    source = (
        f'<tt:Source {V} v:rank="1"><tt:SourceToken v:seen="x"><tt:Token>{receiver}</tt:Token>{vendor("Ref")}'
        f'</tt:SourceToken><tt:Tracks v:lens="wide"><tt:SourceTag/><tt:Destination>VIDEO001</tt:Destination>'
        f"<tt:Newer/></tt:Tracks><tt:Extension>{vendor('InSource')}</tt:Extension></tt:Source>"
        f"<tt:Extension>{vendor('InJob')}</tt:Extension>{vendor('Behind')}"
    )
    made = await kept_house.house.send(create_job(recording, source))
    assert made.fault is None, made.reason
    job = f"<trc:JobToken>{made.text('trc:JobToken')}</trc:JobToken>"
    request = f"<trc:GetRecordingJobConfiguration>{job}</trc:GetRecordingJobConfiguration>"
    answered = etree.tostring(made.all("trc:JobConfiguration")[0], method="c14n", exclusive=True).decode()
    told = await kept_house.told(request, "trc:JobConfiguration")
    assert told == answered
    element = etree.fromstring(told)
    assert inner(told) == ["RecordingToken", "Mode", "Priority", "Source", "Extension", "Behind"]
    told_source = element.find(f"{{{TT}}}Source")
    assert told_source is not None
    assert told_source.get("{urn:vendor}rank") == "1"
    assert [etree.QName(e).localname for e in told_source.iter()] == [
        *("Source", "SourceToken", "Token", "Ref", "Depth"),
        *("Tracks", "SourceTag", "Destination", "Newer", "Extension", "InSource", "Depth"),
    ]
    await kept_house.house.send(f"<trc:SetRecordingJobMode>{job}<trc:Mode>Active</trc:Mode></trc:SetRecordingJobMode>")
    await kept_house.reopen()
    assert await kept_house.told(request, "trc:JobConfiguration") == told.replace("Idle", "Active")


async def test_extensions_of_a_receiver_are_told_to_those_who_may_set_them(kept_house: Kept) -> None:
    """A vendor may have put the password of the camera into them."""
    given_ = receiver_xml(protocol="UDP")
    given_ = given_.replace("</trv:Configuration>", f"{vendor('Login')}</trv:Configuration>")
    given_ = given_.replace("</tt:Protocol>", "</tt:Protocol><tt:Tunnel><tt:Protocol>TCP</tt:Protocol></tt:Tunnel>")
    given_ = given_.replace("</tt:Transport>", f"</tt:Transport>{vendor('Setup')}")
    made = await kept_house.house.send(f"<trv:CreateReceiver>{given_}</trv:CreateReceiver>")
    assert made.fault is None, made.reason
    receiver = f"<trv:ReceiverToken>{made.text('trv:Receiver/tt:Token')}</trv:ReceiverToken>"
    request = f"<trv:GetReceiver>{receiver}</trv:GetReceiver>"
    told = await kept_house.told(request, "trv:Receiver/tt:Configuration")
    for name in ("v:Login", "v:Setup", "tt:Tunnel"):
        assert f"<{name} " in told or f"<{name}>" in told
    body = f"<trv:SetReceiverMode>{receiver}<trv:Mode>NeverConnect</trv:Mode></trv:SetReceiverMode>"
    assert (await kept_house.house.send(body)).fault is None
    await kept_house.reopen()
    after = await kept_house.told(request, "trv:Receiver/tt:Configuration")
    assert after == told.replace("AutoConnect", "NeverConnect")
    for user in ("operator", "user"):
        shown = await kept_house.told(request, "trv:Receiver/tt:Configuration", user)
        assert ("v:Login" in shown) == (user == "operator")


@pytest.mark.requirement("RX-10.5.3-07")
@pytest.mark.parametrize("protocol", ControlSettings().protocols)
async def test_a_configuration_of_a_receiver_comes_back_exactly_as_it_was_sent(house: SoapHouse, protocol: str) -> None:
    inner_tunnel = "<tt:Tunnel><tt:Protocol>TCP</tt:Protocol></tt:Tunnel>"
    nested = f"<tt:Tunnel><tt:Protocol>RTSP</tt:Protocol>{inner_tunnel}</tt:Tunnel>"
    for mode, tunnel in (("AutoConnect", ""), ("NeverConnect", inner_tunnel), ("AlwaysConnect", nested)):
        sent = receiver_xml("rtsp://user:p%40ss@camera.example:8554/a?b=c&amp;d", mode, protocol=protocol)
        sent = sent.replace("</tt:Protocol>", f"</tt:Protocol>{tunnel}", 1)
        made = await house.send(f"<trv:CreateReceiver>{sent}</trv:CreateReceiver>")
        token = made.text("trv:Receiver/tt:Token")
        one = await house.send(f"<trv:GetReceiver><trv:ReceiverToken>{token}</trv:ReceiverToken></trv:GetReceiver>")
        all_ = await house.send("<trv:GetReceivers/>")
        told = [made.all("trv:Receiver")[0], one.all("trv:Receiver")[0], all_.all("trv:Receivers")[-1]]
        declared = f'xmlns:trv="{TRV}" xmlns:tt="{TT}"'
        expected = etree.fromstring(sent.replace("<trv:Configuration>", f"<trv:Configuration {declared}>", 1))
        for receiver in told:
            configuration = receiver.find(f"{{{TT}}}Configuration")
            assert configuration is not None
            assert [etree.tostring(e, method="c14n", exclusive=True) for e in configuration] == [
                etree.tostring(e, method="c14n", exclusive=True) for e in expected
            ]


@pytest.mark.parametrize(
    ("length", "fault"), [(LONGEST - 100, None), (LONGEST, "Sender/InvalidArgVal/BadConfiguration")]
)
async def test_more_than_is_kept_is_refused_and_not_cut(house: SoapHouse, length: int, fault: str | None) -> None:
    long = f"<v:Long {V}>{'x' * length}</v:Long>"
    receiver = receiver_xml().replace("</trv:Configuration>", f"{long}</trv:Configuration>")
    recording = create_recording().replace("</trc:RecordingConfiguration>", f"{long}</trc:RecordingConfiguration>")
    for body in (f"<trv:CreateReceiver>{receiver}</trv:CreateReceiver>", recording):
        reply = await house.send(body)
        assert reply.fault == fault
        assert fault is None or str(LONGEST) in reply.reason
    assert len(house.store.applied) == (2 if fault is None else 0)


@pytest.mark.parametrize(("depth", "fault"), [(32, None), (33, "Sender/InvalidArgVal/BadConfiguration")])
async def test_what_is_nested_too_deeply_to_be_told_in_every_answer_is_refused(
    house: SoapHouse, depth: int, fault: str | None
) -> None:
    deep = f"<v:a {V}>" + "<v:a>" * (depth - 1) + "</v:a>" * depth
    asked = create_recording().replace("</trc:RecordingConfiguration>", f"{deep}</trc:RecordingConfiguration>")
    assert (await house.send(asked)).fault == fault


async def test_the_parts_of_a_job_share_one_limit(house: SoapHouse) -> None:
    recording, receiver = await recording_of(house), await receiver_of(house)
    part = f'{V} v:x="{"x" * (LONGEST // 3)}"'
    token = f"<tt:SourceToken><tt:Token>{receiver}</tt:Token></tt:SourceToken>"
    tracks = "".join(
        f"<tt:Tracks {part}><tt:SourceTag/><tt:Destination>{t}</tt:Destination></tt:Tracks>"
        for t in ("VIDEO001", "AUDIO001")
    )
    refused = await house.send(create_job(recording, f"<tt:Source {part}>{token}{tracks}</tt:Source>"))
    assert refused.fault == "Sender/InvalidArgVal/BadConfiguration"
    assert (await house.send(create_job(recording, f"<tt:Source>{token}{tracks}</tt:Source>"))).fault is None


@pytest.mark.parametrize(
    "source",
    [
        "<tt:AutoCreateReceiver>true</tt:AutoCreateReceiver><v:Own xmlns:v='urn:vendor'/>",
        "<tt:AutoCreateReceiver>true</tt:AutoCreateReceiver><tt:Newer/>",
        "<tt:AutoCreateReceiver>true</tt:AutoCreateReceiver><tt:Tracks><tt:SourceTag/><tt:Destination>VIDEO001"
        "</tt:Destination><v:Own xmlns:v='urn:vendor'/></tt:Tracks>",
        "<tt:AutoCreateReceiver>true</tt:AutoCreateReceiver><tt:Extension v:a='1' xmlns:v='urn:vendor'/>",
    ],
    ids=["no xs:any", "not even of its own namespace", "of its own namespace only", "no xs:anyAttribute"],
)
async def test_where_the_schema_has_no_wildcard_nothing_is_taken(house: SoapHouse, source: str) -> None:
    recording = await recording_of(house)
    reply = await house.send(create_job(recording, f"<tt:Source>{source}</tt:Source>"))
    assert reply.fault == "Sender/InvalidArgs"


# Meaning: prefixes


def round_trip(xml: str) -> etree._Element:
    """A configuration of a track, read, kept and written; the element as it comes back."""
    wire = read(types.TrackConfiguration, etree.fromstring(xml))
    kept = extensions_of(wire)
    again = extended(types.TrackConfiguration(TrackType="Video", Description=""), kept)
    out: list[str] = []
    for _ in write(again, f"{{{TT}}}TrackConfiguration", out):
        pass
    return etree.fromstring("".join(out).encode())[0][0]


KNOWN = "<t:TrackType>Video</t:TrackType><t:Description/>"


def test_names_inside_values_keep_their_namespaces_and_others_are_left_out() -> None:
    xml = (
        f'<t:C xmlns:t="{TT}" xmlns="urn:default" xmlns:a="urn:a" xmlns:b="urn:b" xmlns:c="urn:c" xmlns:d="urn:d" '
        f'xmlns:unused="urn:unused" d:kind="c:Kind">{KNOWN}<a:One path="1-b:x"/><Plain>word</Plain></t:C>'
    )
    told = round_trip(xml)
    assert told.get("{urn:d}kind") == "c:Kind"
    assert told.nsmap["c"] == "urn:c"
    one, plain = told[2:]
    assert (one.nsmap["b"], one.nsmap[None], one.tag) == ("urn:b", "urn:default", "{urn:a}One")
    assert plain.tag == "{urn:default}Plain"
    assert "unused" not in etree.tostring(told, encoding="unicode")


def test_a_prefix_of_ours_that_a_client_uses_otherwise_does_not_change_what_we_write() -> None:
    xml = f'<t:C xmlns:t="{TT}" xmlns:tt="urn:mine" tt:flag="yes">{KNOWN}<tt:Own>tt:name</tt:Own></t:C>'
    told = round_trip(xml)
    assert [e.tag for e in told] == [f"{{{TT}}}TrackType", f"{{{TT}}}Description", "{urn:mine}Own"]
    assert told.get("{urn:mine}flag") == "yes"
    assert told[2].nsmap["tt"] == "urn:mine"


def test_a_value_of_an_attribute_whose_prefix_means_something_else_here_is_refused() -> None:
    xml = f'<t:C xmlns:t="{TT}" xmlns:tt="urn:mine" flag="tt:name">{KNOWN}</t:C>'
    with pytest.raises(Exception, match="InvalidArgs: the attribute 'flag' holds the prefix 'tt'"):
        round_trip(xml)


def test_an_event_tells_an_object_with_its_extensions_and_declares_nothing_twice() -> None:
    xml = f'<tt:C xmlns:tt="{TT}" {V} v:kind="tt:Kind">{KNOWN.replace("t:", "tt:")}<v:Own>tt:name</v:Own></tt:C>'
    kept = extensions_of(read(types.TrackConfiguration, etree.fromstring(xml)))
    wire = extended(types.TrackConfiguration(TrackType="Video", Description=""), kept)
    item = ElementItem(Name="Configuration", any_elements=(Foreign(f"{{{TT}}}TrackConfiguration", wire),))
    out: list[str] = []
    for _ in write(item, f"{{{TT}}}ElementItem", out):
        pass
    (told,) = etree.fromstring("".join(out).encode())[0][0]
    assert (told.tag, told.get("{urn:vendor}kind")) == (f"{{{TT}}}TrackConfiguration", "tt:Kind")
    assert [e.tag for e in told][2:] == ["{urn:vendor}Own"]
    assert told.nsmap["tt"] == told[2].nsmap["tt"] == TT


def test_attributes_of_the_xml_namespace_come_back_and_those_of_the_schema_instance_do_not() -> None:
    xsi = "http://www.w3.org/2001/XMLSchema-instance"
    told = round_trip(f'<t:C xmlns:t="{TT}" xmlns:i="{xsi}" i:type="t:TrackConfiguration" xml:lang="de">{KNOWN}</t:C>')
    assert dict(told.attrib) == {"{http://www.w3.org/XML/1998/namespace}lang": "de"}


def test_thousands_of_prefixes_cost_a_refusal_and_no_time() -> None:
    """Each element that is kept would otherwise be written with all of them."""
    many = " ".join(f'xmlns:p{i}="urn:{i}"' for i in range(8000))
    for attribute, content in (("", "<v:a/>" * 5000), ('v:a=""', "")):
        xml = f'<t:C xmlns:t="{TT}" {V} {many} {attribute}>{KNOWN}{content}</t:C>'
        with pytest.raises(Exception, match=r"prefixes are declared around|too long"):
            round_trip(xml)


_NAMES = st.sampled_from(["a", "b", "tt", "env", "n0", "ä"])
_URIS = st.sampled_from(["urn:1", "urn:2", TT, "http://x.example/?a=1&amp;b='2'"])
_TEXTS = st.text(st.sampled_from(list("ab:xt <>&\"'\n\r\t\u00e9\U0001f3a5-.")), max_size=12)


def _escaped(text: str) -> str:
    table = {"&": "&amp;", "<": "&lt;", '"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;", ">": "&gt;"}
    return "".join(table.get(c, c) for c in text)


@st.composite
def elements(draw: st.DrawFn, depth: int = 3) -> str:
    prefixes = draw(st.dictionaries(_NAMES, _URIS, min_size=1, max_size=3))
    declared = " ".join(f'xmlns:{p}="{u}"' for p, u in prefixes.items())
    name = f"{draw(st.sampled_from(sorted(prefixes)))}:e"
    inside = [draw(_TEXTS.map(_escaped))]
    if depth:
        inside += draw(st.lists(elements(depth - 1), max_size=2))
    return f'<{name} {declared} q="{_escaped(draw(_TEXTS))}">{"".join(inside)}</{name}>'


@settings(max_examples=50, deadline=None)
@given(st.lists(elements(), min_size=1, max_size=3), st.dictionaries(_NAMES.filter(lambda n: n != "env"), _URIS))
def test_any_content_comes_back_with_the_same_names_texts_and_declarations(
    content: list[str], around: dict[str, str]
) -> None:
    declared = "".join(f' xmlns:{p}="{u}"' for p, u in around.items())
    source = etree.fromstring(f'<t:C xmlns:t="{TT}"{declared}>{KNOWN}{"".join(content)}</t:C>')
    told = round_trip(etree.tostring(source, encoding="unicode"))
    sent, back = list(source)[2:], list(told)[2:]
    canonical = [[etree.tostring(e, method="c14n", exclusive=True, with_tail=False) for e in es] for es in (sent, back)]
    assert canonical[0] == canonical[1]
    for mine, theirs in zip(sent, back, strict=True):
        for one, other in zip(mine.iter(), theirs.iter(), strict=True):
            for prefix, namespace in one.nsmap.items():
                if re.search(rf"(?<![\w.\-]){prefix}:", f"{one.text or ''} {one.get('q')}"):
                    assert other.nsmap[prefix] == namespace
