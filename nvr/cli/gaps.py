"""`nvr gaps`: when was recorded, when not, and why not."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nvr.cli.arguments import add_data, print_json, print_table, printable, recorder
from nvr.model.errors import FormatError, OperatorError
from nvr.model.time import NS, UtcNs, format_iso, parse_iso

if TYPE_CHECKING:
    from nvr.operations.access import Recorder
    from nvr.operations.control_socket import Row

_EPILOG = """\
reasons of gaps:
  source-lost            the camera, or the way to it, was away
  packet-loss            packets were lost on the way
  storage                no volume took the footage, or not fast enough
  job-stopped            the recording job was idle, changed or outranked, or its footage was deleted
  daemon-stopped         the recorder did not run, or was killed
  clock-jump             a clock was set: the time between was passed over
  configuration-changed  the camera began to send something else, or was given another address or transport
  no-event               the job records while events last, and none did
  unknown                the files do not say

TIME is 2026-01-31T12:00:00Z, 2026-01-31, or so long before now: 24h, 7d.
"""


def add_gaps(commands: Any) -> None:
    """`commands` is what `add_subparsers` has returned."""
    gaps = commands.add_parser(
        "gaps",
        help="when was recorded, when not, and why not",
        description="Shows the footage of each track and the gaps in it, with the reason of each, beside a\n"
        "running recorder or without one. Before the first footage nothing is told.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    gaps.add_argument(
        "camera",
        metavar="CAMERA",
        nargs="?",
        help="its name, or the token of its recording, job or receiver (default: all)",
    )
    gaps.add_argument("--track", metavar="TOKEN", help="only this track, VIDEO001 for example")
    gaps.add_argument("--since", metavar="TIME", help="from this time on (default: from the first footage on)")
    gaps.add_argument("--until", metavar="TIME", help="up to this time (default: now)")
    gaps.add_argument("--only-gaps", action="store_true", help="without what was recorded")
    gaps.add_argument("--json", action="store_true", help="one JSON object a line")
    add_data(gaps)
    gaps.set_defaults(run=_gaps)


def _gaps(arguments: argparse.Namespace) -> int:
    now_ns = time.time_ns()
    since_ns = 0 if arguments.since is None else _instant("--since", arguments.since, now_ns)
    until_ns = None if arguments.until is None else _instant("--until", arguments.until, now_ns)
    if since_ns >= min(now_ns, now_ns if until_ns is None else until_ns):
        raise OperatorError("--since is not before --until, or in the future")
    if until_ns is not None and until_ns >= now_ns:
        until_ns = None
    with recorder(arguments) as asked:
        tracks = asked.ask("tracks", {"camera": arguments.camera or ""})
        chosen = [t for t in tracks if arguments.track in (None, t["track"])]
        if arguments.track is not None and not chosen:
            tokens = ", ".join(sorted({t["track"] for t in tracks}))
            raise OperatorError(f"there is no track {arguments.track!r}; those that there are: {tokens or 'none'}")
        if awaited := sum(bool(track["awaits"]) for track in chosen):
            print(
                f"nvr: a killed recorder has left files of {awaited} {'track' if awaited == 1 else 'tracks'} open: "
                "what is in them is told when a start of the recorder has examined them",
                file=sys.stderr,
            )
        for track in chosen:
            found = _spans(asked, track, since_ns, until_ns)
            rows = (row for row in found if row["reason"] or not arguments.only_gaps)
            if arguments.json:
                print_json(_as_json(track, row) for row in rows)
            else:
                _print(track, list(rows))
    return 0


def _instant(option: str, text: str, now_ns: UtcNs) -> UtcNs:
    from nvr.config import parse_duration

    for read in (parse_iso, lambda day: parse_iso(f"{day}T00:00:00Z"), lambda ago: now_ns - parse_duration(ago)):
        try:
            return read(text)
        except FormatError:
            continue
    raise OperatorError(f"{option}: {text!r} is no time such as 2026-01-31T12:00:00Z, 2026-01-31 or 24h")


def _spans(asked: Recorder, track: Row, since_ns: UtcNs, until_ns: UtcNs | None) -> Iterator[Row]:
    """Page by page."""
    which = {
        "recording": track["recording"],
        "track": track["track"],
        "until_ns": "" if until_ns is None else str(until_ns),
    }
    while page := asked.ask("spans", {**which, "since_ns": str(since_ns)}):
        yield from page
        since_ns = int(page[-1]["end_ns"])
        if page[-1]["lasts"] or (until_ns is not None and since_ns >= until_ns):
            return


def _print(track: Row, rows: list[Row]) -> None:
    if not rows:
        return
    print(printable(f"{track['recording']}/{track['track']} {track['name']}").rstrip())
    print_table(
        ("from", "until", "lasts", "what"),
        [
            {
                "from": format_iso(int(row["start_ns"]), 3),
                "until": format_iso(int(row["end_ns"]), 3),
                "lasts": _lasts(int(row["end_ns"]) - int(row["start_ns"])),
                "what": ("gap: " + row["reason"] if row["reason"] else "recorded")
                + (", goes on" if row["lasts"] else ""),
            }
            for row in rows
        ],
    )
    print()


def _lasts(duration_ns: int) -> str:
    """`2d 03:04:05.678`."""
    seconds, rest_ns = divmod(duration_ns, NS)
    days, of_day = divmod(seconds, 86_400)
    clock = f"{of_day // 3600:02}:{of_day // 60 % 60:02}:{of_day % 60:02}.{rest_ns // 1_000_000:03}"
    return f"{days}d {clock}" if days else clock


def _as_json(track: Row, row: Row) -> dict[str, object]:
    return {
        "recording": track["recording"],
        "name": track["name"],
        "track": track["track"],
        "kind": "gap" if row["reason"] else "recorded",
        "from": format_iso(int(row["start_ns"])),
        "until": format_iso(int(row["end_ns"])),
        "reason": row["reason"] or None,
        "goes_on": bool(row["lasts"]),
    }
