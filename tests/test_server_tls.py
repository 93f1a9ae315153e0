"""nvr.server_tls: which certificate the listeners show, and how it is kept fresh."""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
from pathlib import Path

import pytest

from nvr.auth.certificate import SelfSigned
from nvr.http.settings import HttpSettings
from nvr.model.errors import OperatorError
from nvr.model.time import NS, parse_iso
from nvr.server_tls import ServerTls

NOW = parse_iso("2026-01-01T10:00:00Z")
DAY = 86_400 * NS


class Clock:
    now_ns = NOW

    def __call__(self) -> int:
        return self.now_ns


async def shown(context: ssl.SSLContext) -> bytes:
    """The certificate that a client gets to see, DER."""
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, ssl=context)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    await reader.read()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return certificate


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


async def test_without_a_certificate_one_is_made_that_stays_and_new_connections_see_its_successor(
    tmp_path: Path,
) -> None:
    clock = Clock()
    tls = ServerTls(HttpSettings(certificate_names=("door.example",)), tmp_path, clock)
    context = await tls.start(["127.0.0.1", "0.0.0.0"])
    first = await shown(context)
    assert first == der(tmp_path / "tls" / "certificate.pem")
    assert b"door.example" in first
    await asyncio.to_thread(tls.refresh)
    assert await shown(context) == first
    clock.now_ns += 800 * DAY
    await asyncio.to_thread(tls.refresh)
    assert await shown(context) == der(tmp_path / "tls" / "certificate.pem") != first
    await tls.stop()


async def test_an_operators_certificate_is_used_read_anew_and_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        SelfSigned(tmp_path / name, (f"{name}.example",)).ensure(NOW)
    files = {n: tmp_path / "old" / "tls" / f"{n}.pem" for n in ("certificate", "key")}
    tls = ServerTls(HttpSettings(certificate=files["certificate"], key=files["key"]), tmp_path, clock)
    context = await tls.start(["127.0.0.1"])
    assert b"old.example" in await shown(context)
    assert not (tmp_path / "tls").exists()
    shutil.copy(tmp_path / "new" / "tls" / "certificate.pem", files["certificate"])
    with pytest.raises(OperatorError, match="are no certificate with its unencrypted private key"):
        await asyncio.to_thread(tls.refresh)
    assert b"old.example" in await shown(context)
    shutil.copy(tmp_path / "new" / "tls" / "key.pem", files["key"])
    assert not caplog.messages
    clock.now_ns += 800 * DAY
    with caplog.at_level(logging.WARNING):
        await asyncio.to_thread(tls.refresh)
    assert b"new.example" in await shown(context)
    assert ["expires on" in m for m in caplog.messages] == [True]
    await tls.stop()
