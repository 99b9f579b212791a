"""The report without a browser: what is on the page is what is in the study, and nothing else."""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from study_cases import QUICK, edit, invented_study, point_row, verdict_row

from critpoints.census import CensusEntry
from critpoints.errors import InvalidArgument
from critpoints.objectives.teacher_student import TeacherStudent
from critpoints.report import points as points_module
from critpoints.report.contents import read_contents
from critpoints.report.drawings import Drawer
from critpoints.report.page import write_report
from critpoints.report.points import points_document
from critpoints.study.distinct import study_census
from critpoints.study.problems import resolve_problem
from critpoints.study.records import to_json
from critpoints.study.spec import StudySpec
from critpoints.study.store import Store

ATTACK = '</script></title></svg><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'


class Elements(HTMLParser):
    """The elements of a page, and the text in each of a kind."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts.setdefault(tag, []).append(data)

    def all(self, tag: str, class_: str = "") -> Iterator[dict]:
        return (
            each
            for name, each in self.found
            if name == tag and (not class_ or class_ in (each.get("class") or "").split())
        )


def report_on(path: Path) -> str:
    with Store.open(path) as store:
        write_report(store, path.with_suffix(".html"))
    return path.with_suffix(".html").read_text(encoding="utf-8")


def data_of(text: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1], parse_constant=pytest.fail)


def decoded(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=dtype)


def rows_of(path: Path) -> list[dict]:
    with Store.open(path) as store:
        return [point for width in store.widths() for point in store.points(width)]


def test_nothing_is_fetched(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    elements = Elements(text)
    for _, attributes in elements.found:
        for name in ("src", "href", "action", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:")), attributes
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\(", text)
    assert not any(True for tag in ("link",) for each in elements.all(tag) if each.get("href") != "data:,")
    assert "default-src 'none'" in text


def test_the_points_are_those_of_the_study(study: Path, page: Path) -> None:
    data, rows = data_of(page.read_text(encoding="utf-8")), rows_of(study)
    assert (data["widths"], data["counts"]) == ([1, 2], [6, 6])
    assert decoded(data["seed"], "<i8").tolist() == [row["seed"] for row in rows]
    assert decoded(data["loss"], "<f8").tolist() == [row["loss"] for row in rows]
    assert [data["kinds"][k] for k in decoded(data["kind"], "u1")] == [row["kind"] for row in rows]
    spectra = [decoded(each["values"], "<f4").reshape(6, -1) for each in data["spectra"]]
    for place, width in enumerate((1, 2)):
        expected = np.stack([row["eigenvalues"] for row in rows if row["width"] == width])
        np.testing.assert_allclose(spectra[place], expected, rtol=1e-6)
    reasons = [data["texts"][k] for k in decoded(data["reason"], "<i4")]
    assert reasons == [json.loads(row["evidence"])["reason"] for row in rows]


def test_places_rise_with_loss_and_eigenvalue(page: Path, study: Path) -> None:
    data, rows = data_of(page.read_text(encoding="utf-8")), rows_of(study)
    for place, column in (("x", "loss"), ("y", "smallest_eigenvalue")):
        places = decoded(data[place], "<f4")
        assert np.all((places > 0) & (places < 1))
        order = np.argsort([row[column] for row in rows], kind="stable")
        assert np.all(np.diff(places[order]) >= -1e-6), column
    zero = next(at for at, sign, _ in data["eigenvalue_axis"]["ticks"] if sign == 0)
    signs = np.sign([row["smallest_eigenvalue"] for row in rows])
    assert np.all(np.sign(decoded(data["y"], "<f4") - np.float32(zero)) * signs >= 0)


def test_ticks_stand_where_their_numbers_are(page: Path, study: Path) -> None:
    """Between two ticks of the loss axis, places are linear in the logarithm: each point is found again."""
    data, rows = data_of(page.read_text(encoding="utf-8")), rows_of(study)
    (x0, *t0), (x1, *t1) = data["loss_axis"]["ticks"][0], data["loss_axis"]["ticks"][-1]
    logs = [np.log10(factor) + exponent for factor, exponent in (t0, t1)]
    losses = np.array([row["loss"] for row in rows])
    read = logs[0] + (decoded(data["x"], "<f4") - x0) / (x1 - x0) * (logs[1] - logs[0])
    np.testing.assert_allclose(read[losses > 1e-16], np.log10(losses[losses > 1e-16]), atol=1e-4)


def test_each_point_names_its_distinct_point(page: Path, study: Path) -> None:
    data = data_of(page.read_text(encoding="utf-8"))
    entries = decoded(data["entry"], "<i4").reshape(2, 6)
    with Store.open(study) as store:
        problem = resolve_problem(store.spec)
        for place, width in enumerate((1, 2)):
            counted: list[CensusEntry] = list(study_census(store, problem, width).entries)
            for seed in range(6):
                number = int(entries[place, seed])
                assert [seed in entry.rows for entry in counted].count(True) == (number >= 0)
                assert number < 0 or seed in counted[number].rows


def test_every_distinct_point_is_drawn_with_all_its_neurons(page: Path, study: Path) -> None:
    text = page.read_text(encoding="utf-8")
    drawings = re.findall(r'<svg class="student".*?</svg>', text, re.DOTALL)
    with Store.open(study) as store:
        problem = resolve_problem(store.spec)
        counted = [(width, entry) for width in (1, 2) for entry in study_census(store, problem, width).entries]
    assert len(drawings) == len(counted) > 0
    for drawing, (width, entry) in zip(drawings, counted, strict=True):
        assert drawing.count('class="neuron ') == width
        assert drawing.count("neuron positive") == int((entry.representative[-width:] > 0).sum())
        assert f"<title>width {width}, " in drawing and drawing.count("with output weight") == width


def test_a_neuron_is_drawn_at_its_weights() -> None:
    import torch

    problem = TeacherStudent.grid()
    theta = torch.tensor([1.0, 0.0, 0.0, -0.5, 1.0, -1.0], dtype=torch.float64)
    drawer = Drawer(problem, "p", theta[None])
    places = re.findall(r'neuron (\w+)" transform="translate\(([\d.]+) ([\d.]+)\)', drawer.draw(theta, "t"))
    assert drawer.radius == pytest.approx(1.2)
    expected = {"positive": (100 + 100 / 1.2, 100.0), "negative": (100.0, 100 + 50 / 1.2)}
    assert {sign: (float(x), float(y)) for sign, x, y in places} == {
        sign: pytest.approx(place, abs=0.06) for sign, place in expected.items()
    }


@pytest.mark.parametrize("d", [1, 3])
def test_students_with_another_number_of_inputs_are_drawn_too(d: int) -> None:
    import torch

    problem = TeacherStudent.gaussian(20, d, teacher_width=2)
    theta = torch.linspace(-1, 2, problem.n_parameters(3), dtype=torch.float64)
    drawing = Drawer(problem, "p", theta[None]).draw(theta, "t")
    assert drawing.count('class="neuron ') == 3 * (d + 1) and "nan" not in drawing


def test_the_tables_count_what_the_study_has(page: Path, study: Path) -> None:
    rows = rows_of(study)
    section = (
        page.read_text(encoding="utf-8").partition('<section id="kinds">')[2].partition('<section id="census">')[0]
    )
    cells = re.findall(
        r'<span class="kind">.*?</svg>([^<]*)</span></th><td[^>]*>(\d+)</td><td[^>]*>([\d.]+) %', section
    )
    kinds = Counter((row["width"], row["kind"]) for row in rows)
    assert sorted(int(count) for _, count, _ in cells) == sorted(kinds.values())
    assert all(float(share) == pytest.approx(100 * int(count) / 6, abs=0.06) for _, count, share in cells)


def test_the_intervals_are_wilsons(page: Path, study: Path) -> None:
    labels = re.findall(
        r'aria-label="width (\d): ([\d.]+) %, 95 % interval ([\d.]+) to ([\d.]+) %"', page.read_text("utf-8")
    )
    assert len(labels) >= 2
    for _, share, low, high in labels:
        interval = binomtest(round(float(share) * 6 / 100), 6).proportion_ci(method="wilson")
        assert (float(low), float(high)) == pytest.approx((100 * interval.low, 100 * interval.high), abs=0.06)


def test_certificates_are_named(page: Path, study: Path) -> None:
    data = data_of(page.read_text(encoding="utf-8"))
    numbers = decoded(data["certificate"], "<i4")
    with Store.open(study) as store:
        attached = {row["seed"]: row for row in store.certificates(1)}
    assert attached and (numbers[6:] == -1).all()
    for seed in range(6):
        row = attached.get(seed)
        text = data["texts"][numbers[seed]] if numbers[seed] >= 0 else None
        assert (row is None) == (text is None)
        assert text is None or row is None or (row["sha256"] or row["reason"])[:12] in text


def test_text_of_others_stays_text(tmp_path: Path) -> None:
    path, problem = tmp_path / "a<b>.db", tmp_path / "attack.py"
    problem.write_text("")
    spec = StudySpec(problem=f"{ATTACK}:f", activation=None)
    verdict = verdict_row(0) | {"evidence": to_json({"figures": {}, "reason": ATTACK, "standard": "numerical"})}
    unit = {"width": 2, "block": 0, "environment": to_json({"cpu": ATTACK, "versions": {}}), "seconds": 1.0}
    with Store.create(path, spec) as store:
        store.commit(unit, [point_row(0)], [verdict])
    text = report_on(path)
    elements = Elements(text)
    assert not list(elements.all("img")) and len(list(elements.all("script"))) == 2
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert ATTACK in "".join(elements.texts["p"])  # it is there, as text
    assert ATTACK in data_of(text)["texts"]


def test_numbers_that_are_not_finite_have_no_place(tmp_path: Path) -> None:
    path = invented_study(tmp_path / "study.db")  # every other loss is NaN
    data = data_of(report_on(path))
    assert np.isnan(decoded(data["x"], "<f4")).tolist() == [False, True] * 4
    assert np.isfinite(decoded(data["x"], "<f4")[::2]).all()


def test_a_problem_that_is_gone_costs_only_the_census(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    with Store.create(path, StudySpec(problem="nowhere.py:f", activation=None)) as store:
        store.commit({"width": 2, "block": 0, "environment": "{}", "seconds": 1.0}, [point_row(0)], [verdict_row(0)])
    text = report_on(path)
    assert "no file nowhere.py" in text and 'class="student"' not in text
    assert data_of(text)["counts"] == [1]


def test_an_empty_study_has_an_empty_report(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    with Store.create(path, QUICK):
        pass
    text = report_on(path)
    assert "The study has no points yet." in text and data_of(text) is None


def test_the_page_is_a_function_of_the_study(study: Path, page: Path, tmp_path: Path) -> None:
    with Store.open(study) as store:
        write_report(store, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_large_studies_carry_less_of_each_point(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_module, "MAX_SPECTRA", 12 * 2)
    monkeypatch.setattr(points_module, "MAX_REASONS", 11)
    with Store.open(study) as store:
        data = points_document(read_contents(store))
    assert [(each["kept"], each["total"]) for each in data["spectra"]] == [(2, 3), (2, 6)]
    lowest = np.stack([row["eigenvalues"][:2] for row in rows_of(study) if row["width"] == 2])
    np.testing.assert_allclose(decoded(data["spectra"][1]["values"], "<f4").reshape(6, 2), lowest, rtol=1e-6)
    undecided = [row["kind"] == "undecided" for row in rows_of(study)]
    assert (decoded(data["reason"], "<i4") >= 0).tolist() == undecided


def test_damage_and_misuse_leave_no_page(tmp_path: Path) -> None:
    path = invented_study(tmp_path / "study.db")
    with Store.open(path) as store:
        with pytest.raises(InvalidArgument, match="the study itself"):
            write_report(store, path)
        with pytest.raises(OSError, match="nowhere"):
            write_report(store, tmp_path / "nowhere" / "report.html")
    edit(path, "UPDATE points SET loss = 7 WHERE seed = 2")
    with Store.open(path) as store, pytest.raises(Exception, match="seed 2"):
        write_report(store, tmp_path / "report.html")
    assert [each.name for each in tmp_path.iterdir()] == ["study.db"]
