"""Objects of the model to rows of the configuration database, and back."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from functools import cache
from typing import Any, Protocol

import sqlalchemy as sa

from nvr.auth.access import Role
from nvr.auth.users import User
from nvr.model.device import DeviceState, DiscoveryMode
from nvr.model.errors import NvrError
from nvr.model.extension import Extension, Extensions
from nvr.model.job import (
    EventCondition,
    RecordingEventFilter,
    RecordingJob,
    RecordingJobConfiguration,
    RecordingJobMode,
    RecordingJobSource,
    RecordingJobTrack,
    SourceReference,
)
from nvr.model.receiver import (
    Receiver,
    ReceiverConfiguration,
    ReceiverMode,
    StreamSetup,
    StreamType,
    TransportProtocol,
)
from nvr.model.recording import (
    Recording,
    RecordingConfiguration,
    RecordingSourceInformation,
    Track,
    TrackConfiguration,
    TrackType,
)
from nvr.model.tokens import JobToken, ReceiverToken, RecordingToken, TrackToken
from nvr.storage import schema
from nvr.storage.database import Statement, insert, put

log = logging.getLogger(__name__)


_PUT_RECORDING = put(schema.recordings, "token")
_PUT_JOB = put(schema.jobs, "token")
_PUT_RECEIVER = put(schema.receivers, "token")
_PUT_USER = put(schema.users, "name")
_INSERT_TRACK = insert(schema.tracks)
_INSERT_JOB_SOURCE = insert(schema.job_sources)
_INSERT_JOB_TRACK = insert(schema.job_tracks)


class Sealer(Protocol):
    """Encrypts what must not be readable in a database or in a snapshot of it (`nvr.auth.credentials.Vault`)."""

    def seal(self, text: str, purpose: str) -> bytes: ...

    def open(self, sealed: bytes, purpose: str) -> str:
        """Raises NvrError when it was sealed with another key or for another purpose, or has been altered."""


def save_recording(connection: sa.Connection, recording: Recording) -> None:
    configuration, source = recording.configuration, recording.configuration.source
    _PUT_RECORDING.run(
        connection,
        {
            "token": recording.token,
            "source_id": source.source_id,
            "name": source.name,
            "location": source.location,
            "description": source.description,
            "address": source.address,
            "content": configuration.content,
            "maximum_retention_ns": configuration.maximum_retention_ns,
            "extensions": _json(configuration.extensions),
        },
    )
    delete(connection, schema.tracks.c.recording, recording.token)
    rows = [
        {
            "recording": recording.token,
            "token": track.token,
            "place": place,
            "track_type": track.configuration.track_type.value,
            "description": track.configuration.description,
            "extensions": _json(track.configuration.extensions),
        }
        for place, track in enumerate(recording.tracks)
    ]
    if rows:
        _INSERT_TRACK.run(connection, *rows)


def load_recordings(connection: sa.Connection) -> tuple[Recording, ...]:
    tracks: defaultdict[str, list[Track]] = defaultdict(list)
    c = schema.tracks.c
    for t in connection.execute(sa.select(schema.tracks).order_by(c.recording, c.place)):
        configuration = TrackConfiguration(TrackType(t.track_type), t.description, _extensions(t.extensions))
        tracks[t.recording].append(Track(TrackToken(t.token), configuration))
    return tuple(
        Recording(
            RecordingToken(r.token),
            RecordingConfiguration(
                RecordingSourceInformation(r.source_id, r.name, r.location, r.description, r.address),
                r.content,
                r.maximum_retention_ns,
                _extensions(r.extensions),
            ),
            tuple(tracks[r.token]),
        )
        for r in connection.execute(sa.select(schema.recordings).order_by(schema.recordings.c.id))
    )


def save_job(connection: sa.Connection, job: RecordingJob) -> None:
    configuration = job.configuration
    _PUT_JOB.run(
        connection,
        {
            "token": job.token,
            "recording": configuration.recording,
            "mode": configuration.mode.value,
            "priority": configuration.priority,
            "schedule_token": configuration.schedule_token,
            "activation": job.activation,
            "event_filter": _event_filter_text(configuration.event_filter),
            "extensions": _json(configuration.extensions),
        },
    )
    delete(connection, schema.job_sources.c.job, job.token)
    for place, source in enumerate(configuration.sources):
        _INSERT_JOB_SOURCE.run(
            connection,
            {
                "job": job.token,
                "place": place,
                "source_token": source.source.token if source.source else None,
                "source_type": source.source.type if source.source else None,
                "implied_tracks": source.implied_tracks,
                "extensions": _json(source.extensions),
            },
        )
        rows = [
            {
                "job": job.token,
                "source_place": place,
                "place": track_place,
                "source_tag": track.source_tag,
                "destination": track.destination,
                "extensions": _json(track.extensions),
            }
            for track_place, track in enumerate(source.tracks)
        ]
        if rows:
            _INSERT_JOB_TRACK.run(connection, *rows)


def load_jobs(connection: sa.Connection) -> tuple[RecordingJob, ...]:
    tracks: defaultdict[tuple[str, int], list[RecordingJobTrack]] = defaultdict(list)
    c = schema.job_tracks.c
    for t in connection.execute(sa.select(schema.job_tracks).order_by(c.job, c.source_place, c.place)):
        line = RecordingJobTrack(t.source_tag, TrackToken(t.destination), _extensions(t.extensions))
        tracks[t.job, t.source_place].append(line)
    sources: defaultdict[str, list[RecordingJobSource]] = defaultdict(list)
    s = schema.job_sources.c
    for row in connection.execute(sa.select(schema.job_sources).order_by(s.job, s.place)):
        reference = None if row.source_token is None else SourceReference(row.source_token, row.source_type)
        sources[row.job].append(
            RecordingJobSource(
                reference,
                tuple(tracks[row.job, row.place]),
                implied_tracks=row.implied_tracks,
                extensions=_extensions(row.extensions),
            )
        )
    return tuple(
        RecordingJob(
            JobToken(j.token),
            RecordingJobConfiguration(
                RecordingToken(j.recording),
                RecordingJobMode(j.mode),
                j.priority,
                tuple(sources[j.token]),
                j.schedule_token,
                _event_filter(j.event_filter),
                extensions=_extensions(j.extensions),
            ),
            j.activation,
        )
        for j in connection.execute(sa.select(schema.jobs).order_by(schema.jobs.c.id))
    )


def _event_filter_text(wanted: RecordingEventFilter | None) -> str | None:
    if wanted is None:
        return None
    conditions = [[c.topic, c.source, _json(c.extensions)] for c in wanted.conditions]
    return json.dumps({"conditions": conditions, "before_ns": wanted.before_ns, "after_ns": wanted.after_ns})


def _event_filter(text: str | None) -> RecordingEventFilter | None:
    if text is None:
        return None
    stored = json.loads(text)
    conditions = (EventCondition(topic, source, _extensions(kept)) for topic, source, kept in stored["conditions"])
    return RecordingEventFilter(tuple(conditions), stored["before_ns"], stored["after_ns"])


def save_receiver(connection: sa.Connection, receiver: Receiver, sealer: Sealer) -> None:
    """User, password and query of the URI are stored sealed only (some cameras take a password in the query), and so
    are extensions.
    """
    configuration = receiver.configuration
    uri = configuration.media_uri
    public = configuration.public_uri
    extensions = _json(configuration.extensions)
    sealed = None if extensions is None else sealer.seal(extensions, _extensions_of(receiver.token))
    _PUT_RECEIVER.run(
        connection,
        {
            "token": receiver.token,
            "mode": configuration.mode.value,
            "media_uri": public,
            "media_uri_sealed": None if public == uri else sealer.seal(uri, _purpose(receiver.token)),
            "stream": configuration.stream_setup.stream.value,
            "protocol": configuration.stream_setup.protocol.value,
            "auto_created": receiver.auto_created,
            "extensions_sealed": sealed,
        },
    )


def load_receivers(connection: sa.Connection, sealer: Sealer) -> tuple[Receiver, ...]:
    return tuple(
        Receiver(
            ReceiverToken(r.token),
            ReceiverConfiguration(
                ReceiverMode(r.mode),
                _media_uri(r, sealer),
                StreamSetup(StreamType(r.stream), TransportProtocol(r.protocol)),
                _sealed_extensions(r, sealer),
            ),
            r.auto_created,
        )
        for r in connection.execute(sa.select(schema.receivers).order_by(schema.receivers.c.id))
    )


def _media_uri(row: sa.Row[Any], sealer: Sealer) -> str:
    if row.media_uri_sealed is None:
        return str(row.media_uri)
    try:
        return sealer.open(row.media_uri_sealed, _purpose(row.token))
    except NvrError as e:
        # Recording without this camera's password is no reason to stop recording the others.
        log.error(
            "the credentials of receiver %s cannot be opened (%s): it will be tried without them; "
            "set its MediaUri again, or restore the key of this recorder",
            row.token,
            e,
        )
        return str(row.media_uri)


def _purpose(token: str) -> str:
    return f"receiver {token}"


def _sealed_extensions(row: sa.Row[Any], sealer: Sealer) -> Extensions:
    if row.extensions_sealed is None:
        return ()
    try:
        return _extensions(sealer.open(row.extensions_sealed, _extensions_of(row.token)))
    except NvrError as e:
        log.error("the extensions of receiver %s cannot be opened (%s): it goes on without them", row.token, e)
        return ()


def _extensions_of(token: str) -> str:
    return f"extensions of receiver {token}"


def _json(extensions: Extensions) -> str | None:
    """A list of [path, attributes, elements]."""
    return json.dumps([[e.path, e.attributes, e.elements] for e in extensions]) if extensions else None


def _extensions(text: str | None) -> Extensions:
    """Raises ValueError."""
    return () if text is None else tuple(Extension(*map(str, entry)) for entry in json.loads(text))


def save_user(connection: sa.Connection, user: User) -> None:
    _PUT_USER.run(connection, {"name": user.name, "role": user.role.value, "secret": user.secret})


def load_users(connection: sa.Connection) -> tuple[User, ...]:
    rows = connection.execute(sa.select(schema.users).order_by(schema.users.c.name))
    return tuple(User(u.name, Role(u.role), u.secret) for u in rows)


def save_device(connection: sa.Connection, device: DeviceState) -> None:
    connection.execute(sa.delete(schema.scopes))
    connection.execute(sa.delete(schema.device))
    values = {
        "id": 1,
        "discovery_mode": device.discovery_mode.value,
        "instance": device.instance,
        "metadata_version": device.metadata_version,
        "announced": device.announced,
        "replay_timeout_ns": device.replay_timeout_ns,
    }
    connection.execute(sa.insert(schema.device), values)
    rows = [{"place": place, "item": item} for place, item in enumerate(device.scopes)]
    if rows:
        connection.execute(sa.insert(schema.scopes), rows)


def load_device(connection: sa.Connection) -> DeviceState:
    """The initial state before anything has been saved."""
    row = connection.execute(sa.select(schema.device)).one_or_none()
    if row is None:
        return DeviceState()
    scopes = connection.execute(sa.select(schema.scopes.c.item).order_by(schema.scopes.c.place)).scalars()
    return DeviceState(
        DiscoveryMode(row.discovery_mode),
        tuple(scopes),
        row.instance,
        row.metadata_version,
        row.announced,
        row.replay_timeout_ns,
    )


def delete(connection: sa.Connection, column: sa.Column[str], value: str) -> None:
    """Rows gone; none is no error."""
    _deletion(column).run(connection, {"value": value})


@cache
def _deletion(column: sa.Column[str]) -> Statement:
    return Statement(sa.delete(column.table).where(column == sa.bindparam("value")))
