"""Raw requests to the protocol over HTTP: what is refused, how, and that nothing of it leaks."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from nvr.auth.access import Caller
from nvr.http.settings import HttpSettings
from nvr.model.errors import StorageError, UnknownToken
from nvr.soap import protocol
from nvr.soap.envelope import MAX_ATTRIBUTES, MAX_ELEMENTS, MAX_HEADER_BLOCKS, parse_envelope
from nvr.soap.faults import Code, SoapFault
from nvr.soap.names import ENV, ENV11, PREFIXES, TEV
from nvr.soap.protocol import Request, serialize
from nvr.soap.service import BoundService, Call
from tests.soap.fuzz import CROWDED, damaged, once
from tests.support.soap_http import DEVICE, SOAP_TYPE, Reply, SimulatedClock, a_device, a_soap, envelope
from tests.support.soap_models import PATH, EchoService

NS = {prefix: namespace for namespace, prefix in PREFIXES.items()}
PING = envelope("<tds:GetSystemDateAndTime/>")


def fault_of(body: bytes) -> str:
    """Codes of a fault, without the official schema: for answers of a service that the schema does not know."""
    root = etree.fromstring(body)
    return "/".join((v.text or "").partition(":")[2] for v in root.iterfind(f".//{{{ENV}}}Code//{{{ENV}}}Value"))


async def sent(body: bytes, content_type: str | None = SOAP_TYPE) -> Reply:
    async with a_device() as device:
        return await device.post(body, content_type=content_type)


@pytest.mark.requirement("CO-04")
@pytest.mark.parametrize(
    "content_type", ["application/soap+xml", "text/xml; charset=utf-8", 'Application/Soap+XML; action="x"']
)
async def test_content_types_of_soap_are_accepted(content_type: str) -> None:
    assert (await sent(PING, content_type)).status == 200


@pytest.mark.requirement("CO-07")
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "multipart/related", None])
async def test_any_other_content_type_is_415(content_type: str | None) -> None:
    assert (await sent(PING, content_type)).status == 415


@pytest.mark.requirement("CO-04")
async def test_the_answer_is_soap_in_utf_8() -> None:
    reply = await sent(PING)
    assert reply.headers["Content-Type"] == "application/soap+xml; charset=utf-8"
    assert reply.body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>')


@pytest.mark.requirement("CO-06")
@pytest.mark.parametrize(
    "body",
    [
        b"not xml",
        PING[:-5],
        PING.replace(b"GetSystem", b"Get\x00System"),
        b"<a/>",
        f'<e:Envelope xmlns:e="{ENV}"/>'.encode(),
        envelope(""),
        envelope("<tds:GetSystemDateAndTime/><tds:GetScopes/>"),
        f'<e:Envelope xmlns:e="{ENV}"><e:Body/><e:Body/></e:Envelope>'.encode(),
        f'<e:Envelope xmlns:e="{ENV}"><e:Body/><e:Header/></e:Envelope>'.encode(),
        b"<!DOCTYPE x>" + PING,
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>' + PING,
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd">' + PING,
        b'<?xml version="1.0" encoding="no-such"?>' + PING,
        b"<a>" * 5000,
    ],
)
async def test_what_is_no_soap_message_is_not_well_formed(body: bytes) -> None:
    reply = await sent(body)
    assert (reply.status, reply.fault) == (400, "Sender/WellFormed")


def attributes(count: int) -> str:
    return " ".join(f'a{i}=""' for i in range(count))


@pytest.mark.requirement("CO-06")
@pytest.mark.parametrize(
    ("body", "header", "code"),
    [
        (f"<tds:GetSystemDateAndTime {attributes(MAX_ATTRIBUTES + 1)}/>", "", "Sender/InvalidArgs"),
        ("<tds:GetSystemDateAndTime/>", f"<x:h xmlns:x='urn:x' {attributes(MAX_ATTRIBUTES)}/>", ""),
        (
            "<tds:GetSystemDateAndTime/>",
            f"<x:h xmlns:x='urn:x' {attributes(MAX_ATTRIBUTES + 1)}/>",
            "Sender/InvalidArgs",
        ),
        ("<tds:GetSystemDateAndTime/>", "<x:h xmlns:x='urn:x'/>" * MAX_HEADER_BLOCKS, ""),
        ("<tds:GetSystemDateAndTime/>", "<x:h xmlns:x='urn:x'/>" * (MAX_HEADER_BLOCKS + 1), "Sender/InvalidArgs"),
        ("<tds:GetSystemDateAndTime/>", f"<x:h xmlns:x='urn:x'>{'<a/>' * (MAX_ELEMENTS - 5)}</x:h>", ""),
        (
            "<tds:GetSystemDateAndTime/>",
            f"<x:h xmlns:x='urn:x'>{'<a/>' * (MAX_ELEMENTS - 4)}</x:h>",
            "Sender/InvalidArgs",
        ),
    ],
)
async def test_a_message_of_more_parts_than_are_ever_needed_is_refused(body: str, header: str, code: str) -> None:
    reply = await sent(envelope(body, header))
    assert (reply.status, fault_of(reply.body)) == ((400 if code else 200), code)


def test_a_crowd_is_refused_before_python_looks_at_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither names nor values of attributes are asked for, nor a list of elements."""
    looked_at: list[object] = []
    monkeypatch.setattr("nvr.soap.envelope._check_understood", looked_at.append)
    for body in CROWDED:
        with pytest.raises(SoapFault, match="holds more than"):
            parse_envelope(body)
    assert looked_at == []


