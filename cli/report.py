"""The report on a study: the same tables and the same document after ``classify`` and in ``show``."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from .output import number, percent, print_json, print_table

if TYPE_CHECKING:
    from critpoints.study.store import Store

_TRAINING = {"adam": "Adam", "gradient-flow": "gradient flow"}


def print_report(
    store: Store,
    *,
    as_json: bool,
    seconds: float,
    widths: Iterable[int] | None = None,
    seeds: Collection[int] | None = None,
) -> None:
    """Prints the tables, or the JSON document, of these widths and seeds (all of the study's by default)."""
    from critpoints.study.summary import summarise, unfinished

    summary = summarise(store, widths, seeds)
    if as_json:
        print_json(
            {
                "study": str(store.path),
                "spec": store.spec.to_dict(),
                "widths": summary,
                "complete": not unfinished(store)[0],
                "content_hash": store.content_hash(),
                "seconds": seconds,
            }
        )
        return
    for width, found in summary.items():
        _print_kinds(width, found)
        _print_statuses(found)
        print(_negative_line(found["negative_raw_eigenvalues"], _TRAINING[store.spec.method]))
        print()


def _print_kinds(width: str, found: dict[str, Any]) -> None:
    rows = [
        (
            kind.replace("_", " "),
            str(each["count"]),
            percent(each["fraction"]),
            " - ".join(percent(bound) for bound in each["wilson95"]),
            number(each["median_loss"]),
            number(each["median_smallest_eigenvalue"]),
        )
        for kind, each in found["kinds"].items()
    ]
    columns = ("kind", "count", "fraction", "95 % interval", "median loss", "median smallest eigenvalue")
    print_table(f"width {width}, {found['seeds']} seeds: kinds of point", columns, rows)


def _print_statuses(found: dict[str, Any]) -> None:
    from critpoints.errors import Status

    messages: dict[str, str] = {status.name.lower(): status.value for status in Status}
    rows = [
        (name.replace("_", " "), str(count), percent(count / found["seeds"]), messages.get(name, ""))
        for name, count in found["statuses"].items()
    ]
    print_table("why refinement stopped", ("status", "count", "fraction", "reason"), rows, texts=(0, 3))


def _negative_line(found: dict[str, int], training: str) -> str:
    saddles = "saddle" if found["saddle"] == 1 else "saddles"
    return (
        f"of the {found['negative']} negative smallest eigenvalues after {training}: {found['rounding']} rounding, "
        f"{found['unconverged']} unconverged, {found['saddle']} {saddles}, {found['undecided']} undecided"
    )
