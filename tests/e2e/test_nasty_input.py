"""Requests that no honest client sends, to a running recorder: each has its right answer, and the recorder goes on.

What single rooms prove is not repeated here (tests/soap for the protocol, tests/http for the listener). This is the
daemon as it runs, every operation that it offers, and sizes at which careless code would fall over.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

import pytest
import requests
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lxml import etree
from requests.auth import HTTPDigestAuth

from nvr.soap.names import PREFIXES, TT
from tests.conformance.access import fault_in
from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess
from tests.support.official_schema import validate_response
from tests.support.sample_requests import SampleRequest, sample_requests
from tests.support.soap_house import (
    create_job,
    create_recording,
    find_recordings,
    receiver_xml,
    results_request,
    source_xml,
)
from tests.support.soap_http import SOAP_TYPE

pytestmark = pytest.mark.timeout(120)

PATHS = {
    "tds": "device",
    "trc": "recording",
    "tse": "search",
    "trv": "receiver",
    "trp": "replay",
    "trt": "media",
    "tev": "event",
}
SPOILT = {"tds", "trc", "tse", "trv", "trp", "trt"}
"""Services whose every operation is spoilt; those of the event service stand at addresses of their own."""
DECLARED = " ".join(f'xmlns:{prefix}="{namespace}"' for namespace, prefix in PREFIXES.items())
LIMIT = 256 * 1024
"""Longest request that the daemon takes by default."""


class Recorder:
    """The daemon, and a session of its administrator."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.daemon = daemon
        self.session = requests.Session()
        self.session.auth = HTTPDigestAuth(ADMIN, PASSWORD)

    def post(self, service: str, data: object) -> requests.Response:
        """To a service by its prefix. An answer that has a body has passed the official schema."""
        reply = self.session.post(
            self.daemon.service(PATHS[service]), data, headers={"Content-Type": SOAP_TYPE}, timeout=20
        )
        if reply.content:
            validate_response(reply.content)
        return reply

    def call(self, body: str | etree._Element, header: str = "") -> tuple[int, str]:
        """Status and fault of the answer to a body, which is given with our prefixes or as an element."""
        if not isinstance(body, str):
            prefix = PREFIXES[str(etree.QName(body).namespace)]
            body = etree.tostring(body, encoding="unicode")
        else:
            prefix = body[1:].partition(":")[0]
        envelope = (
            f"<env:Envelope {DECLARED}><env:Header>{header}</env:Header><env:Body>{body}</env:Body></env:Envelope>"
        )
        reply = self.post(prefix, envelope.encode("utf-8"))
        return reply.status_code, fault_in(reply.content)

    def asked(self, body: str) -> etree._Element:
        envelope = f"<env:Envelope {DECLARED}><env:Body>{body}</env:Body></env:Envelope>"
        return etree.fromstring(self.post(body[1:].partition(":")[0], envelope.encode()).content)

    def configured(self) -> list[bytes]:
        """What nasty input must not change."""
        return [
            etree.tostring(self.asked(f"<{question}/>"))
            for question in ("trc:GetRecordings", "trc:GetRecordingJobs", "trv:GetReceivers", "tds:GetScopes")
        ]

    def memory_mb(self) -> float:
        """Resident set."""
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    with DaemonProcess(tmp_path_factory.mktemp("nasty") / "data") as daemon:
        made = Recorder(daemon)
        yield made
        made.session.close()
        assert daemon.process.poll() is None, "the daemon has ended"
        assert "Traceback" not in daemon.log
        assert PASSWORD not in daemon.log


# Operations: every one that is there, its valid request spoilt in one place


def leaves(request: etree._Element) -> list[etree._Element]:
    return list(request.iterdescendants())


def without(request: etree._Element) -> Iterator[etree._Element]:
    """One required element is missing: all that stand in a sample request are required."""
    for place in range(len(leaves(request))):
        spoilt = deepcopy(request)
        missing = leaves(spoilt)[place]
        missing.getparent().remove(missing)  # type: ignore[union-attr]
        yield spoilt


def in_another_namespace(request: etree._Element) -> Iterator[etree._Element]:
    for place, leaf in enumerate(leaves(request)):
        for namespace in ("urn:nobody", None):
            spoilt = deepcopy(request)
            leaves(spoilt)[place].tag = etree.QName(namespace, etree.QName(leaf).localname)
            yield spoilt


def in_wrong_order(request: etree._Element) -> Iterator[etree._Element]:
    for place, element in enumerate(request.iter()):
        if len(element) > 1:
            spoilt = deepcopy(request)
            parent = list(spoilt.iter())[place]
            parent[:] = list(reversed(parent))
            yield spoilt


