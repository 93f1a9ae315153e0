"""The header section of a message: ordered, names compared without case, repeated names kept (RFC 2326 4.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

SECRET_NAMES = frozenset({"authorization", "proxy-authorization"})
"""Headers whose value never reaches a log."""


class Headers:
    """Pairs of name and value, in order. Equal when the pairs are equal, the case of names aside."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items: list[tuple[str, str]] = []
        for name, value in items:
            self.add(name, value)

    def get(self, name: str) -> str | None:
        """The first value of this name, or None."""
        key = name.lower()
        return next((v for n, v in self._items if n.lower() == key), None)

    def get_all(self, name: str) -> list[str]:
        """All values of this name, in order (WWW-Authenticate comes once a scheme or algorithm)."""
        key = name.lower()
        return [v for n, v in self._items if n.lower() == key]

    def add(self, name: str, value: str) -> None:
        """Append a header. Raises ValueError for a name or value that would break the framing."""
        if not name or any(c in ":\r\n\0 \t" for c in name):
            raise ValueError(f"{name!r} is no header name")
        if any(c in "\r\n\0" for c in value):
            raise ValueError(f"the value of header {name} holds a line end or NUL")
        self._items.append((name, value))

    def set(self, name: str, value: str) -> None:
        """Append a header in place of all of this name."""
        self.remove(name)
        self.add(name, value)

    def remove(self, name: str) -> None:
        key = name.lower()
        self._items = [(n, v) for n, v in self._items if n.lower() != key]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return [(n.lower(), v) for n, v in self] == [(n.lower(), v) for n, v in other]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = [(n, "<hidden>" if n.lower() in SECRET_NAMES else v) for n, v in self._items]
        return f"Headers({shown!r})"
