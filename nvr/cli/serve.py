"""`nvr serve` and `nvr demo`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from nvr.cli.arguments import add_data, positive
from nvr.model.errors import OperatorError


def add_serve(commands: Any) -> None:
    """`commands` is what `add_subparsers` has returned."""
    serve = commands.add_parser(
        "serve",
        help="run the recorder",
        description="Runs the recorder until SIGTERM or SIGINT. Prints one line when it is ready.",
        epilog="Flags override the configuration file. Port 0 takes a free port; the line printed when ready names it. "
        "NVR_ADMIN_PASSWORD makes the first administrator `admin` when there is no user yet.",
    )
    add_data(serve, makes=True)
    serve.add_argument("--http", metavar="HOST:PORT", help="where SOAP listens (default 127.0.0.1:8080)")
    serve.add_argument("--rtsp", metavar="HOST:PORT", help="where RTSP listens (default 127.0.0.1:8554)")
    serve.set_defaults(run=_serve)


def add_demo(commands: Any) -> None:
    """As `add_serve`."""
    demo = commands.add_parser(
        "demo",
        help="show the main job with a built-in camera",
        description="Starts a camera and a recorder on a temporary data directory, records, searches and replays, "
        "driven only through the services, and checks that every recorded frame arrives.",
    )
    demo.add_argument("--seconds", type=positive, default=20, metavar="N", help="how long to record (default 20)")
    demo.add_argument("--keep", action="store_true", help="go on recording and serving afterwards, until interrupted")
    demo.add_argument(
        "--directory", type=Path, metavar="DIR", help="where to put the files (default: a new temporary directory)"
    )
    demo.set_defaults(run=_demo)


def _serve(arguments: argparse.Namespace) -> int:
    from nvr.config import load
    from nvr.serving import serve

    settings = load(arguments.config, arguments.data, http=arguments.http, rtsp=arguments.rtsp)
    logging.basicConfig(
        level=settings.log.level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    for chatty in ("alembic", "spyne", "asyncio", "aiortsp"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))
    if serve(arguments.data, settings, lambda line: print(f"{line}\n", end="", flush=True)):
        _start_again()
    return 0


def _start_again() -> NoReturn:
    """The same command line from its beginning, as the same process: whoever supervises it sees no exit."""
    sys.stdout.flush()
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  no shell is meant
    except OSError as e:
        raise OperatorError(f"the recorder has stopped for a restart and cannot start again: {e}") from e


def _demo(arguments: argparse.Namespace) -> int:
    from nvr.demo.walk import run_demo

    return run_demo(arguments.seconds, keep=arguments.keep, directory=arguments.directory)
