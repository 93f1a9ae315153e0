"""The tables of the configuration, of the index of footage and of the index of camera events, as the newest migrations
leave them.

The migrations are what makes them in a database; a test compares both. Times are UTC nanoseconds.
`extensions` is the JSON of `nvr.storage.records`, NULL where there are none.
"""

from __future__ import annotations

import sqlalchemy as sa

configuration = sa.MetaData()
index = sa.MetaData()
events = sa.MetaData()

TOKEN = sa.String(64)

facts = sa.Table(
    "facts",
    configuration,
    # installation: hex digits that name this recorder; serial: number of changes made, rises with each
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

recordings = sa.Table(
    "recordings",
    configuration,
    sa.Column("id", sa.Integer, primary_key=True),  # order of creation
    sa.Column("token", TOKEN, nullable=False, unique=True),
    sa.Column("source_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("location", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("maximum_retention_ns", sa.BigInteger, nullable=False),
    sa.Column("extensions", sa.Text),
)

tracks = sa.Table(
    "tracks",
    configuration,
    sa.Column("recording", TOKEN, sa.ForeignKey("recordings.token", ondelete="CASCADE"), primary_key=True),
    sa.Column("token", TOKEN, primary_key=True),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("track_type", sa.String(16), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("extensions", sa.Text),
)

jobs = sa.Table(
    "jobs",
    configuration,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("token", TOKEN, nullable=False, unique=True),
    sa.Column("recording", TOKEN, sa.ForeignKey("recordings.token"), nullable=False),
    sa.Column("mode", sa.String(16), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("schedule_token", sa.Text),
    sa.Column("activation", sa.BigInteger, nullable=False),
    sa.Column("event_filter", sa.Text),  # JSON; absent for a job that records always
    sa.Column("extensions", sa.Text),
)

job_sources = sa.Table(
    "job_sources",
    configuration,
    sa.Column("job", TOKEN, sa.ForeignKey("jobs.token", ondelete="CASCADE"), primary_key=True),
    sa.Column("place", sa.Integer, primary_key=True),
    sa.Column("source_token", TOKEN),
    sa.Column("source_type", sa.Text),
    sa.Column("implied_tracks", sa.Boolean, nullable=False),
    sa.Column("extensions", sa.Text),
)

job_tracks = sa.Table(
    "job_tracks",
    configuration,
    sa.Column("job", TOKEN, primary_key=True),
    sa.Column("source_place", sa.Integer, primary_key=True),
    sa.Column("place", sa.Integer, primary_key=True),
    sa.Column("source_tag", sa.Text, nullable=False),
    sa.Column("destination", TOKEN, nullable=False),
    sa.Column("extensions", sa.Text),
    sa.ForeignKeyConstraint(["job", "source_place"], ["job_sources.job", "job_sources.place"], ondelete="CASCADE"),
)

receivers = sa.Table(
    "receivers",
    configuration,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("token", TOKEN, nullable=False, unique=True),
    sa.Column("mode", sa.String(16), nullable=False),
    sa.Column("media_uri", sa.Text, nullable=False),  # without user, password and query
    sa.Column("media_uri_sealed", sa.LargeBinary),  # the whole URI, when it has any of these
    sa.Column("stream", sa.String(16), nullable=False),
    sa.Column("protocol", sa.String(16), nullable=False),
    sa.Column("auto_created", sa.Boolean, nullable=False),
    sa.Column("extensions_sealed", sa.LargeBinary),  # they may hold a password
)

users = sa.Table(
    "users",
    configuration,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("secret", sa.LargeBinary, nullable=False),
)

deletions = sa.Table(
    "deletions",
    configuration,
    # data still to be deleted; the empty track stands for the whole recording
    sa.Column("recording", TOKEN, primary_key=True),
    sa.Column("track", TOKEN, primary_key=True),
)

device = sa.Table(
    "device",
    configuration,
    sa.Column("id", sa.Integer, primary_key=True),  # there is one row, with id 1
    sa.Column("discovery_mode", sa.String(16), nullable=False),
    sa.Column("instance", sa.BigInteger, nullable=False),
    sa.Column("metadata_version", sa.BigInteger, nullable=False),
    sa.Column("announced", sa.String(64), nullable=False),
    sa.Column("replay_timeout_ns", sa.BigInteger),
)

scopes = sa.Table(
    "scopes",
    configuration,
    # the configurable ones only: the fixed ones follow from the settings
    sa.Column("place", sa.Integer, primary_key=True),
    sa.Column("item", sa.Text, nullable=False, unique=True),
)

track_files = sa.Table(
    "track_files",
    index,
    sa.Column("file_id", sa.String(32), primary_key=True),
    sa.Column("volume_id", TOKEN, nullable=False),
    sa.Column("recording", TOKEN, nullable=False),
    sa.Column("track", TOKEN, nullable=False),
    sa.Column("run_id", sa.String(32), nullable=False),
    sa.Column("run_place", sa.Integer, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("start_ns", sa.BigInteger, nullable=False),
    sa.Column("end_ns", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("encoding", sa.String(64), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("samples", sa.BigInteger, nullable=False),
    sa.Column("lost_packets", sa.BigInteger, nullable=False),
    sa.Column("dropped_units", sa.BigInteger, nullable=False),
    sa.Column("gap_before", sa.String(32)),
    sa.Column("end_reason", sa.String(32)),
    # end and state stand in the index so that files that end before a searched range are passed over inside it
    sa.Index("track_files_by_time", "recording", "track", "start_ns", "file_id", "end_ns", "state"),
    # by time within a run, so that who reads one run finds his place in it without walking what the others have; with
    # all that runs are made of, so that a run is summed up without the table
    sa.Index(
        "track_files_by_run",
        *("recording", "track", "run_id", "start_ns", "file_id", "state", "end_ns", "run_place", "end_reason"),
        "gap_before",
    ),
    sa.Index("track_files_by_volume", "volume_id", "file_id", "size"),
    # few rows are ever open or being deleted: recovery finds them without reading the rest; retention finds the oldest
    sa.Index("track_files_by_state", "volume_id", "state", "start_ns", "file_id"),
)

runs = sa.Table(
    "runs",
    index,
    # what the closed files of each run come to: triggers keep it, nothing else writes here. At a start with a million
    # files it is read instead of them
    sa.Column("recording", TOKEN, primary_key=True),
    sa.Column("track", TOKEN, primary_key=True),
    sa.Column("run_id", sa.String(32), primary_key=True),
    sa.Column("start_ns", sa.BigInteger, nullable=False),
    sa.Column("end_ns", sa.BigInteger, nullable=False),
    sa.Column("first_place", sa.Integer, nullable=False),  # run_place of the file that starts first
    sa.Column("last_place", sa.Integer, nullable=False),
    sa.Column("files", sa.Integer, nullable=False),  # so many closed ones
    sa.Column("gap_before", sa.String(32)),
    sa.Column("end_reason", sa.String(32)),  # of the file at last_place
    sqlite_with_rowid=False,
)

damage = sa.Table(
    "damage",
    index,
    # bytes that `nvr check --repair` has found not to be as they were written; nothing refers to a row that may be gone
    sa.Column("file_id", sa.String(32), primary_key=True),
    sa.Column("at", sa.BigInteger, primary_key=True),
    sa.Column("length", sa.BigInteger, nullable=False),
)

# What cameras have told in their metadata streams: made from the footage, and made again from it where it is lost.

metadata_tracks = sa.Table(
    "metadata_tracks",
    events,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("recording", TOKEN, nullable=False),
    sa.Column("track", TOKEN, nullable=False),
    sa.UniqueConstraint("recording", "track"),
)

vocabularies = sa.Table(
    "vocabularies",
    events,
    # the words of the documents of a file; few different ones occur
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("digest", sa.LargeBinary(16), nullable=False, unique=True),
    sa.Column("words", sa.Text, nullable=False),
)

metadata_files = sa.Table(
    "metadata_files",
    events,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("file_id", sa.String(32), nullable=False, unique=True),
    sa.Column("track", sa.Integer, nullable=False),
    sa.Column("start_ns", sa.BigInteger, nullable=False),
    sa.Column("last_ns", sa.BigInteger, nullable=False),  # time of the last document that has been read
    sa.Column("upto", sa.BigInteger, nullable=False),  # the byte behind the last fragment that has been read
    sa.Column("done", sa.Boolean, nullable=False),
    sa.Column("told", sa.Integer, nullable=False),  # number of events
    sa.Column("vocabulary", sa.Integer, nullable=False),
    sa.Index("metadata_files_by_time", "track", "start_ns", "id"),
    sa.Index("metadata_files_by_vocabulary", "vocabulary"),
)

streams = sa.Table(
    "streams",
    events,
    # of one track, one topic and one source; the empty digest stands for all sources beyond those that are told apart
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("track", sa.Integer, nullable=False),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("source", sa.LargeBinary(16), nullable=False),
    sa.Column("is_property", sa.Boolean, nullable=False),
    sa.UniqueConstraint("track", "topic", "source"),
)

messages = sa.Table(
    "messages",
    events,
    # without their times: what cameras repeat is stored once
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("digest", sa.LargeBinary(16), nullable=False, unique=True),
    sa.Column("body", sa.Text, nullable=False),
)

message_items = sa.Table(
    "message_items",
    events,
    sa.Column("item", sa.BigInteger, primary_key=True),  # a digest of name and value of a simple item
    sa.Column("message", sa.Integer, primary_key=True),
    sa.Index("message_items_by_message", "message"),
)

camera_events = sa.Table(
    "camera_events",
    events,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("stream", sa.Integer, nullable=False),
    sa.Column("time_ns", sa.BigInteger, nullable=False),
    sa.Column("file", sa.Integer, nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("message", sa.Integer, nullable=False),
    sa.Column("utc_ns", sa.BigInteger, nullable=False),
    sa.Index("camera_events_by_stream", "stream", "time_ns", "file", "place"),
    sa.Index("camera_events_by_message", "message", "time_ns", "file", "place"),
)

positions = sa.Table(
    "positions",
    events,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("track", sa.Integer, nullable=False),
    sa.Column("time_ns", sa.BigInteger, nullable=False),
    sa.Column("file", sa.Integer, nullable=False),
    sa.Column("pan", sa.Double),
    sa.Column("tilt", sa.Double),
    sa.Column("pan_tilt_space", sa.Text),
    sa.Column("zoom", sa.Double),
    sa.Column("zoom_space", sa.Text),
    sa.Index("positions_by_time", "track", "time_ns", "file"),
)
