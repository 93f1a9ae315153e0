"""The operator's commands over the control socket, with the real control room on a store in memory."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from nvr.auth.access import Role
from nvr.model.errors import NvrError, Refused
from nvr.operations.control_socket import SOCKET_NAME, ControlSocket, ask_daemon
from tests.support.operations import CommandHouse


@pytest.fixture
async def house() -> CommandHouse:
    return CommandHouse()


async def test_commands_reach_the_daemon_through_the_socket(tmp_path: Path, house: CommandHouse) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)  # deeper than the 108 bytes of sockaddr_un
    deep.mkdir(parents=True)
    server = ControlSocket(deep, house.operations)
    await server.start()
    try:
        assert stat.S_IMODE((deep / SOCKET_NAME).stat().st_mode) == 0o600
        arguments = {"name": "anna", "role": "operator", "password": "secret"}
        assert await asyncio.to_thread(ask_daemon, deep, "user add", arguments) == []
        assert house.users.role("anna") is Role.OPERATOR
        answer = await asyncio.to_thread(ask_daemon, deep, "camera add", {"name": "a", "uri": "rtsp://192.0.2.1/"})
        assert answer is not None
        assert set(answer[0]) == {"recording", "job", "receiver"}
        listed = await asyncio.to_thread(ask_daemon, deep, "camera list", {})
        assert listed is not None
        assert [(row["name"], row["job"]) for row in listed] == [("a", answer[0]["job"])]
        with pytest.raises(Refused, match="exists already"):
            await asyncio.to_thread(ask_daemon, deep, "user add", arguments)
        with pytest.raises(NvrError, match="knows no command"):
            await asyncio.to_thread(ask_daemon, deep, "user burn", {})
    finally:
        await server.stop()
    assert not (deep / SOCKET_NAME).exists()
    assert await asyncio.to_thread(ask_daemon, deep, "user add", arguments) is None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json\n",
        b"[]\n",
        b'{"command": "user add"}\n',
        b'{"command": "user add", "arguments": {"x": "y"}}\n',
        b'{"command": "camera add", "arguments": {"name": 7, "uri": "rtsp://192.0.2.1/"}}\n',
    ],
)
async def test_a_broken_request_is_logged_and_does_not_end_the_socket(
    tmp_path: Path, house: CommandHouse, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    server = ControlSocket(tmp_path, house.operations)
    await server.start()
    try:
        reader, writer = await asyncio.open_unix_connection(os.fspath(tmp_path / SOCKET_NAME))
        writer.write(line)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert answer == b""
        assert [r.message.startswith("control socket: request dropped: ") for r in caplog.records] == [True]
        ok = {"name": "anna", "role": "user", "password": "secret"}
        assert await asyncio.to_thread(ask_daemon, tmp_path, "user add", ok) == []
    finally:
        await server.stop()


async def test_a_command_that_runs_is_ended_before_the_socket_has_stopped(
    tmp_path: Path, house: CommandHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, may_end = asyncio.Event(), asyncio.Event()

    async def slow(command: str, arguments: object) -> list[dict[str, str]]:
        entered.set()
        await may_end.wait()
        return [{"done": command}]

    monkeypatch.setattr(house.operations, "run", slow)
    server = ControlSocket(tmp_path, house.operations)
    await server.start()
    command = asyncio.create_task(asyncio.to_thread(ask_daemon, tmp_path, "user add", {}))
    await entered.wait()
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    may_end.set()
    assert await command == [{"done": "user add"}]
    await stopping


async def test_a_command_that_does_not_end_does_not_hold_up_the_stop(
    tmp_path: Path, house: CommandHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = asyncio.Event()

    async def endless(command: str, arguments: object) -> dict[str, str]:
        entered.set()
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(house.operations, "run", endless)
    monkeypatch.setattr("nvr.operations.control_socket.STOP_S", 0.01)
    server = ControlSocket(tmp_path, house.operations)
    await server.start()
    command = asyncio.create_task(asyncio.to_thread(ask_daemon, tmp_path, "user add", {}))
    await entered.wait()
    await server.stop()
    with pytest.raises(NvrError, match="without an answer"):
        await command
