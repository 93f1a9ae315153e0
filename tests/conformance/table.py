"""The conformance table: `python -m tests.conformance.table` writes docs/conformance.md.

Requirements come from the CSV files beside this one, proofs from the `requirement` marks of the tests. The marks are
read from the source text, so that the table needs no test run; whether a marked test passes is what the test run says.
"""

from __future__ import annotations

import ast
import csv
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
TABLE = TESTS.parent / "docs" / "conformance.md"
FILES = ("requirements-control.csv", "requirements-replay.csv")
MISSION = "iec2019"
"""The edition whose requirements the recorder is built to; rows of newer editions are counted apart."""

SECTIONS = {
    "RC": "Recording control",
    "RS": "Recording search",
    "RP": "Replay control",
    "PB": "Replay over RTSP",
    "EX": "Export file format",
    "RX": "Receiver",
    "PG": "Profile G",
    "CO": "Core",
}
"""The first part of a requirement's id and what it is about, in the order of the table."""


@dataclass(frozen=True, slots=True)
class Requirement:
    id: str
    clause: str
    level: str
    since: str
    subject: str

    @property
    def section(self) -> str:
        return self.id.partition("-")[0]


def requirements(directory: Path = TESTS / "conformance") -> list[Requirement]:
    """All rows of the CSV files. Raises ValueError when an id stands there twice."""
    rows = []
    for name in FILES:
        with (directory / name).open(encoding="utf-8", newline="") as file:
            rows += [
                Requirement(r["id"], r["clause"], r["level"], r["since"], r["subject"]) for r in csv.DictReader(file)
            ]
    twice = sorted(id_ for id_, count in Counter(r.id for r in rows).items() if count > 1)
    if twice:
        raise ValueError(f"ids stand twice: {', '.join(twice)}")
    return rows


def marks(directory: Path = TESTS) -> dict[str, list[str]]:
    """Which tests carry the mark of which id: `{"RC-5.4-03": ["tests/soap/test_recording.py::test_x"]}`.

    A mark on a class or a module counts for its tests and is shown under its name. Raises ValueError for a mark whose
    ids are not written out, since nobody could find them.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(directory.rglob("test_*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"), str(path))
        where = path.relative_to(directory.parent).as_posix()
        for name, node in _named(module):
            for id_ in _ids(node, where):
                found[id_].append(f"{where}::{name}" if name else where)
    return dict(found)


def _named(module: ast.Module) -> Iterable[tuple[str, ast.AST]]:
    """Every piece of a module that can hold marks, with the name of the test or class it belongs to."""
    for statement in module.body:
        if isinstance(statement, ast.ClassDef):
            for decorator in statement.decorator_list:
                yield statement.name, decorator
            for inner in statement.body:
                yield f"{statement.name}::{getattr(inner, 'name', '')}".removesuffix("::"), inner
        else:
            yield getattr(statement, "name", ""), statement


def _ids(node: ast.AST, where: str) -> Iterable[str]:
    for call in ast.walk(node):
        if not (isinstance(call, ast.Call) and ast.unparse(call.func).endswith("mark.requirement")):
            continue
        if not call.args or call.keywords:
            raise ValueError(f"{where}, line {call.lineno}: the mark names no requirement")
        for argument in call.args:
            if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
                raise ValueError(f"{where}, line {call.lineno}: write the ids of a requirement mark out as text")
            yield argument.value


def unknown_marks(rows: Iterable[Requirement], marked: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Marks whose id stands in no CSV file."""
    known = {r.id for r in rows}
    return {id_: tests for id_, tests in marked.items() if id_ not in known}


def render(rows: Iterable[Requirement], marked: Mapping[str, list[str]]) -> str:
    """The whole table as Markdown; the same input gives the same text."""
    mission = [r for r in rows if r.since == MISSION]
    newer = [r for r in rows if r.since != MISSION]
    lines = [
        "# Conformance",
        "",
        "Written by `python -m tests.conformance.table`; do not edit. A requirement counts as covered when a test",
        "that proves it carries its id (`@pytest.mark.requirement`). The requirements themselves, with how each is",
        "observed, stand in `tests/conformance/*.csv`.",
        "",
        f"IEC 62676-2-32:2019: {_share(mission, marked)} requirements covered"
        f" ({_share([r for r in mission if r.level == 'shall'], marked)} of level shall).",
        f"Newer editions, optional here: {_share(newer, marked)}.",
        "",
        "| part | shall | should | may |",
        "|---|---|---|---|",
    ]
    for section, title in SECTIONS.items():
        part = [r for r in mission if r.section == section]
        if part:
            cells = (_share([r for r in part if r.level == level], marked) for level in ("shall", "should", "may"))
            lines.append(f"| [{title}](#{title.lower().replace(' ', '-')}) | {' | '.join(cells)} |")
    for section, title in SECTIONS.items():
        part = [r for r in mission if r.section == section]
        if part:
            lines += ["", f"## {title}", "", "| clause | covered | not covered |", "|---|---|---|"]
            lines += _clauses(part, marked)
    return "\n".join(lines) + "\n"


def _clauses(part: list[Requirement], marked: Mapping[str, list[str]]) -> Iterable[str]:
    by_clause: defaultdict[str, list[Requirement]] = defaultdict(list)
    for row in part:
        by_clause[row.clause].append(row)
    for clause in sorted(by_clause, key=_clause_order):
        here = by_clause[clause]
        missing = "<br>".join(f"{r.id} ({r.level}): {_cell(r.subject)}" for r in here if r.id not in marked)
        yield f"| {_cell(clause)} | {_share(here, marked)} | {missing} |"


def _clause_order(clause: str) -> list[tuple[int, int, str]]:
    """`5.3.10` behind `5.3.9`, annexes behind clauses."""
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"[.\s]", clause)]


def _share(rows: list[Requirement], marked: Mapping[str, list[str]]) -> str:
    return f"{sum(r.id in marked for r in rows)} / {len(rows)}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> int:
    rows, marked = requirements(), marks()
    unknown = unknown_marks(rows, marked)
    for id_, tests in sorted(unknown.items()):
        print(f"{id_} stands in no list of requirements; marked at {', '.join(tests)}", file=sys.stderr)
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(render(rows, marked), encoding="utf-8")
    print(f"{TABLE}: {_share([r for r in rows if r.since == MISSION], marked)} covered")
    return 1 if unknown else 0


if __name__ == "__main__":
    raise SystemExit(main())
