"""GStreamer's RTSP server as a camera, and what it says it sent."""

from __future__ import annotations

import struct
import subprocess
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

SYSTEM_PYTHON = Path("/usr/bin/python3")
SCRIPT = Path(__file__).parent.parent / "e2e" / "gst_camera.py"

_PROBE = """
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
missing = [e for e in ("x264enc", "x265enc", "h264parse", "h265parse", "avenc_aac", "aacparse", "rtph264pay",
                       "rtph265pay", "rtpmp4gpay", "timeoverlay") if not Gst.ElementFactory.find(e)]
print(" ".join(missing))
"""


@cache
def missing() -> str | None:
    """Why the GStreamer camera cannot run here, or None when it can."""
    if not SYSTEM_PYTHON.exists():
        return f"{SYSTEM_PYTHON} with gi is not there"
    probe = subprocess.run([SYSTEM_PYTHON, "-c", _PROBE], capture_output=True, text=True, timeout=60)
    if probe.returncode:
        return f"GStreamer's RTSP server is not installed: {probe.stderr.strip().splitlines()[-1]}"
    return f"GStreamer lacks {probe.stdout.strip()}" if probe.stdout.strip() else None


class Sent(NamedTuple):
    """One access unit that entered a payloader: UTC nanoseconds of presentation, and its bytes."""

    utc_ns: int
    data: bytes


class GstCamera:
    """`codec` is h264 or h265; `options` as in gst_camera.py."""

    def __init__(self, dump: Path, codec: str, *options: str) -> None:
        self._dump = dump
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, SCRIPT, dump, codec, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.uri = self._process.stdout.readline().strip()
        if not self.uri:
            self.close()
            raise AssertionError("the GStreamer camera did not start")

    def close(self) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def sent(self) -> tuple[list[Sent], list[Sent]]:
        """Video and audio access units so far, each in the order of sending."""
        data = self._dump.read_bytes()
        streams: tuple[list[Sent], list[Sent]] = ([], [])
        at = 0
        while at + 13 <= len(data):
            stream, utc_ns, length = struct.unpack_from(">BqI", data, at)
            at += 13 + length
            if at <= len(data):
                streams[stream].append(Sent(utc_ns, data[at - length : at]))
        return streams
