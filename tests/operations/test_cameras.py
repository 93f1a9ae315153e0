from __future__ import annotations

import asyncio
import logging

import pytest

from nvr.model.errors import BadConfiguration, Refused, StorageError
from nvr.model.job import RecordingJobConfiguration, RecordingJobMode, RecordingJobSource, SourceReference
from nvr.model.receiver import ReceiverConfiguration, TransportProtocol
from nvr.model.time import NS
from nvr.model.timeline import Run, Timeline
from nvr.model.tokens import VIDEO001, TrackKey
from nvr.operations.cameras import CameraAdded
from tests.support.operations import NOW, CommandHouse

URI = "rtsp://u:p%40ss@192.0.2.1/s"


@pytest.fixture
async def house() -> CommandHouse:
    return CommandHouse()


@pytest.fixture
async def yard(house: CommandHouse) -> CameraAdded:
    return await house.cameras.add("yard", URI)


def recorded_since(house: CommandHouse, camera: CameraAdded, start_ns: int) -> None:
    runs = Timeline.of([Run("run-1", start_ns, NOW)])
    house.footage.timelines[TrackKey(camera.recording, VIDEO001)] = runs


def uri_of(house: CommandHouse, camera: CameraAdded) -> str:
    return house.room.receivers.receiver(camera.receiver).configuration.media_uri


# Adding


async def test_a_camera_is_recording_receiver_and_active_job(house: CommandHouse, yard: CameraAdded) -> None:
    assert house.room.control.recording(yard.recording).configuration.source.name == "yard"
    assert house.room.control.job(yard.job).configuration.mode is RecordingJobMode.ACTIVE
    assert uri_of(house, yard) == URI


async def test_a_second_camera_of_the_same_name_or_stream_is_told(house: CommandHouse) -> None:
    assert "warning" not in (await house.ask("camera add", name="yard", uri="rtsp://192.0.2.1/"))[0]
    twin = (await house.ask("camera add", name="yard", uri="rtsp://192.0.2.2/"))[0]
    assert twin["warning"] == "2 recordings are named 'yard' now: commands need their tokens"
    same = (await house.ask("camera add", name="gate", uri="rtsp://other:secret@192.0.2.2"))[0]
    assert same["warning"].startswith(f"{twin['recording']} (yard) records the same stream")
    assert "secret" not in same["warning"]


async def test_a_change_of_something_else_does_not_tell_again_what_two_cameras_have_in_common(
    house: CommandHouse,
) -> None:
    await house.cameras.add("yard", "rtsp://192.0.2.2/")
    await house.cameras.add("gate", "rtsp://192.0.2.2/")
    for given in ({"retention_ns": str(NS)}, {"transport": "udp"}, {"user": "u", "password": "p"}):
        assert (await house.ask("camera change", camera="gate", **given))[0]["warning"] == ""
    renamed = (await house.ask("camera change", camera="gate", name="door"))[0]
    assert "(yard) records the same stream" in renamed["warning"]


async def test_a_uri_of_another_kind_is_refused_in_the_words_of_the_command(house: CommandHouse) -> None:
    with pytest.raises(Refused, match=r"http://192\.0\.2\.1/s is no rtsp:// .* --transport http$"):
        await house.cameras.add("yard", "http://u:secret@192.0.2.1/s")


async def test_any_name_makes_a_source_id_that_the_schema_takes(house: CommandHouse) -> None:
    added = await house.cameras.add("50% Tür", "rtsp://192.0.2.1/s")
    source = house.room.control.recording(added.recording).configuration.source
    assert (source.source_id, source.name) == ("50%25%20T%C3%BCr", "50% Tür")


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("yard", "http://192.0.2.1/"),
        ("yard", "ftp://192.0.2.1/"),
        ("yard", ""),
        (" ", "rtsp://192.0.2.1/"),
        ("x" * 65, "rtsp://192.0.2.1/"),
        ("yard", "rtsp://user:p@ss@192.0.2.1/"),  # urlsplit takes it, xs:anyURI does not
        ("yard", "rtsp://192.0.2.1/a#b#c"),
    ],
)
async def test_a_camera_that_is_refused_leaves_nothing(house: CommandHouse, name: str, uri: str) -> None:
    with pytest.raises(Refused):
        await house.cameras.add(name, uri)
    assert house.room.control.recordings() == ()
    assert house.room.control.jobs() == ()
    assert house.room.receivers.receivers() == ()


