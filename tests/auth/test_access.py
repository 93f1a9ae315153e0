"""nvr.auth.access: the default access policy of ONVIF Core 5.9.4.3."""

from __future__ import annotations

import pytest

from nvr.auth.access import AccessClass, Role, Verdict, allows

ROWS = {
    "PRE_AUTH": "AOU-",
    "READ_SYSTEM": "AOU",
    "READ_SYSTEM_SENSITIVE": "AO",
    "READ_SYSTEM_SECRET": "A",
    "WRITE_SYSTEM": "A",
    "UNRECOVERABLE": "A",
    "READ_MEDIA": "AOU",
    "ACTUATE": "AO",
}
CALLERS: dict[str, Role | None] = {"A": Role.ADMINISTRATOR, "O": Role.OPERATOR, "U": Role.USER, "-": None}


def test_every_access_class_stands_in_the_table() -> None:
    assert {c.value for c in AccessClass} == set(ROWS)


@pytest.mark.parametrize(("name", "allowed"), ROWS.items())
def test_the_table_of_roles_and_access_classes(name: str, allowed: str) -> None:
    assert {letter for letter, role in CALLERS.items() if allows(role, AccessClass(name))} == set(allowed)


def test_roles_have_the_names_of_the_schema() -> None:
    assert [role.user_level for role in Role] == ["Administrator", "Operator", "User"]
    assert Role.from_user_level("Operator") is Role.OPERATOR
    for level in ("Anonymous", "Extended", "administrator", ""):
        with pytest.raises(ValueError, match="level"):
            Role.from_user_level(level)


def test_a_verdict_is_true_only_with_a_user() -> None:
    assert Verdict("admin")
    assert not Verdict(None, "no credentials")
