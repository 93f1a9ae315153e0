"""Asks the device service of a camera who it is: `python -m nvr.sources.ask`, a process of its own that ends with the
answer.

zeep, and the schemas that it reads, cost 40 MB and a quarter of a second of CPU, which the recorder has no room for.
The question comes as JSON on stdin, since arguments and the environment can be read by others; the answer goes to
stdout. Whoever has started it ends it when its time is over.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from nvr.sources.description import MAX_TEXT, CameraDescription

MAX_MEMORY = 1 << 30
"""Bytes of address space: a service that answers without end ends the process that asks, and nothing else."""


class Outcome(StrEnum):
    ANSWERED = "answered"
    REFUSED = "refused"
    """It does not know the receiver's user, or does not let it ask."""
    SILENT = "silent"
    """There is no ONVIF device service, or none that can be reached."""


@dataclass(frozen=True, slots=True)
class Question:
    """`addresses` of the device service are tried one after the other. `wsdl` is the path of devicemgmt.wsdl. `verify`
    is False for certificates that nobody verifies, or the path of a file with authorities.
    """

    addresses: tuple[str, ...]
    wsdl: str
    timeout_s: float
    username: str = ""
    password: str = field(default="", repr=False)
    verify: bool | str = True

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Question:
        values = json.loads(text)
        return cls(**{**values, "addresses": tuple(values["addresses"])})


@dataclass(frozen=True, slots=True)
class Answer:
    """`why` says what has gone wrong, where it was not answered."""

    outcome: Outcome
    description: CameraDescription | None = None
    why: str = ""

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Answer:
        """Raises ValueError, KeyError or TypeError for what is none."""
        values = json.loads(text)
        description = values["description"]
        return cls(
            Outcome(values["outcome"]),
            None if description is None else CameraDescription(**description),
            str(values["why"]),
        )


def ask(question: Question) -> Answer:
    """Blocking."""
    why = "no address"
    for address in question.addresses:
        try:
            device = _Device(address, question)
            device.set_clock()
        except Exception as e:  # whatever is behind an address that need not be a device service
            why = _why(address, e)
            continue
        return device.describe()
    return Answer(Outcome.SILENT, why=why)


class _Device:
    """One device service, by zeep. Raises what zeep, requests and lxml raise."""

    def __init__(self, address: str, question: Question) -> None:
        import requests
        import zeep
        from zeep.transports import Transport

        self._address = address
        self._question = question
        session = requests.Session()
        session.trust_env = False  # no proxies, no .netrc: the camera and nobody else
        session.verify = question.verify
        # The credentials are for this host: who sends us elsewhere is not followed.
        session.max_redirects = 0
        self._session = session
        transport = Transport(session=session, timeout=question.timeout_s, operation_timeout=question.timeout_s)
        self._client = zeep.Client(question.wsdl, transport=transport, settings=zeep.Settings(strict=False))
        self._service = self._client.create_service("{http://www.onvif.org/ver10/device/wsdl}DeviceBinding", address)

    def set_clock(self) -> None:
        """Asks for the time of the camera, for which nobody needs a password, and signs with it from then on: most
        cameras that refuse a token have another time.
        """
        from requests.auth import HTTPDigestAuth
        from zeep.wsse.username import UsernameToken

        told = self._service.GetSystemDateAndTime()
        question = self._question
        if question.username:
            created = _time_of(told) or datetime.now(UTC)
            self._client.wsse = UsernameToken(
                question.username, question.password, use_digest=True, created=created, zulu_timestamp=True
            )
            self._session.auth = HTTPDigestAuth(question.username, question.password)

    def describe(self) -> Answer:
        manufacturer = model = ""
        scopes: list[str] = []
        answered, why = False, ""
        try:
            told = self._service.GetDeviceInformation()
            manufacturer, model = str(told.Manufacturer or ""), str(told.Model or "")
            answered = True
        except Exception as e:  # a camera may refuse one and answer the other
            why = _why(self._address, e)
        try:
            scopes = [str(scope.ScopeItem) for scope in self._service.GetScopes()]
            answered = True
        except Exception as e:
            why = _why(self._address, e)
        if not answered:
            return Answer(Outcome.REFUSED, why=why)
        return Answer(Outcome.ANSWERED, CameraDescription.of(self._address, manufacturer, model, scopes), why)


def _time_of(told: Any) -> datetime | None:
    utc = getattr(told, "UTCDateTime", None)
    if utc is None or utc.Date is None or utc.Time is None:
        return None
    day = datetime(utc.Date.Year, utc.Date.Month, utc.Date.Day, tzinfo=UTC)
    return day + timedelta(hours=utc.Time.Hour, minutes=utc.Time.Minute, seconds=utc.Time.Second)


def _why(address: str, error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{address}: {type(error).__name__}: {text}"[: 2 * MAX_TEXT]


def main() -> int:
    os.nice(10)  # what is recorded goes first
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it holds a password
    answer = ask(Question.from_json(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(answer.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
