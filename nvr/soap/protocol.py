"""The SOAP 1.2 protocol over HTTP (SOAP 1.2 part 2, 7): a request's bytes in, an answer's bytes out.

Order of things, each of which ends the request when it fails: content type, size, XML, envelope, mandatory headers,
operation, credentials and access class, arguments, the handler, the answer. This room knows nothing of the HTTP server:
`nvr/http/` hands it `Request`s and sends `Answer`s.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from lxml import etree

from nvr.auth.access import AccessClass, Caller
from nvr.events.errors import EventRefused
from nvr.model.errors import FormatError
from nvr.soap import audit
from nvr.soap.addressing import Addressing
from nvr.soap.envelope import parse_envelope
from nvr.soap.faults import (
    INTERNAL,
    Code,
    SoapFault,
    action_not_supported,
    bad_addressing,
    fault_of,
    unknown_action,
    write_fault,
)
from nvr.soap.model import Struct
from nvr.soap.reader import read
from nvr.soap.service import Bound, BoundService, Call, Result, Service
from nvr.soap.writer import write

log = logging.getLogger(__name__)

T = TypeVar("T")

CONTENT_TYPE = "application/soap+xml; charset=utf-8"
ACCEPTED_TYPES = frozenset(("application/soap+xml", "text/xml"))
"""SOAP 1.2, and the type of SOAP 1.1 that lax clients send with SOAP 1.2 envelopes."""

DEFAULT_SIZE_LIMIT = 256 * 1024
PARSE_ON_LOOP = 16 * 1024
"""Longer messages are parsed and read in a thread, one at a time: 256 KiB of small elements take longer than a slice,
and many times their size in memory."""
CHANGING = frozenset((AccessClass.ACTUATE, AccessClass.WRITE_SYSTEM, AccessClass.UNRECOVERABLE))
"""Operations of these classes come to their end also when their client hangs up; all others are broken off."""
SLICE_S = 0.002
"""How long an answer is written before other tasks run; the loop must never be held for 5 ms."""
PIECE = 4096
"""Texts that are joined and encoded at once, about 0.2 ms."""


@dataclass(frozen=True, slots=True)
class Request:
    """A POST as the HTTP server has received it.

    `content_type` is without parameters and in lower case. `uri` is the target of the request line. `origin` and `host`
    as in `Call`.
    """

    method: str
    uri: str
    content_type: str
    authorization: str | None
    origin: str
    host: str
    peer: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send back: the body in pieces, to be written one after the other. An empty body has no content type."""

    status: int
    pieces: Sequence[bytes]
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def content_type(self) -> str | None:
        return CONTENT_TYPE if self.pieces else None


class Admission(Protocol):
    """Decides who may call what; `security.Security` is the one."""

    def admit(
        self,
        access: AccessClass,
        method: str,
        uri: str,
        authorization: str | None,
        headers: Sequence[etree._Element],
        peer: str,
    ) -> Caller:
        """The user, nobody for PRE_AUTH. Raises SoapFault."""


