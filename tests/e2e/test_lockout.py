"""Guessing passwords of a running recorder: one count for SOAP and RTSP, told by metrics and log."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.auth import HTTPDigestAuth

from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess
from tests.support.rtsp_client import RtspClient
from tests.support.soap_http import SOAP_TYPE, envelope

CONFIG = '[auth.lockout]\nuser_failures = 3\nfirst_delay = "5m"\n[storage]\nfsync = "none"\n'


def ask(daemon: DaemonProcess, user: str, password: str) -> int:
    body = envelope("<tds:GetDeviceInformation/>")
    auth = HTTPDigestAuth(user, password)
    headers = {"Content-Type": SOAP_TYPE}
    return requests.post(daemon.service("device"), body, headers=headers, auth=auth, timeout=10).status_code


async def describe(daemon: DaemonProcess, user: str, password: str) -> int:
    client = await RtspClient.connect(int(urlsplit(daemon.rtsp).port or 0))
    client.credentials = user, password
    try:
        return (await client.request("DESCRIBE", "/live/rcv-unknown")).status
    finally:
        await client.close()


def metric(daemon: DaemonProcess, name: str) -> int:
    found = re.search(rf"^{name} (\d+)$", requests.get(f"{daemon.http}/metrics", timeout=10).text, re.MULTILINE)
    assert found is not None, name
    return int(found[1])


def test_wrong_passwords_on_soap_and_rtsp_count_together_and_lock_the_account_on_both(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path / "data", CONFIG) as daemon:
        for _ in range(2):
            assert ask(daemon, ADMIN, "guess") == 401
            assert asyncio.run(describe(daemon, ADMIN, "guess")) == 401
        assert ask(daemon, ADMIN, PASSWORD) == 401
        assert asyncio.run(describe(daemon, ADMIN, PASSWORD)) == 401
        assert metric(daemon, "nvr_login_failures_total") == 4
        assert metric(daemon, "nvr_login_refused_while_locked_total") == 2
        assert (metric(daemon, "nvr_locked_users"), metric(daemon, "nvr_locked_addresses")) == (1, 0)
        assert daemon.has_logged("user 'admin' is locked for 300 s: 4 wrong passwords, the last one from 127.0.0.1")
        assert PASSWORD not in daemon.log
        assert "guess" not in daemon.log
