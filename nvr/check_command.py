"""`nvr check` on the command line: its arguments, the progress, and the report for people and for machines."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from nvr.storage.findings import Kind

if TYPE_CHECKING:
    from nvr.checking import Outcome, Reported
    from nvr.storage.survey import Survey

_EPILOG = """\
Kinds of findings: missing, left-open, orphan, copy, foreign, unreadable, size, table, identity, row, checksum, overlap,
hole.
--repair gives orphans a row, removes the rows of files that are not there (what was recorded before and behind such a
file are two runs then, and the gap between them says `storage`), makes rows and tables anew from the files,
closes what was left open, and remembers damaged fragments, which stay as they are: they are told as known from then on
and do not count. A destroyed head is made anew where the fragments are whole, from the row of the file and the codec
configuration of its run, of what is left of the head, of the samples, or of another file of the track; the old bytes
are kept beside the file (*.cut). Where none can be made, the file and its row stay, and every check counts it, as it
does a file that a start has had to set aside (*.unreadable). It never removes footage.

Files that a killed recorder left open are told in one line and do not count: the next start closes them.

Exit status: 0 nothing was found that was not known, 1 there are findings (mended or not), 2 something could not be
checked."""
_BAR = 30
_REDRAW_S = 0.2
_LINE_S = 30.0
_NICER = 10


def add_check(commands: Any) -> None:
    """`commands` is what `add_subparsers` has returned."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "check",
        help="check the footage: every file, every byte",
        description="Checks every track file against the index and against its own checksums, on a running\n"
        "or stopped recorder. A running one goes on recording; what it is writing is checked as\n"
        "far as it is written.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", type=lambda text: Path(text).absolute(), required=True, metavar="DIR", help="the data directory"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML file with settings; see config/nvr.example.toml"
    )
    parser.add_argument(
        "--recording", action="append", default=[], metavar="TOKEN", help="only this recording; may be repeated"
    )
    parser.add_argument(
        "--volume", action="append", default=[], metavar="ID|DIR", help="only this volume; may be repeated"
    )
    parser.add_argument("--repair", action="store_true", help="mend what can be mended without losing footage")
    parser.add_argument("--json", action="store_true", help="one JSON object a line: the findings, then a summary")
    parser.set_defaults(run=run_check)


def run_check(arguments: argparse.Namespace) -> int:
    """The exit status. Raises OperatorError."""
    from nvr.checking import Request, check_footage
    from nvr.config import load

    settings = load(arguments.config, arguments.data)
    os.nice(_NICER)  # a recorder beside goes first
    progress = Progress(sys.stderr)
    report = Report(sys.stdout, progress, machine=arguments.json, repair=arguments.repair)
    request = Request(tuple(arguments.recording), tuple(arguments.volume), arguments.repair)
    storage_log = logging.getLogger("nvr.storage")
    level = storage_log.level
    storage_log.setLevel(logging.ERROR)  # what is mended is told in the report, in words for people
    try:
        outcome = check_footage(arguments.data, settings, request, report.found, progress.show)
    finally:
        storage_log.setLevel(level)
        progress.clear()
    report.end(outcome)
    return outcome.status


class Progress:
    """A bar on a terminal, otherwise a line now and then."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._next_s = time.monotonic() + (0.0 if self._terminal else _LINE_S)

    def show(self, survey: Survey, total: int) -> None:
        now = time.monotonic()
        if now < self._next_s:
            return
        self._next_s = now + (_REDRAW_S if self._terminal else _LINE_S)
        part = min(survey.bytes_read / total, 1.0) if total else 1.0
        text = f"{part:4.0%}  {survey.files} files, {_size(survey.bytes_read)} of {_size(total)}"
        if self._terminal:
            filled = round(part * _BAR)
            print(f"\r\x1b[K[{'#' * filled}{'.' * (_BAR - filled)}] {text}", end="", file=self._out, flush=True)
        else:
            print(text, file=self._out, flush=True)

    def clear(self) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", file=self._out, flush=True)


class Report:
    """Findings as they come, and the sum of them."""

    def __init__(self, out: TextIO, progress: Progress, *, machine: bool, repair: bool = False) -> None:
        self._out = out
        self._repair = repair
        self._progress = progress
        self._machine = machine

    def found(self, reported: Reported) -> None:
        self._progress.clear()
        if self._machine:
            self._json({**reported.finding.as_fields(), "done": reported.done or None, "remains": reported.remains})
            return
        if reported.finding.kind is Kind.LEFT_OPEN and (not reported.done or not reported.remains):
            return  # a killed recorder leaves one a track, and the next start closes them all: one line at the end
        key = reported.finding.key
        print(f"{key}  {reported.finding}" if key else str(reported.finding), file=self._out)
        if reported.done:
            print(f"    {reported.done}", file=self._out)
        self._out.flush()

    def end(self, outcome: Outcome) -> None:
        if self._machine:
            self._json(
                {
                    "kind": "summary",
                    "files": outcome.files,
                    "bytes": outcome.bytes_read,
                    "findings": outcome.found,
                    "left_open": outcome.left_open,
                    "mended": outcome.mended,
                    "remembered": outcome.remembered,
                    "remaining": outcome.remaining,
                    "known": outcome.known,
                    "unchecked": outcome.unchecked,
                    "daemon": outcome.beside,
                }
            )
            return
        for sentence in outcome.unchecked:
            print(f"not checked: {sentence}", file=self._out)
        known = f", {outcome.known} more that were known" if outcome.known else ""
        beside = " beside the running recorder" if outcome.beside else ""
        if outcome.left_open:
            closed = "" if self._repair else ": the next start, or --repair, closes them"
            print(
                f"{_counted(outcome.left_open, 'file was', 'files were')} left open by a recorder that did not end in "
                f"order{closed}",
                file=self._out,
            )
        did = ""
        if self._repair and outcome.found + outcome.left_open:
            did = f" ({outcome.mended} mended, {outcome.remembered} remembered as damaged, {outcome.remaining} remain)"
        print(
            f"{_counted(outcome.files, 'file', 'files')}, {_size(outcome.bytes_read)} checked{beside}: "
            f"{_counted(outcome.found, 'finding', 'findings')}{known}{did}",
            file=self._out,
        )

    def _json(self, fields: dict[str, object]) -> None:
        print(json.dumps(fields), file=self._out, flush=True)


def _counted(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
