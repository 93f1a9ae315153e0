"""A real `nvr serve` as a child process, on free loopback ports, with an administrator of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

ADMIN = "admin"
PASSWORD = "correct horse"

_READY = re.compile(
    r"nvr \S+ is ready: (?P<http>http://\S+) (?P<rtsp>rtsp://\S+)(?: (?P<https>https://\S+))?(?: (?P<rtsps>rtsps://\S+))?"
)


class DaemonProcess:
    """Starts at once and returns when the daemon has printed its line; `stop` ends it and gives its status."""

    def __init__(
        self, data: Path, config: str = "", *, timeout_s: float = 100, wait: bool = True, module: str = "nvr"
    ) -> None:
        """Without `wait` it is not ready yet, and good only to be killed. `module` is run as `nvr` is. `timeout_s` ends
        a test whose daemon hangs, and must not end one on a machine that has little time for it."""
        self.data = data
        self._timeout_s = timeout_s
        command = [sys.executable, "-m", module, "serve", "--data", str(data)]
        command += ["--http", "127.0.0.1:0", "--rtsp", "127.0.0.1:0"]
        if config:
            config_file = data.parent / f"{data.name}.toml"
            config_file.write_text(config, encoding="utf-8")
            command += ["--config", str(config_file)]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NVR_ADMIN_PASSWORD": PASSWORD},
        )
        self._log: list[str] = []
        self._came = threading.Condition()
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Until the line comes that a daemon prints when it is ready, also after a restart that it makes by itself."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(self._timeout_s, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        found = _READY.search(line)
        if found is None:
            self.kill()
            raise AssertionError(f"the daemon did not become ready; it said {line!r} and logged:\n{self.log}")
        self.http = found["http"].rstrip("/")
        self.rtsp = found["rtsp"].rstrip("/")
        self.https = (found["https"] or "").rstrip("/")
        self.rtsps = (found["rtsps"] or "").rstrip("/")

    def _collect(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._came:
                self._log.append(line)
                self._came.notify_all()

    @property
    def log(self) -> str:
        """What has come of it. All of it once the daemon has ended; while it runs, an answer may be here before a line
        that was logged ahead of it: `has_logged`."""
        return "".join(self._log)

    def has_logged(self, text: str) -> bool:
        """Waits for it."""
        with self._came:
            return self._came.wait_for(lambda: text in self.log, self._timeout_s)

    def service(self, name: str) -> str:
        """Address of a service: device, recording, search, replay, receiver."""
        return f"{self.http}/onvif/{name}_service"

    def health(self) -> str:
        """The answer of /healthz, as it comes."""
        try:
            with urllib.request.urlopen(f"{self.http}/healthz", timeout=self._timeout_s) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as e:
            return e.read().decode()

    def stop(self) -> int:
        """SIGTERM, and the exit status. Kills a daemon that does not end in time, which fails the test."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            self._close()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()
        self._close()

    def _close(self) -> None:
        self._reader.join(20)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()
        else:
            self._close()
        if error is not None:
            print(self.log, file=sys.stderr)


def run_nvr(*arguments: str, stdin: str = "", timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """One command of the command line, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "nvr", *arguments], input=stdin, capture_output=True, text=True, timeout=timeout_s
    )
