from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.model.errors import BadConfiguration, Refused, UnknownToken
from nvr.model.timeline import GapReason, Run, Timeline
from nvr.model.tokens import VIDEO001, TrackKey
from nvr.operations.spans import PAGE, Span, spans
from tests.support.operations import NOW, CommandHouse

LOST, STOPPED, UNKNOWN = GapReason.SOURCE_LOST, GapReason.DAEMON_STOPPED, GapReason.UNKNOWN


def timeline(*runs: tuple[int, int, GapReason | None]) -> Timeline:
    return Timeline.of(Run(f"run-{i}", start, end, reason) for i, (start, end, reason) in enumerate(runs))


TWO = timeline((10, 20, LOST), (30, 40, STOPPED))
GROWING = timeline((10, 20, LOST), (30, 40, None))


@pytest.mark.parametrize(
    ("of", "since", "until", "told"),
    [
        (TWO, 0, 50, [Span(10, 20, None), Span(20, 30, LOST), Span(30, 40, None), Span(40, 50, STOPPED, True)]),
        (TWO, 15, 35, [Span(15, 20, None), Span(20, 30, LOST), Span(30, 35, None)]),
        (TWO, 22, 28, [Span(22, 28, LOST)]),
        (TWO, 20, 30, [Span(20, 30, LOST)]),
        (TWO, 45, 50, [Span(45, 50, STOPPED, True)]),
        (TWO, 0, 10, []),
        (GROWING, 25, 50, [Span(25, 30, LOST), Span(30, 40, None, True)]),
        (GROWING, 45, 50, []),
        (Timeline(), 0, 50, []),
        (timeline((10, 20, LOST), (20, 30, LOST)), 0, 30, [Span(10, 30, None)]),
        (
            timeline((10, 40, LOST), (15, 20, STOPPED), (50, 60, STOPPED)),
            42,
            60,
            [Span(42, 50, LOST), Span(50, 60, None)],
        ),
    ],
    ids=[
        "all",
        "cut",
        "in a gap",
        "one gap",
        "behind",
        "before",
        "grows",
        "behind what grows",
        "none",
        "touch",
        "over",
    ],
)
def test_a_track_is_told_as_a_row_of_spans(of: Timeline, since: int, until: int, told: list[Span]) -> None:
    assert list(spans(of, since, until)) == told


runs = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 12), st.sampled_from([LOST, STOPPED, UNKNOWN])), max_size=8
)


@given(runs, st.integers(-5, 80), st.integers(-5, 80))
def test_spans_say_of_each_instant_what_the_runs_say_and_have_no_hole(
    drawn: list[tuple[int, int, GapReason]], since: int, until: int
) -> None:
    of = timeline(*((start, start + length, reason) for start, length, reason in drawn))
    found = list(spans(of, since, until))
    for before, after in pairwise(found):
        assert before.end_ns == after.start_ns
        assert (before.reason is None) != (after.reason is None)
    gaps = {at: gap.reason for gap in of.gaps() for at in range(gap.start_ns, gap.end_ns)}
    for at in range(since, until):
        told = next((span for span in found if span.start_ns <= at < span.end_ns), None)
        if of.earliest is None or at < of.earliest:
            assert told is None
        else:
            assert told is not None
            assert (told.reason is None) == (of.run_at(at) is not None)
            assert at not in gaps or told.reason is gaps[at]
    if found:  # page by page it is the same
        assert [*found[:1], *spans(of, found[0].end_ns, until)] == found


async def test_spans_are_asked_for_in_pages() -> None:
    house = CommandHouse()
    added = await house.cameras.add("yard", "rtsp://192.0.2.1/")
    many = [(i * 10, i * 10 + 5, LOST) for i in range(PAGE)]
    house.footage.timelines[TrackKey(added.recording, VIDEO001)] = timeline(*many)
    house.footage.awaited.add(TrackKey(added.recording, VIDEO001))
    tracks = await house.ask("tracks", camera="yard")
    assert [(t["recording"], t["track"], t["name"], t["awaits"]) for t in tracks] == [
        (added.recording, *told)
        for told in (("VIDEO001", "yard", "yes"), ("AUDIO001", "yard", ""), ("META001", "yard", ""))
    ]
    which = {"recording": added.recording, "track": "VIDEO001"}
    first = await house.ask("spans", **which, since_ns="0")
    rest = await house.ask("spans", **which, since_ns=first[-1]["end_ns"])
    assert len(first) == len(rest) == PAGE
    assert rest[-1] == {"start_ns": str(PAGE * 10 - 5), "end_ns": str(NOW), "reason": "source-lost", "lasts": "yes"}
    with pytest.raises(UnknownToken, match="VIDEO009"):
        await house.ask("spans", recording=added.recording, track="VIDEO009", since_ns="0")
    with pytest.raises(BadConfiguration):
        await house.ask("spans", **which, since_ns="yesterday")
    with pytest.raises(Refused, match="no camera"):
        await house.ask("tracks", camera="gate")
