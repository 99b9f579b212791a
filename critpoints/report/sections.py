"""The sections of a report: tables and figures as HTML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from critpoints.census import CensusEntry
from critpoints.errors import Status
from critpoints.objectives.two_layer import TwoLayerObjective
from critpoints.plots.style import KIND_STYLES
from critpoints.report.contents import Contents, WidthContents, students
from critpoints.report.drawings import Drawer
from critpoints.report.markup import Markup, element, joined
from critpoints.statistics import wilson_interval
from critpoints.verdict import Kind

FREQUENT = 12  # distinct points of a width that are shown before the reader asks for all
LIBRARIES = ("critpoints", "python", "torch", "numba", "numpy")  # whose versions are shown
MAX_BARS = 120  # in the figure of times


def number(value: float | None, digits: int = 3) -> str:
    """A number in few digits, 1.2×10⁻⁵; a dash for none."""
    if value is None:
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits}g}".replace("-", "−")
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPT)}".replace("-", "−") if exponent else mantissa


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def percent(fraction: float) -> str:
    """A fraction in per cent."""
    return f"{100 * fraction:.1f} %"


def kind_label(kind: Kind) -> Markup:
    """A kind's marker and its name."""
    return element("span", marker(kind), KIND_STYLES[kind].label, class_="kind")


def marker(kind: Kind) -> Markup:
    """The marker of a kind, which its name always stands beside."""
    use = Markup(f'<use href="#marker-{kind.value}"/>')
    return element("svg", use, class_=f"marker {kind.value}", viewBox="-1.6 -1.6 3.2 3.2", aria_hidden="true")


def table(caption: str | None, columns: Sequence[str], rows: Iterable[Sequence[Any]], texts: int = 1) -> Markup:
    """A table, in a box of its own that can be scrolled sideways; the first ``texts`` columns hold words."""
    look = ["" if place < texts else "number" for place in range(len(columns))]

    def line(cells: Sequence[Any]) -> Markup:
        first, *rest = cells
        data = [
            element("td", cell, class_=cls or None, data_label=name)
            for cell, cls, name in zip(rest, look[1:], columns[1:], strict=True)
        ]
        return element("tr", element("th", first, scope="row"), *data)

    heads = [element("th", name, scope="col", class_=cls or None) for name, cls in zip(columns, look, strict=True)]
    body = element(
        "table",
        element("caption", caption) if caption else None,
        element("thead", element("tr", *heads)),
        element("tbody", *map(line, rows)),
    )
    return element("div", body, class_="scroll", tabindex="0", role="region", aria_label=caption or columns[0])


def overview(contents: Contents) -> Markup:
    """The numbers that a reader asks for first."""
    points = sum(len(each.points) for each in contents.widths)
    undecided = sum(point["kind"] == Kind.UNDECIDED for each in contents.widths for point in each.points)
    distinct = [len(each.census.entries) for each in contents.widths if each.census is not None]
    certified = sum(len(each.certificates.certified) for each in contents.widths)
    any_certificate = any(each.certificates.rows for each in contents.widths)
    seconds = sum(unit["seconds"] for unit in contents.units)
    tiles = [
        (f"{points:,}", "points"),
        (
            ", ".join(str(each.width) for each in contents.widths) or "–",
            "widths" if len(contents.widths) > 1 else "width",
        ),
        (percent(1 - undecided / points) if points else "–", "decided"),
        (f"{sum(distinct):,}" if distinct else "–", "distinct points"),
        (f"{certified:,}" if any_certificate else "none yet", "certified"),
        (duration(seconds), "computed in"),
    ]
    return element(
        "dl", *[element("div", element("dt", name), element("dd", value)) for value, name in tiles], class_="tiles"
    )