def with_one_too_many(request: etree._Element) -> Iterator[etree._Element]:
    for tag in (f"{{{etree.QName(request).namespace}}}Unknown", "{urn:nobody}Unknown", f"{{{TT}}}Unknown"):
        spoilt = deepcopy(request)
        etree.SubElement(spoilt, tag)
        yield spoilt


def with_a_foreign_attribute(request: etree._Element) -> Iterator[etree._Element]:
    spoilt = deepcopy(request)
    spoilt.set("Unknown", "1")
    yield spoilt


def offered(recorder: Recorder) -> list[SampleRequest]:
    """Operations of the services that are there. They are asked by a request that none of them carries out."""
    found = []
    for sample in sample_requests():
        if PREFIXES.get(sample.namespace) in SPOILT:
            _, fault = recorder.call(next(with_one_too_many(sample.body)))
            if not fault.startswith(("Receiver/ActionNotSupported", "Sender/UnknownAction")):
                found.append(sample)
    return found


@pytest.mark.requirement("CO-06")
@pytest.mark.parametrize(
    "spoil",
    [without, in_another_namespace, in_wrong_order, with_one_too_many, with_a_foreign_attribute],
)
def test_a_request_that_breaks_the_schema_is_refused_by_every_operation_and_changes_nothing(
    recorder: Recorder, spoil: Callable[[etree._Element], Iterator[etree._Element]]
) -> None:
    before = recorder.configured()
    operations = offered(recorder)
    assert len(operations) > 35
    wrong = []
    for sample in operations:
        for spoilt in spoil(sample.body):
            answer = recorder.call(spoilt)
            if answer != (400, "Sender/InvalidArgs"):
                wrong.append((answer, etree.tostring(spoilt).decode()))
    assert wrong == []
    assert recorder.configured() == before


# Values: texts outside the lexical space of their type, as XML Schema part 2 draws it

SPACE = "[ \t\r\n]*"
TIME_OF_DAY = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?|24:00:00(\.0+)?"
LEXICAL = {
    "dateTime": rf"-?([1-9]\d{{3,}}|0\d{{3}})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T({TIME_OF_DAY})(Z|[+-]\d\d:\d\d)?",
    "duration": r"-?P(?=.)(\d+Y)?(\d+M)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?",
    "boolean": "true|false|1|0",
    "int": r"[+-]?\d+",
}
PLACES = {
    "dateTime": [
        "<tev:CreatePullPointSubscription><tev:InitialTerminationTime>VALUE</tev:InitialTerminationTime>"
        "</tev:CreatePullPointSubscription>",
    ],
    "duration": [
        create_recording(retention="VALUE"),
        find_recordings(keep_alive="VALUE"),
        results_request("none", wait="VALUE"),
        "<trp:SetReplayConfiguration><trp:Configuration><tt:SessionTimeout>VALUE</tt:SessionTimeout>"
        "</trp:Configuration></trp:SetReplayConfiguration>",
    ],
    "boolean": [
        "<tds:GetServices><tds:IncludeCapability>VALUE</tds:IncludeCapability></tds:GetServices>",
        create_job("none", "<tt:Source><tt:AutoCreateReceiver>VALUE</tt:AutoCreateReceiver></tt:Source>"),
    ],
    "int": [
        create_job("none", priority="VALUE"),
        find_recordings().replace("<tse:Keep", "<tse:MaxMatches>VALUE</tse:MaxMatches><tse:Keep"),
        results_request("none").replace("<tse:Wait", "<tse:MinResults>VALUE</tse:MinResults><tse:Wait"),
    ],
}
"""Requests with the word VALUE where a value of the type belongs."""

REFUSALS = re.compile("Sender/(InvalidArgs|InvalidArgVal(/(BadConfiguration|ConfigModify))?)$")
XML_TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\ufffe\uffff"), max_size=20).filter(
    lambda text: not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", text)
)


def near(kind: str) -> st.SearchStrategy[str]:
    """Texts that nearly are of the type: a valid one with something put in, taken out or repeated."""
    valid = st.from_regex(re.compile(LEXICAL[kind], re.ASCII), fullmatch=True)
    junk = st.sampled_from(["_", "\u0661", "\uff11", " ", "-", "+", ".", "e1", "T", "P", "S", "x", "\n1", "0x1"])

    def spoilt(parts: tuple[str, str, int, bool]) -> str:
        text, what, where, instead = parts
        at = where % (len(text) + 1)
        return text[:at] + what + text[at + instead :]

    return st.tuples(valid, junk, st.integers(0, 40), st.booleans()).map(spoilt)


