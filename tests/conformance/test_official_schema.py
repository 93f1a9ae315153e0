"""The umpire itself: what the validation of answers lets pass, and what it refuses."""

from __future__ import annotations

import pytest

from tests.support.official_schema import OfficialSchemas, ValidatingTransport

HEAD = (
    '<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope" xmlns:trc="http://www.onvif.org/ver10/recording/wsdl"'
    ' xmlns:tds="http://www.onvif.org/ver10/device/wsdl" xmlns:tt="http://www.onvif.org/ver10/schema"'
    ' xmlns:v="urn:vendor">'
)


def envelope(body: str) -> bytes:
    return f"{HEAD}<e:Body>{body}</e:Body></e:Envelope>".encode()


def services(capabilities: str) -> str:
    return (
        "<tds:GetServicesResponse><tds:Service><tds:Namespace>urn:x</tds:Namespace><tds:XAddr>http://h/</tds:XAddr>"
        f"<tds:Capabilities>{capabilities}</tds:Capabilities>"
        "<tds:Version><tt:Major>20</tt:Major><tt:Minor>12</tt:Minor></tds:Version>"
        "</tds:Service></tds:GetServicesResponse>"
    )


TRACK = (
    "<trc:GetTrackConfigurationResponse><trc:TrackConfiguration><tt:TrackType>Video</tt:TrackType>"
    "<tt:Description/></trc:TrackConfiguration></trc:GetTrackConfigurationResponse>"
)
FAULT = (
    "<e:Fault><e:Code><e:Value>e:Sender</e:Value></e:Code>"
    '<e:Reason><e:Text xml:lang="en">no</e:Text></e:Reason></e:Fault>'
)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(TRACK, id="an answer"),
        pytest.param(FAULT, id="a fault"),
        pytest.param(
            TRACK.replace("<tt:Description/>", "<tt:Description/><v:More/>"), id="a foreign element in open content"
        ),
        pytest.param(services('<trc:Capabilities MaxRecordings="1"/>'), id="capabilities of another service"),
        pytest.param(
            services("<tds:Capabilities><tds:Network/><tds:Security/><tds:System/></tds:Capabilities>"),
            id="capabilities of the service itself",
        ),
    ],
)
def test_valid_answers_pass(official: OfficialSchemas, body: str) -> None:
    assert official.validate_response(envelope(body)).tag.endswith(("Response", "Fault"))


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        pytest.param("<trc:NoSuchResponse/>", "no service declares", id="an element that nobody declares"),
        pytest.param("<v:Answer/>", "no service declares", id="another namespace"),
        pytest.param("", "0 elements", id="an empty body"),
        pytest.param(TRACK + TRACK, "2 elements", id="two answers"),
        pytest.param(TRACK.replace("<tt:Description/>", ""), "Missing child", id="a missing element"),
        pytest.param(
            TRACK.replace(
                "<tt:TrackType>Video</tt:TrackType><tt:Description/>",
                "<tt:Description/><tt:TrackType>Video</tt:TrackType>",
            ),
            "not expected",
            id="the wrong order",
        ),
        pytest.param(TRACK.replace("tt:Description", "trc:Description"), "not expected", id="the wrong namespace"),
        pytest.param(TRACK.replace("Video", "Foo"), "enumeration", id="a word that is none"),
        pytest.param(
            f"<trc:CreateTrackResponse><trc:TrackToken>{'t' * 65}</trc:TrackToken></trc:CreateTrackResponse>",
            "maxLength",
            id="a token that is too long",
        ),
        pytest.param(
            services('<trc:Capabilities MaxRecordings="many"/>'), "MaxRecordings", id="capabilities inside a wildcard"
        ),
        pytest.param(FAULT.replace("e:Sender", "e:Client"), "Client", id="a fault code of SOAP 1.1"),
    ],
)
def test_invalid_answers_are_refused_with_the_reason(official: OfficialSchemas, body: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        official.validate_response(envelope(body))


def test_nothing_is_fetched_from_the_network() -> None:
    with pytest.raises(AssertionError, match=r"www\.w3\.org"):
        ValidatingTransport().load("http://www.w3.org/2001/xml.xsd")
