"""Operation by operation, role by role: what a running recorder answers is what the standard's access classes say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.access import (
    ANONYMOUS,
    KINDS,
    MISSING,
    POLICY,
    PREFIXES,
    REFUSED,
    ROLES,
    Answer,
    Line,
    classes,
    render,
    survey,
)
from tests.support.daemon import DaemonProcess
from tests.support.sample_requests import sample_requests

OK, LET_IN = Answer(200, "", False), Answer(400, "Sender/InvalidArgVal/NoRecording", False)
TOO_LOW, CHALLENGE = Answer(400, REFUSED, False), Answer(401, REFUSED, True)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Line]]:
    with DaemonProcess(tmp_path_factory.mktemp("access") / "data") as daemon:
        yield survey(daemon)


@pytest.mark.requirement("CO-10", "CO-21", "CO-38")
def test_every_operation_answers_exactly_those_whom_its_access_class_includes(lines: list[Line]) -> None:
    """All operations of the official WSDLs, both kinds of credentials, three roles and nobody."""
    assert [complaint for line in lines for complaint in line.complaints()] == []
    called = {(role, kind) for line in lines if not line.missing for role, kind in line.answers}
    assert called == {(role, kind) for role in ROLES for kind in KINDS} | {(ANONYMOUS, "none")}


def test_the_services_of_the_standard_are_among_those_that_were_called(lines: list[Line]) -> None:
    there = {line.operation.partition(":")[0] for line in lines if not line.missing}
    assert there >= {"tds", "trc", "tse", "trv", "trp"}


def test_every_operation_in_the_list_is_one_of_the_official_wsdls() -> None:
    official = {f"{PREFIXES.get(r.namespace)}:{r.name}" for r in sample_requests()}
    assert set(classes()) <= official
    assert set(classes().values()) <= set(POLICY)


@pytest.mark.parametrize(
    ("access", "answers"),
    [
        ("PRE_AUTH", {(ANONYMOUS, "none"): CHALLENGE}),
        ("READ_MEDIA", {(ANONYMOUS, "none"): OK}),
        ("READ_MEDIA", {(ANONYMOUS, "none"): Answer(401, REFUSED, False)}),
        ("READ_MEDIA", {(ANONYMOUS, "none"): TOO_LOW}),
        ("READ_MEDIA", {("user", "Digest"): TOO_LOW}),
        ("READ_MEDIA", {("user", "Digest"): CHALLENGE}),
        ("ACTUATE", {("user", "UsernameToken"): LET_IN}),
        ("ACTUATE", {("user", "UsernameToken"): CHALLENGE}),
        ("WRITE_SYSTEM", {("operator", "Digest"): OK}),
        ("unlisted", {(ANONYMOUS, "none"): OK}),
    ],
)
def test_the_judge_complains_of_what_differs_from_the_policy(
    access: str, answers: dict[tuple[str, str], Answer]
) -> None:
    assert len(list(Line("trc:X", access, answers).complaints())) == 1


def test_the_judge_is_content_with_what_the_policy_says() -> None:
    answers = {(ANONYMOUS, "none"): CHALLENGE, ("user", "Digest"): TOO_LOW, ("operator", "Digest"): LET_IN}
    assert not list(Line("trc:X", "ACTUATE", answers).complaints())
    assert not list(Line("trc:X", "unlisted", {(ANONYMOUS, "none"): Answer(500, MISSING, False)}).complaints())


def test_the_page_shows_each_answer_once_and_names_what_is_missing() -> None:
    answers = {(role, kind): OK for role in ROLES for kind in KINDS} | {(ANONYMOUS, "none"): CHALLENGE}
    missing = {(ANONYMOUS, "none"): Answer(500, MISSING, False)}
    page = render([Line("trc:GetX", "READ_MEDIA", answers), Line("trc:GetY", "READ_MEDIA", missing)])
    assert "| `trc:GetX` | READ_MEDIA | 200 | 200 | 200 | 401 Sender/NotAuthorized |" in page
    assert page.rstrip().endswith("`trc:GetY`.")


def test_the_page_in_the_documentation_tells_what_the_recorder_answers(lines: list[Line]) -> None:
    """Otherwise: `python -m tests.conformance.access`."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "access.md").read_text(encoding="utf-8")
    assert page.splitlines() == render(lines).splitlines()
