"""The main job once through, driven from outside: example 1 of IEC 62676-2-32 on a built-in camera.

Everything goes through the services and sockets that any other client would use: SOAP by zeep, built from the daemon's
own `?wsdl`, and RTSP: forwards by FFmpeg (through av), and backwards by `replay_client.py`. The camera and the daemon
are processes of their own.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from nvr.demo.backwards import groups_backwards
from nvr.demo.picture import read_number
from nvr.model.errors import NvrError, OperatorError

if TYPE_CHECKING:
    import av

USER = "admin"
_START_DEADLINE_S = 30
_ACTIVE_DEADLINE_S = 20


class DemoFailed(NvrError):
    """A step did not do what it must; the message says which and what was seen."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What FFmpeg received: the numbers burnt into the pictures, in order of arrival, and packets of other tracks."""

    numbers: list[int]
    other_packets: int


def run_demo(seconds: int, *, keep: bool, directory: Path | None) -> int:
    """Runs the walk and tells about it on stdout. 0: every recorded frame was replayed. Raises DemoFailed, and
    OperatorError for a directory that cannot be used.
    """
    import av
    import requests
    import zeep.exceptions

    place = directory or Path(tempfile.mkdtemp(prefix="nvr-demo-"))
    data = place / "data"
    if data.exists():
        raise OperatorError(f"{place} holds the recorder of an earlier demonstration: name another directory")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise OperatorError(f"cannot make the directory {place}: {e.strerror}") from e
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)  # camera and recorder end with us, however we are ended
    try:
        _walk_through(place, data, seconds, keep)
    except (zeep.exceptions.Error, requests.RequestException, av.FFmpegError) as e:
        raise DemoFailed(f"{type(e).__name__}: {e}; the recorder's log is {place / 'daemon.log'}") from e
    return 0


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _walk_through(place: Path, data: Path, seconds: int, keep: bool) -> None:
    password = secrets.token_urlsafe(12)
    with ExitStack() as stack:
        say("camera", "starting: H.264 with a burnt-in clock, AAC, ONVIF metadata")
        camera_uri = stack.enter_context(_child([sys.executable, "-m", "nvr.demo.camera"], {}))[-1]
        say("camera", camera_uri)
        arguments = ["serve", "--data", str(data), "--http", "127.0.0.1:0", "--rtsp", "127.0.0.1:0"]
        ready = stack.enter_context(
            _child(
                [sys.executable, "-m", "nvr", *arguments],
                {"NVR_ADMIN_PASSWORD": password},
                log=place / "daemon.log",
            )
        )
        http = next(word for word in ready if word.startswith("http"))
        say("recorder", f"{http}, data in {data}")
        walk = Walk(http, password)
        walk.create(camera_uri)
        walk.wait_until_active()
        walk.watch_recording(seconds)
        walk.stop_job()
        uri = walk.find_and_get_uri()
        recorded, files = _frames_in_files(data)
        replayed = _replay(_with_credentials(uri, password), recorded, place / "thumbnail.jpg")
        _check(recorded, replayed)
        say(
            "result",
            f"{len(replayed.numbers)} of {len(recorded)} recorded frames replayed, in order, none twice;"
            f" {replayed.other_packets} packets of sound and metadata",
        )
        groups = groups_backwards(_with_credentials(uri, password))
        _check_backwards(recorded, groups)
        say("backwards", f"all of them as an ONVIF client, in {len(groups)} groups of pictures, the last one first")
        say("files", f"{files} track files below {data / 'volumes'}")
        say("thumbnail", str(place / "thumbnail.jpg"))
        if keep:
            walk.set_mode("Active")
            say("serving", f"{http}/onvif/device_service  user {USER}  password {password}")
            say("", f"ffplay -rtsp_transport tcp '{_with_credentials(uri, password)}'")
            say("", "Ctrl-C ends camera and recorder")
            with suppress(KeyboardInterrupt):
                signal.pause()


def say(what: str, text: str) -> None:
    print(f"{what:>10}  {text}", flush=True)