async def test_long_messages_are_read_one_after_the_other_on_a_thread_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The elements of one only are held at a time, and those who wait for the configuration to be written are not
    behind them: that is done in the threads of the loop."""
    steps: list[tuple[str, str]] = []

    def noted(name: str, work: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object) -> object:
            steps.append((name, threading.current_thread().name))
            return work(*arguments)

        return step

    for name in ("parse_envelope", "_arguments"):
        monkeypatch.setattr(protocol, name, noted(name, getattr(protocol, name)))
    long = envelope(f"<tds:GetSystemDateAndTime/>{' ' * protocol.PARSE_ON_LOOP}")
    async with a_device() as device:
        replies = await asyncio.gather(*(device.post(long) for _ in range(6)))
    assert {reply.status for reply in replies} == {200}
    assert steps == [("parse_envelope", "nvr-soap_0"), ("_arguments", "nvr-soap_0")] * 6


async def test_a_refused_message_is_not_held_until_the_garbage_is_collected() -> None:
    soap, seen = a_soap(SimulatedClock()), []
    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(protocol, "_arguments", lambda *_: _refused(seen))
            assert (await soap.answer(DEVICE, a_request(PING))).status == 400
        assert [reference() for reference in seen] == [None]
    finally:
        gc.enable()


class _Held:
    """Stands for the elements of a message."""


def _refused(seen: list[weakref.ref[_Held]]) -> None:
    held = _Held()
    seen.append(weakref.ref(held))
    raise SoapFault(Code.SENDER, ("InvalidArgs",), "no")


def a_request(body: bytes) -> Request:
    return Request("POST", DEVICE, "application/soap+xml", None, "http://h", "h", "test", body)


async def test_an_external_entity_is_never_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    body = f'<!DOCTYPE x [<!ENTITY s SYSTEM "file://{secret}">]>'.encode() + envelope("<tds:X>&s;</tds:X>")
    reply = await sent(body)
    assert reply.fault == "Sender/WellFormed"
    assert b"the secret" not in reply.body


async def test_a_soap_11_envelope_is_a_version_mismatch_and_is_told_the_right_one() -> None:
    reply = await sent(PING.replace(ENV.encode(), ENV11.encode()))
    assert (reply.status, reply.fault) == (500, "VersionMismatch")
    root = etree.fromstring(reply.body)
    assert root.find(f"{{{ENV}}}Header/{{{ENV}}}Upgrade/{{{ENV}}}SupportedEnvelope") is not None


async def test_a_mandatory_header_that_nobody_knows_is_not_understood_and_named() -> None:
    async with a_device() as device:
        reply = await device.call(
            "<tds:GetSystemDateAndTime/>", header='<x:Own xmlns:x="urn:x" env:mustUnderstand="true"/>'
        )
    assert (reply.status, reply.fault) == (500, "MustUnderstand")
    block = etree.fromstring(reply.body).find(f"{{{ENV}}}Header/{{{ENV}}}NotUnderstood")
    assert block is not None
    prefix, _, name = block.get("qname", "").partition(":")
    assert (block.nsmap[prefix], name) == ("urn:x", "Own")


@pytest.mark.parametrize(
    "header",
    [
        '<x:Own xmlns:x="urn:x"/>',
        '<x:Own xmlns:x="urn:x" env:mustUnderstand="0"/>',
        f'<x:Own xmlns:x="urn:x" env:mustUnderstand="1" env:role="{ENV}/role/none"/>',
        '<a:To xmlns:a="http://www.w3.org/2005/08/addressing" env:mustUnderstand="1">http://x</a:To>',
    ],
)
async def test_other_headers_do_not_matter(header: str) -> None:
    async with a_device() as device:
        assert (await device.call("<tds:GetSystemDateAndTime/>", header=header)).status == 200


async def test_comments_prefixes_and_a_wrong_soap_action_do_not_matter() -> None:
    body = (
        f'<Envelope xmlns="{ENV}"><!-- a --><Body>\n <GetSystemDateAndTime xmlns="{NS["tds"]}"><!-- b -->'
        "</GetSystemDateAndTime></Body></Envelope>"
    )
    assert (await sent(body.encode(), 'application/soap+xml; action="http://wrong"')).status == 200
    assert (await sent(body.encode("utf-16"))).status == 200


@pytest.mark.requirement("CO-06")
async def test_an_element_that_no_service_knows_is_an_unknown_action() -> None:
    for element in (
        "<tds:NoSuch/>",
        '<x:GetServices xmlns:x="urn:x"/>',
        "<GetServices/>",
        "<tds:GetServicesResponse/>",
    ):
        reply = await sent(envelope(element))
        assert (reply.status, reply.fault) == (400, "Sender/UnknownAction"), element


async def test_an_operation_of_another_service_is_not_supported_here_and_its_address_is_told() -> None:
    async with a_device(services=[EchoService()]) as device:
        for element in ("<tev:Echo/>", "<tev:Later/>"):
            reply = await device.call(element)
            assert (reply.status, reply.fault) == (500, "Receiver/ActionNotSupported")
            assert PATH in reply.reason
        assert (await device.call("<tev:Never/>")).fault == "Sender/UnknownAction"


async def test_a_missing_operation_of_the_service_is_not_supported() -> None:
    async with a_device(services=[EchoService()]) as device:
        assert (await device.call("<tev:Later/>", PATH)).fault == "Receiver/ActionNotSupported"


@pytest.mark.requirement("CO-05", "CO-06")
async def test_invalid_arguments_are_the_senders_and_say_which() -> None:
    reply = await sent(envelope("<tds:GetServices/>"))
    assert (reply.status, reply.fault) == (400, "Sender/InvalidArgs")
    assert reply.reason == "GetServices lacks IncludeCapability"
    text = etree.fromstring(reply.body).find(f".//{{{ENV}}}Text")
    assert text is not None
    assert text.get("{http://www.w3.org/XML/1998/namespace}lang") == "en"


async def test_arguments_are_not_looked_at_before_the_credentials_are() -> None:
    async with a_device(services=[EchoService()]) as device:
        reply = await device.call("<tev:Echo><junk/></tev:Echo>", PATH)
    assert (reply.status, reply.fault) == (401, "Sender/NotAuthorized")


@pytest.mark.requirement("CO-05")
async def test_an_unexpected_error_answers_without_its_text_and_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = EchoService(lambda: RuntimeError("password=hunter2 in /srv/nvr"))
    async with a_device(services=[service]) as device:
        reply = await device.call_as("ute", "<tev:Echo/>", PATH)
    assert (reply.status, fault_of(reply.body)) == (500, "Receiver/Action")
    assert b"hunter2" not in reply.body
    (record,) = (r for r in caplog.records if r.levelno == logging.ERROR)
    assert record.exc_info is not None
    assert "Echo" in record.getMessage()


async def test_an_answer_that_breaks_its_declaration_is_an_internal_error_and_never_sent() -> None:
    class Broken(EchoService):
        def capabilities(self) -> object:  # type: ignore[override]
            return "no struct"

    async with a_device(services=[Broken()]) as device:
        reply = await device.call("<tev:GetServiceCapabilities/>", PATH)
    assert (reply.status, fault_of(reply.body)) == (500, "Receiver/Action")


async def test_a_failing_volume_is_the_receivers_fault_and_its_path_stays_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = EchoService(lambda: StorageError("/srv/secret/volume: I/O error"))
    async with a_device(services=[service]) as device:
        reply = await device.call_as("ute", "<tev:Echo/>", PATH)
    assert (reply.status, fault_of(reply.body)) == (500, "Receiver/Action")
    assert b"/srv/secret" not in reply.body
    assert "/srv/secret" in caplog.text


async def test_domain_errors_become_the_faults_of_the_table() -> None:
    async with a_device(services=[EchoService(lambda: UnknownToken("Recording", "rec-1"))]) as device:
        reply = await device.call_as("ute", "<tev:Echo/>", PATH)
    assert (reply.status, fault_of(reply.body)) == (400, "Sender/InvalidArgVal/NoRecording")


async def test_nothing_of_a_message_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with a_device() as device:
        await device.post(b"<broken>hunter2")
        await device.call("<tds:GetServices><tds:IncludeCapability>hunter2</tds:IncludeCapability></tds:GetServices>")
        await device.post(PING, Authorization='Digest username="a", response="hunter2"')
        await device.call("<tds:GetScopes/>", Authorization='Digest username="a", response="hunter2"')
    assert "hunter2" not in caplog.text


async def test_parallel_requests_do_not_mix() -> None:
    async with a_device(services=[EchoService()]) as device:

        async def one(i: int) -> None:
            reply = await device.call_as(
                "ute", f"<tev:Echo><tev:Item><tt:Name>{i}</tt:Name></tev:Item></tev:Echo>", PATH
            )
            assert reply.status == 200
            assert f"<tt:Name>{i}</tt:Name>".encode() in reply.body

        await asyncio.gather(*(one(i) for i in range(40)))


async def test_what_an_open_type_does_not_know_comes_back() -> None:
    body = '<tev:Echo><tev:Item x:f="1" xmlns:x="urn:x"><tt:Name/><x:Own><x:a>b</x:a></x:Own></tev:Item></tev:Echo>'
    async with a_device(services=[EchoService()]) as device:
        reply = await device.call_as("ute", body, PATH)
    item = etree.fromstring(reply.body)[0][0][0]
    assert item.get("{urn:x}f") == "1"
    assert item.findtext("{urn:x}Own/{urn:x}a") == "b"


@pytest.mark.requirement("CO-08")
async def test_characters_beyond_ascii_and_markup_come_back_as_they_were() -> None:
    text = "Zufahrt <Süd> & \"Tor\" '1' \u4e2d\u6587 \U0001f6aa"
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    async with a_device(services=[EchoService()]) as device:
        body = f"<tev:Echo><tev:Item><tt:Name>{escaped}</tt:Name></tev:Item></tev:Echo>"
        reply = await device.call_as("ute", body, PATH)
    assert reply.headers["Content-Type"].endswith("charset=utf-8")
    assert etree.fromstring(reply.body).findtext(f".//{{{NS['tt']}}}Name") == text


async def test_a_synchronous_handler_without_result_answers_the_empty_response() -> None:
    service = EchoService()
    async with a_device(services=[service]) as device:
        reply = await device.call_as(
            "anna", "<tev:Write><tev:Values><tev:Int>7</tev:Int></tev:Values></tev:Write>", PATH
        )
    element = etree.fromstring(reply.body)[0][0]
    assert (element.tag, len(element)) == (f"{{{TEV}}}WriteResponse", 0)
    assert service.calls[0].Values.Int == 7


async def test_outcomes_are_counted_by_service_and_operation() -> None:
    async with a_device() as device:
        await device.post(PING)
        await device.call("<tds:GetServices/>")
        await device.post(b"junk")
        counted = dict(device.soap.requests)
    assert counted == {
        (DEVICE, "GetSystemDateAndTime", "ok"): 1,
        (DEVICE, "GetServices", "Sender/InvalidArgs"): 1,
        (DEVICE, "", "Sender/WellFormed"): 1,
    }


async def test_a_body_above_the_limit_of_the_protocol_is_413_for_any_listener() -> None:
    async with a_device(settings=HttpSettings(body_bytes=1 << 20)) as device:
        reply = await device.post(b" " * (300 * 1024))
    assert reply.status == 413


async def test_a_large_answer_leaves_the_loop_to_others_while_it_is_written() -> None:
    """Counted, not timed: timing belongs to benchmarks/soap.py."""
    operation = BoundService(EchoService(items=20_000)).find(f"{{{TEV}}}GetMany")
    assert operation is not None
    result = operation.handler(Call(operation.request(), Caller(), "http://h", "h"))
    assert isinstance(result, dict)
    task = asyncio.create_task(serialize(operation.response(**result), operation.response_tag))
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    body = b"".join(task.result())
    assert body.count(b"<tev:Item ") == 20_000
    assert turns > 20


async def test_a_large_answer_arrives_whole_over_http() -> None:
    async with a_device(services=[EchoService(items=5000)]) as device:
        reply = await device.call_as("ute", "<tev:GetMany/>", PATH)
    assert reply.status == 200
    assert int(reply.headers["Content-Length"]) == len(reply.body)
    names = [e.text for e in etree.fromstring(reply.body).iter(f"{{{NS['tt']}}}Name")]
    assert names == [f"Item {i}" for i in range(5000)]


async def test_randomly_damaged_requests_are_answered_with_a_result_or_a_valid_fault() -> None:
    rng, soap = random.Random(4), a_soap(SimulatedClock())
    outcomes = Counter([await once(soap, damaged(rng)) for _ in range(400)])
    assert outcomes["200"] > 0
    assert outcomes["400"] > 100
