from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nvr.control.state import ControlSettings
from nvr.model.errors import BadConfiguration, BadMode, CannotDelete, LimitReached, UnknownToken
from nvr.model.job import (
    INCOMPATIBLE_STREAM,
    PROFILE_TYPE,
    RECEIVER_TYPE,
    JobState,
    RecordingJob,
    RecordingJobConfiguration,
    RecordingJobMode,
    RecordingJobSource,
    RecordingJobState,
    RecordingJobTrack,
    SourceReference,
    SourceState,
    TrackState,
)
from nvr.model.receiver import (
    ReceiverConfiguration,
    ReceiverMode,
    ReceiverState,
    StreamSetup,
    StreamType,
    TransportProtocol,
)
from nvr.model.recording import TrackConfiguration, TrackType
from nvr.model.tokens import AUDIO001, META001, VIDEO001, JobToken, ReceiverToken, RecordingToken, TrackToken
from nvr.storage.changes import StoredConfiguration
from tests.support.configuration import a_job, a_receiver, a_recording
from tests.support.control import AUDIO, METADATA, VIDEO, Controlled, FakeStore, Stream

REC = RecordingToken("rec-1")
RCV = ReceiverToken("rcv-1")
UNCHECKED: Any = str
"""A value from outside that is no member of its enumeration."""
IDLE, ACTIVE = RecordingJobMode.IDLE, RecordingJobMode.ACTIVE


@pytest.fixture
def c() -> Controlled:
    """Two recordings, two receivers made by clients, no job."""
    stored = StoredConfiguration(
        (a_recording("rec-1"), a_recording("rec-2")), (), (a_receiver("rcv-1"), a_receiver("rcv-2"))
    )
    return Controlled(FakeStore(stored), settings=ControlSettings(jobs=4, receivers=4))


def auto(*destinations: str) -> RecordingJobSource:
    return RecordingJobSource(None, lines(*destinations), auto_create_receiver=True)


def by_receiver(token: str, *destinations: str) -> RecordingJobSource:
    return RecordingJobSource(SourceReference(token), lines(*destinations))


def lines(*destinations: str) -> tuple[RecordingJobTrack, ...]:
    return tuple(RecordingJobTrack("", TrackToken(d)) for d in destinations)


def configured(
    *sources: RecordingJobSource, mode: RecordingJobMode = IDLE, priority: int = 1
) -> RecordingJobConfiguration:
    return RecordingJobConfiguration(REC, mode, priority, sources)


def destinations(configuration: RecordingJobConfiguration) -> list[list[str]]:
    return [[t.destination for t in source.tracks] for source in configuration.sources]


async def settle(c: Controlled, receiver: str, *streams: Stream) -> None:
    c.control.streams_known(ReceiverToken(receiver), streams)
    await c.control.stop()


@pytest.mark.requirement("RC-5.3.3-17", "RC-5.13-07", "RC-5.13-09", "RC-5.13-12", "RC-5.1-08", "RC-5.3.3-18")
async def test_a_source_that_asks_for_a_receiver_gets_one_with_neutral_values(c: Controlled) -> None:
    given = configured(auto("VIDEO001", "AUDIO001"), by_receiver("rcv-1", "META001"), mode=ACTIVE, priority=7)
    job = await c.control.create_job(given)
    made = c.receivers.receivers()[-1]
    assert made.auto_created
    assert made.configuration == ReceiverConfiguration(
        ReceiverMode.AUTO_CONNECT, "", StreamSetup(StreamType.RTP_UNICAST, TransportProtocol.UDP)
    )
    reference = SourceReference(made.token, RECEIVER_TYPE)
    expected = replace(given.sources[0], source=reference, auto_create_receiver=False)
    assert job.configuration == replace(given, sources=(expected, given.sources[1]))
    assert not any(s.auto_create_receiver for j in c.control.jobs() for s in j.configuration.sources)
    assert c.control.jobs() == (job,) == c.engine.jobs
    assert len(c.store.applied) == 1  # receiver and job in one transaction


