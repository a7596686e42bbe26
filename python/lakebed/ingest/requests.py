"""Requests to an HTTP API: paced, bounded, tried again when that may help."""

from __future__ import annotations

import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from types import TracebackType

import httpx

from lakebed.errors import UserError
from lakebed.ingest.breaker import Breaker
from lakebed.ingest.oauth import Token
from lakebed.ingest.paging import Answer, Ask
from lakebed.ingest.patience import Patience, TryLater
from lakebed.ingest.pull_config import PullConfig

PATTERNS = ["pat-api-pull", "pat-retryable"]

#: Answers that another request may not get.
LATER = (408, 425, 429)
_CHUNK = 64 * 1024


class Stopped(Exception):
    """It was told to stop while it waited."""


class Pace:
    """At most `requests` in any `seconds`; None: no limit."""

    def __init__(self, rate: tuple[int, float] | None, stop: threading.Event) -> None:
        self._rate, self._stop = rate, stop
        self._times: deque[float] = deque(maxlen=rate[0] if rate else 1)

    def wait(self) -> None:
        """Until the next request may go out. Raises Stopped."""
        if self._rate is not None and len(self._times) == self._rate[0]:
            left = self._times[0] + self._rate[1] - time.monotonic()
            if left > 0 and self._stop.wait(left):
                raise Stopped
        self._times.append(time.monotonic())


class Requests:
    """A client of one API. Use it as a context: it closes its connections."""

    def __init__(
        self,
        config: PullConfig,
        say: Callable[[str], None],
        stop: threading.Event,
        breaker: Breaker | None = None,
    ) -> None:
        self._config, self._stop, self._breaker = config, stop, breaker
        self._pace = Pace(config.rate, stop)
        self._patience = Patience(
            config.retry, stop.wait, say, stop, first=0.5, most=30, last_chance=0
        )
        # No redirects: the credentials would go to wherever an answer says. Of compressions only
        # the one whose result is bounded below.
        self._client = httpx.Client(
            headers={"Accept": "application/json", **config.headers, "Accept-Encoding": "gzip"},
            timeout=config.timeout,
            follow_redirects=False,
        )
        # Of its own: the API's headers are not for whoever gives the tokens.
        self._tokens = httpx.Client(timeout=config.timeout, follow_redirects=False)
        self._token = Token(config.oauth, self._tokens) if config.oauth else None

    def __enter__(self) -> Requests:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._client.close()
        self._tokens.close()

    @property
    def failures(self) -> int:
        """Tries that failed, and were followed by another."""
        return self._patience.failures

    def ask(self, ask: Ask, take: Callable[[Answer], object]) -> None:
        """Ask, and hand the answer to `take`, whose TryLater makes for another try, too. Raises
        UserError for what a person must mend, TryLater when the budget is used up, Stopped."""

        def once() -> object:
            return take(self._try(ask))

        breaker = self._breaker
        self._patience.persist(once if breaker is None else lambda: breaker.call(once))

    def _try(self, ask: Ask) -> Answer:
        if self._stop.is_set():
            raise Stopped
        self._pace.wait()
        where = httpx.URL(ask.url).copy_with(query=None)  # a query may hold a secret
        headers = {"Authorization": self._token.header()} if self._token else None
        try:
            with self._client.stream(
                "GET" if ask.body is None else "POST",
                ask.url,
                params=dict(ask.params) or None,
                json=ask.body,
                headers=headers,
            ) as response:
                if self._token and response.status_code == 401 and self._token.drop():
                    raise TryLater(f"{where} no longer takes the token", 0, failing=False)
                self._check(response, where)
                if self._token:
                    self._token.used()
                body = self._body(response, where)
        except httpx.TimeoutException:
            raise TryLater(f"{where} does not answer within {self._config.timeout:g} s") from None
        except httpx.TransportError as error:
            raise TryLater(f"{where}: {error or type(error).__name__}") from None
        except httpx.HTTPError as error:
            raise UserError(f"{where}: {error}") from error
        try:
            text = body.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise TryLater(f"{where}: the answer is not UTF-8") from None
        link = response.links.get("next", {}).get("url")
        return Answer(text, link, _date(response.headers.get("date")))

    def _check(self, response: httpx.Response, where: httpx.URL) -> None:
        status = response.status_code
        if status in LATER or status >= 500:
            raise TryLater(
                f"{where} answers {status} {response.reason_phrase}",
                retry_after(response.headers.get("retry-after"), datetime.now(timezone.utc)),
                failing=status >= 500,
            )
        if status in (401, 403):
            raise UserError(f"{where} answers {status}: check `auth` and what it may read.")
        if status != 200:
            target = f" (to {response.headers['location']})" if response.is_redirect else ""
            raise UserError(f"{where} answers {status} {response.reason_phrase}{target}.")

    def _body(self, response: httpx.Response, where: httpx.URL) -> bytes:
        encoding = response.headers.get("content-encoding", "identity").lower()
        if encoding not in ("identity", "gzip"):
            raise UserError(f"{where} compresses by {encoding}, which was not asked for.")
        unpack = zlib.decompressobj(31) if encoding == "gzip" else None
        body = bytearray()
        for chunk in response.iter_raw(_CHUNK):
            rest = chunk
            while rest:
                if unpack is None:
                    body, rest = body + rest, b""
                else:
                    try:  # a little that was packed may be a lot: piece by piece
                        body += unpack.decompress(rest, _CHUNK)
                    except zlib.error as error:
                        raise TryLater(f"{where}: {error}") from None
                    rest = b"" if unpack.eof else unpack.unconsumed_tail
                if len(body) > self._config.max_bytes:
                    raise UserError(
                        f"{where}: the answer is longer than {self._config.max_bytes:,} bytes: ask "
                        "for smaller pages, or raise max_bytes."
                    )
        if unpack is not None and not unpack.eof:
            raise TryLater(f"{where}: the answer was cut off")
        return bytes(body)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds of a Retry-After header, which has seconds or a date; None without a valid one."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    when = _date(value)
    return None if when is None else max(0.0, (when - now).total_seconds())


def _date(value: str | None) -> datetime | None:
    try:
        when = parsedate_to_datetime(value or "")
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)
