"""nvr.auth.credentials: secrets at rest."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.auth.credentials import KEY_FILE_NAME, KEY_SIZE, Vault
from nvr.model.errors import OperatorError

VAULT = Vault(bytes(range(32)))


@settings(max_examples=100)
@given(st.text(), st.text())
def test_what_is_sealed_opens_for_its_purpose(text: str, purpose: str) -> None:
    sealed = VAULT.seal(text, purpose)
    assert VAULT.open(sealed, purpose) == text
    assert text.encode() not in sealed or len(text) < 4


def test_the_same_text_never_looks_the_same_twice() -> None:
    assert VAULT.seal("secret") != VAULT.seal("secret")


def test_another_purpose_another_key_or_a_changed_byte_is_refused() -> None:
    sealed = VAULT.seal("hunter2", "user admin")
    with pytest.raises(OperatorError, match="user eve"):
        VAULT.open(sealed, "user eve")
    with pytest.raises(OperatorError, match=KEY_FILE_NAME):
        Vault(bytes(32)).open(sealed, "user admin")
    for i in range(len(sealed)):
        with pytest.raises(OperatorError):
            VAULT.open(sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :], "user admin")
    for size in range(len(sealed)):
        with pytest.raises(OperatorError):
            VAULT.open(sealed[:size], "user admin")


def test_the_key_file_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    sealed = Vault.load_or_create(tmp_path).seal("hunter2")
    path = tmp_path / KEY_FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_size == KEY_SIZE
    assert Vault.load_or_create(tmp_path).open(sealed) == "hunter2"
    assert [p.name for p in tmp_path.iterdir()] == [KEY_FILE_NAME]


def test_a_key_file_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    Vault.load_or_create(tmp_path)
    (tmp_path / KEY_FILE_NAME).chmod(0o640)
    with pytest.raises(OperatorError, match=r"mode 0640.*chmod 600"):
        Vault.load_or_create(tmp_path)


@pytest.mark.parametrize("size", [0, KEY_SIZE - 1, KEY_SIZE + 1])
def test_a_damaged_key_file_is_refused_and_left_alone(tmp_path: Path, size: int) -> None:
    path = tmp_path / KEY_FILE_NAME
    path.touch(0o600)
    path.write_bytes(bytes(size))
    with pytest.raises(OperatorError, match="damaged"):
        Vault.load_or_create(tmp_path)
    assert path.read_bytes() == bytes(size)


def test_a_missing_directory_is_an_operators_error(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot write the key file"):
        Vault.load_or_create(tmp_path / "missing")


def test_a_directory_in_place_of_the_key_file_is_an_operators_error(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE_NAME).mkdir()
    with pytest.raises(OperatorError, match="cannot read the key file"):
        Vault.load_or_create(tmp_path)


def test_neither_the_key_nor_a_text_is_shown() -> None:
    assert "\\x00" not in repr(VAULT)
    with pytest.raises(ValueError, match="5 bytes"):
        Vault(b"short")
