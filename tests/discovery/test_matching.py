"""Which Probe finds the device."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.discovery.matching import UnknownRule, by_rfc3986, matches
from nvr.discovery.message import DN, TDS, WSD, Probe

SCOPES = (
    "onvif://www.onvif.org/Profile/G",
    "onvif://www.onvif.org/hardware/D1-566",
    "onvif://www.onvif.org/name/A%2FB",
)


@pytest.mark.requirement("CO-43")
@pytest.mark.parametrize(
    ("asked", "scope"),
    [
        ("onvif://www.onvif.org", "onvif://www.onvif.org/hardware/D1-566"),
        ("onvif://www.onvif.org/", "onvif://www.onvif.org/hardware/D1-566"),
        ("ONVIF://WWW.ONVIF.ORG/hardware", "onvif://www.onvif.org/hardware/D1-566"),
        ("onvif://www.onvif.org/hardware/", "onvif://www.onvif.org/hardware/D1-566"),
        ("onvif://www.onvif.org/hardware/D1-566", "onvif://www.onvif.org/hardware/D1-566"),
        ("onvif://www.onvif.org/hardware/D1-566/", "onvif://www.onvif.org/hardware/D1-566"),
        ("onvif://www.onvif.org/hardware/%441-566?a#b", "onvif://www.onvif.org/hardware/D1-566"),
        ("urn:a", "urn:a/b"),
    ],
)
def test_a_scope_is_found_by_whole_segments_from_its_beginning(asked: str, scope: str) -> None:
    assert by_rfc3986(asked, scope)


@pytest.mark.requirement("CO-43")
@pytest.mark.parametrize(
    ("asked", "scope"),
    [
        ("onvif://www.onvif.org/hardware/D1", "onvif://www.onvif.org/hardware/D1-566"),
        ("onvif://www.onvif.org/Hardware", "onvif://www.onvif.org/hardware/D1-566"),
        ("onvif://www.onvif.org/hardware/D1-566/x", "onvif://www.onvif.org/hardware/D1-566"),
        ("onvif://www.onvif.com/", "onvif://www.onvif.org/hardware/D1-566"),
        ("http://www.onvif.org/", "onvif://www.onvif.org/hardware/D1-566"),
        ("onvif://www.onvif.org/./hardware", "onvif://www.onvif.org/./hardware"),
        ("onvif://www.onvif.org/name/A/B", "onvif://www.onvif.org/name/A%2FB"),
        ("/hardware", "onvif://www.onvif.org/hardware"),
        ("onvif://[bad/", "onvif://[bad/"),
        ("urn:a", "urn:ab"),
    ],
)
def test_what_only_looks_like_a_prefix_is_none(asked: str, scope: str) -> None:
    assert not by_rfc3986(asked, scope)


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_makes_the_rule_raise(asked: str, scope: str) -> None:
    by_rfc3986(asked, scope)
    assert not (by_rfc3986(scope, scope) is False and by_rfc3986(scope, scope + "/x"))


@pytest.mark.requirement("CO-41", "CO-45")
def test_all_types_and_all_scopes_must_be_ours() -> None:
    device, transmitter, printer = f"{{{TDS}}}Device", f"{{{DN}}}NetworkVideoTransmitter", "{urn:x}Printer"
    assert matches(Probe("1"), SCOPES)
    assert matches(Probe("1", (device,)), SCOPES)
    assert matches(Probe("1", (transmitter, device)), SCOPES)
    assert not matches(Probe("1", (device, printer)), SCOPES)
    assert not matches(Probe("1", ("Device",)), SCOPES), "without its namespace it is another type"
    found = ("onvif://www.onvif.org/Profile", "onvif://www.onvif.org/hardware")
    assert matches(Probe("1", scopes=found), SCOPES)
    assert not matches(Probe("1", scopes=(*found, "onvif://www.onvif.org/location")), SCOPES)


def test_the_older_name_of_the_rule_is_known_too() -> None:
    older = Probe("1", scopes=("onvif://www.onvif.org/hardware",), match_by=f"{WSD}/rfc2396")
    assert matches(older, SCOPES)
    assert not matches(older, ("onvif://www.onvif.org/hard/ware",))


def test_the_rule_of_equal_text_and_one_that_nobody_knows() -> None:
    exact = f"{WSD}/strcmp0"
    assert matches(Probe("1", scopes=(SCOPES[0],), match_by=exact), SCOPES)
    assert not matches(Probe("1", scopes=("onvif://www.onvif.org/Profile",), match_by=exact), SCOPES)
    with pytest.raises(UnknownRule):
        matches(Probe("1", match_by=f"{WSD}/ldap"), SCOPES)
