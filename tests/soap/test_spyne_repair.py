"""Importing spyne leaves the import system whole."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import sys
import nvr.soap
assert all(hasattr(importer, "find_spec") for importer in sys.meta_path), sys.meta_path
import spyne.util.six.moves.urllib.parse as moved
import urllib.parse
assert moved.quote is urllib.parse.quote
import warnings
warnings.simplefilter("error")
import colorsys, nvr.soap.device
try:
    import no_such_module
except ModuleNotFoundError:
    print("whole")
"""


def test_every_importer_knows_the_present_protocol_and_later_imports_do_not_warn() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "whole\n", done.stderr