@pytest.mark.requirement("RC-5.3.3-19")
async def test_beside_a_token_auto_create_receiver_has_no_effect(c: Controlled) -> None:
    source = replace(by_receiver("rcv-1", "VIDEO001"), auto_create_receiver=True)
    job = await c.control.create_job(configured(source))
    assert job.configuration.sources == (replace(source, auto_create_receiver=False),)
    assert len(c.receivers.receivers()) == 2


@pytest.mark.requirement("RC-5.3.3-24")
async def test_an_empty_token_counts_as_not_given(c: Controlled) -> None:
    source = RecordingJobSource(SourceReference(""), auto_create_receiver=True)
    job = await c.control.create_job(configured(source))
    assert job.configuration.sources[0].source == SourceReference(c.receivers.receivers()[-1].token, RECEIVER_TYPE)


BAD = [
    (configured(priority=-1), "Priority: -1"),
    (configured(priority=1 << 31), "Priority"),
    (replace(configured(), mode=UNCHECKED("Foo")), "Mode: 'Foo' is none of Idle, Active"),
    (replace(configured(), mode=UNCHECKED("idle")), "Mode: 'idle'"),
    (configured(RecordingJobSource(None)), r"Source\[0\]: has neither a SourceToken nor AutoCreateReceiver"),
    (configured(by_receiver("")), r"Source\[0\]: has neither"),
    (configured(auto(), by_receiver("nosuch")), r"Source\[1\]/SourceToken: receiver 'nosuch' does not exist"),
    (configured(RecordingJobSource(SourceReference("p", PROFILE_TYPE))), "media profile 'p' does not exist"),
    (configured(RecordingJobSource(SourceReference("rcv-1", "urn:x"))), "Type: 'urn:x' is not known"),
    (
        configured(RecordingJobSource(SourceReference("", PROFILE_TYPE), auto_create_receiver=True)),
        "makes receivers only",
    ),
    (configured(auto("VIDEO002")), r"Source\[0\]/Tracks/Destination: recording rec-1 has no track 'VIDEO002'"),
    (configured(auto("VIDEO001", "VIDEO001")), "track VIDEO001 is named twice"),
    (configured(auto("VIDEO001"), auto("VIDEO001")), r"Source\[1\]/Tracks/Destination: track VIDEO001 is named twice"),
    (configured(RecordingJobSource(SourceReference("rcv-1"), (RecordingJobTrack("\0", VIDEO001),))), "SourceTag"),
    (replace(configured(), schedule_token="x" * 65), "ScheduleToken"),
    (configured(*([by_receiver("rcv-1")] * 65)), "at most 64 sources"),
]


@pytest.mark.parametrize(("configuration", "message"), BAD)
@pytest.mark.requirement("RC-5.3.3-05", "RC-5.3.3-06", "RC-5.3.3-16", "RC-5.3.3-21", "RC-5.13-04", "RC-5.16-04")
async def test_a_bad_job_is_refused_with_its_field_and_changes_nothing(
    c: Controlled, configuration: RecordingJobConfiguration, message: str
) -> None:
    job = await c.control.create_job(configured(by_receiver("rcv-1", "VIDEO001")))
    before = c.everything()
    with pytest.raises(BadConfiguration, match=message) as caught:
        await c.control.create_job(configuration)
    assert not isinstance(caught.value, BadMode)
    with pytest.raises(BadConfiguration, match=message):
        await c.control.set_job_configuration(job.token, configuration)
    assert c.everything() == before


