"""Who may call what: `python -m tests.conformance.access` writes docs/access.md by calling a running daemon.

`access.csv` holds the access class that the standard gives each operation (ONVIF Core for device and event service, the
services' own texts for the others). Every operation of the official WSDLs is called with a schema-valid request, as
each role with each kind of credentials and without any; what comes back is judged against the default access policy of
ONVIF Core 5.9.4.3, written out here once more so that the daemon is not its own judge.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import requests
from lxml import etree
from requests.auth import HTTPDigestAuth

from nvr.soap.names import ENV, TT
from tests.support.daemon import ADMIN, PASSWORD, DaemonProcess, run_nvr
from tests.support.official_schema import SERVICES, validate_response
from tests.support.sample_requests import SampleRequest, sample_requests
from tests.support.soap_http import SOAP_TYPE, username_token

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "docs" / "access.md"

PREFIXES = {
    "http://www.onvif.org/ver10/device/wsdl": "tds",
    "http://www.onvif.org/ver10/recording/wsdl": "trc",
    "http://www.onvif.org/ver10/search/wsdl": "tse",
    "http://www.onvif.org/ver10/receiver/wsdl": "trv",
    "http://www.onvif.org/ver10/replay/wsdl": "trp",
    "http://www.onvif.org/ver10/events/wsdl": "tev",
    "http://docs.oasis-open.org/wsn/b-2": "wsnt",
    "http://www.onvif.org/ver10/media/wsdl": "trt",
}
JUDGED = {service.namespace for service in SERVICES.values()}
"""Of whose operations each answer is held against the official schema."""
ADDRESSED_AS = {"wsnt": "tev"}
"""Operations of another namespace that stand at the address of a service."""
AT_SUBSCRIPTION = {"tev:PullMessages", "tev:SetSynchronizationPoint", "tev:Seek", "wsnt:Renew", "wsnt:Unsubscribe"}
"""Operations that are called at the address of a subscription."""
NOT_CARRIED_OUT = {"tds:SystemReboot", "tds:SetSystemFactoryDefault"}
"""Their requests carry an element too many: whoever is let in is told so, and the daemon goes on."""

ROLES = ("administrator", "operator", "user")
KINDS = ("Digest", "UsernameToken")
ANONYMOUS = "anonymous"
POLICY: Mapping[str, frozenset[str]] = {
    "PRE_AUTH": frozenset((*ROLES, ANONYMOUS)),
    "READ_SYSTEM": frozenset(ROLES),
    "READ_SYSTEM_SENSITIVE": frozenset(ROLES[:2]),
    "READ_SYSTEM_SECRET": frozenset(ROLES[:1]),
    "WRITE_SYSTEM": frozenset(ROLES[:1]),
    "UNRECOVERABLE": frozenset(ROLES[:1]),
    "READ_MEDIA": frozenset(ROLES),
    "ACTUATE": frozenset(ROLES[:2]),
}
MISSING, UNKNOWN = "Receiver/ActionNotSupported", "Sender/UnknownAction"
REFUSED = "Sender/NotAuthorized"


def classes() -> dict[str, str]:
    """Operation to access class, as the standard has it."""
    with (HERE / "access.csv").open(encoding="utf-8", newline="") as file:
        return {f"{row['service']}:{row['operation']}": row["access"] for row in csv.DictReader(file)}


@dataclass(frozen=True, slots=True)
class Answer:
    """HTTP status, fault codes joined by slashes (empty for a result), and whether a challenge came along."""

    status: int
    fault: str
    challenged: bool

    def __str__(self) -> str:
        return f"{self.status} {self.fault}".rstrip()


@dataclass(frozen=True, slots=True)
class Line:
    """One operation with its answers by (role, kind); those of `anonymous` have the kind `none`."""

    operation: str
    access: str
    answers: Mapping[tuple[str, str], Answer]

    @property
    def missing(self) -> bool:
        """Whether everybody is told that the operation is not there."""
        return {a.fault for a in self.answers.values()} <= {MISSING, f"{MISSING}/NotImplemented", UNKNOWN}

    def complaints(self) -> Iterator[str]:
        """What differs from the policy. An operation that is not there has no access to differ in."""
        if self.missing:
            return
        if self.access not in POLICY:
            yield f"{self.operation} answers, and nobody has written down who may call it"
            return
        for (role, kind), answer in self.answers.items():
            what = f"{self.operation} ({self.access}) as {role} with {kind}: {answer}"
            if role in POLICY[self.access]:
                if answer.fault == REFUSED or answer.status == 401:
                    yield f"{what}, although the class includes the role"
            elif role == ANONYMOUS:
                if (answer.status, answer.fault, answer.challenged) != (401, REFUSED, True):
                    yield f"{what}, where a challenge is due"
            elif (answer.status, answer.fault) != (400, REFUSED):
                yield f"{what}, although the class does not include the role"


class Callers:
    """The three roles and nobody, towards a running daemon."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self._daemon = daemon
        self._users = {"administrator": (ADMIN, PASSWORD)}
        for role in ROLES[1:]:
            name, password = f"the-{role}", f"password of the {role}"
            made = run_nvr(
                *("user", "add", name, "--role", role, "--password-stdin", "--data", str(daemon.data)), stdin=password
            )
            assert made.returncode == 0, made.stderr
            self._users[role] = (name, password)
        self._sessions = {role: requests.Session() for role in (*ROLES, ANONYMOUS)}
        for role, (name, password) in self._users.items():
            self._sessions[role].auth = HTTPDigestAuth(name, password)
        self._anonymous = self._sessions[ANONYMOUS]

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()

    def call(self, role: str, kind: str, address: str, body: etree._Element) -> Answer:
        header = ""
        if kind == "UsernameToken":
            header = username_token(*self._users[role], time.time_ns(), nonce=time.time_ns().to_bytes(16, "big"))
        envelope = (
            f'<env:Envelope xmlns:env="{ENV}"><env:Header>{header}</env:Header>'
            f"<env:Body>{etree.tostring(body, encoding='unicode')}</env:Body></env:Envelope>"
        )
        session = self._sessions[role] if kind == "Digest" else self._anonymous
        reply = session.post(address, envelope.encode(), headers={"Content-Type": SOAP_TYPE}, timeout=20)
        if etree.QName(body).namespace in JUDGED:
            validate_response(reply.content)
        return Answer(reply.status_code, fault_in(reply.content), "WWW-Authenticate" in reply.headers)

    def services(self) -> dict[str, str]:
        """Prefix to address, as GetServices tells anybody."""
        tds = "http://www.onvif.org/ver10/device/wsdl"
        body = f'<GetServices xmlns="{tds}"><IncludeCapability>false</IncludeCapability></GetServices>'
        envelope = f'<env:Envelope xmlns:env="{ENV}"><env:Body>{body}</env:Body></env:Envelope>'
        reply = self._anonymous.post(
            self._daemon.service("device"), envelope, headers={"Content-Type": SOAP_TYPE}, timeout=20
        )
        listed = etree.fromstring(reply.content).iter(f"{{{tds}}}Service")
        return {PREFIXES[s.findtext(f"{{{tds}}}Namespace")]: s.findtext(f"{{{tds}}}XAddr") for s in listed}

    def subscription(self, address: str, request: SampleRequest) -> str:
        """The address of a new pull point."""
        session = self._sessions["administrator"]
        envelope = (
            f'<env:Envelope xmlns:env="{ENV}"><env:Body>{etree.tostring(request.body, encoding="unicode")}</env:Body>'
            "</env:Envelope>"
        )
        reply = session.post(address, envelope, headers={"Content-Type": SOAP_TYPE}, timeout=20)
        found = etree.fromstring(reply.content).find(".//{http://www.w3.org/2005/08/addressing}Address")
        assert found is not None, reply.text
        return str(found.text)


