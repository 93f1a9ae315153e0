"""Mends what importing spyne 2.14 leaves behind.

Its vendored `six` puts importers into sys.meta_path that lack `find_spec`, which importlib asks for since Python 3.4:
each later import that reaches them warns, and tools that ask importers themselves fail.
Its loggers tell every step of declaring a model at debug level, thousands of lines at start.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import logging
import sys
from typing import Any

import spyne  # noqa: F401  its import installs the importers


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


def _find_spec(importer: Any, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
    if name not in importer.known_modules:
        return None
    return importlib.util.spec_from_loader(name, importer)
