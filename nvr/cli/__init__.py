"""The commands. Each parses its arguments, calls one function, and turns an NvrError into one line and an exit status.

Exit status: 0 done, 1 the command ran and its result is negative, 2 wrong use or a fault that the operator can mend,
130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from nvr import __version__
from nvr.check_command import add_check
from nvr.cli.cameras import add_cameras
from nvr.cli.gaps import add_gaps
from nvr.cli.serve import add_demo, add_serve
from nvr.cli.upkeep import add_catalog, add_clock
from nvr.cli.users import add_users
from nvr.model.errors import NvrError, OperatorError

_EPILOG = """\
a first recorder, in three commands:
  nvr user add admin --role administrator --data /var/lib/nvr
  nvr serve --data /var/lib/nvr
  nvr camera add yard rtsp://user:password@192.0.2.10/stream1 --data /var/lib/nvr

without a camera: nvr demo
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nvr",
        description="Network video recorder with the services of IEC 62676-2-32 (ONVIF Profile G).",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nvr {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (add_serve, add_users, add_cameras, add_gaps, add_check, add_catalog, add_clock, add_demo):
        add(commands)
    return parser


def main(argv: list[str] | None = None) -> NoReturn:
    """Entry point of the console script; leaves through sys.exit."""
    arguments = _parser().parse_args(argv)
    try:
        status = arguments.run(arguments)
        sys.stdout.flush()
    except OperatorError as e:
        print(f"nvr: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
    except NvrError as e:
        print(f"nvr: {e}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("nvr: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(status)
