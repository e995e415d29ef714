"""The page on schedules names every one of them with all of its settings, and its recipe can be read."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from lrscale.recipe import parse_recipe
from lrscale.recipe.optimizers import OPTIMIZERS
from lrscale.schedules import SCHEDULES

HEAD = "name: page\ntask: {model: {class_path: m.Net}}\n"


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "schedules.md").read_text(encoding="utf-8")


def test_every_schedule_has_a_row_with_its_settings(page: str) -> None:
    first, _, _ = page.partition("## Schedulers of torch")
    rows = {row.split("`")[1]: row.split("|")[3] for row in first.splitlines() if row.startswith("| `")}
    assert list(rows) == list(dict.fromkeys(rows))
    assert set(rows) == set(SCHEDULES)
    for name, row in rows.items():
        for field in dataclasses.fields(SCHEDULES[name]):
            told = re.search(rf"`{field.name}` (\[.*?\](?!\])|[-\w.]+)", row)
            assert told is not None, (name, field.name)
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            shown = told[1]
            if isinstance(default, str):
                assert shown == (default or "none")
            elif isinstance(default, list):
                # Pairs are lists in a recipe.
                assert json.loads(shown) == json.loads(json.dumps(default))
            elif isinstance(default, bool):
                assert shown == str(default).lower()
            else:
                assert float(shown) == default


def test_every_optimizer_has_a_row_with_its_settings(page: str) -> None:
    _, _, rest = page.partition("## Optimizers")
    rows = [row for row in rest.splitlines() if row.startswith("| `")]
    told = " ".join(rows)
    for name, settings in OPTIMIZERS.items():
        (row,) = (row for row in rows if f"`{name}`" in row.split("|")[1])
        for setting, default in settings.items():
            if setting == "weight_decay":
                continue
            shown = str(default).lower() if isinstance(default, bool) else json.dumps(default)
            assert f"`{setting}` {shown}" in row.replace("1e-8", "1e-08"), (name, setting)
    assert "`module`" in told


def test_the_recipes_of_the_page_can_be_read(page: str) -> None:
    head = HEAD + "experiments:\n  scaling: {batch_sizes: [32], horizon: 2k examples}\n"
    blocks = [part.partition("```")[0] for part in page.split("```yaml\n")[1:]]
    assert len(blocks) == 5
    for block in blocks:
        assert parse_recipe(head + block.partition("experiments:\n")[2]).experiments.schedules is not None


def test_the_recipe_of_the_page_can_be_read(page: str) -> None:
    example = page.partition("```yaml\n")[2].partition("```")[0]
    schedules = parse_recipe(
        HEAD + example + "  scaling: {batch_sizes: [32], horizon: 2k examples}\n"
    ).experiments.schedules
    assert schedules is not None
    assert [choice.label for choice in schedules.schedules] == [
        "constant",
        "cosine",
        "wsd (decay=one_minus_sqrt, decay_fraction=0.4)",
    ]
