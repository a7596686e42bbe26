"""Records as they arrive, and the judgement that sends each to bronze or to the DLQ."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from lakebed.ingest.checker import Check

PATTERNS = ["pat-dlq"]

KINDS = ("json", "text", "bytes")
#: The header in which newer clients name a key's schema.
KEY_SCHEMA = "__key_schema_id"
#: Kinds that become JSON text; what they were is kept beside it.
DECODED = ("avro", "protobuf")
#: Why a record is refused: it cannot be read, it is not what was agreed, or judging it failed.
CATEGORIES = ("malformed", "schema", "processing")


class Record(NamedTuple):
    """One record and where it came from. `sent_at` is in milliseconds since 1970 (UTC).

    Of a record that was decoded `value` is its JSON, `raw` what was received, and `schema_id` the
    schema that it says it was written with. `raw_key` is what was received of a decoded key.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    sent_at: int | None
    raw: bytes | None = None
    schema_id: str | None = None
    raw_key: bytes | None = None

    @property
    def received(self) -> Record:
        """The record as it was before it was decoded."""
        found = self
        if self.raw is not None:
            found = found._replace(value=self.raw, raw=None, schema_id=None)
        if self.raw_key is not None:
            found = found._replace(key=self.raw_key, raw_key=None)
        return found

    @property
    def size(self) -> int:
        """Bytes of key and value."""
        return len(self.key or b"") + len(self.value or b"")


class Rejected(NamedTuple):
    """A record for the DLQ, with the table it was meant for."""

    record: Record
    table: str
    category: str
    reason: str


class Decoder(ABC):
    """Turns what was received into JSON."""

    def prepare(self, record: Record) -> None:  # noqa: B027  Most need nothing.
        """Get what `decode` needs from elsewhere. What fails here is no fault of the record."""

    @abstractmethod
    def decode(self, record: Record) -> tuple[Record, Any]:
        """The record with its value as JSON text, and the content of that. Asks nobody.

        Raises Unreadable, or SchemaError.
        """

    def lenient(self) -> Decoder:
        """One that takes what can be stored although it breaks its schema."""
        return self


@dataclass(frozen=True)
class KeyDecoder:
    """Turns keys into text as `decoder` does values: a text is itself, all else JSON."""

    decoder: Decoder

    def prepare(self, record: Record) -> None:
        self.decoder.prepare(self._as_value(record))

    def decode(self, record: Record) -> Record:
        """The record with its key as text. Raises Unreadable, or SchemaError."""
        found, content = self.decoder.decode(self._as_value(record))
        key = content.encode() if isinstance(content, str) else found.value
        return record._replace(key=key, raw_key=record.key)

    def _as_value(self, record: Record) -> Record:
        """A record whose value is the key; so is the header that newer clients write for keys."""
        headers = [("__value_schema_id", v) for name, v in record.headers if name == KEY_SCHEMA]
        return record._replace(value=record.key, headers=headers)


@dataclass(frozen=True)
class Entity:
    """A bronze table, and what its records must look like.

    `value` is json, text, bytes, avro or protobuf, `key` any of these but json. `required` names
    fields of the JSON object that must be there and not null; `schema` is a JSON Schema; `check` a
    function of the user's, in a process of its own. `decoder` makes JSON of a value that is none,
    and `key_decoder` text of a key. A record without value (a tombstone) is taken as it is.
    """

    table: str
    value: str = "json"
    key: str = "text"
    required: tuple[str, ...] = ()
    schema: dict[str, Any] | None = field(default=None, hash=False, compare=False)
    check: Check | None = None
    decoder: Decoder | None = field(default=None, hash=False, compare=False)
    key_decoder: KeyDecoder | None = field(default=None, hash=False, compare=False)

    @cached_property
    def _validator(self) -> Any:
        from jsonschema.validators import validator_for

        return validator_for(self.schema)(self.schema)

    def judge(self, record: Record) -> Record | Rejected:
        """The record as it may go to bronze; or why it must not."""
        received = record
        try:
            if self.key_decoder is not None and record.key is not None:
                record = self.key_decoder.decode(record)
            if self.key != "bytes" and record.key is not None:
                text_of(record.key, "key")
            if record.value is None or self.value == "bytes":
                return record
            if self.decoder is not None:
                found, content = self.decoder.decode(record)
            else:
                found, text = record, text_of(record.value, "value")
                content = load_json(text) if self.value == "json" else None
            if self.required or self.schema is not None:
                self._check(content)
        except SchemaError as error:
            return Rejected(received, self.table, "schema", str(error))
        except Unreadable as error:
            return Rejected(received, self.table, "malformed", str(error))
        except Exception as error:
            # The record is to blame, whatever it was: too deep for the parser, a number too long.
            return Rejected(
                received, self.table, "processing", f"{type(error).__name__}: {error}"[:500]
            )
        return found

    def _check(self, content: Any) -> None:
        if self.required:
            if not isinstance(content, dict):
                raise SchemaError("not a JSON object")
            missing = [name for name in self.required if content.get(name) is None]
            if missing:
                raise SchemaError(f"required fields are missing: {', '.join(missing)}")
        if self.schema is not None:
            error = next(self._validator.iter_errors(content), None)
            if error is not None:
                raise SchemaError(f"{error.json_path}: {error.message}"[:500])