def bad(kind: str) -> st.SearchStrategy[str]:
    lexical = re.compile(f"{SPACE}(?:{LEXICAL[kind]}){SPACE}", re.ASCII)
    return st.one_of(near(kind), XML_TEXT).filter(lambda text: lexical.fullmatch(text) is None)


def refused_everywhere(recorder: Recorder, kind: str, text: str) -> None:
    for place in PLACES[kind]:
        status, fault = recorder.call(place.replace("VALUE", escape(text)))
        assert status == 400
        assert REFUSALS.match(fault), f"{fault} for {text!r} in {place}"


@pytest.mark.parametrize(("kind", "text"), [("duration", "PT60S"), ("boolean", "true"), ("int", "1")])
def test_the_places_below_take_a_value_of_their_type(recorder: Recorder, kind: str, text: str) -> None:
    """So that it is the value that is refused there: with a good one only a token is unknown, if anything."""
    for place in PLACES[kind]:
        _, fault = recorder.call(place.replace("VALUE", text))
        assert not REFUSALS.match(fault), f"{fault} for {place}"


over_http = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@over_http
@given(text=bad("duration"))
@example(text="PT")
@example(text="P1S")
@example(text="PT1H junk")
@example(text="1H")
@example(text="PT-1S")
def test_what_is_no_duration_is_refused_wherever_one_belongs(recorder: Recorder, text: str) -> None:
    refused_everywhere(recorder, "duration", text)


@over_http
@given(text=bad("boolean"))
@example(text="TRUE")
@example(text="yes")
@example(text="")
@example(text="01")
def test_what_is_no_boolean_is_refused_wherever_one_belongs(recorder: Recorder, text: str) -> None:
    refused_everywhere(recorder, "boolean", text)


@over_http
@given(text=bad("int"))
@example(text="1_000")
@example(text="1.0")
@example(text="")
def test_what_is_no_integer_is_refused_wherever_one_belongs(recorder: Recorder, text: str) -> None:
    refused_everywhere(recorder, "int", text)


@over_http
@given(text=bad("dateTime"))
@example(text="2030-01-01")
@example(text="2030-13-01T00:00:00Z")
@example(text="2030-02-30T00:00:00Z")
@example(text="2030-01-01T25:00:00Z")
@example(text="20300101T000000Z")
def test_what_is_no_time_is_refused_where_one_belongs(recorder: Recorder, text: str) -> None:
    """The place takes a duration as well, and nothing at all for the recorder's own choice."""
    duration = re.compile(f"{SPACE}(?:{LEXICAL['duration']})?{SPACE}", re.ASCII)
    if duration.fullmatch(text) is None:
        refused_everywhere(recorder, "dateTime", text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("dateTime", f"2030-01-01T00:00:00.{'1' * 5000}junk"),
        ("dateTime", f"{'9' * 5000}-01-01T00:00:00Z"),
        ("duration", "P999999999999999999999Y"),
        ("duration", f"PT{'9' * 5000}S"),
        ("duration", f"PT0.{'1' * 5000}junkS"),
        ("int", "2147483648"),
        ("int", "-2147483649"),
        ("int", "9" * 10_000),
    ],
)
def test_a_value_beyond_what_its_type_holds_is_refused_wherever_it_belongs(
    recorder: Recorder, kind: str, text: str
) -> None:
    refused_everywhere(recorder, kind, text)


# Sizes


def test_ten_megabytes_are_refused_unread(recorder: Recorder) -> None:
    """With a length at once, without one as soon as the limit is passed. What is sent all the same is not kept."""
    before = recorder.memory_mb()
    address = urlsplit(recorder.daemon.service("recording"))
    assert address.hostname is not None
    for framing, first in (("Content-Length: 10000000", b""), ("Transfer-Encoding: chunked", chunk(LIMIT + 1))):
        with socket.create_connection((address.hostname, address.port), 20) as connection:
            head = f"POST {address.path} HTTP/1.1\r\nHost: x\r\nContent-Type: {SOAP_TYPE}\r\n{framing}\r\n\r\n"
            connection.sendall(head.encode() + first)
            assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
            with contextlib.suppress(ConnectionError):  # the recorder may close, and need not read on
                connection.sendall(b" " * 10_000_000)
    assert recorder.call("<tds:GetSystemDateAndTime/>") == (200, "")
    assert recorder.memory_mb() - before < 5


def chunk(size: int) -> bytes:
    return f"{size:x}\r\n".encode() + b" " * size + b"\r\n"


