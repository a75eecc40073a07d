"""Thrift's compact protocol, just enough to make Parquet footers and page headers lie."""

from __future__ import annotations

from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 12
Struct = dict[int, tuple[int, Any]]
"""Fields by number, each with its wire type; a list is (wire type of its items, items)."""


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def zigzag(value: int) -> bytes:
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def take(self, count: int) -> bytes:
        self.position += count
        return self.data[self.position - count : self.position]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def value(self, wire: int) -> Any:
        if wire in (TRUE, FALSE):
            return wire == TRUE
        if wire == BYTE:
            return self.take(1)
        if wire in (I16, I32, I64):
            raw = self.varint()
            return (raw >> 1) ^ -(raw & 1)
        if wire == DOUBLE:
            return self.take(8)
        if wire == BINARY:
            return self.take(self.varint())
        if wire == LIST:
            head = self.take(1)[0]
            count = head >> 4 if head >> 4 < 15 else self.varint()
            item = head & 15
            return item, [self.take(1) if item in (TRUE, FALSE) else self.value(item) for _ in range(count)]
        assert wire == STRUCT
        return self.struct()

    def struct(self) -> Struct:
        fields: Struct = {}
        last = 0
        while head := self.take(1)[0]:
            delta, wire = head >> 4, head & 15
            last = last + delta if delta else self.value(I16)
            fields[last] = wire, self.value(wire)
        return fields


def encode(fields: Struct) -> bytes:
    out = bytearray()
    last = 0
    for number, (given, value) in sorted(fields.items()):
        wire = (TRUE if value else FALSE) if given in (TRUE, FALSE) else given
        delta = number - last
        out += bytes([delta << 4 | wire]) if 0 < delta < 16 else bytes([wire]) + zigzag(number)
        out += b"" if given in (TRUE, FALSE) else encode_value(wire, value)
        last = number
    return bytes([*out, 0])


def encode_value(wire: int, value: Any) -> bytes:
    if wire in (BYTE, DOUBLE, TRUE, FALSE):
        return bytes(value)
    if wire in (I16, I32, I64):
        return zigzag(value)
    if wire == BINARY:
        return varint(len(value)) + value
    if wire == LIST:
        item, items = value
        head = bytes([len(items) << 4 | item]) if len(items) < 15 else bytes([0xF0 | item]) + varint(len(items))
        return head + b"".join(encode_value(item, one) for one in items)
    return encode(value)
