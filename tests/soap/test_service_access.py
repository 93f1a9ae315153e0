"""Who may call which operation, and what the operations say that are not there yet."""

from __future__ import annotations

import pytest

from nvr.auth.access import Role
from nvr.soap.names import PREFIXES
from nvr.soap.receiver import ReceiverService
from nvr.soap.recording import RecordingService
from nvr.soap.replay import ReplayService
from nvr.soap.search import SearchService
from tests.support.soap_house import SoapHouse

PRE_AUTH: set[str | None] = {None, *Role}
READ_MEDIA: set[str | None] = {*Role}
ACTUATE: set[str | None] = {Role.ADMINISTRATOR, Role.OPERATOR}

OPERATIONS = [
    pytest.param("trc:CreateRecording", ACTUATE, marks=pytest.mark.requirement("RC-5.4-02")),
    pytest.param("trc:DeleteRecording", ACTUATE, marks=pytest.mark.requirement("RC-5.5-02")),
    pytest.param("trc:GetRecordings", READ_MEDIA, marks=pytest.mark.requirement("RC-5.6-02")),
    pytest.param("trc:SetRecordingConfiguration", ACTUATE, marks=pytest.mark.requirement("RC-5.7-02")),
    pytest.param("trc:GetRecordingConfiguration", READ_MEDIA, marks=pytest.mark.requirement("RC-5.8-02")),
    pytest.param("trc:CreateTrack", ACTUATE, marks=pytest.mark.requirement("RC-5.9-02")),
    pytest.param("trc:DeleteTrack", ACTUATE, marks=pytest.mark.requirement("RC-5.10-02")),
    pytest.param("trc:GetTrackConfiguration", READ_MEDIA, marks=pytest.mark.requirement("RC-5.11-02")),
    pytest.param("trc:SetTrackConfiguration", ACTUATE, marks=pytest.mark.requirement("RC-5.12-02")),
    pytest.param("trc:CreateRecordingJob", ACTUATE, marks=pytest.mark.requirement("RC-5.13-02")),
    pytest.param("trc:DeleteRecordingJob", ACTUATE, marks=pytest.mark.requirement("RC-5.14-02")),
    pytest.param("trc:GetRecordingJobs", READ_MEDIA, marks=pytest.mark.requirement("RC-5.15-02")),
    pytest.param("trc:SetRecordingJobConfiguration", ACTUATE, marks=pytest.mark.requirement("RC-5.16-02")),
    pytest.param("trc:GetRecordingJobConfiguration", READ_MEDIA, marks=pytest.mark.requirement("RC-5.17-02")),
    pytest.param("trc:SetRecordingJobMode", ACTUATE, marks=pytest.mark.requirement("RC-5.18-02")),
    pytest.param("trc:GetRecordingJobState", READ_MEDIA, marks=pytest.mark.requirement("RC-5.19-02")),
    pytest.param("trc:GetRecordingOptions", READ_MEDIA, marks=pytest.mark.requirement("RC-5.20-02")),
    pytest.param("trc:GetServiceCapabilities", PRE_AUTH, marks=pytest.mark.requirement("RC-5.24-02")),
    pytest.param("tse:GetRecordingSummary", READ_MEDIA, marks=pytest.mark.requirement("RS-6.4-02")),
    pytest.param("tse:GetRecordingInformation", READ_MEDIA, marks=pytest.mark.requirement("RS-6.5-02")),
    pytest.param("tse:FindRecordings", READ_MEDIA, marks=pytest.mark.requirement("RS-6.7-02")),
    pytest.param("tse:GetRecordingSearchResults", READ_MEDIA, marks=pytest.mark.requirement("RS-6.8-02")),
    pytest.param("tse:FindEvents", READ_MEDIA, marks=pytest.mark.requirement("RS-6.9-02")),
    pytest.param("tse:GetEventSearchResults", READ_MEDIA, marks=pytest.mark.requirement("RS-6.10-02")),
    pytest.param("tse:FindPTZPosition", READ_MEDIA, marks=pytest.mark.requirement("RS-6.11-02")),
    pytest.param("tse:GetPTZPositionSearchResults", READ_MEDIA, marks=pytest.mark.requirement("RS-6.12-02")),
    pytest.param("tse:FindMetadata", READ_MEDIA, marks=pytest.mark.requirement("RS-6.13-02")),
    pytest.param("tse:GetMetadataSearchResults", READ_MEDIA, marks=pytest.mark.requirement("RS-6.14-02")),
    pytest.param("tse:GetMediaAttributes", READ_MEDIA, marks=pytest.mark.requirement("RS-6.6-02")),
    pytest.param("tse:GetSearchState", READ_MEDIA),
    pytest.param("tse:EndSearch", READ_MEDIA, marks=pytest.mark.requirement("RS-6.15-02")),
    pytest.param("tse:GetServiceCapabilities", PRE_AUTH, marks=pytest.mark.requirement("RS-6.16-02")),
    pytest.param("trv:GetReceivers", READ_MEDIA, marks=pytest.mark.requirement("RX-10.5.1-02")),
    pytest.param("trv:GetReceiver", READ_MEDIA, marks=pytest.mark.requirement("RX-10.5.2-02")),
    pytest.param("trv:CreateReceiver", ACTUATE, marks=pytest.mark.requirement("RX-10.5.3-02")),
    pytest.param("trv:DeleteReceiver", ACTUATE, marks=pytest.mark.requirement("RX-10.5.4-02")),
    pytest.param("trv:ConfigureReceiver", ACTUATE, marks=pytest.mark.requirement("RX-10.5.5-02")),
    pytest.param("trv:SetReceiverMode", ACTUATE, marks=pytest.mark.requirement("RX-10.5.6-02")),
    pytest.param("trv:GetReceiverState", READ_MEDIA, marks=pytest.mark.requirement("RX-10.5.7-02")),
    pytest.param("trv:GetServiceCapabilities", PRE_AUTH, marks=pytest.mark.requirement("RX-10.6-02")),
    pytest.param("trp:GetReplayUri", READ_MEDIA, marks=pytest.mark.requirement("RP-7.1-07")),
    pytest.param("trp:GetReplayConfiguration", READ_MEDIA, marks=pytest.mark.requirement("RP-7.4-02")),
    pytest.param("trp:SetReplayConfiguration", ACTUATE, marks=pytest.mark.requirement("RP-7.3-03")),
    pytest.param("trp:GetServiceCapabilities", PRE_AUTH, marks=pytest.mark.requirement("RP-7.5-02")),
]
"""Each operation with those who may call it under the default policy; None calls without credentials."""

