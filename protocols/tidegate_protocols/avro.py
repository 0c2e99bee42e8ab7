"""Avro records by name, in single-object encoding.

Values on Kafka start with the two bytes C3 01 and the little-endian CRC-64-AVRO fingerprint of the schema they were
written under (Avro specification 1.11, "Single-object encoding"), so that a reader finds the writer's schema without
a registry and reads older values by Avro's resolution rules. Each schema lives in ``schemas/NAME.avsc``; earlier
versions that may still be on a topic stay beside it as ``NAME.v1.avsc``, ``NAME.v2.avsc`` …

Needs fastavro, which is why nothing that the edge imports may import this module.
"""

from __future__ import annotations

import io
from functools import cache
from importlib import resources
from typing import Any, Generic, TypeVar

import fastavro
import msgspec
from fastavro.schema import fingerprint, to_parsing_canonical_form

from .errors import BadInput

MAGIC = b"\xc3\x01"
_HEADER = 10
VALUE_MAX = 1 << 20

T = TypeVar("T", bound=msgspec.Struct)


def _plain(schema: Any) -> Any:
    """The schema without logical types: times stay integers of microseconds, never datetimes."""
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if key != "logicalType"}
    return [_plain(item) for item in schema] if isinstance(schema, list) else schema


def _load(text: str) -> tuple[bytes, Any]:
    parsed = fastavro.parse_schema(_plain(msgspec.json.decode(text)))
    # fastavro gives the fingerprint as the hex of its little-endian bytes, which is the order it travels in.
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(parsed), "CRC-64-AVRO")), parsed


@cache
def _schemas(name: str) -> tuple[bytes, Any, dict[bytes, Any]]:
    """The current schema of `name` with its fingerprint, and every version by fingerprint."""
    folder = resources.files(__package__) / "schemas"
    current = _load((folder / f"{name}.avsc").read_text("utf-8"))
    versions = dict([current])
    for entry in folder.iterdir():
        if entry.name.startswith(f"{name}.v") and entry.name.endswith(".avsc"):
            versions.update([_load(entry.read_text("utf-8"))])
    return current[0], current[1], versions


class AvroCodec(Generic[T]):
    """Writes and reads one kind of record. `kind` is a msgspec Struct whose fields are the schema's."""

    def __init__(self, name: str, kind: type[T]) -> None:
        self.name = name
        self.kind = kind

    def encode(self, record: T) -> bytes:
        """The record as single-object Avro."""
        mark, schema, _ = _schemas(self.name)
        out = io.BytesIO()
        out.write(MAGIC)
        out.write(mark)
        fastavro.schemaless_writer(out, schema, msgspec.to_builtins(record, builtin_types=(bytes,)))
        return out.getvalue()

    def decode(self, data: bytes) -> T:
        """Read a record written under this or an earlier version of the schema. Raises BadInput."""
        mark, schema, versions = _schemas(self.name)
        if len(data) > VALUE_MAX:
            raise BadInput(f"{len(data)} bytes; at most {VALUE_MAX} are allowed", where=self.name)
        if data[:2] != MAGIC or len(data) < _HEADER:
            raise BadInput("not single-object Avro (C3 01 expected)", where=f"{self.name}, byte 0")
        writer = versions.get(data[2:_HEADER])
        if writer is None:
            raise BadInput(f"written under an unknown schema {data[2:_HEADER].hex()}", where=f"{self.name}, byte 2")
        source = io.BytesIO(data)
        source.seek(_HEADER)
        try:
            value = fastavro.schemaless_reader(source, writer, None if mark == data[2:_HEADER] else schema)
            if source.tell() != len(data):
                raise BadInput(
                    f"{len(data) - source.tell()} bytes after the record", where=f"{self.name}, byte {source.tell()}"
                )
            return msgspec.convert(value, self.kind)
        except BadInput:
            raise
        except Exception as error:  # fastavro raises whatever its reader met: EOFError, IndexError, ValueError …
            raise BadInput(f"damaged: {error!r}", where=f"{self.name}, near byte {source.tell()}") from None
