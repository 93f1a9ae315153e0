"""The HTTP listener: methods, limits, time-outs, TLS, start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nvr.http.listener import Address, Listener
from nvr.http.settings import HttpSettings, tls_context
from nvr.model.errors import OperatorError
from nvr.model.time import NS
from nvr.soap.service import Call, Result
from nvr.soap.wsdl import Contract, contract_directory
from tests.support.soap_http import (
    DEVICE,
    PASSWORDS,
    SOAP_TYPE,
    Device,
    SimulatedClock,
    a_device,
    a_soap,
    envelope,
    username_token,
)
from tests.support.soap_models import PATH, EchoService

PING = envelope("<tds:GetSystemDateAndTime/>")
LOOPBACK = Address("127.0.0.1", 0)


def a_listener(settings: HttpSettings | None = None, tls: ssl.SSLContext | None = None) -> Listener:
    return Listener(settings or HttpSettings(), a_soap(SimulatedClock()), Contract(contract_directory()), tls=tls)


@asynccontextmanager
async def raw(base: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = base.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


@pytest.mark.requirement("CO-07")
@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "GET"])
async def test_any_method_but_post_is_405(method: str) -> None:
    async with a_device() as device, device.session.request(method, device.base + DEVICE) as response:
        assert response.status == 405
        assert response.headers["Allow"] == "POST"


async def test_a_path_that_nobody_serves_is_404() -> None:
    async with a_device() as device:
        for path in ("/", "/onvif", "/onvif/nothing", "/onvif/../etc/passwd", "/onvif/devicemgmt.wsdl"):
            assert (await device.post(PING, path)).status in (404, 405), path


async def test_a_body_above_the_limit_is_413_with_and_without_a_length() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65536

    async with a_device() as device:
        assert (await device.post(b" " * (256 * 1024 + 1))).status == 413
        async with device.session.post(
            device.base + DEVICE, data=chunks(), headers={"Content-Type": SOAP_TYPE}
        ) as response:
            assert response.status == 413
        assert (await device.post(PING)).status == 200


async def test_a_chunked_body_and_expect_100_are_taken() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield PING[:100]
        yield PING[100:]

    async with (
        a_device() as device,
        device.session.post(
            device.base + DEVICE, data=chunks(), headers={"Content-Type": SOAP_TYPE}, expect100=True
        ) as response,
    ):
        assert response.status == 200


async def test_a_compressed_body_is_refused_and_not_unpacked() -> None:
    async with a_device() as device:
        reply = await device.post(b"\x1f\x8b", **{"Content-Encoding": "gzip"})
    assert reply.status == 415


async def test_headers_above_the_limit_are_refused_and_the_next_client_is_served() -> None:
    async with a_device() as device:
        reply = await device.post(PING, **{"X-Long": "x" * 20_000})
        assert reply.status == 400
        assert (await device.post(PING)).status == 200


async def test_one_connection_too_many_gets_503_and_a_place_that_becomes_free_is_given_again() -> None:
    async with a_device(settings=HttpSettings(connections=1)) as device:
        async with raw(device.base) as (reader, writer):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" in await reader.readline()
            async with raw(device.base) as (second, _):
                assert (await second.readline()).startswith(b"HTTP/1.1 503")
                assert await second.read() != b""
        async with asyncio.timeout(5):
            while True:  # the listener sees the close a turn later
                async with raw(device.base) as (reader, writer):
                    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                    if b"200" in await reader.readline():
                        break


async def test_one_client_gets_503_above_its_share_and_metrics_tell_it() -> None:
    settings = HttpSettings(connections_per_client=2)
    async with a_device(settings=settings) as device, raw(device.base) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" in await reader.readline()
        async with device.session.get(device.base + "/metrics") as response:
            before = await response.text()
        async with raw(device.base) as (second, _):
            assert (await second.readline()).startswith(b"HTTP/1.1 503")
        async with device.session.get(device.base + "/metrics") as response:
            after = await response.text()
    assert "nvr_http_connections 2\n" in before
    assert "nvr_http_connections_refused_total 0\n" in before
    assert "nvr_http_connections_refused_total 1\n" in after


@pytest.mark.parametrize("start", [b"", b"POST /onvif/device_service HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_connection_that_brings_no_complete_header_is_closed(start: bytes) -> None:
    async with a_device(settings=HttpSettings(idle_ns=NS // 20)) as device, raw(device.base) as (reader, writer):
        writer.write(start)
        async with asyncio.timeout(5):
            assert await reader.read() == b""


async def test_an_idle_connection_is_closed_after_its_answer() -> None:
    async with a_device(settings=HttpSettings(idle_ns=NS // 20)) as device, raw(device.base) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /hea")
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 200")


async def test_a_body_that_does_not_come_is_408() -> None:
    settings = HttpSettings(body_timeout_ns=NS // 20)
    async with a_device(settings=settings) as device, raw(device.base) as (reader, writer):
        writer.write(
            f"POST {DEVICE} HTTP/1.1\r\nHost: x\r\nContent-Type: {SOAP_TYPE}\r\nContent-Length: 50\r\n\r\n<a".encode()
        )
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")


class Slow(EchoService):
    """Its capabilities come when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.released = asyncio.Event(), asyncio.Event()

    async def echo(self, call: Call) -> Result:
        self.entered.set()
        await self.released.wait()
        return {}

    echo.operation = EchoService.echo.operation  # type: ignore[attr-defined]