async def test_a_camera_whose_address_cannot_be_written_leaves_nothing(
    house: CommandHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(token: object, configuration: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(house.room.receivers, "configure", fails)
    with pytest.raises(StorageError):
        await house.cameras.add("yard", "rtsp://192.0.2.1/")
    room = house.room
    assert (room.control.recordings(), room.control.jobs(), room.receivers.receivers()) == ((), (), ())


# Which camera is meant


async def test_a_camera_is_found_by_its_name_and_by_each_of_its_tokens(house: CommandHouse, yard: CameraAdded) -> None:
    await house.cameras.add("gate", "rtsp://192.0.2.2/")
    for known_as in ("yard", yard.recording, yard.job, yard.receiver):
        assert house.known.find(known_as).token == yard.recording
    for unknown in ("", "Yard", "rec-1"):
        with pytest.raises(Refused, match="there is no camera"):
            house.known.find(unknown)


async def test_a_name_that_two_cameras_have_is_refused_with_their_tokens(
    house: CommandHouse, yard: CameraAdded
) -> None:
    twin = await house.cameras.add("yard", "rtsp://192.0.2.2/")
    with pytest.raises(Refused, match=f"2 recordings .* {yard.recording}, {twin.recording}"):
        await house.ask("camera remove", camera="yard")
    assert len(house.room.control.recordings()) == 2


# Changing


async def test_a_camera_moves_and_keeps_its_user_its_tokens_and_its_footage(
    house: CommandHouse, yard: CameraAdded
) -> None:
    recorded_since(house, yard, NOW - NS)
    (answer,) = await house.ask("camera change", camera="yard", uri="rtsp://192.0.2.9/t", transport="udp")
    assert answer == {"camera": f"{yard.recording} (yard)", "changed": "URI, transport", "warning": ""}
    configuration = house.room.receivers.receiver(yard.receiver).configuration
    assert configuration.media_uri == "rtsp://u:p%40ss@192.0.2.9/t"
    assert configuration.stream_setup.protocol is TransportProtocol.UDP
    assert house.room.control.job(yard.job).configuration.mode is RecordingJobMode.ACTIVE


async def test_a_password_is_changed_as_it_is_typed_and_never_told(
    house: CommandHouse, yard: CameraAdded, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        (answer,) = await house.ask("camera change", camera="yard", password="n:w %/@")
        assert uri_of(house, yard) == "rtsp://u:n%3Aw%20%25%2F%40@192.0.2.1/s"
        await house.ask("camera change", camera="yard", user="ute", password="geheim")
        assert uri_of(house, yard) == "rtsp://ute:geheim@192.0.2.1/s"
        await house.ask("camera change", camera="yard", anonymous="yes")
        assert uri_of(house, yard) == "rtsp://192.0.2.1/s"
    assert answer["changed"] == "credentials"
    assert f"camera change {yard.recording} (yard): credentials" in caplog.text
    assert "geheim" not in caplog.text
    with pytest.raises(BadConfiguration, match="give --user"):
        await house.ask("camera change", camera="yard", password="x")


async def test_a_new_name_leaves_what_clients_know_the_camera_by(house: CommandHouse, yard: CameraAdded) -> None:
    (answer,) = await house.ask("camera change", camera=yard.receiver, name="Tor")
    assert answer["changed"] == "name"
    configuration = house.room.control.recording(yard.recording).configuration
    assert (configuration.source.name, configuration.content) == ("Tor", "Tor")
    assert configuration.source.source_id == "yard"


async def test_a_longer_retention_time_is_set_and_a_shorter_one_only_when_the_loss_is_confirmed(
    house: CommandHouse, yard: CameraAdded
) -> None:
    def kept() -> int:
        return house.room.control.recording(yard.recording).configuration.maximum_retention_ns

    recorded_since(house, yard, NOW - 100 * NS)
    assert "confirm" not in (await house.ask("camera change", camera="yard", retention_ns=str(200 * NS)))[0]
    assert kept() == 200 * NS
    (asked,) = await house.ask("camera change", camera="yard", retention_ns=str(60 * NS), name="gate")
    assert asked["confirm"].startswith(f"the footage of {yard.recording} (yard) from 2027-01-15T07:58:20Z to")
    assert asked["word"] == "yard"
    assert (kept(), house.known.find("yard").token) == (200 * NS, yard.recording)
    await house.ask("camera change", camera="yard", retention_ns=str(60 * NS), confirmed="yes")
    assert kept() == 60 * NS
    assert "confirm" not in (await house.ask("camera change", camera="yard", retention_ns="0"))[0]
    assert kept() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * 65, "uri": "rtsp://192.0.2.9/"},
        {"uri": ""},
        {"uri": "http://192.0.2.9/"},
        {"transport": "pigeon"},
        {"retention_ns": "-1", "transport": "udp"},
        {"retention_ns": "soon"},
    ],
)
async def test_a_change_that_is_refused_changes_nothing(
    house: CommandHouse, yard: CameraAdded, wrong: dict[str, str]
) -> None:
    before = house.room.everything()
    with pytest.raises(BadConfiguration):
        await house.ask("camera change", camera="yard", **wrong)
    assert house.room.everything() == before


