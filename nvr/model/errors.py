"""The exception tree, branched by who can act on an error.

    NvrError
    ├── FormatError (also ValueError)   bytes or text from outside that break their format; the peer is at fault
    │   ├── UnsupportedCodec            an encoding, or a mode of it, that this recorder does not take
    │   └── BadFilter                   a filter expression that is not understood or not supported
    ├── OperatorError                   configuration, files, ports: the operator can mend it; shown without a traceback
    ├── Refused                         a request of a client that is well formed and cannot be carried out
    │   ├── UnknownToken                the object named does not exist
    │   ├── BadConfiguration            the configuration given is invalid
    │   │   ├── BadMode             the mode is none that the standard knows
    │   │   └── CannotModify        the configuration is valid, and this device cannot apply it
    │   ├── LimitReached                the maximum number of objects exists
    │   ├── NotOffered                  the operation is optional, and this device does not offer it
    │   ├── CannotDelete                the object cannot be deleted now
    │   └── AccessDenied                not authenticated, or the role is too low
    ├── SourceError                     a camera or its network is at fault; the receiver tries again
    │   └── CredentialsRefused          the camera refuses the password; the receiver tries again, but slowly
    └── StorageError                    a volume or file is at fault; recording goes on elsewhere or becomes a gap
        ├── VolumeFull                  no space is left, or the space that must stay free has been reached
        └── DatabaseUnavailable         a database cannot be read or written at present; trying again later may help

`soap/faults.py` and `replay/` each map the branches to fault codes and status codes in one table.
"""

from __future__ import annotations


class NvrError(Exception):
    """Root of all errors that this package raises on purpose."""


class FormatError(NvrError, ValueError):
    """Input from outside breaks its format. The message is one exact sentence and names the evidence."""


class UnsupportedCodec(FormatError):
    """An encoding, or a mode of it, that this recorder does not take. The message names both."""


class BadFilter(FormatError):
    """A filter expression of a client that is not understood, or that takes more than a filter may."""


class OperatorError(NvrError):
    """Something the operator can mend. The message says what to do; commands print it and exit with `exit_code`."""

    exit_code = 2


class Refused(NvrError):
    """A well-formed request that cannot be carried out. Nothing has been changed."""


class UnknownToken(Refused):
    """`kind` is the standard's name of the object (`Recording`, `Track`, `RecordingJob`, `Receiver`, `Search`)."""

    def __init__(self, kind: str, token: str) -> None:
        super().__init__(f"{kind} {token!r} does not exist")
        self.kind = kind
        self.token = token


class BadConfiguration(Refused):
    """The configuration is invalid; the message says which field and why."""


class BadMode(BadConfiguration):
    """The mode is none of the values that the standard knows."""


class CannotModify(BadConfiguration):
    """The configuration is valid, but this device cannot apply it; the message says what it can."""


class LimitReached(Refused):
    """`kind` as in `UnknownToken`; `limit` is the number of objects that may exist, or that `user` may have."""

    def __init__(self, kind: str, limit: int, user: str | None = None) -> None:
        whose = "" if user is None else f" of the user {user}"
        super().__init__(f"the maximum of {limit} objects of kind {kind}{whose} is reached")
        self.kind = kind
        self.limit = limit


class NotOffered(Refused):
    """The operation is optional, and this device does not offer it as it is set up; its capabilities say so."""


class CannotDelete(Refused):
    """`kind` as in `UnknownToken`."""

    def __init__(self, kind: str, token: str, why: str) -> None:
        super().__init__(f"{kind} {token!r} cannot be deleted: {why}")
        self.kind = kind
        self.token = token


class AccessDenied(Refused):
    """Not authenticated, or the role does not include the access class."""


class SourceError(NvrError):
    """A camera, its network or its answers are at fault. Carries the peer and what it did."""


class CredentialsRefused(SourceError):
    """The camera refuses the user name or password. Asking often may lock the account."""


class StorageError(NvrError):
    """A volume or a file is at fault. Carries the volume, the path and the cause."""


class DatabaseUnavailable(StorageError):
    """A database cannot be read or written at present: its disk is full, fails or is read-only. No volume has anything
    to do with it."""


class VolumeFull(StorageError):
    """No space is left, or the space that must stay free has been reached."""
