"""Who may read metrics and the reasons of health."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from nvr.http.mounts import routes
from nvr.http.settings import HttpSettings, Observers


class Storage:
    name = "storage"

    def problems(self) -> Sequence[str]:
        return ("volume /srv/footage is full",)

    def warnings(self) -> Sequence[str]:
        return ()

    def notes(self) -> Sequence[str]:
        return ()


async def ask(path: str, peer: str, observers: Observers) -> web.Response:
    soap, contract = Mock(paths=(), service=Mock()), Mock(schemas=())
    (route,) = (r for r in routes(HttpSettings(observers=observers), soap, contract, [Storage()], []) if r.path == path)
    transport = Mock()
    transport.get_extra_info = lambda name, default=None: (peer, 40000) if name == "peername" else default
    answer = await route.handler(make_mocked_request("GET", path, transport=transport))
    assert isinstance(answer, web.Response)
    return answer


@pytest.mark.parametrize(
    ("peer", "observers", "may"),
    [
        ("127.0.0.1", Observers.LOOPBACK, True),
        ("::1", Observers.LOOPBACK, True),
        ("::ffff:127.0.0.1", Observers.LOOPBACK, True),
        ("192.0.2.7", Observers.LOOPBACK, False),
        ("2001:db8::7", Observers.LOOPBACK, False),
        ("fe80::7%eth0", Observers.LOOPBACK, False),
        ("192.0.2.7", Observers.ANYONE, True),
    ],
)
async def test_reasons_and_metrics_are_for_observers(peer: str, observers: Observers, may: bool) -> None:
    health = await ask("/healthz", peer, observers)
    assert health.status == 503
    assert ("/srv/footage" in str(health.text)) == may
    if may:
        assert (await ask("/metrics", peer, observers)).status == 200
    else:
        with pytest.raises(web.HTTPForbidden):
            await ask("/metrics", peer, observers)
