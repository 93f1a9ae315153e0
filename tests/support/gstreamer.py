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

_PROBE = '''
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
wanted = """x264enc x265enc h264parse h265parse avenc_aac aacparse mpeg4videoparse rtph264pay rtph265pay rtpmp4gpay
    timeoverlay jpegenc rtpjpegpay rtpmp4vpay opusenc rtpopuspay rtpL16pay avenc_g726 rtpg726pay"""
missing = [e for e in wanted.split() if not Gst.ElementFactory.find(e)]
print(" ".join(missing))
'''


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
    """`codecs` and `options` as in gst_camera.py; `uri` is that of the first pair of codecs."""

    def __init__(self, dump: Path, codecs: str, *options: str) -> None:
        self._dump = dump
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, SCRIPT, dump, codecs, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.uris = self._process.stdout.readline().split()
        if not self.uris:
            self.close()
            raise AssertionError("the GStreamer camera did not start")
        self.uri = self.uris[0]

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

    def sent(self, pair: int = 0) -> tuple[list[Sent], list[Sent]]:
        """Video and audio access units of a pair of codecs so far, each in the order of sending."""
        data = self._dump.read_bytes()
        streams: tuple[list[Sent], list[Sent]] = ([], [])
        at = 0
        while at + 13 <= len(data):
            stream, utc_ns, length = struct.unpack_from(">BqI", data, at)
            at += 13 + length
            if at <= len(data) and stream // 2 == pair:
                streams[stream % 2].append(Sent(utc_ns, data[at - length : at]))
        return streams


_CLIENT_PROBE = """
import gi
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)
print(" ".join(e for e in ("rtspsrc", "rtponvifparse", "rtph264depay", "h264parse", "avdec_h264", "appsink")
               if not Gst.ElementFactory.find(e)))
"""


@cache
def client_missing() -> str | None:
    """Why the GStreamer ONVIF client cannot run here, or None when it can."""
    if not SYSTEM_PYTHON.exists():
        return f"{SYSTEM_PYTHON} with gi is not there"
    probe = subprocess.run([SYSTEM_PYTHON, "-c", _CLIENT_PROBE], capture_output=True, text=True, timeout=60)
    if probe.returncode:
        return f"GStreamer's Python is not installed: {probe.stderr.strip().splitlines()[-1]}"
    return f"GStreamer lacks {probe.stdout.strip()}" if probe.stdout.strip() else None
