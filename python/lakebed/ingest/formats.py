"""The settings of a topic that say how its values are read: Avro, Protobuf, a schema registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakebed.errors import UserError
from lakebed.ingest import config
from lakebed.ingest.records import DECODED, KINDS, Decoder, Entity, KeyDecoder

if TYPE_CHECKING:
    from lakebed.ingest.registry import Registry

PATTERNS = ["pat-streaming-ingest"]

_LEVELS = ("backward", "forward", "full")
_OURS = {"registry", "message", "subject", "encoding"}
#: The registry of a stream, made when it is needed: it takes a package more.
MakeRegistry = Callable[[], "Registry"]


def registry_of(settings: Any, where: str) -> MakeRegistry:
    """What makes the registry of `registry:`, the same each time. Raises UserError."""
    given = config.mapping(settings, where)
    if not given.get("url"):
        raise UserError(f"{where} needs a url, e.g. http://localhost:8081.")
    level = given.pop("compatibility", None)
    if level is not None and level not in _LEVELS:
        raise UserError(f"{where}: compatibility is {', '.join(_LEVELS)}, not {level!r}.")
    made: list[Registry] = []

    def make() -> Registry:
        if not made:
            from lakebed.ingest.registry import Registry

            made.append(Registry(given, level))
        return made[0]

    return make


def to_entity(settings: Any, where: str, folder: Path, registry: MakeRegistry | None) -> Entity:
    """An entity from the settings of a topic. Raises UserError."""
    if isinstance(settings, str):
        settings = {"table": settings}
    settings = config.mapping(settings, where)
    key = settings.get("key")
    if key not in DECODED:
        return _of_value(settings, where, folder, registry)
    if registry is None:
        raise UserError(f"{where}: key: {key} needs a `registry` with a url in the stream's file.")
    decoder = KeyDecoder(_framed(str(key), None, None, where, registry))
    entity = _of_value(settings | {"key": "text"}, where, folder, registry)
    return replace(entity, key=str(key), key_decoder=decoder)


def _of_value(
    settings: dict[str, Any], where: str, folder: Path, registry: MakeRegistry | None
) -> Entity:
    ours = {name: settings.pop(name) for name in _OURS & set(settings)}
    value = settings.get("value", "json")
    if value not in (*KINDS, *DECODED):
        raise UserError(f"{where}: value is {', '.join((*KINDS, *DECODED))}, not {value!r}.")
    files = settings.pop("schema", None) if value in DECODED else None
    framed = ours.get("registry", value in DECODED and files is None)
    if not isinstance(framed, bool):
        raise UserError(f"{where}: registry is true or false, not {framed!r}.")
    if framed:
        _only_of(ours, {"registry", "subject"}, where, "of records with a registry")
        decoder = _framed(value, files, ours.get("subject"), where, registry)
    elif value in DECODED:
        known = {"avro": {"encoding"}, "protobuf": {"message"}}[value]
        _only_of(ours, {"registry", *known}, where, f"of {value} without a registry")
        decoder = _plain(value, files, ours, where, folder)
    else:
        _only_of(ours, {"registry"}, where, f"of value: {value}")
        return config.to_entity(settings, where, folder)
    # Once it is decoded it is JSON, and what is asked of JSON can be asked of it.
    entity = config.to_entity(settings | {"value": "json"}, where, folder)
    return replace(entity, value=value, decoder=decoder)


def _only_of(ours: dict[str, Any], known: set[str], where: str, what: str) -> None:
    if unknown := sorted(set(ours) - known):
        raise UserError(f"{where}: {unknown[0]} is no setting {what}.")


def _framed(
    value: str, files: Any, subject: Any, where: str, registry: MakeRegistry | None
) -> Decoder:
    if value not in ("json", *DECODED):
        raise UserError(f"{where}: with a registry value is json, avro or protobuf, not {value!r}.")
    if files is not None:
        raise UserError(f"{where}: schema and registry: true: the registry has the schemas.")
    if registry is None:
        raise UserError(
            f"{where}: value: {value} needs a `registry` with a url in the stream's file"
            + (", or a `schema` of its own." if value in DECODED else ".")
        )
    try:
        from lakebed.ingest.registry import Framed

        return Framed(value.upper(), registry(), None if subject is None else str(subject))
    except ImportError as error:
        raise _missing() from error


def _plain(value: str, files: Any, ours: dict[str, Any], where: str, folder: Path) -> Decoder:
    if not files:
        raise UserError(f"{where}: value: {value} needs a `schema` file or `registry: true`.")
    try:
        if value == "protobuf":
            from lakebed.ingest.protobuf import read_descriptors

            if not ours.get("message"):
                raise UserError(f"{where}: needs the message's full name, e.g. message: shop.Order")
            return read_descriptors(folder / str(files), str(ours["message"]), where)
        from lakebed.ingest.avro import read_schemas
    except ImportError as error:
        raise _missing() from error
    encoding = ours.get("encoding", "bare")
    if encoding not in ("bare", "single-object"):
        raise UserError(f"{where}: encoding is bare or single-object, not {encoding!r}.")
    several = files if isinstance(files, list) else [files]
    paths = [folder / str(each) for each in several]
    return read_schemas(paths, encoding == "single-object", where)


def _missing() -> UserError:
    return UserError("Avro and Protobuf need packages more: pip install 'lakebed[kafka]'")
