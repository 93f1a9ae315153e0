"""spyne can be imported on every version of Python that the recorder runs on, and leaves the import system whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nvr.soap.spyne_repair import parse_header

PROBE = """
import sys
import nvr.soap
assert all(hasattr(importer, "find_spec") for importer in sys.meta_path), sys.meta_path
import spyne.util.six.moves.urllib.parse as moved
import urllib.parse
assert moved.quote is urllib.parse.quote
assert "cgi" not in sys.modules
import colorsys, nvr.soap.device
try:
    import no_such_module
except ModuleNotFoundError:
    print("whole")
"""

NEWER = """
import sys

REMOVED = set('''asynchat asyncore imp smtpd distutils lib2to3
aifc audioop cgi cgitb chunk crypt imghdr mailcap msilib nis nntplib ossaudiodev pipes sndhdr spwd sunau telnetlib uu
xdrlib'''.split())


class Newer:
    'An import system without what 3.12 and 3.13 removed.'

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in REMOVED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


sys.meta_path.insert(0, Newer)
import importlib._bootstrap as bootstrap

if hasattr(bootstrap, "_find_spec_legacy"):
    def no_legacy(finder, name, path):
        raise AssertionError(f"{finder!r} is asked for find_module, which 3.12 does not do any more")
    bootstrap._find_spec_legacy = no_legacy
for name in REMOVED:
    sys.modules.pop(name, None)
"""

EVERYTHING = """
import importlib, pkgutil, nvr
for found in pkgutil.walk_packages(nvr.__path__, "nvr."):
    if not found.name.startswith(("nvr.__main__", "nvr.storage.migrations")):
        importlib.import_module(found.name)
print("whole")
"""


def run(program: str, warnings: str = "error") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", warnings, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_every_importer_knows_the_present_protocol_and_no_import_warns() -> None:
    done = run(PROBE)
    assert done.stdout == "whole\n", done.stderr


def test_every_module_is_imported_without_what_newer_versions_of_python_removed() -> None:
    done = run(NEWER + EVERYTHING)
    assert done.stdout == "whole\n", done.stderr


def test_the_import_system_without_what_was_removed_is_one_that_spyne_itself_fails_in() -> None:
    """The test above proves something: the same program, with spyne alone, ends with an error."""
    done = run(NEWER + "import spyne")
    assert done.returncode != 0
    assert "Error" in done.stderr


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="spyne alone cannot be imported")
def test_importers_are_mended_when_somebody_else_imported_spyne_first() -> None:
    done = run("import spyne" + PROBE.replace('assert "cgi" not in sys.modules', ""), warnings="ignore")
    assert done.stdout == "whole\n", done.stderr


@pytest.mark.parametrize(
    ("line", "value", "parameters"),
    [
        ("text/xml; charset=utf-8", "text/xml", {"charset": "utf-8"}),
        ('text/xml; charset="utf-8"; action="a;b"', "text/xml", {"charset": "utf-8", "action": "a;b"}),
        ("text/xml", "text/xml", {}),
        ("", "", {}),
    ],
)
def test_a_header_is_parsed_as_the_removed_module_did(line: str, value: str, parameters: dict[str, str]) -> None:
    assert parse_header(line) == (value, parameters)
