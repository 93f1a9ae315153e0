"""The scope (6.2.4) means the same in every kind of search: which recordings it admits, and what it must not name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest

from nvr.model.errors import BadConfiguration, UnknownToken
from nvr.model.job import SourceReference
from nvr.model.ptz import PanTilt, PtzFilter, PtzVector
from nvr.model.search import EventFilter, SearchInterval, SearchLimits, SearchScope
from nvr.model.time import NS
from nvr.model.tokens import META001, RecordingToken, TrackKey
from nvr.search.sessions import SearchSessions
from tests.support.configuration import a_recording
from tests.support.documents import WANTED, Documented
from tests.support.search import a_message, fetched

EVER, LIMITS = SearchInterval(0, None), SearchLimits(None, 10 * NS)
NUMBERS = (1, 2, 3, 4)
Find = Callable[[SearchSessions, SearchScope], Awaitable[Sequence[RecordingToken]]]


def a_recorder() -> Documented:
    """Each recording has an event, a position and an object of its own."""
    recorder = Documented(*(a_recording(f"rec-{n}", name=f"Cam {n % 2}", source_id=f"urn:{n % 3}") for n in NUMBERS))
    for n in NUMBERS:
        key = TrackKey(RecordingToken(f"rec-{n}"), META001)
        recorder.add_file(key, [[(n * NS, True)]])
        recorder.archive.add(key, n * NS, a_message())
        recorder.archive.add_position(key, n * NS, PtzVector(PanTilt(0.0, 0.0)))
    return recorder


async def recordings(searches: SearchSessions, scope: SearchScope) -> Sequence[RecordingToken]:
    token = searches.find_recordings(scope, LIMITS)
    return [found.token for found in await fetched(searches.recording_results, token)]


async def events(searches: SearchSessions, scope: SearchScope) -> Sequence[RecordingToken]:
    token = await searches.find_events(EVER, scope, EventFilter(), False, LIMITS)
    return [found.recording for found in await fetched(searches.event_results, token)]


async def positions(searches: SearchSessions, scope: SearchScope) -> Sequence[RecordingToken]:
    token = await searches.find_positions(EVER, scope, PtzFilter(PtzVector(), PtzVector()), LIMITS)
    return [found.recording for found in await fetched(searches.position_results, token)]


async def metadata(searches: SearchSessions, scope: SearchScope) -> Sequence[RecordingToken]:
    token = await searches.find_metadata(EVER, scope, WANTED, LIMITS)
    return [found.recording for found in await fetched(searches.metadata_results, token)]


ONE, TWO = RecordingToken("rec-1"), RecordingToken("rec-2")
SOURCE = SourceReference("urn:1")
"""Of rec-1 and rec-4."""
ODD = 'boolean(//Source[Name = "Cam 1"])'


@pytest.mark.requirement("RS-6.2.4-01", "RS-6.2.4-02", "RS-6.2.4-03", "RS-6.2.5-01")
@pytest.mark.parametrize("find", [recordings, events, positions, metadata])
@pytest.mark.parametrize(
    ("scope", "admitted"),
    [
        (SearchScope(), [1, 2, 3, 4]),
        (SearchScope(recordings=(TWO,)), [2]),
        (SearchScope(sources=(SOURCE,)), [1, 4]),
        (SearchScope((SOURCE,), (TWO,)), [1, 2, 4]),
        (SearchScope((SOURCE,), (ONE, ONE)), [1, 4]),
        (SearchScope(filter=ODD), [1, 3]),
        (SearchScope((SOURCE,), (TWO,), ODD), [1]),
        (SearchScope(recordings=(TWO,), filter=ODD), []),
    ],
    ids=["everything", "recording", "source", "union", "named twice", "filter", "union with filter", "nothing"],
)
async def test_a_scope_admits_the_same_recordings_whatever_is_searched_for(
    find: Find, scope: SearchScope, admitted: list[int]
) -> None:
    recorder = a_recorder()
    assert sorted(set(await find(recorder.searches, scope))) == [f"rec-{n}" for n in admitted]
    await recorder.searches.stop()


@pytest.mark.parametrize("find", [recordings, events, positions, metadata])
async def test_what_a_scope_names_must_exist_whatever_is_searched_for(find: Find) -> None:
    searches = a_recorder().searches
    with pytest.raises(UnknownToken, match="nosuch"):
        await find(searches, SearchScope(recordings=(ONE, RecordingToken("nosuch"))))
    with pytest.raises(BadConfiguration, match="there is no source"):
        await find(searches, SearchScope((SOURCE, SourceReference("nosuch"))))
    assert len(searches) == 0
