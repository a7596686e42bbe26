"""Protobuf to JSON: by Protobuf's own mapping, with the names of the schema's fields.

Whole numbers of 64 bits are text there, so that nothing rounds them; a field that is not set has
its default, as it has for every reader of Protobuf.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import (
    any_pb2,
    api_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    json_format,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)

from lakebed.errors import UserError
from lakebed.ingest.avro import as_json
from lakebed.ingest.records import Decoder, Record, SchemaError, Unreadable

PATTERNS = ["pat-streaming-ingest"]

#: Loaded, so that a schema may import them without bringing them along.
KNOWN = (
    *(any_pb2, api_pb2, descriptor_pb2, duration_pb2, empty_pb2),
    *(field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2),
)


class ProtobufSchema:
    """A file's messages. `files` is it (last) and those that it imports, as descriptors, each
    after those that it needs. Raises SchemaError when it cannot be used."""

    def __init__(self, files: Sequence[descriptor_pb2.FileDescriptorProto]) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        self._file = files[-1]
        self._classes: dict[str, Any] = {}
        try:
            present: set[str] = set()
            for file in files:
                for name in file.dependency:
                    self._known(name, present)
                if file.name not in present:
                    self._pool.AddSerializedFile(file.SerializeToString())
                    present.add(file.name)
        except (KeyError, TypeError) as error:
            raise SchemaError(f"not a Protobuf schema ({' '.join(str(error).split())})") from error

    def _known(self, name: str, present: set[str]) -> None:
        if name not in present:
            file = descriptor_pb2.FileDescriptorProto()
            descriptor_pool.Default().FindFileByName(name).CopyToProto(file)
            for needed in file.dependency:
                self._known(needed, present)
            self._pool.AddSerializedFile(file.SerializeToString())
            present.add(name)

    def has(self, message: str) -> bool:
        """Whether a message of that full name is in one of the files."""
        try:
            self._pool.FindMessageTypeByName(message)
        except KeyError:
            return False
        return True

    def message_at(self, indexes: Sequence[int]) -> str:
        """The full name of a message by its place in the file. Raises Unreadable."""
        found: Any = self._file.message_type
        names = [self._file.package] if self._file.package else []
        for index in indexes:
            if not 0 <= index < len(found):
                raise Unreadable(f"the schema has no message at {list(indexes)}")
            names.append(found[index].name)
            found = found[index].nested_type
        return ".".join(names)

    def read(self, data: bytes, message: str) -> Any:
        """The message in `data`, of what JSON has. Raises Unreadable."""
        if message not in self._classes:
            found = self._pool.FindMessageTypeByName(message)
            self._classes[message] = message_factory.GetMessageClass(found)
        one = self._classes[message]()
        try:
            one.ParseFromString(data)
            return json_format.MessageToDict(
                one,
                always_print_fields_with_no_presence=True,
                preserving_proto_field_name=True,
                descriptor_pool=self._pool,
            )
        except Exception as error:
            told = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise Unreadable(f"not a {message} ({told})") from error


@dataclass(frozen=True)
class PlainProtobuf(Decoder):
    """Records without a registry: each is one `message`."""

    schema: ProtobufSchema
    message: str

    def decode(self, record: Record) -> tuple[Record, Any]:
        return as_json(record, self.schema.read(record.value or b"", self.message), None)


def read_descriptors(file: Path, message: str, where: str) -> PlainProtobuf:
    """A file that protoc made (`--include_imports --descriptor_set_out`). Raises UserError."""
    found = descriptor_pb2.FileDescriptorSet()
    try:
        found.ParseFromString(file.read_bytes())
        if not found.file:
            raise SchemaError("it is empty")
        schema = ProtobufSchema(found.file)
    except OSError as error:
        raise UserError(f"{where}: {file}: {error.strerror}.") from error
    except Exception as error:
        raise UserError(
            f"{where}: {file} is no FileDescriptorSet with all imports ({error}): make it with "
            "protoc --include_imports --descriptor_set_out."
        ) from error
    if not schema.has(message):
        every = [name for each in found.file for name in _names(each)]
        raise UserError(f"{where}: {file} has no message {message}; it has {', '.join(every[:8])}.")
    return PlainProtobuf(schema, message)


def _names(file: descriptor_pb2.FileDescriptorProto) -> list[str]:
    prefix = f"{file.package}." if file.package else ""
    return [prefix + message.name for message in file.message_type]


def from_texts(text: str, others: Mapping[str, str]) -> ProtobufSchema:
    """A schema as a registry serves it (`format=serialized`): descriptors in base64. `others` are
    those that it imports, by name. Raises SchemaError."""
    files = [_descriptor(name, other) for name, other in others.items()]
    return ProtobufSchema([*files, _descriptor("default", text)])


def _descriptor(name: str, text: str) -> descriptor_pb2.FileDescriptorProto:
    try:
        file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except Exception as error:
        raise SchemaError(
            "the registry gave the schema's text, not its descriptor (format=serialized): "
            f"this registry cannot be used for Protobuf ({type(error).__name__})"
        ) from error
    file.name = name
    return file
