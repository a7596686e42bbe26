"""Pages of an HTTP API: what to ask for, what came, and what to ask for next."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from lakebed.errors import UserError
from lakebed.ingest.fields import Fields
from lakebed.ingest.patience import TryLater
from lakebed.ingest.pull_config import PullConfig, Resource

#: A sweep that found something new in pages that may shift is done again, so often at most.
SWEEPS = 5

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d+))?)?(.*)")


@dataclass(frozen=True)
class State:
    """Where a resource is: kept in the lake, in one transaction with the records before it.

    `since` is the time the present sweep asks from, `at` its next page (None: the first), `high`
    the latest time seen; `fresh` counts its new records, `sweep` how often it was done again.
    `fields` are those that its records have had.
    """

    since: str | None = None
    at: str | int | None = None
    high: str | None = None
    fresh: int = 0
    sweep: int = 1
    fields: Fields = field(default_factory=dict)

    @property
    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def of(text: str | None) -> State:
        return State(**json.loads(text)) if text else State()


@dataclass(frozen=True)
class Answer:
    """An answer's text, and of its headers the next link, if any, and the server's time."""

    text: str
    link: str | None = None
    date: datetime | None = None


@dataclass(frozen=True)
class Page:
    """Records as they were received, each the text of one JSON value; and the answer's content."""

    records: list[str]
    content: Any
    answer: Answer


@dataclass(frozen=True)
class Ask:
    """A request: a POST when it has a body."""

    url: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None


def request(config: PullConfig, resource: Resource, state: State) -> Ask:
    """The next request."""
    pages, since = resource.pages, resource.since
    if pages.by == "link" and state.at is not None:
        return Ask(str(state.at))
    asked: dict[str, str | int] = {}
    if pages.size and pages.size_param:
        asked[pages.size_param] = pages.size
    if since is not None:
        begin = state.since or since.start
        if pages.by == "timestamp" and state.at is not None:
            begin = str(state.at)
        if begin is not None:
            asked[since.param] = _written(begin, since.time)
    if pages.by in ("page", "offset"):
        asked[pages.param] = _number(pages.first if state.at is None else state.at)
    elif pages.by == "cursor" and state.at is not None:
        asked[pages.param] = str(state.at)
    url = config.url + resource.path
    if resource.body is None:
        return Ask(url, resource.params | {name: str(value) for name, value in asked.items()})
    body = deepcopy(resource.body)
    for path, value in asked.items():
        *parents, name = path.split(".")
        inside = body
        for parent in parents:
            inside = inside.setdefault(parent, {})
        inside[name] = value
    return Ask(url, resource.params, body)


def read_page(resource: Resource, answer: Answer) -> Page:
    """The records of an answer. Raises TryLater for one that was cut off or is not JSON (a proxy's
    page, which the next try may not get) or says that something went wrong, UserError when the list
    is not where it should be."""
    try:
        content = json.loads(answer.text)
        path = resource.records.split(".") if resource.records else []
        records = elements(answer.text, path)
    except RecursionError:
        raise UserError(f"{resource.path}: the answer is nested too deep.") from None
    except ValueError as error:
        raise TryLater(f"{resource.path}: the answer is not JSON ({error})") from None
    if resource.errors and (errors := dig(content, resource.errors)):
        # Some of the records may be there all the same: then others are not.
        raise TryLater(f"{resource.path} answers {json.dumps(errors, ensure_ascii=False)[:300]}")
    if records is None:
        place = f"at {resource.records}" if resource.records else "as the answer (set `records`)"
        raise UserError(f"{resource.path}: there is no list {place}.")
    return Page(records, content, answer)


def elements(text: str, path: list[str]) -> list[str] | None:
    """The texts of the elements of the list at `path`, byte for byte as they stand in `text`, which
    is valid JSON: a number keeps its digits. None when there is no list."""
    start = _skip(text, 0)
    for name in path:
        found = None
        if text[start] != "{":
            return None
        place = _skip(text, start + 1)
        while text[place] != "}":
            key, place = _DECODER.raw_decode(text, place)
            value = _skip(text, _skip(text, place) + 1)
            if key == name:
                found = value  # the last one counts, as in every parser
            _, place = _DECODER.raw_decode(text, value)
            place = _skip(text, place)
            if text[place] == ",":
                place = _skip(text, place + 1)
        if found is None:
            return None
        start = found
    if text[start] != "[":
        return None
    parts, place = [], _skip(text, start + 1)
    while text[place] != "]":
        _, end = _DECODER.raw_decode(text, place)
        parts.append(text[place:end])
        place = _skip(text, end)
        if text[place] == ",":
            place = _skip(text, place + 1)
    return parts


