"""What several commands share: arguments, passwords, questions, tables."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvr.model.errors import OperatorError

if TYPE_CHECKING:
    from nvr.operations.access import Recorder


def add_data(parser: argparse.ArgumentParser, *, makes: bool = False) -> None:
    """`makes`: the command makes a data directory where there is none."""
    makes_ready = "; an empty one is made ready" if makes else " of an existing recorder"
    parser.add_argument(
        "--data",
        type=lambda text: Path(text).absolute(),
        required=True,
        metavar="DIR",
        help=f"the data directory{makes_ready}: databases, keys, and the default volume",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML file with settings; see config/nvr.example.toml"
    )


def positive(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    if not (text.isascii() and text.isdigit()) or int(text[:9]) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text[:9])


def recorder(arguments: argparse.Namespace, *, existing: bool = True) -> Recorder:
    """What `--data` and `--config` name. Raises OperatorError where no recorder has been, which a mistyped directory
    looks like; not with `existing` False, where one is made."""
    from nvr.config import load
    from nvr.data_directory import require_recorder
    from nvr.operations.access import Recorder

    settings = load(arguments.config, arguments.data)
    if existing:
        require_recorder(arguments.data)
    return Recorder(arguments.data, settings)


def given(**arguments: str | None) -> dict[str, str]:
    """Those that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


# Passwords: never an argument, which the list of processes shows.


def add_password_sources(parser: argparse.ArgumentParser) -> Any:
    """The group, to which other sources can be added."""
    sources = parser.add_mutually_exclusive_group()
    sources.add_argument("--password-stdin", action="store_true", help="read the password from the first line of stdin")
    sources.add_argument("--password-file", type=Path, metavar="FILE", help="read it from the first line of a file")
    return sources


def read_password(arguments: argparse.Namespace, prompt: str = "Password: ") -> str:
    """From where the arguments say, or from the terminal. Raises OperatorError."""
    if arguments.password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise OperatorError("--password-stdin: the first line of stdin is empty")
        return password
    if arguments.password_file is not None:
        return _first_line(arguments.password_file)
    if not sys.stdin.isatty():
        raise OperatorError(
            "no terminal to ask for the password; give it by --password-stdin, or by --password-file FILE"
        )
    try:
        password = getpass.getpass(prompt)
        again = getpass.getpass("Again: ")
    except EOFError:
        raise OperatorError("no password was given; nothing was changed") from None
    if again != password:
        raise OperatorError("the two passwords differ; nothing was changed")
    return password


def _first_line(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as lines:
            password = lines.readline().rstrip("\r\n")
    except OSError as e:
        raise OperatorError(f"cannot read {file}: {e.strerror}") from e
    except UnicodeDecodeError:
        raise OperatorError(f"{file} holds no text in UTF-8") from None
    if not password:
        raise OperatorError(f"the first line of {file} is empty")
    return password


# Questions


def confirm(question: str, word: str, *, yes: bool) -> None:
    """Asks on a terminal for the word. Raises OperatorError where another one comes, and without a terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise OperatorError(f"{question}; nothing was changed: --yes says that this is meant")
    print(f"nvr: {question}.", file=sys.stderr)
    try:
        typed = input(f"Type {word} to go on: ")
    except EOFError:
        typed = ""
    if typed.strip() != word:
        raise OperatorError("nothing was changed")


# Output


def printable(text: str) -> str:
    """On one line; what a terminal would take for a command is shown as `?`."""
    return "".join(s if s.isprintable() else "?" for s in text)


def print_table(columns: Sequence[str], rows: Sequence[Mapping[str, str]], below: str = "") -> None:
    """Column by column below each other, with a heading. `below` is what stands on a line of its own below its row,
    where it is not empty."""
    shown = [{c: printable(row[c]) for c in columns} for row in rows]
    widths = {c: max(len(c), *(len(row[c]) for row in shown)) if shown else len(c) for c in columns}
    print("  ".join(f"{c.upper():<{widths[c]}}" for c in columns).rstrip())
    for row, text in zip(shown, rows, strict=True):
        print("  ".join(f"{row[c]:<{widths[c]}}" for c in columns).rstrip())
        if below and text[below]:
            print(f"    {printable(text[below])}")


def print_json(rows: Iterable[Mapping[str, object]]) -> None:
    """One object a line."""
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))
