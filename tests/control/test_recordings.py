from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from nvr.control.receivers import Receivers
from nvr.control.recordings import RecordingControl
from nvr.control.state import ControlSettings, ControlState
from nvr.model.errors import BadConfiguration, LimitReached, StorageError, UnknownToken
from nvr.model.job import RecordingJobConfiguration, RecordingJobMode, RecordingJobSource, SourceReference
from nvr.model.receiver import ReceiverConfiguration
from nvr.model.recording import (
    RecordingConfiguration,
    RecordingSourceInformation,
    Track,
    TrackConfiguration,
    TrackType,
    default_tracks,
)
from nvr.model.time import NS
from nvr.model.tokens import AUDIO001, META001, VIDEO001, RecordingToken, TrackKey, TrackToken
from nvr.storage.changes import Deletion, StoredConfiguration
from nvr.storage.configuration import ConfigurationStore
from tests.support.configuration import XorSealer, a_job, a_receiver, a_recording
from tests.support.control import Controlled, FakeEngine, FakeFootage, FakeStore

NOSUCH = RecordingToken("nosuch")


def a_configuration(**source: str) -> RecordingConfiguration:
    return RecordingConfiguration(RecordingSourceInformation(**source))


def auto_source() -> RecordingJobSource:
    return RecordingJobSource(None, auto_create_receiver=True)


def a_job_for(recording: RecordingToken, *sources: RecordingJobSource) -> RecordingJobConfiguration:
    return RecordingJobConfiguration(recording, RecordingJobMode.IDLE, 1, sources or (auto_source(),))


@pytest.mark.requirement("RC-5.4-09", "RC-5.4-11", "RC-5.4-12", "RC-5.4-13", "RC-5.6-04", "RC-5.1-01")
async def test_a_new_recording_has_its_own_token_and_the_three_default_tracks() -> None:
    c = Controlled()
    created = [await c.control.create_recording(a_configuration(name=f"Gate {n}")) for n in range(3)]
    assert len({r.token for r in created}) == 3
    assert all(0 < len(r.token) <= 64 for r in created)
    for recording in created:
        assert [(t.token, t.configuration.track_type) for t in recording.tracks] == [
            (VIDEO001, TrackType.VIDEO),
            (AUDIO001, TrackType.AUDIO),
            (META001, TrackType.METADATA),
        ]
        assert {t.configuration.description for t in recording.tracks} == {""}
        assert recording.configuration.maximum_retention_ns == 0
    assert c.control.recordings() == tuple(created)
    assert c.engine.recordings == tuple(created)


async def test_a_change_is_on_the_disk_before_it_counts() -> None:
    c = Controlled()
    before = c.everything()
    c.store.failing = True
    with pytest.raises(StorageError):
        await c.control.create_recording(a_configuration())
    assert c.everything() == before


@pytest.mark.requirement("RC-5.4-03")
async def test_one_recording_more_than_the_limit_is_refused() -> None:
    c = Controlled(settings=ControlSettings(recordings=2))
    for _ in range(2):
        await c.control.create_recording(a_configuration())
    before = c.everything()
    with pytest.raises(LimitReached) as caught:
        await c.control.create_recording(a_configuration())
    assert (caught.value.kind, caught.value.limit) == ("Recording", 2)
    assert c.everything() == before


BAD = [
    (a_configuration(name="x" * 65), "Source/Name: 65 characters"),
    (a_configuration(source_id="x" * 1025), "Source/SourceId: 1025"),
    (a_configuration(address="x" * 1025), "Source/Address: 1025"),
    (a_configuration(location="\x01"), "Source/Location: holds a character"),
    (a_configuration(description="\ufffe"), "Source/Description: holds a character"),
    (RecordingConfiguration(content="\ud800"), "Content: holds a character"),
    (RecordingConfiguration(maximum_retention_ns=-1), "MaximumRetentionTime"),
    (RecordingConfiguration(maximum_retention_ns=1 << 63), "MaximumRetentionTime"),
    (RecordingConfiguration(maximum_retention_ns=100_000_000), "MaximumRetentionTime: with less than a second"),
]


