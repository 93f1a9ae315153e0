"""FindEvents over the real index of camera events, against a naive reference and against an archive in memory."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvr.media.onvif_metadata import MetadataContent
from nvr.model.recorded import CameraEvent, RecordedMessage
from nvr.model.search import EventFilter, FoundEvent, SearchInterval, SearchScope
from nvr.model.tokens import RecordingToken
from nvr.search.archive import Archive
from nvr.search.sessions import SearchSessions
from nvr.storage.event_rows import Documents
from tests.search.test_events import KEYS, WORLDS, World, content_filter, reference, told
from tests.support.configuration import a_recording
from tests.support.recorded import an_empty_index
from tests.support.search import NOW, VENDOR, Searched, a_message

COUNT = itertools.count()
TELLS_A = content_filter('boolean(//SimpleItem[@Name="State" and @Value="a"])')


def message(value: str) -> RecordedMessage:
    """One of a property, and one of another topic that is none."""
    return a_message(value) if value == "a" else a_message(value, VENDOR, None)


def searched(world: World, archive: Archive | None, forgetful: bool) -> Searched:
    recorder = Searched(a_recording("rec-1"), a_recording("rec-2"))
    recorder.forgetful = forgetful
    for key, runs in world.runs.items():
        recorder.recorded(*key, *sorted(runs), growing=world.growing)
    if archive is not None:
        recorder.searches = SearchSessions(
            recorder, recorder, archive=archive, monotonic=lambda: recorder.clock_ns, now=lambda: NOW
        )
        return recorder
    for place, (key, at, value) in enumerate(world.camera):
        recorder.archive.add(key, at, message(value), KEYS.index(key), place)
    return recorder


def seen(found: list[FoundEvent]) -> list[tuple[object, ...]]:
    operations = [e.event.message.operation if isinstance(e.event, CameraEvent) else e.event.operation for e in found]
    return [(*told(e), e.start_state, operation) for e, operation in zip(found, operations, strict=True)]


@pytest.mark.requirement("RS-6.2.1-01", "RS-6.2.1-05", "RS-6.9-12")
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    world=WORLDS, start=st.integers(-1, 37), end=st.one_of(st.none(), st.integers(-1, 37)),
    page=st.one_of(st.none(), st.integers(1, 5)), by_content=st.booleans(),
    scope=st.sampled_from([(), ("rec-1",), ("rec-2",)]), forgetful=st.booleans(), start_state=st.booleans(),
    astray=st.sampled_from([0, 2, 1000]),
)  # fmt: skip
def test_the_index_on_disk_finds_what_a_naive_reference_and_one_in_memory_find(
    world: World, start: int, end: int | None, page: int | None, by_content: bool, scope: tuple[str, ...],
    forgetful: bool, start_state: bool, astray: int, tmp_path: Path,
) -> None:  # fmt: skip
    world = replace(world, camera=sorted(world.camera, key=lambda event: (KEYS.index(event[0]), event[1])))
    index = an_empty_index(tmp_path / f"{next(COUNT)}.db")
    for key in KEYS:
        contents = [
            (at, MetadataContent((CameraEvent(message(value), at),))) for of, at, value in world.camera if of == key
        ]
        index.add(Documents(key, f"file of {key}", 0, 1, True, tuple(contents)))
    chosen = SearchScope(recordings=tuple(map(RecordingToken, scope)))
    wanted = TELLS_A if by_content else EventFilter()

    async def found(archive: Archive | None) -> list[FoundEvent]:
        recorder = searched(world, archive, forgetful)
        how = {"page": page, "scope": chosen, "wanted": wanted, "start_state": start_state}
        events = await recorder.events(start, end, **how)  # type: ignore[arg-type]
        await recorder.searches.stop()
        return events

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nvr.search.events.ASTRAY", astray)  # after so many of others, streams instead of messages
        if forgetful:
            patch.setattr("nvr.search.steps.STEP_NS", 0)  # so that it stands in the midst of its rows between two pages
        on_disk = asyncio.run(found(index))
    index.shut()
    assert seen(on_disk) == seen(asyncio.run(found(None)))
    stored = [told(e) for e in on_disk if not e.start_state]
    assert stored == [
        e for e in reference(world, SearchInterval(start, end))
        if (not scope or e[1] in scope) and (not by_content or e[3] == "a")
    ]  # fmt: skip
    assert start_state or stored == [told(e) for e in on_disk]
