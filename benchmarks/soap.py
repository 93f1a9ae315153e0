"""SOAP requests per second and CPU per request, over HTTP on the loopback; and how long a large answer holds the loop.

    .venv/bin/python -m benchmarks.soap

GetServiceCapabilities of the device service, four keep-alive connections, each server in a process of its own:
`bare` is an aiohttp handler that answers fixed bytes of the same length; `nvr` is the listener with all of its checks;
`spyne` is spyne's own SOAP 1.2 protocol and WSGI transport with the same models, called from an aiohttp handler, so
that the HTTP front is the same for all three. CPU is that of the server's process, user and kernel, as it reports it.

The large answer is 1000 recordings of three tracks, drawn and written while another task only counts how long the loop
keeps it waiting.
"""

from __future__ import annotations

import asyncio
import io
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from aiohttp import web

from nvr.auth.credentials import Vault
from nvr.auth.digest import DigestServer
from nvr.auth.username_token import UsernameTokenVerifier
from nvr.auth.users import UserStore
from nvr.control.device import DeviceMemory
from nvr.http.listener import Address, Listener
from nvr.http.settings import HttpSettings
from nvr.model.device import DeviceState
from nvr.soap import types
from nvr.soap.device import DeviceService, DeviceSettings
from nvr.soap.device_types import DeviceServiceCapabilities
from nvr.soap.model import Struct, many
from nvr.soap.names import ENV, TDS, TRC
from nvr.soap.protocol import Soap, serialize
from nvr.soap.security import Security
from nvr.soap.spyne_repair import cgi_supplied
from nvr.soap.wsdl import Contract, contract_directory

with cgi_supplied():  # behind nvr.soap, which lets spyne be imported on newer versions of Python
    from spyne import Application, rpc
    from spyne import Service as SpyneService
    from spyne.protocol.soap import Soap12
    from spyne.server.wsgi import WsgiApplication

CONNECTIONS = 4
SECONDS = 5.0
WARM_UP = 200
PATH = "/onvif/device_service"
BODY = f'<e:Envelope xmlns:e="{ENV}"><e:Body><GetServiceCapabilities xmlns="{TDS}"/></e:Body></e:Envelope>'.encode()
REQUEST = (
    f"POST {PATH} HTTP/1.1\r\nHost: nvr.example:8080\r\nContent-Type: application/soap+xml; charset=utf-8\r\n"
    f"Content-Length: {len(BODY)}\r\n\r\n"
).encode() + BODY


def a_device() -> DeviceService:
    nothing: Any = None  # what is measured asks neither the disk nor the system
    users = UserStore(Vault(bytes(32)), nothing)
    memory = DeviceMemory(DeviceState(), nothing, ())
    return DeviceService(
        DeviceSettings(),
        "0",
        (),
        time.time_ns,
        users=users,
        memory=memory,
        endpoint=UUID(int=0),
        system=nothing,
        protocols=tuple,
    )


def a_soap() -> Soap:
    nobody = Security(
        lambda name: None,
        DigestServer("nvr", lambda name, algorithm: None),
        UsernameTokenVerifier(lambda name: None),
        time.time_ns,
    )
    return Soap([a_device()], nobody)


async def serve_nvr() -> int:
    listener = Listener(HttpSettings(), a_soap(), Contract(contract_directory()))
    (address,) = await listener.start([Address("127.0.0.1", 0)])
    return address.port


async def serve_bare() -> int:
    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=b"x" * 1200, content_type="application/soap+xml")

    return await _serve(handle)


async def serve_spyne() -> int:
    device = a_device()

    class Stock(SpyneService):  # type: ignore[misc]
        @rpc(_returns=DeviceServiceCapabilities, _out_variable_name="Capabilities")  # type: ignore[untyped-decorator]
        def GetServiceCapabilities(ctx: Any) -> Any:  # noqa: N802, N805
            capabilities = device.capabilities()
            capabilities.Security.HashingAlgorithms = None  # spyne's serializer fails at a list in an attribute
            return capabilities

    wsgi = WsgiApplication(Application([Stock], TDS, "Stock", Soap12(validator="lxml"), Soap12()))

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        answer: dict[str, Any] = {}

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
            answer["status"] = int(status.split()[0])

        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": PATH,
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "CONTENT_TYPE": request.headers["Content-Type"],
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
        }
        text = b"".join(wsgi(environ, start_response))
        if b"HttpDigest" not in text:
            raise RuntimeError("spyne did not answer")
        return web.Response(status=answer["status"], body=text, content_type="application/soap+xml")

    return await _serve(handle)


