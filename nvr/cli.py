"""The commands. Each parses its arguments, calls one function, and turns an NvrError into one line and an exit status.

Exit status: 0 done, 1 the command ran and its result is negative, 2 wrong use or a fault that the operator can mend,
130 interrupted.
"""

from __future__ import annotations

import argparse
import getpass
import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

from nvr import __version__
from nvr.check_command import add_check
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

    serve = commands.add_parser(
        "serve",
        help="run the recorder",
        description="Runs the recorder until SIGTERM or SIGINT. Prints one line when it is ready.",
        epilog="Flags override the configuration file. Port 0 takes a free port; the line printed when ready names it. "
        "NVR_ADMIN_PASSWORD makes the first administrator `admin` when there is no user yet.",
    )
    _data_argument(serve)
    _config_argument(serve)
    serve.add_argument("--http", metavar="HOST:PORT", help="where SOAP listens (default 127.0.0.1:8080)")
    serve.add_argument("--rtsp", metavar="HOST:PORT", help="where RTSP listens (default 127.0.0.1:8554)")
    serve.set_defaults(run=_serve)

    user = commands.add_parser("user", help="users of the services").add_subparsers(required=True, metavar="ACTION")
    user_add = user.add_parser(
        "add",
        help="make a user",
        description="Makes a user, on a running or stopped recorder. Asks for the password, or reads it from stdin.",
    )
    user_add.add_argument("name", metavar="NAME")
    user_add.add_argument(
        "--role",
        required=True,
        choices=("administrator", "operator", "user"),
        help="administrator: everything; operator: recordings and replay; user: search and replay",
    )
    user_add.add_argument(
        "--password-stdin", action="store_true", help="read the password from the first line of stdin"
    )
    _data_argument(user_add)
    _config_argument(user_add)
    user_add.set_defaults(run=_user_add)

    camera = commands.add_parser("camera", help="cameras").add_subparsers(required=True, metavar="ACTION")
    camera_add = camera.add_parser(
        "add",
        help="record a camera",
        description="Makes a recording, a receiver and an active recording job in one step, on a running or stopped "
        "recorder, and prints their tokens.",
        epilog="A user and a password stand in the URI, percent-encoded: rtsp://user:p%40ss@192.0.2.10/stream1. "
        "With - in place of the URI it is read from stdin, where the list of processes does not show it.",
    )
    camera_add.add_argument("name", metavar="NAME", help="name of the source, up to 64 characters")
    camera_add.add_argument("uri", metavar="RTSP-URI", help="rtsp:// or rtsps:// URI of the camera's stream, or -")
    camera_add.add_argument(
        "--transport",
        choices=("tcp", "udp", "http"),
        default="tcp",
        help="how media come: interleaved on the connection (default), over UDP, or through a tunnel in HTTP",
    )
    _data_argument(camera_add)
    _config_argument(camera_add)
    camera_add.set_defaults(run=_camera_add)
    camera_list = camera.add_parser(
        "list",
        help="what is recorded, and what is wrong",
        description="Shows every recording job: the name of its camera, its state with the reason of an error, tokens, "
        "the beginning of its footage, the URI without credentials. While no recorder runs, jobs that shall record are "
        "Stopped.",
        epilog="Exit status: 0 all is well; 1 the recorder is not running, or something is wrong with its volumes, "
        "which stderr tells.",
    )
    _data_argument(camera_list)
    _config_argument(camera_list)
    camera_list.set_defaults(run=_camera_list)

    catalog = commands.add_parser("catalog", help="the index of footage").add_subparsers(
        required=True, metavar="ACTION"
    )
    rebuild = catalog.add_parser(
        "rebuild",
        help="make the index of footage anew from the track files",
        description="Reads every track file of every volume and writes the index anew. The recorder must be stopped. "
        "Nothing is deleted from the volumes.",
    )
    _data_argument(rebuild)
    _config_argument(rebuild)
    rebuild.set_defaults(run=_catalog_rebuild)

    clock = commands.add_parser("clock", help="the time of day").add_subparsers(required=True, metavar="ACTION")
    confirm = clock.add_parser(
        "confirm",
        help="say that the time of day is right",
        description="A time far ahead of what the recorder knew before is doubted, and nothing is deleted for its age "
        "while it is. This ends the doubt: what is too old by the present time of this machine goes within seconds.",
    )
    _data_argument(confirm)
    _config_argument(confirm)
    confirm.set_defaults(run=_clock_confirm)

    add_check(commands)

    demo = commands.add_parser(
        "demo",
        help="show the main job with a built-in camera",
        description="Starts a camera and a recorder on a temporary data directory, records, searches and replays, "
        "driven only through the services, and checks that every recorded frame arrives.",
    )
    demo.add_argument("--seconds", type=_positive, default=20, metavar="N", help="how long to record (default 20)")
    demo.add_argument("--keep", action="store_true", help="go on recording and serving afterwards, until interrupted")
    demo.add_argument(
        "--directory", type=Path, metavar="DIR", help="where to put the files (default: a new temporary directory)"
    )
    demo.set_defaults(run=_demo)
    return parser


