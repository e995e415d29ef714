"""The trajectories that the reader zooms, filters and smooths: what they hold, and that they answer in a browser."""

from __future__ import annotations

import csv
import html
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrscale.report import ReportContext, make_cards
from lrscale.report.explorer import FEWEST_BINS, explorer_data
from lrscale.store import Trajectory

from .test_page import Pages


def runs_of(context: ReportContext) -> list[dict[str, Any]]:
    card = next(card for card in make_cards(context) if card.key == "trajectories")
    assert card.runs is not None
    return list(card.runs["runs"])


def test_every_run_is_there_with_its_extremes_and_every_validation(
    context_of: Callable[[str], ReportContext],
) -> None:
    context = context_of("complete")
    runs = runs_of(context)
    compared = [trial for trial in context.trials if trial.spec.schedule.name != "ramp" and trial.spec.layout is None]
    assert len(runs) == len([trial for trial in compared if len(context.trajectory(trial.trial_id))])
    for run in runs:
        trial_id = dict(run["said"])["trial"]
        trajectory = context.trajectory(trial_id)
        steps, losses = trajectory.points("train_loss")
        shown = run["train"]
        assert shown["step"][-1] == steps[-1]
        assert max(shown.get("hi", shown["mean"])) == pytest.approx(losses.max(), rel=1e-3)
        assert min(shown.get("lo", shown["mean"])) == pytest.approx(losses.min(), rel=1e-3)
        at, values = trajectory.points("val_loss")
        assert run["val"]["step"] == at.astype(int).tolist()
        assert run["val"]["mean"] == pytest.approx(values.tolist(), rel=1e-3)


def test_a_spike_of_one_step_in_two_thousand_is_in_its_bin(context_of: Callable[[str], ReportContext]) -> None:
    context = context_of("complete")
    trial = next(trial for trial in context.trials if trial.record.status == "completed")
    losses = np.linspace(2.0, 1.0, 2000)
    losses[1234] = 9.0
    steps = np.arange(1.0, 2001.0)
    nan = np.full(2000, np.nan)
    columns = {"step": steps, "examples": 32 * steps, "seconds": steps / 100, "train_loss": losses, "val_loss": nan}
    context._trajectories[trial.trial_id] = Trajectory(columns)
    # As many trials as leave each the fewest bins.
    found = explorer_data(context, [trial] * 5_000, None)
    assert found is not None
    line = found["runs"][0]["train"]
    assert len(line["mean"]) == FEWEST_BINS
    assert max(line["hi"]) == 9.0
    (bin_of_it,) = [place for place, high in enumerate(line["hi"]) if high == 9.0]
    assert line["step"][bin_of_it - 1] < 1235 <= line["step"][bin_of_it]
    assert found["runs"][0]["val"] is None
    del context._trajectories[trial.trial_id]


def test_the_data_stand_in_one_attribute_whatever_names_are_called(page_of: Pages) -> None:
    page = page_of("hostile names")
    held = page.split('data-runs="')[1].split('"')[0]
    runs = json.loads(html.unescape(held))["runs"]
    assert runs
    assert "<" not in held and held.isascii()


@pytest.fixture(scope="module")
def shown(
    browser_path: str, page_of: Pages, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, list[str]]]:
    from playwright.sync_api import sync_playwright

    path = tmp_path_factory.mktemp("explorer") / "report.html"
    path.write_text(page_of("complete"), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.as_uri(), wait_until="load")
        yield page, said
        browser.close()


