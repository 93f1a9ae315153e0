"""A recorder with one good camera and one of every bad kind: each bad one is told apart, the good one loses nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from nvr.media.rtsp.message import Request, Response
from tests.e2e.crash import camera, nal_units
from tests.support.camera import Camera, h264_track
from tests.support.daemon import DaemonProcess
from tests.support.disk_samples import runs, track_samples
from tests.support.flow import Flow, until
from tests.support.replayed import replay

pytestmark = pytest.mark.timeout(120)


def half(_: Request, response: Response) -> bytes:
    return bytes(response)[:30]


def garbage(_: Request, response: Response) -> bytes:
    return b"\x00\xff\x13\x37" * 64


def no_media(_: Request, response: Response) -> bytes:
    body = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
    return bytes(Response(response.status, response.headers, body))


class ClosesAtOnce:
    """Accepts and hangs up."""

    async def __aenter__(self) -> ClosesAtOnce:
        self._server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        self.uri = f"rtsp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/stream"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()


def scripted(method: str, answer: Callable[[Request, Response], bytes | None]) -> Camera:
    camera = Camera([h264_track()])
    camera.answers[method] = answer
    return camera


async def test_bad_cameras_are_told_apart_and_a_good_one_is_recorded_whole(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with AsyncExitStack() as stack:
        good_uri = stack.enter_context(camera())
        password = Camera([h264_track()], username="viewer", password="right", schemes=("Digest",))
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))
        uris = {
            "refused": f"rtsp://127.0.0.1:{closed.getsockname()[1]}/stream",
            "hangs up": (await stack.enter_async_context(ClosesAtOnce())).uri,
            "half an answer": (await stack.enter_async_context(scripted("DESCRIBE", half))).uri,
            "garbage": (await stack.enter_async_context(scripted("DESCRIBE", garbage))).uri,
            "no media": (await stack.enter_async_context(scripted("DESCRIBE", no_media))).uri,
            "wrong password": (await stack.enter_async_context(password)).uri.replace(
                "rtsp://", "rtsp://viewer:wrong@"
            ),
        }
        daemon = await asyncio.to_thread(DaemonProcess, data, '[ingest]\nrequest_timeout = "3s"\n')
        stack.push(daemon)
        flow = await asyncio.to_thread(Flow, daemon)
        recording, job, _ = await asyncio.to_thread(flow.record, good_uri)
        bad = {name: (await asyncio.to_thread(flow.record, uri))[1] for name, uri in uris.items()}
        await asyncio.to_thread(flow.until_job_is, job, "Active")
        for bad_job in bad.values():
            await asyncio.to_thread(flow.until_job_is, bad_job, "Error")
        texts = {name: await asyncio.to_thread(error_of, flow, bad_job) for name, bad_job in bad.items()}
        assert len(set(texts.values())) == len(texts), texts
        assert "401" in texts["wrong password"] or "password" in texts["wrong password"]
        await asyncio.to_thread(flow.until_recorded, recording, 4)
        await asyncio.to_thread(flow.set_idle, job, recording)
        assert len(runs(data, "VIDEO001")) == 1, "the recording is torn"
        units = await replay(await asyncio.to_thread(flow.replay_uri, recording), "VIDEO001")
        assert [u.h264() for u in units] == [nal_units(s) for s in track_samples(data, "VIDEO001")]
        assert "wrong@" not in daemon.log
        assert "Traceback" not in daemon.log
        assert await asyncio.to_thread(daemon.stop) == 0


def error_of(flow: Flow, job: str) -> str:
    """The error text of the first track of a job."""

    def texts() -> Any:
        return [t.Error for s in flow.job_state(job).Sources for t in s.Tracks.Track if t.Error]

    return str(until(texts, f"an error text of {job}")[0])
