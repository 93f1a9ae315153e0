"""Types of the device service (devicemgmt.wsdl), and those of the common schema that only it uses.

Types that the daemon never sends are not declared: Analytics, Imaging, PTZ and the like in tt:Capabilities.
"""

from __future__ import annotations

from nvr.soap.model import (
    AnyURI,
    Boolean,
    Int,
    Open,
    String,
    StringAttrList,
    Struct,
    Token,
    attribute,
    list_of,
    many,
    optional,
    required,
    words,
)
from nvr.soap.names import TDS, TT
from nvr.soap.types import Extension


class OnvifVersion(Struct):
    __namespace__ = TT
    __open__ = False

    Major = required(Int)
    Minor = required(Int)


# tds:Service


class AnyCapabilities(Struct):
    """The wrapper around the Capabilities element of a service."""

    __namespace__ = TDS
    __open__ = Open.ELEMENTS


class ServiceEntry(Struct):
    __namespace__ = TDS
    __open__ = True

    Namespace = required(AnyURI)
    XAddr = required(AnyURI)
    Capabilities = optional(AnyCapabilities)
    Version = required(OnvifVersion)


# tds:DeviceServiceCapabilities


class NetworkFeatures(Struct):
    """tds:NetworkCapabilities."""

    __namespace__ = TDS

    IPFilter = attribute(Boolean)
    ZeroConfiguration = attribute(Boolean)
    IPVersion6 = attribute(Boolean)
    DynDNS = attribute(Boolean)
    Dot11Configuration = attribute(Boolean)
    Dot1XConfigurations = attribute(Int)
    HostnameFromDHCP = attribute(Boolean)
    NTP = attribute(Int)
    DHCPv6 = attribute(Boolean)


class SecurityFeatures(Struct):
    """tds:SecurityCapabilities."""

    __namespace__ = TDS

    TLS10 = attribute(Boolean, name="TLS1.0")
    TLS11 = attribute(Boolean, name="TLS1.1")
    TLS12 = attribute(Boolean, name="TLS1.2")
    OnboardKeyGeneration = attribute(Boolean)
    AccessPolicyConfig = attribute(Boolean)
    DefaultAccessPolicy = attribute(Boolean)
    Dot1X = attribute(Boolean)
    RemoteUserHandling = attribute(Boolean)
    X509Token = attribute(Boolean, name="X.509Token")
    SAMLToken = attribute(Boolean)
    KerberosToken = attribute(Boolean)
    UsernameToken = attribute(Boolean)
    HttpDigest = attribute(Boolean)
    RELToken = attribute(Boolean)
    JsonWebToken = attribute(Boolean)
    MaxUsers = attribute(Int)
    MaxUserNameLength = attribute(Int)
    MaxPasswordLength = attribute(Int)
    HashingAlgorithms = attribute(list_of(String))


class SystemFeatures(Struct):
    """tds:SystemCapabilities."""

    __namespace__ = TDS

    DiscoveryResolve = attribute(Boolean)
    DiscoveryBye = attribute(Boolean)
    RemoteDiscovery = attribute(Boolean)
    SystemBackup = attribute(Boolean)
    SystemLogging = attribute(Boolean)
    HttpFirmwareUpgrade = attribute(Boolean)
    HttpSystemBackup = attribute(Boolean)
    HttpSystemLogging = attribute(Boolean)
    HttpSupportInformation = attribute(Boolean)
    StorageConfiguration = attribute(Boolean)
    DiscoveryNotSupported = attribute(Boolean)
    NetworkConfigNotSupported = attribute(Boolean)
    UserConfigNotSupported = attribute(Boolean)
    HardwareType = attribute(String)
    Addons = attribute(StringAttrList)


class DeviceServiceCapabilities(Struct):
    __namespace__ = TDS

    Network = required(NetworkFeatures)
    Security = required(SecurityFeatures)
    System = required(SystemFeatures)


# tt:Capabilities, the older form of the same


class NetworkCapabilities(Struct):
    __namespace__ = TT

    IPFilter = optional(Boolean)
    ZeroConfiguration = optional(Boolean)
    IPVersion6 = optional(Boolean)
    DynDNS = optional(Boolean)


class SystemCapabilities(Struct):
    __namespace__ = TT

    DiscoveryResolve = required(Boolean)
    DiscoveryBye = required(Boolean)
    RemoteDiscovery = required(Boolean)
    SystemBackup = required(Boolean)
    SystemLogging = required(Boolean)
    FirmwareUpgrade = required(Boolean)
    SupportedVersions = many(OnvifVersion, at_least=1)


