"""The operator's commands on a running recorder, with a camera that sends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.camera import Camera, h264_track, key_frame
from tests.support.commands import status_of
from tests.support.daemon import ADMIN, DaemonProcess

pytestmark = pytest.mark.timeout(120)


class Operator:
    """Types commands for one recorder."""

    def __init__(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._data = data
        self._capsys = capsys

    async def types(self, *command: str, status: int = 0) -> str:
        """What it tells, both ways."""
        self._capsys.readouterr()
        ended = await asyncio.to_thread(status_of, *command, "--data", str(self._data))
        told = self._capsys.readouterr()
        assert ended == status, told.err
        return told.out + told.err

    async def sees(self, *command: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (await self.types(*command, "--json")).splitlines()]

    async def sees_at_last(self, so: Callable[[list[dict[str, Any]]], bool], *command: str) -> list[dict[str, Any]]:
        """As soon as it is so."""
        while True:
            rows = await self.sees(*command)
            if so(rows):
                return rows
            await asyncio.sleep(0.1)

    async def sees_camera(self, so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The one camera, as soon as it is so."""
        (row,) = await self.sees_at_last(lambda rows: so(rows[0]), "camera", "list")
        return row


async def test_a_camera_is_added_moved_to_tcp_watched_over_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    track = h264_track()

    async def send(camera: Camera) -> None:
        for number in range(10_000):
            camera.send_report(track, time.time_ns(), number * 9_000)
            camera.send_unit(track, key_frame(number), number * 9_000)
            await asyncio.sleep(0.1)

    with DaemonProcess(tmp_path / "data", '[ingest]\nudp_silence = "60s"\nno_data_timeout = "60s"\n') as daemon:
        operator = Operator(daemon.data, capsys)
        async with Camera([track], username="u", password="right", schemes=("Digest",)) as camera:
            uri = camera.uri.replace("rtsp://", "rtsp://u:wrong@")
            await operator.types("camera", "add", "yard", uri, "--transport", "udp")
            refused = await operator.sees_camera(lambda row: row["next_attempt_s"] is not None)
            assert refused["state"] == "Error"
            assert "refuses the user name or password" in refused["why"]
            assert "nvr: yard: " in await operator.types("camera", "list", "--check", status=1)

            password = tmp_path / "password"
            password.write_text("right\n")
            told = await operator.types("camera", "change", "yard", "--password-file", str(password))
            assert "(yard): credentials changed" in told
            await camera.playing()
            sending = asyncio.create_task(send(camera))
            try:
                await operator.sees_camera(lambda row: row["transport"] == ["udp"] and row["oldest"] is not None)
                await operator.types("camera", "change", "yard", "--transport", "tcp", "--name", "gate")
                row = await operator.sees_camera(lambda row: row["transport"] == ["tcp"] and row["state"] == "Active")
                await operator.sees_at_last(lambda s: len(s) > 2 and s[-1]["kind"] == "recorded", "gaps", "gate")
            finally:
                sending.cancel()
            assert (row["name"], row["transport_asked"]) == ("gate", ["tcp"])

            assert "--keep-footage or --delete-footage" in await operator.types("camera", "remove", "gate", status=2)
            assert "its footage is kept" in await operator.types("camera", "remove", "gate", "--keep-footage")
        row = await operator.sees_camera(lambda row: row["state"] == "NoJob")
        ended = ("gaps", "gate", "--since", "1h")
        spans = await operator.sees_at_last(lambda s: s[-1]["kind"] == "gap", *ended)
        reasons = [span["reason"] for span in spans]
        assert (reasons[0], reasons[-1], spans[-1]["goes_on"]) == (None, "job-stopped", True)
        assert "configuration-changed" in reasons
        assert all(before["until"] == after["from"] for before, after in pairwise(spans))
        footage = daemon.data / "volumes" / "default" / "footage" / row["recording"]
        assert list(footage.rglob("*.mp4"))
        assert "--yes says that this is meant" in await operator.types(
            "camera", "remove", "gate", "--delete-footage", status=2
        )
        assert "is deleted" in await operator.types("camera", "remove", "gate", "--delete-footage", "--yes")
        assert await operator.sees("camera", "list") == []
        assert not footage.exists()

        assert "last administrator" in await operator.types("user", "remove", ADMIN, status=1)
        for line in (f"camera change {row['recording']} (yard): credentials", "with its footage"):
            assert await asyncio.to_thread(daemon.has_logged, line)
        assert daemon.stop() == 0
        assert "right" not in daemon.log
        assert "wrong" not in daemon.log
