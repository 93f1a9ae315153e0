"""Searches that come to the live edge, where the index is a moment behind the disk."""

from __future__ import annotations

import pytest

from nvr.model.ptz import PanTilt, PtzFilter, PtzVector
from nvr.model.recorded import CameraEvent
from nvr.model.search import EventFilter, SearchInterval, SearchLimits, SearchScope, SearchWish
from nvr.model.time import NS
from nvr.model.tokens import META001
from nvr.search.edge import LiveEdge
from nvr.search.sessions import SearchSessions
from tests.support.configuration import a_recording
from tests.support.search import NOW, VENDOR, Searched, a_message, fetched

LIMITS, SCOPE = SearchLimits(None, 60 * NS), SearchScope()
LONG_AGO = NOW - 3600 * NS
FORWARD, OPEN, BACKWARD = SearchInterval(LONG_AGO, NOW), SearchInterval(LONG_AGO), SearchInterval(NOW, LONG_AGO)
CAMERA = EventFilter()


class Edge:
    """A recorder whose camera has told something that is on the disk, and in the index only once that is waited for."""

    def __init__(self) -> None:
        self.recorder = Searched(a_recording("rec-1"), a_recording("rec-2"))
        self.key = self.recorder.recorded("rec-1", META001, (LONG_AGO, NOW), growing=True)
        other = self.recorder.recorded("rec-2", META001, (LONG_AGO, NOW), growing=True)
        self.recorder.archive.add(self.key, NOW - 1800 * NS, a_message("old", VENDOR, None))
        self.recorder.archive.add(self.key, NOW - 3 * NS, a_message("known", VENDOR, None))
        self.recorder.archive.add(other, NOW - NS, a_message("of another", VENDOR, None))
        self.reached = 0
        self.searches = SearchSessions(
            self.recorder, self.recorder, archive=self.recorder.archive, edge=LiveEdge(self.reach), now=lambda: NOW
        )

    async def reach(self) -> None:
        self.reached += 1
        self.recorder.archive.add(self.key, NOW - 2 * NS, a_message("late", VENDOR, None))
        self.recorder.archive.add_position(self.key, NOW - 2 * NS, PtzVector(PanTilt(0.5, 0.5, None)))

    async def told(self, interval: SearchInterval, start_state: bool = False) -> list[str]:
        token = await self.searches.find_events(interval, SCOPE, CAMERA, start_state, LIMITS)
        found = await fetched(self.searches.event_results, token)
        return [e.event.message.data[0].value for e in found if isinstance(e.event, CameraEvent)]


@pytest.mark.parametrize("interval", [FORWARD, OPEN])
async def test_an_event_on_the_disk_is_found_in_its_place_at_the_end_of_a_search(interval: SearchInterval) -> None:
    edge = Edge()
    assert await edge.told(interval) == ["old", "known", "late", "of another"]
    assert edge.reached == 1


async def test_a_search_from_the_live_edge_backward_begins_with_what_is_on_the_disk() -> None:
    edge = Edge()
    assert await edge.told(BACKWARD) == ["of another", "late", "known", "old"]
    assert edge.reached == 1


async def test_a_search_of_what_was_long_ago_waits_for_nothing() -> None:
    edge = Edge()
    assert await edge.told(SearchInterval(LONG_AGO, NOW - 60 * NS)) == ["old"]
    assert edge.reached == 0


async def test_what_was_long_ago_is_there_before_the_edge_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvr.search.steps.STEP_NS", 60 * NS)  # the first step comes to the edge, on any machine
    edge = Edge()
    token = await edge.searches.find_events(OPEN, SCOPE, CAMERA, False, LIMITS)
    _, found = await edge.searches.event_results(token, SearchWish(minimum=1, maximum=3))
    assert (len(found), edge.reached) == (3, 0)
    edge.searches.end(token)


async def test_positions_at_the_live_edge_are_found_as_well() -> None:
    edge = Edge()
    everywhere = PtzFilter(PtzVector(PanTilt(-1, -1, None)), PtzVector(PanTilt(1, 1, None)))
    token = await edge.searches.find_positions(FORWARD, SCOPE, everywhere, LIMITS)
    assert [f.time_ns for f in await fetched(edge.searches.position_results, token)] == [NOW - 2 * NS]