@pytest.mark.requirement("RC-5.13-03", "RC-5.14-03", "RC-5.16-03", "RC-5.17-03", "RC-5.18-03", "RC-5.19-03")
async def test_unknown_tokens_are_refused_and_change_nothing(c: Controlled) -> None:
    before = c.everything()
    with pytest.raises(UnknownToken) as caught:
        await c.control.create_job(replace(configured(), recording=RecordingToken("nosuch"), priority=-1))
    assert caught.value.kind == "Recording"
    nosuch = JobToken("nosuch")
    for call in (
        c.control.delete_job(nosuch),
        c.control.set_job_configuration(nosuch, configured()),
        c.control.set_job_mode(nosuch, ACTIVE),
    ):
        with pytest.raises(UnknownToken) as caught:
            await call
        assert caught.value.kind == "RecordingJob"
    with pytest.raises(UnknownToken):
        c.control.job(nosuch)
    with pytest.raises(UnknownToken):
        c.control.job_state(nosuch)
    assert c.everything() == before


@pytest.mark.requirement("RC-5.13-05", "RC-5.13-08", "RC-5.20-06", "RC-5.20-15")
async def test_jobs_can_be_added_while_the_options_say_so(c: Controlled) -> None:
    for spare in (4, 3, 2, 1):
        assert c.control.options(REC).spare_jobs == spare
        job = await c.control.create_job(configured(by_receiver("rcv-1")))
    assert c.control.options(REC).spare_jobs == 0
    before = c.everything()
    with pytest.raises(LimitReached) as caught:
        await c.control.create_job(configured(by_receiver("rcv-1")))
    assert caught.value.kind == "RecordingJob"
    assert c.everything() == before
    await c.control.delete_job(job.token)
    assert c.control.options(REC).spare_jobs == 1


@pytest.mark.requirement("RC-5.13-06", "RC-5.16-05")
async def test_receivers_for_all_sources_or_for_none(c: Controlled) -> None:
    job = await c.control.create_job(configured(auto("VIDEO001")))
    before = c.everything()
    with pytest.raises(LimitReached) as caught:
        await c.control.create_job(configured(auto("VIDEO001"), auto("AUDIO001")))
    assert caught.value.kind == "Receiver"
    with pytest.raises(LimitReached):
        await c.control.set_job_configuration(job.token, configured(auto("VIDEO001"), auto("AUDIO001")))
    assert c.everything() == before
    await c.control.create_job(configured(by_receiver("rcv-1"), auto()))
    await c.control.create_job(configured(by_receiver("rcv-1")))  # no receiver is asked for: the limit does not matter


@pytest.mark.requirement("RC-5.1-07", "RC-5.14-05")
async def test_an_auto_created_receiver_lives_as_long_as_any_job_refers_to_it(c: Controlled) -> None:
    first = await c.control.create_job(configured(auto("VIDEO001"), by_receiver("rcv-1", "AUDIO001")))
    made = c.receivers.receivers()[-1].token
    second = await c.control.create_job(configured(by_receiver(made, "VIDEO001")))
    await c.control.delete_job(first.token)
    assert made in [r.token for r in c.receivers.receivers()]
    await c.control.delete_job(second.token)
    assert [r.token for r in c.receivers.receivers()] == ["rcv-1", "rcv-2"]
    assert c.control.jobs() == ()
    assert c.footage.deleted == []


@pytest.mark.requirement("RC-5.16-08", "RC-5.16-09", "RC-5.16-10", "RC-5.17-04")
async def test_a_new_configuration_trades_receivers_in_one_step(c: Controlled) -> None:
    job = await c.control.create_job(configured(auto("VIDEO001")))
    old = c.receivers.receivers()[-1].token
    given = configured(auto("AUDIO001"), by_receiver("rcv-2", "META001"), priority=9, mode=ACTIVE)
    answered = await c.control.set_job_configuration(job.token, given)
    new = c.receivers.receivers()[-1]
    assert new.auto_created
    assert new.token != old
    assert old not in [r.token for r in c.receivers.receivers()]
    source = replace(given.sources[0], source=SourceReference(new.token), auto_create_receiver=False)
    assert answered == replace(given, sources=(source, given.sources[1]))
    assert c.control.job(job.token).configuration == answered == c.engine.jobs[0].configuration


