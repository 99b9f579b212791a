"""critpoints explain: one point of a study in a paragraph."""

from __future__ import annotations

import textwrap
from pathlib import Path

import click

from . import options
from .show import find_point


@click.command(short_help="Explain one point in a paragraph.")
@options.study
@click.option("--seed", type=click.IntRange(0), metavar="N", required=True, help="The point's seed.")
@options.one_width
def explain(study: Path, seed: int, width: int | None) -> None:
    """Say in a paragraph what one point of a study is, and why."""
    from critpoints.study.explanation import explain_point
    from critpoints.study.store import Store

    with Store.open(study) as store:
        print(textwrap.fill(explain_point(find_point(store, seed, width), store.spec), 100, break_on_hyphens=False))
