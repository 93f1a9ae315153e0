from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from nvr.model.errors import UnknownToken
from nvr.model.job import RecordingJob, RecordingJobConfiguration, RecordingJobMode, RecordingJobSource, SourceReference
from nvr.model.receiver import Receiver, ReceiverConfiguration, ReceiverState
from nvr.model.recording import Recording, RecordingConfiguration, RecordingSourceInformation
from nvr.model.time import NS
from nvr.model.tokens import JobToken, ReceiverToken, RecordingToken
from nvr.sources.ask import Answer, Outcome, Question
from nvr.sources.cameras import AGAIN_NS, AGAIN_SILENT_NS, Cameras, CameraSettings, in_a_process
from nvr.sources.description import CameraDescription

YARD, GATE = ReceiverToken("rcv-1"), ReceiverToken("rcv-2")
SERVICE = "http://192.0.2.1/onvif/device_service"
SAYS = Answer(Outcome.ANSWERED, CameraDescription(SERVICE, "Acme", "C1", "Yard", "Roof"))


class House:
    """Receivers, a clock, and cameras whose answers are given beforehand."""

    def __init__(self) -> None:
        self.receivers_now = {YARD: "rtsp://u:secret@192.0.2.1/s", GATE: "rtsp://192.0.2.2/s"}
        self.now_ns = 0
        self.connected = ReceiverState.CONNECTED
        self.asked: list[Question] = []
        self.answers: list[Answer] = []
        self.cameras = self.with_settings(CameraSettings(ask=True))

    def with_settings(self, settings: CameraSettings) -> Cameras:
        return Cameras(settings, self, Path("d.wsdl"), ask=self.ask, monotonic=lambda: self.now_ns)

    def receivers(self) -> Sequence[Receiver]:
        return [self.receiver(token) for token in self.receivers_now]

    def receiver(self, token: ReceiverToken) -> Receiver:
        if token not in self.receivers_now:
            raise UnknownToken("Receiver", token)
        return Receiver(token, ReceiverConfiguration(media_uri=self.receivers_now[token]))

    def state(self, token: ReceiverToken) -> ReceiverState:
        return self.connected

    async def ask(self, question: Question) -> Answer:
        self.asked.append(question)
        return self.answers.pop(0) if self.answers else SAYS

    async def connects(self, token: ReceiverToken = YARD) -> None:
        self.cameras.connected(token)
        await self.cameras.ask_next()

    def told(self, configured: RecordingSourceInformation | None = None, receiver: str = YARD) -> str:
        """The name of the source of a recording of this receiver."""
        source = RecordingSourceInformation() if configured is None else configured
        recording = Recording(RecordingToken("rec-1"), RecordingConfiguration(source), ())
        sources = (RecordingJobSource(None), RecordingJobSource(SourceReference(receiver)))
        of = RecordingJobConfiguration(recording.token, RecordingJobMode.ACTIVE, 1, sources)
        return self.cameras.source(recording, [RecordingJob(JobToken("job-1"), of)]).name


async def test_a_camera_that_has_connected_is_asked_with_its_own_credentials_and_completes_the_source() -> None:
    house = House()
    assert house.told() == ""
    await house.connects()
    question = house.asked[0]
    assert (question.addresses, question.username, question.password) == ((SERVICE,), "u", "secret")
    assert "secret" not in repr(question)
    assert house.told() == "Yard"
    assert house.told(RecordingSourceInformation(name="Mine")) == "Mine"
    assert house.told(receiver=GATE) == ""


async def test_nobody_is_asked_unless_the_operator_wants_it() -> None:
    house = House()
    house.cameras = house.with_settings(CameraSettings())
    await house.connects()
    assert house.asked == []


@pytest.mark.parametrize(
    ("outcome", "again_ns"),
    [(Outcome.ANSWERED, AGAIN_NS), (Outcome.REFUSED, AGAIN_NS), (Outcome.SILENT, AGAIN_SILENT_NS)],
)
async def test_a_camera_that_reconnects_is_not_asked_again_too_soon(outcome: Outcome, again_ns: int) -> None:
    house = House()
    house.answers = [Answer(outcome)]
    await house.connects()
    await house.connects()
    house.now_ns = again_ns - NS
    assert await house.cameras.ask_next() == NS
    assert len(house.asked) == 1
    house.now_ns += NS
    await house.cameras.ask_next()
    assert len(house.asked) == 2


async def test_an_answer_stays_until_another_comes_but_not_for_another_camera() -> None:
    house = House()
    await house.connects()
    house.answers = [Answer(Outcome.SILENT)]
    house.now_ns = AGAIN_NS
    await house.cameras.ask_next()
    assert house.told() == "Yard"
    house.receivers_now[YARD] = "rtsp://192.0.2.9/s"
    assert house.told() == ""
    house.answers = [Answer(Outcome.ANSWERED, CameraDescription(SERVICE, name="New"))]
    await house.connects()
    assert house.told() == "New"


async def test_a_receiver_that_is_gone_or_not_connected_is_forgotten_until_it_comes_back() -> None:
    house = House()
    await house.connects()
    house.connected, house.now_ns = ReceiverState.NOT_CONNECTED, AGAIN_NS
    assert await house.cameras.ask_next() is None
    assert len(house.asked) == 1
    house.connected = ReceiverState.CONNECTED
    await house.connects()
    assert len(house.asked) == 2
    del house.receivers_now[YARD]
    house.now_ns += AGAIN_NS
    assert await house.cameras.ask_next() is None
    assert house.told() == ""


async def test_a_host_that_stands_for_several_cameras_is_not_asked_for_one_of_them() -> None:
    house = House()
    house.receivers_now = {YARD: "rtsp://192.0.2.1:5541/s", GATE: "rtsp://192.0.2.1:5542/s"}
    await house.connects()
    assert house.asked == []
    house.receivers_now = {YARD: "rtsp://192.0.2.1:5541/a", GATE: "rtsp://192.0.2.1:5541/b"}  # one encoder
    await house.connects()
    assert len(house.asked) == 1


async def test_a_stop_that_comes_with_a_camera_that_connects_is_a_stop() -> None:
    house = House()
    await house.connects(GATE)  # it is asked again in a while
    asking = asyncio.create_task(house.cameras.run())
    await asyncio.sleep(0)
    house.cameras.connected(YARD)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()


async def test_the_process_that_asks_is_ended_at_its_deadline() -> None:
    """And with the daemon: nothing outlives the call."""
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        question = Question((f"http://127.0.0.1:{port}/onvif/device_service",), "absent.wsdl", 60)
        answer = await in_a_process(question, 0)
    assert (answer.outcome, answer.why) == (Outcome.SILENT, "no answer within 0 s")


@pytest.mark.parametrize("values", [{"ports": (0,)}, {"tls_ports": (65536,)}, {"ports": (1,) * 5}, {"timeout_ns": 0}])
def test_settings_that_cannot_be_meant_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"ports|timeout"):
        CameraSettings(**values)  # type: ignore[arg-type]
