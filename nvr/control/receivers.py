"""Receivers: what clause 10 lets a client do with them. State comes from the engine."""

from __future__ import annotations

from dataclasses import replace

from nvr.control import checks
from nvr.control.state import ControlState
from nvr.model.errors import BadConfiguration, CannotDelete, LimitReached, UnknownToken
from nvr.model.receiver import Receiver, ReceiverConfiguration, ReceiverMode, ReceiverState
from nvr.model.tokens import ReceiverToken, new_receiver_token
from nvr.storage.changes import DeleteReceiver, Save


class Receivers:
    """Reading methods are plain functions; changing ones return when the change is on the disk. Errors are Refused."""

    def __init__(self, state: ControlState) -> None:
        self._state = state

    def receivers(self) -> tuple[Receiver, ...]:
        """All receivers, those made for jobs too, in the order of their creation."""
        return tuple(self._state.now.receivers.values())

    def receiver(self, token: ReceiverToken) -> Receiver:
        """Raises UnknownToken."""
        return self._state.now.receiver(token)

    def state(self, token: ReceiverToken) -> ReceiverState:
        """Raises UnknownToken."""
        receiver = self._state.now.receiver(token)
        try:
            return self._state.engine.receiver_state(receiver.token)
        except UnknownToken:  # the engine has not been started yet
            return ReceiverState.NOT_CONNECTED

    async def create(self, configuration: ReceiverConfiguration) -> Receiver:
        """Raises BadConfiguration, LimitReached."""
        state = self._state
        configuration = checks.receiver_configuration(configuration, state.settings)
        if not configuration.media_uri:
            raise BadConfiguration("MediaUri: is empty")
        if len(state.coming.receivers) >= state.settings.receivers:
            raise LimitReached("Receiver", state.settings.receivers)
        receiver = Receiver(new_receiver_token(), configuration)
        await state.commit([Save(receiver)])
        return receiver

    async def delete(self, token: ReceiverToken) -> None:
        """Raises UnknownToken, and CannotDelete while a recording job refers to the receiver (10.5.4)."""
        state = self._state
        receiver = state.coming.receiver(token)
        users = state.coming.jobs_of_receiver(receiver.token)
        if users:
            raise CannotDelete("Receiver", token, f"recording job {users[0].token} refers to it")
        await state.commit([DeleteReceiver(receiver.token)])

    async def configure(self, token: ReceiverToken, configuration: ReceiverConfiguration) -> None:
        """Raises UnknownToken, BadConfiguration."""
        state = self._state
        receiver = state.coming.receiver(token)
        configuration = checks.receiver_configuration(configuration, state.settings)
        await self._save(receiver, configuration)

    async def set_mode(self, token: ReceiverToken, mode: ReceiverMode) -> None:
        """Raises UnknownToken, BadConfiguration."""
        state = self._state
        receiver = state.coming.receiver(token)
        await self._save(receiver, replace(receiver.configuration, mode=checks.receiver_mode(mode)))

    async def _save(self, receiver: Receiver, configuration: ReceiverConfiguration) -> None:
        changed = replace(receiver, configuration=configuration)
        await self._state.commit([Save(changed)] if changed != receiver else ())
