"""The RTSP server that the replay client talks to."""

from tests.replay.conftest import serve as serve
