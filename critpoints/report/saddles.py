"""The saddles of searches in a report: table, index against loss, disconnectivity graph."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

from critpoints.merge_tree import MergeTree
from critpoints.plots.merge_tree import disconnectivity_graph, index_against_loss_of
from critpoints.report.markup import Markup, element
from critpoints.report.sections import number, percent, table
from critpoints.verdict import Kind

DOTS = 130  # an inch, of the figures


def saddles(documents: Sequence[dict[str, Any]]) -> Markup:
    """The section of the documents of searches (study/saddle_document.py), one part a width; nothing without any."""
    if not documents:
        return Markup("")
    lead = (
        "Searches for critical points of every index, from trajectories, saddle lines and between minima. Each row is"
        " one saddle, or one continuum of them, modulo the symmetries of the network."
    )
    parts = [_of_width(document) for document in sorted(documents, key=lambda document: document["width"])]
    return element(
        "section", element("h2", "Saddles and the merge tree"), element("p", lead, class_="lead"), *parts, id="saddles"
    )


def _of_width(document: dict[str, Any]) -> Markup:
    width, entries = document["width"], document["entries"]
    listed = [each for each in entries if each["verdict"]["kind"] == Kind.STRICT_SADDLE.value]
    listed.sort(key=lambda each: (each["verdict"]["index"], each["verdict"]["loss"]))
    proven = sum(each["certificate"] is not None for each in listed)
    found = sum(line["entry"] is not None for line in document["predicted"])
    notes = [f"{document['searches']:,} searches found {len(listed)} distinct saddles; {proven} have a certificate."]
    if document["predicted"]:
        notes.append(f"Splitting predicts {len(document['predicted'])} parts of saddle lines; {found} were found.")
    columns = ["origin", "parent", "split", "index", "level", "loss", "lowest eigenvalue", "searches", "certified"]
    rows = [_row(each) for each in listed]
    details = element(
        "details",
        element("summary", f"All {len(listed)} saddles of width {width}"),
        table(None, columns, rows, texts=3),
    )
    return element(
        "section",
        element("h3", f"Width {width}"),
        *[element("p", note, class_="note") for note in notes],
        *_figures(document),
        details,
        class_="card",
        data_width=width,
    )


def _row(entry: dict[str, Any]) -> list[Any]:
    verdict, parent = entry["verdict"], entry["parent"]
    where = "–"
    if parent is not None:
        constant = " with a constant" if parent["constant"] else ""
        which = "" if entry["parent_number"] is None else f" {entry['parent_number']}"
        where = f"width {parent['width']}{constant}, {parent['kind'].replace('_', ' ')}{which}"
    return [
        entry["origin"],
        where,
        entry["split_type"] or "–",
        f"{verdict['index']}",
        "–" if verdict["level"] is None else f"{verdict['level']}",
        number(verdict["loss"], 6),
        number(verdict["eigenvalues"][0]),
        f"{entry['count']:,}",
        "yes" if entry["certificate"] is not None else "no",
    ]


def _figures(document: dict[str, Any]) -> list[Markup]:
    width = document["width"]
    figures = []
    if (figure := index_against_loss_of(document, title="")) is not None:
        n_proven = sum(entry["certificate"] is not None for entry in document["entries"])
        words = f"Width {width}: the index of {n_proven} proven critical points against their loss."
        figures.append(_image(figure, words))
    if document["tree"] is not None:
        tree = MergeTree.from_dict(document["tree"]["tree"])
        share = percent(document["tree"]["joined_fraction"])
        words = (
            f"Width {width}: minima and channels joined at proven saddles or plateaus; the area of a marker is the"
            f" fraction of the students that ended there. The largest tree holds {share} of them."
        )
        figures.append(_image(disconnectivity_graph(tree), words))
    return figures


def _image(figure: Any, words: str) -> Markup:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS)
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return element("figure", element("img", src=source, alt=words, class_="picture"), element("figcaption", words))