def duration(seconds: float) -> str:
    """A time span for people."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def missing(contents: Contents) -> Markup | None:
    """How many of the points that are wanted are not there, and which of them failed and why."""
    if not contents.missing:
        return None
    text = f"{contents.missing:,} of the points that were asked for are missing."
    if not contents.failures:
        return element("p", text, class_="remark", role="note")
    items = element("ul", *[element("li", str(each)) for each in contents.failures])
    if len(contents.failures) > FREQUENT:
        items = element("details", element("summary", f"What failed, for {len(contents.failures)} reasons"), items)
    return element("div", element("p", text), items, class_="remark", role="note")


def fractions(contents: Contents) -> Markup:
    """The fraction of each kind by width, with its Wilson 95 % interval, one panel a kind."""
    present = [kind for kind in Kind if any(kind in each.summary["kinds"] for each in contents.widths)]
    return element("div", *[_fractions_of(kind, contents.widths) for kind in present], class_="panels")


def _fractions_of(kind: Kind, widths: Sequence[WidthContents]) -> Markup:
    lines = []
    for each in widths:
        found, n = each.summary["kinds"].get(kind.value, {"count": 0}), each.summary["seeds"]
        low, high = (100 * bound for bound in wilson_interval(found["count"], n))
        share = 100 * found["count"] / n
        whisker = element("i", class_="whisker", style=f"left:{low:.2f}%;width:{high - low:.2f}%")
        dot = element("i", class_="dot", style=f"left:{share:.2f}%")
        words = f"width {each.width}: {share:.1f} %, 95 % interval {low:.1f} to {high:.1f} %"
        lines.append(
            element(
                "div",
                element("span", f"width {each.width}", class_="name"),
                element("span", whisker, dot, class_="track", role="img", aria_label=words),
                element("span", element("b", f"{share:.1f} %"), f" {low:.1f}–{high:.1f}", class_="value"),
                class_="line",
                data_width=each.width,
            )
        )
    axis = element("div", *[element("span", f"{k} %") for k in (0, 50, 100)], class_="percents", aria_hidden="true")
    return element(
        "figure",
        element("figcaption", kind_label(kind)),
        *lines,
        axis,
        class_=f"panel {kind.value}",
        data_kind=kind.value,
    )


def kinds(contents: Contents) -> Markup:
    """The table of kinds of each width, with what else the study says about the width."""
    return joined(_kinds_of(each) for each in contents.widths)


def _kinds_of(each: WidthContents) -> Markup:
    found, certified = each.summary, each.certificates.certified
    columns = ["kind", "count", "fraction", "95 % interval", "median loss", "median smallest eigenvalue"]
    rows: list[list[Any]] = []
    for kind, of_kind in found["kinds"].items():
        low, high = of_kind["wilson95"]
        row = [
            kind_label(Kind(kind)),
            f"{of_kind['count']:,}",
            percent(of_kind["fraction"]),
            f"{100 * low:.1f} – {percent(high)}",
            number(of_kind["median_loss"]),
            number(of_kind["median_smallest_eigenvalue"]),
        ]
        if each.certificates.rows:
            row.append(f"{sum(point['seed'] in certified for point in each.points if point['kind'] == kind):,}")
        rows.append(row)
    columns += ["certified"] if each.certificates.rows else []
    messages = {status.name.lower(): status.value for status in Status}
    statuses = [
        [name.replace("_", " "), messages.get(name, ""), f"{count:,}", percent(count / found["seeds"])]
        for name, count in found["statuses"].items()
    ]
    return element(
        "section",
        table(f"Width {each.width}: {found['seeds']:,} seeds", columns, rows),
        element("p", _thresholds(found["loss_thresholds"]), class_="note"),
        element("p", _negative(found["negative_raw_eigenvalues"]), class_="note"),
        element(
            "details",
            element("summary", "Why refinement stopped"),
            table(None, ["status", "reason", "count", "fraction"], statuses, texts=2),
        ),
        class_="card",
        data_width=each.width,
    )


def _thresholds(found: dict[str, dict[str, int]]) -> str:
    parts = [
        f"{each['below']:,} (loss below {number(float(name), 1)}; {each['global']:,} are)"
        for name, each in found.items()
    ]
    return f"Points that a loss threshold would call global minima: {', '.join(parts)}."


def _negative(found: dict[str, int]) -> str:
    causes = ", ".join(f"{count:,} {name}" for name, count in found.items() if name != "negative")
    return f"Of {found['negative']:,} negative smallest eigenvalues after training: {causes}."


def census(contents: Contents) -> tuple[Markup, Markup]:
    """The distinct points of each width with their drawings, and the definitions that the drawings use."""
    problem, parts, definitions = contents.problem, [], []
    for each in contents.widths:
        if each.census is None or not each.census.entries or not isinstance(problem, TwoLayerObjective):
            continue
        drawer = Drawer(problem, f"plane-{each.width}", students(each))
        definitions.append(drawer.definitions)
        parts.append(_census_of(each, drawer))
    if not parts:
        parts.append(element("p", "No distinct points to show.", class_="note"))
    return joined(parts), joined(definitions)


def _census_of(each: WidthContents, drawer: Drawer) -> Markup:
    assert each.census is not None
    entries = each.census.entries
    by_count = sorted(range(len(entries)), key=lambda i: -entries[i].count)
    rank = {number: place for place, number in enumerate(by_count)}
    cards = [_entry(each, number, entry, drawer, rank[number] >= FREQUENT) for number, entry in enumerate(entries)]
    more = len(entries) - FREQUENT
    return element(
        "section",
        element("h3", f"Width {each.width}: {len(entries)} distinct end points"),
        element("div", *cards, class_="cards"),
        element("button", f"Show the {more} less frequent ones", type="button", class_="more") if more > 0 else None,
        class_="census",
        data_width=each.width,
    )


def _entry(each: WidthContents, number_: int, entry: CensusEntry, drawer: Drawer, rare: bool) -> Markup:
    label = KIND_STYLES[entry.kind].label
    low, high = entry.wilson95
    index = f", index {entry.index}" if entry.kind.value.endswith("saddle") else ""
    level = f", level {entry.level}" if entry.level is not None else ""
    certified = sum(seed in each.certificates.certified for seed in entry.rows)
    facts = [
        ("loss", number(entry.loss, 6)),
        ("smallest eigenvalue", number(entry.smallest_eigenvalue)),
        ("seeds", f"{entry.count:,} ({100 * low:.1f}–{percent(high)})"),
        ("one of them", f"{entry.rows[0]}"),
    ]
    if each.certificates.rows:
        facts.append(("certified", f"{certified:,} of {entry.count:,}"))
    return element(
        "article",
        drawer.draw(entry.representative, f"width {each.width}, {label}"),
        element("h4", kind_label(entry.kind), index + level),
        element("p", entry.type, class_="type"),
        element("dl", *_pairs(facts)),
        element("button", "Show in the plot", type="button", class_="show", data_entry=number_),
        class_="entry rare" if rare else "entry",
        id=f"point-{each.width}-{number_}",
        data_kind=entry.kind.value,
    )


def timing(contents: Contents) -> Markup:
    """How long the units and the certificates took, and on what."""
    rows = []
    for each in contents.widths:
        units = [unit for unit in contents.units if unit["width"] == each.width]
        seconds, points = sum(unit["seconds"] for unit in units), sum(unit["points"] for unit in units)
        proofs = [row["seconds"] for row in each.certificates.rows.values()]
        rows.append(
            [
                str(each.width),
                f"{len(units):,}",
                f"{points:,}",
                duration(seconds),
                f"{1000 * seconds / points:.0f} ms" if points else "–",
                duration(sum(proofs)) if proofs else "–",
            ]
        )
    columns = ["width", "units", "points", "time", "a point", "certificates"]
    machines = dict.fromkeys(_machine(unit["environment"]) for unit in contents.units)
    return joined(
        (
            _unit_times(contents.units),
            table("Time by width", columns, rows),
            *(element("p", f"Computed on {machine}", class_="note") for machine in machines if machine),
        )
    )


def _unit_times(units: Sequence[dict[str, Any]]) -> Markup | None:
    """Bars of milliseconds a point, unit by unit in the order of the commits; means of several where there are many."""
    timed = [unit for unit in units if unit["points"]]
    if len(timed) < 2:
        return None
    size = -(-len(timed) // MAX_BARS)
    groups = [timed[i : i + size] for i in range(0, len(timed), size)]
    means = [1000 * sum(u["seconds"] for u in group) / sum(u["points"] for u in group) for group in groups]
    top = max(means) or 1.0
    bars = [
        element(
            "i",
            style=f"height:{100 * mean / top:.1f}%",
            title=f"width {group[0]['width']}: {mean:.0f} ms a point",
            data_width=group[0]["width"],
        )
        for mean, group in zip(means, groups, strict=True)
    ]
    span = f"from {min(means):.0f} to {top:.0f}"
    words = f"Milliseconds a point in {len(timed)} units, in the order they were stored: {span}."
    return element(
        "figure",
        element("span", f"{top:.0f} ms", class_="top", aria_hidden="true"),
        element("div", *bars, class_="bars", role="img", aria_label=words),
        element("figcaption", words, " One bar ", "a unit." if size == 1 else f"for {size} units."),
    )


def _machine(environment: str) -> str:
    known = json.loads(environment)
    names = known.get("versions", {})
    versions = [
        f"{name} {names[name]}" for name in ("critpoints", "python", "torch", "numba", "numpy") if name in names
    ]
    return ", ".join(text for text in (known.get("cpu", ""), known.get("system", ""), *versions) if text)


def specification(contents: Contents) -> Markup:
    """What was asked for."""
    spec = {name: value for name, value in contents.spec.to_dict().items() if value is not None}
    pairs = [(name.replace("_", " "), str(value)) for name, value in spec.items()]
    return element("dl", *_pairs([*pairs, ("hash", contents.spec.hash)]), class_="facts")


def _pairs(pairs: Iterable[tuple[str, str]]) -> list[Markup]:
    """Terms and what they are, for a list of descriptions."""
    return [joined((element("dt", name), element("dd", value))) for name, value in pairs]
