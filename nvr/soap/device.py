"""The device service (ONVIF Core 8, devicemgmt.wsdl): what the device is and which services it has.

Its other operations stand in `device_users`, `device_discovery`, `device_network` and `device_system`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import UUID

import nvr
from nvr.auth.users import MAX_NAME, MAX_PASSWORD, MAX_USERS, UserStore
from nvr.control.device import DeviceMemory
from nvr.control.host_rules import NetworkProtocol
from nvr.model.time import UtcNs
from nvr.soap import device_types as types
from nvr.soap.device_discovery import DiscoveryOperations
from nvr.soap.device_network import NetworkOperations
from nvr.soap.device_system import System, SystemOperations
from nvr.soap.device_users import UserOperations
from nvr.soap.faults import NoSuchService
from nvr.soap.host import clock_is_synchronised, posix_time_zone
from nvr.soap.host_network import HostNetwork
from nvr.soap.model import Boolean, Foreign, String, many, required
from nvr.soap.names import TDS, TEV, TRC, TRP, TRT, TRV, TSE
from nvr.soap.service import AccessClass, Call, Result, Service, operation

MAX_STRING_LENGTH = 4096
"""tt:RecordingCapabilities/MaxStringLength: free text of this many characters is always taken."""

SCOPE_ROOT = "onvif://www.onvif.org/"

NOT_IMPLEMENTED = frozenset(
    """
    AddIPAddressFilter CreateCertificate CreateDot1XConfiguration CreateStorageConfiguration DeleteCertificates
    DeleteDot1XConfiguration DeleteGeoLocation DeleteStorageConfiguration DeleteUserRole GetAccessPolicy
    GetAuthFailureWarningConfiguration GetAuthFailureWarningOptions GetCACertificates GetCertificateInformation
    GetCertificates GetCertificatesStatus GetClientCertificateMode GetDPAddresses GetDot11Capabilities
    GetDot11Status GetDot1XConfiguration GetDot1XConfigurations GetDynamicDNS GetGeoLocation GetIPAddressFilter
    GetPasswordComplexityConfiguration GetPasswordComplexityOptions GetPasswordHistoryConfiguration GetPkcs10Request
    GetRelayOutputs GetRemoteDiscoveryMode GetRemoteUser GetStorageConfiguration GetStorageConfigurations
    GetSystemBackup GetSystemLog GetSystemSupportInformation GetSystemUris GetUserRoles GetZeroConfiguration
    LoadCACertificates LoadCertificateWithPrivateKey LoadCertificates RemoveIPAddressFilter RestoreSystem
    ScanAvailableDot11Networks SendAuxiliaryCommand SetAccessPolicy SetAuthFailureWarningConfiguration
    SetCertificatesStatus SetClientCertificateMode SetDPAddresses SetDot1XConfiguration SetDynamicDNS SetGeoLocation
    SetHashingAlgorithm SetHostnameFromDHCP SetIPAddressFilter SetPasswordComplexityConfiguration
    SetPasswordHistoryConfiguration SetRelayOutputSettings SetRelayOutputState SetRemoteDiscoveryMode SetRemoteUser
    SetStorageConfiguration SetUserRole SetZeroConfiguration StartFirmwareUpgrade StartSystemRestore UpgradeFirmware
    UpgradeSystemFirmware
    """.split()  # noqa: SIM905  a list of quoted words would fill a page
)
"""The rest of devicemgmt.wsdl, edition 26.06."""


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """What the device says of itself in GetDeviceInformation and in its scopes."""

    name: str = "Network video recorder"
    location: str = ""
    """Empty: no location scope."""
    manufacturer: str = "nvr"
    model: str = "nvr"
    hardware: str = platform.machine() or "unknown"
    allow_hard_default: bool = False
    """Whether SetSystemFactoryDefault may be Hard: all recordings with their footage, and all accounts but one, go."""


class DeviceService(UserOperations, DiscoveryOperations, NetworkOperations, SystemOperations, Service):
    namespace = TDS
    path = "/onvif/device_service"
    contract = "devicemgmt.wsdl"
    not_implemented = NOT_IMPLEMENTED

    def __init__(
        self,
        settings: DeviceSettings,
        serial_number: str,
        services: Sequence[Service],
        clock: Callable[[], UtcNs],
        *,
        users: UserStore,
        memory: DeviceMemory,
        endpoint: UUID,
        system: System,
        protocols: Callable[[], Sequence[NetworkProtocol]],
        discovery: bool = False,
        ip_version6: bool = False,
        tls: bool = False,
        hashing_algorithms: Sequence[str] = ("MD5",),
        network: HostNetwork | None = None,
        synchronised: Callable[[], bool] = clock_is_synchronised,
        time_zone: Callable[[], str] = posix_time_zone,
    ) -> None:
        """`services` are the others of the device; `serial_number` and `endpoint` stay the same for one data directory.

        `protocols` tells where the recorder listens; `discovery`, whether it answers to WS-Discovery at all;
        `ip_version6`, whether it can be reached over IPv6. `synchronised` and `time_zone` tell of the host's clock; the
        zone is asked once, as the process keeps it.
        """
        self._users = users
        self._memory = memory
        self._endpoint = endpoint
        self._system = system
        self._protocols = protocols
        self._discovery = discovery
        self._ip_version6 = ip_version6
        self._network = network or HostNetwork()
        self._settings = settings
        self._serial_number = serial_number
        self._services = (self, *services)
        self._clock = clock
        self._tls = tls
        self._hashing_algorithms = tuple(hashing_algorithms)
        self._synchronised = synchronised
        self._time_zone = time_zone()

    def capabilities(self) -> types.DeviceServiceCapabilities:
        no: Any = False
        return types.DeviceServiceCapabilities(
            Network=types.NetworkFeatures(
                IPFilter=no,
                ZeroConfiguration=no,
                IPVersion6=self._ip_version6,
                DynDNS=no,
                Dot11Configuration=no,
                Dot1XConfigurations=0,
                HostnameFromDHCP=no,
                NTP=0,
                DHCPv6=no,
            ),
            Security=types.SecurityFeatures(
                TLS10=no,
                TLS11=no,
                TLS12=self._tls,
                OnboardKeyGeneration=no,
                AccessPolicyConfig=no,
                DefaultAccessPolicy=True,
                Dot1X=no,
                RemoteUserHandling=no,
                X509Token=no,
                SAMLToken=no,
                KerberosToken=no,
                UsernameToken=True,
                HttpDigest=True,
                RELToken=no,
                JsonWebToken=no,
                MaxUsers=MAX_USERS,
                MaxUserNameLength=MAX_NAME,
                MaxPasswordLength=MAX_PASSWORD,
                HashingAlgorithms=self._hashing_algorithms,
            ),
            System=types.SystemFeatures(
                DiscoveryResolve=self._discovery,
                DiscoveryBye=self._discovery,
                RemoteDiscovery=no,
                SystemBackup=no,
                SystemLogging=no,
                HttpFirmwareUpgrade=no,
                HttpSystemBackup=no,
                HttpSystemLogging=no,
                HttpSupportInformation=no,
                StorageConfiguration=no,
                DiscoveryNotSupported=not self._discovery,
                NetworkConfigNotSupported=True,
                UserConfigNotSupported=no,
            ),
        )

    @operation(
        "GetServices",
        AccessClass.PRE_AUTH,
        request={"IncludeCapability": required(Boolean)},
        response={"Service": many(types.ServiceEntry, at_least=1)},
    )
    def get_services(self, call: Call) -> Result:
        return {"Service": [_entry(s, call, call.request.IncludeCapability) for s in self._services]}

    @operation(
        "GetServiceCapabilities",
        AccessClass.PRE_AUTH,
        response={"Capabilities": required(types.DeviceServiceCapabilities)},
    )
    def get_service_capabilities(self, call: Call) -> Result:
        return {"Capabilities": self.capabilities()}

    @operation(
        "GetCapabilities",
        AccessClass.PRE_AUTH,
        request={"Category": many(types.CapabilityCategory)},
        response={"Capabilities": required(types.Capabilities)},
    )
    def get_capabilities(self, call: Call) -> Result:
        wanted = set(call.request.Category) or {"All"}
        events = next((s for s in self._services if s.namespace == TEV), None)
        media = next((s for s in self._services if s.namespace == TRT), None)
        there = {name for name, service in (("Events", events), ("Media", media)) if service is not None}
        missing = wanted - {"All", "Device"} - there
        if missing:
            raise NoSuchService(f"the device has no service for {', '.join(sorted(missing))}")
        capabilities = types.Capabilities()
        if not wanted.isdisjoint({"All", "Device"}):
            capabilities.Device = self._device_capabilities(call)
        if events is not None and not wanted.isdisjoint({"All", "Events"}):
            capabilities.Events = _event_capabilities(events, call)
        if media is not None and not wanted.isdisjoint({"All", "Media"}):
            capabilities.Media = _media_capabilities(media, call)
        if "All" in wanted:
            capabilities.Extension = _extension(self._services, call)
        return {"Capabilities": capabilities}

    @operation(
        "GetDeviceInformation",
        AccessClass.READ_SYSTEM,
        response={
            "Manufacturer": required(String),
            "Model": required(String),
            "FirmwareVersion": required(String),
            "SerialNumber": required(String),
            "HardwareId": required(String),
        },
    )
    def get_device_information(self, call: Call) -> Result:
        return {
            "Manufacturer": self._settings.manufacturer,
            "Model": self._settings.model,
            "FirmwareVersion": nvr.__version__,
            "SerialNumber": self._serial_number,
            "HardwareId": self._settings.hardware,
        }

    def _device_capabilities(self, call: Call) -> types.DeviceCapabilities:
        major, minor = self.version
        return types.DeviceCapabilities(
            XAddr=_address(self, call),
            Network=types.NetworkCapabilities(
                IPFilter=False, ZeroConfiguration=False, IPVersion6=self._ip_version6, DynDNS=False
            ),
            System=types.SystemCapabilities(
                DiscoveryResolve=self._discovery,
                DiscoveryBye=self._discovery,
                RemoteDiscovery=False,
                SystemBackup=False,
                SystemLogging=False,
                FirmwareUpgrade=False,
                SupportedVersions=[types.OnvifVersion(Major=major, Minor=minor)],
            ),
            IO=types.IOCapabilities(InputConnectors=0, RelayOutputs=0),
            Security=types.SecurityCapabilities(
                TLS11=False,
                TLS12=self._tls,
                OnboardKeyGeneration=False,
                AccessPolicyConfig=False,
                X509Token=False,
                SAMLToken=False,
                KerberosToken=False,
                RELToken=False,
            ),
        )


def fixed_scopes(settings: DeviceSettings) -> tuple[str, ...]:
    """The scopes that follow from the settings.

    Values are percent-encoded (RFC 3986 2.1), slashes too: each is one path segment.
    """
    named = {"hardware": settings.hardware, "name": settings.name, "location": settings.location}
    parts = [f"{SCOPE_ROOT}{key}/{quote(value, safe='')}" for key, value in named.items() if value]
    return (f"{SCOPE_ROOT}Profile/G", *parts)


def _address(service: Service, call: Call) -> str:
    return call.origin + service.path


def _entry(service: Service, call: Call, with_capabilities: bool) -> types.ServiceEntry:
    major, minor = service.version
    entry = types.ServiceEntry(
        Namespace=service.namespace,
        XAddr=_address(service, call),
        Version=types.OnvifVersion(Major=major, Minor=minor),
    )
    if with_capabilities:
        element = Foreign(f"{{{service.namespace}}}Capabilities", service.capabilities())
        entry.Capabilities = types.AnyCapabilities(any_elements=(element,))
    return entry


def _event_capabilities(service: Service, call: Call) -> types.EventCapabilities:
    told: Any = service.capabilities()
    return types.EventCapabilities(
        XAddr=_address(service, call),
        WSSubscriptionPolicySupport=told.WSSubscriptionPolicySupport,
        WSPullPointSupport=told.WSPullPointSupport,
        WSPausableSubscriptionManagerInterfaceSupport=told.WSPausableSubscriptionManagerInterfaceSupport,
    )


def _media_capabilities(service: Service, call: Call) -> types.MediaCapabilities:
    told: Any = service.capabilities()
    streaming = told.StreamingCapabilities
    maximum = types.ProfileCapabilities(MaximumNumberOfProfiles=told.ProfileCapabilities.MaximumNumberOfProfiles)
    return types.MediaCapabilities(
        XAddr=_address(service, call),
        StreamingCapabilities=types.RealTimeStreamingCapabilities(
            RTPMulticast=streaming.RTPMulticast, RTP_TCP=streaming.RTP_TCP, RTP_RTSP_TCP=streaming.RTP_RTSP_TCP
        ),
        Extension=types.MediaCapabilitiesExtension(ProfileCapabilities=maximum),
    )


def _extension(services: Sequence[Service], call: Call) -> types.CapabilitiesExtension:
    """The older form of the services' capabilities, made from what each says of itself."""
    extension = types.CapabilitiesExtension()
    for service in services:
        told: Any = service.capabilities()
        address = _address(service, call)
        if service.namespace == TRC:
            extension.Recording = types.RecordingCapabilities(
                XAddr=address,
                ReceiverSource=any(s.namespace == TRV for s in services),
                MediaProfileSource=False,
                DynamicRecordings=bool(told.DynamicRecordings),
                DynamicTracks=bool(told.DynamicTracks),
                MaxStringLength=MAX_STRING_LENGTH,
            )
        elif service.namespace == TSE:
            extension.Search = types.SearchCapabilities(XAddr=address, MetadataSearch=bool(told.MetadataSearch))
        elif service.namespace == TRP:
            extension.Replay = types.ReplayCapabilities(XAddr=address)
        elif service.namespace == TRV:
            extension.Receiver = types.ReceiverCapabilities(
                XAddr=address,
                RTP_Multicast=bool(told.RTP_Multicast),
                RTP_TCP=bool(told.RTP_TCP),
                RTP_RTSP_TCP=bool(told.RTP_RTSP_TCP),
                SupportedReceivers=told.SupportedReceivers,
                MaximumRTSPURILength=told.MaximumRTSPURILength or 0,
            )
    return extension
