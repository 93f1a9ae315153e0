"""TLS of the listeners: one certificate and one context for HTTPS and RTSPS, kept fresh while the daemon runs."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nvr.auth.certificate import SelfSigned, expiry_warning, host_names
from nvr.http.settings import HttpSettings, tls_context
from nvr.model.errors import OperatorError
from nvr.model.time import UtcNs

log = logging.getLogger(__name__)

REFRESH_S = 86_400.0
"""How often the certificate is looked at."""


class ServerTls:
    """The operator's certificate where there is one, else a self-signed one that is made when it is needed."""

    def __init__(self, settings: HttpSettings, data: Path, clock: Callable[[], UtcNs] = time.time_ns) -> None:
        self._settings = settings
        self._data = data
        self._clock = clock
        self._context: ssl.SSLContext | None = None
        self._self_signed: SelfSigned | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, hosts: Sequence[str]) -> ssl.SSLContext:
        """The context of the listeners; `hosts` are those that they listen on. Raises OperatorError."""
        self._context = await asyncio.to_thread(self._open, hosts)
        self._task = asyncio.create_task(self._keep_fresh(), name="certificate")
        return self._context

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def refresh(self) -> None:
        """Renew the self-signed certificate when it is time, and read the operator's anew: who renews the file need
        not restart the daemon. Connections that stand keep what they have. Blocking. Raises OperatorError."""
        assert self._context is not None
        if self._self_signed is not None:
            self._self_signed.ensure(self._clock())
        certificate, key = self._files()
        tls_context(certificate, key)  # refuses a pair that does not fit before it gets into the one in use
        self._context.load_cert_chain(certificate, key, password="")
        self._warn(certificate)

    def _open(self, hosts: Sequence[str]) -> ssl.SSLContext:
        if self._settings.certificate is None:
            literal = [h for h in hosts if h not in ("", "0.0.0.0", "::")]  # noqa: S104  wildcards are no names
            names = host_names([*self._settings.certificate_names, *literal])
            self._self_signed = SelfSigned(self._data, names)
            self._self_signed.ensure(self._clock())
        certificate, key = self._files()
        context = tls_context(certificate, key)
        self._warn(certificate)
        return context

    def _files(self) -> tuple[Path, Path]:
        if self._self_signed is not None:
            return self._self_signed.certificate, self._self_signed.key
        assert self._settings.certificate is not None
        assert self._settings.key is not None
        return self._settings.certificate, self._settings.key

    def _warn(self, certificate: Path) -> None:
        warning = expiry_warning(certificate, self._clock())
        if warning is not None:
            log.warning("TLS: %s", warning)

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await asyncio.to_thread(self.refresh)
            except (OperatorError, OSError, ValueError) as e:  # the files may change under the reading
                log.error("the certificate stays as it is: %s", e)
