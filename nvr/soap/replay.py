"""The replay control service (IEC 62676-2-32 clause 7); the replay itself is RTSP's, in nvr/replay/."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from nvr.control.recordings import RecordingControl
from nvr.model.errors import BadConfiguration
from nvr.model.receiver import StreamSetup, StreamType, TransportProtocol
from nvr.model.tokens import RecordingToken
from nvr.soap import types
from nvr.soap.model import AnyURI, Boolean, FloatList, ReferenceToken, Struct, attribute, required
from nvr.soap.names import TRP
from nvr.soap.receiver import decode_stream_setup
from nvr.soap.service import AccessClass, Call, Result, Service, operation


@dataclass(frozen=True, slots=True)
class RtspAddress:
    """Where clients reach the RTSP server.

    `port` is the port it listens on. `public` is HOST or HOST:PORT as clients see it, IPv6 in brackets, for a device
    behind a translation of addresses; without it the host is the one by which the client reached this service.
    """

    port: int
    public: str | None = None

    def uri(self, path: str, host: str) -> str:
        """An rtsp URI; `host` is that of the request, in brackets for IPv6."""
        authority = self.public or host
        has_port = ":" in authority.rpartition("]")[2]
        return f"rtsp://{authority}{'' if has_port else f':{self.port}'}{quote(path)}"


class Capabilities(Struct):
    __namespace__ = TRP
    __open__ = True

    ReversePlayback = attribute(Boolean)
    SessionTimeoutRange = attribute(FloatList)
    RTP_RTSP_TCP = attribute(Boolean)
    RTSPWebSocketUri = attribute(AnyURI)


class ReplayService(Service):
    namespace = TRP
    path = "/onvif/replay_service"
    contract = "replay.wsdl"
    not_implemented = frozenset({"GetReplayConfiguration", "SetReplayConfiguration"})

    def __init__(
        self,
        control: RecordingControl,
        address: RtspAddress,
        transports: frozenset[TransportProtocol] = frozenset({TransportProtocol.RTSP}),
    ) -> None:
        """`transports` are those that the RTSP server speaks."""
        self._control = control
        self._address = address
        self._transports = transports

    def capabilities(self) -> Capabilities:
        """An absent SessionTimeoutRange means the time-out of RTSP, 60 s; an absent RTSPWebSocketUri no such tunnel."""
        return Capabilities(ReversePlayback=False, RTP_RTSP_TCP=TransportProtocol.RTSP in self._transports)

    @operation("GetServiceCapabilities", AccessClass.PRE_AUTH, response={"Capabilities": required(Capabilities)})
    def get_service_capabilities(self, _: Call) -> Result:
        return {"Capabilities": self.capabilities()}

    @operation(
        "GetReplayUri",
        AccessClass.READ_MEDIA,
        request={"StreamSetup": required(types.StreamSetup), "RecordingToken": required(ReferenceToken)},
        response={"Uri": required(AnyURI)},
    )
    def get_replay_uri(self, call: Call) -> Result:
        self._check(decode_stream_setup(call.request.StreamSetup))
        recording = self._control.recording(RecordingToken(call.request.RecordingToken))
        return {"Uri": self._address.uri(f"/replay/{recording.token}", call.host)}

    def _check(self, setup: StreamSetup) -> None:
        """Raises BadConfiguration, which is InvalidStreamSetup in this service (7.1)."""
        if setup.stream is not StreamType.RTP_UNICAST:
            raise BadConfiguration(f"recordings are not replayed by {setup.stream}")
        if setup.protocol not in self._transports:
            spoken = ", ".join(sorted(self._transports))
            raise BadConfiguration(f"recordings are not replayed over {setup.protocol}, but over {spoken}")