async def _serve(handle: Any) -> int:
    application = web.Application()
    application.router.add_post(PATH, handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return site.port


SERVERS = {"bare": serve_bare, "nvr": serve_nvr, "spyne": serve_spyne}


async def child(name: str) -> None:
    """Serves until its standard input ends; a line there asks for the CPU spent so far, in seconds."""
    print(await SERVERS[name](), flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        spent = resource.getrusage(resource.RUSAGE_SELF)
        print(spent.ru_utime + spent.ru_stime, flush=True)


async def drive(port: int, requests: int | None, seconds: float) -> int:
    """Sends requests one after the other on one connection; how many were answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    until, done = time.perf_counter() + seconds, 0
    while (requests is None or done < requests) and time.perf_counter() < until:
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the server answered {head[:60]!r}")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        done += 1
    writer.close()
    return done


async def measured(name: str) -> tuple[float, float]:
    """Requests per second, and CPU of the server in microseconds per request."""
    process = subprocess.Popen(  # noqa: ASYNC220  nothing else runs here
        [sys.executable, "-W", "ignore", "-m", "benchmarks.soap", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def cpu() -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    try:
        port = int(process.stdout.readline())
        await drive(port, WARM_UP, 30)
        before, start = cpu(), time.perf_counter()
        counts = await asyncio.gather(*(drive(port, None, SECONDS) for _ in range(CONNECTIONS)))
        elapsed, spent = time.perf_counter() - start, cpu() - before
    finally:
        process.stdin.close()
        process.wait(10)
    return sum(counts) / elapsed, spent / sum(counts) * 1e6


class GetRecordingsResponse(Struct):
    __namespace__ = TRC

    RecordingItem = many(types.GetRecordingsResponseItem)


def recordings(count: int) -> Iterator[types.GetRecordingsResponseItem]:
    for i in range(count):
        yield types.GetRecordingsResponseItem(
            RecordingToken=f"rec-{i:032x}",
            Configuration=types.RecordingConfiguration(
                Source=types.RecordingSourceInformation(
                    SourceId=f"http://camera-{i}.example/",
                    Name=f"Camera {i}",
                    Location="Gate & yard",
                    Description="",
                    Address="",
                ),
                Content="Recorded",
                MaximumRetentionTime=0,
            ),
            Tracks=types.GetTracksResponseList(
                Track=[
                    types.GetTracksResponseItem(
                        TrackToken=f"{kind.upper()}001",
                        Configuration=types.TrackConfiguration(TrackType=kind, Description=""),
                    )
                    for kind in ("Video", "Audio", "Metadata")
                ]
            ),
        )


async def large_answer(count: int) -> tuple[int, float, float]:
    """Bytes, seconds in all, and the longest time for which the loop ran nothing else."""
    message = GetRecordingsResponse(RecordingItem=recordings(count))
    start = time.perf_counter()
    task = asyncio.create_task(serialize(message, f"{{{TRC}}}GetRecordingsResponse"))
    longest = 0.0
    while not task.done():
        before = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - before)
    return sum(map(len, task.result())), time.perf_counter() - start, longest


async def main() -> None:
    print(f"GetServiceCapabilities, {CONNECTIONS} connections, {SECONDS:.0f} s each")
    for name in SERVERS:
        rate, spent = await measured(name)
        print(f"  {name:6} {rate:8.0f} requests/s   {spent:7.0f} us CPU per request")
    for count in (10, 1000, 10_000):
        size, seconds, longest = await large_answer(count)
        print(
            f"GetRecordings of {count} recordings: {size / 1000:.0f} kB, {seconds * 1000:.1f} ms in all, "
            f"loop held {longest * 1000:.1f} ms at most"
        )


if __name__ == "__main__":
    asyncio.run(child(sys.argv[1]) if len(sys.argv) > 1 else main())
