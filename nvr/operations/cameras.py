"""Commands that add, change and remove cameras."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote

from nvr.control import checks
from nvr.control.receivers import Receivers
from nvr.control.recordings import RecordingControl
from nvr.ingest.names import named
from nvr.model.errors import BadConfiguration, NvrError, Refused
from nvr.model.job import RecordingJobConfiguration, RecordingJobMode, RecordingJobSource
from nvr.model.receiver import Receiver, ReceiverConfiguration, StreamSetup
from nvr.model.recording import Recording, RecordingConfiguration, RecordingSourceInformation
from nvr.model.time import UtcNs, format_iso
from nvr.model.tokens import JobToken, ReceiverToken, RecordingToken
from nvr.operations import media_uri
from nvr.operations.control_socket import Row
from nvr.operations.dispatch import Handler
from nvr.operations.footage import Footage, first_instant
from nvr.operations.known_cameras import KnownCameras, label, sources

audit = logging.getLogger("nvr.audit")

DELETION_S = 20.0
"""So long an answer waits for footage to be deleted; it goes on behind it."""


@dataclass(frozen=True, slots=True)
class CameraAdded:
    recording: RecordingToken
    job: JobToken
    receiver: ReceiverToken
    warning: str = ""


class CameraOperations:
    """`running`: footage can be deleted now. Where footage would be lost, nothing is changed unless the command comes
    with `confirmed`: its answer is a row with what is to be confirmed.
    """

    def __init__(
        self,
        control: RecordingControl,
        receivers: Receivers,
        footage: Footage,
        *,
        running: bool = True,
        utc: Callable[[], UtcNs] = time.time_ns,
        deletion_s: float = DELETION_S,
    ) -> None:
        self._control = control
        self._known = KnownCameras(control, receivers)
        self._receivers = receivers
        self._footage = footage
        self._running = running
        self._utc = utc
        self._deletion_s = deletion_s

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "camera add": self.add_row,
            "camera change": self.change,
            "camera remove": self.remove,
        }

    # Adding

    async def add_row(
        self, name: str, uri: str, transport: str = "tcp", user: str | None = None, password: str | None = None
    ) -> list[Row]:
        """As `add`; `user` and `password`, as they are typed, take the place of those in the URI."""
        if uri:
            uri = media_uri.changed(uri, None, user, password)
        added = await self.add(name, uri, transport)
        row: Row = {"recording": added.recording, "job": added.job, "receiver": added.receiver}
        return [row | ({"warning": added.warning} if added.warning else {})]

    async def add(self, name: str, uri: str, transport: str = "tcp") -> CameraAdded:
        """Recording, auto-created receiver and active job in one step; nothing is left behind when it fails."""
        protocol = media_uri.transport(transport)
        _check_name(name)
        uri = media_uri.checked(uri, protocol)
        # SourceId is an xs:anyURI.
        source = RecordingSourceInformation(quote(name, safe=""), name)
        recording = (await self._control.create_recording(RecordingConfiguration(source, content=name))).token
        try:
            job = await self._control.create_job(
                RecordingJobConfiguration(
                    recording,
                    RecordingJobMode.ACTIVE,
                    priority=1,
                    sources=(RecordingJobSource(None, auto_create_receiver=True),),
                )
            )
            (token,) = sources(job)
            receiver = ReceiverToken(token)
            await self._receivers.configure(
                receiver, ReceiverConfiguration(media_uri=uri, stream_setup=StreamSetup(protocol=protocol))
            )
        except NvrError:  # a refusal, or a disk that failed in between
            await self._control.delete_recording(recording)
            raise
        audit.info("an operator's command: camera add %s", named(recording, name))
        return CameraAdded(recording, job.token, receiver, self._doubles(recording))

    def _doubles(self, token: RecordingToken) -> str:
        """What another camera has in common with this one that is hardly meant so; empty where nothing is."""
        told = []
        mine = self._known.recording(token)
        name = mine.configuration.source.name
        twins = [r for r in self._known.recordings() if r.configuration.source.name == name]
        if len(twins) > 1:
            told.append(f"{len(twins)} recordings are named {name!r} now: commands need their tokens")
        uris = self._uris(mine)
        for other in self._known.recordings():
            if other != mine and any(media_uri.same_stream(one, uri) for one in self._uris(other) for uri in uris):
                told.append(f"{label(other)} records the same stream: remove one of them if that is not meant")
        return "; ".join(told)

    def _uris(self, recording: Recording) -> list[str]:
        uris = (r.configuration.media_uri for r in self._receivers_of(recording))
        return [uri for uri in uris if uri]

    def _receivers_of(self, recording: Recording) -> list[Receiver]:
        return self._known.receivers(*self._known.jobs(recording))

    # Changing

    async def change(
        self,
        camera: str,
        *,
        name: str | None = None,
        uri: str | None = None,
        user: str | None = None,
        password: str | None = None,
        anonymous: str = "",
        transport: str | None = None,
        retention_ns: str | None = None,
        confirmed: str = "",
    ) -> list[Row]:
        """What is not given stays. `user` and `password` are as they are typed; `anonymous` takes both away.

        One row: what was changed, or what is to be confirmed. Raises Refused; then nothing has been changed.
        """
        recording = self._known.find(camera)
        if retention_ns is not None and not confirmed:
            lost = await self._lost(recording, _number("Retention", retention_ns))
            if lost:
                return [{"confirm": lost, "word": _word(recording)}]
            recording = self._known.recording(recording.token)  # as it is now
        configuration = _renamed(recording.configuration, name)
        if retention_ns is not None:
            configuration = replace(configuration, maximum_retention_ns=_number("Retention", retention_ns))
        configuration = checks.recording_configuration(configuration)
        told = _differences(recording.configuration, configuration)
        if any(value is not None for value in (uri, user, password, transport)) or anonymous:
            receiver = self._receiver_meant(recording, camera)
            known = receiver.configuration
            protocol = known.stream_setup.protocol if transport is None else media_uri.transport(transport)
            given = media_uri.changed(known.media_uri, uri, user, password, anonymous=bool(anonymous))
            wanted = replace(
                known,
                media_uri=media_uri.checked(given, protocol),
                stream_setup=replace(known.stream_setup, protocol=protocol),
            )
            await self._receivers.configure(receiver.token, wanted)
            told += _receiver_differences(known, wanted)
        if configuration != recording.configuration:
            await self._control.set_recording_configuration(recording.token, configuration)
        known_as = named(recording.token, configuration.source.name)
        if told:
            audit.info("an operator's command: camera change %s: %s", known_as, ", ".join(told))
        # Of what was changed, not of what has been so for long.
        doubtful = name is not None or uri is not None
        warning = self._doubles(recording.token) if doubtful else ""
        return [{"camera": known_as, "changed": ", ".join(told), "warning": warning}]

    def _receiver_meant(self, recording: Recording, camera: str) -> Receiver:
        receivers = self._receivers_of(recording)
        meant = [r for r in receivers if r.token == camera] or receivers
        if not meant:
            raise Refused(f"{recording.token} has no receiver: nothing records it any more")
        if len(meant) > 1:
            tokens = ", ".join(r.token for r in meant)
            raise Refused(f"{recording.token} records from several receivers: give the token of one: {tokens}")
        return meant[0]

    async def _lost(self, recording: Recording, retention_ns: int) -> str:
        """What a shorter retention time would delete; empty for nothing."""
        known_ns = recording.configuration.maximum_retention_ns
        if not retention_ns or (known_ns and retention_ns >= known_ns):
            return ""
        first_ns, limit_ns = await self._first_instant(recording), self._utc() - retention_ns
        if first_ns is None or first_ns >= limit_ns:
            return ""
        return f"the footage of {label(recording)} from {_iso(first_ns)} to {_iso(limit_ns)} will be deleted"

    async def _first_instant(self, recording: Recording) -> UtcNs | None:
        return await asyncio.to_thread(first_instant, self._footage.index, recording)

    # Removing

    async def remove(self, camera: str, footage: str = "", confirmed: str = "") -> list[Row]:
        """`footage` is `keep`: what records the camera goes, the recording stays as long as its retention time lets it;
        or `delete`: all of it goes. Neither is needed where there is no footage.

        One row: what was removed, or what is to be chosen or confirmed. Raises Refused; then nothing has been changed.
        """
        if footage not in ("", "keep", "delete"):
            raise BadConfiguration(f"footage: {footage[:64]!r} is neither keep nor delete")
        recording = self._known.find(camera)
        self._check_whole(recording, camera)
        first_ns = await self._first_instant(recording)
        if first_ns is not None and not footage:
            return [{"choose": f"there is footage of {label(recording)} since {_iso(first_ns)}"}]
        if footage == "keep":
            return [await self._stop_recording(recording)]
        if first_ns is not None and not confirmed:
            question = f"all footage of {label(recording)}, since {_iso(first_ns)}, will be deleted"
            return [{"confirm": question, "word": _word(recording)}]
        return [await self._delete(recording, "" if first_ns is None else "deleted")]

    def _check_whole(self, recording: Recording, camera: str) -> None:
        """A job or a receiver that is one of several is not the camera. Raises Refused."""
        jobs, receivers = self._known.jobs(recording), self._receivers_of(recording)
        parts: list[str] = [j.token for j in jobs] if len(jobs) > 1 else []
        parts += [r.token for r in receivers] if len(receivers) > 1 else []
        if camera in parts:
            raise Refused(f"{camera} is a part of {label(recording)}, which records from several: name the recording")

    async def _stop_recording(self, recording: Recording) -> Row:
        jobs = self._known.jobs(recording)
        if not jobs:
            raise Refused(f"nothing records {label(recording)} any more; its footage goes with --delete-footage")
        before = self._receivers_of(recording)
        for job in jobs:
            await self._control.delete_job(job.token)
        audit.info("an operator's command: camera remove %s, footage kept", label(recording))
        return {"camera": label(recording), "footage": "kept", "stays": self._staying(before)}

    async def _delete(self, recording: Recording, footage: str) -> Row:
        before = self._receivers_of(recording)
        try:
            async with asyncio.timeout(self._deletion_s):
                await self._control.delete_recording(recording.token)
        except TimeoutError:
            if any(r.token == recording.token for r in self._known.recordings()):
                raise Refused(f"{label(recording)} is not removed: the configuration cannot be written") from None
        audit.info("an operator's command: camera remove %s with its footage", label(recording))
        if footage and self._control.is_deleting(recording.token):
            footage = "being deleted" if self._running else "deleted when the recorder starts"
        return {
            "camera": label(recording),
            "footage": footage,
            "stays": self._staying(before),
        }

    def _staying(self, receivers: list[Receiver]) -> str:
        """Those that a client has made, or that record another camera as well."""
        return " ".join(r.token for r in receivers if self._known.receiver(r.token) is not None)


def _check_name(name: str) -> None:
    if not name.strip():
        raise BadConfiguration("Name: is empty")


def _renamed(configuration: RecordingConfiguration, name: str | None) -> RecordingConfiguration:
    """SourceId stays: clients know the camera by it. Content follows where it was the name, as `add` makes it."""
    if name is None:
        return configuration
    _check_name(name)
    source = configuration.source
    content = name if configuration.content == source.name else configuration.content
    return replace(configuration, source=replace(source, name=name), content=content)


def _number(field: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadConfiguration(f"{field}: {text[:64]!r} is no number of nanoseconds") from None


def _differences(known: RecordingConfiguration, wanted: RecordingConfiguration) -> list[str]:
    told = ["name"] if known.source.name != wanted.source.name else []
    return told + (["retention"] if known.maximum_retention_ns != wanted.maximum_retention_ns else [])


def _receiver_differences(known: ReceiverConfiguration, wanted: ReceiverConfiguration) -> list[str]:
    """By what they are called, never by their values: one is a password."""
    before, after = known.media_uri, wanted.media_uri
    told = []
    if media_uri.with_credentials(before, "") != media_uri.with_credentials(after, ""):
        told.append("URI")
    if media_uri.credentials(before) != media_uri.credentials(after):
        told.append("credentials")
    if known.stream_setup.protocol != wanted.stream_setup.protocol:
        told.append("transport")
    return told


def _word(recording: Recording) -> str:
    """What an operator types to confirm."""
    return recording.configuration.source.name.strip() or recording.token


def _iso(at_ns: UtcNs) -> str:
    return format_iso(at_ns, 0)
