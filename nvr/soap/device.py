"""The device service (ONVIF Core 8, devicemgmt.wsdl): what the device is, which services it has, what time it is."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import nvr
from nvr.auth.users import MAX_NAME, MAX_PASSWORD, MAX_USERS
from nvr.model.time import NS, UtcNs
from nvr.soap import device_types as types
from nvr.soap.faults import NoSuchService
from nvr.soap.host import clock_is_synchronised, posix_time_zone
from nvr.soap.model import Boolean, Foreign, String, many, required
from nvr.soap.names import TDS, TRC, TRP, TRV, TSE
from nvr.soap.service import AccessClass, Call, Result, Service, operation

MAX_STRING_LENGTH = 4096
"""tt:RecordingCapabilities/MaxStringLength: free text of this many characters is always taken."""

SCOPE_ROOT = "onvif://www.onvif.org/"

NOT_IMPLEMENTED = frozenset(
    """
    AddIPAddressFilter AddScopes CreateCertificate CreateDot1XConfiguration CreateStorageConfiguration CreateUsers
    DeleteCertificates DeleteDot1XConfiguration DeleteGeoLocation DeleteStorageConfiguration DeleteUserRole DeleteUsers
    GetAccessPolicy GetAuthFailureWarningConfiguration GetAuthFailureWarningOptions GetCACertificates
    GetCertificateInformation GetCertificates GetCertificatesStatus GetClientCertificateMode GetDNS GetDPAddresses
    GetDiscoveryMode GetDot11Capabilities GetDot11Status GetDot1XConfiguration GetDot1XConfigurations GetDynamicDNS
    GetEndpointReference GetGeoLocation GetHostname GetIPAddressFilter GetNTP GetNetworkDefaultGateway
    GetNetworkInterfaces GetNetworkProtocols GetPasswordComplexityConfiguration GetPasswordComplexityOptions
    GetPasswordHistoryConfiguration GetPkcs10Request GetRelayOutputs GetRemoteDiscoveryMode GetRemoteUser
    GetStorageConfiguration GetStorageConfigurations GetSystemBackup GetSystemLog GetSystemSupportInformation
    GetSystemUris GetUserRoles GetUsers GetWsdlUrl GetZeroConfiguration LoadCACertificates
    LoadCertificateWithPrivateKey LoadCertificates RemoveIPAddressFilter RemoveScopes RestoreSystem
    ScanAvailableDot11Networks SendAuxiliaryCommand SetAccessPolicy SetAuthFailureWarningConfiguration
    SetCertificatesStatus SetClientCertificateMode SetDNS SetDPAddresses SetDiscoveryMode SetDot1XConfiguration
    SetDynamicDNS SetGeoLocation SetHashingAlgorithm SetHostname SetHostnameFromDHCP SetIPAddressFilter SetNTP
    SetNetworkDefaultGateway SetNetworkInterfaces SetNetworkProtocols SetPasswordComplexityConfiguration
    SetPasswordHistoryConfiguration SetRelayOutputSettings SetRelayOutputState SetRemoteDiscoveryMode SetRemoteUser
    SetScopes SetStorageConfiguration SetSystemDateAndTime SetSystemFactoryDefault SetUser SetUserRole
    SetZeroConfiguration StartFirmwareUpgrade StartSystemRestore SystemReboot UpgradeFirmware UpgradeSystemFirmware
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


class DeviceService(Service):
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
        tls: bool = False,
        hashing_algorithms: Sequence[str] = ("MD5",),
        synchronised: Callable[[], bool] = clock_is_synchronised,
        time_zone: Callable[[], str] = posix_time_zone,
    ) -> None:
        """`services` are the others of the device; `serial_number` stays the same for one data directory.

        `synchronised` and `time_zone` tell of the host's clock; the zone is asked once, as the process keeps it.
        """
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
                IPVersion6=no,
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
                DiscoveryResolve=no,
                DiscoveryBye=no,
                RemoteDiscovery=no,
                SystemBackup=no,
                SystemLogging=no,
                HttpFirmwareUpgrade=no,
                HttpSystemBackup=no,
                HttpSystemLogging=no,
                HttpSupportInformation=no,
                StorageConfiguration=no,
                DiscoveryNotSupported=True,
                NetworkConfigNotSupported=True,
                UserConfigNotSupported=True,
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
        missing = wanted - {"All", "Device"}
        if missing:
            raise NoSuchService(f"the device has no service for {', '.join(sorted(missing))}")
        capabilities = types.Capabilities(Device=self._device_capabilities(call))
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

    @operation(
        "GetSystemDateAndTime", AccessClass.PRE_AUTH, response={"SystemDateAndTime": required(types.SystemDateTime)}
    )
    def get_system_date_and_time(self, call: Call) -> Result:
        now_s = self._clock() // NS
        local = time.localtime(now_s)
        return {
            "SystemDateAndTime": types.SystemDateTime(
                DateTimeType="NTP" if self._synchronised() else "Manual",
                DaylightSavings=local.tm_isdst > 0,
                TimeZone=types.TimeZone(TZ=self._time_zone),
                UTCDateTime=_date_time(time.gmtime(now_s)),
                LocalDateTime=_date_time(local),
            )
        }

    @operation("GetScopes", AccessClass.READ_SYSTEM, response={"Scopes": many(types.Scope, at_least=1)})
    def get_scopes(self, call: Call) -> Result:
        return {"Scopes": [types.Scope(ScopeDef="Fixed", ScopeItem=scope) for scope in scopes(self._settings)]}

    def _device_capabilities(self, call: Call) -> types.DeviceCapabilities:
        major, minor = self.version
        return types.DeviceCapabilities(
            XAddr=_address(self, call),
            Network=types.NetworkCapabilities(IPFilter=False, ZeroConfiguration=False, IPVersion6=False, DynDNS=False),
            System=types.SystemCapabilities(
                DiscoveryResolve=False,
                DiscoveryBye=False,
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


def scopes(settings: DeviceSettings) -> tuple[str, ...]:
    """The scopes of the device; values are percent-encoded (RFC 3986 2.1), slashes too: each is one path segment."""
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


def _date_time(moment: time.struct_time) -> types.DateTime:
    return types.DateTime(
        Time=types.Time(Hour=moment.tm_hour, Minute=moment.tm_min, Second=moment.tm_sec),
        Date=types.Date(Year=moment.tm_year, Month=moment.tm_mon, Day=moment.tm_mday),
    )