async def test_of_several_receivers_the_one_to_change_has_to_be_named(house: CommandHouse, yard: CameraAdded) -> None:
    other = await house.room.receivers.create(ReceiverConfiguration(media_uri="rtsp://192.0.2.7/"))
    job = house.room.control.job(yard.job).configuration
    sources = (*job.sources, RecordingJobSource(SourceReference(other.token)))
    await house.room.control.set_job_configuration(
        yard.job, RecordingJobConfiguration(job.recording, job.mode, job.priority, sources)
    )
    with pytest.raises(Refused, match=f"several receivers: .*{yard.receiver}, {other.token}"):
        await house.ask("camera change", camera="yard", uri="rtsp://192.0.2.9/")
    await house.ask("camera change", camera=other.token, uri="rtsp://192.0.2.9/")
    assert uri_of(house, yard) == URI
    assert house.room.receivers.receiver(other.token).configuration.media_uri == "rtsp://192.0.2.9/"
    with pytest.raises(Refused, match="is a part of"):
        await house.ask("camera remove", camera=other.token)
    (answer,) = await house.ask("camera remove", camera="yard")
    assert answer["stays"] == other.token


# Removing


async def test_a_camera_without_footage_goes_as_a_whole(house: CommandHouse, yard: CameraAdded) -> None:
    await house.cameras.add("gate", "rtsp://192.0.2.2/")
    (answer,) = await house.ask("camera remove", camera="yard")
    assert answer == {"camera": f"{yard.recording} (yard)", "footage": "", "stays": ""}
    assert [r.configuration.source.name for r in house.room.control.recordings()] == ["gate"]
    assert len(house.room.control.jobs()) == len(house.room.receivers.receivers()) == 1


async def test_footage_goes_only_where_that_is_said_and_confirmed(house: CommandHouse, yard: CameraAdded) -> None:
    recorded_since(house, yard, NOW - 100 * NS)
    before = house.room.everything()
    (choice,) = await house.ask("camera remove", camera="yard")
    assert choice["choose"].startswith("there is footage of")
    (asked,) = await house.ask("camera remove", camera="yard", footage="delete")
    assert (asked["word"], house.room.everything()) == ("yard", before)
    with pytest.raises(BadConfiguration):
        await house.ask("camera remove", camera="yard", footage="burn")
    (answer,) = await house.ask("camera remove", camera="yard", footage="delete", confirmed="yes")
    assert answer["footage"] == "deleted"
    assert house.room.footage.deleted == [yard.recording]
    assert house.room.control.recordings() == ()


async def test_footage_that_is_kept_stays_under_its_recording_until_it_is_deleted(
    house: CommandHouse, yard: CameraAdded
) -> None:
    recorded_since(house, yard, NOW - 100 * NS)
    (answer,) = await house.ask("camera remove", camera="yard", footage="keep")
    assert answer["footage"] == "kept"
    assert (house.room.control.jobs(), house.room.receivers.receivers()) == ((), ())
    assert [r.token for r in house.room.control.recordings()] == [yard.recording]
    with pytest.raises(Refused, match="nothing records"):
        await house.ask("camera remove", camera="yard", footage="keep")
    with pytest.raises(Refused, match="no receiver"):
        await house.ask("camera change", camera="yard", transport="udp")
    await house.ask("camera remove", camera="yard", footage="delete", confirmed="yes")
    assert house.room.footage.deleted == [yard.recording]


async def test_a_deletion_that_takes_long_or_fails_is_told_as_not_done(
    house: CommandHouse, yard: CameraAdded, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded_since(house, yard, NOW - 100 * NS)
    may_end = asyncio.Event()

    async def slow(token: object) -> None:
        await may_end.wait()

    monkeypatch.setattr(house.room.footage, "delete_recording", slow)
    (answer,) = await house.ask("camera remove", camera="yard", footage="delete", confirmed="yes")
    assert answer["footage"] == "being deleted"
    assert house.room.control.recordings() == ()
    may_end.set()
    await house.room.control.stop()
    assert not house.room.control.is_deleting(yard.recording)


async def test_without_a_recorder_footage_goes_when_it_starts() -> None:
    house = CommandHouse(running=False)
    house.room.footage.failing = True
    yard = await house.cameras.add("yard", URI)
    recorded_since(house, yard, NOW - 100 * NS)
    (answer,) = await house.ask("camera remove", camera="yard", footage="delete", confirmed="yes")
    assert answer["footage"] == "deleted when the recorder starts"
    assert house.room.control.is_deleting(yard.recording)
