"""The contract of the study file: what was committed is there, whole, and what comes back is what was stored."""

import math
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from study_cases import QUICK, UNIT, contents, edit, fill, invented_study, point_row, verdict_row

from critpoints.errors import ForeignFile, SpecMismatch, StoreError
from critpoints.study.records import POINTS, VERDICTS
from critpoints.study.spec import StudySpec
from critpoints.study.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a study, with % and ? in its name.db"


def test_rows_come_back_bit_for_bit(path: Path) -> None:
    invented_study(path)
    with Store.open(path) as store:
        assert store.spec == QUICK
        rows = list(store.points(2))
    assert [row["seed"] for row in rows] == list(range(8))
    for seed, row in enumerate(rows):
        for name, value in {**point_row(seed), **verdict_row(seed)}.items():
            if isinstance(value, np.ndarray):
                assert value.tobytes() == row[name].tobytes()
            elif isinstance(value, float) and math.isnan(value):
                assert math.isnan(row[name])
            else:
                assert row[name] == value and type(row[name]) is type(value)


def test_one_file_is_left(path: Path) -> None:
    invented_study(path)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert path.read_bytes()[18:20] == b"\x01\x01"  # a rollback journal, no write-ahead log


def test_a_reader_sees_what_a_writer_has_committed(path: Path) -> None:
    with Store.create(path, QUICK) as writer:
        fill(writer, range(3))
        with Store.open(path) as reader:
            assert len(list(reader.points(2))) == 3
        fill(writer, range(3, 5))
        with Store.open(path) as reader:
            assert len(list(reader.points(2))) == 5


def test_the_last_writer_to_close_leaves_one_file(path: Path) -> None:
    first, second = Store.create(path, QUICK), Store.create(path, QUICK)
    fill(first, range(2))
    fill(second, range(2, 4))
    first.close()
    fill(second, range(4, 6))
    second.close()
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert len(contents(path)) == 6


def test_what_is_missing(path: Path) -> None:
    invented_study(path, range(2, 5))
    with Store.open(path) as store:
        assert store.missing(2, range(8)) == [0, 1, 5, 6, 7]
        assert store.missing(3, range(2)) == [0, 1]
        assert store.unjudged(2, range(2, 5), 1) == []
        assert store.unjudged(2, range(2, 5), 2) == [2, 3, 4]


def test_the_latest_verdict_counts_and_the_older_one_stays(path: Path) -> None:
    invented_study(path, range(2))
    with Store.create(path, QUICK) as store:
        store.commit(UNIT, [], [verdict_row(1, version=2) | {"kind": "channel"}])
        assert [row["kind"] for row in store.points(2)] == ["strict_minimum", "channel"]
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM verdicts").fetchone() == (3,)
    connection.close()


def test_the_content_hash_knows_rows_alone(path: Path, tmp_path: Path) -> None:
    with Store.create(path, QUICK) as at_once:
        fill(at_once, range(8))
        expected = at_once.content_hash()
    with Store.create(tmp_path / "other.db", QUICK) as piecewise:
        for seeds in (range(5, 8), range(2), range(2, 5)):
            fill(piecewise, seeds)
        assert piecewise.content_hash() == expected
        fill(piecewise, range(8, 9))
        assert piecewise.content_hash() != expected
    with Store.create(tmp_path / "third.db", StudySpec(steps=21, lr=1e-2)) as otherwise_specified:
        fill(otherwise_specified, range(8))
        assert otherwise_specified.content_hash() != expected


# --- files that are no studies, or other studies


def sqlite_file(path: Path, application_id: int = 0, user_version: int = 0) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA application_id={application_id}")
    connection.execute(f"PRAGMA user_version={user_version}")
    connection.execute("CREATE TABLE meta (key, value)")
    connection.commit()
    connection.close()


FOREIGN = {
    "a text": lambda path: path.write_text("Dear diary"),
    "a long text": lambda path: path.write_text("Dear diary, " * 1000),
    "the start of a database": lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(10)),
    "a database": sqlite_file,
    "a database of another program": lambda path: sqlite_file(path, 0x0F055112),
    "a newer study": lambda path: sqlite_file(path, 0x43525054, 99),
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("open_file", [lambda path: Store.create(path, QUICK), Store.open], ids=["create", "open"])
def test_a_foreign_file_is_refused_and_left_alone(path: Path, make, open_file) -> None:
    make(path)
    before = path.read_bytes()
    with pytest.raises(StoreError) as failure:
        open_file(path)
    assert isinstance(failure.value, ForeignFile) or make is FOREIGN["the start of a database"]
    assert str(path) in str(failure.value)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_study_of_another_specification_is_refused_and_left_alone(path: Path) -> None:
    invented_study(path)
    before = path.read_bytes()
    with pytest.raises(SpecMismatch, match=r"steps is 20, not 500; ask for the same"):
        Store.create(path, StudySpec(steps=500, lr=1e-2))
    assert path.read_bytes() == before


@pytest.mark.parametrize("make", [Path.touch, lambda path: sqlite3.connect(path).close()], ids=["touched", "connected"])
def test_an_empty_file_becomes_a_study(path: Path, make) -> None:
    make(path)
    assert contents(invented_study(path))


def test_a_folder_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder"):
        Store.create(tmp_path, QUICK)
    with pytest.raises(StoreError, match=r"folder .* does not exist"):
        Store.create(tmp_path / "nowhere" / "study.db", QUICK)
    with pytest.raises(StoreError, match="there is no study"):
        Store.open(tmp_path / "study.db")
    assert list(tmp_path.iterdir()) == []