def bomb() -> bytes:
    """Ten billion characters in a kilobyte, would anybody expand it."""
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 11))
    body = "<trc:DeleteRecording><trc:RecordingToken>&e10;</trc:RecordingToken></trc:DeleteRecording>"
    envelope = f"<env:Envelope {DECLARED}><env:Body>{body}</env:Body></env:Envelope>"
    return f'<!DOCTYPE x [<!ENTITY e0 "x">{entities}]>{envelope}'.encode()


def test_an_entity_bomb_is_refused_before_it_goes_off(recorder: Recorder) -> None:
    before = recorder.memory_mb()
    reply = recorder.post("trc", bomb())
    assert (reply.status_code, fault_in(reply.content)) == (400, "Sender/WellFormed")
    assert recorder.memory_mb() - before < 5


def nested(depth: int, tag: str = "x:y") -> str:
    return f"<{tag}>".replace(">", ' xmlns:x="urn:x">', 1) + f"<{tag}>" * (depth - 1) + f"</{tag}>" * depth


@pytest.mark.parametrize("depth", [30, 200, 20_000])
def test_deep_nesting_is_read_or_refused_wherever_it_stands(recorder: Recorder, depth: int) -> None:
    """libxml2 goes 256 levels deep; what is deeper is not well formed for us. What is kept must stay far below."""
    deep = nested(depth)
    open_content = create_recording(source_xml().replace("</tt:Source>", f"{deep}</tt:Source>"))
    read = (200, "") if depth < 250 else (400, "Sender/WellFormed")
    kept = read if depth != 200 else (400, "Sender/InvalidArgVal/BadConfiguration")
    assert recorder.call(open_content) == kept
    assert recorder.call("<tds:GetSystemDateAndTime/>", header=deep) == read


def test_a_request_of_sixty_thousand_elements_is_read_and_answered(recorder: Recorder) -> None:
    scope = "<tt:IncludedRecordings>r</tt:IncludedRecordings>" * 5_000
    assert recorder.call(find_recordings(scope)) == (400, "Sender/InvalidArgVal/InvalidToken")
    crowd = "<a/>" * 60_000
    assert recorder.call(f"<tds:GetSystemDateAndTime>{crowd}</tds:GetSystemDateAndTime>") == (400, "Sender/InvalidArgs")
    attributes = " ".join(f'a{i}="{i}"' for i in range(15_000))
    assert recorder.call(f"<tds:GetSystemDateAndTime {attributes}/>") == (400, "Sender/InvalidArgs")
    assert recorder.call("<tds:GetSystemDateAndTime/>", header=f"<x {attributes}/>") == (400, "Sender/InvalidArgs")
    assert recorder.call("<tds:GetSystemDateAndTime/>", header=crowd) == (400, "Sender/InvalidArgs")


# What a newer edition or a vendor adds


def test_extensions_are_kept_and_told_also_after_the_recorder_was_killed(tmp_path: Path) -> None:
    """With the meaning of the prefixes inside their values; one that is too long is refused, not cut."""
    vendor = '<v:More xmlns:v="urn:vendor" v:unit="cm">v:Depth</v:More>'
    asked = create_recording().replace("</trc:RecordingConfiguration>", f"{vendor}</trc:RecordingConfiguration>")
    receiver = receiver_xml().replace("</trv:Configuration>", f"{vendor}</trv:Configuration>")
    with DaemonProcess(tmp_path / "data") as daemon:
        recorder = Recorder(daemon)
        assert recorder.call(asked) == (200, "")
        assert recorder.call(f"<trv:CreateReceiver>{receiver}</trv:CreateReceiver>") == (200, "")
        assert recorder.call(asked.replace("v:Depth", "x" * 10_000)) == (400, "Sender/InvalidArgVal/BadConfiguration")
        before = recorder.configured()
        recorder.session.close()
        daemon.kill()
    with DaemonProcess(tmp_path / "data") as daemon:
        recorder = Recorder(daemon)
        assert recorder.configured() == before
        for answer in before[0], before[2]:
            (told,) = etree.fromstring(answer).iter("{urn:vendor}More")
            assert (told.get("{urn:vendor}unit"), told.text, told.nsmap["v"]) == ("cm", "v:Depth", "urn:vendor")
        recorder.session.close()


def test_comments_sections_and_instructions_do_not_split_a_value(recorder: Recorder) -> None:
    assert recorder.call(create_recording(content="<![CDATA[ga]]><!-- x -->te<?x y?>way")) == (200, "")
    contents = [c.text for c in recorder.asked("<trc:GetRecordings/>").iter(f"{{{TT}}}Content")]
    assert "gateway" in contents
