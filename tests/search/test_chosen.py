"""When tracks have data, as it is kept for all searches."""

from __future__ import annotations

from nvr.model.timeline import Timeline
from nvr.search.chosen import Coverages
from tests.support.configuration import a_recording


def test_tracks_that_are_deleted_are_forgotten_and_all_others_are_kept() -> None:
    gone, kept = a_recording("rec-1"), a_recording("rec-2")
    coverages = Coverages(lambda key: Timeline())
    keys = [recording.key(track) for recording in (gone, kept) for track in recording.tracks]
    for key in keys:
        coverages.of(key)
    coverages.keep([gone, kept])
    assert list(coverages._tracks) == keys
    first = kept.key(kept.tracks[0])
    known = coverages._tracks[first]
    coverages.keep([kept])
    assert list(coverages._tracks) == [kept.key(track) for track in kept.tracks]
    assert coverages._tracks[first] is known
