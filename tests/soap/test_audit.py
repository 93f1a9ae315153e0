"""Changes leave a line in the log that names who, from where, what; reading leaves none."""

from __future__ import annotations

import logging

import pytest

from tests.support.soap_house import (
    SoapHouse,
    create_recording,
    job_of,
    job_request,
    receiver_of,
    receiver_request,
    recording_of,
)

DELETE = "<trc:DeleteRecording><trc:RecordingToken>{}</trc:RecordingToken></trc:DeleteRecording>"


def audited(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "nvr.audit"]


async def test_a_change_is_told_with_its_user_and_its_objects(
    house: SoapHouse, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nvr.audit")
    token = await recording_of(house)
    await house.send("<trc:GetRecordings/>")
    await house.send(DELETE.format(token))
    created, deleted = audited(caplog)
    assert created == f"user 'administrator' at test: CreateRecording RecordingToken={token}"
    assert deleted == f"user 'administrator' at test: DeleteRecording RecordingToken='{token}'"


@pytest.mark.parametrize("mode", ["Idle", "Active"])
async def test_the_mode_that_a_job_or_a_receiver_is_set_to_is_told_and_a_wrong_one_is_not(
    house: SoapHouse, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    job, receiver = await job_of(house, await recording_of(house)), await receiver_of(house)
    caplog.set_level(logging.INFO, "nvr.audit")
    for given in (mode, "secret"):
        await house.send(job_request("SetRecordingJobMode", job, f"<trc:Mode>{given}</trc:Mode>"))
    await house.send(receiver_request("SetReceiverMode", receiver, "<trv:Mode>NeverConnect</trv:Mode>"))
    told = [line.partition(": ")[2] for line in audited(caplog)]
    assert told[0] == f"SetRecordingJobMode JobToken='{job}' Mode='{mode}'"
    assert "is refused" in told[1]
    assert told[2] == f"SetReceiverMode ReceiverToken='{receiver}' Mode='NeverConnect'"
    assert "secret" not in caplog.text


async def test_a_refused_change_is_told_with_its_fault_and_forges_no_line(
    house: SoapHouse, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nvr.audit")
    await house.send(DELETE.format("rec-1&#10;user 'mallory'"))
    (told,) = audited(caplog)
    assert told.endswith(r""" RecordingToken="rec-1\nuser 'mallory'" is refused: Sender/InvalidArgVal/NoRecording""")


async def test_no_content_of_a_configuration_is_told(house: SoapHouse, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nvr.audit")
    await house.send(create_recording(content="rtsp://viewer:password@camera"))
    assert len(audited(caplog)) == 1
    assert "password" not in caplog.text
