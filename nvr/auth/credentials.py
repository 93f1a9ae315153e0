"""Secrets at rest: AES-256-GCM under a key of the data directory.

Digest and WS-UsernameToken both need the clear password or its equivalent, and cameras are logged in to with clear
passwords: a one-way hash cannot serve. The key lies beside the data, in a file that only the daemon's user can read.
That protects copies of the catalogue and its snapshots, not a machine whose root is hostile.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nvr.model.errors import OperatorError

KEY_FILE_NAME: Final = "secret.key"
KEY_SIZE: Final = 32
_VERSION: Final = b"\x01"
_NONCE_SIZE: Final = 12
_TAG_SIZE: Final = 16


class Vault:
    """Seals and opens texts. A sealed text is version (1), nonce (12), ciphertext and tag (16)."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_SIZE:
            raise ValueError(f"the key has {len(key)} bytes, not {KEY_SIZE}")
        self._cipher = AESGCM(key)

    @classmethod
    def load_or_create(cls, data: Path) -> Vault:
        """The vault of a data directory; its key file is made on first use. Raises OperatorError. Blocking."""
        path = data / KEY_FILE_NAME
        try:
            key = _read_key(path)
        except FileNotFoundError:
            try:
                key = _create_key(path)
            except FileExistsError:  # another process was faster; its key counts
                key = _read_key(path)
            except OSError as e:
                raise OperatorError(f"cannot write the key file {path}: {e.strerror}") from e
        return cls(key)

    def seal(self, text: str, purpose: str = "") -> bytes:
        """`purpose` (say, `user admin`) is bound to it: opened for another it is refused, so rows cannot be swapped."""
        nonce = secrets.token_bytes(_NONCE_SIZE)
        return _VERSION + nonce + self._cipher.encrypt(nonce, text.encode(), purpose.encode())

    def open(self, sealed: bytes, purpose: str = "") -> str:
        """Raises OperatorError where the key, the purpose or a byte is another than when it was sealed."""
        if sealed[:1] != _VERSION or len(sealed) < 1 + _NONCE_SIZE + _TAG_SIZE:
            raise OperatorError(
                f"a stored secret ({purpose or 'no purpose'}) has a form that this version does not know"
            )
        nonce = sealed[1 : 1 + _NONCE_SIZE]
        try:
            return self._cipher.decrypt(nonce, sealed[1 + _NONCE_SIZE :], purpose.encode()).decode()
        except InvalidTag:
            raise OperatorError(
                f"a stored secret ({purpose or 'no purpose'}) does not open with {KEY_FILE_NAME}: "
                "put back the key file that belongs to this data directory, or set the password anew"
            ) from None

    def __repr__(self) -> str:
        return "Vault(<hidden>)"


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            key = file.read(KEY_SIZE + 1)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise OperatorError(f"cannot read the key file {path}: {e.strerror}") from e
    if mode & 0o077:
        raise OperatorError(f"the key file {path} has mode {mode:04o} and is open to others: chmod 600 {path}")
    if len(key) != KEY_SIZE:
        raise OperatorError(
            f"the key file {path} is damaged ({len(key)} bytes instead of {KEY_SIZE}): put it back from a backup, "
            "or remove it and set all passwords anew"
        )
    return key


def _create_key(path: Path) -> bytes:
    """Written beside and linked into place: at no moment does a half-written key file stand there."""
    key = secrets.token_bytes(KEY_SIZE)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return key
