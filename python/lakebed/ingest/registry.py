"""A schema registry: what the records of a stream were written with.

A schema is asked for once, and kept while the process lives: its id never means another. What a
registry does not answer is tried again, and no record is judged meanwhile; an id that it does not
know is the record's fault.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import confluent_kafka.schema_registry.protobuf  # noqa: F401  Loads google/type, for importers.
from confluent_kafka.schema_registry import (
    Schema,
    SchemaRegistryClient,
    SchemaRegistryError,
    dual_schema_id_deserializer,
)
from confluent_kafka.schema_registry.serde import SchemaId
from confluent_kafka.serialization import MessageField, SerializationContext, SerializationError

from lakebed.errors import UserError
from lakebed.ingest.avro import AvroSchema, as_json
from lakebed.ingest.patience import TryLater
from lakebed.ingest.protobuf import ProtobufSchema, from_texts
from lakebed.ingest.records import Decoder, Record, SchemaError, Unreadable, load_json, text_of

PATTERNS = ["pat-streaming-ingest"]

#: Seconds for which an id that the registry does not know is not asked for again.
_UNKNOWN = 30.0
#: Of the registry's own codes: it works, and has no such schema, subject or version.
_NO_SUBJECT, _NO_VERSION, _NO_SCHEMA = 40401, 40402, 40403
_NO_LEVEL = 40408
_BUSY = (408, 429, 500, 502, 503, 504)

#: The form of a Protobuf schema that can be used without protoc.
_DESCRIPTOR = "serialized"

#: An id, or the newer clients' name of a schema in all registries.
Id = int | UUID
Parsed = Any


class Ask(Protocol):
    """How the registry is asked: at once, or with patience."""

    def __call__(self, action: Callable[[], Any]) -> Any: ...


class Registry:
    """`settings` are those of SchemaRegistryClient; `compatibility` what `check` asks for.

    `guard` is put around each request, which raises TryLater when the registry does not answer.
    """

    def __init__(self, settings: dict[str, Any], compatibility: str | None = None) -> None:
        self.url, self.compatibility = str(settings["url"]), compatibility
        self.guard: Ask = lambda action: action()
        self._known: dict[tuple[str, Id], Parsed | SchemaError] = {}
        self._asked: dict[tuple[str, Id], float] = {}
        # The one retry policy is ours; without a timeout the client would wait for ever.
        defaults = {"max.retries": 0, "timeout": 10}
        try:
            # A client keeps what it got by its id alone, whatever form it asked for.
            self._clients = {
                form: SchemaRegistryClient(defaults | settings) for form in (None, _DESCRIPTOR)
            }
        except (ValueError, TypeError, OSError) as error:
            raise UserError(f"registry: {error}.") from error
        self._client = self._clients[None]

    def learn(self, kind: str, name: Id) -> None:
        """Ask for a schema unless it is known.

        Raises what `guard` raises, and UserError when the registry refuses.
        """
        key = (kind, name)
        found = self._known.get(key)
        fresh = time.monotonic() - self._asked.get(key, float("-inf")) < _UNKNOWN
        if found is None or (isinstance(found, _Unknown) and not fresh):
            self._known[key] = self.guard(lambda: self._fetch(kind, name))
            self._asked[key] = time.monotonic()

    def schema(self, kind: str, name: Id) -> Parsed:
        """A schema that was asked for, ready to read.

        Raises SchemaError when there is none, or it is no `kind`.
        """
        found = self._known[kind, name]
        if isinstance(found, SchemaError):
            raise found
        return found

    def _fetch(self, kind: str, name: Id) -> Parsed | SchemaError:
        form = _DESCRIPTOR if kind == "PROTOBUF" else None
        client = self._clients[form]

        def fetch() -> Schema:
            if isinstance(name, UUID):
                return client.get_schema_by_guid(str(name), form)
            return client.get_schema(name, fmt=form)

        try:
            schema = self._ask(fetch)
            if schema.schema_type != kind:
                raise SchemaError(f"schema {name} is {schema.schema_type}, not {kind}")
            return _parsed(schema, self._others(schema, form))
        except SchemaError as error:
            return error

    def _others(self, schema: Schema, form: str | None) -> dict[str, str]:
        """Texts of the schemas that one refers to, by name; each after those that it needs."""
        found: dict[str, str] = {}
        for each in schema.references or []:
            subject, version = str(each.subject), int(each.version or 0)
            get = partial(self._clients[form].get_version, subject, version, True, form)
            other = self._ask(get).schema
            found |= {k: v for k, v in self._others(other, form).items() if k not in found}
            found.setdefault(str(each.name), str(other.schema_str))
        return found

    def _ask(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except SchemaRegistryError as error:
            told = f"{error.http_status_code}: {error.error_message}"
            if error.error_code in (_NO_SUBJECT, _NO_VERSION, _NO_SCHEMA):
                raise _Unknown(f"the registry has no such schema ({told})") from error
            if error.http_status_code in _BUSY:
                raise TryLater(f"The schema registry at {self.url} fails ({told})") from error
            raise UserError(
                f"The schema registry at {self.url} refuses ({told}): check its url and "
                "credentials."
            ) from error
        except Exception as error:  # which HTTP library it uses changes with its version
            raise TryLater(
                f"No schema registry answers at {self.url} ({type(error).__name__}: {error})"
            ) from error

    # --- evolution -------------------------------------------------------------------------

    def check(self, topic: str, subject: str, last: str) -> None:
        """Compare the subject's latest schema with the one last read, by the registry's own rules.

        Raises UserError when it breaks the agreed `compatibility`, or nothing can be told.
        """
        wanted = self.compatibility
        if wanted is None:
            return
        where = f"{topic}: compatibility {wanted}"
        try:
            latest = self._asked_for(lambda: self._client.get_latest_version(subject))
            if last in (str(latest.schema_id), latest.guid):
                return
            versions = self._versions(subject, last)
        except _Unknown as error:
            raise UserError(
                f"{where}: cannot be told of the subject {subject}: {error}. The topic's setting "
                "`subject` names another."
            ) from error
        if not versions:
            raise UserError(
                f"{where}: schema {last}, the last that was read, is none of the subject {subject}:"
                " the topic's setting `subject` names another."
            )
        before = max(versions)
        old = self._asked_for(lambda: self._client.get_version(subject, before))
        level = self.guard(lambda: self._level(subject)).removesuffix("_TRANSITIVE")
        if level == "NONE":
            raise UserError(
                f"{where}: the registry compares nothing for {subject} (its level is NONE): set a "
                "level there, or leave out compatibility."
            )

        def holds(schema: Schema, version: int) -> bool:
            return bool(
                self._asked_for(lambda: self._client.test_compatibility(subject, schema, version))
            )

        # The registry has one level, and compares what it is given with a version that it has;
        # the other direction is asked by giving it the old one.
        forth = ("BACKWARD", "FULL"), ("FORWARD", "FULL")
        for name, levels in zip(("backward", "forward"), forth, strict=True):
            if wanted not in (name, "full"):
                continue
            if level in levels:
                good = holds(latest.schema, before)
            else:
                good = holds(old.schema, int(latest.version))
            if not good:
                raise UserError(
                    f"{where}: version {latest.version} of {subject} is not {name} compatible with"
                    f" version {before}, the last that was read. Mend the schema, or leave out "
                    "compatibility to read on."
                )

    def _versions(self, subject: str, name: str) -> list[int]:
        """The versions of a subject that are the schema of that id (or name in all registries)."""
        if name.isdigit():
            uses = self._asked_for(lambda: self._client.get_schema_versions(int(name)))
            return [use.version for use in uses if use.subject == subject]
        every = self._asked_for(lambda: self._client.get_versions(subject))
        get = self._client.get_version
        found = [self._asked_for(partial(get, subject, version)) for version in every]
        return [each.version for each in found if each.guid == name]

    def _asked_for(self, action: Callable[[], Any]) -> Any:
        return self.guard(lambda: self._ask(action))

    def _level(self, subject: str) -> str:
        try:
            return str(self._ask(lambda: self._client.get_compatibility(subject)))
        except UserError as error:
            cause = error.__cause__
            if isinstance(cause, SchemaRegistryError) and cause.error_code == _NO_LEVEL:
                return str(self._ask(lambda: self._client.get_compatibility()))
            raise


class _Unknown(SchemaError):
    """The registry has no such schema, by now."""


def _parsed(schema: Schema, others: dict[str, str]) -> Parsed:
    text = str(schema.schema_str)
    if schema.schema_type == "AVRO":
        return AvroSchema(text, list(others.values()))
    if schema.schema_type == "PROTOBUF":
        return from_texts(text, others)
    return _json_validator(text, others)


def _json_validator(text: str, others: dict[str, str]) -> Any:
    import referencing
    from jsonschema.validators import Draft7Validator, validator_for
    from referencing.jsonschema import DRAFT7

    try:
        content = json.loads(text)
        made = validator_for(content, default=Draft7Validator)
        made.check_schema(content)
        known = [
            (name, referencing.Resource.from_contents(json.loads(other), DRAFT7))
            for name, other in others.items()
        ]
        # One that asks for no more than what it was given: nothing is fetched from elsewhere.
        return made(content, registry=referencing.Registry().with_resources(known))
    except Exception as error:
        raise SchemaError(f"not a JSON Schema ({str(error).splitlines()[0][:200]})") from error


@dataclass(frozen=True)
class Framed(Decoder):
    """Records that name their schema in a registry: an id before the value, or in a header."""

    kind: str
    registry: Registry = field(hash=False)
    subject: str | None = None
    strict: bool = True

    def lenient(self) -> Decoder:
        return Framed(self.kind, self.registry, self.subject, strict=False)

    def prepare(self, record: Record) -> None:
        with suppress(Unreadable):
            self.registry.learn(self.kind, _name(_unframed(self.kind, record)[0]))

    def decode(self, record: Record) -> tuple[Record, Any]:
        framed, payload = _unframed(self.kind, record)
        name = _name(framed)
        schema = self.registry.schema(self.kind, name)
        told = str(name)
        if isinstance(schema, ProtobufSchema):
            message = schema.message_at(framed.message_indexes or [0])
            return as_json(record, schema.read(payload, message), told)
        if isinstance(schema, AvroSchema):
            value = as_base64(payload) if schema.is_bytes else schema.read(payload)
            return as_json(record, value, told)
        content = load_json(text_of(payload, "value"))
        if self.strict and (error := next(schema.iter_errors(content), None)) is not None:
            raise SchemaError(f"{error.json_path}: {error.message}"[:500])
        return record._replace(value=payload, raw=record.value, schema_id=told), content


def _unframed(kind: str, record: Record) -> tuple[SchemaId, bytes]:
    """Which schema a record has, and what follows. Raises Unreadable."""
    context = SerializationContext(record.topic, MessageField.VALUE, list(record.headers))
    framed = SchemaId(kind)
    try:
        payload = dual_schema_id_deserializer(record.value or b"", context, framed)
    except (SerializationError, struct.error, ValueError, EOFError) as error:
        raise Unreadable(f"not framed for a schema registry ({error})") from error
    return framed, payload.read()


def _name(framed: SchemaId) -> Id:
    found: Id = framed.id if framed.guid is None else framed.guid  # type: ignore[assignment]
    return found


def as_base64(data: bytes) -> str:
    """Bytes as text."""
    from base64 import b64encode

    return b64encode(data).decode()
