"""SOAP 1.2 faults of ONVIF Core 5.8.2: nested subcodes of the namespace `ter`, and the one table from domain errors to
codes.

No handler writes a fault code: it raises an error of `nvr.model.errors`, and `fault_of` looks it up with its kind and
the service that was called, since the standard gives the same mistake different names in different services.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from enum import StrEnum
from xml.sax.saxutils import escape, quoteattr

from nvr.auth.users import UserFault, UserRefused
from nvr.control.device import FixedScope
from nvr.control.host_rules import HostFault, HostRefused
from nvr.events.errors import EventRefused
from nvr.model.errors import (
    AccessDenied,
    BadConfiguration,
    BadFilter,
    BadMode,
    CannotDelete,
    CannotModify,
    FormatError,
    LimitReached,
    NotOffered,
    NvrError,
    Refused,
    StorageError,
    UnknownToken,
)
from nvr.soap.event_faults import event_detail
from nvr.soap.names import ENV, TER, TRC, TRP, TRT, TRV, TSE, WSA


class Code(StrEnum):
    """Values of env:Code (SOAP 1.2 part 1, 5.4.6)."""

    SENDER = "Sender"
    RECEIVER = "Receiver"
    VERSION_MISMATCH = "VersionMismatch"
    MUST_UNDERSTAND = "MustUnderstand"


@dataclass(eq=False)
class SoapFault(NvrError):
    """What is answered instead of a result. `subcodes` are names of the namespace `ter`, the outermost first; those of
    WS-Addressing have their prefix.

    `status` is the HTTP status, 400 for the sender's faults and 500 for all others unless given. `headers` are HTTP
    headers. `misunderstood` holds the qualified names of header blocks for MustUnderstand, in Clark notation.
    """

    code: Code
    subcodes: tuple[str, ...]
    reason: str
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    misunderstood: tuple[str, ...] = field(default=(), kw_only=True)
    detail: str = field(default="", kw_only=True)
    """The element inside env:Detail as text, with its declarations."""

    def __post_init__(self) -> None:
        NvrError.__init__(self, self.reason)
        if not self.status:
            self.status = 400 if self.code is Code.SENDER else 500

    def __str__(self) -> str:
        return f"{'/'.join((self.code, *self.subcodes))}: {self.reason}"

    @property
    def outcome(self) -> str:
        """The codes, and the name of the detail where there is one, joined by slashes: for counting."""
        detail = _NAME.match(self.detail)
        return "/".join((self.code, *self.subcodes, *(() if detail is None else (detail[1],))))


_NAME = re.compile(r"<(?:[\w.-]+:)?([\w.-]+)")


def not_well_formed(reason: str) -> SoapFault:
    return SoapFault(Code.SENDER, ("WellFormed",), reason)


def invalid_args(reason: str) -> SoapFault:
    """Elements or attributes that are missing, too many, unknown, misplaced or of the wrong type."""
    return SoapFault(Code.SENDER, ("InvalidArgs",), reason)


def invalid_value(reason: str) -> SoapFault:
    """The right type, but a value that is not allowed."""
    return SoapFault(Code.SENDER, ("InvalidArgVal",), reason)


def action_not_supported(
    reason: str = "the device does not implement this operation", subcodes: tuple[str, ...] = ()
) -> SoapFault:
    """`subcodes` are those of the service, below ActionNotSupported."""
    return SoapFault(Code.RECEIVER, ("ActionNotSupported", *subcodes), reason)


def unknown_action(reason: str) -> SoapFault:
    return SoapFault(Code.SENDER, ("UnknownAction",), reason)


def not_authorized(reason: str, challenges: tuple[str, ...] = ()) -> SoapFault:
    """With challenges the HTTP status is 401 and each stands in a WWW-Authenticate line; without it is 400."""
    headers = tuple(("WWW-Authenticate", c) for c in challenges)
    return SoapFault(Code.SENDER, ("NotAuthorized",), reason, 401 if challenges else 400, headers)


def version_mismatch() -> SoapFault:
    return SoapFault(Code.VERSION_MISMATCH, (), "the envelope is not SOAP 1.2")


def must_understand(blocks: tuple[str, ...]) -> SoapFault:
    return SoapFault(Code.MUST_UNDERSTAND, (), "a mandatory header block was not understood", misunderstood=blocks)


def bad_addressing(name: str) -> SoapFault:
    """Headers that cannot be followed (WS-Addressing SOAP Binding 6.4.1)."""
    subcodes = ("wsa:InvalidAddressingHeader",)
    if name == "OnlyAnonymousAddressSupported":
        return SoapFault(Code.SENDER, (*subcodes, f"wsa:{name}"), "answers go back on the connection of the request")
    return SoapFault(Code.SENDER, subcodes, "a header of WS-Addressing is empty, too long, or there twice")


class NoSuchService(Refused):
    """A capability category was asked for whose service the device does not have."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `kind` and `service` None match every kind and service."""

    error: type[NvrError]
    code: Code
    subcodes: tuple[str, ...]
    kind: str | None = None
    service: str | None = None


