"""The receiver service (IEC 62676-2-32 clause 10)."""

from __future__ import annotations

from nvr.auth.access import Caller
from nvr.control.receivers import Receivers
from nvr.control.state import ControlSettings
from nvr.model.errors import BadConfiguration
from nvr.model.receiver import Receiver, ReceiverConfiguration, ReceiverMode, StreamSetup, TransportProtocol
from nvr.model.tokens import ReceiverToken
from nvr.soap import types
from nvr.soap.extensions import extended, extensions_of
from nvr.soap.model import Boolean, Int, ReferenceToken, Struct, attribute, many, required, words
from nvr.soap.names import TRV
from nvr.soap.service import AccessClass, Call, Result, Service, operation


class Capabilities(Struct):
    __namespace__ = TRV
    __open__ = True

    RTP_Multicast = attribute(Boolean)
    RTP_TCP = attribute(Boolean)
    RTP_RTSP_TCP = attribute(Boolean)
    SupportedReceivers = attribute(Int, use="required")
    MaximumRTSPURILength = attribute(Int)


class ReceiverService(Service):
    namespace = TRV
    path = "/onvif/receiver_service"
    contract = "receiver.wsdl"

    def __init__(self, receivers: Receivers, limits: ControlSettings) -> None:
        self._receivers = receivers
        self._limits = limits

    def capabilities(self) -> Capabilities:
        """RTP_TCP is RTP on a TCP connection of its own (RFC 4571), which nothing sends any more."""
        return Capabilities(
            RTP_Multicast=False,
            RTP_TCP=False,
            RTP_RTSP_TCP=TransportProtocol.RTSP in self._limits.protocols,
            SupportedReceivers=self._limits.receivers,
            MaximumRTSPURILength=self._limits.uri_octets,
        )

    @operation("GetServiceCapabilities", AccessClass.PRE_AUTH, response={"Capabilities": required(Capabilities)})
    def get_service_capabilities(self, _: Call) -> Result:
        return {"Capabilities": self.capabilities()}

    @operation("GetReceivers", AccessClass.READ_MEDIA, response={"Receivers": many(types.Receiver)})
    def get_receivers(self, call: Call) -> Result:
        return {"Receivers": (encode_receiver(r, call.caller) for r in self._receivers.receivers())}

    @operation(
        "GetReceiver",
        AccessClass.READ_MEDIA,
        request={"ReceiverToken": required(ReferenceToken)},
        response={"Receiver": required(types.Receiver)},
    )
    def get_receiver(self, call: Call) -> Result:
        receiver = self._receivers.receiver(ReceiverToken(call.request.ReceiverToken))
        return {"Receiver": encode_receiver(receiver, call.caller)}

    @operation(
        "CreateReceiver",
        AccessClass.ACTUATE,
        request={"Configuration": required(types.ReceiverConfiguration)},
        response={"Receiver": required(types.Receiver)},
        bad_value=BadConfiguration,
    )
    async def create_receiver(self, call: Call) -> Result:
        created = await self._receivers.create(decode_configuration(call.request.Configuration))
        return {"Receiver": encode_receiver(created, call.caller)}

    @operation("DeleteReceiver", AccessClass.ACTUATE, request={"ReceiverToken": required(ReferenceToken)})
    async def delete_receiver(self, call: Call) -> None:
        await self._receivers.delete(ReceiverToken(call.request.ReceiverToken))

    @operation(
        "ConfigureReceiver",
        AccessClass.ACTUATE,
        request={
            "ReceiverToken": required(ReferenceToken),
            "Configuration": required(types.ReceiverConfiguration),
        },
        bad_value=BadConfiguration,
    )
    async def configure_receiver(self, call: Call) -> None:
        configuration = decode_configuration(call.request.Configuration)
        await self._receivers.configure(ReceiverToken(call.request.ReceiverToken), configuration)

    @operation(
        "SetReceiverMode",
        AccessClass.ACTUATE,
        request={"ReceiverToken": required(ReferenceToken), "Mode": required(words(ReceiverMode))},
    )
    async def set_receiver_mode(self, call: Call) -> None:
        await self._receivers.set_mode(ReceiverToken(call.request.ReceiverToken), call.request.Mode)

    @operation(
        "GetReceiverState",
        AccessClass.READ_MEDIA,
        request={"ReceiverToken": required(ReferenceToken)},
        response={"ReceiverState": required(types.ReceiverStateInformation)},
    )
    def get_receiver_state(self, call: Call) -> Result:
        receiver = self._receivers.receiver(ReceiverToken(call.request.ReceiverToken))
        state = types.ReceiverStateInformation(
            State=self._receivers.state(receiver.token), AutoCreated=receiver.auto_created
        )
        return {"ReceiverState": state}


def decode_configuration(wire: types.ReceiverConfiguration) -> ReceiverConfiguration:
    return ReceiverConfiguration(wire.Mode, wire.MediaUri, decode_stream_setup(wire.StreamSetup), extensions_of(wire))


def decode_stream_setup(wire: types.StreamSetup) -> StreamSetup:
    return StreamSetup(wire.Stream, wire.Transport.Protocol)


def encode_receiver(receiver: Receiver, reader: Caller) -> types.Receiver:
    """Whoever may configure receivers reads them as they were set; others without what may hold the camera's
    credentials: those of MediaUri, and extensions.
    """
    configuration = receiver.configuration
    setup = configuration.stream_setup
    whole = reader.may(AccessClass.ACTUATE)
    wire = types.ReceiverConfiguration(
        Mode=configuration.mode,
        MediaUri=configuration.media_uri if whole else configuration.public_uri,
        StreamSetup=types.StreamSetup(Stream=setup.stream, Transport=types.Transport(Protocol=setup.protocol)),
    )
    return types.Receiver(Token=receiver.token, Configuration=extended(wire, configuration.extensions if whole else ()))
