"""Which cameras are asked who they are, and when; and what of their answers is told of recordings.

A camera is asked when its receiver has connected, beside everything else and one at a time, by a process of its own
(`nvr.sources.ask`). Answers are kept in memory: a daemon that starts asks again. They complete what clients have
configured and never replace it. Belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nvr.model.errors import UnknownToken
from nvr.model.job import RECEIVER_TYPE, RecordingJob
from nvr.model.receiver import Receiver, ReceiverState
from nvr.model.recording import Recording, RecordingSourceInformation
from nvr.model.time import NS
from nvr.model.tokens import ReceiverToken
from nvr.model.waiting import come
from nvr.sources.ask import Answer, Outcome, Question
from nvr.sources.description import Camera, CameraDescription

log = logging.getLogger(__name__)

AGAIN_NS = 86_400 * NS
"""Behind an answer, and behind a refusal: cameras lock accounts."""
AGAIN_SILENT_NS = 3_600 * NS


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """Whether and where the cameras of receivers are asked who they are."""

    ask: bool = False
    """Off by default: the address is not one that the operator has given, and the camera's user is named there."""
    ports: tuple[int, ...] = (80,)
    """Of the device service, where the stream is not encrypted; the first that answers counts."""
    tls_ports: tuple[int, ...] = (443,)
    """The same where it is (rtsps)."""
    timeout_ns: int = 20 * NS
    """What the answer may take in all."""

    def __post_init__(self) -> None:
        if not all(0 < port < 65536 for port in (*self.ports, *self.tls_ports)):
            raise ValueError("ports and tls_ports are between 1 and 65535")
        if len(self.ports) > 4 or len(self.tls_ports) > 4:
            raise ValueError("ports and tls_ports name 4 ports at most")
        if self.timeout_ns < NS:
            raise ValueError("timeout must be at least 1s")


class Receivers(Protocol):
    """`nvr.control.receivers`."""

    def receivers(self) -> Sequence[Receiver]: ...
    def receiver(self, token: ReceiverToken) -> Receiver:
        """Raises UnknownToken."""

    def state(self, token: ReceiverToken) -> ReceiverState:
        """Raises UnknownToken."""


Ask = Callable[[Question], Awaitable[Answer]]