def _data_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=lambda text: Path(text).absolute(),
        required=True,
        metavar="DIR",
        help="the data directory: databases, keys, and the default volume; an empty one is made ready",
    )


def _config_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML file with settings; see config/nvr.example.toml"
    )


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text[:9]) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text[:9])


def _serve(arguments: argparse.Namespace) -> int:
    from nvr.config import load
    from nvr.serving import serve

    settings = load(arguments.config, arguments.data, http=arguments.http, rtsp=arguments.rtsp)
    logging.basicConfig(
        level=settings.log.level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    for chatty in ("alembic", "spyne", "asyncio", "aiortsp"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))
    if serve(arguments.data, settings, lambda line: print(line, flush=True)):
        _start_again()
    return 0


def _start_again() -> NoReturn:
    """The same command line from its beginning, as the same process: whoever supervises it sees no exit."""
    sys.stdout.flush()
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  no shell is meant
    except OSError as e:
        raise OperatorError(f"the recorder has stopped for a restart and cannot start again: {e}") from e


def _user_add(arguments: argparse.Namespace) -> int:
    from nvr.commands import run_operation
    from nvr.config import load

    password = _read_password(arguments.password_stdin)
    run_operation(
        arguments.data,
        load(arguments.config, arguments.data),
        "user add",
        {"name": arguments.name, "role": arguments.role, "password": password},
    )
    print(f"user {arguments.name} ({arguments.role}) added")
    return 0


def _read_password(from_stdin: bool) -> str:
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise OperatorError("--password-stdin: the first line of stdin is empty")
        return password
    if not sys.stdin.isatty():
        raise OperatorError("no terminal to ask for the password; give it on stdin with --password-stdin")
    try:
        password = getpass.getpass("Password: ")
        again = getpass.getpass("Again: ")
    except EOFError:
        raise OperatorError("no password was given; nothing was changed") from None
    if again != password:
        raise OperatorError("the two passwords differ; nothing was changed")
    return password


def _camera_add(arguments: argparse.Namespace) -> int:
    from nvr.commands import run_operation
    from nvr.config import load

    uri = sys.stdin.readline().strip() if arguments.uri == "-" else arguments.uri
    added = run_operation(
        arguments.data,
        load(arguments.config, arguments.data),
        "camera add",
        {"name": arguments.name, "uri": uri, "transport": arguments.transport},
    )
    warning = added[0].pop("warning", "")
    if warning:
        print(f"nvr: {warning}", file=sys.stderr)
    for name, token in added[0].items():
        print(f"{name:<10}{token}")
    return 0


def _camera_list(arguments: argparse.Namespace) -> int:
    from nvr.commands import run_operation
    from nvr.config import load

    settings = load(arguments.config, arguments.data)
    if not (arguments.data / "config.db").exists():
        raise OperatorError(f"{arguments.data} is no data directory of a recorder")
    rows = run_operation(arguments.data, settings, "camera list", {})
    wrong = run_operation(arguments.data, settings, "health", {})
    columns = ("name", "state", "recording", "job", "receiver", "oldest", "uri", "why")
    widths = {c: max(len(c), *(len(row[c]) for row in rows)) if rows else len(c) for c in columns}
    for row in [{c: c.upper() for c in columns}, *rows]:
        print("  ".join(f"{row[c]:<{widths[c]}}" for c in columns).rstrip())
    for row in wrong:
        print(f"nvr: {row['what']}", file=sys.stderr)
    return int(bool(wrong))


def _clock_confirm(arguments: argparse.Namespace) -> int:
    from nvr.commands import run_operation
    from nvr.config import load

    (answer,) = run_operation(arguments.data, load(arguments.config, arguments.data), "clock confirm", {})
    doubted = answer["doubted"] == "yes"
    print("the time of day is believed now" if doubted else "nobody doubted the time of day; nothing was changed")
    return 0


def _catalog_rebuild(arguments: argparse.Namespace) -> int:
    from nvr.commands import rebuild_catalog
    from nvr.config import load

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


def _demo(arguments: argparse.Namespace) -> int:
    from nvr.demo.walk import run_demo

    return run_demo(arguments.seconds, keep=arguments.keep, directory=arguments.directory)


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
