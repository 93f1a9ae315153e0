"""nvr.auth.certificate: made at first start, renewed in time, the key kept and kept secret."""

from __future__ import annotations

import logging
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from nvr.auth.certificate import SelfSigned, expiry_warning, host_names
from nvr.model.errors import OperatorError
from nvr.model.time import NS, datetime_from_utc, parse_iso

NOW = parse_iso("2026-01-01T10:00:00Z")
DAY = 86_400 * NS
NAMES = ("recorder.example", "192.0.2.1", "2001:db8::1")


def read(made: SelfSigned) -> x509.Certificate:
    return x509.load_pem_x509_certificate(made.certificate.read_bytes())


def test_the_first_certificate_bears_names_and_addresses_and_its_key_is_for_nobody_else(tmp_path: Path) -> None:
    made = SelfSigned(tmp_path, NAMES)
    assert made.ensure(NOW)
    names = read(made).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["recorder.example"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1", "2001:db8::1"]
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.key.parent.stat().st_mode) == 0o700
    assert not [p for p in made.key.parent.iterdir() if p not in (made.key, made.certificate)]
    assert not made.ensure(NOW)


def test_openssl_takes_it_for_a_server_of_that_name(tmp_path: Path) -> None:
    made = SelfSigned(tmp_path, NAMES)
    made.ensure(NOW)
    command = ["openssl", "verify", "-CAfile", made.certificate, "-purpose", "sslserver", "-x509_strict"]
    command += ["-attime", str(NOW // NS), "-verify_hostname", "recorder.example", made.certificate]
    checked = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=20)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_it_is_renewed_a_month_before_its_end_with_the_same_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = SelfSigned(tmp_path, NAMES)
    made.ensure(NOW)
    first = read(made)
    assert not made.ensure(NOW + 790 * DAY)
    with caplog.at_level(logging.INFO):
        assert made.ensure(NOW + 795 * DAY)
    renewed = read(made)
    assert renewed.public_key() == first.public_key()
    assert renewed.serial_number != first.serial_number
    assert renewed.not_valid_after_utc > datetime_from_utc(NOW + 1600 * DAY)
    assert "self-signed certificate has been made" in caplog.text
    assert "valid until" in caplog.text


def test_other_names_another_key_or_damage_make_a_new_one(tmp_path: Path) -> None:
    SelfSigned(tmp_path, NAMES).ensure(NOW)
    assert not SelfSigned(tmp_path, NAMES[:1]).ensure(NOW)
    made = SelfSigned(tmp_path, ("new.example", *NAMES))
    assert made.ensure(NOW)
    made.certificate.write_bytes(b"-----BEGIN")
    assert made.ensure(NOW)
    made.key.unlink()
    assert made.ensure(NOW)
    assert not made.ensure(NOW)


def test_a_key_that_others_can_read_or_that_is_damaged_is_refused_with_the_remedy(tmp_path: Path) -> None:
    made = SelfSigned(tmp_path, NAMES)
    made.ensure(NOW)
    made.key.chmod(0o640)
    with pytest.raises(OperatorError, match=r"mode 0640 .* chmod 600"):
        made.ensure(NOW)
    made.key.chmod(0o600)
    made.key.write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(OperatorError, match="remove it and a new one is made"):
        made.ensure(NOW)


def test_a_directory_that_cannot_be_used_is_an_operator_error(tmp_path: Path) -> None:
    (tmp_path / "tls").write_bytes(b"")
    with pytest.raises(OperatorError, match="cannot be used"):
        SelfSigned(tmp_path, NAMES).ensure(NOW)


def test_an_operators_certificate_is_complained_about_in_time(tmp_path: Path) -> None:
    made = SelfSigned(tmp_path, NAMES)
    made.ensure(NOW)
    assert expiry_warning(made.certificate, NOW) is None
    assert "expires on 2028-" in (expiry_warning(made.certificate, NOW + 800 * DAY) or "")
    assert "has expired on" in (expiry_warning(made.certificate, NOW + 900 * DAY) or "")
    with pytest.raises(OperatorError, match="holds no certificate"):
        expiry_warning(made.key, NOW)


def test_the_names_of_the_host_begin_with_those_that_are_given_and_hold_the_loopback() -> None:
    names = host_names(["door.example", "", "192.0.2.9"])
    assert names[:2] == ("door.example", "192.0.2.9")
    assert {"localhost", "127.0.0.1", "::1"} <= set(names)
    assert len(names) == len(set(names))
