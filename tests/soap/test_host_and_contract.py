"""What the host says of its clock, and the contract's files."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

import nvr
from nvr.model.errors import OperatorError
from nvr.soap import host, wsdl
from nvr.soap.wsdl import Contract, contract_directory


def zone(footer: bytes, version: bytes = b"2") -> bytes:
    return b"TZif" + version + bytes(100) + b"\n" + footer + b"\n"


def test_the_rule_of_the_zone_is_the_last_line_of_the_zone_file(tmp_path: Path) -> None:
    path = tmp_path / "localtime"
    path.write_bytes(zone(b"CET-1CEST,M3.5.0,M10.5.0/3"))
    assert host.posix_time_zone(path) == "CET-1CEST,M3.5.0,M10.5.0/3"


@pytest.mark.parametrize("data", [b"", b"junk\n", zone(b""), zone(b"\xff"), zone(b"CET-1", b"\0"), b"TZif2no end"])
def test_a_zone_file_without_rule_gives_the_present_offset(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "localtime"
    path.write_bytes(data)
    assert host.posix_time_zone(path) == host._fixed_zone(time.localtime().tm_gmtoff)
    assert host.posix_time_zone(tmp_path / "missing") == host._fixed_zone(time.localtime().tm_gmtoff)


@pytest.mark.parametrize(
    ("offset_s", "expected"),
    [(0, "UTC0"), (3600, "<+01>-1"), (-18_000, "<-05>+5"), (19_800, "<+0530>-5:30"), (-12_600, "<-0330>+3:30")],
)
def test_a_fixed_offset_is_written_as_posix_counts_it(offset_s: int, expected: str) -> None:
    assert host._fixed_zone(offset_s) == expected


def test_asking_whether_the_clock_is_synchronised_answers_on_any_host() -> None:
    assert host.clock_is_synchronised() in (True, False)


def test_the_files_lie_in_the_package_or_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (contract_directory() / "onvif.xsd").is_file()
    package = tmp_path / "nvr"
    (package / "wsdl").mkdir(parents=True)
    (package / "wsdl" / "devicemgmt.wsdl").touch()
    monkeypatch.setattr(nvr, "__file__", str(package / "__init__.py"))
    assert wsdl.contract_directory() == package / "wsdl"
    (package / "wsdl" / "devicemgmt.wsdl").unlink()
    with pytest.raises(OperatorError, match="WSDL files are missing"):
        wsdl.contract_directory()


def test_the_address_is_escaped_and_stands_in_every_contract() -> None:
    contract = Contract(contract_directory())
    for name in ("devicemgmt.wsdl", "recording.wsdl", "search.wsdl", "replay.wsdl", "receiver.wsdl"):
        text = contract.wsdl(name, "http://h/?a&b").decode()
        assert re.findall(r"<soap:address\s+location=(\S+)/>", text) == ['"http://h/?a&amp;b"'], name
    assert "onvif.xsd" in contract.schemas
    with pytest.raises(KeyError):
        contract.schema("../pyproject.toml")