def fault_in(xml: bytes) -> str:
    """`Sender/InvalidArgVal/NoRecording`, empty for a result."""
    fault = etree.fromstring(xml).find(f"{{{ENV}}}Body/{{{ENV}}}Fault")
    if fault is None:
        return ""
    return "/".join((v.text or "").rpartition(":")[2] for v in fault.findall(f"{{{ENV}}}Code//{{{ENV}}}Value"))


def survey(daemon: DaemonProcess) -> list[Line]:
    """Calls every operation of the services that the daemon offers, as everybody.

    An operation without an access class is called without credentials only; its line has the class `unlisted`.
    """
    known = classes()
    by_name = {f"{PREFIXES[r.namespace]}:{r.name}": r for r in sample_requests() if r.namespace in PREFIXES}
    callers = Callers(daemon)
    lines = []
    try:
        services = callers.services()
        for operation, request in by_name.items():
            prefix = operation.partition(":")[0]
            address = services.get(ADDRESSED_AS.get(prefix, prefix))
            if address is None:
                continue
            body = deepcopy(request.body)
            if operation in NOT_CARRIED_OUT:
                etree.SubElement(body, f"{{{TT}}}TooMany")
            everybody = [(role, kind) for role in ROLES for kind in KINDS] if operation in known else []
            answers = {}
            for role, kind in ((ANONYMOUS, "none"), *everybody):
                to = address
                if operation in AT_SUBSCRIPTION:
                    to = callers.subscription(address, by_name["tev:CreatePullPointSubscription"])
                answers[role, kind] = callers.call(role, kind, to, body)
            lines.append(Line(operation, known.get(operation, "unlisted"), answers))
    finally:
        callers.close()
    return lines


def render(lines: Iterable[Line]) -> str:
    """The page: operations that are implemented with what each role was answered, then the others."""
    there = [line for line in lines if not line.missing]
    listed = [line for line in lines if line.missing and line.access != "unlisted"]
    text = [
        "# Who may call what",
        "",
        "Written by `python -m tests.conformance.access`, which calls a running recorder; do not edit. Each operation",
        "got a schema-valid request with tokens of objects that do not exist: a fault other than `NotAuthorized` means",
        "that the caller was let in. Digest and UsernameToken are answered alike where a cell holds one answer. A cell",
        "shows the HTTP status and the codes of the fault. Requests to restart or reset the recorder carried an",
        "element too many, so that it went on.",
        "",
        "| operation | access class | administrator | operator | user | anonymous |",
        "|---|---|---|---|---|---|",
    ]
    for line in there:
        cells = []
        for role in (*ROLES, ANONYMOUS):
            seen = list(dict.fromkeys(str(a) for (r, _), a in line.answers.items() if r == role))
            cells.append(" or ".join(seen))
        text.append(f"| `{line.operation}` | {line.access} | {' | '.join(cells)} |")
    names = ", ".join(f"`{line.operation}`" for line in listed) or "none"
    text += [
        "",
        "Of the same services, answered to everybody by `500 Receiver/ActionNotSupported`, in recording control and",
        "search with `NotImplemented` below it, since they are not there:",
    ]
    text.append(f"{names}.")
    return "\n".join(text) + "\n"


def main() -> int:
    with tempfile.TemporaryDirectory() as directory, DaemonProcess(Path(directory) / "data") as daemon:
        lines = survey(daemon)
    complaints = [c for line in lines for c in line.complaints()]
    print("\n".join(complaints) or f"{len(lines)} operations answer as the policy says")
    TABLE.write_text(render(lines), encoding="utf-8")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
