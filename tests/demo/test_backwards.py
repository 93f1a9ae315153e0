"""A recording played backwards over a real socket, decoded."""

from __future__ import annotations

import asyncio
import re
import socket
from itertools import pairwise
from typing import Any

import pytest

from nvr.demo import backwards
from nvr.demo.backwards import groups_backwards
from nvr.model.errors import SourceError
from nvr.model.time import NS
from nvr.model.tokens import AUDIO001, VIDEO001
from nvr.replay.authentication import DigestAuthenticator
from tests.replay.conftest import PATH, Accounts, Serve, sound
from tests.support.footage import START, cut, numbered
from tests.support.replay_store import MemoryTrack


def recorded() -> MemoryTrack:
    """Three groups of ten numbered pictures, a gap before the last."""
    configuration, samples = numbered(30, gap_before=20)
    track = MemoryTrack(configuration)
    for fragment in cut(configuration, samples[:20], START + 2 * NS):
        track.with_unit_list(fragment.samples, fragment.end_ns)
    track.with_gap(START + 22 * NS)
    for fragment in cut(configuration, samples[20:], START + 23 * NS):
        track.with_unit_list(fragment.samples, fragment.end_ns)
    return track.with_end()


def uri_of(port: int) -> str:
    return f"rtsp://watcher:secret@127.0.0.1:{port}{PATH}"


@pytest.mark.requirement("PB-8.7-03")
async def test_groups_come_backwards_and_the_session_is_kept_alive_meanwhile(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of which every look at it takes 10 s."""
    served = await serve(
        {VIDEO001: recorded(), AUDIO001: sound()}, payload=None, authenticator=DigestAuthenticator(Accounts(), "nvr")
    )
    now = 0
    sent: list[tuple[str, int]] = []

    def look() -> int:
        nonlocal now
        now += 10 * NS
        return now

    class Traced(socket.socket):
        def sendall(self, data: Any, *flags: int) -> None:
            sent.append((bytes(data).decode().partition(" ")[0], now))
            super().sendall(data, *flags)

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        traced = Traced(socket.AF_INET, socket.SOCK_STREAM)
        traced.settimeout(timeout)
        traced.connect(address)
        return traced

    monkeypatch.setattr(backwards, "READ_BYTES", 1000)
    monkeypatch.setattr("nvr.demo.backwards.socket.create_connection", connect)
    groups = await asyncio.to_thread(groups_backwards, uri_of(served.server.port), look)
    assert groups == [[*range(first, first + 10)] for first in (20, 10, 0)]
    methods = [method for method, _ in sent]
    assert methods.count("GET_PARAMETER") > 2
    assert methods[-1] == "TEARDOWN"
    times = [at for _, at in sent]
    assert all(later - earlier < 60 * NS for earlier, later in pairwise(times))


async def test_what_goes_wrong_is_told_without_the_password(serve: Serve) -> None:
    served = await serve({AUDIO001: sound()}, authenticator=DigestAuthenticator(Accounts(), "nvr"))
    uri = uri_of(served.server.port)
    for wrong, why in (
        (uri, "has no video"),
        (uri.replace("secret", "guess"), "answers 401"),
        (uri.replace("rec-1", "rec-2"), "answers 404"),
    ):
        with pytest.raises(SourceError, match=why) as error:
            await asyncio.to_thread(groups_backwards, wrong)
        assert not re.search("secret|guess", str(error.value))


@pytest.mark.parametrize(("reads", "why"), [(False, "is lost"), (True, "has ended the connection")])
def test_a_server_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch, reads: bool, why: str) -> None:
    here, there = socket.socketpair()
    with here, there:
        monkeypatch.setattr("nvr.demo.backwards.socket.create_connection", lambda *_: here)
        there.shutdown(socket.SHUT_WR if reads else socket.SHUT_RDWR)
        with pytest.raises(SourceError, match=why):
            groups_backwards("rtsp://watcher:secret@127.0.0.1/replay/rec-1")
