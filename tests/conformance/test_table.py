"""The conformance table: every mark names a requirement that exists, and the table shows what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.table import Requirement, marks, render, requirements, unknown_marks

ROWS = [
    Requirement("RC-5.4-01", "5.4", "shall", "iec2019", "CreateRecording message"),
    Requirement("RC-5.10-01", "5.10", "shall", "iec2019", "DeleteTrack message"),
    Requirement("RC-5.4-20", "5.4", "may", "onvif-26.06", "something new"),
]


def test_every_mark_of_the_suite_names_a_requirement_that_exists() -> None:
    assert unknown_marks(requirements(), marks()) == {}


def test_the_lists_of_requirements_hold_each_id_once_and_are_complete() -> None:
    assert len(requirements()) == 1036


def test_the_table_counts_clauses_and_names_what_is_not_covered() -> None:
    text = render(ROWS, {"RC-5.4-01": ["tests/x.py::test_it"]})
    assert "1 / 2 requirements covered (1 / 2 of level shall)" in text
    assert "| 5.4 | 1 / 1 |  |" in text
    assert "| 5.10 | 0 / 1 | RC-5.10-01 (shall): DeleteTrack message |" in text
    assert text.index("| 5.4 |") < text.index("| 5.10 |")
    assert "Newer editions, optional here: 0 / 1." in text


def test_marks_are_found_on_modules_classes_functions_and_parameters(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_a.py").write_text(
        "import pytest\n"
        "pytestmark = pytest.mark.requirement('A-1')\n"
        "@pytest.mark.requirement('A-2', 'A-3')\n"
        "async def test_one(): ...\n"
        "@pytest.mark.requirement('A-4')\n"
        "class TestThing:\n"
        "    @pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.requirement('A-5'))])\n"
        "    def test_two(self, x): ...\n"
    )
    assert marks(tests) == {
        "A-1": ["tests/test_a.py"],
        "A-2": ["tests/test_a.py::test_one"],
        "A-3": ["tests/test_a.py::test_one"],
        "A-4": ["tests/test_a.py::TestThing"],
        "A-5": ["tests/test_a.py::TestThing::test_two"],
    }


@pytest.mark.parametrize("mark", ["requirement()", "requirement(*IDS)", "requirement(NAME)"])
def test_a_mark_whose_ids_are_not_written_out_is_refused(tmp_path: Path, mark: str) -> None:
    (tmp_path / "test_a.py").write_text(f"@pytest.mark.{mark}\ndef test_one(): ...\n")
    with pytest.raises(ValueError, match="line 1"):
        marks(tmp_path)