class Walk:
    """The SOAP side of the walk: one zeep client a service, each built from the daemon's own description."""

    def __init__(self, http: str, password: str) -> None:
        self._http = http.rstrip("/")
        self._password = password
        self._recording = self._service("recording")
        self._receiver = self._service("receiver")
        self._search = self._service("search")
        self._replay = self._service("replay")
        self._recording_token = ""
        self._job_token = ""

    def _service(self, name: str) -> Any:
        import zeep
        from zeep.wsse.username import UsernameToken

        address = f"{self._http}/onvif/{name}_service"
        client = zeep.Client(f"{address}?wsdl", wsse=UsernameToken(USER, self._password, use_digest=True))
        return client.service

    def create(self, camera_uri: str) -> None:
        """CreateRecording, CreateRecordingJob with an auto-created receiver, ConfigureReceiver."""
        self._recording_token = self._recording.CreateRecording(
            RecordingConfiguration={
                "Source": {
                    "SourceId": camera_uri,
                    "Name": "Built-in camera",
                    "Location": "Demo",
                    "Description": "Moving picture with a burnt-in clock",
                    "Address": camera_uri,
                },
                "Content": "Demonstration",
                "MaximumRetentionTime": "PT0S",
            }
        )
        say("recording", f"CreateRecording: {self._recording_token}")
        answer = self._recording.CreateRecordingJob(
            JobConfiguration={
                "RecordingToken": self._recording_token,
                "Mode": "Active",
                "Priority": 1,
                "Source": [{"AutoCreateReceiver": True}],
            }
        )
        self._job_token = answer.JobToken
        receiver = answer.JobConfiguration.Source[0].SourceToken.Token
        say("job", f"CreateRecordingJob: {self._job_token}, receiver {receiver}")
        self._receiver.ConfigureReceiver(
            ReceiverToken=receiver,
            Configuration={
                "Mode": "AutoConnect",
                "MediaUri": camera_uri,
                "StreamSetup": {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}},
            },
        )

    def wait_until_active(self) -> None:
        """GetRecordingJobState until the job is Active."""
        deadline = time.monotonic() + _ACTIVE_DEADLINE_S
        while (state := self._recording.GetRecordingJobState(JobToken=self._job_token)).State != "Active":
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"the recording job is {state.State} after {_ACTIVE_DEADLINE_S} s, not Active: {state}"
                )
            time.sleep(0.2)
        tracks = ", ".join(f"{t.SourceTag or 'stream'} to {t.Destination}" for t in state.Sources[0].Tracks.Track)
        say("job", f"Active: {tracks}")

    def watch_recording(self, seconds: int) -> None:
        """Lets the job record, and shows what the search service says meanwhile."""
        start = time.monotonic()
        while (elapsed := time.monotonic() - start) < seconds:
            information = self._search.GetRecordingInformation(RecordingToken=self._recording_token)
            latest = information.LatestRecording
            note = (
                f"{information.RecordingStatus}, footage up to {latest:%H:%M:%S}" if latest else "waiting for footage"
            )
            _bar("record", elapsed, seconds, f"{elapsed:4.0f} of {seconds} s  {note}")
            time.sleep(min(0.5, seconds - elapsed))
        _bar("record", seconds, seconds, f"{seconds:4} of {seconds} s", end=True)

    def set_mode(self, mode: str) -> None:
        self._recording.SetRecordingJobMode(JobToken=self._job_token, Mode=mode)

    def stop_job(self) -> None:
        """SetRecordingJobMode Idle, and waits until the recording has stopped."""
        self.set_mode("Idle")
        deadline = time.monotonic() + _ACTIVE_DEADLINE_S
        while True:
            information = self._search.GetRecordingInformation(RecordingToken=self._recording_token)
            if information.RecordingStatus == "Stopped":
                return
            if time.monotonic() > deadline:
                raise DemoFailed(f"the recording is {information.RecordingStatus} after its job became Idle")
            time.sleep(0.1)

    def find_and_get_uri(self) -> str:
        """FindRecordings, GetRecordingSearchResults, GetReplayUri."""
        search = self._search.FindRecordings(
            Scope={"RecordingInformationFilter": 'boolean(//Track[TrackType = "Video"])'},
            MaxMatches=10,
            KeepAliveTime="PT30S",
        )
        found: list[Any] = []
        while True:
            results = self._search.GetRecordingSearchResults(
                SearchToken=search, MinResults=1, MaxResults=10, WaitTime="PT5S"
            )
            found += results.RecordingInformation
            if results.SearchState == "Completed":
                break  # which ends the session as well (6.2.3)
        mine = [f for f in found if f.RecordingToken == self._recording_token]
        if len(mine) != 1:
            raise DemoFailed(f"the search found {[f.RecordingToken for f in found]}, not {self._recording_token}")
        for track in mine[0].Track:
            say("found", f"{track.TrackToken}: {track.DataFrom:%H:%M:%S.%f} to {track.DataTo:%H:%M:%S.%f} UTC")
        uri = self._replay.GetReplayUri(
            StreamSetup={"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}},
            RecordingToken=self._recording_token,
        )
        say("replay", f"GetReplayUri: {uri}")
        return str(uri)


@contextmanager
def _child(command: list[str], environment: dict[str, str], log: Path | None = None) -> Iterator[list[str]]:
    """A child process; gives the words of the first line that it prints. Ended by SIGTERM on leaving."""
    errors = log.open("wb") if log is not None else None
    process = subprocess.Popen(  # noqa: S603  our own modules
        command, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **environment}, text=True
    )
    watchdog = threading.Timer(_START_DEADLINE_S, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        watchdog.cancel()
        if not words:
            status = process.wait(_START_DEADLINE_S)
            hint = f"; see {log}" if log else ""
            raise DemoFailed(f"{' '.join(command[1:4])} ended with status {status} before it was ready{hint}")
        yield words
    finally:
        watchdog.cancel()
        process.terminate()
        try:
            process.wait(_START_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        if errors is not None:
            errors.close()


def _with_credentials(uri: str, password: str) -> str:
    parts = urlsplit(uri)
    return parts._replace(netloc=f"{USER}:{quote(password, safe='')}@{parts.netloc}").geturl()


def _frames_in_files(data: Path) -> tuple[list[int], int]:
    """The frame numbers in the video track files, read by FFmpeg as any player would, and how many files there are."""
    import av

    numbers: list[int] = []
    files = sorted(data.glob("volumes/*/footage/*/*/*/*.mp4"))
    for path in files:
        if "VIDEO001" in path.parts:
            with av.open(str(path)) as container:
                numbers += [_number(frame) for frame in container.decode(video=0)]
    return sorted(numbers), len(files)


def _number(frame: av.VideoFrame) -> int:
    plane = frame.planes[0]
    number = read_number(memoryview(plane), plane.line_size, frame.width)
    if number is None:
        raise DemoFailed(f"a picture at {frame.pts} does not carry the camera's mark")
    return number


def _replay(uri: str, recorded: list[int], thumbnail: Path) -> Replayed:
    """Plays the whole recording with FFmpeg over RTSP, paced as a plain player is, and writes a thumbnail."""
    import av

    numbers: list[int] = []
    pictures = other = 0
    total = len(recorded)
    with av.open(uri, options={"rtsp_transport": "tcp"}, timeout=10) as container:
        video = container.streams.video[0]
        for packet in container.demux():
            if packet.stream is not video:
                other += 1
                continue
            pictures += 1
            for frame in video.decode(packet):
                numbers.append(_number(frame))
                if len(numbers) == max(1, total // 2):
                    _write_thumbnail(frame, thumbnail)
            _bar("replay", pictures, total, f"{pictures} of {total} frames")
            if pictures == total:
                break
        numbers += [_number(frame) for frame in video.decode(None)]
    _bar("replay", pictures, total, f"{pictures} of {total} frames", end=True)
    return Replayed(numbers, other)


def _write_thumbnail(frame: av.VideoFrame, path: Path) -> None:
    import av

    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height = frame.width, frame.height
    encoder.pix_fmt = "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    picture = frame.reformat(format="yuvj420p")
    path.write_bytes(b"".join(bytes(p) for p in [*encoder.encode(picture), *encoder.encode(None)]))


def _check(recorded: list[int], replayed: Replayed) -> None:
    if not recorded:
        raise DemoFailed("no frame was recorded")
    if recorded != list(range(recorded[0], recorded[0] + len(recorded))):
        raise DemoFailed(f"{recorded[-1] - recorded[0] + 1 - len(recorded)} frames are missing in the track files")
    if replayed.numbers != recorded:
        missing = sorted(set(recorded) - set(replayed.numbers))
        raise DemoFailed(f"the replay differs from the recording: {len(missing)} frames missing, first {missing[:5]}")


def _check_backwards(recorded: list[int], groups: list[list[int | None]]) -> None:
    """Groups come backwards, the pictures of each forwards (8.6.2)."""
    numbers = [number for group in reversed(groups) for number in group]
    if numbers != recorded:
        raise DemoFailed(f"the replay backwards differs from the recording: it begins with {groups[:2]}")


def _bar(what: str, done: float, total: float, note: str, *, end: bool = False) -> None:
    """A progress bar on a terminal; its last state alone elsewhere."""
    if not (end or sys.stdout.isatty()):
        return
    filled = int(30 * min(1.0, done / total)) if total else 0
    tail = "\n" if end else ""
    lead = "\r" if sys.stdout.isatty() else ""
    print(f"{lead}{what:>10}  [{'#' * filled}{'.' * (30 - filled)}] {note:<50}", end=tail, flush=True)
