"""The YAML file of a pull: which resources of an HTTP API go to which tables."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from lakebed.errors import UserError
from lakebed.ingest.breaker import Fuse
from lakebed.ingest.config import above_0, fuse_of, mapping, named, only, render, to_entity
from lakebed.ingest.oauth import ClientCredentials
from lakebed.ingest.records import Entity

#: How a resource is cut into pages.
PAGINGS = ("none", "cursor", "page", "offset", "link", "timestamp")
#: How a time is written in requests.
TIMES = ("iso", "seconds", "milliseconds")


@dataclass(frozen=True)
class Pages:
    """How to ask for the next page.

    `next` is where the answer has the cursor (absent: the last record's id) or the link (absent:
    the Link header); `more` where it says whether there is another page. `size` is asked for
    in `size_param`. `append_only`: new records only come at the end.
    """

    by: str = "none"
    param: str = ""
    next: str | None = None
    more: str | None = None
    first: int = 1
    size: int | None = None
    size_param: str | None = None
    append_only: bool = False

    @property
    def shifts(self) -> bool:
        """Whether a record may be passed over when others come or go while pages are read."""
        return self.by in ("page", "offset", "link") and not self.append_only


@dataclass(frozen=True)
class Since:
    """Only what changed since the last pull: `param` takes a time, `field` has it in a record.

    `overlap`, in seconds, is read again each time, for what was committed late.
    """

    field: str
    param: str
    overlap: float = 0.0
    time: str = "iso"
    start: str | None = None


@dataclass(frozen=True)
class Resource:
    """A list of records behind one path. `records` is where the answer has the list.

    With a `body` it is asked for by POST, and what asks for a page stands in the body, at dotted
    paths. `errors` is where an answer says what went wrong, though its status is 200.
    """

    entity: Entity
    path: str
    id: str
    records: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    pages: Pages = field(default_factory=Pages)
    since: Since | None = None
    body: dict[str, Any] | None = None
    errors: str | None = None


@dataclass(frozen=True)
class PullConfig:
    """An API. `rate` is (requests, seconds); `retry` the seconds of tries for one answer;
    `max_bytes` the most that one answer may have, decompressed."""

    name: str
    url: str
    resources: dict[str, Resource]
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    rate: tuple[int, float] | None = None
    timeout: float = 30.0
    retry: float = 300.0
    max_bytes: int = 32 * 1024 * 1024
    fuse: Fuse = field(default_factory=Fuse)
    oauth: ClientCredentials | None = None

    @property
    def topics(self) -> dict[str, Entity]:
        """Entities by resource."""
        return {name: resource.entity for name, resource in self.resources.items()}

    @property
    def origin(self) -> str:
        """Scheme, host and port: the credentials go nowhere else."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"


def read_pull(file: Path) -> PullConfig:
    """Read the file of `lakebed pull`. Raises UserError, with the key, for what is not right."""
    content, where = mapping(render(file), str(file)), str(file)
    numbers = ("timeout", "retry", "max_bytes")
    only(
        content, {"name", "url", "auth", "headers", "rate", "breaker", "resources", *numbers}, where
    )
    url = _address(content.get("url"), f"{where}: url")
    resources = {
        named(name, f"{where}: resources"): _resource(settings, f"{where}: {name}", file.parent)
        for name, settings in mapping(content.get("resources"), f"{where}: resources").items()
    }
    if not resources:
        raise UserError(f"{where}: resources is empty: name at least one.")
    headers = {
        str(name): str(value)
        for name, value in mapping(content.get("headers") or {}, where).items()
    }
    ours, oauth = _auth(content.get("auth"), file)
    return PullConfig(
        named(content.get("name", file.stem), f"{where}: name"),
        url.rstrip("/"),
        resources,
        headers | ours,
        _rate(content.get("rate"), where),
        float(above_0({"timeout": 30, **content}, "timeout", where)),
        float(above_0({"retry": 300, **content}, "retry", where)),
        int(above_0({"max_bytes": 32 * 1024 * 1024, **content}, "max_bytes", where)),
        fuse_of(content.get("breaker"), where),
        oauth,
    )


def _resource(settings: Any, where: str, folder: Path) -> Resource:
    settings = mapping(settings, where)
    ours = ("path", "records", "id", "params", "pages", "since", "body", "errors")
    entity = to_entity({k: v for k, v in settings.items() if k not in ours}, where, folder)
    if entity.value != "json" or entity.key != "text":
        raise UserError(f"{where}: what an API gives is JSON: leave out value and key.")
    path, identity = settings.get("path"), settings.get("id", "id")
    if not isinstance(path, str) or not path.startswith("/"):
        raise UserError(f"{where}: path begins with /, e.g. /orders.")
    params = mapping(settings.get("params") or {}, f"{where}: params")
    pages = _pages(settings.get("pages"), where)
    since = _since(settings.get("since"), where)
    if pages.by == "timestamp" and (since is None or pages.size is None):
        raise UserError(f"{where}: pages by timestamp need since, and size: records of a page.")
    if pages.append_only and since is not None:
        raise UserError(f"{where}: append_only and since both say where to go on: leave one out.")
    return Resource(
        entity,
        path,
        str(identity),
        None if settings.get("records") is None else str(settings["records"]),
        {str(name): str(value) for name, value in params.items()},
        pages,
        since,
        _body(settings.get("body"), pages, since, where),
        None if settings.get("errors") is None else str(settings["errors"]),
    )