async def in_a_process(question: Question, deadline_s: float) -> Answer:
    """Asks by a process that is ended when the deadline has passed, or when this call is cancelled."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nvr.sources.ask", stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(deadline_s):
            told, _ = await process.communicate(question.to_json())
        return Answer.from_json(told)
    except TimeoutError:
        return Answer(Outcome.SILENT, why=f"no answer within {deadline_s:g} s")
    except (ValueError, KeyError, TypeError):
        return Answer(Outcome.SILENT, why=f"the process that asks has ended with status {process.returncode}")
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):  # it has just ended
                process.kill()
            await process.wait()


class Cameras:
    """`run` asks until it is cancelled. `wsdl` is the path of devicemgmt.wsdl; `verify` as in Question;
    `label` is what log lines call a receiver."""

    def __init__(
        self,
        settings: CameraSettings,
        receivers: Receivers,
        wsdl: Path,
        *,
        verify: bool | str = True,
        ask: Ask | None = None,
        label: Callable[[ReceiverToken], str] = str,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self._settings = settings
        self._receivers = receivers
        self._label = label
        self._wsdl = wsdl
        self._verify = verify
        self._ask = ask or self._in_a_process
        self._monotonic = monotonic
        self._due: dict[ReceiverToken, int] = {}
        self._asked: dict[ReceiverToken, tuple[str, CameraDescription | None]] = {}
        """The media URI at which a receiver's camera was asked, and what it has told."""
        self._wake = asyncio.Event()

    # What is told

    def source(self, recording: Recording, jobs: Iterable[RecordingJob]) -> RecordingSourceInformation:
        """The source of a recording into which these jobs record: what is configured, completed by what the camera of
        the first receiver among their sources says.
        """
        configured = recording.configuration.source
        if not self._asked:
            return configured
        for job in jobs:
            for source in job.configuration.sources:
                if source.source is not None and source.source.type == RECEIVER_TYPE:
                    description = self._description(ReceiverToken(source.source.token))
                    if description is not None:
                        return description.completed(configured)
        return configured

    def _description(self, token: ReceiverToken) -> CameraDescription | None:
        asked = self._asked.get(token)
        if asked is None:
            return None
        try:
            uri = self._receivers.receiver(token).configuration.media_uri
        except UnknownToken:
            return None
        return asked[1] if asked[0] == uri else None

    # Asking

    def connected(self, token: ReceiverToken) -> None:
        """The receiver has its camera's session description: who is asked again too soon is not asked."""
        if not self._settings.ask:
            return
        asked = self._asked.get(token)
        try:
            uri = self._receivers.receiver(token).configuration.media_uri
        except UnknownToken:
            return
        if token not in self._due or (asked is not None and asked[0] != uri):
            self._due[token] = self._monotonic()
            self._wake.set()

    async def run(self) -> None:
        while True:
            left_ns = await self.ask_next()
            self._wake.clear()
            await come(self._wake, None if left_ns is None else left_ns / NS)

    async def ask_next(self) -> int | None:
        """Asks all cameras that are due; nanoseconds until the next one is, None where there is none."""
        while self._due:
            token = min(self._due, key=self._due.__getitem__)
            left_ns = self._due[token] - self._monotonic()
            if left_ns > 0:
                return left_ns
            del self._due[token]
            await self._turn(token)
        return None

    async def _turn(self, token: ReceiverToken) -> None:
        for gone in self._asked.keys() - {receiver.token for receiver in self._receivers.receivers()}:
            del self._asked[gone]
        try:
            receiver = self._receivers.receiver(token)
            if self._receivers.state(token) is ReceiverState.NOT_CONNECTED:
                return  # its next connection brings it back
        except UnknownToken:
            return
        uri = receiver.configuration.media_uri
        question = self._question(uri)
        if question is None:
            answer = Answer(Outcome.SILENT, why="its host stands for several cameras")
        else:
            answer = await self._ask(question)
        self._keep(receiver, uri, answer)
        again_ns = AGAIN_SILENT_NS if answer.outcome is Outcome.SILENT else AGAIN_NS
        self._due.setdefault(token, self._monotonic() + again_ns)

    def _question(self, uri: str) -> Question | None:
        """None where several cameras stand behind one host, as behind a translation of addresses: the one that answers
        there need not be this one.
        """
        camera = Camera.of(uri)
        if camera is None:
            return None
        others = (Camera.of(r.configuration.media_uri) for r in self._receivers.receivers())
        if any(other is not None and other.host == camera.host and other.port != camera.port for other in others):
            return None
        settings = self._settings
        addresses = camera.addresses(settings.ports, settings.tls_ports)
        each_s = settings.timeout_ns / NS / 4  # time, information and scopes, and what starting takes
        return Question(addresses, str(self._wsdl), each_s, camera.username, camera.password, self._verify)

    async def _in_a_process(self, question: Question) -> Answer:
        return await in_a_process(question, self._settings.timeout_ns / NS)

    def _keep(self, receiver: Receiver, uri: str, answer: Answer) -> None:
        """An answer stays until another one comes: a camera that does not answer today is still what it was."""
        self.outcomes[answer.outcome] += 1
        known = self._asked.get(receiver.token)
        before = known[1] if known is not None and known[0] == uri else None
        self._asked[receiver.token] = uri, answer.description or before
        label, what = self._label(receiver.token), receiver.configuration.public_uri
        if answer.description is None:
            log.info("receiver %s: %s does not say who it is: %s", label, what, answer.why)
        elif answer.description != before:
            found = answer.description
            log.info("receiver %s: %s says that it is %r, a %r", label, what, found.name, found.make)
