"""A study's SQLite file from the outside: whether it is one, how it is opened, its schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from critpoints.errors import ForeignFile, StoreError
from critpoints.study.records import ATTEMPTS, CERTIFICATES, META, TABLES, Table
from critpoints.study.spec import StudySpec

APPLICATION_ID = 0x43525054  # "CRPT", bytes 68 to 71 of the file
SCHEMA_VERSION = 2  # the user_version of the file
_MAGIC = b"SQLite format 3\0"
# The write-ahead log needs memory shared between processes, which these do not have.
_NETWORK_FILE_SYSTEMS = {
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "glusterfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "smb3",
    "smbfs",
}


@contextmanager
def errors(path: Path) -> Iterator[None]:
    """Turns errors of SQLite into a StoreError that names the file."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise StoreError(f"{path}: these rows are there already ({error}); is another process writing it?") from error
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter from a message that quotes damaged text
        raise StoreError(f"{path}: {error}") from error


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection without implicit transactions; ``mode`` as in SQLite's URIs."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)
    # damaged text must reach the checksum, not end in a decoding error that names no row
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    return connection


def check_header(path: Path) -> bool:
    """Whether a database is at ``path``; looks at the first bytes alone, before SQLite touches a file of others.

    Raises:
        ForeignFile: the file is no study, or one of a newer version.
        StoreError: it is a folder.
    """
    if path.is_dir():
        raise StoreError(f"{path} is a folder; give the name of a file")
    if not path.exists():
        return False
    with path.open("rb") as file:
        header = file.read(100)
    if not header:
        return False
    number, version = int.from_bytes(header[68:72], "big"), int.from_bytes(header[60:64], "big")
    if not header.startswith(_MAGIC) or number not in (0, APPLICATION_ID):
        raise ForeignFile(f"{path} is not a critpoints study; give another file")
    if number == APPLICATION_ID and version > SCHEMA_VERSION:
        raise ForeignFile(
            f"{path} was made by a newer critpoints (schema {version}, this one reads {SCHEMA_VERSION}); upgrade"
        )
    return True


def is_empty(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the database has no tables: new, or given up by a process that was ended while creating it."""
    (count,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (number,) = connection.execute("PRAGMA application_id").fetchone()
    if count and number != APPLICATION_ID:
        raise ForeignFile(f"{path} is not a critpoints study; give another file")
    return not count


def write_schema(connection: sqlite3.Connection, spec: StudySpec) -> None:
    """Makes an empty database a study."""
    # One transaction, before the write-ahead log is entered: a file with our number always has all tables.
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    for table in TABLES:
        connection.execute(table.create)
    connection.execute(META.insert, META.encode({"key": "spec", "value": spec.to_json()}))
    connection.execute("COMMIT")


def has_table(connection: sqlite3.Connection, table: Table) -> bool:
    """Whether the file has this table; an older schema may not."""
    query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
    return bool(connection.execute(query, (table.name,)).fetchone()[0])


def migrate(connection: sqlite3.Connection) -> None:
    """Brings a study of an older schema to this one, in one transaction; no row is rewritten."""
    if connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,):
        return
    connection.execute("BEGIN IMMEDIATE")
    for table in (CERTIFICATES, ATTEMPTS):  # the first schema had certificates from the first of them on
        if not has_table(connection, table):
            connection.execute(table.create)
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    connection.execute("COMMIT")


def on_network(path: Path) -> bool:
    """Whether the file lies on a network file system, as far as Linux' table of mounts says."""
    table = Path("/proc/self/mounts")
    if not table.exists():
        return False
    mounts = [line.split() for line in table.read_text(encoding="utf-8", errors="replace").splitlines()]
    resolved = path.resolve()
    holding = [(len(mount[1]), mount[2]) for mount in mounts if resolved.is_relative_to(mount[1])]
    return bool(holding) and max(holding)[1] in _NETWORK_FILE_SYSTEMS
