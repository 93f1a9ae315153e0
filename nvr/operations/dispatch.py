"""The commands by their names on the wire. Groups of them stand in files of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias

from nvr.model.errors import OperatorError
from nvr.operations.control_socket import Row

Handler: TypeAlias = Callable[..., Awaitable[list[Row]]]
"""Takes the arguments of the command as keywords, all of them text. Raises NvrError."""


class Group(Protocol):
    def handlers(self) -> Mapping[str, Handler]:
        """By the name of the command."""


class Operations:
    """The operator's commands on the recorder's objects."""

    def __init__(self, *groups: Group) -> None:
        self._handlers = {name: handler for group in groups for name, handler in group.handlers().items()}

    async def run(self, command: str, arguments: Mapping[str, str]) -> list[Row]:
        """One command of the wire protocol. Raises NvrError."""
        handler = self._handlers.get(command)
        if handler is None:
            raise OperatorError(f"the daemon knows no command {command!r}; is it of another version?")
        return await handler(**arguments)
