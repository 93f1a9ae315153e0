"""Transport (RFC 2326 12.39): several specifications in a request, one in an answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nvr.model.errors import FormatError

PortPair = tuple[int, int]

_PAIR = re.compile(r"\s*(\d{1,5})\s*(?:-\s*(\d{1,5})\s*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TransportSpec:
    """One transport-spec. Pairs are (RTP, RTCP); a single number n is read as (n, n + 1)."""

    protocol: str = "RTP/AVP"
    """Profile and lower transport in upper case; `RTP/AVP/UDP` is `RTP/AVP`."""
    unicast: bool = True
    interleaved: PortPair | None = None
    """Channels, 0 to 255."""
    client_port: PortPair | None = None
    server_port: PortPair | None = None
    port: PortPair | None = None
    """Of a multicast group."""
    ssrc: int | None = None
    mode: str | None = None
    """In upper case and without quotes: PLAY where a header says nothing else."""
    destination: str | None = None
    source: str | None = None
    ttl: int | None = None
    other: tuple[str, ...] = ()
    """Parameters without meaning here (append, layers ...), as written."""

    @property
    def tcp(self) -> bool:
        """Whether RTP travels in the RTSP connection (RFC 2326 10.12)."""
        return self.protocol.endswith("/TCP")

    def __str__(self) -> str:
        parts = [self.protocol, "unicast" if self.unicast else "multicast"]
        if self.destination is not None:
            parts.append(f"destination={self.destination}")
        if self.source is not None:
            parts.append(f"source={self.source}")
        for name, pair in (
            ("interleaved", self.interleaved),
            ("port", self.port),
            ("client_port", self.client_port),
            ("server_port", self.server_port),
        ):
            if pair is not None:
                parts.append(f"{name}={pair[0]}-{pair[1]}")
        if self.ttl is not None:
            parts.append(f"ttl={self.ttl}")
        if self.ssrc is not None:
            parts.append(f"ssrc={self.ssrc:08X}")
        if self.mode is not None:
            parts.append(f'mode="{self.mode}"')
        return ";".join((*parts, *self.other))


def parse_transport(value: str) -> tuple[TransportSpec, ...]:
    """The specifications in order of preference. Raises FormatError where one of them is malformed or there is none."""
    specs = tuple(_spec(part) for part in _split(value, ",") if part.strip())
    if not specs:
        raise FormatError("a Transport header is empty")
    return specs


def format_transport(specs: tuple[TransportSpec, ...]) -> str:
    return ",".join(map(str, specs))


def _split(value: str, separator: str) -> list[str]:
    """Split outside quoted strings; mode="PLAY,RECORD" holds a comma."""
    parts, quoted, start = [], False, 0
    for i, c in enumerate(value):
        if c == '"':
            quoted = not quoted
        elif c == separator and not quoted:
            parts.append(value[start:i])
            start = i + 1
    return [*parts, value[start:]]


def _spec(text: str) -> TransportSpec:
    protocol, *parameters = (p.strip() for p in _split(text, ";"))
    protocol = protocol.upper().removesuffix("/UDP")
    if not re.fullmatch(r"[A-Z0-9-]+/[A-Z0-9-]+(/[A-Z0-9-]+)?", protocol):
        raise FormatError(f"{text.strip()[:80]!r} is no transport")
    unicast: bool | None = None
    pairs: dict[str, PortPair] = {}
    texts: dict[str, str] = {}
    numbers: dict[str, int] = {}
    other: list[str] = []
    for parameter in parameters:
        name, equals, raw = parameter.partition("=")
        key, value = name.strip().lower(), raw.strip().strip('"').strip()
        if key in ("unicast", "multicast") and not equals:
            unicast = key == "unicast"
        elif key == "interleaved":
            pairs.setdefault(key, _pair(value, key, 0xFF))
        elif key in ("client_port", "server_port", "port"):
            pairs.setdefault(key, _pair(value, key, 0xFFFF))
        elif key == "ssrc":
            # Eight hexadecimal digits; some servers write fewer, or a 0x before them.
            if not re.fullmatch(r"(0[xX])?[0-9A-Fa-f]{1,8}", value):
                raise FormatError(f"ssrc {value[:20]!r} of a transport is no SSRC")
            numbers[key] = int(value, 16)
        elif key == "ttl" and re.fullmatch(r"[0-9]{1,3}", value) and int(value) < 256:
            numbers[key] = int(value)
        elif key in ("mode", "destination", "source") and value:
            texts.setdefault(key, value.upper() if key == "mode" else value)
        elif parameter:
            other.append(parameter)
    if unicast is None:
        # RFC 2326 makes multicast the default; the senders that leave both out mean unicast (ports say so).
        unicast = "port" not in pairs
    return TransportSpec(
        protocol,
        unicast,
        pairs.get("interleaved"),
        pairs.get("client_port"),
        pairs.get("server_port"),
        pairs.get("port"),
        numbers.get("ssrc"),
        texts.get("mode"),
        texts.get("destination"),
        texts.get("source"),
        numbers.get("ttl"),
        tuple(other),
    )


def _pair(value: str, name: str, limit: int) -> PortPair:
    match = _PAIR.fullmatch(value)
    if match is None:
        raise FormatError(f"{name} {value[:20]!r} of a transport is no pair of numbers")
    first = int(match[1])
    second = int(match[2]) if match[2] else first + 1
    if first > limit or second > limit:
        raise FormatError(f"{name} {value[:20]!r} of a transport exceeds {limit}")
    return first, second
