"""The files in wsdl/ against the official ones: whatever ours carry is the same, but for the list of differences."""

from __future__ import annotations

from pathlib import Path

import pytest
import zeep
from lxml import etree

from tests.conformance.wsdl_facts import XS, Facts, schema_facts, wsdl_facts
from tests.support.official_schema import OWN_ROOT, SERVICES, ValidatingTransport, official_root

NEWER = (
    "newer than the edition of 2019, and not supported; an element of it is taken by xs:any, an attribute never sent"
)
ONE_FILE = "the port type stands in our file, not in one of WS-BaseNotification; no message shows it"
NEVER_SENT = "never sent, and its types would bring in those of cameras: imaging, PTZ, analytics, audio outputs"
AMBIGUOUS = "##any behind the optional Extension makes the content model ambiguous, strict validators refuse the file"

ALLOWED: dict[str, str] = {
    **{
        f"complexType trc:Capabilities: > attribute {attribute}": NEWER
        for attribute in (
            "SupportedTargetFormats tt:StringAttrList",
            "EncryptionEntryLimit xs:int",
            "SupportedEncryptionModes tt:StringAttrList",
            "OverrideSegmentDuration xs:boolean",
            "AsymmetricEncryptionSupported xs:boolean",
            "ScheduledRecording xs:boolean",
            "OnboardStorage xs:boolean default=true",
            "SegmentExport xs:boolean",
        )
    },
    "complexType tse:Capabilities: > attribute NLSearch xs:boolean": NEWER,
    "complexType tse:Capabilities: > attribute ImageSearch xs:boolean": NEWER,
    "complexType tt:SearchCapabilities: > element NLSearch xs:boolean [0..1]": NEWER,
    "complexType tt:SearchCapabilities: > element ImageSearch xs:boolean [0..1]": NEWER,
    "complexType tt:RecordingConfiguration: > element Target tt:RecordingTargetConfiguration [0..1]": NEWER,
    "complexType tt:RecordingSourceInformation: > element VideoSourceToken tt:ReferenceToken [0..1]": NEWER,
    **{
        f"complexType tev:Capabilities: > attribute {attribute}": NEWER
        for attribute in ("EventBrokerProtocols xs:string", "MaxEventBrokers xs:int", "MetadataOverMQTT xs:boolean")
    },
    "complexType tev:Capabilities: < attribute WSPullPointSupport xs:boolean": (
        "of the edition that is announced; later ones drop it, and take it as a foreign attribute"
    ),
    **{
        f"{name}Binding service: {side} binding {name}Binding of {prefix}:{name}": ONE_FILE
        for name in ("NotificationProducer", "SubscriptionManager")
        for side, prefix in (("<", "tev"), (">", "wsntw"))
    },
    **{
        f"complexType tt:{type_}: > element {member} [0..1]": NEVER_SENT
        for type_, members in {
            "Profile": (
                "AudioSourceConfiguration tt:AudioSourceConfiguration",
                "AudioEncoderConfiguration tt:AudioEncoderConfiguration",
                "VideoAnalyticsConfiguration tt:VideoAnalyticsConfiguration",
                "PTZConfiguration tt:PTZConfiguration",
                "MetadataConfiguration tt:MetadataConfiguration",
                "Extension tt:ProfileExtension",
            ),
            "VideoSource": ("Imaging tt:ImagingSettings", "Extension tt:VideoSourceExtension"),
            "VideoSourceConfiguration": ("Extension tt:VideoSourceConfigurationExtension",),
        }.items()
        for member in members
    },
    "complexType tt:RecordingJobConfiguration: < any ##other lax [0..*]": AMBIGUOUS,
    "complexType tt:RecordingJobConfiguration: > any ##any lax [0..*]": AMBIGUOUS,
    "complexType tt:RecordingEventFilter: < any ##other lax [0..*]": AMBIGUOUS,
    "complexType tt:RecordingEventFilter: > any ##any lax [0..*]": AMBIGUOUS,
}
"""Every difference between our files and the official ones, and why it is there. `<` ours, `>` official."""

NEWER_OPERATIONS = {
    "recording": {
        "ListRecordedSegments",
        "ExportRecordedSegments",
        "StopExportRecordedSegments",
        "OverrideSegmentDuration",
    },
    "search": {"SearchImageByNL", "GetNLSearchResults", "SearchImageByImage", "GetImageSearchResults"},
    "receiver": set[str](),
    "replay": set[str](),
    "event": {
        *(f"EventBinding {name}" for name in ("AddEventBroker", "DeleteEventBroker", "GetEventBrokers")),
        # Interfaces of WS-BaseNotification that ONVIF Core does not ask for; the consumer's is the client's to offer.
        *(
            f"{binding}Binding {name}"
            for binding, names in {
                "CreatePullPoint": ("service", "CreatePullPoint"),
                "PullPoint": ("service", "DestroyPullPoint", "GetMessages", "Notify"),
                "PausableSubscriptionManager": (
                    "service",
                    "PauseSubscription",
                    "Renew",
                    "ResumeSubscription",
                    "Unsubscribe",
                ),
                "NotificationConsumer": ("service", "Notify"),
            }.items()
            for name in names
        ),
    },
}
"""Operations of the official portTypes that are newer than the edition of 2019 and not declared by ours."""

