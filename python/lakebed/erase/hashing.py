"""The keyed hash of a subject: what receipts and the suppression list know of it."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from functools import lru_cache

from lakebed.erase.policy import is_whole
from lakebed.errors import UserError

KEY = "LAKEBED_ERASURE_KEY"
_SHORTEST = 16
_BLOCK = 64  # of SHA-256, bytes


def secret() -> bytes:
    """The key of the environment. Raises UserError when there is none, or a short one."""
    key = os.environ.get(KEY, "")
    if len(key) < _SHORTEST:
        raise UserError(
            f"{KEY} is {'too short' if key else 'not set'}: set it to a secret of {_SHORTEST} "
            "characters or more, and keep it: subjects are recognised by it ever after."
        )
    return key.encode()


def pads(key: bytes) -> tuple[str, str]:
    """Inner and outer pad of HMAC-SHA256 for `key`, hexadecimal: what the engines' SQL needs."""
    block = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    return bytes(b ^ 0x36 for b in block).hex(), bytes(b ^ 0x5C for b in block).hex()


def key_id(key: bytes) -> str:
    """Tells one key from another."""
    return hmac.new(key, b"lakebed", hashlib.sha256).hexdigest()[:16]


def normal(text: str, data_type: str) -> str:
    """The text of a subject's key as its type writes it: '007' is 7 when it is a whole number."""
    text = text.strip(" ")
    if is_whole(data_type) and re.fullmatch(r"[+-]?[0-9]+", text):
        return str(int(text))
    return text


class Hasher:
    """Hashes the texts of one kind of key; remembers, since files repeat them."""

    def __init__(self, key: bytes, subject: str, data_type: str) -> None:
        def of(text: str) -> str:
            message = f"{subject}:{normal(text, data_type)}".encode()
            return hmac.new(key, message, hashlib.sha256).hexdigest()

        self.of = lru_cache(1 << 18)(of)


def session_values() -> dict[str, str]:
    """What SQL needs to hash subjects, by name; nothing when the environment has no key."""
    if not os.environ.get(KEY):
        return {}
    key = secret()
    inner, outer = pads(key)
    return {"inner": inner, "outer": outer, "key_id": key_id(key)}


def spark_settings() -> dict[str, str]:
    """The same as settings of a Spark session.

    No name says `secret`: Spark puts such a value into no statement, but stars in its place.
    """
    return {f"spark.lakebed.erasure.{name}": value for name, value in session_values().items()}
