"""The report in a real browser: it loads without complaint, and pointing, choosing and filtering work."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import CHROMIUM, Browser
from study_cases import point_row, verdict_row

from critpoints.report.page import write_report
from critpoints.study.distinct import study_census
from critpoints.study.problems import resolve_problem
from critpoints.study.records import to_json
from critpoints.study.spec import StudySpec
from critpoints.study.store import Store

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

SIZES = {"desktop": (1280, 900, False), "phone": (390, 844, True)}
CANVAS = "document.querySelector('#canvas')"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    """The report at desktop size, in light colours, the plot in view."""
    browser.resize(1280, 900)
    browser.prefer("light")
    browser.open(page)
    browser.evaluate(f"{CANVAS}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    browser.settle()
    return browser


def text_of(browser: Browser, selector: str) -> str:
    return browser.evaluate(f"document.querySelector({selector!r}).innerText")


def chosen(browser: Browser) -> tuple[int, int, float]:
    """Width, seed and loss in the panel of the chosen point."""
    text = text_of(browser, "#details")
    found = re.search(r"Width (\d+), seed (\d+)", text)
    loss = re.search(r"\bloss\s+([\d.]+)(?:×10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?", text)
    assert found and loss, text
    exponent = (loss[2] or "⁰").translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    return int(found[1]), int(found[2]), float(f"{loss[1]}e{exponent}")


def losses(study: Path) -> dict[tuple[int, int], float]:
    with Store.open(study) as store:
        return {(width, row["seed"]): row["loss"] for width in store.widths() for row in store.points(width)}


SWEEP = """
(() => {
  const canvas = document.querySelector('#canvas'), tip = document.querySelector('#tip');
  const box = canvas.getBoundingClientRect(), found = {};
  for (let x = box.left + 76; x < box.right - 10; x += 9) {
    for (let y = box.top + 20; y < box.bottom - 48; y += 9) {
      canvas.dispatchEvent(new PointerEvent('pointermove', { clientX: x, clientY: y, pointerType: 'mouse' }));
      if (!tip.hidden) found[tip.innerText] ??= [x, y];
    }
  }
  canvas.dispatchEvent(new PointerEvent('pointerleave'));
  return Object.entries(found);
})()
"""


def markers(browser: Browser) -> list[tuple[str, list[float]]]:
    """What tips there are in the plot, each with a place in the window where it shows."""
    return browser.evaluate(SWEEP)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_loads_without_complaint_and_fits(browser: Browser, page: Path, size: str, scheme: str, tmp_path) -> None:
    width, height, mobile = SIZES[size]
    browser.resize(width, height, mobile=mobile)
    browser.prefer(scheme)
    browser.open(page)
    assert browser.complaints() == []
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    ground = browser.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert brightness > 230 if scheme == "light" else brightness < 40
    drawn = browser.evaluate(
        f"(c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size)({CANVAS})"
    )
    assert drawn > 20  # something is on the canvas


def test_everything_that_is_drawn_has_a_name(opened: Browser) -> None:
    opened.call("Accessibility.enable")
    nodes = [node for node in opened.call("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]
    roles = {"image", "img", "application", "button", "checkbox", "table", "region"}
    nameless = [n["role"]["value"] for n in nodes if n["role"]["value"] in roles and not n.get("name", {}).get("value")]
    named = [n["name"]["value"] for n in nodes if n["role"]["value"] in ("image", "img", "application")]
    opened.call("Accessibility.disable")
    assert nameless == []
    assert any(name.startswith("Loss against smallest eigenvalue: ") for name in named)
    assert sum(name.startswith("width 2, ") and "output weight" in name for name in named) >= 1


def test_pointing_shows_and_clicking_chooses_a_point(opened: Browser, study: Path) -> None:
    expected, seen = losses(study), set()
    places = markers(opened)
    assert len(places) >= 2
    for tip, (x, y) in places:
        opened.move(x, y)
        assert text_of(opened, "#tip") == tip
        opened.click(x, y)
        width, seed, loss = chosen(opened)
        assert loss == pytest.approx(expected[width, seed], rel=1e-5)
        seen.add((width, seed))
    assert len(seen) >= 2
    opened.move(1, 1)
    assert opened.evaluate("document.querySelector('#tip').hidden")


def test_the_keyboard_walks_and_steps(opened: Browser, study: Path) -> None:
    expected = losses(study)
    opened.evaluate(f"{CANVAS}.focus()")
    seen = {chosen(opened)[:2]}
    for key in ["ArrowRight", "ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "PageDown", "PageDown", "PageUp"]:
        opened.press(key)
        width, seed, loss = chosen(opened)
        assert loss == pytest.approx(expected[width, seed], rel=1e-5)
        assert f"width {width}, seed {seed}" in opened.evaluate("document.querySelector('#announcement').textContent")
        seen.add((width, seed))
    assert len(seen) >= 2
    opened.press("Escape")
    assert "No point is chosen" in text_of(opened, "#details")


def test_filters_hide_everywhere_what_they_leave_out(opened: Browser) -> None:
    def visible(selector: str) -> int:
        return opened.evaluate(f"[...document.querySelectorAll({selector!r})].filter(e => e.offsetParent).length")

    assert text_of(opened, "#shown") == "12 of 12 points"
    assert visible(".census [data-kind]") and visible("#kinds [data-width='1']") == 1
    opened.evaluate("document.querySelector('input[name=width][value=\"1\"]').click()")
    assert text_of(opened, "#shown") == "6 of 12 points"
    assert visible("[data-width='1']") == 0 and visible("#kinds [data-width='2']") == 1
    opened.evaluate("document.querySelector('figure details').open = true")
    rows = opened.evaluate(
        "[...document.querySelectorAll('#plot-table tbody tr')].map(tr => [...tr.children].map(c => c.innerText))"
    )
    assert rows and all(row[1] == "2" for row in rows) and sum(int(row[2]) for row in rows) == 6
    assert len({row[0] for row in rows}) >= 2
    opened.evaluate("document.querySelector('input[name=kind][value=strict_saddle]').click()")
    left = 6 - next(int(row[2]) for row in rows if row[0] == "strict saddle")
    assert text_of(opened, "#shown") == f"{left} of 12 points"
    assert visible("[data-kind=strict_saddle]") == 0 and visible("[data-kind=strict_minimum]") > 0
    assert markers(opened) and all("strict saddle" not in tip for tip, _ in markers(opened))
    opened.evaluate("document.querySelectorAll('input[name=kind]:checked').forEach(input => input.click())")
    assert text_of(opened, "#shown") == "0 of 12 points"
    assert visible(".census [data-kind]") == 0 and markers(opened) == []
    opened.evaluate("document.querySelectorAll('#filters input').forEach(input => input.checked || input.click())")
    assert text_of(opened, "#shown") == "12 of 12 points"


def test_a_distinct_point_shows_its_seeds_in_the_plot(opened: Browser, study: Path) -> None:
    with Store.open(study) as store:
        entries = study_census(store, resolve_problem(store.spec), 2).entries
    for number, entry in enumerate(entries):
        opened.evaluate(f"document.querySelector('#point-2-{number} .show').click()")
        width, seed, _ = chosen(opened)
        assert (width, seed) == (2, entry.rows[0])
        if entry.count > 1:
            assert f"1 of {entry.count} chosen" in text_of(opened, "#details")
    assert opened.evaluate("document.activeElement.id") == "canvas"


def test_the_button_turns_light_and_dark(opened: Browser) -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = opened.evaluate(ground)
    assert text_of(opened, "#theme") == "Dark"
    opened.evaluate("document.querySelector('#theme').click()")
    assert opened.evaluate(ground) != light and text_of(opened, "#theme") == "Light"
    opened.evaluate("document.querySelector('#theme').click()")
    assert opened.evaluate(ground) == light
    opened.evaluate("try { localStorage.clear() } catch {}")


def test_it_prints_on_paper_without_controls(opened: Browser) -> None:
    opened.prefer("dark", media="print")
    assert opened.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.evaluate("document.querySelector('#filters').offsetParent === null")
    document = base64.b64decode(opened.call("Page.printToPDF", printBackground=False)["data"])
    opened.prefer("light")
    assert document.startswith(b"%PDF") and 2 <= document.count(b"/Type /Page\n") <= 12
    assert opened.complaints() == []


def test_text_of_others_does_not_run(browser: Browser, tmp_path: Path) -> None:
    attack = '</script></title></svg><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    path = tmp_path / "<i>study.db"
    verdict = verdict_row(0) | {"evidence": to_json({"figures": {}, "reason": attack, "standard": "numerical"})}
    unit = {"width": 2, "block": 0, "environment": to_json({"cpu": attack, "versions": {}}), "seconds": 1.0}
    with Store.create(path, StudySpec(problem=f"{attack}:f", activation=None)) as store:
        store.commit(unit, [point_row(0)], [verdict])
        write_report(store, tmp_path / "report.html")
    browser.resize(1280, 900)
    browser.open(tmp_path / "report.html")
    assert browser.evaluate("typeof window.hacked") == "undefined" and browser.complaints() == []
    assert browser.evaluate("document.images.length") == 0
    assert attack in text_of(browser, "#details") and text_of(browser, "h1") == "<i>study.db"


def test_an_empty_report_loads(browser: Browser, tmp_path: Path) -> None:
    with Store.create(tmp_path / "study.db", StudySpec()) as store:
        write_report(store, tmp_path / "report.html")
    browser.open(tmp_path / "report.html")
    assert browser.complaints() == []
    assert "no points yet" in text_of(browser, "main")
