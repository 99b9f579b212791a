"""The report as one HTML page: style, script and data inside, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from critpoints.errors import InvalidArgument
from critpoints.plots.style import KIND_STYLES
from critpoints.report import sections
from critpoints.report.contents import Contents, read_contents
from critpoints.report.drawings import MARKERS
from critpoints.report.markup import Markup, element, embedded_json, joined
from critpoints.report.points import points_document
from critpoints.report.saddles import saddles as saddle_section
from critpoints.study.memory import collector_paused
from critpoints.study.store import Store
from critpoints.verdict import Kind

# Against a dark ground the colours of KIND_STYLES, lighter where they would sink.
_DARK = {
    Kind.GLOBAL_MINIMUM: "#2FC79A",
    Kind.STRICT_MINIMUM: "#4A9BDC",
    Kind.DEGENERATE_MINIMUM: "#A3DBFA",
    Kind.STRICT_SADDLE: "#F2803A",
    Kind.DEGENERATE_SADDLE: "#F2B53A",
    Kind.STRICT_MAXIMUM: "#F5F5F5",
    Kind.CHANNEL: "#DE97BF",
    Kind.UNDECIDED: "#9C9C9C",
}


def write_report(store: Store, path: str | Path, *, saddles: Sequence[dict[str, Any]] = ()) -> None:
    """Writes the report on a study: one self-contained HTML page, complete or not at all.

    Args:
        saddles: documents of searches for saddles, as ``read_saddles`` gives them.

    Raises:
        InvalidArgument: the path is the study itself.
        StoreError: a row of the study is damaged.
        OSError: the page cannot be written.
    """
    path = Path(path)
    if path.exists() and path.samefile(store.path):
        raise InvalidArgument(f"{path} is the study itself; give another file")
    descriptor, temporary = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    os.close(descriptor)
    try:
        with collector_paused():
            Path(temporary).write_text(render(read_contents(store), saddles), encoding="utf-8")
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def render(contents: Contents, saddles: Sequence[dict[str, Any]] = ()) -> str:
    """The page of a study's contents, and of searches for saddles."""
    census, planes = sections.census(contents)
    script = _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    document = {"markers": {kind.value: MARKERS[style.marker] for kind, style in KIND_STYLES.items()}}
    document["labels"] = {kind.value: style.label for kind, style in KIND_STYLES.items()}
    return Template(_file("page.html")).substitute(
        # injected markup, should any ever get through, could not run: only this script has this hash
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        title=joined([f"{contents.name} – critpoints"]),
        name=joined([contents.name]),
        problem=joined([_subtitle(contents)]),
        style=_file("page.css"),
        colors=_colors(),
        definitions=joined((_markers(), planes)),
        remarks=joined(
            (
                *(element("p", remark, class_="remark", role="note") for remark in contents.remarks),
                sections.missing(contents),
            )
        ),
        overview=sections.overview(contents),
        filters=_filters(contents),
        fractions=sections.fractions(contents),
        kinds=sections.kinds(contents),
        census=census,
        saddles=saddle_section(saddles),
        timing=sections.timing(contents),
        specification=sections.specification(contents),
        data=embedded_json(document | points_document(contents)) if contents.widths else "null",
        script=script,
    )


@cache
def _file(name: str) -> str:
    return files("critpoints.report").joinpath(name).read_text(encoding="utf-8")


def _subtitle(contents: Contents) -> str:
    spec = contents.spec
    activation = f", {spec.activation}" if spec.activation else ""
    training = f"Adam, {spec.steps:,} steps at {spec.lr:g}" if spec.method == "adam" else "gradient flow"
    return f"Problem {spec.problem}{activation}; {training}; refined by {spec.refine}"


def _colors() -> str:
    pairs = ((kind.value, style.color, _DARK.get(kind, style.color)) for kind, style in KIND_STYLES.items())
    return "\n".join(f".{name} {{ --kind: light-dark({light}, {dark}); }}" for name, light, dark in pairs)


def _markers() -> Markup:
    return joined(
        element("path", id=f"marker-{kind.value}", d=MARKERS[style.marker]) for kind, style in KIND_STYLES.items()
    )


def _filters(contents: Contents) -> Markup:
    """A box to tick for each width and each kind that there is."""
    widths = [
        element(
            "label", element("input", type="checkbox", name="width", value=each.width, checked=True), f"{each.width}"
        )
        for each in contents.widths
    ]
    present = [kind for kind in Kind if any(kind in each.summary["kinds"] for each in contents.widths)]
    kinds = [
        element(
            "label",
            element("input", type="checkbox", name="kind", value=kind.value, checked=True),
            sections.kind_label(kind),
        )
        for kind in present
    ]
    return joined(
        (
            element("fieldset", element("legend", "Width"), *widths),
            element("fieldset", element("legend", "Kind"), *kinds),
        )
    )