@pytest.mark.parametrize(("configuration", "message"), BAD)
@pytest.mark.requirement("RC-5.4-04", "RC-5.7-03")
async def test_a_bad_configuration_is_refused_with_its_field_and_changes_nothing(
    configuration: RecordingConfiguration, message: str
) -> None:
    c = Controlled()
    recording = await c.control.create_recording(a_configuration())
    before = c.everything()
    with pytest.raises(BadConfiguration, match=message):
        await c.control.create_recording(configuration)
    with pytest.raises(BadConfiguration, match=message):
        await c.control.set_recording_configuration(recording.token, configuration)
    assert c.everything() == before


@pytest.mark.requirement("RC-5.3.1-08", "RC-5.3.1-09", "RC-5.3.1-10", "RC-5.3.1-11", "RC-5.8-04")
async def test_a_configuration_comes_back_as_given_and_long_descriptions_are_cut() -> None:
    c = Controlled()
    source = RecordingSourceInformation("urn:" + "x" * 124, "Ü" * 64, "<L>", "a & b", "http://" + "y" * 121)
    whole = RecordingConfiguration(source, "Tür", 3600 * NS)
    recording = await c.control.create_recording(whole)
    assert recording.configuration == whole
    long = replace(whole, source=replace(source, location="l" * 9999, description="d" * 9999), content="c" * 9999)
    await c.control.set_recording_configuration(recording.token, long)
    cut = c.control.recording(recording.token).configuration
    assert cut == replace(
        whole, source=replace(source, location="l" * 4096, description="d" * 4096), content="c" * 4096
    )
    assert c.engine.recordings[0].configuration == cut


@pytest.mark.requirement("RC-5.5-08", "RC-5.5-09")
async def test_deleting_a_recording_takes_jobs_auto_receivers_and_data_and_leaves_what_others_use() -> None:
    c = Controlled()
    doomed = await c.control.create_recording(a_configuration())
    other = await c.control.create_recording(a_configuration())
    manual = await c.receivers.create(ReceiverConfiguration(media_uri="rtsp://camera.example/"))
    alone = await c.control.create_job(a_job_for(doomed.token))
    by_manual = RecordingJobSource(SourceReference(manual.token))
    shared = await c.control.create_job(a_job_for(doomed.token, by_manual, auto_source()))
    shared_reference = shared.configuration.sources[1].source
    assert shared_reference is not None
    survivor = await c.control.create_job(a_job_for(other.token, RecordingJobSource(shared_reference)))

    await c.control.delete_recording(doomed.token)
    assert c.control.recordings() == (other,)
    assert c.control.jobs() == (survivor,)
    assert [r.token for r in c.receivers.receivers()] == [manual.token, shared_reference.token]
    assert c.footage.deleted == [doomed.token]
    assert c.state.now.deletions == {}
    assert c.engine.jobs == (survivor,)
    with pytest.raises(UnknownToken, match="Recording "):
        c.control.recording(doomed.token)
    with pytest.raises(UnknownToken, match="RecordingJob "):
        c.control.job_state(alone.token)


@pytest.mark.requirement("RC-5.5-03", "RC-5.7-04", "RC-5.8-03", "RC-5.9-03", "RC-5.10-03", "RC-5.11-03", "RC-5.12-03")
async def test_an_unknown_recording_is_refused_everywhere() -> None:
    c = Controlled()
    before = c.everything()
    video = TrackConfiguration(TrackType.VIDEO)
    for call in (
        c.control.delete_recording(NOSUCH),
        c.control.set_recording_configuration(NOSUCH, a_configuration()),
        c.control.create_track(NOSUCH, video),
        c.control.delete_track(NOSUCH, VIDEO001),
        c.control.set_track_configuration(NOSUCH, VIDEO001, video),
    ):
        with pytest.raises(UnknownToken) as caught:
            await call
        assert caught.value.kind == "Recording"
    with pytest.raises(UnknownToken):
        c.control.recording(NOSUCH)
    with pytest.raises(UnknownToken):
        c.control.options(NOSUCH)
    with pytest.raises(UnknownToken):
        c.control.track(NOSUCH, VIDEO001)
    assert c.everything() == before


async def test_data_that_cannot_be_deleted_now_are_deleted_at_the_next_start(caplog: pytest.LogCaptureFixture) -> None:
    c = Controlled()
    recording = await c.control.create_recording(a_configuration())
    c.footage.failing = True
    await c.control.delete_recording(recording.token)
    assert c.control.recordings() == ()
    assert list(c.state.now.deletions) == [Deletion(recording.token)]
    assert "the volume is missing" in caplog.text

    again = Controlled(FakeStore(StoredConfiguration(deletions=tuple(c.state.now.deletions))))
    again.control.start()
    await again.control.stop()
    assert again.footage.deleted == [recording.token]
    assert again.state.now.deletions == {}


