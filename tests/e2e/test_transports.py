"""One recording by every transport, from URIs that the daemon gives, with clients that are not ours.

FFmpeg by UDP and through the tunnel, curl with a tunnel by hand, and a script with the WebSocket client of Node.js.
More of FFmpeg, and GStreamer: test_replay_ffmpeg.py and test_replay_gstreamer.py.
"""

from __future__ import annotations

import base64
import re
import shutil
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import av
import pytest
from zeep.wsse.username import UsernameToken

from tests.e2e.crash import camera
from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess
from tests.support.flow import Flow
from tests.support.official_schema import official_client

pytestmark = pytest.mark.timeout(120)

CONFIG = '[listen]\nhttps = "127.0.0.1:0"\nrtsps = "127.0.0.1:0"\n[storage]\nfsync = "none"\n'
CLIENTS = Path(__file__).parent / "clients"
CURL, NODE = shutil.which("curl"), shutil.which("node")
WEBSOCKET = [str(NODE), "--experimental-websocket"]


def missing() -> list[str]:
    """The clients that are not there to be tried."""
    found = [] if CURL is not None else ["curl"]
    if NODE is None or subprocess.run([*WEBSOCKET, "-e", ""], capture_output=True).returncode:
        found.append("node with a WebSocket client")
    return found


class Recorded:
    """A daemon with footage, and the client that asks it for URIs."""

    def __init__(self, daemon: DaemonProcess, flow: Flow, recording: str, receiver: str) -> None:
        self.daemon, self.flow, self.recording, self.receiver = daemon, flow, recording, receiver

    def replay_uri(self, protocol: str) -> str:
        setup = {"Stream": "RTP-Unicast", "Transport": {"Protocol": protocol}}
        return str(self.flow.replay.GetReplayUri(StreamSetup=setup, RecordingToken=self.recording))

    def live_uri(self, protocol: str) -> str:
        token = UsernameToken(ADMIN, PASSWORD, use_digest=True)
        media = official_client("media", self.daemon.service("media"), wsse=token)
        setup = {"Stream": "RTP-Unicast", "Transport": {"Protocol": protocol}}
        return str(media.GetStreamUri(StreamSetup=setup, ProfileToken=self.receiver).Uri)


@pytest.mark.requirement("RP-7.1-09", "RP-7.5-05", "RP-7.5-06")
def test_every_transport_carries_a_recording_to_stock_clients(tmp_path: Path) -> None:
    with camera() as uri, DaemonProcess(tmp_path / "data", CONFIG) as daemon:
        flow = Flow(daemon)
        recording, job, receiver = flow.record(uri)
        flow.until_job_is(job, "Active")
        flow.until_recorded(recording, 1)
        found = Recorded(daemon, flow, recording, receiver)
        absent = missing()
        check_ffmpeg(found)
        check_curl(found)
        check_websocket(found, absent)
        assert PASSWORD not in daemon.log
        assert "Traceback" not in daemon.log
        assert daemon.stop() == 0
    if absent:
        pytest.skip(f"all the rest was tried, but these clients are not installed: {', '.join(absent)}")


def check_ffmpeg(found: Recorded) -> None:
    assert found.flow.replay.GetServiceCapabilities().RTP_RTSP_TCP is True
    assert decoded(found.replay_uri("RTSP"), "tcp", 5) >= 5
    for ask in (found.replay_uri, found.live_uri):
        assert decoded(ask("UDP"), "udp", 5) >= 5
        tunnelled = ask("HTTP")
        assert tunnelled.startswith(f"{found.daemon.http}/")
        assert decoded(tunnelled.replace("http:", "rtsp:"), "http", 5) >= 5


def decoded(uri: str, transport: str, pictures: int) -> int:
    where = uri.partition("://")[2]
    uri = f"rtsp://{ADMIN}:{PASSWORD.replace(' ', '%20')}@{where}"
    count = 0
    with av.open(
        uri, options={"rtsp_transport": transport, "analyzeduration": "500000"}, timeout=(20, 10)
    ) as container:
        for _ in container.decode(video=0):
            count += 1
            if count >= pictures:
                break
    return count


def check_curl(found: Recorded) -> None:
    """The tunnel by hand: the URI as the service gives it is the RTSP URI (7.1)."""
    if CURL is None:
        return
    uri = found.replay_uri("HTTP")
    assert urlsplit(uri).scheme == "http"
    common = [CURL, "-sS", "-N", "-H", "x-sessioncookie: by-hand", uri]
    down = subprocess.Popen([*common, "--max-time", "20"], stdout=subprocess.PIPE)
    try:
        assert down.stdout is not None
        request = f"DESCRIBE {uri} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode()
        for _ in range(50):  # until the GET has been accepted
            up = subprocess.run(
                [
                    *common,
                    "-H",
                    "Content-Type: application/x-rtsp-tunnelled",
                    "--data-binary",
                    "@-",
                    "-w",
                    "%{http_code}",
                ],
                input=base64.b64encode(request),
                capture_output=True,
                timeout=20,
            )
            if up.stdout == b"200":
                break
        assert up.stdout == b"200", up.stderr
        assert down.stdout.readline().startswith(b"RTSP/1.0 401 ")
    finally:
        down.terminate()
        down.wait(10)
        if down.stdout is not None:
            down.stdout.close()


def check_websocket(found: Recorded, absent: list[str]) -> None:
    """As a browser opens it, by the path that the capability names."""
    told = str(found.flow.replay.GetServiceCapabilities().RTSPWebSocketUri)
    assert re.fullmatch(r"ws:/[^/].*", told)
    where = urlsplit(found.daemon.http)
    with socket.create_connection((where.hostname, where.port), 10) as connection:
        head = f"GET {told.removeprefix('ws:')} HTTP/1.1\r\nHost: {where.netloc}\r\nUpgrade: websocket\r\n"
        head += "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        connection.sendall(f"{head}Sec-WebSocket-Protocol: rtsp.onvif.org\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")
    if not any(client.startswith("node") for client in absent):
        play_with_node(found, told)


def play_with_node(found: Recorded, told: str) -> None:
    where = found.daemon.http.replace("http:", "ws:") + told.removeprefix("ws:")
    ran = subprocess.run(
        [
            *WEBSOCKET,
            str(CLIENTS / "websocket.mjs"),
            where,
            f"rtsp://recorder/replay/{found.recording}",
            ADMIN,
            PASSWORD,
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) >= 50, ran.stderr
