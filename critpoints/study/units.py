"""Units of a study: seeds of one width that are computed and stored together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True)
class Unit:
    """Seeds of one width that are computed and stored together, all in one block of consecutive seeds."""

    width: int
    block: int
    seeds: tuple[int, ...]

    def __str__(self) -> str:
        return f"width {self.width}, seeds {to_ranges(self.seeds)}"

    def halves(self) -> tuple[Unit, Unit]:
        """The unit in two, where it does not fit into the memory as a whole."""
        middle = len(self.seeds) // 2
        return Unit(self.width, self.block, self.seeds[:middle]), Unit(self.width, self.block, self.seeds[middle:])


def split_into_units(width: int, seeds: Iterable[int], size: int) -> list[Unit]:
    """Units whose blocks of ``size`` seeds begin at multiples of it, whatever range of seeds is asked for.

    >>> [len(unit.seeds) for unit in split_into_units(5, range(30, 120), 50)]
    [20, 50, 20]
    """
    blocks = groupby(sorted(seeds), key=lambda seed: seed // size)
    return [Unit(width, block, tuple(members)) for block, members in blocks]


def to_ranges(numbers: Iterable[int]) -> str:
    """Integers in few characters.

    >>> to_ranges([7, 0, 1, 2]), list(from_ranges("0-2,7"))
    ('0-2,7', [0, 1, 2, 7])
    """
    runs = groupby(enumerate(sorted(numbers)), key=lambda item: item[1] - item[0])
    ends = [(members[0][1], members[-1][1]) for members in (list(each) for _, each in runs)]
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)


def from_ranges(text: str) -> Iterable[int]:
    """The integers behind ``to_ranges``."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
