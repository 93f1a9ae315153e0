"""What can be set about ingest, and where time comes from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nvr.ingest.clock import ClockSettings
from nvr.ingest.pipeline import PipelineSettings
from nvr.model.time import NS


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """Durations in nanoseconds, sizes in bytes."""

    connect_timeout_ns: int = 10 * NS
    """For TCP and TLS together."""
    request_timeout_ns: int = 10 * NS
    """For the answer to one RTSP request."""
    no_data_timeout_ns: int = 10 * NS
    """A session without any packet, or whose video has stopped, for this long is given up."""
    teardown_timeout_ns: int = 1 * NS
    keep_alive_ns: int = 30 * NS
    """The longest pause between keep-alives; half of the session's time-out when that is shorter."""
    report_interval_ns: int = 5 * NS
    """Between receiver reports (RFC 3550 6.2: not below 5 s without bandwidth arithmetic)."""
    drain_interval_ns: int = 250_000_000
    """Between two drains of a source that is only recorded."""
    live_interval_ns: int = 30_000_000
    """The same while somebody watches, and until the clock of the source is fixed."""
    receive_buffer_bytes: int = 1 << 20
    """SO_RCVBUF: a drain interval of the fastest stream and an I-frame."""
    back_off_ns: int = 2 * NS
    """Pause behind the first failed attempt; doubles with every further one."""
    back_off_maximum_ns: int = 60 * NS
    configure_grace_ns: int = 5 * NS
    """How long tracks stay Active while a reconfigured receiver connects anew."""
    maximum_redirects: int = 3
    maximum_streams: int = 16
    tls_verify: bool = True
    """Whether the certificate of an rtsps source must be valid. Many cameras have one that is not."""
    tls_ca_file: Path | None = None
    """Certificates to trust beside the system's."""
    clock: ClockSettings = field(default_factory=ClockSettings)
    pipeline: PipelineSettings = field(default_factory=PipelineSettings)

    def __post_init__(self) -> None:
        for name in (
            "connect_timeout_ns",
            "request_timeout_ns",
            "no_data_timeout_ns",
            "teardown_timeout_ns",
            "keep_alive_ns",
            "report_interval_ns",
            "drain_interval_ns",
            "live_interval_ns",
            "receive_buffer_bytes",
            "back_off_ns",
            "back_off_maximum_ns",
            "maximum_streams",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.configure_grace_ns < 0 or self.maximum_redirects < 0:
            raise ValueError("configure_grace and maximum_redirects must not be below 0")


@dataclass(frozen=True, slots=True)
class Times:
    """The daemon's clocks, in nanoseconds; replaced in tests."""

    utc: Callable[[], int] = time.time_ns
    monotonic: Callable[[], int] = time.monotonic_ns
