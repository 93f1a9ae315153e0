"""A data directory that holds footage before any daemon has run on it: a recording of minutes ago in milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nvr.auth.credentials import Vault
from nvr.config import load
from nvr.data_directory import DataDirectory
from nvr.media.unit import Fragment
from nvr.model.recording import Recording, RecordingConfiguration, default_tracks
from nvr.model.timeline import GapReason
from nvr.model.tokens import RecordingToken, TrackKey, TrackToken
from nvr.storage.configuration import ConfigurationStore
from nvr.storage.engine import StorageEngine
from nvr.storage.index import SqlFootageIndex


@dataclass(frozen=True)
class Section:
    """One run of one track."""

    track: TrackToken
    fragments: Sequence[Fragment]


def prepare(data: Path, footage: Mapping[RecordingToken, Sequence[Section]], config: Path | None = None) -> None:
    """Writes recordings with their default tracks and these runs, with the recorder's own stores."""
    with DataDirectory(data) as directory:
        configuration = ConfigurationStore.open(directory.configuration, Vault.load_or_create(data))
        for token in footage:
            configuration.save_recording(Recording(token, RecordingConfiguration(), default_tracks()))
        configuration.close()
        asyncio.run(_record(directory, footage, config))


async def _record(
    directory: DataDirectory, footage: Mapping[RecordingToken, Sequence[Section]], config: Path | None
) -> None:
    index = await asyncio.to_thread(SqlFootageIndex.open, directory.index)
    engine = StorageEngine(load(config, directory.path).storage, index)
    await engine.start()
    kinds = {track.token: track.configuration.track_type for track in default_tracks()}
    for token, sections in footage.items():
        for section in sections:
            recorder = engine.recorder(TrackKey(token, section.track), kinds[section.track])
            for fragment in section.fragments:
                assert recorder.append(fragment)
            recorder.end_run(GapReason.JOB_STOPPED)
            await engine.flush()
    await engine.stop()
    await asyncio.to_thread(index.shut)
