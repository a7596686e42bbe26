"""A Protobuf schema for tests, as protoc would describe it: there is no protoc here."""

from __future__ import annotations

from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    timestamp_pb2,
)

ORDER = "shop.Order"

#: syntax = "proto3"; package shop; import "google/protobuf/timestamp.proto";
#: message Order {
#:   message Line { string sku = 1; }
#:   enum State { UNKNOWN = 0; PAID = 1; }
#:   string id = 1; int64 amount = 2; State state = 3; bytes raw = 4; double price = 5;
#:   map<string, int32> counts = 6; repeated Line lines = 7;
#:   oneof payment { string card = 8; uint64 points = 9; }
#:   google.protobuf.Timestamp at = 10; optional string note = 11; }
_TEXT = """
name: "order.proto" package: "shop" syntax: "proto3" dependency: "google/protobuf/timestamp.proto"
message_type {
  name: "Order"
  field { name: "id" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "amount" number: 2 label: LABEL_OPTIONAL type: TYPE_INT64 }
  field { name: "state" number: 3 label: LABEL_OPTIONAL type: TYPE_ENUM
          type_name: ".shop.Order.State" }
  field { name: "raw" number: 4 label: LABEL_OPTIONAL type: TYPE_BYTES }
  field { name: "price" number: 5 label: LABEL_OPTIONAL type: TYPE_DOUBLE }
  field { name: "counts" number: 6 label: LABEL_REPEATED type: TYPE_MESSAGE
          type_name: ".shop.Order.CountsEntry" }
  field { name: "lines" number: 7 label: LABEL_REPEATED type: TYPE_MESSAGE
          type_name: ".shop.Order.Line" }
  field { name: "card" number: 8 label: LABEL_OPTIONAL type: TYPE_STRING oneof_index: 0 }
  field { name: "points" number: 9 label: LABEL_OPTIONAL type: TYPE_UINT64 oneof_index: 0 }
  field { name: "at" number: 10 label: LABEL_OPTIONAL type: TYPE_MESSAGE
          type_name: ".google.protobuf.Timestamp" }
  field { name: "note" number: 11 label: LABEL_OPTIONAL type: TYPE_STRING oneof_index: 1
          proto3_optional: true }
  nested_type { name: "Line"
    field { name: "sku" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING } }
  nested_type { name: "CountsEntry" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_INT32 } }
  enum_type { name: "State"
    value { name: "UNKNOWN" number: 0 } value { name: "PAID" number: 1 } }
  oneof_decl { name: "payment" } oneof_decl { name: "_note" }
}
"""
_MORE = """
  field { name: "coupon" number: 12 label: LABEL_OPTIONAL type: TYPE_STRING }
"""


def order_file(coupon: bool = False) -> descriptor_pb2.FileDescriptorProto:
    """The file; a later version has a `coupon`."""
    found = text_format.Parse(_TEXT, descriptor_pb2.FileDescriptorProto())
    if coupon:
        text_format.Merge(_MORE, found.message_type[0])
    return found


def descriptors() -> list[descriptor_pb2.FileDescriptorProto]:
    """The file and what it imports, as `protoc --include_imports` writes them."""
    known = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(known)
    return [known, order_file()]


def message_class(name: str, coupon: bool = False) -> Any:
    """The Python class of a message."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(order_file(coupon).SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