class IOCapabilities(Struct):
    __namespace__ = TT

    InputConnectors = optional(Int)
    RelayOutputs = optional(Int)


class SecurityCapabilities(Struct):
    __namespace__ = TT

    TLS11 = required(Boolean, name="TLS1.1")
    TLS12 = required(Boolean, name="TLS1.2")
    OnboardKeyGeneration = required(Boolean)
    AccessPolicyConfig = required(Boolean)
    X509Token = required(Boolean, name="X.509Token")
    SAMLToken = required(Boolean)
    KerberosToken = required(Boolean)
    RELToken = required(Boolean)


class DeviceCapabilities(Struct):
    __namespace__ = TT

    XAddr = required(AnyURI)
    Network = optional(NetworkCapabilities)
    System = optional(SystemCapabilities)
    IO = optional(IOCapabilities)
    Security = optional(SecurityCapabilities)


class RecordingCapabilities(Struct):
    __namespace__ = TT

    XAddr = required(AnyURI)
    ReceiverSource = required(Boolean)
    MediaProfileSource = required(Boolean)
    DynamicRecordings = required(Boolean)
    DynamicTracks = required(Boolean)
    MaxStringLength = required(Int)


class SearchCapabilities(Struct):
    __namespace__ = TT

    XAddr = required(AnyURI)
    MetadataSearch = required(Boolean)


class ReplayCapabilities(Struct):
    __namespace__ = TT

    XAddr = required(AnyURI)


class ReceiverCapabilities(Struct):
    __namespace__ = TT

    XAddr = required(AnyURI)
    RTP_Multicast = required(Boolean)
    RTP_TCP = required(Boolean)
    RTP_RTSP_TCP = required(Boolean)
    SupportedReceivers = required(Int)
    MaximumRTSPURILength = required(Int)


class CapabilitiesExtension(Struct):
    __namespace__ = TT

    Recording = optional(RecordingCapabilities)
    Search = optional(SearchCapabilities)
    Replay = optional(ReplayCapabilities)
    Receiver = optional(ReceiverCapabilities)


class EventCapabilities(Struct):
    __namespace__ = TT

    XAddr = required(AnyURI)
    WSSubscriptionPolicySupport = required(Boolean)
    WSPullPointSupport = required(Boolean)
    WSPausableSubscriptionManagerInterfaceSupport = required(Boolean)


class RealTimeStreamingCapabilities(Struct):
    __namespace__ = TT

    RTPMulticast = optional(Boolean)
    RTP_TCP = optional(Boolean)
    RTP_RTSP_TCP = optional(Boolean)
    Extension = optional(Extension)


class ProfileCapabilities(Struct):
    __namespace__ = TT

    MaximumNumberOfProfiles = required(Int)


class MediaCapabilitiesExtension(Struct):
    __namespace__ = TT

    ProfileCapabilities = required(ProfileCapabilities)


class MediaCapabilities(Struct):
    __namespace__ = TT

    XAddr = required(AnyURI)
    StreamingCapabilities = required(RealTimeStreamingCapabilities)
    Extension = optional(MediaCapabilitiesExtension)


class Capabilities(Struct):
    __namespace__ = TT

    Device = optional(DeviceCapabilities)
    Events = optional(EventCapabilities)
    Media = optional(MediaCapabilities)
    Extension = optional(CapabilitiesExtension)


CapabilityCategory = words(("All", "Analytics", "Device", "Events", "Imaging", "Media", "PTZ"), "CapabilityCategory")


# Date and time


class Time(Struct):
    __namespace__ = TT
    __open__ = False

    Hour = required(Int)
    Minute = required(Int)
    Second = required(Int)


class Date(Struct):
    __namespace__ = TT
    __open__ = False

    Year = required(Int)
    Month = required(Int)
    Day = required(Int)


class DateTime(Struct):
    """tt:DateTime: the time stands before the date."""

    __namespace__ = TT
    __open__ = False

    Time = required(Time)
    Date = required(Date)


class TimeZone(Struct):
    __namespace__ = TT
    __open__ = False

    TZ = required(Token)


class SystemDateTime(Struct):
    __namespace__ = TT
    __open__ = Open.ATTRIBUTES

    DateTimeType = required(words(("Manual", "NTP"), "SetDateTimeType"))
    DaylightSavings = required(Boolean)
    TimeZone = optional(TimeZone)
    UTCDateTime = optional(DateTime)
    LocalDateTime = optional(DateTime)
    Extension = optional(Extension)


# Scopes


class Scope(Struct):
    __namespace__ = TT
    __open__ = False

    ScopeDef = required(words(("Fixed", "Configurable"), "ScopeDefinition"))
    ScopeItem = required(AnyURI)
