"""How a service and its operations are declared; the types come from `model.py`.

    class ReceiverService(Service):
        namespace = TRV
        path = "/onvif/receiver_service"
        contract = "receiver.wsdl"
        not_implemented = frozenset({"GetReceivers"})        # operations of the official WSDL that are still missing

        def __init__(self, receivers: Receivers) -> None:
            self._receivers = receivers

        def capabilities(self) -> Struct:
            return Capabilities(SupportedReceivers=64)

        @operation("GetServiceCapabilities", AccessClass.PRE_AUTH, response={"Capabilities": required(Capabilities)})
        def get_service_capabilities(self, call: Call) -> Result:
            return {"Capabilities": self.capabilities()}

        @operation(
            "CreateReceiver",
            AccessClass.ACTUATE,
            request={"Configuration": required(ReceiverConfiguration)},
            response={"Receiver": required(Receiver)},
        )
        async def create_receiver(self, call: Call) -> Result:
            created = await self._receivers.create(configuration_of(call.request.Configuration))
            return {"Receiver": wire_of(created)}

A handler gets the request as `call.request`, whose members are those of `request=`, and returns the members of
`response=`, or None where the response is empty. It raises the errors of `nvr.model.errors`; `faults.py` says which
fault each becomes. Handlers run on the event loop: they may be coroutines. For large answers return a generator over an
immutable snapshot as the `many` member, since other requests run between two of its items.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias, TypeVar

from spyne import Application, rpc
from spyne import Service as SpyneService
from spyne.util.appreg import unregister_application

from nvr.auth.access import AccessClass, Caller
from nvr.model.errors import Refused
from nvr.soap.addressing import Addressing
from nvr.soap.model import Open, Struct, WireType
from nvr.soap.plan import plan_of

__all__ = ["AccessClass", "Bound", "BoundService", "Call", "Operation", "Result", "Service", "operation"]

Result: TypeAlias = Mapping[str, Any] | None


_Handler = TypeVar("_Handler", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way to a handler. `caller` is who was authenticated, nobody for PRE_AUTH operations.

    `origin` is scheme, host and port by which the client reached the device, without a slash at its end; `host` is the
    same without scheme and port, in brackets for IPv6. Addresses in answers are made from them, so that they work
    through NAT. `uri` is the target of the HTTP request, with its query; `peer` the address that it came from.
    """

    request: Any
    caller: Caller
    origin: str
    host: str
    uri: str = ""
    peer: str = "unknown"
    addressing: Addressing = field(default_factory=Addressing)


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation as declared: members of its messages in schema order."""

    name: str
    access: AccessClass
    request: Mapping[str, WireType] = field(default_factory=dict)
    response: Mapping[str, WireType] = field(default_factory=dict)
    bad_value: type[Refused] | None = None
    """What a value of the request that breaks its type or a facet is, where the standard has a fault for it."""
    namespace: str | None = None
    """Where the messages are not in the namespace of the service."""
    action: str | None = None
    """Base of the wsa:Action of request and response, which have `Request` and `Response` behind it. Operations with
    it answer with the headers of WS-Addressing."""
    open_request: bool = False
    """Whether the schema takes elements of other namespaces behind those of the request."""


def operation(
    name: str,
    access: AccessClass,
    *,
    request: Mapping[str, WireType] | None = None,
    response: Mapping[str, WireType] | None = None,
    bad_value: type[Refused] | None = None,
    namespace: str | None = None,
    action: str | None = None,
    open_request: bool = False,
) -> Callable[[_Handler], _Handler]:
    """Declares a method of a Service as the operation with this name of its WSDL."""
    declared = Operation(name, access, request or {}, response or {}, bad_value, namespace, action, open_request)

    def declare(handler: _Handler) -> _Handler:
        handler.__dict__["operation"] = declared
        return handler

    return declare


class Service(ABC):
    """One ONVIF service: a target namespace, a path and operations."""

    namespace: ClassVar[str]
    path: ClassVar[str]
    contract: ClassVar[str]
    """File name below wsdl/."""
    version: ClassVar[tuple[int, int]] = (20, 12)
    """Edition that GetServices reports, year - 2000 and month."""
    not_implemented: ClassVar[frozenset[str]] = frozenset()
    """Operations of the official WSDL that answer Receiver / ter:ActionNotSupported."""
    not_implemented_subcodes: ClassVar[tuple[str, ...]] = ()
    """What that fault holds below, where the standard names it for operations of this service."""

    @abstractmethod
    def capabilities(self) -> Struct:
        """The Capabilities element of GetServiceCapabilities, which GetServices repeats."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An operation of a service instance, ready to be called."""

    operation: Operation
    request: type[Struct]
    response: type[Struct]
    response_tag: str
    handler: Callable[[Call], Awaitable[Result] | Result]