@pytest.mark.browser
def test_the_reader_filters_smooths_zooms_and_asks_for_a_setting(
    shown: tuple[Any, list[str]], context_of: Callable[[str], ReportContext]
) -> None:
    page, said = shown
    runs = runs_of(context_of("complete"))
    near, canvas = page.locator(".explorer .near"), page.locator(".explorer canvas")
    assert near.inner_text().startswith(f"{len(runs)} of {len(runs)} trials")

    def select(label: str, value: str) -> None:
        page.locator(".explorer label", has_text=label).locator("select").first.select_option(value)

    select("batch", "32")
    of_32 = [run for run in runs if run["batch"] == 32]
    assert near.inner_text().startswith(f"{len(of_32)} of {len(runs)} trials")
    # By the keyboard to the first run of the lowest LR, and its setting.
    canvas.focus()
    page.keyboard.press("ArrowRight")
    lowest = min(of_32, key=lambda run: (run["lr"], run["batch"], run["seed"]))
    assert f"seed {lowest['seed']}" in near.inner_text() and "batch 32" in near.inner_text()
    page.keyboard.press("Enter")
    assert dict(lowest["said"])["trial"] in page.locator(".explorer .setting").inner_text()
    page.keyboard.press("Escape")
    assert page.locator(".explorer .setting").is_hidden()

    lag = page.locator(".explorer .lag")
    slider = page.locator(".explorer input[type=range]")
    slider.fill("0.2")
    assert "half of them later than the point" in lag.inner_text()
    slider.fill("0")
    assert "half of them" not in lag.inner_text()
    select("Show", "val")
    assert lag.inner_text() == "Validation losses are not smoothed."
    select("Show", "train")

    before = page.evaluate("document.querySelector('.explorer canvas').toDataURL()")
    place = canvas.bounding_box()
    page.mouse.move(place["x"] + 200, place["y"] + 60)
    page.mouse.down()
    page.mouse.move(place["x"] + 500, place["y"] + 200)
    page.mouse.up()
    zoomed = page.evaluate("document.querySelector('.explorer canvas').toDataURL()")
    assert zoomed != before
    page.mouse.move(5, 5)
    page.locator(".explorer button", has_text="Whole range").click()
    page.mouse.move(5, 5)
    assert page.evaluate("document.querySelector('.explorer canvas').toDataURL()") == before
    for against in ("examples", "seconds", "step"):
        select("against", against)
    for label in ("log axis", "log loss", "log axis", "log loss"):
        page.locator(".explorer label", has_text=label).locator("input").click()
    assert said == []


@pytest.mark.browser
def test_pointing_at_a_line_names_its_trial(
    shown: tuple[Any, list[str]], context_of: Callable[[str], ReportContext]
) -> None:
    page, _ = shown
    canvas, near = page.locator(".explorer canvas"), page.locator(".explorer .near")
    canvas.scroll_into_view_if_needed()
    place = canvas.bounding_box()
    found = set()
    for share in np.linspace(0.05, 0.95, 19):
        page.mouse.move(place["x"] + 0.5 * place["width"], place["y"] + share * place["height"])
        if near.inner_text().startswith("LR "):
            found.add(near.inner_text().split(":")[0])
    assert len(found) >= 2


@pytest.mark.browser
def test_a_table_is_filtered_and_taken_along_with_all_digits(shown: tuple[Any, list[str]]) -> None:
    page, said = shown
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    box = page.locator("#trials .filter input")
    rows = page.locator("#trials-trials-table tbody tr")
    box.fill("diverged")
    assert 0 < page.locator("#trials-trials-table tbody tr:visible").count() < rows.count()
    assert f"of {rows.count()}" in page.locator("#trials .filter output").inner_text()
    box.fill("")
    with page.expect_download() as loading:
        page.locator("#slices .csv").first.click()
    text = Path(loading.value.path()).read_text()
    assert loading.value.suggested_filename == "slices-slices.csv"
    table = list(csv.DictReader(text.splitlines()))
    cells = page.locator("#slices-slices-table tbody tr td:nth-child(2)")
    for place, row in enumerate(table):
        held = cells.nth(place)
        names = {"data-value": "best LR (95 %)", "data-lo": "best LR (95 %) low", "data-hi": "best LR (95 %) high"}
        assert {name: row[column] for name, column in names.items()} == {
            name: held.get_attribute(name) or "" for name in names
        }
    assert said == []
