"""FindRecordings over random recorders, against a naive reference that looks at everything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.model.job import RecordingJobState, SourceReference
from nvr.model.search import SearchScope, SearchState
from nvr.model.time import NS
from nvr.model.tokens import AUDIO001, META001, VIDEO001, RecordingToken, TrackToken
from tests.search.test_sessions import Recorder
from tests.support.configuration import a_recording

TRACKS = {VIDEO001: "Video", AUDIO001: "Audio", META001: "Metadata"}


@dataclass(frozen=True)
class Camera:
    name: str
    source_id: str
    runs: dict[TrackToken, tuple[int, int]]
    receivers: frozenset[str]
    state: RecordingJobState

    @property
    def status(self) -> str:
        records = self.receivers and self.state in (RecordingJobState.ACTIVE, RecordingJobState.PARTIALLY_ACTIVE)
        return "Recording" if records else "Stopped" if self.runs else "Initiated"


RANGES = st.tuples(st.integers(0, 5), st.integers(1, 5)).map(lambda r: (r[0] * NS, (r[0] + r[1]) * NS))
CAMERAS = st.lists(
    st.builds(
        Camera,
        st.sampled_from(["Gate", "Gate 2", "Yard", ""]),
        st.sampled_from(["urn:a", "urn:b", ""]),
        st.dictionaries(st.sampled_from(list(TRACKS)), RANGES),
        st.frozensets(st.sampled_from(["rcv-1", "rcv-2"])),
        st.sampled_from(list(RecordingJobState)),
    ),
    max_size=6,
)
FILTERS: dict[str, Callable[[Camera], bool]] = {
    'contains(//Source/Name, "Gate")': lambda c: "Gate" in c.name,
    'boolean(//Track[TrackType = "Video"])': lambda c: VIDEO001 in c.runs,
    'boolean(//Track[TrackType = "Audio" and DataTo > "1970-01-01T00:00:04Z"])': (
        lambda c: AUDIO001 in c.runs and c.runs[AUDIO001][1] > 4 * NS
    ),
    '//RecordingStatus = "Recording" or not(boolean(//Track))': lambda c: c.status == "Recording" or not c.runs,
    '//EarliestRecording <= "1970-01-01T00:00:02Z"': (
        lambda c: bool(c.runs) and min(start for start, _ in c.runs.values()) <= 2 * NS
    ),
    '//Source/SourceId = "urn:a" and contains(//Source/Name, "2")': lambda c: c.source_id == "urn:a" and "2" in c.name,
}


@pytest.mark.requirement("RS-6.2.4-01", "RS-6.2.4-02", "RS-6.2.4-03", "RS-6.7-06", "RS-6.7-07", "RS-6.8-05")
@pytest.mark.requirement("RS-6.8-06", "RS-6.3.4-02", "RS-6.18-02", "RS-6.18-04", "RS-6.18-05")
@settings(max_examples=60)
@given(
    CAMERAS, st.sets(st.integers(0, 5)), st.sets(st.sampled_from(["rcv-1", "rcv-2", "urn:a", "rcv-unused"])),
    st.one_of(st.none(), st.sampled_from(list(FILTERS))), st.one_of(st.none(), st.integers(1, 4)),
    st.one_of(st.none(), st.integers(1, 5)),
)  # fmt: skip
def test_every_search_finds_what_a_naive_reference_finds(
    cameras: list[Camera], named: set[int], sources: set[str], wanted: str | None, page: int | None, most: int | None
) -> None:
    recorder = Recorder(*(a_recording(f"rec-{n}", name=c.name, source_id=c.source_id) for n, c in enumerate(cameras)))
    for n, camera in enumerate(cameras):
        for track, run in camera.runs.items():
            recorder.recorded(f"rec-{n}", track, run)
        for receiver in sorted(camera.receivers):
            recorder.job(f"job-{n}-{receiver}", f"rec-{n}", receiver, camera.state)
    recordings = {n for n in named if n < len(cameras)}
    known = {r for c in cameras for r in (*c.receivers, c.source_id) if r} | {"rcv-unused"}
    sources &= known
    expected = [
        f"rec-{n}"
        for n, camera in enumerate(cameras)
        if (not recordings and not sources) or n in recordings or {*camera.receivers, camera.source_id} & sources
        if wanted is None or FILTERS[wanted](camera)
    ][:most]
    scope = SearchScope(
        tuple(SourceReference(s) for s in sorted(sources)),
        tuple(RecordingToken(f"rec-{n}") for n in sorted(recordings)),
        wanted,
    )

    async def fetch() -> list[str]:
        token = recorder.find(scope, most, 10 * NS)
        found: list[str] = []
        state = SearchState.SEARCHING
        while state is not SearchState.COMPLETED:
            state, some = await recorder.results(token, None, page, NS)
            assert page is None or len(some) <= page
            assert [recorder.searches.information(i.token) for i in some] == some
            found += [i.token for i in some]
        await recorder.searches.stop()
        return found

    assert asyncio.run(fetch()) == expected