@pytest.mark.requirement("RC-5.16-07")
async def test_a_job_stays_with_its_recording(c: Controlled) -> None:
    job = await c.control.create_job(configured(by_receiver("rcv-1")))
    before = c.everything()
    with pytest.raises(BadConfiguration, match="RecordingToken"):
        await c.control.set_job_configuration(job.token, replace(job.configuration, recording=RecordingToken("rec-2")))
    assert c.everything() == before


@pytest.mark.requirement("RC-5.18-04")
async def test_setting_the_mode_changes_the_mode_only(c: Controlled) -> None:
    job = await c.control.create_job(configured(by_receiver("rcv-1", "VIDEO001"), priority=3))
    for mode in (ACTIVE, IDLE, ACTIVE):
        await c.control.set_job_mode(job.token, mode)
        assert c.control.job(job.token).configuration == replace(job.configuration, mode=mode)
        assert c.engine.jobs[0].configuration.mode is mode
    before = c.everything()
    for bad in ("Foo", "active", ""):
        with pytest.raises(BadMode, match="neither Idle nor Active"):
            await c.control.set_job_mode(job.token, bad)  # type: ignore[arg-type]
    assert c.everything() == before


async def test_activation_counts_the_turns_to_active_and_survives_a_restart(c: Controlled) -> None:
    first, second = [await c.control.create_job(configured(by_receiver("rcv-1"), mode=ACTIVE)) for _ in range(2)]
    assert 0 < first.activation < second.activation
    await c.control.set_job_mode(first.token, ACTIVE)  # already active: no new turn
    await c.control.set_job_configuration(first.token, replace(first.configuration, priority=2))
    assert c.control.job(first.token).activation == first.activation
    restarted = Controlled(FakeStore(StoredConfiguration(c.control.recordings(), c.control.jobs(), ())))
    await restarted.control.set_job_mode(first.token, IDLE)
    assert restarted.control.job(first.token).activation == first.activation
    await restarted.control.set_job_mode(first.token, ACTIVE)
    assert restarted.control.job(first.token).activation > second.activation


@pytest.mark.requirement("RC-5.13-11", "RC-5.13-13")
async def test_a_source_without_tracks_gets_all_and_keeps_those_that_it_has_streams_for(c: Controlled) -> None:
    job = await c.control.create_job(configured(auto()))
    receiver = c.receivers.receivers()[-1].token
    assert destinations(job.configuration) == [["VIDEO001", "AUDIO001", "META001"]]
    await settle(c, receiver, VIDEO)
    assert destinations(c.control.job(job.token).configuration) == [["VIDEO001"]]
    assert c.engine.jobs == c.control.jobs()
    assert [[t.destination for t in s.tracks] for s in c.control.job_state(job.token).sources] == [["VIDEO001"]]
    applied = len(c.store.applied)
    await settle(c, receiver, VIDEO)
    assert len(c.store.applied) == applied  # nothing to write
    await settle(c, receiver, VIDEO, METADATA)  # the camera has been configured anew
    assert destinations(c.control.job(job.token).configuration) == [["VIDEO001", "META001"]]


async def test_tracks_that_the_client_named_stay_whatever_the_source_offers(c: Controlled) -> None:
    job = await c.control.create_job(configured(by_receiver("rcv-1", "VIDEO001", "AUDIO001")))
    await settle(c, "rcv-1", VIDEO)
    assert c.control.jobs() == (job,)


async def test_a_source_whose_streams_are_known_is_settled_at_once(c: Controlled) -> None:
    await settle(c, "rcv-1", VIDEO, AUDIO)
    job = await c.control.create_job(configured(by_receiver("rcv-1")))
    assert destinations(job.configuration) == [["VIDEO001", "AUDIO001"]]


