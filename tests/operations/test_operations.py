"""The operator's commands over the control socket, with the real control room on a store in memory."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from nvr.auth.access import Role
from nvr.auth.credentials import Vault
from nvr.auth.users import User, UserStore
from nvr.model.errors import NvrError, Refused, StorageError
from nvr.model.job import RecordingJobMode
from nvr.operations import SOCKET_NAME, ControlSocket, Operations, ask_daemon
from tests.support.control import Controlled


class NoPersistence:
    def save_users(self, users: Sequence[User], /) -> None: ...

    def delete_users(self, names: Sequence[str], /) -> None: ...


@pytest.fixture
async def house() -> Controlled:
    return Controlled()


@pytest.fixture
def users() -> UserStore:
    return UserStore(Vault(bytes(32)), NoPersistence())


@pytest.fixture
def operations(house: Controlled, users: UserStore) -> Operations:
    return Operations(users, house.control, house.receivers)


async def test_a_camera_is_recording_receiver_and_active_job(house: Controlled, operations: Operations) -> None:
    added = await operations.add_camera("yard", "rtsp://u:p@192.0.2.1/s")
    assert house.control.recording(added.recording).configuration.source.name == "yard"
    assert house.control.job(added.job).configuration.mode is RecordingJobMode.ACTIVE
    assert house.receivers.receiver(added.receiver).configuration.media_uri == "rtsp://u:p@192.0.2.1/s"


async def test_a_second_camera_of_the_same_name_is_told(operations: Operations) -> None:
    camera = {"name": "yard", "uri": "rtsp://192.0.2.1/"}
    assert "warning" not in (await operations.run("camera add", camera))[0]
    assert (await operations.run("camera add", camera))[0]["warning"] == "2 recordings are named 'yard' now"


async def test_a_uri_of_another_kind_is_refused_in_the_words_of_the_command(operations: Operations) -> None:
    with pytest.raises(Refused, match=r"http://192\.0\.2\.1/s is no rtsp:// .* --transport http$"):
        await operations.add_camera("yard", "http://u:secret@192.0.2.1/s")


async def test_a_list_shows_where_media_come_from_and_since_when_there_is_footage_and_never_a_password(
    house: Controlled, users: UserStore
) -> None:
    running = Operations(
        users, house.control, house.receivers, health=lambda: ["volume a is missing"], oldest=lambda token: 0
    )
    added = await running.add_camera("yard", "rtsp://u:secret@192.0.2.1/s")
    row = (await running.list_cameras())[0]
    assert (row["receiver"], row["uri"], row["oldest"]) == (
        added.receiver,
        "rtsp://192.0.2.1/s",
        "1970-01-01T00:00:00Z",
    )
    assert await running.run("health", {}) == [{"what": "volume a is missing"}]
    stopped = Operations(users, house.control, house.receivers, running=False)
    row = (await stopped.list_cameras())[0]
    assert (row["state"], row["why"], row["oldest"]) == ("Stopped", "the recorder is not running", "")
    assert await stopped.run("health", {}) == [{"what": "the recorder is not running: nothing is recorded"}]


async def test_any_name_makes_a_source_id_that_the_schema_takes(house: Controlled, operations: Operations) -> None:
    added = await operations.add_camera("50% Tür", "rtsp://192.0.2.1/s")
    source = house.control.recording(added.recording).configuration.source
    assert (source.source_id, source.name) == ("50%25%20T%C3%BCr", "50% Tür")


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("yard", "http://192.0.2.1/"),
        ("yard", "ftp://192.0.2.1/"),
        ("x" * 65, "rtsp://192.0.2.1/"),
        ("yard", "rtsp://user:p@ss@192.0.2.1/"),  # urlsplit takes it, xs:anyURI does not
        ("yard", "rtsp://192.0.2.1/a#b#c"),
    ],
)
async def test_a_camera_that_is_refused_leaves_nothing(
    house: Controlled, operations: Operations, name: str, uri: str
) -> None:
    with pytest.raises(Refused):
        await operations.add_camera(name, uri)
    assert house.control.recordings() == ()
    assert house.control.jobs() == ()
    assert house.receivers.receivers() == ()


async def test_a_camera_whose_address_cannot_be_written_leaves_nothing(
    house: Controlled, operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(token: object, configuration: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(house.receivers, "configure", fails)
    with pytest.raises(StorageError):
        await operations.add_camera("yard", "rtsp://192.0.2.1/")
    assert (house.control.recordings(), house.control.jobs(), house.receivers.receivers()) == ((), (), ())


async def test_commands_reach_the_daemon_through_the_socket(
    tmp_path: Path, operations: Operations, users: UserStore
) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)  # deeper than the 108 bytes of sockaddr_un
    deep.mkdir(parents=True)
    server = ControlSocket(deep, operations)
    await server.start()
    try:
        assert stat.S_IMODE((deep / SOCKET_NAME).stat().st_mode) == 0o600
        arguments = {"name": "anna", "role": "operator", "password": "secret"}
        assert await asyncio.to_thread(ask_daemon, deep, "user add", arguments) == []
        assert users.role("anna") is Role.OPERATOR
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
    [b"", b"not json\n", b"[]\n", b'{"command": "user add"}\n', b'{"command": "user add", "arguments": {"x": "y"}}\n'],
)
async def test_a_broken_request_does_not_end_the_socket(tmp_path: Path, operations: Operations, line: bytes) -> None:
    server = ControlSocket(tmp_path, operations)
    await server.start()
    try:
        reader, writer = await asyncio.open_unix_connection(os.fspath(tmp_path / SOCKET_NAME))
        writer.write(line)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert answer == b"" or "error" in json.loads(answer)
        ok = {"name": "anna", "role": "user", "password": "secret"}
        assert await asyncio.to_thread(ask_daemon, tmp_path, "user add", ok) == []
    finally:
        await server.stop()


async def test_a_command_that_runs_is_ended_before_the_socket_has_stopped(
    tmp_path: Path, operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, may_end = asyncio.Event(), asyncio.Event()

    async def slow(command: str, arguments: object) -> list[dict[str, str]]:
        entered.set()
        await may_end.wait()
        return [{"done": command}]

    monkeypatch.setattr(operations, "run", slow)
    server = ControlSocket(tmp_path, operations)
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
    tmp_path: Path, operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = asyncio.Event()

    async def endless(command: str, arguments: object) -> dict[str, str]:
        entered.set()
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(operations, "run", endless)
    monkeypatch.setattr("nvr.operations.STOP_S", 0.01)
    server = ControlSocket(tmp_path, operations)
    await server.start()
    command = asyncio.create_task(asyncio.to_thread(ask_daemon, tmp_path, "user add", {}))
    await entered.wait()
    await server.stop()
    with pytest.raises(NvrError, match="without an answer"):
        await command