def _body(value: Any, pages: Pages, since: Since | None, where: str) -> dict[str, Any] | None:
    if value is None:
        return None
    where = f"{where}: body"
    body = mapping(value, where)
    if pages.by == "link":
        raise UserError(f"{where}: pages by link are asked for without one: leave one out.")
    try:
        json.dumps(body, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}: it is sent as JSON.") from None
    for path in filter(None, (pages.param, pages.size_param, since.param if since else "")):
        *parents, _name = path.split(".")
        inside: Any = body
        for name in parents:
            inside = inside.get(name, {})
            if not isinstance(inside, dict):
                raise UserError(f"{where}: {name} of {path} is no mapping.")
    return body


def _pages(value: Any, where: str) -> Pages:
    where = f"{where}: pages"
    settings = mapping(value or {}, where)
    only(settings, set(Pages.__dataclass_fields__), where)
    by = settings.get("by", "none")
    if by not in PAGINGS:
        raise UserError(f"{where}: by is {', '.join(PAGINGS)}, not {by!r}.")
    if by in ("cursor", "page", "offset") and not settings.get("param"):
        raise UserError(f"{where}: by {by} needs param, the name of the {by} in a request.")
    for name in ("first", "size"):
        number = settings.get(name, 1)
        if isinstance(number, bool) or not isinstance(number, int) or number < (name == "size"):
            raise UserError(f"{where}: {name} is a whole number, not {number!r}.")
    if settings.get("size_param") and not settings.get("size"):
        raise UserError(f"{where}: size_param needs size.")
    if by == "offset":
        settings.setdefault("first", 0)
    return Pages(**settings)


def _since(value: Any, where: str) -> Since | None:
    if value is None:
        return None
    where = f"{where}: since"
    settings = mapping(value, where)
    only(settings, set(Since.__dataclass_fields__), where)
    for name in ("field", "param"):
        if not settings.get(name):
            raise UserError(f"{where}: needs {name}.")
    if settings.get("time", "iso") not in TIMES:
        raise UserError(f"{where}: time is {', '.join(TIMES)}, not {settings['time']!r}.")
    if settings.get("start") is not None:
        settings["start"] = str(settings["start"])
        from lakebed.ingest.paging import moment

        if moment(settings["start"], "iso") is None:
            raise UserError(f"{where}: start is a time such as 2024-01-31T00:00:00Z.")
    if "overlap" in settings and (
        isinstance(settings["overlap"], bool)
        or not isinstance(settings["overlap"], int | float)
        or settings["overlap"] < 0
    ):
        raise UserError(f"{where}: overlap is a number of seconds.")
    return Since(**settings)


def _address(url: Any, where: str) -> str:
    if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"{where} is an address such as https://api.example.com/v1.")
    if "@" in urlsplit(url).netloc:
        raise UserError(f"{where}: leave the password out; `auth` takes it.")
    return url


def _auth(value: Any, file: Path) -> tuple[dict[str, str], ClientCredentials | None]:
    """The header that says who asks, or who asks for tokens. A secret that stands in the file
    itself is refused."""
    if value is None:
        return {}, None
    where = f"{file}: auth"
    settings = mapping(value, where)
    only(settings, {"bearer", "header", "value", "oauth2"}, where)
    given = sorted(settings)
    if given not in (["bearer"], ["header", "value"], ["oauth2"]):
        raise UserError(f"{where}: give bearer, or header and value, or oauth2.")
    written = yaml.safe_load(file.read_text(encoding="utf-8"))["auth"]
    if given == ["oauth2"]:
        return {}, _oauth(settings["oauth2"], written["oauth2"], f"{where}: oauth2")
    secret = "bearer" if given == ["bearer"] else "value"
    if not settings[secret]:
        raise UserError(f"{where}: {secret} is empty.")
    _from_environment(written, secret, where)
    if secret == "bearer":
        return {"Authorization": f"Bearer {settings['bearer']}"}, None
    return {str(settings["header"]): str(settings["value"])}, None


def _oauth(value: Any, written: Any, where: str) -> ClientCredentials:
    settings = mapping(value, where)
    known = {"token_url", "client_id", "client_secret", "scope", "params", "send"}
    only(settings, known, where)
    for name in ("client_id", "client_secret"):
        if not settings.get(name):
            raise UserError(f"{where} needs {name}.")
    _from_environment(written, "client_secret", where)
    send = settings.get("send", "header")
    if send not in ("header", "body"):
        raise UserError(f"{where}: send is header or body, not {send!r}.")
    params = mapping(settings.get("params") or {}, f"{where}: params")
    if settings.get("scope"):
        params["scope"] = settings["scope"]
    return ClientCredentials(
        _address(settings.get("token_url"), f"{where}: token_url"),
        str(settings["client_id"]),
        str(settings["client_secret"]),
        {str(name): str(each) for name, each in params.items()},
        send == "body",
    )


def _from_environment(written: Any, secret: str, where: str) -> None:
    if "env_var(" not in str(written[secret]):
        raise UserError(
            f"{where}: {secret} must come from the environment, e.g. "
            f"{secret}: \"{{{{ env_var('API_TOKEN') }}}}\"."
        )


def _rate(value: Any, where: str) -> tuple[int, float] | None:
    if value is None:
        return None
    settings = mapping(value, f"{where}: rate")
    only(settings, {"requests", "seconds"}, f"{where}: rate")
    return (
        int(above_0(settings, "requests", f"{where}: rate")),
        float(above_0({"seconds": 1, **settings}, "seconds", f"{where}: rate")),
    )
