"""The table from domain errors to fault codes, and the fault on the wire."""

from __future__ import annotations

import inspect

import pytest
from lxml import etree

from nvr.model import errors
from nvr.model.errors import (
    AccessDenied,
    BadConfiguration,
    BadMode,
    CannotDelete,
    FormatError,
    LimitReached,
    NvrError,
    OperatorError,
    Refused,
    StorageError,
    UnknownToken,
    VolumeFull,
)
from nvr.soap.faults import TABLE, Code, NoSuchService, SoapFault, fault_of, must_understand, write_fault
from nvr.soap.names import TDS, TRC, TRP, TRV, TSE
from tests.support.official_schema import validate_response


@pytest.mark.requirement("CO-05")
@pytest.mark.parametrize(
    ("error", "service", "expected"),
    [
        (UnknownToken("Recording", "x"), TRC, "Sender/InvalidArgVal/NoRecording"),
        (UnknownToken("Track", "x"), TRC, "Sender/InvalidArgVal/NoTrack"),
        (UnknownToken("RecordingJob", "x"), TRC, "Sender/InvalidArgVal/NoRecordingJob"),
        (UnknownToken("Receiver", "x"), TRC, "Sender/InvalidArgVal/BadConfiguration"),
        (UnknownToken("Receiver", "x"), TRV, "Sender/InvalidArgVal/UnknownToken"),
        (UnknownToken("Recording", "x"), TSE, "Sender/InvalidArgVal/InvalidToken"),
        (UnknownToken("Search", "x"), TSE, "Sender/InvalidArgVal/InvalidToken"),
        (UnknownToken("Recording", "x"), TRP, "Sender/InvalidArgVal/NoRecording"),
        (BadConfiguration("x"), TRC, "Sender/InvalidArgVal/BadConfiguration"),
        (BadConfiguration("x"), TRV, "Sender/InvalidArgVal/BadConfiguration"),
        (BadConfiguration("x"), TRP, "Sender/InvalidArgVal/InvalidStreamSetup"),
        (BadMode("x"), TRC, "Sender/InvalidArgVal/BadMode"),
        (LimitReached("Recording", 1), TRC, "Receiver/Action/MaxRecordings"),
        (LimitReached("Track", 1), TRC, "Receiver/Action/MaxTracks"),
        (LimitReached("RecordingJob", 1), TRC, "Receiver/Action/MaxRecordingJobs"),
        (LimitReached("Receiver", 1), TRC, "Receiver/Action/MaxReceivers"),
        (LimitReached("Receiver", 1), TRV, "Receiver/Action/MaxReceivers"),
        (LimitReached("Search", 1), TSE, "Receiver/Action/ResourceProblem"),
        (CannotDelete("Recording", "x", "y"), TRC, "Receiver/Action/CannotDelete"),
        (CannotDelete("Track", "x", "y"), TRC, "Receiver/Action/CannotDelete"),
        (CannotDelete("Receiver", "x", "y"), TRV, "Receiver/Action/CannotDeleteReceiver"),
        (AccessDenied("x"), TRC, "Sender/NotAuthorized"),
        (NoSuchService("x"), TDS, "Receiver/ActionNotSupported/NoSuchService"),
        (Refused("x"), TRC, "Sender/OperationProhibited"),
        (FormatError("x"), TRC, "Sender/InvalidArgVal"),
        (VolumeFull("x"), TRC, "Receiver/Action"),
    ],
)
def test_each_error_has_the_codes_that_its_service_specifies(error: NvrError, service: str, expected: str) -> None:
    fault = fault_of(error, service)
    assert fault is not None
    assert "/".join((fault.code, *fault.subcodes)) == expected
    assert fault.status == (400 if expected.startswith("Sender") else 500)
    validate_response(write_fault(fault))


def test_every_refusal_of_the_domain_has_a_row() -> None:
    for _, error in inspect.getmembers(errors, inspect.isclass):
        if issubclass(error, Refused | StorageError):
            assert any(issubclass(error, row.error) for row in TABLE), error


def test_no_row_is_hidden_by_one_above_it() -> None:
    for i, row in enumerate(TABLE):
        for above in TABLE[:i]:
            hides = issubclass(row.error, above.error)
            hides &= above.kind in (None, row.kind) and above.service in (None, row.service)
            assert not hides, f"{above} hides {row}"


@pytest.mark.parametrize("error", [RuntimeError("x"), OperatorError("x"), KeyError("x")])
def test_what_nobody_foresaw_has_no_row(error: Exception) -> None:
    assert fault_of(error, TRC) is None


def test_a_reason_with_markup_and_control_characters_stays_well_formed_and_short() -> None:
    fault = SoapFault(Code.SENDER, ("InvalidArgs",), "<b>&\x00\ud800" + "x" * 5000)
    body = write_fault(fault)
    validate_response(body)
    assert len(body) < 1500


def test_subcodes_nest_and_keep_the_namespace_of_their_prefix() -> None:
    element = validate_response(write_fault(SoapFault(Code.RECEIVER, ("Action", "MaxReceivers"), "r")))
    assert element.nsmap["ter"] == "http://www.onvif.org/ver10/error"


def test_a_header_block_without_namespace_is_named_too() -> None:
    answer = write_fault(must_understand(("Own", "{urn:x}Other")))
    validate_response(answer)
    own, other = etree.fromstring(answer)[0]
    assert dict(own.attrib) == {"qname": "Own"}
    assert (dict(other.attrib), other.nsmap["h"]) == ({"qname": "h:Other"}, "urn:x")
