from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.ingest.endpoint import Endpoint
from nvr.model.errors import BadConfiguration
from nvr.model.receiver import TransportProtocol
from nvr.operations import media_uri


@pytest.mark.parametrize(
    ("known", "uri", "told"),
    [
        ("rtsp://u:p@old/s", "rtsp://new/t", "rtsp://u:p@new/t"),
        ("rtsp://u:p@old/s", "rtsp://v@new/t", "rtsp://v@new/t"),
        ("rtsp://old/s", "rtsp://new/t?a=b@c", "rtsp://new/t?a=b@c"),
        ("rtsp://u:p@old/s?x=@", None, "rtsp://u:p@old/s?x=@"),
    ],
)
def test_another_address_keeps_the_user_unless_it_names_one(known: str, uri: str | None, told: str) -> None:
    assert media_uri.changed(known, uri) == told


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_any_user_and_password_come_back_as_they_were_typed(user: str, password: str) -> None:
    uri = media_uri.changed("rtsp://192.0.2.1/s", None, user, password)
    assert media_uri.checked(uri, TransportProtocol.RTSP) == uri
    endpoint = Endpoint.parse(uri)
    assert (endpoint.username, endpoint.password) == (user, password)
    assert endpoint.uri == "rtsp://192.0.2.1/s"
    assert unquote(media_uri.credentials(uri)) == f"{user}:{password}"


@pytest.mark.parametrize("uri", ["192.0.2.1:554/s", "user:secret@192.0.2.1/s", "rtsp:/192.0.2.1/s", "camera"])
def test_an_address_without_a_scheme_is_told_as_such_and_not_shown(uri: str) -> None:
    with pytest.raises(BadConfiguration, match=r"^MediaUri: does not begin with rtsp:// or rtsps://$"):
        media_uri.checked(uri, TransportProtocol.RTSP)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("rtsp://u:p@192.0.2.1/s", "RTSP://192.0.2.1/s/", True),
        ("rtsp://192.0.2.1/s?channel=1", "rtsp://192.0.2.1/s?channel=2", False),
        ("rtsp://192.0.2.1:8554/s", "rtsp://192.0.2.1/s", False),
        ("rtsp://[::1/s", "rtsp://[::1/s", True),
    ],
)
def test_streams_are_compared_without_who_asks_for_them(one: str, other: str, same: bool) -> None:
    assert media_uri.same_stream(one, other) is same
