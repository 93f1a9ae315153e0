"""A client that hangs up: what changes something comes to its end, what only reads is broken off."""

from __future__ import annotations

import asyncio
import logging

import pytest

from nvr.soap.model import Struct
from nvr.soap.names import ENV, TDS
from nvr.soap.protocol import Request, Soap
from nvr.soap.service import AccessClass, Call, Service, operation
from tests.support.soap_house import believing_security


class Slow(Service):
    namespace = TDS
    path = "/slow"
    contract = "devicemgmt.wsdl"

    def __init__(self) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self.done: list[str] = []

    def capabilities(self) -> Struct:
        raise NotImplementedError

    async def _work(self, name: str) -> None:
        self.begun.set()
        await self.go_on.wait()
        self.done.append(name)

    @operation("Change", AccessClass.WRITE_SYSTEM)
    async def change(self, _: Call) -> None:
        await self._work("change")

    @operation("Fail", AccessClass.ACTUATE)
    async def fail(self, _: Call) -> None:
        await self._work("fail")
        raise RuntimeError("no")

    @operation("Read", AccessClass.READ_MEDIA)
    async def read(self, _: Call) -> None:
        await self._work("read")


async def hung_up(service: Slow, name: str) -> None:
    body = f'<e:Envelope xmlns:e="{ENV}"><e:Body><t:{name} xmlns:t="{TDS}"/></e:Body></e:Envelope>'
    request = Request(
        "POST", "/slow", "application/soap+xml", "Named administrator", "http://h", "h", "test", body.encode()
    )
    task = asyncio.create_task(Soap([service], believing_security()).answer("/slow", request))
    await service.begun.wait()
    task.cancel()
    task.cancel()
    await asyncio.sleep(0)
    service.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(("name", "done"), [("Change", ["change"]), ("Read", [])])
async def test_only_changes_come_to_their_end(name: str, done: list[str]) -> None:
    service = Slow()
    await hung_up(service, name)
    assert service.done == done


async def test_a_change_that_fails_behind_its_client_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await hung_up(Slow(), "Fail")
    assert "has hung up has failed: RuntimeError" in caplog.text
