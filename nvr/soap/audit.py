"""Who has changed what: one line in the log for every change that a client asked for, carried out or refused.

A line names the user, the address, the operation, the objects, and the mode that a job or receiver is set to; never
the content of a configuration, which may hold a password in the wrong place.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from nvr.soap.model import Struct
from nvr.soap.plan import plan_of
from nvr.soap.values import shown

log = logging.getLogger("nvr.audit")

_OBJECTS = ("Token", "Username")


def changed(user: str, peer: str, operation: str, request: Struct, answer: Mapping[str, Any] | None) -> None:
    """A change is on the disk. The mode of SetRecordingJobMode and SetReceiverMode is told, since it is a known one."""
    named = [
        *objects(request),
        *_mode(request),
        *(f"{k}={v!s}" for k, v in (answer or {}).items() if k.endswith("Token")),
    ]
    log.info("user %r at %s: %s", user, peer, " ".join([operation, *named]))


def refused(user: str, peer: str, operation: str, request: Struct, fault: str) -> None:
    """A change was not made."""
    log.info("user %r at %s: %s is refused: %s", user, peer, " ".join([operation, *objects(request)]), fault)


def _mode(request: Struct) -> Iterator[str]:
    mode = getattr(request, "Mode", None)
    if mode is not None:
        yield f"Mode={shown(str(mode))}"


def objects(request: Struct) -> Iterator[str]:
    """What a request names by token or name, `RecordingToken=rec-…`, at any depth."""
    for element in plan_of(type(request)).elements:
        value = getattr(request, element.member)
        if value is None:
            continue
        for one in value if element.repeats else (value,):
            if isinstance(one, Struct):
                yield from objects(one)
            elif element.member.endswith(_OBJECTS):
                yield f"{element.member}={shown(str(one))}"
