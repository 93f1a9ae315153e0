"""Refusals of RTSP requests, and the one table from domain errors to status codes (RFC 2326 11; IEC 62676-2-32 8.1)."""

from __future__ import annotations

from typing import Final

from nvr.model.errors import AccessDenied, FormatError, LimitReached, NvrError, Refused, StorageError, UnknownToken


class RequestRefused(Refused):
    """A request that is answered with an error status. Nothing has been changed by it.

    `headers` go into the answer (Allow with 405, Unsupported with 551). The message is for the log.
    """

    def __init__(self, status: int, why: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(why)
        self.status = status
        self.headers = headers


STATUS_OF: Final[tuple[tuple[type[NvrError], int], ...]] = (
    (UnknownToken, 404),
    (AccessDenied, 403),
    (LimitReached, 503),
    (FormatError, 400),
    (StorageError, 503),
    (Refused, 400),
)
"""First match wins; what is not here is a fault of this program: 500."""


def status_of(error: NvrError) -> int:
    if isinstance(error, RequestRefused):
        return error.status
    return next((status for kind, status in STATUS_OF if isinstance(error, kind)), 500)
