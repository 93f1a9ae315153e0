from __future__ import annotations

from nvr.model.job import JobState, RecordingJobState, SourceReference, SourceState, TrackState
from nvr.model.receiver import Reception, TransportProtocol
from nvr.model.time import NS
from nvr.model.timeline import Run, Timeline
from nvr.model.tokens import VIDEO001, TrackKey
from tests.support.operations import CommandHouse


async def test_a_list_shows_how_media_come_since_when_there_is_footage_and_never_a_password() -> None:
    house = CommandHouse()
    added = await house.cameras.add("yard", "rtsp://u:secret@192.0.2.1/s", "udp")
    house.footage.timelines[TrackKey(added.recording, VIDEO001)] = Timeline.of([Run("r", 0, NS)])
    told = "UDP is silent; media come over TCP"
    house.receptions[added.receiver] = Reception(TransportProtocol.RTSP, told)
    await house.ask("camera change", camera="yard", retention_ns=str(5 * NS), confirmed="yes")
    (row,) = await house.ask("camera list")
    assert row == {
        "name": "yard",
        "state": "Idle",
        "why": told,
        "transport": "tcp",
        "asked": "udp",
        "next_attempt_ns": "",
        "recording": added.recording,
        "job": added.job,
        "receiver": added.receiver,
        "oldest": "1970-01-01T00:00:00Z",
        "retention_ns": str(5 * NS),
        "uri": "rtsp://192.0.2.1/s",
    }


async def test_a_camera_in_error_is_listed_with_its_reason_and_the_time_that_is_left_now() -> None:
    house = CommandHouse()
    added = await house.cameras.add("yard", "rtsp://192.0.2.1/s")
    source = SourceReference(added.receiver)
    failed = TrackState("", VIDEO001, RecordingJobState.ERROR, "no answer")
    house.room.engine.job_states[added.job] = JobState(added.recording, (SourceState(source, (failed,)),))
    for left_ns in (8 * NS, 3 * NS):
        house.receptions[added.receiver] = Reception(next_attempt_ns=left_ns)
        (row,) = await house.ask("camera list")
        assert (row["transport"], row["next_attempt_ns"]) == ("", str(left_ns))


async def test_a_recording_that_nothing_records_is_listed_too() -> None:
    house = CommandHouse()
    added = await house.cameras.add("yard", "rtsp://192.0.2.1/s")
    await house.room.control.delete_job(added.job)
    (row,) = await house.ask("camera list")
    assert (row["recording"], row["state"], row["job"], row["uri"]) == (added.recording, "NoJob", "", "")


async def test_without_a_recorder_what_shall_record_is_stopped() -> None:
    house = CommandHouse(running=False)
    await house.cameras.add("yard", "rtsp://192.0.2.1/s")
    (row,) = await house.ask("camera list")
    assert (row["state"], row["why"], row["oldest"]) == ("Stopped", "the recorder is not running", "")
    assert await house.ask("health") == [{"what": "the recorder is not running: nothing is recorded"}]
    assert await CommandHouse().ask("health") == [{"what": "volume a is missing"}]