async def test_each_stream_gets_a_track_of_its_type_that_no_other_source_feeds(c: Controlled) -> None:
    for _ in range(2):
        await c.control.create_track(REC, TrackConfiguration(TrackType.VIDEO))
    job = await c.control.create_job(configured(by_receiver("rcv-1"), by_receiver("rcv-2", "VIDEO001")))
    await settle(c, "rcv-1", VIDEO, VIDEO, AUDIO)
    assert destinations(c.control.job(job.token).configuration) == [["AUDIO001", "VIDEO002", "VIDEO003"], ["VIDEO001"]]


async def test_sources_without_tracks_share_and_never_swap_whatever_the_order(c: Controlled) -> None:
    await c.control.create_track(REC, TrackConfiguration(TrackType.VIDEO))
    job = await c.control.create_job(configured(by_receiver("rcv-1"), by_receiver("rcv-2")))
    assert destinations(job.configuration) == [["VIDEO001", "AUDIO001", "META001"], ["VIDEO002"]]
    await settle(c, "rcv-2", VIDEO)
    assert destinations(c.control.job(job.token).configuration)[1] == ["VIDEO002"]
    await settle(c, "rcv-1", VIDEO)
    assert destinations(c.control.job(job.token).configuration) == [["VIDEO001"], ["VIDEO002"]]
    await settle(c, "rcv-2", VIDEO, AUDIO)
    assert destinations(c.control.job(job.token).configuration) == [["VIDEO001"], ["AUDIO001", "VIDEO002"]]


async def test_a_stream_that_cannot_be_stored_keeps_a_track_only_where_there_is_no_better(c: Controlled) -> None:
    await c.control.create_track(REC, TrackConfiguration(TrackType.VIDEO))
    job = await c.control.create_job(configured(by_receiver("rcv-1")))
    odd = replace(VIDEO, supported=False)
    await settle(c, "rcv-1", odd, VIDEO, Stream(None))
    assert destinations(c.control.job(job.token).configuration) == [["VIDEO001"]]
    await settle(c, "rcv-1", odd, odd)
    assert destinations(c.control.job(job.token).configuration) == [["VIDEO001"]]


async def test_tracks_sent_back_as_they_were_told_are_still_the_recorders_choice(c: Controlled) -> None:
    job = await c.control.create_job(configured(by_receiver("rcv-1")))
    echoed = replace(
        job.configuration, priority=5, sources=(replace(job.configuration.sources[0], implied_tracks=False),)
    )
    await c.control.set_job_configuration(job.token, echoed)
    await settle(c, "rcv-1", VIDEO)
    assert destinations(c.control.job(job.token).configuration) == [["VIDEO001"]]


async def test_streams_of_a_receiver_that_is_gone_are_ignored(c: Controlled) -> None:
    before = c.everything()
    await settle(c, "nosuch", VIDEO)
    assert c.everything() == before
    assert c.state.streams == {}


async def test_settling_that_cannot_be_written_is_logged_and_tried_at_the_next_connection(
    c: Controlled, caplog: pytest.LogCaptureFixture
) -> None:
    job = await c.control.create_job(configured(by_receiver("rcv-1")))
    c.store.failing = True
    await settle(c, "rcv-1", VIDEO)
    assert "the disk is gone" in caplog.text
    assert c.control.jobs() == (job,)
    c.store.failing = False
    await settle(c, "rcv-1", VIDEO)
    assert destinations(c.control.job(job.token).configuration) == [["VIDEO001"]]


def reported(job: RecordingJob, *tracks: TrackState) -> JobState:
    reference = job.configuration.sources[0].source
    assert reference is not None
    return JobState(job.configuration.recording, (SourceState(reference, tracks),))


