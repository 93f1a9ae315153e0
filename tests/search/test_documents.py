"""FindMetadata over tracks in memory: against a naive reference, while footage comes, and under pressure."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.model.search import SearchInterval, SearchState, SearchWish
from nvr.model.time import NS
from nvr.model.tokens import META001, RecordingToken, TrackKey
from tests.support.configuration import a_recording
from tests.support.documents import Documented, told
from tests.support.search import NOW, fetched

ONE, TWO = (TrackKey(RecordingToken(f"rec-{n}"), META001) for n in (1, 2))
Fragments = list[list[tuple[int, bool]]]


def a_recorder() -> Documented:
    return Documented(a_recording("rec-1"), a_recording("rec-2"))


def seconds(*of: int, from_ns: int = 0) -> Fragments:
    """One fragment, of documents that match."""
    return [[(from_ns + n * NS, True) for n in of]]


@st.composite
def tracks(draw: st.DrawFn) -> list[Fragments]:
    """Files of a track: ascending documents, cut into fragments and files."""
    times = sorted(draw(st.lists(st.integers(0, 40), max_size=14)))
    files: list[Fragments] = []
    for time_ns in times:
        document = (time_ns, draw(st.booleans()))
        place = draw(st.sampled_from("dff" if files else "F"))
        if place == "d":
            files[-1][-1].append(document)
        elif place == "f":
            files[-1].append([document])
        else:
            files.append([[document]])
    return files


@pytest.mark.requirement("RS-6.13-05", "RS-6.13-06", "RS-6.13-11", "RS-6.14-05", "RS-6.14-06", "RS-6.2.1-04")
@pytest.mark.requirement("RS-6.2.1-05")
@settings(max_examples=80)
@given(
    tracks(), tracks(), st.integers(-1, 42), st.one_of(st.none(), st.integers(-1, 42)), st.booleans(),
    st.one_of(st.none(), st.integers(1, 5)), st.one_of(st.none(), st.integers(1, 9)), st.booleans(),
)  # fmt: skip
def test_every_search_finds_what_a_naive_reference_finds(
    one: list[Fragments],
    two: list[Fragments],
    start: int,
    end: int | None,
    growing: bool,
    page: int | None,
    max_matches: int | None,
    forgetful: bool,
) -> None:
    async def main() -> None:
        recorder = a_recorder()
        recorder.forgetful = forgetful
        for key, files in ((ONE, one), (TWO, two)):
            for n, fragments in enumerate(files):
                recorder.add_file(key, fragments, growing=growing and n == len(files) - 1)
        expected = recorder.matching(start, end)
        token = await recorder.find(start, end, max_matches)
        found = told(await fetched(recorder.searches.metadata_results, token, page, recorder.between))
        backward = SearchInterval(start, end).backward
        assert [t for t, _ in found] == [t for t, _ in expected][:max_matches], "in the order of time"
        if max_matches is None:
            assert sorted(found, reverse=backward) == expected
        else:
            assert set(found) <= set(expected)
            assert len(set(found)) == len(found)
        await recorder.searches.stop()

    asyncio.run(main())


@pytest.mark.requirement("RS-6.2.1-02")
@pytest.mark.parametrize("page", [1, 10])
async def test_what_is_recorded_while_a_search_runs_is_found(page: int) -> None:
    """In the growing file, in the next one, and in a track that had none."""
    recorder = a_recorder()
    recorder.now_ns = 150 * NS
    file = recorder.add_file(ONE, [*seconds(*range(50)), *seconds(*range(50, 150))], growing=True)
    token = await recorder.find(0, None)
    _, found = await recorder.searches.metadata_results(token, SearchWish(maximum=page, wait_ns=NS))
    assert len(found) == page
    file.fragments += seconds(150, 151)
    recorder.close(ONE)
    recorder.add_file(ONE, seconds(300, 301), growing=True)
    recorder.add_file(TWO, seconds(302, 303))
    recorder.now_ns = 303 * NS
    found += await fetched(recorder.searches.metadata_results, token)
    assert [f.time_ns // NS for f in found] == [*range(152), 300, 301, 302, 303]
    await recorder.searches.stop()


async def test_a_track_that_stood_still_and_goes_on_is_found_in_its_place_among_others() -> None:
    recorder = a_recorder()
    recorder.add_file(ONE, seconds(1, 2), growing=True)
    other = recorder.add_file(TWO, [*seconds(*range(3, 103)), *seconds(*range(103, 150))], growing=True)
    recorder.now_ns = 150 * NS
    token = await recorder.find(0, None)
    _, found = await recorder.searches.metadata_results(token, SearchWish(maximum=50, wait_ns=NS))
    recorder.of_tracks[ONE][0].fragments += seconds(170)
    other.fragments += seconds(*range(150, 200))
    recorder.now_ns = 200 * NS
    found += await fetched(recorder.searches.metadata_results, token)
    assert [f.time_ns // NS for f in found] == [*range(1, 171), *range(170, 200)]


@pytest.mark.requirement("RS-6.13-11")
async def test_what_comes_too_late_for_its_place_does_not_break_the_order() -> None:
    recorder = a_recorder()
    file = recorder.add_file(ONE, seconds(-9, from_ns=NOW), growing=True)
    recorder.add_file(TWO, [*seconds(*range(-8, -4), from_ns=NOW), *seconds(-1, from_ns=NOW)], growing=True)
    token = await recorder.find(0, None)
    found = []
    state = SearchState.SEARCHING
    while state is SearchState.SEARCHING:
        state, some = await recorder.searches.metadata_results(token, SearchWish(maximum=1, wait_ns=NS))
        found += some
        if len(found) == 6:
            file.fragments += [*seconds(-3, from_ns=NOW), *seconds(0, from_ns=NOW)]
    times = [(f.time_ns - NOW) // NS for f in found]
    assert times == sorted(times)


async def test_a_search_beside_a_camera_that_never_stops_comes_to_its_end() -> None:
    """Whenever it looks, another document is there."""
    recorder = a_recorder()
    file = recorder.add_file(ONE, seconds(-20, from_ns=NOW), growing=True)
    rows = recorder._rows

    def and_one_more(key: TrackKey) -> object:
        file.fragments += [[(file.fragments[-1][-1][0] + NS, True)]]
        recorder.now_ns = file.fragments[-1][-1][0]
        return rows(key)

    recorder._rows = and_one_more  # type: ignore[method-assign, assignment]
    token = await recorder.find(0, None)
    found = told(await fetched(recorder.searches.metadata_results, token))
    assert found == sorted(found)
    assert len(found) < 100
