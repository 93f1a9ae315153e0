from __future__ import annotations

import pytest

from nvr.model.recording import RecordingSourceInformation
from nvr.sources.description import MAX_NAME, Camera, CameraDescription

SCOPES = (
    "onvif://www.onvif.org/Profile/Streaming",
    "onvif://www.onvif.org/name/Yard%20camera%00",
    "onvif://www.onvif.org/location/country/cz",
    "onvif://www.onvif.org/location/North%20gate",
    "onvif://www.onvif.org/name/another",
)


def test_scopes_tell_name_and_locations_without_what_xml_cannot_hold() -> None:
    found = CameraDescription.of("http://192.0.2.1/onvif/device_service", "Acme", "C1", SCOPES)
    assert (found.name, found.location, found.make) == ("Yard camera", "country/cz, North gate", "Acme C1")
    assert len(CameraDescription.of("", "x" * 1000, "", [f"onvif://www.onvif.org/name/{'y' * 1000}"]).name) == MAX_NAME


def test_what_the_client_has_configured_stays_and_the_rest_is_completed() -> None:
    found = CameraDescription.of("http://192.0.2.1/onvif/device_service", "Acme", "C1", SCOPES)
    configured = RecordingSourceInformation("urn:x", "Gate", "", "Mine", "")
    assert found.completed(configured) == RecordingSourceInformation(
        "urn:x", "Gate", "country/cz, North gate", "Mine", "http://192.0.2.1/onvif/device_service"
    )
    nameless = CameraDescription("http://192.0.2.1/", "Acme", "C1")
    assert nameless.completed(RecordingSourceInformation()).name == "Acme C1"


@pytest.mark.parametrize(
    ("uri", "addresses"),
    [
        ("rtsp://u:p%40@192.0.2.1/s", ("http://192.0.2.1/onvif/device_service", "http://192.0.2.1:8000/onvif/device_service")),
        ("rtsp://[2001:db8::1]:8554/s", ("http://[2001:db8::1]/onvif/device_service", "http://[2001:db8::1]:8000/onvif/device_service")),
        ("rtsps://192.0.2.1/s", ("https://192.0.2.1/onvif/device_service",)),
    ],
)  # fmt: skip
def test_a_camera_is_asked_at_the_host_of_its_stream_alone_and_never_less_encrypted(
    uri: str, addresses: tuple[str, ...]
) -> None:
    camera = Camera.of(uri)
    assert camera is not None
    assert camera.addresses((80, 8000), (443,)) == addresses
    assert "p@" not in repr(camera)


def test_credentials_are_those_of_the_uri() -> None:
    camera = Camera.of("rtsp://us%65r:p%40@192.0.2.1/s")
    assert camera is not None
    assert (camera.username, camera.password) == ("user", "p@")


@pytest.mark.parametrize("uri", ["", "rtsp:///s", "file:///etc/passwd", "rtsp://192.0.2.1:port/", "rtsp://[::1/"])
def test_what_names_no_camera_is_asked_nowhere(uri: str) -> None:
    assert Camera.of(uri) is None