async def test_a_client_that_hangs_up_does_not_break_a_change_apart() -> None:
    c = Controlled()
    recording = await c.control.create_recording(a_configuration())
    started, proceed = asyncio.Event(), asyncio.Event()

    class SlowFootage(FakeFootage):
        async def delete_recording(self, token: RecordingToken) -> None:
            started.set()
            await proceed.wait()
            await super().delete_recording(token)

    footage = SlowFootage()
    control = RecordingControl(c.state, footage)
    request = asyncio.create_task(control.delete_recording(recording.token))
    await started.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    proceed.set()
    await control.stop()
    assert footage.deleted == [recording.token]
    assert c.state.now.deletions == {}


async def test_a_change_whose_client_hangs_up_during_the_write_is_in_memory_when_it_is_on_the_disk() -> None:
    c = Controlled()
    request = asyncio.create_task(c.control.create_recording(a_configuration()))
    while not c.store.applied:
        request.cancel() if c.state.coming.recordings else None
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await request
    assert len(c.control.recordings()) == len(c.store.applied) == 1


async def test_two_clients_at_once_cannot_pass_the_limit_together() -> None:
    c = Controlled(settings=ControlSettings(recordings=5))
    outcomes = await asyncio.gather(
        *(c.control.create_recording(a_configuration()) for _ in range(9)), return_exceptions=True
    )
    assert sum(isinstance(o, LimitReached) for o in outcomes) == 4
    assert len(c.control.recordings()) == 5


# Tracks


@pytest.mark.requirement("RC-5.3.2-01", "RC-5.9-04", "RC-5.9-07", "RC-5.9-08", "RC-5.9-10", "RC-5.1-02")
@pytest.mark.requirement("RC-5.20-08", "RC-5.20-09", "RC-5.20-10", "RC-5.20-11", "RC-5.20-13", "RC-5.20-16")
async def test_tracks_can_be_added_while_the_options_say_so() -> None:
    c = Controlled(settings=ControlSettings(tracks_per_type=3))
    token = (await c.control.create_recording(a_configuration())).token
    made: dict[TrackToken, Track] = {}
    for kind, stem in ((TrackType.VIDEO, "VIDEO"), (TrackType.AUDIO, "AUDIO"), (TrackType.METADATA, "META")):
        for spare in (2, 1):
            options = c.control.options(token)
            assert options.spare_tracks[kind] == spare
            assert options.spare_total == 6 - len(made)
            track = await c.control.create_track(token, TrackConfiguration(kind, f"spare {spare}"))
            assert track.token == f"{stem}{4 - spare:03}"
            made[track.token] = track
        before = c.everything()
        with pytest.raises(LimitReached) as caught:
            await c.control.create_track(token, TrackConfiguration(kind))
        assert caught.value.kind == "Track"
        assert c.everything() == before
    assert c.control.options(token).spare_total == 0
    assert c.control.recording(token).tracks == (*default_tracks(), *made.values())
    for track in made.values():
        assert c.control.track(token, track.token) == track


@pytest.mark.parametrize("kind", ["Extended", "video", ""])
@pytest.mark.requirement("RC-5.3.2-02", "RC-5.9-05")
async def test_a_track_is_video_audio_or_metadata(kind: str) -> None:
    c = Controlled()
    token = (await c.control.create_recording(a_configuration())).token
    before = c.everything()
    with pytest.raises(BadConfiguration, match="TrackType"):
        await c.control.create_track(token, TrackConfiguration(kind))  # type: ignore[arg-type]
    assert c.everything() == before


@pytest.mark.requirement("RC-5.11-05", "RC-5.12-06", "RC-5.12-07")
async def test_setting_a_track_changes_its_description_and_never_its_type() -> None:
    c = Controlled()
    token = (await c.control.create_recording(a_configuration())).token
    await c.control.set_track_configuration(token, VIDEO001, TrackConfiguration(TrackType.AUDIO, "Hall"))
    assert c.control.track(token, VIDEO001).configuration == TrackConfiguration(TrackType.VIDEO, "Hall")
    assert c.control.track(token, AUDIO001).configuration == TrackConfiguration(TrackType.AUDIO)
    before = c.everything()
    with pytest.raises(BadConfiguration, match="Description"):
        await c.control.set_track_configuration(token, VIDEO001, TrackConfiguration(TrackType.VIDEO, "\0"))
    assert c.everything() == before