@pytest.mark.requirement("RC-5.19-04", "RC-5.19-06", "RC-5.19-07", "RC-5.19-08", "RC-5.19-17")
async def test_the_state_mirrors_the_configuration_whatever_the_engine_knows(c: Controlled) -> None:
    job = await c.control.create_job(configured(by_receiver("rcv-1", "VIDEO001", "META001"), by_receiver("rcv-2")))
    active = TrackState("", META001, RecordingJobState.ACTIVE)
    error = TrackState("", VIDEO001, RecordingJobState.ERROR, INCOMPATIBLE_STREAM)
    stale = TrackState("other", AUDIO001, RecordingJobState.ACTIVE)
    for known, expected in (
        ((), (RecordingJobState.IDLE, RecordingJobState.IDLE)),
        ((active, stale), (RecordingJobState.IDLE, RecordingJobState.ACTIVE)),
        ((active, stale, error), (RecordingJobState.ERROR, RecordingJobState.ACTIVE)),
    ):
        c.engine.job_states[job.token] = reported(job, *known)
        state = c.control.job_state(job.token)
        assert state.recording == REC
        assert [s.source for s in state.sources] == [s.source for s in job.configuration.sources]
        for told, source in zip(state.sources, job.configuration.sources, strict=True):
            assert [(t.source_tag, t.destination) for t in told.tracks] == [
                (t.source_tag, t.destination) for t in source.tracks
            ]
        assert tuple(t.state for t in state.sources[0].tracks) == expected
    assert state.sources[0].tracks[0].error == INCOMPATIBLE_STREAM
    assert state.state is RecordingJobState.ERROR


async def test_the_state_of_another_receiver_is_not_told_for_a_source_that_was_exchanged(c: Controlled) -> None:
    job = await c.control.create_job(configured(by_receiver("rcv-1", "VIDEO001")))
    c.engine.job_states[job.token] = reported(job, TrackState("", VIDEO001, RecordingJobState.ACTIVE))
    await c.control.set_job_configuration(job.token, configured(by_receiver("rcv-2", "VIDEO001")))
    assert c.control.job_state(job.token).state is RecordingJobState.IDLE


async def test_before_the_engine_has_been_told_everything_is_idle() -> None:
    stored = StoredConfiguration((a_recording(),), (a_job("job-1", "rec-1", "rcv-1", "VIDEO001"),), (a_receiver(),))
    c = Controlled(FakeStore(stored))
    assert c.control.job_state(stored.jobs[0].token).state is RecordingJobState.IDLE
    assert c.receivers.state(stored.receivers[0].token) is ReceiverState.NOT_CONNECTED


async def test_a_source_is_a_receiver_or_the_profile_that_shows_it(c: Controlled) -> None:
    assert c.control.has_source(SourceReference("rcv-1"))
    assert c.control.has_source(SourceReference("rcv-1", PROFILE_TYPE))
    assert not c.control.has_source(SourceReference("rcv-1", "urn:x"))
    assert not c.control.has_source(SourceReference("nosuch"))
    await c.receivers.set_mode(RCV, ReceiverMode.NEVER_CONNECT)
    assert c.control.has_source(SourceReference("rcv-1"))
    assert not c.control.has_source(SourceReference("rcv-1", PROFILE_TYPE))
    assert c.control.options(REC).profiles == ("rcv-2",)


async def test_a_job_with_a_profile_records_from_the_receiver_that_the_profile_shows(c: Controlled) -> None:
    """The job names the receiver from then on; whoever sends the profile again changes nothing."""
    given = configured(replace(by_receiver("rcv-1", "VIDEO001"), source=SourceReference("rcv-1", PROFILE_TYPE)))
    job = await c.control.create_job(given)
    assert job.configuration == configured(by_receiver("rcv-1", "VIDEO001"))
    assert await c.control.set_job_configuration(job.token, given) == job.configuration
    assert c.engine.jobs == (job,)
    with pytest.raises(CannotDelete):
        await c.receivers.delete(RCV)
    await c.receivers.set_mode(RCV, ReceiverMode.NEVER_CONNECT)
    with pytest.raises(BadConfiguration, match="media profile 'rcv-1' does not exist"):
        await c.control.create_job(given)
