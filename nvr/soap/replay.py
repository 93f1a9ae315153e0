"""The replay control service (IEC 62676-2-32 clause 7); the replay itself is RTSP's, in nvr/replay/."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nvr.control.recordings import RecordingControl
from nvr.control.replay import ReplayConfiguration
from nvr.model.errors import CannotModify
from nvr.model.receiver import TransportProtocol
from nvr.model.time import NS
from nvr.model.tokens import RecordingToken
from nvr.soap import types
from nvr.soap.extensions import extensions_of
from nvr.soap.model import AnyURI, Boolean, FloatList, ReferenceToken, Struct, attribute, required
from nvr.soap.names import TRP
from nvr.soap.receiver import decode_stream_setup
from nvr.soap.rtsp_address import RtspAddress
from nvr.soap.service import AccessClass, Call, Result, Service, operation

_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?::(\d{1,5}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """HOST or HOST:PORT at which clients reach the RTSP server, IPv6 in brackets.

    For a device behind a translation of addresses or ports; without them URIs name the host by which the client
    reached the service, and the port on which the RTSP server listens. See `RtspAddress`.
    """

    public_address: str | None = None
    public_tls_address: str | None = None
    """The same for rtsps, where it is another."""

    def __post_init__(self) -> None:
        for name in ("public_address", "public_tls_address"):
            address = getattr(self, name)
            if address is not None:
                m = _AUTHORITY.fullmatch(address)
                if m is None or (m[1] is not None and not 0 < int(m[1]) < 65536):
                    raise ValueError(f"{name} {address!r} is neither HOST nor HOST:PORT")


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

    def __init__(
        self,
        control: RecordingControl,
        rtsp: RtspAddress,
        configuration: ReplayConfiguration,
        websocket_path: str | None = None,
    ) -> None:
        """Of the RTSP server: where it is, the time-out of its sessions, and where a WebSocket leads to it."""
        self._control = control
        self._rtsp = rtsp
        self._configuration = configuration
        self._websocket_path = websocket_path

    def capabilities(self) -> Capabilities:
        bounds = self._configuration.shortest_ns, self._configuration.longest_ns
        return Capabilities(
            ReversePlayback=True,
            SessionTimeoutRange=tuple(bound / NS for bound in bounds),
            RTP_RTSP_TCP=TransportProtocol.RTSP in self._rtsp.transports,
            RTSPWebSocketUri=None if self._websocket_path is None else f"ws:{self._websocket_path}",
        )

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
        setup = decode_stream_setup(call.request.StreamSetup)
        self._rtsp.check(setup)  # BadConfiguration is InvalidStreamSetup in this service (7.1)
        recording = self._control.recording(RecordingToken(call.request.RecordingToken))
        return {"Uri": self._rtsp.uri(call, f"/replay/{recording.token}", setup.protocol)}

    @operation(
        "GetReplayConfiguration",
        AccessClass.READ_MEDIA,
        response={"Configuration": required(types.ReplayConfiguration)},
    )
    def get_replay_configuration(self, _: Call) -> Result:
        return {"Configuration": types.ReplayConfiguration(SessionTimeout=self._configuration.session_timeout_ns)}

    @operation(
        "SetReplayConfiguration",
        AccessClass.ACTUATE,
        request={"Configuration": required(types.ReplayConfiguration)},
        bad_value=CannotModify,
    )
    async def set_replay_configuration(self, call: Call) -> None:
        """Kept, and in force for the sessions that are set up from now on (7.3)."""
        if extensions_of(call.request.Configuration):
            raise CannotModify("extensions: none can be set")
        await self._configuration.set_session_timeout(call.request.Configuration.SessionTimeout)
