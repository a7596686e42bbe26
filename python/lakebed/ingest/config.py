"""The YAML file of a stream: which topics go to which tables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from lakebed.errors import UserError
from lakebed.ingest.breaker import Fuse
from lakebed.ingest.checker import Check
from lakebed.ingest.records import KINDS, Entity
from lakebed.rendering import render_data

_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
#: What makes a consumer lose or repeat records, or is decided here.
_OURS = ("enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset")


@dataclass(frozen=True)
class Limits:
    """A batch is written when one of them is reached: records, bytes, seconds since its first."""

    rows: int = 50_000
    bytes: int = 32 * 1024 * 1024
    age: float = 1.0


@dataclass(frozen=True)
class StreamConfig:
    """A stream: librdkafka's settings, and an entity for each topic.

    `start` is earliest, latest or a time: where a topic without a position begins.
    """

    name: str
    kafka: dict[str, Any]
    topics: dict[str, Entity]
    start: str | datetime = "earliest"
    limits: Limits = field(default_factory=Limits)
    fuse: Fuse = field(default_factory=Fuse)


def read_stream(file: Path) -> StreamConfig:
    """Read a stream's file. `{{ env_var('NAME') }}` means what it means in profiles.yml.

    Raises UserError, with the file and the key, for everything that is not right.
    """
    from lakebed.ingest import formats

    content = mapping(render(file), str(file))
    where = str(file)
    only(content, {"name", "kafka", "registry", "topics", "start", "batch", "breaker"}, where)
    name = named(content.get("name", file.stem), f"{where}: name")
    kafka = mapping(content.get("kafka"), f"{where}: kafka")
    if not kafka.get("bootstrap.servers"):
        raise UserError(f"{where}: kafka needs bootstrap.servers, e.g. localhost:9092.")
    for setting in _OURS:
        if setting in kafka:
            raise UserError(
                f"{where}: kafka: leave out {setting}; positions are kept in the lake "
                "(`start` says where a new topic begins)."
            )
    if "group.instance.id" in kafka:
        raise UserError(
            f"{where}: kafka: leave out group.instance.id; a broker gives such a member its old "
            "partitions again, whatever its file names now."
        )
    if "cooperative" in str(kafka.get("partition.assignment.strategy", "")):
        raise UserError(f"{where}: kafka: partition.assignment.strategy must be range, roundrobin.")
    registry = content.get("registry")
    registry = None if registry is None else formats.registry_of(registry, f"{where}: registry")
    topics = {
        str(topic): formats.to_entity(settings, f"{where}: topics: {topic}", file.parent, registry)
        for topic, settings in mapping(content.get("topics"), f"{where}: topics").items()
    }
    if not topics:
        raise UserError(f"{where}: topics is empty: name at least one, e.g. clicks: web__clicks.")
    return StreamConfig(
        name,
        {str(key): value for key, value in kafka.items()},
        topics,
        _start(content.get("start", "earliest"), where),
        limits_of(content.get("batch"), where, Limits()),
        fuse_of(content.get("breaker"), where),
    )


def render(file: Path) -> Any:
    """The content of a YAML file, with env_var() resolved. Raises UserError."""
    try:
        return render_data(yaml.safe_load(file.read_text(encoding="utf-8")), file)
    except yaml.YAMLError as error:
        raise UserError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}.") from error


def to_entity(settings: Any, where: str, folder: Path) -> Entity:
    """An entity from its settings, or from its table's name alone. Raises UserError."""
    if isinstance(settings, str):
        settings = {"table": settings}
    settings = mapping(settings, where)
    only(settings, {"table", "value", "key", "required", "schema", "check"}, where)
    value, key = settings.get("value", "json"), settings.get("key", "text")
    if value not in KINDS:
        raise UserError(f"{where}: value is {', '.join(KINDS)}, not {value!r}.")
    if key not in ("text", "bytes"):
        raise UserError(
            f"{where}: key is text or bytes, of a topic avro or protobuf, too; not {key!r}."
        )
    required = settings.get("required") or []
    if not isinstance(required, list):
        raise UserError(f"{where}: required is a list of field names.")
    schema = None
    if settings.get("schema"):
        schema = _json_schema(folder / str(settings["schema"]), where)
    if value != "json" and (required or schema):
        raise UserError(f"{where}: required and schema are for value: json.")
    table = named(settings.get("table"), f"{where}: table")
    check = _check(settings.get("check"), where, folder)
    return Entity(table, value, key, tuple(map(str, required)), schema, check)