class Unreadable(ValueError):
    """A record that is not of its format at all."""


class SchemaError(ValueError):
    """A record that is not what was agreed."""


def text_of(raw: bytes, what: str) -> str:
    """Bytes as text. Raises Unreadable, which names `what`."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(
            f"the {what} is not UTF-8 ({error.reason} at byte {error.start})"
        ) from None
    if "\0" in text:
        # DuckLake keeps minimum and maximum of a column as text, where a NUL ends it.
        raise Unreadable(f"the {what} has a NUL character (set `{what}: bytes` for binary data)")
    return text


def load_json(text: str) -> Any:
    """The content of JSON. Raises Unreadable."""
    try:
        return _JSON.decode(text)
    except json.JSONDecodeError as error:
        raise Unreadable(str(error) or "not JSON") from None


def _no_constant(name: str) -> None:
    raise Unreadable(f"{name} is not JSON")


#: json.loads makes one for each record, which takes as long as reading it.
_JSON = json.JSONDecoder(parse_constant=_no_constant)


def judge(
    records: Iterable[tuple[Entity, Record]],
) -> tuple[dict[Entity, list[Record]], list[Rejected]]:
    """The records of each entity that may go to bronze, in their order; and the others.

    Raises what a decoder raises that cannot ask for a schema (TryLater, UserError).
    """
    good: dict[Entity, list[Record]] = {}
    rejected: list[Rejected] = []
    last, held = None, list[Record]()
    for entity, record in records:
        if entity.decoder is not None and record.value is not None:
            entity.decoder.prepare(record)
        if entity.key_decoder is not None and record.key is not None:
            entity.key_decoder.prepare(record)
        verdict = entity.judge(record)
        if isinstance(verdict, Rejected):
            rejected.append(verdict)
        else:
            if entity is not last:  # its hash is dear, and most come in a row
                last, held = entity, good.setdefault(entity, [])
            held.append(verdict)
    for entity, held in list(good.items()):
        if entity.check is not None:
            good[entity], refused = _checked(entity, entity.check, held)
            rejected += refused
    return {entity: held for entity, held in good.items() if held}, rejected


def _checked(
    entity: Entity, check: Check, records: list[Record]
) -> tuple[list[Record], list[Rejected]]:
    """Those that pass the user's own check, and the others."""
    values = [record.value for record in records if record.value is not None]
    verdicts = iter(check.judge(values))
    good, rejected = [], []
    for record in records:
        verdict = None if record.value is None else next(verdicts)
        if verdict is None:
            good.append(record)
        else:
            rejected.append(Rejected(record.received, entity.table, *verdict))
    return good, rejected


def headers_json(headers: list[tuple[str, bytes | None]]) -> str | None:
    """Headers as JSON: pairs of name and text; a value that is not text is {"base64": ...}.

    Names may come twice, so it is a list. None without headers.
    """
    if not headers:
        return None
    return json.dumps([[name, _header(value)] for name, value in headers], ensure_ascii=False)


def _header(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return text_of(value, "header")
    except Unreadable:
        from base64 import b64encode

        return {"base64": b64encode(value).decode()}
