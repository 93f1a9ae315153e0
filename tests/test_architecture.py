"""The arrows of docs/design/overview.md, read from the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nvr

ROOT = Path(nvr.__file__).parent

ROWS = (
    {"model"},
    {"auth", "media", "net"},
    {"storage"},
    {"control", "discovery", "events", "ingest", "replay", "search", "sources"},
    {"soap", "web"},
    {"http"},
    {
        "app",
        "background",
        "check_command",
        "checking",
        "clock_evidence",
        "config",
        "data_directory",
        "demo",
        "event_recording",
        "first_start",
        "lifecycle",
        "observation",
        "operations",
        "rooms",
        "server_tls",
        "services",
        "serving",
    },
    {"cli"},
    {"__main__"},
)
ROW_OF = {room: i for i, row in enumerate(ROWS) for room in row}
APP_ROW = ROW_OF["app"]

ALLOWED_THIRD_PARTY = {
    "spyne": {"soap"},
    "lxml": {"discovery", "media", "soap"},
    "aiohttp": {"http", "web"},
    "aiortsp": {"ingest"},
    "sqlalchemy": {"storage"},
    "alembic": {"storage"},
    "av": {"demo"},
    "cryptography": {"auth"},
    "zeep": {"demo", "sources"},
}


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            if node.module == "nvr":
                yield from (f"nvr.{alias.name}" for alias in node.names)


def sources() -> list[Path]:
    return [p for p in sorted(ROOT.rglob("*.py")) if p != ROOT / "__init__.py"]


def test_every_room_stands_in_a_row() -> None:
    assert {room_of(p) for p in sources()} <= set(ROW_OF)


def test_imports_run_downwards_only() -> None:
    wrong = []
    for path in sources():
        room = room_of(path)
        for name in imports(path):
            if not name.startswith("nvr."):
                continue
            target = name.split(".")[1]
            if target not in ROW_OF or target == room:
                continue
            same_row_of_commands = ROW_OF[target] == ROW_OF[room] == APP_ROW
            if ROW_OF[target] >= ROW_OF[room] and not same_row_of_commands:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_third_party_libraries_stay_in_their_rooms() -> None:
    wrong = []
    for path in sources():
        for name in imports(path):
            allowed = ALLOWED_THIRD_PARTY.get(name.split(".")[0])
            if allowed is not None and room_of(path) not in allowed:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_aiortsp_is_imported_by_one_file() -> None:
    users = [p.name for p in sources() if any(n.split(".")[0] == "aiortsp" for n in imports(p))]
    assert users in ([], ["connection.py"])


def test_the_daemon_does_not_load_what_asks_cameras() -> None:
    """zeep costs 40 MB: it is imported in functions that the daemon does not call."""
    command = [sys.executable, "-c", "import sys, nvr.app; print('zeep' in sys.modules or 'requests' in sys.modules)"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"