_S, _R = Code.SENDER, Code.RECEIVER
_WRONG_USER = (UserFault.USERNAME_MISSING, UserFault.FIXED_USER)
_BEYOND_THE_HOST = (HostFault.INVALID_DHCPV6, HostFault.ENABLING_TLS_FAILED)
TABLE: tuple[Row, ...] = (
    # The first row that matches counts: special ones stand above general ones.
    Row(UnknownToken, _S, ("InvalidArgVal", "InvalidToken"), service=TSE),
    Row(UnknownToken, _S, ("InvalidArgVal", "UnknownToken"), service=TRV),
    Row(UnknownToken, _S, ("InvalidArgVal", "NoRecording"), "Recording"),
    Row(UnknownToken, _S, ("InvalidArgVal", "NoTrack"), "Track"),
    Row(UnknownToken, _S, ("InvalidArgVal", "NoRecordingJob"), "RecordingJob"),
    Row(UnknownToken, _S, ("InvalidArgVal", "BadConfiguration"), "Receiver", TRC),
    Row(UnknownToken, _S, ("InvalidArgVal", "NoScope"), "Scope"),
    Row(UnknownToken, _S, ("InvalidArgVal", "NoProfile"), "Profile"),
    Row(UnknownToken, _S, ("InvalidArgVal", "NoConfig"), "Configuration"),
    Row(UnknownToken, _S, ("InvalidArgVal",)),
    Row(BadMode, _S, ("InvalidArgVal", "BadMode"), service=TRC),
    Row(BadMode, _S, ("InvalidArgVal",)),
    Row(CannotModify, _S, ("InvalidArgVal", "ConfigModify")),
    Row(BadConfiguration, _S, ("InvalidArgVal", "InvalidStreamSetup"), service=TRP),
    Row(BadConfiguration, _S, ("InvalidArgVal", "InvalidStreamSetup"), service=TRT),
    Row(BadConfiguration, _S, ("InvalidArgVal", "InvalidSource"), service=TSE),
    Row(BadConfiguration, _S, ("InvalidArgVal", "BadConfiguration")),
    Row(LimitReached, _S, ("OperationProhibited", "StreamConflict"), "UDP stream"),
    Row(LimitReached, _R, ("Action", "MaxRecordings"), "Recording"),
    Row(LimitReached, _R, ("Action", "MaxTracks"), "Track"),
    Row(LimitReached, _R, ("Action", "MaxRecordingJobs"), "RecordingJob"),
    Row(LimitReached, _R, ("Action", "MaxReceivers"), "Receiver"),
    Row(LimitReached, _R, ("Action", "ResourceProblem"), "Search"),
    Row(LimitReached, _R, ("Action", "TooManyUsers"), "User"),
    Row(LimitReached, _R, ("Action", "TooManyScopes"), "Scope"),
    Row(LimitReached, _R, ("Action",)),
    Row(CannotDelete, _R, ("Action", "CannotDeleteReceiver"), "Receiver"),
    Row(CannotDelete, _R, ("Action", "CannotDelete")),
    Row(AccessDenied, _S, ("NotAuthorized",)),
    Row(NotOffered, _R, ("ActionNotSupported", "NotImplemented")),
    Row(NoSuchService, _R, ("ActionNotSupported", "NoSuchService")),
    Row(FixedScope, _S, ("OperationProhibited", "FixedScope")),
    *(Row(UserRefused, _S, ("InvalidArgVal", f), f) for f in _WRONG_USER),
    *(Row(UserRefused, _S, ("OperationProhibited", f), f) for f in UserFault if f not in _WRONG_USER),
    *(Row(HostRefused, _R, ("ActionNotSupported", f), f) for f in _BEYOND_THE_HOST),
    *(Row(HostRefused, _S, ("InvalidArgVal", f), f) for f in HostFault if f not in _BEYOND_THE_HOST),
    # ONVIF Core 9.9: the faults of WS-BaseNotification tell themselves in their detail.
    Row(EventRefused, _R, ()),
    Row(Refused, _S, ("OperationProhibited",)),
    Row(BadFilter, _S, ("InvalidArgVal", "InvalidFilterFault"), service=TSE),
    Row(FormatError, _S, ("InvalidArgVal",)),
    Row(StorageError, _R, ("Action",)),
)

