"""What is read of a metadata document for searches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.media.onvif_metadata import ANY_WORD, MAX_EVENTS, node_of, read, root_of
from nvr.model import xpath
from nvr.model.errors import FormatError
from nvr.model.event import TOPIC_NAMESPACE, PropertyOperation
from nvr.model.ptz import PAN_TILT_SPACE, ZOOM_SPACE, PanTilt, PtzVector, Zoom
from nvr.model.recorded import RecordedItem
from tests.support.metadata import HEAD, a_document, a_position, an_event, an_object

AT = 1_767_225_600_000_000_000


def test_an_event_keeps_its_topic_its_items_and_its_elements() -> None:
    more = (
        '<tt:ElementItem Name="Box"><v:Box xmlns:v="http://vendor.example/topics"><v:Side a="1">x</v:Side></v:Box>'
        "</tt:ElementItem>"
    )
    document = a_document(an_event(AT - 7, "tns1:VideoSource/v:LineCrossed", data={"A": "1", "B": ""}, more=more))
    (event,) = read(document, AT).events
    assert event.utc_ns == AT - 7
    message = event.message
    assert message.topic == ((TOPIC_NAMESPACE, "VideoSource"), ("http://vendor.example/topics", "LineCrossed"))
    assert message.operation is PropertyOperation.CHANGED
    assert message.source == (RecordedItem("Source", "V1"),)
    assert message.data[:2] == (RecordedItem("A", "1"), RecordedItem("B", ""))
    assert message.data[2].element == ('<v:Box xmlns:v="http://vendor.example/topics"><v:Side a="1">x</v:Side></v:Box>')


def test_what_a_sloppy_camera_leaves_out_is_made_good() -> None:
    document = (
        b'<MetadataStream xmlns="http://www.onvif.org/ver10/schema" xmlns:w="http://docs.oasis-open.org/wsn/b-2"><Event>'
        b"<w:NotificationMessage><w:Topic>tns1:A/B</w:Topic><w:Message><Message UtcTime='no time' "
        b"PropertyOperation='Odd'><Data><SimpleItem/></Data></Message></w:Message></w:NotificationMessage>"
        b"<w:NotificationMessage><w:Topic>tns1:A</w:Topic></w:NotificationMessage>"
        b"<w:NotificationMessage><w:Topic> </w:Topic><w:Message><Message/></w:Message></w:NotificationMessage>"
        b"</Event></MetadataStream>"
    )
    content = read(document, AT)
    (event,) = content.events
    assert (event.utc_ns, event.message.operation) == (AT, None)
    assert event.message.topic == ((TOPIC_NAMESPACE, "A"), ("", "B"))
    assert event.message.data == (RecordedItem("", ""),)
    assert content.left_out == 2


def test_the_last_position_of_a_document_counts_and_bad_numbers_do_not() -> None:
    assert read(a_document(a_position(0.1, -0.2, 0.3), a_position(0.5)), AT).position == PtzVector(PanTilt(0.5, 0.0))
    assert read(a_document(a_position(zoom=0.25)), AT).position == PtzVector(None, Zoom(0.25))
    odd = read(a_document(a_position(0.5, space="urn:mine", zoom=1.0)), AT)
    assert odd.position == PtzVector(PanTilt(0.5, 0.0, "urn:mine"), Zoom(1.0))
    assert {"space=urn:mine", f"space={ZOOM_SPACE}"} <= odd.words
    assert f"space={PAN_TILT_SPACE}" not in odd.words
    for bad in (a_position(), a_position(float("nan")), a_position(float("inf"))):
        assert read(a_document(bad), AT).position is None


def test_words_are_names_of_elements_and_attributes_and_classes() -> None:
    words = read(a_document(an_object("Human")), AT).words
    assert {"Object", "BoundingBox", "@right", "Type=Human", "@ObjectId"} <= words
    many = "".join(f"<v:E{n}/>" for n in range(1000))
    assert read(a_document(a_position(0.5), many), AT).words == {ANY_WORD, f"space={PAN_TILT_SPACE}"}


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"<a",
        b"no xml",
        b"\x1f\x8b\x08",
        b"<!DOCTYPE a><a/>",
        b"<a>" * 300,
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
    ],
)
def test_what_is_no_document_is_refused(bad: bytes) -> None:
    with pytest.raises(FormatError):
        read(bad, AT)


def test_a_flood_of_events_is_cut() -> None:
    content = read(a_document(*(an_event(AT) for _ in range(MAX_EVENTS + 5))), AT)
    assert (len(content.events), content.left_out) == (MAX_EVENTS, 5)


def test_filters_see_the_document_with_its_attributes_and_texts() -> None:
    node = node_of(root_of(a_document(an_object("Human", right=0.75))))
    for expression, expected in {
        'boolean(//Object/Appearance/Shape/BoundingBox[@right > "0.5"])': True,
        'boolean(//Object/Appearance/Shape/BoundingBox[@right > "0.8"])': False,
        'boolean(//Object/Appearance/Class[Type = "Human"])': True,
        'boolean(//Nothing[Token = "x"])': False,
    }.items():
        assert xpath.matches(xpath.parse(expression), node) is expected


@given(st.binary(max_size=200), st.text(max_size=50))
def test_nothing_but_a_format_error_comes_of_any_bytes(data: bytes, text: str) -> None:
    for document in (
        data,
        HEAD.encode() + data + b"</tt:MetadataStream>",
        f"{HEAD}{text}</tt:MetadataStream>".encode("utf-8", "replace"),
    ):
        try:
            node_of(root_of(document))
            read(document, AT)
        except FormatError:
            pass
