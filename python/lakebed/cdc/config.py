"""The file of `lakebed capture`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from lakebed.errors import UserError
from lakebed.ingest.config import Limits, above_0, limits_of, mapping, named, only, render
from lakebed.ingest.records import Entity

#: What makes an engine lose, repeat or reshape changes, or is decided here.
_OURS = (
    "connector.class",
    "converter",
    "database.",
    "decimal.",
    "max.batch",
    "offset.",
    "plugin.",
    "provide.",
    "publication.",
    "skipped.",
    "slot.name",
    "slot.drop",
    "snapshot.mode",
    "table.",
    "time.",
    "tombstones.",
    "topic.",
    "transforms",
    "unavailable.",
)


@dataclass(frozen=True)
class CaptureConfig:
    """A database and its tables: `tables` maps schema.table to its entity in bronze.

    `triggers`: read the change table that triggers fill, not the log. `heartbeat` is in seconds: so
    often an idle database's slot is moved on. `debezium` are settings of the engine's own.
    """

    name: str
    url: str
    tables: dict[str, Entity]
    slot: str
    publication: str
    heartbeat: float = 60.0
    limits: Limits = field(default_factory=Limits)
    debezium: dict[str, str] = field(default_factory=dict)
    triggers: bool = False

    @property
    def connection(self) -> dict[str, str]:
        """host, port, user, password, dbname of the URL, and its parameters."""
        parts = urlsplit(self.url)
        return {
            "host": parts.hostname or "127.0.0.1",
            "port": str(parts.port or 5432),
            "user": unquote(parts.username or "postgres"),
            "password": unquote(parts.password or ""),
            "dbname": unquote(parts.path.lstrip("/")) or "postgres",
            **dict(parse_qsl(parts.query)),
        }

    @property
    def place(self) -> str:
        """The database as people may see it: without a password."""
        at = self.connection
        return f"{at['host']}:{at['port']}/{at['dbname']}"


def read_capture(file: Path) -> CaptureConfig:
    """Read a capture's file. `{{ env_var('NAME') }}` means what it means in profiles.yml.

    Raises UserError, with the file and the key, for everything that is not right.
    """
    where = str(file)
    content = mapping(render(file), where)
    read = content.get("read", "log")
    if read not in ("log", "triggers"):
        raise UserError(f"{where}: read is log (the default) or triggers, not {read!r}.")
    of_log = {"slot", "publication", "heartbeat", "debezium"} if read == "log" else set()
    only(content, {"name", "postgres", "tables", "batch", "read", *of_log}, where)
    name = named(content.get("name", file.stem), f"{where}: name")
    url = content.get("postgres")
    if not isinstance(url, str) or urlsplit(url).scheme not in ("postgresql", "postgres"):
        raise UserError(f"{where}: postgres is a URL such as postgresql://user@host:5432/database.")
    tables = {}
    for table, target in mapping(content.get("tables"), f"{where}: tables").items():
        if not re.fullmatch(r"[^.\s]+\.[^.\s]+", str(table)):
            raise UserError(f"{where}: tables: {table} is not schema.table, such as app.users.")
        tables[str(table)] = Entity(named(target, f"{where}: tables: {table}"))
    if not tables:
        raise UserError(
            f"{where}: tables is empty: name at least one, e.g. app.users: saas__users."
        )
    if len({entity.table for entity in tables.values()}) < len(tables):
        raise UserError(f"{where}: tables: two of them go to one table of bronze.")
    heartbeat = above_0({"heartbeat": content.get("heartbeat", 60)}, "heartbeat", where)
    return CaptureConfig(
        name,
        url,
        tables,
        named(content.get("slot", f"lakebed_{name}"), f"{where}: slot"),
        named(content.get("publication", f"lakebed_{name}"), f"{where}: publication"),
        heartbeat,
        limits_of(content.get("batch"), where, Limits(rows=20_000)),
        _engine(content.get("debezium"), f"{where}: debezium"),
        read == "triggers",
    )


def _engine(value: Any, where: str) -> dict[str, str]:
    settings = {str(key): _text(each) for key, each in mapping(value or {}, where).items()}
    for name in settings:
        if ours := next((prefix for prefix in _OURS if prefix in name), None):
            raise UserError(f"{where}: leave out {name}: what {ours.strip('.')} is, is decided.")
    return settings


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