def _check(value: Any, where: str, folder: Path) -> Check | None:
    """`checks.py:function`, or a mapping that bounds its seconds and memory, too."""
    if value is None:
        return None
    where = f"{where}: check"
    settings = mapping({"function": value} if isinstance(value, str) else value, where)
    only(settings, {"function", "seconds", "memory"}, where)
    file, _, function = str(settings.get("function")).rpartition(":")
    if not file.endswith(".py") or not function.isidentifier():
        raise UserError(f"{where} is a Python file and a function, e.g. checks.py:order.")
    if not (folder / file).is_file():
        raise UserError(f"{where}: there is no {folder / file}.")
    settings = {"seconds": Check.seconds, "memory": Check.memory, **settings}
    return Check(
        (folder / file).resolve(),
        function,
        float(above_0(settings, "seconds", where)),
        int(above_0(settings, "memory", where)),
    )


def _json_schema(file: Path, where: str) -> dict[str, Any]:
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    try:
        schema = json.loads(file.read_text(encoding="utf-8"))
        validator_for(schema).check_schema(schema)
    except (OSError, ValueError, SchemaError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{where}: {file} is no JSON Schema: {first}") from error
    return mapping(schema, str(file))


def _start(value: Any, where: str) -> str | datetime:
    if value in ("earliest", "latest"):
        return str(value)
    try:
        moment = (
            value if isinstance(value, datetime) else datetime.fromisoformat(_offset(str(value)))
        )
    except ValueError:
        raise UserError(
            f"{where}: start is earliest, latest or a time such as 2024-01-31T00:00:00Z, "
            f"not {value!r}."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _offset(text: str) -> str:
    # Python 3.10 does not know Z.
    return text[:-1] + "+00:00" if text.endswith("Z") else text


def limits_of(value: Any, where: str, default: Limits) -> Limits:
    """Limits as given, the others as in `default`. Raises UserError."""
    settings = mapping(value or {}, f"{where}: batch")
    only(settings, {"rows", "bytes", "age"}, f"{where}: batch")
    for name in settings:
        above_0(settings, name, f"{where}: batch")
    return Limits(
        int(settings.get("rows", default.rows)),
        int(settings.get("bytes", default.bytes)),
        float(settings.get("age", default.age)),
    )


def fuse_of(value: Any, where: str) -> Fuse:
    """When a circuit opens, and for how long. Raises UserError."""
    where = f"{where}: breaker"
    settings = mapping(value or {}, where)
    only(settings, {"failures", "rest"}, where)
    default = Fuse()
    settings = {"failures": default.failures, "rest": default.rest, **settings}
    return Fuse(int(above_0(settings, "failures", where)), float(above_0(settings, "rest", where)))


def above_0(settings: Mapping[str, Any], name: str, where: str) -> float:
    """A number above 0. Raises UserError for anything else."""
    number = settings.get(name)
    if isinstance(number, bool) or not isinstance(number, int | float) or number <= 0:
        raise UserError(f"{where}: {name} is a number above 0, not {number!r}.")
    return number


def mapping(value: Any, where: str) -> dict[str, Any]:
    """A copy of a mapping. Raises UserError, which names `where`, for anything else."""
    if not isinstance(value, Mapping):
        raise UserError(f"{where} is missing or is not a mapping of names to values.")
    return dict(value)


def only(settings: Mapping[str, Any], known: set[str], where: str) -> None:
    """Raises UserError for a setting that there is not."""
    if unknown := sorted(map(str, set(settings) - known)):
        raise UserError(f"{where} has no setting {unknown[0]}; it has {', '.join(sorted(known))}.")


def named(value: Any, where: str) -> str:
    """A name that needs no quotes in SQL. Raises UserError for anything else."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise UserError(
            f"{where} is a name of small letters, digits and _, such as web__clicks, not {value!r}."
        )
    return value
