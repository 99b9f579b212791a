"""The pages of an SQLite file read without SQLite: what is left of a file that SQLite no longer reads.

Source: "Database File Format", https://sqlite.org/fileformat2.html: sections 1.3 (header), 1.5 (b-tree pages), 1.6
(cells and overflow), 2.1 (records), 4.1 (write-ahead log).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from critpoints.study.records import Value

PAGE_SIZE = 4096  # SQLite's default, which a study has
_LEAF, _TREE_PAGES = 13, (2, 5, 10, 13)
_LOG_MAGIC, _LOG_HEADER, _FRAME_HEADER = (0x377F0682, 0x377F0683), 32, 24
_LONGEST_HEADER = 100  # bytes of serial types; 21 columns need fewer
_INTEGER_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


class Unreadable(Exception):
    """Bytes that are no cell or no record."""


@dataclass(frozen=True)
class Cell:
    """A row as it lies on a page: its columns without their names."""

    page: int
    rowid: int
    values: tuple[Value, ...]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer and the position behind it: big-endian, seven bits a byte, eight in the ninth."""
    if at < len(data) and data[at] < 0x80:  # most are short
        return data[at], at + 1
    value = 0
    for n, byte in enumerate(data[at : at + 9]):
        if n == 8:
            return (value << 8) | byte, at + 9
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:
            return value, at + n + 1
    raise Unreadable


class Pages:
    """The pages of a database file, numbered from 1 as SQLite numbers them.

    Args:
        data: the file.
        size: of a page, in bytes.
        columns: how many columns a row may have; anything else is no row.
    """

    def __init__(self, data: bytes, size: int, columns: frozenset[int]) -> None:
        self.size, self.columns = size, columns
        self.pages = {at // size + 1: data[at : at + size] for at in range(0, len(data), size)}
        self._chained: set[int] = set()  # pages that hold the rest of a row

    def cells(self) -> Iterator[Cell]:
        """Every row that can be read, and rows of former states of the file that still lie about in it."""
        strays = []
        for number, page in self.pages.items():
            start = 100 if number == 1 else 0
            found = yield from self._listed(number, page, start)
            if not found:
                strays.append(number)
        # where the list of a page's rows is damaged, the rows may not be: anything that looks like a row is tried
        for number in strays:
            if number not in self._chained:
                yield from self._scattered(number)

    def _listed(self, number: int, page: bytes, start: int) -> Iterator[Cell]:
        """The rows that a page lists; returns whether all of the page made sense."""
        if len(page) < start + 8 or page[start] not in _TREE_PAGES:
            return False
        if page[start] != _LEAF:
            return True
        whole = True
        (count,) = struct.unpack_from(">H", page, start + 3)
        for n in range(count):
            try:
                (at,) = struct.unpack_from(">H", page, start + 8 + 2 * n)
                yield self._cell(number, page, at)
            except (Unreadable, struct.error):
                whole = False
        return whole

    def _scattered(self, number: int) -> Iterator[Cell]:
        page = self.pages[number]
        for at in range(len(page)):
            try:
                yield self._cell(number, page, at)
            except (Unreadable, struct.error):
                continue

    def _cell(self, number: int, page: bytes, at: int) -> Cell:
        length, at = _varint(page, at)
        rowid, at = _varint(page, at)
        if length > len(self.pages) * self.size or len(_types(page, at)) not in self.columns:
            raise Unreadable
        return Cell(number, rowid, self._record(self._payload(page, at, length)))

    def _payload(self, page: bytes, at: int, length: int) -> bytes:
        usable = self.size
        if length <= usable - 35:
            payload, following = page[at : at + length], 0
        else:  # the formulas of section 1.6: how much of it lies on the page itself
            least = (usable - 12) * 32 // 255 - 23
            local = least + (length - least) % (usable - 4)
            local = local if local <= usable - 35 else least
            payload = page[at : at + local]
            (following,) = struct.unpack_from(">I", page, at + local)
        chain = []
        while len(payload) < length:
            rest = self.pages.get(following, b"")
            if len(rest) < 4 or following in chain:
                raise Unreadable
            chain.append(following)
            (following,) = struct.unpack_from(">I", rest)
            payload += rest[4 : 4 + min(usable - 4, length - len(payload))]
        self._chained.update(chain)
        return payload

    def _record(self, payload: bytes) -> tuple[Value, ...]:
        at, values = _varint(payload, 0)[0], []
        for kind in _types(payload, 0):
            value, at = _value(payload, at, kind)
            values.append(value)
        if at != len(payload):
            raise Unreadable
        return tuple(values)


def _types(data: bytes, at: int) -> list[int]:
    """The serial types of a record's columns."""
    start = at
    header, at = _varint(data, at)
    if not 2 <= header <= _LONGEST_HEADER:
        raise Unreadable
    types = []
    while at < start + header:
        kind, at = _varint(data, at)
        if kind in (10, 11):
            raise Unreadable
        types.append(kind)
    if at != start + header:
        raise Unreadable
    return types


def _value(data: bytes, at: int, kind: int) -> tuple[Value, int]:
    """A column by its serial type, and the position behind it."""
    if kind in _INTEGER_SIZES:
        end = at + _INTEGER_SIZES[kind]
        return int.from_bytes(data[at:end], "big", signed=True), end
    if kind == 7:
        return struct.unpack_from(">d", data, at)[0], at + 8
    if kind in (0, 8, 9):
        return (None, 0, 1)[max(kind - 7, 0)], at
    end = at + (kind - 12) // 2
    return (data[at:end].decode("utf-8", "surrogateescape") if kind % 2 else data[at:end]), end


def images(path: Path, columns: frozenset[int]) -> Iterator[Pages]:
    """The states of a database in which rows may be found: its file, and its file under every page of its log."""
    data = path.read_bytes()
    stated = int.from_bytes(data[16:18], "big")
    sizes = {PAGE_SIZE} | ({stated} if stated in (512, 1024, 2048, 8192, 16384, 32768) else set())
    log = path.with_name(f"{path.name}-wal")
    for size in sizes:
        yield Pages(data, size, columns)
        if log.exists():
            frames = _frames(log.read_bytes(), size)
            if frames:
                newest = Pages(data, size, columns)
                newest.pages.update(frames)
                yield newest


def _frames(log: bytes, size: int) -> dict[int, bytes]:
    """The last page of each number in a write-ahead log, of those that belong to its present round."""
    if len(log) < _LOG_HEADER or int.from_bytes(log[:4], "big") not in _LOG_MAGIC:
        return {}
    found, salts = {}, log[16:24]
    for at in range(_LOG_HEADER, len(log) - size - _FRAME_HEADER + 1, size + _FRAME_HEADER):
        if log[at + 8 : at + 16] == salts:
            found[int.from_bytes(log[at : at + 4], "big")] = log[at + _FRAME_HEADER : at + _FRAME_HEADER + size]
    return found
