"""Random damage to requests, for as long as one likes: `python -m tests.soap.fuzz [seconds]`.

Requests of every operation of the device are cut, spliced and changed at random; each must be answered with a result or
with a fault that the official schema accepts, never with an internal error.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time

from nvr.soap.protocol import Request, Soap
from tests.support.official_schema import validate_response
from tests.support.soap_http import DEVICE, SimulatedClock, a_soap, envelope

SEEDS = (
    envelope("<tds:GetServices><tds:IncludeCapability>true</tds:IncludeCapability></tds:GetServices>"),
    envelope("<tds:GetCapabilities><tds:Category>All</tds:Category></tds:GetCapabilities>"),
    envelope("<tds:GetSystemDateAndTime/>", '<x:H xmlns:x="urn:x" env:mustUnderstand="0"/>'),
)
WORDS = (b"<", b">", b"&", b"]]>", b"<![CDATA[", b"<!DOCTYPE x>", b"\x00", b"\xff", b"&#0;", b'xsi:nil="1"', b"<tt:a/>")
ATTRIBUTES = " ".join(f'a{i}=""' for i in range(20_000))
CROWDED = (
    envelope(f"<tds:GetSystemDateAndTime {ATTRIBUTES}/>"),
    envelope("<tds:GetHostname>" + "<tt:a/>" * 20_000 + "</tds:GetHostname>"),
    envelope("<tds:GetSystemDateAndTime/>", "<tt:a/>" * 20_000),
)
"""Taken now and then, as they are long."""


def damaged(rng: random.Random) -> bytes:
    data = bytearray(rng.choice(CROWDED if rng.random() < 0.01 else SEEDS))
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(4):
            case 0:
                data[at : at + rng.randint(1, 20)] = b""
            case 1:
                data[at:at] = rng.choice(WORDS)
            case 2:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case _:
                data[at:at] = data[rng.randrange(len(data) + 1) :][: rng.randint(1, 60)]
        if not data:
            break
    return bytes(data)


async def once(soap: Soap, data: bytes) -> str:
    """The outcome. Raises AssertionError for an answer that is none."""
    answer = await soap.answer(
        DEVICE, Request("POST", DEVICE, "application/soap+xml", "Digest x", "http://h", "h", "fuzz", data)
    )
    validate_response(answer.body)
    assert b"ter:Action<" not in answer.body, data
    return str(answer.status)


async def main(seconds: float) -> None:
    logging.disable(logging.WARNING)
    soap, rng = a_soap(SimulatedClock()), random.Random()
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        data = damaged(rng)
        try:
            await once(soap, data)
        except BaseException:
            print(f"failing request: {data!r}", file=sys.stderr)
            raise
        count += 1
    print(f"{count} requests, no failure")


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60))
