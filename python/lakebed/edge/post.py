"""One batch over HTTP: signed as in Standard Webhooks, and what the gateway said to it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import secrets
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from .store import EdgeError

CONTENT_TYPE = "application/vnd.lakebed.edge+gzip"
_LONGEST_ANSWER = 64 * 1024


@dataclass(frozen=True)
class Answer:
    """What came back. `status` 0: no answer, and `reason` says why.

    `next` and `link`: what the gateway has of this device; None when it did not say. `date`: the
    gateway's clock, seconds since 1970. `retry_after`: seconds that it wants to be left alone.
    """

    status: int
    reason: str = ""
    next: int | None = None
    link: bytes | None = None
    date: float | None = None
    retry_after: float | None = None


def key_of(secret: str) -> bytes:
    """The key in `whsec_<base64>`. Raises EdgeError for anything else."""
    try:
        text = secret.removeprefix("whsec_").rstrip("=")
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise EdgeError("The secret is not base64, such as whsec_...")
    return key


def device_secret(secret: str, device: str) -> str:
    """A secret for one device, made of the endpoint's: who steals the device has only this one."""
    key = hmac.new(key_of(secret), f"lakebed-edge:{device}".encode(), hashlib.sha256).digest()
    return "whsec_" + base64.b64encode(key).decode()


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature` of Standard Webhooks."""
    signed = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(signed).decode()


def post(
    url: str, secret: str, device: str, body: bytes, timestamp: float, timeout: float
) -> Answer:
    """Send a batch. Never raises for what the network or the gateway does."""
    message_id, moment = f"edge_{secrets.token_hex(12)}", int(timestamp)
    headers = {
        "content-type": CONTENT_TYPE,
        "lakebed-device": device,
        "user-agent": "lakebed-edge/1",
        "webhook-id": message_id,
        "webhook-timestamp": str(moment),
        "webhook-signature": signature(key_of(secret), message_id, moment, body),
    }
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with _opener.open(request, timeout=timeout) as response:
            return _answer(response.status, response.headers, response.read(_LONGEST_ANSWER))
    except urllib.error.HTTPError as error:
        with error:
            try:
                content = error.read(_LONGEST_ANSWER)
            except (OSError, http.client.HTTPException):
                content = b""
            return _answer(error.code, error.headers, content)
    except urllib.error.URLError as error:
        return Answer(0, f"the gateway cannot be reached ({error.reason})")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(0, f"the gateway cannot be reached ({error or type(error).__name__})")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without the batch."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def _answer(status: int, headers: Any, content: bytes) -> Answer:
    try:
        found: Any = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    # A hotel's login page says 200, too: only what names our position is an answer.
    found = found if isinstance(found, dict) else {}
    sequence, link = found.get("next"), found.get("link")
    try:
        link = bytes.fromhex(link) if isinstance(link, str) else None
    except ValueError:
        link = None
    moment = _date(headers.get("date"))
    return Answer(
        status,
        str(found.get("error") or f"the answer was {status}")[:300],
        sequence if type(sequence) is int and sequence >= 0 else None,
        link,
        moment,
        _retry_after(headers.get("retry-after"), moment),
    )


def _date(text: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(text or "")
    except (TypeError, ValueError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _retry_after(text: str | None, now: float | None) -> float | None:
    """Seconds. A date is measured from the gateway's own clock, as ours may be wrong."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    until = _date(text)
    now = now if now is not None else datetime.now(timezone.utc).timestamp()
    return None if until is None else max(0.0, until - now)
