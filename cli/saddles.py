"""critpoints saddles: search for saddles of every index, count, prove and draw them."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .interruption import Interrupted
from .output import number, print_json, print_table, say

if TYPE_CHECKING:
    from critpoints.landscape.saddle_census import CriticalEntry, SaddleCensus
    from critpoints.landscape.saddle_graph import SaddleGraph
    from critpoints.study.saddles import Known, SearchPlan
    from critpoints.study.store import Store

MAX_ROWS = 60  # of the table; the JSON document has them all
SHOWN_EIGENVALUES = 3


@click.command(short_help="Search for saddles, by index and level.")
@click.option("--width", type=click.IntRange(1), required=True, metavar="N", help="Width of the students.")
@click.option(
    "--study",
    metavar="STUDY.db",
    type=click.Path(path_type=Path),
    help="Where the minima come from  [default: a study in the folder of --out, made by the command]",
)
@click.option(
    "--narrower",
    metavar="STUDY.db",
    type=click.Path(path_type=Path),
    help="Where the minima of the next narrower width come from  [default: as those of the width]",
)
@click.option("--seeds", type=click.IntRange(1), default=100, show_default=True, help="Trajectories to start from.")
@click.option("--steps", type=click.IntRange(1), default=4000, show_default=True, help="Adam steps of a trajectory.")
@click.option("--snapshots", type=click.IntRange(1), default=3, show_default=True, help="Points of each trajectory.")
@click.option("--max-index", type=click.IntRange(1), default=3, show_default=True, help="Largest index to search for.")
@click.option("--epsilon", type=float, default=0.05, show_default=True, help="Relative size of the perturbations.")
@click.option("--tries", type=click.IntRange(0), default=4, show_default=True, help="Starts next to each saddle line.")
@click.option("--minima", type=click.IntRange(0), default=12, show_default=True, help="Minima to search between.")
@click.option("--bands", type=click.IntRange(0), default=12, show_default=True, help="Elastic bands between them.")
@click.option("--iterations", type=click.IntRange(1), default=150, show_default=True, help="Of a search at most.")
@click.option("--tree/--no-tree", default=True, help="Follow the saddles of index 1 down, and build the merge tree.")
@click.option("--out", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Folder of the search.")
@click.option(
    "--method",
    type=click.Choice(["monotone", "flow", "newton"]),
    default="monotone",
    show_default=True,
    help="Ways down: by Newton steps on which the loss never rises, by the gradient flow, or by plain Newton.",
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
@options.threads
@options.figures
@options.as_json
@click.pass_context
def saddles(
    context: click.Context,
    *,
    width: int,
    study: Path | None,
    narrower: Path | None,
    tree: bool,
    method: str,
    out: Path | None,
    quiet: bool,
    figures: Path | None,
    as_json: bool,
    **choices: Any,
) -> None:
    """Search for critical points of every index, and say which are distinct modulo symmetry, with proofs.

    Starts are perturbed trajectories, points next to the saddle lines that splitting a neuron of a narrower minimum
    gives, and points between minima. Each search is stored when it is done; the same command again resumes. The
    folder also gets certificates, and the merge tree as JSON and GraphML.
    """
    from critpoints.errors import InvalidArgument
    from critpoints.landscape.saddle_census import take_saddle_census
    from critpoints.landscape.saddle_graph import join_minima
    from critpoints.landscape.saddle_starts import find_predicted
    from critpoints.objectives.two_layer import TwoLayerObjective
    from critpoints.study.distinct import stored_verdicts
    from critpoints.study.problems import resolve_problem
    from critpoints.study.saddles import SearchFolder, SearchPlan, plan_name, run_search
    from critpoints.study.spec import StudySpec
    from critpoints.study.store import Store

    from .figures import check_folder
    from .progress import Progress, Spinner

    if figures is not None:
        check_folder(figures)
    spec = StudySpec(activation="sigmoid")
    if study is not None:
        with Store.open(study) as store:
            spec = store.spec
    iterations = choices.pop("iterations")
    plan = SearchPlan(spec.to_json(), width, max_iterations=iterations, **choices)
    path = out or Path(plan_name(plan))
    folder = SearchFolder(path, plan)
    try:
        source = study or _own_study(path / "study.db", spec, width, plan.seeds, quiet)
        with Store.open(source) as store:
            problem = resolve_problem(store.spec)
            if not isinstance(problem, TwoLayerObjective):
                raise InvalidArgument(f"saddles are searched for in two-layer problems, got {type(problem).__name__}")
            known = _known(store, narrower, problem, width)
            verdicts = stored_verdicts(store.points(width)) if width in store.widths() else None
        with Progress(quiet=quiet, unit="units", verb="search") as progress:
            found, kinds = run_search(folder, problem, known, callback=progress.update)
    except Interrupted:
        say("interrupted; the searches that are done are stored")
        say(f"resume with: {shlex.join(['critpoints', *context.obj])}")
        raise
    with Spinner(quiet=quiet) as spinner:
        census = take_saddle_census(
            problem,
            found,
            max_index=plan.max_index,
            callback=lambda done, total: spinner.update(f"proving distinct points: {done} of {total}"),
        )
    _write_certificates(census, path / "certificates")
    predicted = find_predicted(problem, known.predicted, census)
    graph = None
    if tree and verdicts is not None:
        with Spinner(quiet=quiet) as spinner:
            spinner.update("following saddles of index 1 down")
            graph = join_minima(problem, verdicts, census.saddles, method=method)
        _write_tree(graph, path)
    document = _document(plan, census, kinds, known, predicted, graph)
    if figures is not None:
        _save_figures(census, found, graph, width, figures)
    if as_json:
        print_json(document)
    else:
        _print(width, census, kinds, document, graph)


def _known(store: Store, narrower: Path | None, problem: Any, width: int) -> Known:
    """The minima that searches start from.

    Raises:
        SpecMismatch: the narrower students were trained on another problem.
    """
    from critpoints.errors import SpecMismatch
    from critpoints.study.saddles import known_points
    from critpoints.study.store import Store

    if narrower is None:
        return known_points(store, store, problem, width)
    with Store.open(narrower) as other:
        if (other.spec.problem, other.spec.activation) != (store.spec.problem, store.spec.activation):
            raise SpecMismatch(f"{narrower} is a study of another problem than {store.path}")
        return known_points(store, other, problem, width)


def _own_study(path: Path, spec: Any, width: int, seeds: int, quiet: bool) -> Path:
    """A study of this width and the next narrower one, made or extended."""
    from critpoints.study.run import run_study
    from critpoints.study.store import Store

    from .progress import Progress

    with Store.create(path, spec) as store, Progress(quiet=quiet) as progress:
        run_study(store, [each for each in (width - 1, width) if each], range(seeds), callback=progress.update)
    return path


def _write_certificates(census: SaddleCensus, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for place, entry in enumerate(census.entries):
        if entry.certificate is not None:
            name = f"{entry.origin.replace(' ', '-')}-index-{entry.verdict.index}-entry-{place}.json"
            (folder / name).write_text(entry.certificate.to_json(), encoding="utf-8")


def _write_tree(graph: SaddleGraph, folder: Path) -> None:
    import json

    from critpoints.study.records import plain

    text = json.dumps(plain(graph.to_dict()), indent=2, allow_nan=False)
    (folder / "merge_tree.json").write_text(text, encoding="utf-8")
    (folder / "merge_tree.graphml").write_text(graph.tree.to_graphml(), encoding="utf-8")


def _document(
    plan: SearchPlan,
    census: SaddleCensus,
    kinds: list[str],
    known: Known,
    predicted: list[int | None],
    graph: SaddleGraph | None,
) -> dict[str, Any]:
    entries = []
    for entry in census.entries:
        starts = dict(Counter(kinds[row] for row in entry.rows))
        entries.append(entry.to_dict() | {"starts": starts})
    lines = [each.to_dict() | {"entry": found} for each, found in zip(known.predicted, predicted, strict=True)]
    return {
        "width": plan.width,
        "plan": plan.__dict__,
        "searches": census.total,
        "ends": census.ends,
        "entries": entries,
        "predicted": lines,
        "tree": None if graph is None else graph.to_dict(),
    }


def _save_figures(census: SaddleCensus, found: Any, graph: SaddleGraph | None, width: int, folder: Path) -> None:
    from critpoints.plots.merge_tree import disconnectivity_graph, index_against_loss

    from .figures import save_figure

    proven = [entry for entry in census.entries if entry.certificate is not None]
    flat = [row for row, status in enumerate(found.status) if status.name == "GRADIENT_FLAT"]
    if proven or flat:
        figure = index_against_loss(
            [entry.verdict.loss for entry in proven],
            [entry.verdict.index for entry in proven],
            [entry.origin for entry in proven],
            flat_loss=found.loss[flat].tolist(),
            flat_index=found.index[flat].tolist(),
            title=f"width {width}: {len(proven)} proven critical points",
        )
        save_figure(figure, folder, f"index_against_loss-width-{width}")
    if graph is not None:
        title = f"width {width}: {len(graph.tree.leaves)} minima and channels, {len(graph.tree.merges)} joins"
        save_figure(disconnectivity_graph(graph.tree, title=title), folder, f"merge_tree-width-{width}")


def _print(
    width: int, census: SaddleCensus, kinds: list[str], document: dict[str, Any], graph: SaddleGraph | None
) -> None:
    rows = [_cells(entry, kinds) for entry in sorted(census.saddles, key=lambda e: (e.verdict.index, e.verdict.loss))]
    title = f"width {width}: {len(rows)} distinct saddles from {census.total} searches"
    header = ("index", "level", "loss", "origin", "of width", "lowest eigenvalues", "searches", "from", "proof")
    print_table(title, header, rows[:MAX_ROWS], texts=(3, 5, 7, 8))
    if len(rows) > MAX_ROWS:
        print(f"and {len(rows) - MAX_ROWS} more, which --json lists")
    ends = [(name.replace("_", " "), str(count)) for name, count in sorted(census.ends.items(), key=lambda i: -i[1])]
    print_table("how the searches ended", ("end", "searches"), ends)
    lines = document["predicted"]
    if lines:
        found = sum(line["entry"] is not None for line in lines)
        print(f"saddles predicted on saddle lines from width {width - 1}: {len(lines)}, found {found}")
    if graph is not None:
        tree = graph.tree
        print(
            f"merge tree: {len(tree.leaves)} leaves, {len(tree.merges)} joins, {len(tree.loops)} loops,"
            f" {len(tree.roots)} trees"
        )
        for reason, numbers in graph.left_out.items():
            print(f"left out, {reason}: {len(numbers)} saddles")


def _cells(entry: CriticalEntry, kinds: list[str]) -> tuple[str, ...]:
    verdict = entry.verdict
    values = ", ".join(f"{value:.1e}" for value in verdict.eigenvalues[:SHOWN_EIGENVALUES].tolist())
    starts = Counter(kinds[row] for row in entry.rows)
    return (
        str(verdict.index),
        "-" if verdict.level is None else str(verdict.level),
        number(verdict.loss, 7),
        entry.origin,
        str(len(entry.copies)) if entry.copies else "-",
        values,
        str(entry.count),
        ", ".join(f"{kind} {count}" for kind, count in starts.most_common()),
        "yes" if entry.certificate is not None else "no",
    )
