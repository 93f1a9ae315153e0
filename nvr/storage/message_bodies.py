"""Messages of cameras as the index of camera events keeps them: JSON, and digests by which equal ones are found."""

from __future__ import annotations

import json
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

from nvr.model.event import PropertyOperation
from nvr.model.recorded import RecordedItem, RecordedMessage
from nvr.model.topics import Topic

_GROUPS = ("source", "key", "data")
ROOM = 16 << 20
_OF_MESSAGE, _OF_ITEM = 1024, 256
"""Bytes of the objects around the text of a message and of an item."""


def body_of(message: RecordedMessage) -> str:
    """The same text for equal messages; `message_of` is its inverse."""
    stored: dict[str, object] = {"topic": message.topic}
    if message.operation is not None:
        stored["operation"] = message.operation
    for group in _GROUPS:
        items = getattr(message, group)
        if items:
            stored[group] = [_plain(item) for item in items]
    return json.dumps(stored, ensure_ascii=False, separators=(",", ":"))


def message_of(body: str) -> RecordedMessage:
    stored = json.loads(body)
    operation = stored.get("operation")
    groups = (tuple(RecordedItem(*item) for item in stored.get(group, ())) for group in _GROUPS)
    return RecordedMessage(
        tuple((str(namespace), str(name)) for namespace, name in stored["topic"]),
        None if operation is None else PropertyOperation(operation),
        *groups,
    )


def topic_text(topic: Topic) -> str:
    return json.dumps(topic, ensure_ascii=False, separators=(",", ":"))


def topic_of(text: str) -> Topic:
    return tuple((str(namespace), str(name)) for namespace, name in json.loads(text))


def digest(text: str) -> bytes:
    """16 bytes: equal for equal texts, and practically for no others."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def source_digest(message: RecordedMessage) -> bytes:
    """What tells one property of a topic from another: its source and key items (Core 9.4.2)."""
    return digest(json.dumps([[_plain(i) for i in items] for items in (message.source, message.key)]))


def item_digest(name: str, value: str) -> int:
    """64 bits, signed, of a simple item."""
    text = f"{len(name)}:{name}{value}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big", signed=True)


def item_digests(message: RecordedMessage) -> set[int]:
    """Of all its simple items."""
    return {item_digest(i.name, i.value) for _, items in message.groups for i in items if i.element is None}


def words_text(words: Iterable[str]) -> str:
    return json.dumps(sorted(words), ensure_ascii=False, separators=(",", ":"))


def words_of(text: str) -> frozenset[str]:
    return frozenset(json.loads(text))


def _plain(item: RecordedItem) -> list[str | None]:
    return [item.name, item.value] if item.element is None else [item.name, item.value, item.element]


class ReadMessages:
    """Messages by their numbers that have been read of late, in `room` bytes: the oldest goes first. Safe to use from
    several threads."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._lock = threading.Lock()
        self._messages: OrderedDict[int, tuple[RecordedMessage, int]] = OrderedDict()
        self.size = 0
        """Bytes of all of them, about."""

    def __len__(self) -> int:
        return len(self._messages)

    def get(self, number: int) -> RecordedMessage | None:
        found = self._messages.get(number)
        return None if found is None else found[0]

    def put(self, number: int, message: RecordedMessage, body: str) -> None:
        """`body` is the text that it was made of."""
        items = sum(len(items) for _, items in message.groups)
        size = _OF_MESSAGE + _OF_ITEM * items + sys.getsizeof(body)
        with self._lock:
            self._drop(number)
            self._messages[number] = message, size
            self.size += size
            while self.size > self._room:
                self._drop(next(iter(self._messages)))

    def forget(self, number: int) -> None:
        with self._lock:
            self._drop(number)

    def _drop(self, number: int) -> None:
        _, size = self._messages.pop(number, (None, 0))
        self.size -= size
