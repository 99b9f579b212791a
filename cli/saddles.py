"""critpoints saddles: search for saddles of every index, count, prove and draw them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import options
from .interruption import Interrupted
from .output import number, print_json, print_table, say

if TYPE_CHECKING:
    from critpoints.landscape.saddle_census import SaddleCensus
    from critpoints.landscape.saddle_graph import SaddleGraph
    from critpoints.study.saddles import Known
    from critpoints.study.store import Store

MAX_ROWS = 60  # of the table; the JSON document has them all


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
@click.option("--tries", type=click.IntRange(0), default=4, show_default=True, help="Distances from saddle lines.")
@click.option("--minima", type=click.IntRange(0), default=12, show_default=True, help="Minima to search between.")
@click.option("--bands", type=click.IntRange(0), default=12, show_default=True, help="Elastic bands between them.")
@click.option("--iterations", type=click.IntRange(1), default=150, show_default=True, help="Of a search at most.")
@click.option("--tree/--no-tree", default=True, help="Follow the saddles of index 1 down, and build the merge tree.")
@click.option(
    "--plateaus",
    type=click.IntRange(0),
    metavar="N",
    help="Ways down from silent neurons on each plateau through saddles; 0 for no plateaus  [default: 24]",
)
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
    plateaus: int | None,
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
    from critpoints.landscape.saddle_graph import DIRECTIONS, join_minima
    from critpoints.landscape.saddle_starts import find_predicted
    from critpoints.objectives.two_layer import TwoLayerObjective
    from critpoints.study.distinct import stored_verdicts
    from critpoints.study.problems import resolve_problem
    from critpoints.study.saddle_document import saddle_document, write_saddles
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
            searched = run_search(folder, problem, known, callback=progress.update)
    except Interrupted:
        say("interrupted; the searches that are done are stored")
        say(f"resume with: {shlex.join(['critpoints', *context.obj])}")
        raise
    with Spinner(quiet=quiet) as spinner:
        census = take_saddle_census(
            problem,
            searched.found,
            max_index=plan.max_index,
            callback=lambda done, total: spinner.update(f"proving distinct points: {done} of {total}"),
        )
    predicted = find_predicted(problem, known.predicted, census)
    graph = None
    if tree and verdicts is not None:
        with Spinner(quiet=quiet) as spinner:
            graph = join_minima(
                problem,
                verdicts,
                census.saddles,
                method=method,
                directions=DIRECTIONS if plateaus is None else plateaus,
                callback=lambda done, total: spinner.update(f"walking down from saddles: {done} of {total}"),
            )
    document = saddle_document(problem, plan, census, searched, known, predicted, graph)
    write_saddles(path, document, census, graph)
    if figures is not None:
        _save_figures(document, graph, figures)
    if as_json:
        print_json(document)
    else:
        _print(document, census, graph)


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


def _save_figures(document: dict[str, Any], graph: SaddleGraph | None, folder: Path) -> None:
    from critpoints.plots.merge_tree import disconnectivity_graph, index_against_loss_of

    from .figures import save_figure

    width = document["width"]
    if (figure := index_against_loss_of(document)) is not None:
        save_figure(figure, folder, f"index_against_loss-width-{width}")
    if graph is not None:
        title = f"width {width}: {len(graph.tree.leaves)} minima and channels, {len(graph.tree.merges)} joins"
        save_figure(disconnectivity_graph(graph.tree, title=title), folder, f"merge_tree-width-{width}")


def _print(document: dict[str, Any], census: SaddleCensus, graph: SaddleGraph | None) -> None:
    width, entries = document["width"], document["entries"]
    listed = [each for each in entries if each["verdict"]["kind"] == "strict_saddle"]
    rows = [_cells(each) for each in sorted(listed, key=lambda e: (e["verdict"]["index"], e["verdict"]["loss"]))]
    title = f"width {width}: {len(rows)} distinct saddles from {census.total} searches"
    header = ("index", "level", "loss", "origin", "from width", "split", "lowest", "searches", "starts", "proof")
    print_table(title, header, rows[:MAX_ROWS], texts=(3, 4, 5, 8, 9))
    if len(rows) > MAX_ROWS:
        print(f"and {len(rows) - MAX_ROWS} more, which --json lists")
    open_ = [each for each in entries if each["certificate"] is None]
    if open_:
        reasons = [
            (str(each["verdict"]["index"]), number(each["verdict"]["loss"], 7), each["origin"], each["proof"])
            for each in open_
        ]
        print_table("critical points that are not proven", ("index", "loss", "origin", "why"), reasons, texts=(2, 3))
    ends = [(name.replace("_", " "), str(count)) for name, count in sorted(census.ends.items(), key=lambda i: -i[1])]
    print_table("how the searches ended", ("end", "searches"), ends)
    lines = document["predicted"]
    if lines:
        found = sum(line["entry"] is not None for line in lines)
        print(f"saddles predicted on saddle lines from width {width - 1}: {len(lines)}, found {found}")
        missed = [line for line in lines if line["entry"] is None]
        cells = [(str(m["source"]), str(m["neuron"]), str(m["inertia"][0]), m["reason"]) for m in missed]
        if cells:
            print_table("predicted and not found", ("minimum", "neuron", "index", "why"), cells, texts=(3,))
    if graph is not None:
        tree = graph.tree
        print(
            f"merge tree: {len(tree.leaves)} leaves, {len(tree.merges)} joins by {len(graph.descents)} saddles of index"
            f" 1 and {len(graph.plateaus)} plateaus, {len(tree.loops)} loops, {len(tree.roots)} trees; the largest"
            f" holds {100 * graph.joined_fraction:.1f} % of the seeds"
        )
        for reason, numbers in graph.left_out.items():
            print(f"left out, {reason}: {len(numbers)} saddles")
        names = [(tree.leaves[leaf].name, number(tree.leaves[leaf].loss, 7)) for leaf in graph.unjoined]
        for name, loss in names:
            print(f"not joined to the largest tree: {name}, loss {loss}")


def _cells(entry: dict[str, Any]) -> tuple[str, ...]:
    verdict, parent = entry["verdict"], entry["parent"]
    return (
        str(verdict["index"]),
        "-" if verdict["level"] is None else str(verdict["level"]),
        number(verdict["loss"], 7),
        entry["origin"],
        "-" if parent is None else _parent(parent, entry["parent_number"]),
        entry["split_type"] or "-",
        f"{verdict['eigenvalues'][0]:.1e}",
        str(entry["count"]),
        ", ".join(f"{kind} {count}" for kind, count in sorted(entry["starts"].items(), key=lambda each: -each[1])),
        "yes" if entry["certificate"] is not None else "no",
    )


def _parent(parent: dict[str, Any], number_: int | None) -> str:
    kind = parent["kind"].replace("_", " ")
    which = f" {number_}" if number_ is not None else f" of index {parent['index']}" if parent["index"] else ""
    constant = " with a constant" if parent["constant"] else ""
    return f"{parent['width']}{constant}: {kind}{which}"
