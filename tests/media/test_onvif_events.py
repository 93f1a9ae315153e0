"""Events in metadata documents."""

from __future__ import annotations

import contextlib
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.media.onvif_events import MAX_ATTRIBUTES, MAX_BYTES, events
from nvr.model.errors import FormatError
from nvr.model.event import PropertyOperation
from nvr.model.notification import Notification
from nvr.model.time import NS

DOCUMENT = """<?xml version="1.0" encoding="UTF-8"?>
<tt:MetadataStream xmlns:tt="http://www.onvif.org/ver10/schema" xmlns:wsnt="http://docs.oasis-open.org/wsn/b-2"
    xmlns:tns1="http://www.onvif.org/ver10/topics">
  <tt:VideoAnalytics><tt:Frame UtcTime="2026-01-01T00:00:00Z"/></tt:VideoAnalytics>
  <tt:Event>
    <wsnt:NotificationMessage>
      <wsnt:Topic Dialect="http://docs.oasis-open.org/wsn/t-1/TopicExpression/Concrete">
        tns1:RuleEngine/CellMotionDetector/tns1:Motion </wsnt:Topic>
      <wsnt:Message>
        <tt:Message UtcTime="2026-01-01T00:00:01.5Z" PropertyOperation="Changed">
          <tt:Source><tt:SimpleItem Name="VideoSourceConfigurationToken" Value="1"/></tt:Source>
          <tt:Key/>
          <tt:Data><tt:SimpleItem Name="IsMotion" Value="true"/><tt:ElementItem Name="x"><a/></tt:ElementItem></tt:Data>
        </tt:Message>
      </wsnt:Message>
    </wsnt:NotificationMessage>
    <wsnt:NotificationMessage><wsnt:Topic>tns1:Nothing</wsnt:Topic></wsnt:NotificationMessage>
  </tt:Event>
</tt:MetadataStream>"""
ATTRIBUTES = " ".join(f'a{i}=""' for i in range(MAX_ATTRIBUTES + 1))
MOTION = Notification(
    ("RuleEngine", "CellMotionDetector", "Motion"),
    1_767_225_601 * NS + NS // 2,
    (("VideoSourceConfigurationToken", "1"),),
    (("IsMotion", "true"),),
    PropertyOperation.CHANGED,
)


@pytest.mark.parametrize(
    "document",
    [DOCUMENT.encode(), gzip.compress(DOCUMENT.encode()), DOCUMENT.replace("UTF-8", "UTF-16").encode("utf-16")],
)
def test_a_notification_is_read_plain_packed_and_in_another_encoding(document: bytes) -> None:
    assert events(document) == [MOTION]
    assert MOTION.holds


def test_an_event_without_operation_time_or_items_is_read_as_far_as_it_goes() -> None:
    assert events(DOCUMENT.replace(' PropertyOperation="Changed"', "").encode())[0].operation is None
    assert events(DOCUMENT.replace('"Changed"', '"Odd"').encode())[0].operation is None
    assert events(DOCUMENT.replace("2026-01-01T00:00:01.5Z", "yesterday").encode()) == []


def test_a_document_without_events_is_not_even_parsed() -> None:
    assert events(b"<tt:MetadataStream no xml at all") == []


@pytest.mark.parametrize(
    "document",
    [
        DOCUMENT.encode()[:-30],
        DOCUMENT.replace("<tt:MetadataStream", '<!DOCTYPE a [<!ENTITY b "c">]><tt:MetadataStream', 1).encode(),
        b"<NotificationMessage>" + b" " * MAX_BYTES,
        gzip.compress(b"<NotificationMessage>" + b" " * MAX_BYTES),
        b"\x1f\x8b\x08broken",
        DOCUMENT.replace("<tt:Key/>", f"<tt:Key {ATTRIBUTES}/>").encode(),
    ],
    ids=["torn", "document type", "large", "large when unpacked", "no gzip", "many attributes in one element"],
)
def test_what_cannot_be_read_is_refused(document: bytes) -> None:
    with pytest.raises(FormatError):
        events(document)


@given(st.binary(max_size=200), st.integers(0, len(DOCUMENT)))
def test_damage_never_raises_anything_else(damage: bytes, place: int) -> None:
    whole = DOCUMENT.encode()
    with contextlib.suppress(FormatError):
        events(whole[:place] + damage + whole[place + len(damage) :])