def _skip(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    assert match
    return match.end()


def dig(content: Any, path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    for name in path.split("."):
        if not isinstance(content, Mapping):
            return None
        content = content.get(name)
    return content


def after(
    config: PullConfig,
    resource: Resource,
    state: State,
    page: Page,
    times: list[datetime],
    fresh: int,
    last_id: str | None,
) -> tuple[State, bool]:
    """The state after a page of which `fresh` records were new; and whether the pull is done.

    `times` are those of the records that have one, in their order. Raises UserError for an API
    that goes in circles.
    """
    now = page.answer.date or datetime.now(timezone.utc)
    # A time in the future is a broken clock's: the next pull would ask for nothing before it.
    past = [_iso(when) for when in times if when <= now]
    high = max([*past, *([state.high] if state.high else [])], default=None)
    state = replace(state, high=high, fresh=state.fresh + fresh)
    following = _following(config, resource, state, page, times, last_id)
    if following is not None:
        if following == state.at:
            raise UserError(f"{resource.path}: the next page is this one again ({following}).")
        return replace(state, at=following), False
    if resource.pages.shifts and state.fresh and state.sweep < SWEEPS:
        # Records may have moved to pages that were read already: look until nothing is new.
        return replace(state, at=None, fresh=0, sweep=state.sweep + 1), False
    stay = state.at if resource.pages.append_only else None
    return State(_next_since(resource, state), stay, fields=state.fields), True


def _following(
    config: PullConfig,
    resource: Resource,
    state: State,
    page: Page,
    times: list[datetime],
    last_id: str | None,
) -> str | int | None:
    """The next page; None when this was the last."""
    pages, count = resource.pages, len(page.records)
    if pages.more is not None and not dig(page.content, pages.more):
        return None
    if pages.by == "link":
        link = dig(page.content, pages.next) if pages.next else page.answer.link
        return _link(config, resource, link)
    if pages.by == "cursor" and pages.next is not None:
        cursor = dig(page.content, pages.next)
        return None if cursor in (None, "") else str(cursor)
    if count == 0 or (pages.size is not None and count < pages.size):
        return None
    if pages.by == "cursor":
        return last_id
    if pages.by == "page":
        return _number(pages.first if state.at is None else state.at) + 1
    if pages.by == "offset":
        return _number(pages.first if state.at is None else state.at) + count
    if pages.by == "timestamp":
        return _later(resource, state, times)
    return None


def _number(at: str | int) -> int:
    return int(at)


def _later(resource: Resource, state: State, times: list[datetime]) -> str:
    assert resource.since
    if times != sorted(times):
        raise UserError(
            f"{resource.path}: pages by timestamp must come in the order of {resource.since.field}:"
            " ask for that order in `params`."
        )
    begin = state.at or state.since or resource.since.start
    latest = times[-1] if times else None
    if latest is None or (begin is not None and latest <= _parsed(str(begin))):
        raise UserError(
            f"{resource.path}: a whole page ({resource.pages.size} records) has the time {begin}: "
            "the next one cannot be asked for. Raise `size`."
        )
    return _iso(latest)


def _link(config: PullConfig, resource: Resource, link: Any) -> str | None:
    from urllib.parse import urljoin, urlsplit

    if not link:
        return None
    url = urljoin(f"{config.url}{resource.path}", str(link))
    parts = urlsplit(url)
    if f"{parts.scheme}://{parts.netloc}" != config.origin:
        raise UserError(
            f"{resource.path}: the next link leads to {parts.scheme}://{parts.netloc}; the "
            f"credentials are for {config.origin} only."
        )
    return url


def _next_since(resource: Resource, state: State) -> str | None:
    """From when the next pull asks: the latest time seen, less the overlap."""
    if resource.since is None or state.high is None:
        return state.since
    begin = _parsed(state.high) - timedelta(seconds=resource.since.overlap)
    return max(_iso(begin), state.since or "")


def moment(value: Any, time: str) -> datetime | None:
    """A time as a record has it, in UTC; None when it is none. Below a microsecond is cut off."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            scale = 1000 if time == "milliseconds" else 1
            return datetime.fromtimestamp(value / scale, timezone.utc)
        if isinstance(value, str) and time == "iso" and (found := _TIME.fullmatch(value.strip())):
            day, clock, fraction, zone = found.groups()
            fraction = (fraction or "0")[:6].ljust(6, "0")
            zone = "+00:00" if zone in ("", "Z", "z") else zone
            if len(zone) in (3, 5) and ":" not in zone:  # +02, +0200: Python 3.10 wants +02:00
                zone = f"{zone[:3]}:{zone[3:] or '00'}"
            clock = (clock or "00:00").ljust(8, "?").replace("???", ":00")
            parsed = datetime.fromisoformat(f"{day}T{clock}.{fraction}{zone}")
            return parsed.astimezone(timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def _parsed(text: str) -> datetime:
    parsed = moment(text, "iso")
    assert parsed is not None, text
    return parsed


def _iso(when: datetime) -> str:
    # Of one length, so that texts compare as times do.
    return when.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _written(text: str, time: str) -> str | int:
    """A time as the API wants it, rounded down."""
    when = _parsed(text)
    if time == "iso":
        return _iso(when)
    seconds = (when - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(milliseconds=1)
    return seconds if time == "milliseconds" else seconds // 1000
