"""RTSP over TLS: the same server on a second port."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from pathlib import Path

import av
import pytest

from nvr.auth.certificate import SelfSigned
from nvr.http.settings import tls_context
from nvr.model.errors import OperatorError
from nvr.model.tokens import VIDEO001
from nvr.replay.server import RtspServer
from nvr.replay.stream import Wire
from tests.replay.test_players import House, annex_b, house
from tests.support.footage import encoded_h264
from tests.support.rtp_streams import nals_of

__all__ = ["house"]


def own_certificate(directory: Path) -> SelfSigned:
    made = SelfSigned(directory, ("localhost", "127.0.0.1"))
    made.ensure(time.time_ns())
    return made


async def secured(server: RtspServer, directory: Path) -> tuple[int, SelfSigned]:
    made = await asyncio.to_thread(own_certificate, directory)
    return await server.start("127.0.0.1", 0, tls_context(made.certificate, made.key)), made


def demuxed(uri: str, ca_file: Path, wanted: int) -> list[bytes]:
    options = {"rtsp_transport": "tcp", "tls_verify": "1", "ca_file": str(ca_file)}
    found: list[bytes] = []
    with av.open(uri, options=options, timeout=(15, 2)) as container:
        for packet in container.demux(video=0):
            found.append(bytes(packet))
            if len(found) >= wanted:
                break
    return found


async def test_ffmpeg_plays_a_recording_over_rtsps_and_over_rtsp_from_one_server(house: House, tmp_path: Path) -> None:
    video = encoded_h264(30)
    await house.record(VIDEO001, video)
    port, made = await secured(house.server, tmp_path)
    assert port != house.server.port
    uri = f"rtsps://localhost:{port}{house.path}"
    found = await asyncio.to_thread(demuxed, uri, made.certificate, 30)
    assert [annex_b(p) for p in found if p] == [nals_of(s.data) for s in video[1]]
    plain = await asyncio.to_thread(demuxed, house.uri(), made.certificate, 5)
    assert plain[:5] == found[:5]


async def test_old_versions_and_plain_text_are_refused_and_nobody_else_is_disturbed(
    house: House, tmp_path: Path
) -> None:
    port, made = await secured(house.server, tmp_path)
    old = ssl.create_default_context(cafile=str(made.certificate))
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("localhost", port, ssl=old)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        assert not (await reader.read()).startswith(b"RTSP")
    writer.close()
    context = ssl.create_default_context(cafile=str(made.certificate))
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    writer.write(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")
    assert (await reader.readline()).startswith(b"RTSP/1.0 200")
    writer.close()


async def test_a_connection_may_be_closed_by_several_and_cut_behind_that(tmp_path: Path) -> None:
    """As the two legs of a tunnel do with each other, in whatever order they end."""
    made = await asyncio.to_thread(own_certificate, tmp_path)
    accepted: asyncio.Queue[Wire] = asyncio.Queue()
    gone = asyncio.Event()
    server = await asyncio.get_running_loop().create_server(
        lambda: Wire(1 << 16, gone.set, accepted.put_nowait),
        "127.0.0.1",
        0,
        ssl=tls_context(made.certificate, made.key),
    )
    port = server.sockets[0].getsockname()[1]
    context = ssl.create_default_context(cafile=str(made.certificate))
    _, writer = await asyncio.open_connection("localhost", port, ssl=context)
    wire = await accepted.get()
    for _ in range(2):
        await wire.close(0)  # the client does not answer in no time
    wire.abort()
    assert wire.buffered == 0
    await gone.wait()
    wire.abort()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_an_address_that_is_taken_is_told_with_the_setting_that_chooses_another(house: House) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(OperatorError, match=r"RTSPS cannot listen .* choose another listen\.rtsps"):
        await house.server.start("127.0.0.1", house.server.port, context)