MISSING = [
    f"{PREFIXES[service.namespace]}:{operation}"
    for service in (RecordingService, SearchService, ReceiverService, ReplayService)
    for operation in sorted(service.not_implemented)
]


@pytest.mark.parametrize(("operation", "allowed"), OPERATIONS)
async def test_an_operation_answers_those_of_its_access_class_only(
    house: SoapHouse, operation: str, allowed: set[str | None]
) -> None:
    """Credentials come before arguments: an empty request shows who is let in, whatever becomes of it then."""
    for user in (None, *Role):
        reply = await house.send(f"<{operation}/>", user)
        if user in allowed:
            assert reply.fault in (None, "Sender/InvalidArgs")
        else:
            assert reply.fault == "Sender/NotAuthorized"
            assert reply.status == (401 if user is None else 400)


def test_the_table_of_operations_is_complete(house_services: set[str]) -> None:
    assert {str(p.values[0]) for p in OPERATIONS} | set(MISSING) == house_services


@pytest.fixture
async def house_services(house: SoapHouse) -> set[str]:
    """Every operation of the four services, called or declared as missing."""
    found = set(MISSING)
    for path in house.soap.paths:
        bound = house.soap.service(path)
        if not path.endswith("device_service"):
            prefix = PREFIXES[bound.service.namespace]
            found |= {f"{prefix}:{b.operation.name}" for b in bound.operations()}
    return found


@pytest.mark.parametrize("operation", MISSING)
async def test_an_operation_that_is_still_missing_says_so(house: SoapHouse, operation: str) -> None:
    reply = await house.send(f"<{operation}/>")
    assert (reply.status, reply.fault) == (500, "Receiver/ActionNotSupported/NotImplemented")


async def test_an_operation_that_no_edition_has_is_unknown(house: SoapHouse) -> None:
    reply = await house.send("<trc:MakeCoffee/>")
    assert (reply.status, reply.fault) == (400, "Sender/UnknownAction")
