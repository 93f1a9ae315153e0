"""Types and a service made for the tests of the protocol: every shape that a declaration can have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

from nvr.soap.model import (
    NAME,
    Boolean,
    Duration,
    Float,
    FloatList,
    Int,
    ReferenceToken,
    String,
    Struct,
    UtcTime,
    attribute,
    many,
    optional,
    required,
    words,
)
from nvr.soap.names import TEV, TT
from nvr.soap.service import AccessClass, Call, Result, Service, operation

PATH = "/onvif/event_service"
DEFAULT_SPACE = "http://example.org/space"


class Colour(StrEnum):
    RED = "deep-red"
    BLUE = "blue"


class Point(Struct):
    __namespace__ = TT

    x = attribute(Float, use="required")
    Label = attribute(String)
    space = attribute(String, default=DEFAULT_SPACE)


class Item(Struct):
    """Open, as every type of tt: is."""

    __namespace__ = TT

    Name = required(NAME)
    Label = optional(String)
    Colour = optional(words(Colour))
    Point = optional(Point)
    Tag = many(String)
    token = attribute(ReferenceToken)
    dotted = attribute(Boolean, name="TLS1.2")
    list = attribute(FloatList)


class Base(Struct):
    __namespace__ = TT

    Inherited = required(String)


class Derived(Base):
    __namespace__ = TEV

    Own = required(Int)


class Values(Struct):
    __namespace__ = TEV

    Boolean = optional(Boolean)
    Int = optional(Int)
    Float = optional(Float)
    Time = optional(UtcTime)
    Duration = optional(Duration)
    Token = optional(ReferenceToken)


class Capabilities(Struct):
    __namespace__ = TEV
    __open__ = True

    MaxPullPoints = attribute(Int)


class EchoService(Service):
    """Answers what it is asked, fails how it is told, and counts what reaches its handlers."""

    namespace = TEV
    path = PATH
    contract = "devicemgmt.wsdl"
    not_implemented = frozenset({"Later"})

    def __init__(self, failure: Callable[[], Exception] | None = None, items: int = 0) -> None:
        self.failure = failure
        self.items = items
        self.calls: list[Any] = []
        self.users: list[str | None] = []

    def capabilities(self) -> Capabilities:
        return Capabilities(MaxPullPoints=2)

    @operation("GetServiceCapabilities", AccessClass.PRE_AUTH, response={"Capabilities": required(Capabilities)})
    def get_service_capabilities(self, call: Call) -> Result:
        return {"Capabilities": self.capabilities()}

    @operation("Echo", AccessClass.READ_MEDIA, request={"Item": many(Item)}, response={"Item": many(Item)})
    async def echo(self, call: Call) -> Result:
        self.calls.append(call.request)
        self.users.append(call.caller.name)
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure()
        return {"Item": call.request.Item}

    @operation("Write", AccessClass.ACTUATE, request={"Values": required(Values), "Derived": optional(Derived)})
    def write(self, call: Call) -> Result:
        self.calls.append(call.request)
        return None

    @operation("GetMany", AccessClass.READ_MEDIA, response={"Item": many(Item)})
    def get_many(self, call: Call) -> Result:
        def drawn() -> Iterator[Item]:
            for i in range(self.items):
                yield Item(Name=f"Item {i}", Colour=Colour.RED, Point=Point(x=float(i)), Tag=["a", "b & c"], token="t")

        return {"Item": drawn()}
