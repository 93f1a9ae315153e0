"""`nvr catalog rebuild` and `nvr clock confirm`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from nvr.cli.arguments import add_data, recorder


def add_catalog(commands: Any) -> None:
    """`commands` is what `add_subparsers` has returned."""
    catalog = commands.add_parser("catalog", help="the index of footage").add_subparsers(
        required=True, metavar="ACTION"
    )
    rebuild = catalog.add_parser(
        "rebuild",
        help="make the index of footage anew from the track files",
        description="Reads every track file of every volume and writes the index anew. The recorder must be stopped. "
        "Nothing is deleted from the volumes.",
    )
    add_data(rebuild)
    rebuild.set_defaults(run=_catalog_rebuild)


def add_clock(commands: Any) -> None:
    """As `add_catalog`."""
    clock = commands.add_parser("clock", help="the time of day").add_subparsers(required=True, metavar="ACTION")
    confirm = clock.add_parser(
        "confirm",
        help="say that the time of day is right",
        description="A time far ahead of what the recorder knew before is doubted, and nothing is deleted for its age "
        "while it is. This ends the doubt: what is too old by the present time of this machine goes within seconds.",
    )
    add_data(confirm)
    confirm.set_defaults(run=_clock_confirm)


def _clock_confirm(arguments: argparse.Namespace) -> int:
    with recorder(arguments) as asked:
        (answer,) = asked.ask("clock confirm", {})
    doubted = answer["doubted"] == "yes"
    print("the time of day is believed now" if doubted else "nobody doubted the time of day; nothing was changed")
    return 0


def _catalog_rebuild(arguments: argparse.Namespace) -> int:
    from nvr.config import load
    from nvr.operations.access import rebuild_catalog

    def progress(seen: int, path: Path) -> None:
        if sys.stderr.isatty():
            print(f"\r{seen:8} files  {path.name}", end="", file=sys.stderr, flush=True)

    rebuilt = rebuild_catalog(arguments.data, load(arguments.config, arguments.data), progress)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if rebuilt.kept is not None:
        print(f"the damaged index is kept as {rebuilt.kept}")
    print(f"{rebuilt.files} track files indexed")
    return 0