class Soap:
    """All services of the device, each with an endpoint at its path."""

    def __init__(self, services: Sequence[Service], admission: Admission, size_limit: int = DEFAULT_SIZE_LIMIT) -> None:
        """Raises TypeError for a service that is declared wrongly."""
        self.size_limit = size_limit
        self.requests: Counter[tuple[str, str, str]] = Counter()
        """Answers by path, operation (empty when unknown) and outcome: `ok`, or that of the fault."""
        self._admission = admission
        self._turn = asyncio.Lock()
        """Of the long message that is being read: only one holds its elements in memory."""
        self._thread = ThreadPoolExecutor(1, "nvr-soap")
        """For long messages, which anybody may send: those who write the configuration wait in another pool."""
        self._bound = {service.path: BoundService(service) for service in services}
        if len(self._bound) != len(services):
            raise TypeError("two services have the same path")

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(self._bound)

    def service(self, path: str) -> BoundService:
        """Raises KeyError."""
        return self._bound[path]

    async def answer(self, path: str, request: Request) -> Answer:
        """Never raises, except for cancellation. `path` is one of `paths`."""
        if request.content_type not in ACCEPTED_TYPES:
            return Answer(415, ())
        if len(request.body) > self.size_limit:
            return Answer(413, ())
        bound = self._bound[path]
        name, addressing = "", Addressing()
        try:
            if not request.body and request.authorization is None:
                # libcurl asks for a Digest challenge with an empty body before it sends the real one.
                self._admission.admit(AccessClass.READ_SYSTEM, request.method, request.uri, None, (), request.peer)
            async with self._turn if _is_long(request.body) else nullcontext():
                envelope = await self._read(request.body, parse_envelope, request.body)
                operation = self._operation(bound, envelope.body)
                name = operation.operation.name
                if operation.operation.action is not None:
                    addressing = Addressing.of(envelope.headers, operation.operation.action)
                caller = self._admission.admit(
                    operation.operation.access,
                    request.method,
                    request.uri,
                    request.authorization,
                    envelope.headers,
                    request.peer,
                )
                if addressing.fault is not None:
                    raise bad_addressing(addressing.fault)
                arguments = await self._read(request.body, _arguments, operation, envelope.body)
                del envelope  # the handler may wait for long
            pieces = await _perform(operation, bound.service.namespace, arguments, caller, request, addressing)
        except Exception as error:  # the boundary: whatever happens becomes a fault, and is logged
            # Not held by a name here: fault, traceback and this frame would hold each other, and the message with them.
            return self._refusal(error, bound.service, name, request, addressing)
        self.requests[path, name, "ok"] += 1
        return Answer(200, pieces)

    def close(self) -> None:
        """Ends the thread for long messages; none can be answered any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _read(self, body: bytes, work: Callable[..., T], *arguments: Any) -> T:
        """A step of reading: at once, or on the thread for long messages."""
        if not _is_long(body):
            return work(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _refusal(
        self, error: Exception, service: Service, operation: str, request: Request, addressing: Addressing
    ) -> Answer:
        fault = _fault(error, service, operation, request)
        self.requests[service.path, operation, fault.outcome] += 1
        return Answer(fault.status, (write_fault(fault, addressing.fault_header()),), fault.headers)

    def _operation(self, bound: BoundService, element: etree._Element) -> Bound:
        """Raises SoapFault for an element that is no request of this service."""
        found = bound.find(str(element.tag))
        if found is not None:
            return found
        name = etree.QName(element)
        namespace = name.namespace or ""
        if bound.misses(namespace, name.localname):
            raise action_not_supported(subcodes=bound.service.not_implemented_subcodes)
        for other in self._bound.values():
            if other.find(str(element.tag)) is not None or other.misses(namespace, name.localname):
                raise action_not_supported(f"this operation belongs to the service at {other.service.path}")
        raise unknown_action("no service knows an operation with this element")


def _is_long(body: bytes) -> bool:
    return len(body) > PARSE_ON_LOOP


async def _perform(
    operation: Bound, namespace: str, arguments: Struct, caller: Caller, request: Request, addressing: Addressing
) -> list[bytes]:
    call = Call(arguments, caller, request.origin, request.host, request.uri, request.peer, addressing)
    result = await (
        _change(operation, call, namespace) if operation.operation.access in CHANGING else _done(operation, call)
    )
    return await serialize(operation.response(**(result or {})), operation.response_tag, addressing.answer_header())


async def _done(operation: Bound, call: Call) -> Result:
    result = operation.handler(call)
    return await result if inspect.isawaitable(result) else result


async def _change(operation: Bound, call: Call, namespace: str) -> Result:
    name, user = operation.operation.name, call.caller.name or ""
    try:
        result = await _to_its_end(_done(operation, call))
    except Exception as error:
        audit.refused(user, call.peer, name, call.request, (fault_of(error, namespace) or INTERNAL).outcome)
        raise
    audit.changed(user, call.peer, name, call.request, result)
    return result


async def _to_its_end(work: Awaitable[Result]) -> Result:
    """A change that has begun is not left half done when its client hangs up."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as e:
            cancelled = e
    if cancelled is None:
        return task.result()
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("a change whose client has hung up has failed: %s", type(error).__name__)
    raise cancelled


def _arguments(operation: Bound, element: etree._Element) -> Struct:
    try:
        return read(operation.request, element)
    except SoapFault as fault:
        refusal = operation.operation.bad_value
        if refusal is None or not isinstance(fault.__cause__, FormatError):
            raise
        raise refusal(fault.reason) from fault


async def serialize(message: Struct, tag: str, header: str = "") -> list[bytes]:
    """The envelope around a message, in pieces of up to about `PIECE` texts.

    It is written in slices of `SLICE_S`, between which the loop runs other tasks. The pieces are not joined: copying
    ten megabytes, or freeing the texts that they were made of, would take longer than a slice.
    """
    pieces: list[bytes] = []
    texts: list[str] = []
    pause = time.perf_counter() + SLICE_S
    for _ in write(message, tag, texts, header):
        if len(texts) >= PIECE:
            pieces.append("".join(texts).encode())
            texts.clear()
        if time.perf_counter() >= pause:
            await asyncio.sleep(0)
            pause = time.perf_counter() + SLICE_S
    pieces.append("".join(texts).encode())
    return pieces


def _fault(error: Exception, service: Service, operation: str, request: Request) -> SoapFault:
    """The fault to answer. Neither the message nor its credentials are logged, only who sent it and what it called."""
    fault = fault_of(error, service.namespace)
    where = f"{service.path} {operation or '(unknown operation)'} from {request.peer}"
    if fault is None:
        log.error("%s failed unexpectedly", where, exc_info=error)
        return INTERNAL
    if error is not fault and fault.code is Code.RECEIVER and not isinstance(error, EventRefused):
        log.warning("%s: %s", where, error)
    else:
        # Those of WS-BaseNotification are Receiver's by decree, though the client is at fault.
        # Without the reason: it may quote a value, and a value may be a password in the wrong place.
        log.debug("%s: %s", where, fault.outcome)
    return fault
