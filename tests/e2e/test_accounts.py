"""One set of accounts: a user made over SOAP is known to HTTP Digest, WS-UsernameToken and RTSP at once."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from requests.auth import HTTPDigestAuth
from zeep.exceptions import Fault

from tests.e2e.test_restart import device_of
from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess
from tests.support.flow import Flow
from tests.support.rtsp_client import RtspClient
from tests.support.soap_house import find_recordings
from tests.support.soap_http import SOAP_TYPE, envelope

pytestmark = pytest.mark.timeout(60)

NAME, FIRST, SECOND = "ute", "p4sswörd <1>".ljust(28, "."), "another one"


def by_digest(daemon: DaemonProcess, password: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(
            daemon.service("device"),
            envelope("<tds:GetDeviceInformation/>"),
            headers={"Content-Type": SOAP_TYPE},
            auth=HTTPDigestAuth(NAME, password),
            timeout=20,
        )
    return answer.status_code == 200


def by_token(daemon: DaemonProcess, password: str) -> bool:
    try:
        return bool(device_of(daemon, NAME, password).GetDeviceInformation())
    except Fault as refused:
        if [code.localname for code in refused.subcodes] != ["NotAuthorized"]:
            raise
        return False


async def by_rtsp(daemon: DaemonProcess, uri: str, password: str) -> bool:
    port = urlsplit(daemon.rtsp).port
    assert port is not None
    client = await RtspClient.connect(port)
    client.credentials = (NAME, password)
    try:
        return (await client.request("DESCRIBE", uri, Accept="application/sdp")).status != 401
    finally:
        await client.close()


async def logged_in(daemon: DaemonProcess, uri: str, password: str) -> RtspClient:
    """A viewer whose connection stays open."""
    port = urlsplit(daemon.rtsp).port
    assert port is not None
    client = await RtspClient.connect(port)
    client.credentials = (NAME, password)
    assert (await client.request("GET_PARAMETER", uri)).status == 200
    return client


PULL = "<tev:PullMessages><tev:Timeout>PT0S</tev:Timeout><tev:MessageLimit>1</tev:MessageLimit></tev:PullMessages>"


def post(address: str, body: str, name: str, password: str) -> str:
    with requests.Session() as session:
        session.trust_env = False
        auth = HTTPDigestAuth(name, password)
        headers = {"Content-Type": SOAP_TYPE}
        return session.post(address, envelope(body), headers=headers, auth=auth, timeout=20).text


def subscribed(daemon: DaemonProcess, password: str) -> str:
    """The address of a new pull point."""
    answer = post(daemon.service("event"), "<tev:CreatePullPointSubscription/>", NAME, password)
    found = re.search(r"<[^<>/]*Address[^<>]*>([^<]+)<", answer)
    assert found is not None, answer
    return found[1]


def opened_search(daemon: DaemonProcess, password: str) -> str:
    """The token of a new search, which lives long."""
    answer = post(daemon.service("search"), find_recordings(keep_alive="PT10M"), NAME, password)
    found = re.search(r"<[^<>/]*SearchToken>([^<]+)<", answer)
    assert found is not None, answer
    return found[1]


@pytest.mark.requirement("CO-16", "CO-37", "PG-01")
async def test_an_account_counts_on_every_layer_from_the_moment_it_is_made_changed_or_deleted(tmp_path: Path) -> None:
    # Wrong passwords are part of this test: nobody is to be locked out for them.
    config = "[auth.lockout]\nuser_failures = 100\naddress_failures = 100\n"
    daemon = await asyncio.to_thread(DaemonProcess, tmp_path / "data", config)
    try:
        flow = await asyncio.to_thread(Flow, daemon)
        recording = await asyncio.to_thread(flow.create_recording)
        uri = await asyncio.to_thread(flow.replay_uri, recording)
        device = await asyncio.to_thread(device_of, daemon)

        async def known(password: str) -> list[bool]:
            return [
                await asyncio.to_thread(by_digest, daemon, password),
                await asyncio.to_thread(by_token, daemon, password),
                await by_rtsp(daemon, uri, password),
            ]

        assert await known(FIRST) == [False] * 3
        user = {"Username": NAME, "Password": FIRST, "UserLevel": "User"}
        await asyncio.to_thread(device.CreateUsers, User=[user])
        assert (NAME, "User") in [(u.Username, u.UserLevel) for u in await asyncio.to_thread(device.GetUsers)]
        assert await known(FIRST) == [True] * 3
        await asyncio.to_thread(device.SetUser, User=[{**user, "Password": SECOND}])
        assert await known(FIRST) == [False] * 3
        assert await known(SECOND) == [True] * 3
        viewer = await logged_in(daemon, uri, SECOND)
        pull_point = await asyncio.to_thread(subscribed, daemon, SECOND)
        search = await asyncio.to_thread(opened_search, daemon, SECOND)
        await asyncio.to_thread(device.DeleteUsers, Username=[NAME])
        assert await known(SECOND) == [False] * 3
        # What the account had begun ends with it.
        assert await viewer.at_end()
        await viewer.close()
        assert "ResourceUnknownFault" in await asyncio.to_thread(post, pull_point, PULL, ADMIN, PASSWORD)
        await asyncio.to_thread(device.CreateUsers, User=[{**user, "Password": SECOND}])
        state = f"<tse:GetSearchState><tse:SearchToken>{search}</tse:SearchToken></tse:GetSearchState>"
        answer = await asyncio.to_thread(post, daemon.service("search"), state, NAME, SECOND)
        assert "InvalidToken" in answer, "a new account of that name has nothing of the old one"
        assert FIRST not in daemon.log
        assert SECOND not in daemon.log
    finally:
        assert await asyncio.to_thread(daemon.stop) == 0
