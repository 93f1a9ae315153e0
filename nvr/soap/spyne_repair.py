"""Lets spyne 2.14 be imported on CPython 3.11 to 3.13, and mends what its import leaves behind.

spyne is of 2020. What has changed since, and is mended here before and while it is imported:

- Its vendored `six` puts an importer into sys.meta_path that knows `find_module` only. importlib asks for `find_spec`
  since 3.4, warns about importers without it since 3.10 and no longer asks for `find_module` since 3.12, so that
  `spyne.util.six.moves` does not exist there.
- It imports `cgi`, which warns since 3.11 and is gone since 3.13 (PEP 594), for one function, `parse_header`.

Its loggers tell every step of declaring a model at debug level, thousands of lines at start.

The way is the same on every version: what works without `find_module` and `cgi` works with them.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import logging
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any

_SIX = "spyne.util.six"


def import_spyne() -> None:
    """Imports spyne. Does nothing the second time, or when somebody else has imported it already."""
    if "spyne" in sys.modules:
        repair_importers()
        return
    _load_six()
    with cgi_supplied():
        import spyne
    spyne.util.six = sys.modules[_SIX]


@contextmanager
def cgi_supplied() -> Iterator[None]:
    """`import cgi` finds the one function that spyne calls. For the modules of spyne that are imported in here.

    They hold on to what they found; others, who look for the module later, find what this version of Python has.
    """
    supplied = types.ModuleType("cgi", "The part of the former standard module that spyne calls.")
    supplied.__dict__["parse_header"] = parse_header
    real = sys.modules.get("cgi")
    sys.modules["cgi"] = supplied
    try:
        yield
    finally:
        del sys.modules["cgi"]
        if real is not None:
            sys.modules["cgi"] = real


def quieten() -> None:
    """Leaves spyne's warnings and errors."""
    logging.getLogger("spyne").setLevel(logging.WARNING)


def repair_importers() -> None:
    """Gives spyne's importers the methods of the present protocol. Does nothing the second time."""
    for importer in sys.meta_path:
        kind: Any = type(importer)
        if kind.__module__.startswith("spyne.") and not hasattr(kind, "find_spec"):
            kind.find_spec = _find_spec
            kind.create_module = lambda self, spec: self.load_module(spec.name)
            kind.exec_module = lambda self, module: None  # load_module has done it


def _load_six() -> None:
    """Runs spyne's `six` under its own name before the packages around it, which need its importer at once."""
    package = importlib.util.find_spec("spyne")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'spyne'", name="spyne")
    path = Path(package.origin).with_name("util") / "six.py"
    spec = importlib.util.spec_from_file_location(_SIX, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_SIX] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[_SIX]
        raise
    repair_importers()


def _find_spec(importer: Any, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
    if name not in importer.known_modules:
        return None
    return importlib.util.spec_from_loader(name, importer)


def parse_header(line: str) -> tuple[str, dict[str, str]]:
    """The value of a header like Content-Type and its parameters, as `cgi.parse_header` gave them."""
    message = Message()
    message["Content-Type"] = line
    (value, _), *parameters = message.get_params(failobj=[("", "")])
    return value, dict(parameters)