async def test_a_request_that_runs_ends_before_the_listener_has_stopped() -> None:
    slow = Slow()
    listener = Listener(HttpSettings(), a_soap(SimulatedClock(), [slow]), Contract(contract_directory()))
    (address,) = await listener.start([LOOPBACK])
    async with aiohttp.ClientSession() as session:
        clock = SimulatedClock()
        device = Device(session, f"http://127.0.0.1:{address.port}", clock, a_soap(clock))
        call = asyncio.create_task(device.call_as("ute", "<tev:Echo/>", PATH))
        await slow.entered.wait()
        stop = asyncio.create_task(listener.stop())
        await asyncio.sleep(0)
        assert not stop.done()
        slow.released.set()
        assert (await call).status == 200
        await stop
        with pytest.raises(aiohttp.ClientConnectorError):
            await device.post(PING)


async def test_a_request_that_never_ends_does_not_outlive_the_deadline() -> None:
    slow = Slow()
    async with a_device(services=[slow], settings=HttpSettings(stop_timeout_ns=NS // 20)) as device:
        call = asyncio.create_task(device.call_as("ute", "<tev:Echo/>", PATH))
        await slow.entered.wait()
    async with asyncio.timeout(5):
        with pytest.raises(aiohttp.ClientError):
            await call


async def test_idle_connections_do_not_delay_the_stop() -> None:
    async with a_device() as device, asyncio.timeout(3):
        await device.post(PING)
        async with raw(device.base) as (_, writer):
            writer.write(b"GET ")


async def test_a_port_in_use_is_an_error_that_names_it_and_leaves_nothing_open() -> None:
    first, second = a_listener(), a_listener()
    (address,) = await first.start([LOOPBACK])
    with pytest.raises(OperatorError, match=rf"http://127\.0\.0\.1:{address.port} is in use"):
        await second.start([LOOPBACK, Address("127.0.0.1", address.port)])
    await first.stop()
    third = a_listener()
    await third.start([Address("127.0.0.1", address.port)])
    await third.stop()


async def test_an_address_that_is_not_ours_is_an_operator_error() -> None:
    listener = a_listener()
    with pytest.raises(OperatorError, match="cannot listen at"):
        await listener.start([Address("192.0.2.1", 0)])


async def test_stop_without_start_is_nothing() -> None:
    await a_listener().stop()


async def test_several_addresses_serve_the_same() -> None:
    listener = a_listener()
    addresses = await listener.start([LOOPBACK, LOOPBACK])
    async with aiohttp.ClientSession() as session:
        for address in addresses:
            async with session.get(f"http://127.0.0.1:{address.port}/healthz") as response:
                assert response.status == 200
    await listener.stop()


def certificate(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return directory / "cert.pem", directory / "key.pem"


@pytest.mark.requirement("CO-17")
async def test_tls_serves_https_addresses_in_answers_and_refuses_old_versions(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    listener = a_listener(tls=tls_context(cert, key))
    (address,) = await listener.start([Address("127.0.0.1", 0, tls=True)])
    url = f"https://localhost:{address.port}{DEVICE}"
    old = ssl.create_default_context(cafile=str(cert))
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    body = envelope("<tds:GetServices><tds:IncludeCapability>0</tds:IncludeCapability></tds:GetServices>")
    async with aiohttp.ClientSession(headers={"Content-Type": SOAP_TYPE}) as session:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            trusting = ssl.create_default_context(cafile=str(cert))
            trusting.minimum_version = trusting.maximum_version = version
            async with session.post(url, data=body, ssl=trusting) as response:
                assert url in await response.text()
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.post(url, data=body, ssl=old)
    await listener.stop()


def test_certificates_that_cannot_be_used_are_operator_errors(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    with pytest.raises(OperatorError, match="there is no file"):
        tls_context(cert, tmp_path / "missing.pem")
    with pytest.raises(OperatorError, match="are no certificate with its unencrypted private key"):
        tls_context(cert, cert)
    assert key.exists()


async def test_https_without_certificate_is_an_operator_error() -> None:
    with pytest.raises(OperatorError, match="certificate and a key"):
        await a_listener().start([Address("127.0.0.1", 0, tls=True)])


@pytest.mark.parametrize(
    "wrong", [{"connections": 0}, {"connections_per_client": 0}, {"idle_ns": -1}, {"certificate": Path("x")}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must be more than zero|belong together"):
        HttpSettings(**wrong)  # type: ignore[arg-type]


async def test_a_malformed_header_does_not_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with a_device() as device, raw(device.base) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nAuthorization hunter2\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.")
        await reader.read()
    assert "hunter2" not in caplog.text


async def test_malformed_requests_are_counted_and_no_line_of_the_log_is_spent_on_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    listener = a_listener()
    (address,) = await listener.start([LOOPBACK])
    try:
        for request in (b"GET / HTTP/1.1\r\nno header\r\n\r\n", b"\x16\x03\x01\r\n\r\n"):
            async with raw(f"http://127.0.0.1:{address.port}") as (reader, writer):
                writer.write(request)
                assert (await reader.readline()).startswith(b"HTTP/1.")
                await reader.read()
        (counted,) = [m for m in listener.metrics() if m.name == "nvr_http_malformed_requests_total"]
        assert [sample.value for sample in counted.samples] == [2.0]
    finally:
        await listener.stop()
    assert [record.message for record in caplog.records if "malformed" in record.message] == []


@pytest.mark.parametrize(
    "request_",
    [b"GET /healthz HTTP/1.0\r\n\r\n", b"GET /nothing HTTP/1.0\r\n\r\n", b"GET / HTTP/1.0\r\nno header\r\n\r\n"],
)
async def test_no_answer_tells_versions_of_what_the_recorder_is_made_of(request_: bytes) -> None:
    async with a_device() as device, raw(device.base) as (reader, writer):
        writer.write(request_)
        answer = await reader.read()
    assert b"\r\nServer: nvr\r\n" in answer
    assert b"aiohttp" not in answer
    assert b"Python" not in answer


async def test_closed_connections_leave_nothing_behind() -> None:
    listener = a_listener()
    (address,) = await listener.start([LOOPBACK])
    base = f"http://127.0.0.1:{address.port}"
    for _ in range(20):
        async with raw(base) as (reader, writer):
            writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
            await reader.read()
    async with asyncio.timeout(5):
        await _closed(base)
    await listener.stop()


async def test_a_client_that_does_not_read_its_answer_is_cut_off() -> None:
    service = EchoService(items=60_000)  # more than the buffers of both ends take
    token = username_token("ute", PASSWORDS["ute"], SimulatedClock()())
    body = envelope("<tev:GetMany/>", token)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: {SOAP_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    settings = HttpSettings(body_timeout_ns=NS // 10)
    async with a_device(services=[service], settings=settings) as device, raw(device.base) as (reader, writer):
        writer.write(head.encode() + body)
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"\r\n\r\n")
            await _closed(device.base)
            announced = int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            received = 0
            with contextlib.suppress(ConnectionResetError):  # or the end of the stream, as the kernel likes
                while chunk := await reader.read(1 << 20):
                    received += len(chunk)
    assert received < announced


async def _closed(base: str) -> None:
    """Returns when the listener has only the connection that asks."""
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{base}/metrics") as response:
                if "nvr_http_connections 1\n" in await response.text():
                    return
