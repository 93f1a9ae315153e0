"""Where the RTSP server is, as a client of the web services sees it, and by which transports it sends media."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nvr.model.errors import BadConfiguration, LimitReached
from nvr.model.receiver import StreamSetup, StreamType, TransportProtocol
from nvr.soap.service import Call

TRANSPORTS = frozenset({TransportProtocol.UDP, TransportProtocol.RTSP, TransportProtocol.HTTP})


class UdpPorts(Protocol):
    """What the streams that are sent by UDP share."""

    @property
    def taken(self) -> int: ...

    @property
    def maximum(self) -> int: ...


@dataclass(frozen=True, slots=True)
class RtspAddress:
    """URIs name the host by which the client reached the service, and the ports of the listeners.

    A client that came over HTTPS gets rtsps, where there is such a listener: who has asked for secrecy shall not get
    footage in the clear. Without one it gets rtsp, as every other client does; so does who asks for UDP, which has no
    secrecy here. For HTTP the URI is that of the tunnel: scheme, host and port by which the service was reached, so
    that what lets the one through lets the other through (IEC 62676-2-32 7.1; ONVIF Media GetStreamUri).
    `public` and `public_tls` (HOST or HOST:PORT, IPv6 in brackets) replace host and port behind a translation of
    addresses. Where `public` names a port, `public_tls` has to be given for rtsps: its port cannot be guessed.
    """

    port: int
    tls_port: int | None = None
    public: str | None = None
    public_tls: str | None = None
    transports: frozenset[TransportProtocol] = TRANSPORTS
    """Those that the RTSP server speaks."""
    udp: UdpPorts | None = None

    def check(self, setup: StreamSetup) -> None:
        """Raises BadConfiguration for a stream type or transport that is not served, LimitReached (`UDP stream`) where
        other streams have taken what it needs.
        """
        if setup.stream is not StreamType.RTP_UNICAST:
            raise BadConfiguration(f"streams are sent as RTP-Unicast, not as {setup.stream}")
        if setup.protocol not in self.transports:
            spoken = ", ".join(sorted(self.transports))
            raise BadConfiguration(f"streams are not sent over {setup.protocol}, but over {spoken}")
        if setup.protocol is TransportProtocol.UDP and self.udp is not None and self.udp.taken >= self.udp.maximum:
            raise LimitReached("UDP stream", self.udp.maximum)

    def uri(self, call: Call, path: str, protocol: TransportProtocol = TransportProtocol.RTSP) -> str:
        """The URI of a path, which begins with a slash."""
        if protocol is TransportProtocol.HTTP:
            return call.origin + path
        if call.origin.startswith("https:") and protocol is not TransportProtocol.UDP:
            authority = self._tls_authority(call.host)
            if authority is not None:
                return f"rtsps://{authority}{path}"
        return f"rtsp://{_with_port(self.public or call.host, self.port)}{path}"

    def _tls_authority(self, host: str) -> str | None:
        if self.tls_port is None:
            return None
        if self.public_tls is not None:
            return _with_port(self.public_tls, self.tls_port)
        if self.public is not None and _has_port(self.public):
            return None
        return _with_port(self.public or host, self.tls_port)


def _has_port(authority: str) -> bool:
    return ":" in authority.rpartition("]")[2]


def _with_port(authority: str, port: int) -> str:
    return authority if _has_port(authority) else f"{authority}:{port}"
