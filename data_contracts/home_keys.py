"""Secrets of one EVERGREEN_HOME: random keys that only the owner of the home can read.

A digest of raw text is an HMAC under one of them: whoever sees the digest cannot try texts
(telephone numbers, say) until one fits. A lost key is made anew; what it had named is then
unknown, so caches are filled again and nothing else breaks.
"""

import hmac
import os
import secrets
from pathlib import Path

from data_contracts.digests import Json, canonical
from data_contracts.errors import StackError
from data_contracts.workspace import Workspace

KEY_BYTES = 32
# Names of keys: of rows of sources and what is kept of them, and of log records in the ledger.
ROWS, LOGS = "rows", "logs"


def home_key(workspace: Workspace, name: str) -> bytes:
    """The key `name` of this home, 32 random bytes; made by whoever asks first.

    Raises:
        StackError: it can be neither read nor made.
    """
    file = workspace.key_folder / name
    try:
        workspace.key_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists():
            _create(file)
        key = bytes.fromhex(file.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not hexadecimal digits"
        raise StackError(
            f"cannot read the key {file} ({reason})", "make it readable, or delete it for a new one"
        ) from error
    if len(key) != KEY_BYTES:
        raise StackError(f"the key {file} is damaged", "delete it: a new one is made")
    return key


def keyed_digest(key: bytes, content: bytes) -> str:
    """HMAC-SHA256 in hex (RFC 2104): names content to holders of the key and to nobody else."""
    return hmac.digest(key, content, "sha256").hex()


def keyed_json(key: bytes, purpose: str, value: Json) -> str:
    """Keyed digest of a JSON value; the same value has another one for another purpose."""
    return keyed_digest(key, canonical([purpose, value]))


def key_fingerprint(key: bytes) -> str:
    """Tells one key from another without telling the key."""
    return keyed_digest(key, b"fingerprint")[:16]


def passing_key() -> bytes:
    """A key for digests that nothing keeps: no home is needed for them."""
    return secrets.token_bytes(KEY_BYTES)


def _create(file: Path) -> None:
    """Write a new key and give it its name; of two processes that do this, one key remains."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as new:
            new.write(secrets.token_hex(KEY_BYTES) + "\n")
            new.flush()
            os.fsync(new.fileno())
        try:
            os.link(fresh, file)
        except FileExistsError:
            return  # another process was first: its key counts
    finally:
        fresh.unlink()
