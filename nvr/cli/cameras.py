"""`nvr camera`: what is recorded."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from nvr.cli.arguments import (
    add_data,
    add_password_sources,
    confirm,
    given,
    print_json,
    print_table,
    printable,
    read_password,
    recorder,
)
from nvr.model.errors import FormatError, OperatorError
from nvr.model.time import NS

_CAMERA = "its name, or the token of its recording, job or receiver"
_TRANSPORT = "how media come: interleaved on the connection, over UDP, or through a tunnel in HTTP"
_TRANSPORTS = ("tcp", "udp", "http")


def add_cameras(commands: Any) -> None:
    """`commands` is what `add_subparsers` has returned."""
    camera = commands.add_parser("camera", help="cameras").add_subparsers(required=True, metavar="ACTION")
    _add_parser(camera)
    _change_parser(camera)
    _remove_parser(camera)
    _list_parser(camera)


# Adding


def _add_parser(camera: Any) -> None:
    add = camera.add_parser(
        "add",
        help="record a camera",
        description="Makes a recording, a receiver and an active recording job in one step, on a running or stopped "
        "recorder, and prints their tokens.",
        epilog="A user and a password stand in the URI, percent-encoded: rtsp://user:p%40ss@192.0.2.10/stream1. The "
        "list of processes shows them there; it does not with - in place of the URI, which is read from stdin then, or "
        "with --user and --password, which takes NVR_CAMERA_PASSWORD or asks on the terminal.",
    )
    add.add_argument("name", metavar="NAME", help="name of the source, up to 64 characters")
    add.add_argument("uri", metavar="RTSP-URI", help="rtsp:// or rtsps:// URI of the camera's stream, or -")
    add.add_argument("--user", metavar="USER", help="user of the camera, as it is typed; its password as well")
    _add_camera_password(add, "its password, by NVR_CAMERA_PASSWORD or asked for")
    add.add_argument("--transport", choices=_TRANSPORTS, default="tcp", help=f"{_TRANSPORT} (default tcp)")
    add_data(add, makes=True)
    add.set_defaults(run=_add)


def _add(arguments: argparse.Namespace) -> int:
    fresh = _is_empty(arguments.data)  # made ready by the first command, as by the first start
    wanted = {"name": arguments.name, "transport": arguments.transport, **_address(arguments)}
    with recorder(arguments, existing=not fresh) as asked:
        (added,) = asked.ask("camera add", wanted)
    warning = added.pop("warning", "")
    if fresh:
        print(f"nvr: {arguments.data} is a new data directory", file=sys.stderr)
    if warning:
        print(f"nvr: {warning}", file=sys.stderr)
    for name, token in added.items():
        print(f"{name:<10}{token}")
    return 0


def _is_empty(data: Path) -> bool:
    """Or not there."""
    try:
        return next(data.iterdir(), None) is None
    except FileNotFoundError:
        return True
    except OSError:
        return False  # what is wrong with it is told where it is used


# Changing


def _change_parser(camera: Any) -> None:
    change = camera.add_parser(
        "change",
        help="give a camera another address, password, name, transport or retention time",
        description="Changes what is given and leaves the rest, on a running or stopped recorder. The recording, its "
        "tokens and its footage stay; another address, password or transport is used at once.",
        epilog="An address without a user keeps the user and the password that are known. A password is never an "
        "argument: with --password it comes from NVR_CAMERA_PASSWORD, or is asked for on the terminal. A shorter "
        "retention time deletes footage: that has to be confirmed on the terminal, or by --yes.",
    )
    change.add_argument("camera", metavar="CAMERA", help=_CAMERA)
    change.add_argument("--name", metavar="NAME", help="another name")
    change.add_argument("--uri", metavar="RTSP-URI", help="another address; - reads it from stdin")
    change.add_argument("--user", metavar="USER", help="another user of the camera; its password as well")
    _add_camera_password(change, "another password, by NVR_CAMERA_PASSWORD or asked for")
    change.add_argument("--no-user", action="store_true", help="the camera asks for no user and no password any more")
    change.add_argument("--transport", choices=_TRANSPORTS, help=_TRANSPORT)
    change.add_argument(
        "--retention", metavar="TIME", help="how long footage is kept: 30d, 12h; none: until room is needed"
    )
    change.add_argument("--yes", action="store_true", help="delete what is older than the new retention time unasked")
    add_data(change)
    change.set_defaults(run=_change)


def _change(arguments: argparse.Namespace) -> int:
    wanted = _wanted(arguments)
    if not wanted:
        raise OperatorError("say what to change: --uri, --user, --password, --name, --transport or --retention")
    with recorder(arguments) as asked:
        wanted["camera"] = arguments.camera
        (answer,) = asked.ask("camera change", wanted)
        if "confirm" in answer:
            confirm(answer["confirm"], answer["word"], yes=arguments.yes)
            (answer,) = asked.ask("camera change", {**wanted, "confirmed": "yes"})
    if answer["warning"]:
        print(f"nvr: {answer['warning']}", file=sys.stderr)
    print(f"{answer['camera']}: {answer['changed'] or 'nothing'} changed")
    return 0


def _wanted(arguments: argparse.Namespace) -> dict[str, str]:
    """Raises OperatorError for arguments that do not go together."""
    if arguments.no_user and (arguments.user is not None or _has_password(arguments)):
        raise OperatorError("--no-user goes with neither --user nor a password")
    kept = None if arguments.retention is None else str(_retention_ns(arguments.retention))
    anonymous = "yes" if arguments.no_user else None
    wanted = given(name=arguments.name, anonymous=anonymous, transport=arguments.transport, retention_ns=kept)
    return {**wanted, **_address(arguments)}


# Address, user and password


def _add_camera_password(parser: argparse.ArgumentParser, text: str) -> None:
    add_password_sources(parser).add_argument("--password", action="store_true", help=text)


def _has_password(arguments: argparse.Namespace) -> bool:
    return bool(arguments.password or arguments.password_stdin or arguments.password_file is not None)


def _address(arguments: argparse.Namespace) -> dict[str, str]:
    """What is given of it. Raises OperatorError for arguments that do not go together."""
    has_password = _has_password(arguments)
    if arguments.user is not None and not has_password:
        raise OperatorError("a user has a password: give --password, --password-stdin or --password-file")
    if arguments.uri == "-" and arguments.password_stdin:
        raise OperatorError("stdin can hold the address or the password: the address may have the password in it")
    return given(
        uri=sys.stdin.readline().strip() if arguments.uri == "-" else arguments.uri,
        user=arguments.user,
        password=_camera_password(arguments) if has_password else None,
    )


def _camera_password(arguments: argparse.Namespace) -> str:
    from nvr.config import camera_password

    known = camera_password() if arguments.password else None
    return read_password(arguments, "Password of the camera: ") if known is None else known


def _retention_ns(text: str) -> int:
    from nvr.config import parse_duration

    if text == "none":
        return 0
    try:
        retention_ns = parse_duration(text)
    except FormatError as e:
        raise OperatorError(f"--retention: {e}, or none") from e
    if retention_ns < NS:
        raise OperatorError("--retention: less than a second keeps nothing; none puts no limit")
    return retention_ns


# Removing


def _remove_parser(camera: Any) -> None:
    remove = camera.add_parser(
        "remove",
        help="record a camera no more",
        description="Ends the recording of a camera: its jobs and the receivers that were made for them go. Where "
        "there is footage, one of the two options says what becomes of it.",
        epilog="Footage that is kept stays searchable under its recording, for as long as the retention time says.",
    )
    remove.add_argument("camera", metavar="CAMERA", help=_CAMERA)
    footage = remove.add_mutually_exclusive_group()
    footage.add_argument("--keep-footage", dest="footage", action="store_const", const="keep", help="keep the footage")
    footage.add_argument(
        "--delete-footage",
        dest="footage",
        action="store_const",
        const="delete",
        help="delete the recording and all its footage, which has to be confirmed on the terminal, or by --yes",
    )
    remove.add_argument("--yes", action="store_true", help="delete the footage unasked")
    add_data(remove)
    remove.set_defaults(run=_remove)


def _remove(arguments: argparse.Namespace) -> int:
    wanted = {"camera": arguments.camera, "footage": arguments.footage or ""}
    with recorder(arguments) as asked:
        (answer,) = asked.ask("camera remove", wanted)
        if "choose" in answer:
            raise OperatorError(f"{answer['choose']}; nothing was changed: say --keep-footage or --delete-footage")
        if "confirm" in answer:
            confirm(answer["confirm"], answer["word"], yes=arguments.yes)
            (answer,) = asked.ask("camera remove", {**wanted, "confirmed": "yes"})
    print(f"{answer['camera']} is removed" + (f"; its footage is {answer['footage']}" if answer["footage"] else ""))
    for token in answer["stays"].split():
        print(f"receiver {token} stays: a client has made it, or another recording uses it")
    return 0


# Listing


def _list_parser(camera: Any) -> None:
    shown = camera.add_parser(
        "list",
        help="what is recorded, and what is wrong",
        description="Shows every recording job: the name of its camera, its state with the reason of an error, how "
        "media come, the beginning of its footage, its retention time, tokens, the URI without credentials. While no "
        "recorder runs, jobs that shall record are Stopped; a recording without a job is NoJob.",
        epilog="Exit status: 0; with --check 1 where the recorder is not running, a camera is in Error, or something "
        "is wrong with the storage or the clock, which stderr tells.",
    )
    shown.add_argument("--check", action="store_true", help="exit status 1 where anything is wrong, for monitoring")
    shown.add_argument("--json", action="store_true", help="one JSON object a line")
    add_data(shown)
    shown.set_defaults(run=_list)


def _list(arguments: argparse.Namespace) -> int:
    with recorder(arguments) as asked:
        rows = asked.ask("camera list", {})
        wrong = [row["what"] for row in asked.ask("health", {})]
    if arguments.json:
        print_json(map(_as_json, rows))
    else:
        columns = ("name", "state", "media", "oldest", "kept", "uri", "recording", "job", "receiver")
        print_table(columns, [{**row, **_in_words(row)} for row in rows], below="why")
    if arguments.check:
        wrong += [f"{row['name']}: {row['why']}" for row in rows if row["state"] == "Error"]
    for text in wrong:
        print(f"nvr: {printable(text)}", file=sys.stderr)
    return int(arguments.check and bool(wrong))


def _in_words(row: dict[str, str]) -> dict[str, str]:
    used, asked = row["transport"], row["asked"]
    media = used if used == asked or not used else f"{used} for {asked}"
    why = row["why"]
    if row["next_attempt_ns"]:
        why = "; ".join(filter(None, (why, f"next attempt in {-(-int(row['next_attempt_ns']) // NS)} s")))
    kept = in_units(int(row["retention_ns"])) if row["retention_ns"] else ""
    return {"media": media, "why": why, "kept": kept}


def _as_json(row: dict[str, str]) -> dict[str, object]:
    waits, kept = row["next_attempt_ns"], row["retention_ns"]
    return {
        "name": row["name"],
        "state": row["state"],
        "why": row["why"] or None,
        "transport": row["transport"].split(),
        "transport_asked": row["asked"].split(),
        "next_attempt_s": int(waits) / NS if waits else None,
        "recording": row["recording"],
        "job": row["job"] or None,
        "receivers": row["receiver"].split(),
        "oldest": row["oldest"] or None,
        "retention_s": int(kept) / NS if kept else None,
        "uris": row["uri"].split(),
    }


def in_units(duration_ns: int) -> str:
    """As --retention takes it, in the largest unit that leaves no rest; below a second it is cut."""
    seconds = duration_ns // NS
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
