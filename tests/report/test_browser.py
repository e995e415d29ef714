from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lrscale.report import write_report
from lrscale.store import StudyFolder
from lrscale.testing.synthetic import read_findings

from .conftest import recommendation_for

pytestmark = pytest.mark.browser

WIDTHS = (390, 1280, 1920)


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield running
        finally:
            running.close()


@pytest.fixture(scope="module")
def reports(studies: Callable[[str], StudyFolder]) -> Callable[[str], Path]:
    def report(name: str) -> Path:
        folder = studies(name)
        findings = read_findings(folder)
        return write_report(folder, findings=findings, recommendation=recommendation_for(findings, name))

    return report


def _open(browser: Any, path: Path, *, width: int = 1280, dark: bool = False) -> tuple[Any, list[str], list[str]]:
    page = browser.new_page(
        viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light", accept_downloads=False
    )
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.resolve().as_uri(), wait_until="load")
    return page, said, asked


@pytest.mark.parametrize("variant", ["complete", "hostile names"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_quiet_asks_for_nothing_and_never_overflows(
    browser: Any, reports: Callable[[str], Path], variant: str, width: int, tmp_path: Path
) -> None:
    path = reports(variant)
    page, said, asked = _open(browser, path, width=width)
    page.screenshot(path=tmp_path / f"{width}.png", full_page=True)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    page.close()
    assert said == []
    assert [url for url in asked if url != path.resolve().as_uri()] == []
    assert overflow == 0
    assert (tmp_path / f"{width}.png").stat().st_size > 20_000


def test_the_answer_is_on_the_first_screen_of_a_laptop(browser: Any, reports: Callable[[str], Path]) -> None:
    page, _, _ = _open(browser, reports("complete"))
    box = page.locator("#recommendation .lead").bounding_box()
    page.close()
    assert box["y"] + box["height"] <= 720


def test_the_axis_switch_shows_one_view_at_a_time(browser: Any, reports: Callable[[str], Path]) -> None:
    page, said, _ = _open(browser, reports("complete"))
    figure = page.locator("#trajectories-by-batch")
    assert figure.locator(".view:visible").count() == 1
    assert "steps" in figure.locator(".view:visible").first.inner_html()
    figure.get_by_label("examples", exact=True).check()
    assert figure.locator(".view:visible").get_attribute("data-choice") == "training loss|examples"
    figure.get_by_label("validation loss", exact=True).check()
    figure.get_by_label("time", exact=True).check()
    assert figure.locator(".view:visible").get_attribute("data-choice") == "validation loss|time"
    assert figure.locator(".view:visible").count() == 1
    page.close()
    assert said == []


def test_the_axis_switch_works_from_the_keyboard(browser: Any, reports: Callable[[str], Path]) -> None:
    page, _, _ = _open(browser, reports("complete"))
    figure = page.locator("#trajectories-by-batch")
    figure.get_by_label("steps", exact=True).focus()
    page.keyboard.press("ArrowRight")
    assert figure.locator(".view:visible").get_attribute("data-choice") == "training loss|examples"
    page.close()


def test_raw_values_can_be_hidden(browser: Any, reports: Callable[[str], Path]) -> None:
    page, _, _ = _open(browser, reports("complete"))
    figure = page.locator("#trajectories-by-batch")
    raw = figure.locator(".view:visible .layer-raw").first
    assert raw.is_visible()
    figure.get_by_label("raw values").uncheck()
    assert not raw.is_visible()
    page.close()


def test_the_table_of_trials_sorts_by_number_in_both_directions(browser: Any, reports: Callable[[str], Path]) -> None:
    page, _, _ = _open(browser, reports("complete"))
    page.evaluate("for (const part of document.querySelectorAll('#trials details')) part.open = true")
    table = page.locator("#trials-trials-table")
    head = table.get_by_role("button", name="peak LR")

    def column() -> list[float]:
        values = table.locator("tbody tr td:nth-child(4)").evaluate_all("cells => cells.map(c => c.dataset.value)")
        return [float(value) for value in values]

    head.click()
    assert column() == sorted(column())
    head.click()
    assert column() == sorted(column(), reverse=True)
    assert table.locator("th[aria-sort=descending]").count() == 1
    page.close()


def test_skip_link_is_the_first_stop_and_leads_to_the_answer(browser: Any, reports: Callable[[str], Path]) -> None:
    page, _, _ = _open(browser, reports("complete"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_figures_follow_the_theme(browser: Any, reports: Callable[[str], Path], dark: bool) -> None:
    from lrscale.report.palette import ROLES

    page, _, _ = _open(browser, reports("complete"), dark=dark)
    drawn = page.locator("#slices svg text:not(.halo)").first.evaluate("node => getComputedStyle(node).fill")
    page.close()
    hexa = ROLES["muted"][dark]
    assert drawn == f"rgb({int(hexa[1:3], 16)}, {int(hexa[3:5], 16)}, {int(hexa[5:7], 16)})"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory, studies: Callable[[str], StudyFolder]) -> Path:
    from lrscale.compare import Side, compare_studies
    from lrscale.recipe import Recipe
    from lrscale.recommend import Refusal
    from lrscale.report.comparison import render_comparison
    from lrscale.store import StudyView

    recipe = Recipe.model_validate({"name": "demo", "task": {"model": {"class_path": "shop.Net"}}})
    sides = [
        Side(
            label=name,
            recipe=recipe,
            view=StudyView.of(studies(name)),
            findings=read_findings(studies(name)),
            answer=Refusal(sentence="None.", needs=""),
        )
        for name in ("complete", "no validation")
    ]
    path = tmp_path_factory.mktemp("comparison") / "compare.html"
    path.write_text(render_comparison(compare_studies(*sides)))
    return path


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, studies: Callable[[str], StudyFolder]) -> Path:
    from lrscale.report.index import read_entry, render_index

    path = tmp_path_factory.mktemp("index") / "index.html"
    entries = [read_entry(studies(name).path) for name in ("complete", "all diverged", "hostile names")]
    path.write_text(render_index(entries, path.parent))
    return path


SCANS = [
    *(("complete", width, dark) for width in WIDTHS for dark in (False, True)),
    *((what, *how) for what in ("hostile names", "comparison", "index") for how in ((390, False), (1280, True))),
]


@pytest.mark.parametrize(("what", "width", "dark"), SCANS)
def test_an_accessibility_scan_finds_nothing(
    browser: Any,
    reports: Callable[[str], Path],
    what: str,
    width: int,
    dark: bool,
    request: pytest.FixtureRequest,
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    path = request.getfixturevalue(what) if what in ("comparison", "index") else reports(what)
    page, said, asked = _open(browser, path, width=width, dark=dark)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    # The rules of WCAG 2.2 to level AA, and axe's own best practices.
    found = axe.Axe().run(page).response["violations"]
    page.close()
    assert [(one["id"], one["help"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found] == []
    assert said == []
    assert [url for url in asked if url != path.resolve().as_uri()] == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_figure_is_cut_in_print(browser: Any, reports: Callable[[str], Path], dark: bool) -> None:
    page, _, _ = _open(browser, reports("complete"), width=794, dark=dark)
    page.emulate_media(media="print")
    # A4 at 96 dots per inch is 1,123 high; with margins a page holds less, and a figure that is higher is cut.
    boxes = page.evaluate(
        "[...document.querySelectorAll('figure.plot:not(.many), figure.plot .panel')].map(node => ({"
        "height: node.getBoundingClientRect().height, right: node.getBoundingClientRect().right,"
        "break: getComputedStyle(node).breakInside, shown: node.offsetParent !== null}))"
    )
    ink = page.evaluate("getComputedStyle(document.querySelector('.finding')).color")
    page.close()
    shown = [box for box in boxes if box["shown"]]
    assert len(shown) > 10
    assert {box["break"] for box in shown} <= {"avoid", "avoid-page"}
    assert max(box["height"] for box in shown) < 950
    assert max(box["right"] for box in shown) <= 794
    # Paper is light whatever the screen was.
    assert max(int(part) for part in ink.removeprefix("rgb(").rstrip(")").split(",")) < 60


def test_the_report_prints(browser: Any, reports: Callable[[str], Path], tmp_path: Path) -> None:
    page, said, _ = _open(browser, reports("complete"))
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    page.close()
    assert said == []
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
