"""FindMetadata over documents on a real volume, against a naive reference; and the words that spare reading."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from nvr.media.onvif_metadata import node_of, read, root_of
from nvr.model import xpath
from nvr.model.errors import BadFilter
from nvr.model.search import FoundMetadata, SearchInterval, SearchLimits, SearchScope
from nvr.model.time import NS
from nvr.model.tokens import META001, RecordingToken, TrackKey
from nvr.search.metadata import required_words
from nvr.search.sessions import SearchSessions
from nvr.storage.footage import Footage
from tests.support.configuration import a_recording
from tests.support.footage import START
from tests.support.metadata import a_document, a_fragment, a_position, an_event, an_object
from tests.support.recorded import Store, opened
from tests.support.search import Searched, fetched

ONE, TWO = (TrackKey(RecordingToken(f"rec-{n}"), META001) for n in (1, 2))
HUMAN = 'boolean(//Object/Appearance/Class[Type = "Human"])'
RIGHT = (
    'boolean(//Object/Appearance/Shape/BoundingBox[@right > "0.5"]) and '
    'boolean(//Object/Appearance/Shape/BoundingBox[@bottom > "0.5"])'
)


@dataclass
class Recorder:
    store: Store
    searches: SearchSessions
    documents: list[tuple[TrackKey, int, bytes]]

    async def find(
        self, start_ns: int, end_ns: int | None, wanted: str, *, page: int | None = None, matches: int | None = None
    ) -> list[FoundMetadata]:
        interval, limits = SearchInterval(start_ns, end_ns), SearchLimits(matches, 10 * NS)
        token = await self.searches.find_metadata(interval, SearchScope(), xpath.parse(wanted), limits)
        return await fetched(self.searches.metadata_results, token, page)

    def reference(self, start_ns: int, end_ns: int | None, wanted: str) -> list[tuple[int, str]]:
        interval, expression = SearchInterval(start_ns, end_ns), xpath.parse(wanted)
        found = {
            (time_ns, str(key.recording))
            for key, time_ns, data in self.documents
            if interval.holds(time_ns) and xpath.matches(expression, node_of(root_of(data)))
        }
        return sorted(found, reverse=interval.backward)


class Told(Searched):
    """What is configured, over footage that is real."""

    def __init__(self, store: Store) -> None:
        super().__init__(a_recording("rec-1"), a_recording("rec-2"))
        self.extent = store.storage.extent  # type: ignore[method-assign]
        self.timeline = store.storage.timeline  # type: ignore[method-assign]
        self.configuration = store.storage.configuration  # type: ignore[method-assign, assignment]
        self.footage = store.storage.footage  # type: ignore[method-assign]


@pytest_asyncio.fixture
async def recorder(tmp_path: Path) -> AsyncIterator[Recorder]:
    """Two tracks with a gap each; documents of both fall on other and on the same instants, several files each."""
    chance = random.Random(5)
    async with opened(tmp_path) as store:
        documents: list[tuple[TrackKey, int, bytes]] = []
        for key in (ONE, TWO):
            for run in range(3):
                for fragment in range(4):
                    first_ns = START + (run * 100 + fragment * 2) * NS
                    made = []
                    for second in range(2):
                        kind = "Human" if chance.random() < 0.4 else "Vehicle"
                        parts = [an_object(kind, chance.random(), chance.random())]
                        if run == 1:
                            parts = [an_event(first_ns)]
                        made.append((first_ns + second * NS, a_document(*parts)))
                    documents += [(key, *d) for d in made]
                    await store.record(a_fragment(made), key=key)
                await store.record(a_fragment([(START + (run * 100 + 8) * NS, a_document())]), end=True, key=key)
                documents.append((key, START + (run * 100 + 8) * NS, a_document()))
        await store.indexer.catch_up()
        told = Told(store)
        searches = SearchSessions(told, told, archive=store.index, files=store.files)
        yield Recorder(store, searches, documents)
        await searches.stop()


@pytest.mark.requirement("RS-6.3.9-01", "RS-6.3.9-02", "RS-6.13-05", "RS-6.13-11", "RS-6.2.1-01", "RS-6.2.1-04")
@pytest.mark.requirement("RS-6.2.1-05", "RS-6.13-12", "RS-6.14-05", "RS-6.14-06", "RS-6.13-06")
async def test_every_search_finds_what_a_naive_reference_finds(recorder: Recorder) -> None:
    chance = random.Random(7)
    far = 1 << 62
    bounds = [(0, None), (0, far), (far, 0)]
    bounds += [(START + chance.randint(-9, 220) * NS, START + chance.randint(-9, 220) * NS) for _ in range(6)]
    for wanted in (HUMAN, RIGHT, f"not({HUMAN})", 'boolean(//Nothing[Token = "x"])'):
        for start, end in bounds:
            expected = recorder.reference(start, end, wanted)
            found = await recorder.find(start, end, wanted, page=chance.choice([None, 1, 7]))
            times = [(f.time_ns, str(f.recording)) for f in found]
            assert sorted(times, reverse=SearchInterval(start, end).backward) == expected, (wanted, start, end)
            assert [t for t, _ in times] == [t for t, _ in expected]
    assert len(await recorder.find(0, None, HUMAN, matches=3)) == 3


async def test_files_without_a_word_that_the_filter_needs_are_not_read(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    read_fragment = Footage.read
    monkeypatch.setattr(Footage, "read", lambda self, ref: looked.append(1) or read_fragment(self, ref))
    events = await recorder.find(0, None, "boolean(//NotificationMessage)")
    assert (len(events), len(looked)) == (2 * 8, 2 * 5), "one of three runs has events"
    looked.clear()
    assert await recorder.find(0, None, 'boolean(//Object/Appearance/Class[Type = "Animal"])') == []
    assert looked == []


async def test_what_is_not_indexed_yet_is_found_all_the_same(recorder: Recorder) -> None:
    await recorder.store.record(a_fragment([(START + 900 * NS, a_document(an_object("Animal")))]), key=ONE)
    found = await recorder.find(0, None, 'boolean(//Class[Type = "Animal"])')
    assert [f.time_ns for f in found] == [START + 900 * NS]


async def test_a_filter_that_takes_too_much_ends_its_search(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nvr.search.metadata.MAX_VISITS", 3)
    with pytest.raises(BadFilter, match="more than 3 elements"):
        await recorder.find(0, None, "boolean(//Object/Appearance)")


async def test_deleted_footage_is_not_found(recorder: Recorder) -> None:
    await recorder.store.storage.delete_track(ONE)
    assert {f.recording for f in await recorder.find(0, None, "boolean(//*)")} == {"rec-2"}


DOCUMENTS = [
    a_document(*parts)
    for parts in (
        (),
        (an_object(),),
        (an_object("Vehicle"),),
        (a_position(0.5),),
        (an_event(START),),
        (an_object("Human"), an_event(START)),
    )
]
NAMES = st.sampled_from(["Object", "Class", "Type", "Appearance", "Shape", "BoundingBox", "Event", "Nothing", "*"])
PATHS = st.recursive(
    st.builds(lambda n: f"//{n}", NAMES),
    lambda inner: st.builds(lambda a, n: f"{a}/{n}", inner, NAMES),
    max_leaves=3,
)
TERMS = st.one_of(
    st.builds(lambda p: f"boolean({p})", PATHS),
    st.builds(
        lambda p, o, v: f'{p} {o} "{v}"', PATHS, st.sampled_from(["=", "!=", "<"]), st.sampled_from(["Human", "", " a"])
    ),
    st.builds(lambda p, v: f'contains({p}, "{v}")', PATHS, st.sampled_from(["", "um"])),
    st.builds(lambda p, v: f'boolean({p}[@right > "{v}"])', PATHS, st.sampled_from(["0.1", "0.9"])),
    st.builds(lambda p, v: f'boolean({p}[Type = "{v}"])', PATHS, st.sampled_from(["Human", "Vehicle"])),
)
FILTERS = st.recursive(
    TERMS,
    lambda inner: st.one_of(
        st.builds(lambda a, b: f"({a} and {b})", inner, inner),
        st.builds(lambda a, b: f"({a} or {b})", inner, inner),
        st.builds(lambda a: f"not({a})", inner),
    ),
    max_leaves=4,
)


@given(FILTERS)
def test_no_document_matches_without_the_words_that_a_filter_requires(text: str) -> None:
    expression = xpath.parse(text)
    words = required_words(expression)
    for document in DOCUMENTS:
        if xpath.matches(expression, node_of(root_of(document))):
            assert words <= read(document, START).words