@pytest.mark.requirement("RC-5.10-04", "RC-5.11-04", "RC-5.12-04")
async def test_a_track_of_another_recording_is_unknown() -> None:
    c = Controlled()
    one, other = [(await c.control.create_recording(a_configuration())).token for _ in range(2)]
    added = await c.control.create_track(other, TrackConfiguration(TrackType.VIDEO))
    before = c.everything()
    for token in (added.token, TrackToken("nosuch")):
        with pytest.raises(UnknownToken, match="Track"):
            await c.control.delete_track(one, token)
        with pytest.raises(UnknownToken, match="Track"):
            await c.control.set_track_configuration(one, token, added.configuration)
        with pytest.raises(UnknownToken, match="Track"):
            c.control.track(one, token)
    assert c.everything() == before


async def test_deleting_a_track_takes_its_data_and_its_line_in_every_job() -> None:
    recording, other = a_recording("rec-1"), a_recording("rec-2")
    jobs = (a_job("job-1", "rec-1", "rcv-1", "VIDEO001", "AUDIO001"), a_job("job-2", "rec-2", "rcv-1", "VIDEO001"))
    c = Controlled(FakeStore(StoredConfiguration((recording, other), jobs, (a_receiver("rcv-1"),))))
    await c.control.delete_track(recording.token, VIDEO001)
    assert [t.token for t in c.control.recording(recording.token).tracks] == [AUDIO001, META001]
    assert [t.destination for t in c.control.job(jobs[0].token).configuration.sources[0].tracks] == [AUDIO001]
    assert c.control.job(jobs[1].token) == jobs[1]
    assert c.footage.deleted == [TrackKey(recording.token, VIDEO001)]
    assert c.state.now.deletions == {}


async def test_the_token_of_a_track_whose_data_are_still_there_is_not_given_again() -> None:
    c = Controlled()
    token = (await c.control.create_recording(a_configuration())).token
    second = await c.control.create_track(token, TrackConfiguration(TrackType.VIDEO))
    c.footage.failing = True
    await c.control.delete_track(token, second.token)
    third = await c.control.create_track(token, TrackConfiguration(TrackType.VIDEO))
    assert (second.token, third.token) == ("VIDEO002", "VIDEO003")


@pytest.mark.requirement("RC-5.2-01", "RC-5.2-02", "RX-10.3-01", "RX-10.3-02")
async def test_everything_is_there_again_after_a_restart_and_active_jobs_go_on(tmp_path: Path) -> None:
    async def opened() -> tuple[ConfigurationStore, FakeEngine, RecordingControl, Receivers]:
        store = ConfigurationStore.open(tmp_path / "config.db", XorSealer())
        engine = FakeEngine()
        state = await ControlState.load(store, engine)
        control = RecordingControl(state, FakeFootage())
        control.start()
        return store, engine, control, Receivers(state)

    store, _, control, receivers = await opened()
    recording = await control.create_recording(a_configuration(name="Gate"))
    await control.create_track(recording.token, TrackConfiguration(TrackType.VIDEO, "second"))
    job = await control.create_job(a_job_for(recording.token))
    uri = ReceiverConfiguration(media_uri="rtsp://admin:pw@camera.example/1")
    await receivers.configure(receivers.receivers()[0].token, uri)
    await control.set_job_mode(job.token, RecordingJobMode.ACTIVE)
    expected = (control.recordings(), control.jobs(), receivers.receivers())
    store.close()

    store, engine, control, receivers = await opened()
    assert (control.recordings(), control.jobs(), receivers.receivers()) == expected
    assert (engine.recordings, engine.jobs, engine.receivers) == expected
    assert engine.jobs[0].configuration.mode is RecordingJobMode.ACTIVE
    assert engine.receivers[0].configuration.media_uri == uri.media_uri
    store.close()


def test_settings_that_the_standard_does_not_allow_are_refused() -> None:
    for bad in ({"uri_octets": 127}, {"recordings": 0}, {"protocols": ()}):
        with pytest.raises(ValueError, match="must"):
            ControlSettings(**bad)
