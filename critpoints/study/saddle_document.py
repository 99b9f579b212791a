"""What a search for saddles found, as one document and as files: for the table, the report and other programs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from critpoints.census import same_modulo_reflection
from critpoints.errors import InvalidData
from critpoints.landscape.saddle_census import SAME_POINT, CriticalEntry, SaddleCensus
from critpoints.landscape.saddle_graph import SaddleGraph
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.study.records import plain
from critpoints.study.saddles import Known, Searched, SearchPlan

DOCUMENT = "saddles.json"
BRIDGE = "bridge"  # a start on a band between leaves that nothing joined


def saddle_document(
    problem: TwoLayerObjective,
    plan: SearchPlan,
    census: SaddleCensus,
    searched: Searched,
    known: Known,
    predicted: list[int | None],
    graph: SaddleGraph | None,
) -> dict[str, Any]:
    """Everything found, JSON-ready: entries with starts and parents, predictions with what became of them, the tree."""
    entries = []
    for entry in census.entries:
        starts = dict(Counter(searched.kinds[row] for row in entry.rows))
        entries.append(entry.to_dict() | {"starts": starts, "parent_number": _number(problem, entry, known)})
    for bridge in graph.bridges if graph is not None else ():
        starts = {BRIDGE: bridge.count}
        entries.append(bridge.to_dict() | {"starts": starts, "parent_number": _number(problem, bridge, known)})
    flat = [row for row, status in enumerate(searched.found.status) if status.name == "GRADIENT_FLAT"]
    return {
        "width": plan.width,
        "plan": plan.__dict__,
        "searches": census.total,
        "ends": census.ends,
        "entries": entries,
        "predicted": [_outcome(problem, plan, census, searched, known, k, e) for k, e in enumerate(predicted)],
        "gradient_flat": {name: getattr(searched.found, name)[flat].tolist() for name in ("loss", "index")},
        "tree": None if graph is None else graph.to_dict(),
    }


def _number(problem: TwoLayerObjective, entry: CriticalEntry, known: Known) -> int | None:
    """Which of the strict minima of the next narrower width its narrower student is; None if it is another point."""
    if entry.small is None or known.narrower.shape[1:] != entry.small.shape or entry.parent is None:
        return None
    small = entry.small
    return next(
        (k for k, each in enumerate(known.narrower) if same_modulo_reflection(problem, small, each, SAME_POINT)), None
    )


def _outcome(
    problem: TwoLayerObjective,
    plan: SearchPlan,
    census: SaddleCensus,
    searched: Searched,
    known: Known,
    number: int,
    entry: int | None,
) -> dict[str, Any]:
    """A prediction, and the entry of the census that it is or why there is none."""
    each = known.predicted[number]
    rows = [row for row, start in searched.lines.items() if start.predicted == number]
    found = set() if entry is None else set(census.entries[entry].rows)
    own = [row for row in rows if row in found]
    result = each.to_dict() | {"loss": float(problem.loss(each.small)), "entry": entry, "searches": len(rows)}
    result |= {"ended_there": len(own), "farthest": max((searched.lines[row].distance for row in own), default=None)}
    reason = ""
    if entry is None and not rows:
        reason = f"index {each.inertia.negative} is above {plan.max_index}, the largest searched for"
        if each.inertia.negative <= plan.max_index:
            reason = "no search was started beside it: --tries 0"
    elif entry is None:
        ends = Counter(searched.found.status[row].name.lower().replace("_", " ") for row in rows)
        reason = "searches beside it ended otherwise: " + ", ".join(f"{name} {n}" for name, n in ends.most_common())
    return result | {"reason": reason}


def write_saddles(folder: Path, document: dict[str, Any], census: SaddleCensus, graph: SaddleGraph | None) -> None:
    """Writes the document, the certificates and the merge tree into the folder of a search."""
    certificates = folder / "certificates"
    certificates.mkdir(parents=True, exist_ok=True)
    names = set()
    bridges = () if graph is None else graph.bridges
    for place, entry in enumerate([*census.entries, *bridges]):
        if entry.certificate is not None:
            name = f"{entry.origin.replace(' ', '-')}-index-{entry.verdict.index}-entry-{place}.json"
            (certificates / name).write_text(entry.certificate.to_json(), encoding="utf-8")
            names.add(name)
    for stale in certificates.glob("*-index-*-entry-*.json"):  # of an earlier census, which numbered otherwise
        if stale.name not in names:
            stale.unlink()
    (folder / DOCUMENT).write_text(_text({"schema": 1} | document), encoding="utf-8")
    if graph is not None:
        (folder / "merge_tree.json").write_text(_text(graph.to_dict()), encoding="utf-8")
        (folder / "merge_tree.graphml").write_text(graph.tree.to_graphml(), encoding="utf-8")


def _text(document: dict[str, Any]) -> str:
    return json.dumps(plain(document), indent=1, allow_nan=False)


def read_saddles(folder: str | Path) -> dict[str, Any]:
    """The document in the folder of a search.

    Raises:
        InvalidData: there is none, or it is damaged.
    """
    path = Path(folder) / DOCUMENT
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidData(f"{path} is no document of a search for saddles: {error}") from error
    if not isinstance(document, dict) or document.get("schema") != 1 or "entries" not in document:
        raise InvalidData(f"{path} is no document of a search for saddles")
    return document