class BoundService:
    """A service with its spyne Application, which holds the registry of operations by qualified name of the request."""

    def __init__(self, service: Service) -> None:
        self.service = service
        members: dict[str, Any] = {}
        for attribute in dir(type(service)):
            declared = getattr(getattr(type(service), attribute), "operation", None)
            if isinstance(declared, Operation):
                if declared.name in members:
                    raise TypeError(f"{type(service).__name__} declares {declared.name} twice")
                members[declared.name] = _registered(declared, service, getattr(service, attribute))
        name = type(service).__name__
        registered = type(SpyneService)(name, (SpyneService,), members)
        application = Application([registered], service.namespace, name)
        unregister_application(application)  # a global list that nobody here reads would keep it alive
        bound = [_bound(descriptors[0]) for descriptors in application.interface.service_method_map.values()]
        self._operations = {_tag(b.request): b for b in bound}
        overlap = service.not_implemented & {b.operation.name for b in self._operations.values()}
        if overlap:
            raise TypeError(f"{name} implements {', '.join(sorted(overlap))} and says that it does not")

    @property
    def namespaces(self) -> frozenset[str]:
        """Those of the requests."""
        return frozenset((self.service.namespace, *(tag[1:].partition("}")[0] for tag in self._operations)))

    def misses(self, namespace: str, name: str) -> bool:
        """Whether this is an operation of the official WSDL that is not implemented."""
        return namespace in self.namespaces and name in self.service.not_implemented

    def find(self, tag: str) -> Bound | None:
        """The operation whose request is this element, in Clark notation."""
        return self._operations.get(tag)

    def operations(self) -> tuple[Bound, ...]:
        return tuple(self._operations.values())


def _registered(declared: Operation, service: Service, handler: Callable[[Call], Any]) -> Any:
    # spyne takes no names of results where there is no result
    namespace = declared.namespace or service.namespace
    results = {"_returns": list(declared.response.values()), "_out_variable_names": list(declared.response)}
    return rpc(
        *declared.request.values(),
        _args=list(declared.request),
        _in_message_name=f"{{{namespace}}}{declared.name}",
        _out_message_name=f"{{{namespace}}}{declared.name}Response",
        **(results if declared.response else {}),
        _udd={"operation": declared},
    )(handler)


def _bound(descriptor: Any) -> Bound:
    declared = descriptor.udd["operation"]
    request, response = _message(descriptor.in_message, declared.open_request), _message(descriptor.out_message)
    return Bound(declared, request, response, _tag(response), descriptor.function)


def _tag(message: type[Struct]) -> str:
    return f"{{{message.get_namespace()}}}{message.get_type_name()}"


def _message(produced: Any, open_: bool = False) -> type[Struct]:
    """A Struct with the members of the message class that spyne produced; its plan is compiled to find mistakes."""
    members: dict[str, Any] = {"__namespace__": produced.get_namespace(), "__type_name__": produced.get_type_name()}
    if open_:
        members["__open__"] = Open.ELEMENTS
    metaclass: Any = type(Struct)
    message: type[Struct] = metaclass(produced.get_type_name(), (Struct,), {**members, **produced._type_info})
    plan_of(message)
    return message
