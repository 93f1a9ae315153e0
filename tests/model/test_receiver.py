from __future__ import annotations

from nvr.model.receiver import Receiver, ReceiverConfiguration
from nvr.model.tokens import ReceiverToken


def test_the_password_in_a_media_uri_is_not_in_the_repr() -> None:
    configuration = ReceiverConfiguration(media_uri="rtsp://user:hunter2@camera.example/")
    assert "hunter2" not in repr(Receiver(ReceiverToken("rcv-1"), configuration))
