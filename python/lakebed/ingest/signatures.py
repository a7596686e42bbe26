"""Who sent a webhook: the signatures of Standard Webhooks, GitHub and Stripe.

Whatever a forger sends is one thing: not signed. Each style says, too, which id a message has and
when it was sent, as far as its signature covers that.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from standardwebhooks import Webhook

PATTERNS = ["pat-webhook-sink"]

#: Seconds between a message and now, before or after.
TOLERANCE = 300


@dataclass(frozen=True)
class Message:
    """What a signed message says of itself. `sent_at` is in seconds since 1970."""

    id: str
    sent_at: float | None


@dataclass(frozen=True)
class Style:
    """One way to sign. `check` raises ValueError for a secret that cannot be one; `read` gets
    a body and headers (names in small letters), and raises whatever it raises when they are not
    signed with that secret. `kept` are the headers that bronze keeps."""

    check: Callable[[str], object]
    read: Callable[[str, bytes, Mapping[str, str]], Message]
    kept: tuple[str, ...]

    def message(
        self, secrets: Sequence[str], body: bytes, headers: Mapping[str, str]
    ) -> Message | None:
        """The message, when one of the secrets signed it."""
        for secret in secrets:
            try:
                return self.read(secret, body, headers)
            except Exception:
                continue
        return None


class _Unsigned(Exception):
    pass


def _standard(secret: str, body: bytes, headers: Mapping[str, str]) -> Message:
    Webhook(secret).verify(body, dict(headers), json_parse=False)
    return Message(headers["webhook-id"], float(headers["webhook-timestamp"]))


def _github(secret: str, body: bytes, headers: Mapping[str, str]) -> Message:
    given = headers["x-hub-signature-256"]
    if not _same(f"sha256={_hex(secret, body)}", given):
        raise _Unsigned
    return Message(headers["x-github-delivery"], None)


def _stripe(secret: str, body: bytes, headers: Mapping[str, str]) -> Message:
    parts = [part.split("=", 1) for part in headers["stripe-signature"].split(",")]
    (moment,) = [value for name, value in parts if name == "t"]
    if not moment.isdecimal() or abs(int(moment) - time.time()) > TOLERANCE:
        raise _Unsigned
    expected = _hex(secret, f"{moment}.".encode() + body)
    # While a secret is changed there are several; those of other versions prove nothing.
    if not any(_same(expected, value) for name, value in parts if name == "v1"):
        raise _Unsigned
    return Message(_id_in(body), float(moment))


def _id_in(body: bytes) -> str:
    """The event's id; what is signed and has none is known by its bytes."""
    try:
        found = json.loads(body)["id"]
    except (ValueError, TypeError, LookupError, RecursionError):
        found = None
    if isinstance(found, str) and is_id(found):
        return found
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def is_id(text: str) -> bool:
    """Whether it may be the id of a message: a short text."""
    return 0 < len(text) <= 200 and text.isprintable()


def _hex(secret: str, data: bytes) -> str:
    return hmac.new(secret.encode(), data, hashlib.sha256).hexdigest()


def _same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode())


def _not_empty(secret: str) -> None:
    if not secret.strip():
        raise ValueError


STYLES = {
    "standard": Style(Webhook, _standard, ("webhook-timestamp",)),
    "github": Style(_not_empty, _github, ("x-github-event", "x-github-hook-id")),
    "stripe": Style(_not_empty, _stripe, ()),
}
