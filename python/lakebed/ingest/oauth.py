"""OAuth 2.0 client credentials (RFC 6749, section 4.4): tokens for a program of its own."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote_plus

import httpx

from lakebed.errors import UserError
from lakebed.ingest.patience import TryLater

PATTERNS = ["pat-api-pull"]

#: Of what a token lives for, so much is left for the request that it is sent with.
_SPARE = 0.1
#: Seconds, where the answer does not say how long the token lives.
_LIFE = 300.0


@dataclass(frozen=True)
class ClientCredentials:
    """Who asks for a token, and where. `params` are what this server wants besides, such as an
    audience; `in_body`: id and secret go into the form, not into the Authorization header."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    params: Mapping[str, str] = field(default_factory=dict)
    in_body: bool = False


class Token:
    """The present token of some credentials: asked for when there is none, or it is old."""

    def __init__(self, credentials: ClientCredentials, client: httpx.Client) -> None:
        self._credentials, self._client = credentials, client
        self._text: str | None = None
        self._until = 0.0
        self._taken = False

    def header(self) -> str:
        """For Authorization. Raises TryLater when the server fails, UserError when it refuses."""
        if self._text is None or time.monotonic() >= self._until:
            self._ask()
        return f"Bearer {self._text}"

    def used(self) -> None:
        """The API has taken the token."""
        self._taken = True

    def drop(self) -> bool:
        """The API refuses the token. Whether another may help: it took this one before."""
        taken, self._taken, self._text = self._taken, False, None
        return taken

    def _ask(self) -> None:
        who, where = self._credentials, httpx.URL(self._credentials.token_url)
        form = {"grant_type": "client_credentials", **who.params}
        headers = {"Accept": "application/json"}
        if who.in_body:
            form |= {"client_id": who.client_id, "client_secret": who.client_secret}
        else:
            pair = f"{quote_plus(who.client_id)}:{quote_plus(who.client_secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        place = where.copy_with(query=None)
        try:
            answer = self._client.post(where, data=form, headers=headers)
        except httpx.TransportError as error:
            raise TryLater(f"{place}: {error or type(error).__name__}", failing=False) from None
        if answer.status_code == 429 or answer.status_code >= 500:
            raise TryLater(f"{place} answers {answer.status_code}", failing=False)
        try:
            content = answer.json()
        except (ValueError, RecursionError):
            content = None
        content = content if isinstance(content, dict) else {}
        token = content.get("access_token")
        if answer.status_code != 200 or not isinstance(token, str) or not token.isprintable():
            reason = content.get("error", "no access_token in the answer")
            raise UserError(
                f"{place} gives no token ({answer.status_code}: {json.dumps(reason)[:100]}): check "
                "`auth`."
            )
        life = content.get("expires_in")
        known = isinstance(life, int | str) and str(life).isdecimal()
        self._text, self._taken = token, False
        self._until = time.monotonic() + (float(str(life)) if known else _LIFE) * (1 - _SPARE)