SCHEMAS = {
    "onvif.xsd": "ver10/schema/onvif.xsd",
    "wsnt.xsd": "schema/common/b-2.xsd",
    "addressing.xsd": "schema/common/ws-addr.xsd",
    "topics.xsd": "schema/common/t-1.xsd",
}


def own(service: str) -> Path:
    return OWN_ROOT / Path(SERVICES[service].path).name


def declared() -> list[str]:
    return [service for service in SERVICES if own(service).exists()]


def all_differences() -> set[str]:
    found: set[str] = set()
    for service in declared():
        found |= set(wsdl_facts(own(service)).without(wsdl_facts(official_root() / SERVICES[service].path)))
    for ours, theirs in SCHEMAS.items():
        found |= set(schema_facts(OWN_ROOT / ours).without(schema_facts(official_root() / theirs)))
    return found


def test_the_files_differ_from_the_official_ones_only_where_the_list_says_so() -> None:
    found = all_differences()
    assert found - ALLOWED.keys() == set(), "our files and the official ones differ"
    assert ALLOWED.keys() - found == set(), "these differences are listed and do not exist any more"


@pytest.mark.parametrize("service", sorted(NEWER_OPERATIONS))
def test_every_operation_of_the_2019_port_types_is_declared(service: str) -> None:
    ours, theirs = wsdl_facts(own(service)), wsdl_facts(official_root() / SERVICES[service].path)
    missing = {name.replace("operation ", "") for name in theirs.operations.keys() - ours.operations.keys()}
    assert missing == NEWER_OPERATIONS[service]


@pytest.mark.requirement("RC-5.1-15")
def test_recording_control_declares_no_lock() -> None:
    facts = wsdl_facts(own("recording"))
    types = schema_facts(OWN_ROOT / "onvif.xsd").components
    words = [*facts.operations, *facts.components, *types]
    words += [line for lines in [*facts.components.values(), *types.values()] for line in lines]
    assert not [word for word in words if "lock" in word.lower()]


def test_a_moved_element_a_changed_occurrence_and_a_missing_type_are_noticed() -> None:
    official = Facts({"complexType tt:A": ["complexType", "  element x xs:int [1..1]", "  element y xs:int [1..1]"]})
    moved = Facts({"complexType tt:A": ["complexType", "  element y xs:int [1..1]", "  element x xs:int [1..1]"]})
    optional = Facts({"complexType tt:A": ["complexType", "  element x xs:int [0..1]", "  element y xs:int [1..1]"]})
    assert moved.without(official)
    assert optional.without(official) == [
        "complexType tt:A: < element x xs:int [0..1]",
        "complexType tt:A: > element x xs:int [1..1]",
    ]
    assert Facts({"complexType tt:B": ["complexType"]}).without(official) == ["complexType tt:B: > is not there at all"]
    assert official.without(official) == []


@pytest.mark.parametrize("service", declared())
def test_a_strict_validator_accepts_the_schema_of_the_service(service: str) -> None:
    schema = etree.parse(own(service)).find(f".//{XS}schema")
    etree.XMLSchema(etree.fromstring(etree.tostring(schema), base_url=str(own(service))))


@pytest.mark.parametrize("service", declared())
def test_zeep_builds_a_client_from_the_file_without_the_network(service: str) -> None:
    client = zeep.Client(str(own(service)), transport=ValidatingTransport())
    names = (n.removeprefix(f"{SERVICES[service].binding} ") for n in wsdl_facts(own(service)).operations)
    declares = {n.removeprefix("operation ") for n in names if n.startswith("operation ")}
    assert set(client.service._operations) == declares


@pytest.mark.parametrize("service", declared())
def test_the_file_names_one_address_for_the_server_to_fill(service: str) -> None:
    tree = etree.parse(own(service))
    assert len(tree.findall(".//{http://schemas.xmlsoap.org/wsdl/soap12/}address")) == 1
    assert {i.attrib["schemaLocation"] for i in tree.iter(f"{XS}import")} <= {
        "onvif.xsd",
        "wsnt.xsd",
        "topics.xsd",
        "addressing.xsd",
    }


def test_the_types_carry_nothing_that_no_service_uses() -> None:
    """What stands in onvif.xsd is reachable from a service, so that the file does not gather what nobody serves."""
    types = schema_facts(OWN_ROOT / "onvif.xsd").components
    reached: set[str] = set()
    lines = [line for s in declared() for c in wsdl_facts(own(s)).components.values() for line in c]
    while lines:
        for word in lines.pop().split():
            for kind in ("complexType", "simpleType"):
                name = f"{kind} {word}"
                if name in types and name not in reached:
                    reached.add(name)
                    lines += types[name]
    assert {n for n in types if n.startswith(("complexType", "simpleType"))} == reached