# --- damage


COLUMNS = [("points", column) for column in POINTS.columns] + [("verdicts", column) for column in VERDICTS.columns]


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_a_change_of_any_column_is_reported_with_its_row(path: Path, table: str, column: str) -> None:
    invented_study(path)
    if column in ("width", "seed", "classifier_version"):
        edit(path, f'UPDATE {table} SET "{column}" = "{column}" + 100 WHERE seed = 3')
    else:
        edit(path, f"UPDATE {table} SET \"{column}\" = x'00ff' WHERE seed = 3")
    with Store.open(path) as store, pytest.raises(StoreError, match=r"seed (3|103)"):
        for width in (2, 102):
            list(store.points(width))


def test_damage_is_reported_whatever_columns_are_wanted(path: Path) -> None:
    invented_study(path)
    edit(path, "UPDATE verdicts SET noise_floor = 1 WHERE seed = 3")
    with Store.open(path) as store:
        rows = store.points(2, columns=("seed", "theta"))
        assert [set(next(rows)) for _ in range(3)] == [{"seed", "theta"}] * 3
        with pytest.raises(StoreError, match=r"verdicts with width 2, seed 3"):
            next(rows)


def test_damage_of_one_row_does_not_hide_the_others(path: Path) -> None:
    invented_study(path)
    edit(path, "UPDATE points SET loss = loss + 1e-16 WHERE seed = 4")
    with Store.open(path) as store:
        rows = store.points(2)
        assert [next(rows)["seed"] for _ in range(4)] == [0, 1, 2, 3]
        with pytest.raises(StoreError, match=r"points with width 2, seed 4 is damaged"):
            next(rows)


def test_a_lost_verdict_is_reported(path: Path) -> None:
    invented_study(path)
    edit(path, "DELETE FROM verdicts WHERE seed = 5")
    with pytest.raises(StoreError, match="seed 5 has no verdict"):
        contents(path)


def test_a_changed_specification_is_reported(path: Path) -> None:
    invented_study(path)
    edit(path, """UPDATE meta SET value = replace(value, '"steps":20', '"steps":21')""")
    with pytest.raises(StoreError, match="meta with key 'spec' is damaged"):
        Store.open(path)


def test_no_flipped_byte_passes_for_data(path: Path) -> None:
    expected = contents(invented_study(path))
    intact = path.read_bytes()
    reported = 0
    for position in np.random.default_rng(0).choice(len(intact), 250, replace=False):
        flipped = bytearray(intact)
        flipped[position] ^= 1 << int(position) % 8
        path.write_bytes(flipped)
        try:
            assert contents(path) == expected
        except StoreError:
            reported += 1
    assert reported > 20  # most of the file is slack


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.3, 0.6, 0.9, 0.999])
def test_a_cut_file_is_reported(path: Path, fraction: float) -> None:
    intact = invented_study(path).read_bytes()
    path.write_bytes(intact[: int(fraction * len(intact))])
    with pytest.raises(StoreError):
        contents(path)


# --- all or nothing


def test_rows_that_are_there_are_not_written_twice(path: Path) -> None:
    invented_study(path, range(3))
    before = contents(path)
    with Store.create(path, QUICK) as store, pytest.raises(StoreError, match="there already"):
        fill(store, range(2, 6))
    assert contents(path) == before
    with Store.open(path) as store:
        assert len(store.units()) == 1


def test_a_full_disk_costs_the_last_unit_alone(path: Path) -> None:
    with Store.create(path, QUICK) as store:
        fill(store, range(3))
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count={pages + 2}")
        with pytest.raises(StoreError, match="full"):
            fill(store, range(3, 100))
        assert store.missing(2, range(5)) == [3, 4]
    assert len(contents(path)) == 3


def test_a_commit_that_fails_at_any_moment_leaves_all_or_nothing(path: Path) -> None:
    """The n-th instruction of SQLite fails, n = 1, 2, 3, ..., until the commit gets through."""
    with Store.create(path, QUICK) as store:
        fill(store, range(2))
        failures = 0
        while store.missing(2, range(4)):
            instructions = iter([0] * failures + [1])
            store._connection.set_progress_handler(lambda ticks=instructions: next(ticks, 0), 1)
            try:
                fill(store, range(2, 4))
            except StoreError:
                failures += 1
            store._connection.set_progress_handler(None, 0)
            whole = not store.missing(2, range(4))  # SQLite may report a failure although the commit went through
            assert [row["seed"] for row in store.points(2)] == list(range(4 if whole else 2))
            assert len(store.units()) == (2 if whole else 1)
    assert failures > 50


WRITER = """
import sys
from study_cases import QUICK, fill
from critpoints.study.store import Store
with Store.create(sys.argv[1], QUICK) as store:
    for seed in range(10_000):
        fill(store, range(seed, seed + 1))
        print(seed, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill(path: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parent.parent)!r})\n{WRITER}"
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(20)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout.read().split()]
    with Store.open(path) as store:
        there = [row["seed"] for row in store.points(2)]
    assert there[: len(acknowledged)] == acknowledged
    assert len(there) <= len(acknowledged) + 1
    with Store.create(path, QUICK) as store:
        fill(store, range(20_000, 20_001))
    assert [each.name for each in path.parent.iterdir()] == [path.name]