INTERNAL = SoapFault(Code.RECEIVER, ("Action",), "the operation failed inside the device; its log says why")
"""The answer to an error that nobody foresaw: its text stays in the log, since it may tell of paths, addresses or
credentials.
"""


def fault_of(error: Exception, service: str) -> SoapFault | None:
    """The fault for a domain error raised by the service with this namespace; None when the table has no row for it."""
    if isinstance(error, SoapFault):
        return error
    kind = getattr(error, "kind", None)
    for row in TABLE:
        if isinstance(error, row.error) and row.kind in (None, kind) and row.service in (None, service):
            # What a volume says names paths of this machine: that is for the log.
            reason = "the storage failed" if isinstance(error, StorageError) else str(error)
            detail = event_detail(error, time.time_ns()) if isinstance(error, EventRefused) else ""
            return SoapFault(row.code, row.subcodes, reason, detail=detail)
    return None


def write_fault(fault: SoapFault, header: str = "") -> bytes:
    """The envelope of a fault (SOAP 1.2 part 1, 5.4). `header` is the text of header blocks to answer with."""
    blocks = header
    if fault.code is Code.VERSION_MISMATCH:
        blocks += '<env:Upgrade><env:SupportedEnvelope qname="env:Envelope"/></env:Upgrade>'
    for clark in fault.misunderstood:
        namespace, _, name = clark.rpartition("}")
        # A prefix cannot stand for no namespace; without one the name has none, as no default is declared.
        declared, prefix = (f" xmlns:h={quoteattr(namespace[1:])}", "h:") if namespace else ("", "")
        blocks += f"<env:NotUnderstood{declared} qname={quoteattr(prefix + name)}/>"
    head = f"<env:Header>{blocks}</env:Header>" if blocks else ""
    subcode = ""
    for name in reversed(fault.subcodes):
        prefixed = name if ":" in name else f"ter:{name}"
        subcode = f"<env:Subcode><env:Value>{prefixed}</env:Value>{subcode}</env:Subcode>"
    detail = f"<env:Detail>{fault.detail}</env:Detail>" if fault.detail else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<env:Envelope xmlns:env="{ENV}" xmlns:ter="{TER}" xmlns:wsa="{WSA}">{head}<env:Body><env:Fault>'
        f"<env:Code><env:Value>env:{fault.code}</env:Value>{subcode}</env:Code>"
        f'<env:Reason><env:Text xml:lang="en">{escape(_printable(fault.reason))}</env:Text></env:Reason>'
        f"{detail}</env:Fault></env:Body></env:Envelope>"
    ).encode()


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:500])
