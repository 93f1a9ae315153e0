"""Receivers (IEC 62676-2-32 clause 10)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit, urlunsplit

from nvr.model.extension import Extensions
from nvr.model.tokens import ReceiverToken


class ReceiverMode(StrEnum):
    """tt:ReceiverMode. Unknown is for future use and never set (10.1)."""

    AUTO_CONNECT = "AutoConnect"
    ALWAYS_CONNECT = "AlwaysConnect"
    NEVER_CONNECT = "NeverConnect"
    UNKNOWN = "Unknown"


class ReceiverState(StrEnum):
    """tt:ReceiverState."""

    NOT_CONNECTED = "NotConnected"
    CONNECTING = "Connecting"
    CONNECTED = "Connected"
    UNKNOWN = "Unknown"


class StreamType(StrEnum):
    """tt:StreamType."""

    RTP_UNICAST = "RTP-Unicast"
    RTP_MULTICAST = "RTP-Multicast"


class TransportProtocol(StrEnum):
    """tt:TransportProtocol. RTSP is RTP interleaved on the RTSP connection; TCP is deprecated and unused."""

    UDP = "UDP"
    TCP = "TCP"
    RTSP = "RTSP"
    HTTP = "HTTP"


@dataclass(frozen=True, slots=True)
class StreamSetup:
    """tt:StreamSetup. A nested tunnel, which nothing uses, is kept as an extension."""

    stream: StreamType = StreamType.RTP_UNICAST
    protocol: TransportProtocol = TransportProtocol.UDP


@dataclass(frozen=True, slots=True)
class ReceiverConfiguration:
    """tt:ReceiverConfiguration. An empty `media_uri` means not configured yet: nothing is connected (5.1)."""

    mode: ReceiverMode = ReceiverMode.AUTO_CONNECT
    media_uri: str = field(default="", repr=False)
    """It may hold the camera's password."""
    stream_setup: StreamSetup = StreamSetup()
    extensions: Extensions = field(default=(), repr=False)
    """Also those of `StreamSetup`. A vendor may have put a password into them, too."""

    @property
    def public_uri(self) -> str:
        """The media URI without user, password and query, in which some cameras take a password."""
        parts = urlsplit(self.media_uri)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


@dataclass(frozen=True, slots=True)
class Receiver:
    token: ReceiverToken
    configuration: ReceiverConfiguration
    auto_created: bool = False

    @property
    def may_connect(self) -> bool:
        """Such a receiver is a channel of the device: the media service shows it as a profile with the same token."""
        return bool(self.configuration.media_uri) and self.configuration.mode is not ReceiverMode.NEVER_CONNECT


@dataclass(frozen=True, slots=True)
class Reception:
    """How a receiver at work fares beside its state."""

    transport: TransportProtocol | None = None
    """How media come while it is connected."""
    remark: str | None = None
    """One sentence where that is not what its StreamSetup asks for."""
    next_attempt_ns: int | None = None
    """So long until it tries to connect again; None where it does not wait."""
