"""The state of a job as clause 5.19 wants it told: a mirror of the configuration, with what the engine reports."""

from __future__ import annotations

from nvr.model.job import JobState, RecordingJobConfiguration, RecordingJobState, SourceState, TrackState


def mirrored(configuration: RecordingJobConfiguration, reported: JobState | None) -> JobState:
    """One entry for each source and each of its tracks, in their order; what the engine has not taken up yet is Idle.

    The engine learns of a change a moment after the configuration has it; in between the answers still agree.
    """
    known = reported.sources if reported is not None else ()
    sources = []
    for place, source in enumerate(configuration.sources):
        assert source.source is not None, "stored sources have a token"
        found = known[place] if place < len(known) and known[place].source == source.source else None
        states = {(t.source_tag, t.destination): t for t in (found.tracks if found is not None else ())}
        tracks = tuple(
            states.get((line.source_tag, line.destination))
            or TrackState(line.source_tag, line.destination, RecordingJobState.IDLE)
            for line in source.tracks
        )
        trackless = found.trackless_state if found is not None else RecordingJobState.IDLE
        sources.append(SourceState(source.source, tracks, trackless))
    return JobState(configuration.recording, tuple(sources))
