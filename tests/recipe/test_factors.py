"""What `experiments.factors` may say, in its short forms and its long one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lrscale.errors import RecipeError
from lrscale.recipe import Recipe, load_recipe, parse_recipe
from lrscale.recipe.factors import Factors
from lrscale.study.variants import variant_recipe

BEGIN = """
name: factors
task:
  model: {class_path: shop.Net, init_args: {width: 64, dropout: 0.1, seed: 1}}
  data: {class_path: shop.Data, init_args: {noise: 0.0, seed: 2}}
  trainer: {precision: 32-true}
experiments:
  scaling: {batch_sizes: [32], horizon: 10k examples}
"""


def asked(factors: str, *overrides: str) -> Recipe:
    return parse_recipe(f"{BEGIN}  factors: {factors}\n", overrides=overrides)


def settings(recipe: Recipe) -> Factors:
    assert recipe.experiments.factors is not None
    return recipe.experiments.factors


def overrides_of(recipe: Recipe) -> dict[str, list[dict[str, Any]]]:
    levels = settings(recipe).levels(recipe.task)
    return {name: [dict(level.overrides) for level in own] for name, own in levels.items()}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("width", "task.model.init_args.width"),
        ("noise", "task.data.init_args.noise"),
        ("precision", "task.trainer.precision"),
        # No argument of the recipe is called that: the model may have it as a default.
        ("depth", "task.model.init_args.depth"),
        ("data.init_args.seed", "task.data.init_args.seed"),
        ("task.model.init_args.seed", "task.model.init_args.seed"),
    ],
)
def test_a_name_finds_the_entry_that_is_called_that(name: str, path: str) -> None:
    assert overrides_of(asked(f"{{{name}: [1, 2]}}")) == {name: [{path: 1}, {path: 2}]}


def test_settings_stand_beside_factors_in_the_short_form() -> None:
    recipe = asked("{width: [64, 128], dropout: [0, 0.2], seeds: 2, margin: 0.01}")
    assert dict(settings(recipe).factors) == {"width": (64, 128), "dropout": (0, 0.2)}
    assert (settings(recipe).seeds, settings(recipe).margin) == (2, 0.01)
    assert Recipe.model_validate(recipe.dump()) == recipe


def test_the_command_line_adds_factors_in_both_spellings() -> None:
    recipe = asked(
        "{width: [64, 128]}",
        "experiments.factors.task.model.init_args.dropout=[0, 0.5]",
        "experiments.factors.seeds=5",
    )
    assert list(settings(recipe).factors) == ["width", "task.model.init_args.dropout"]
    assert settings(recipe).seeds == 5
    digits = load_recipe("digits", overrides=["experiments.factors.width=[64,128,256]"])
    assert [level.value for level in settings(digits).levels(digits.task)["width"]] == [64.0, 128.0, 256.0]


def test_a_value_may_set_several_entries_together() -> None:
    recipe = asked("{width: [{width: 64, heads: 2}, {name: wide, width: 128, heads: 4}]}")
    levels = settings(recipe).levels(recipe.task)["width"]
    assert [level.label for level in levels] == ["width 64, heads 2", "wide"]
    assert [level.value for level in levels] == [64.0, 128.0]
    assert levels[1].overrides == {"task.model.init_args.width": 128, "task.model.init_args.heads": 4}


def test_values_that_are_no_numbers_have_none() -> None:
    recipe = asked("{activation: [relu, gelu], bias: [true, false]}")
    levels = settings(recipe).levels(recipe.task)
    assert [level.value for some in levels.values() for level in some] == [None] * 4


def test_a_width_is_known_by_its_name_or_by_the_user() -> None:
    recipe = asked("{model.init_args.d_model: [64, 128], dropout: [0, 0.1]}")
    assert [settings(recipe).is_width(name) for name in settings(recipe).factors] == [True, False]
    named = asked("{units: [64, 128], width: [8, 16], widths: [units]}")
    assert [settings(named).is_width(name) for name in ("units", "width")] == [True, False]


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ("{width: [64]}", "experiments.factors gives width 1 value; give it two at least"),
        ("{width: 64}", "experiments.factors.factors.width must be a list, not 64"),
        ("{width: [64, 64]}", "experiments.factors names 64 twice; remove one"),
        ("{seed: [1, 2]}", "names seed, which is an entry of task.model.init_args and of task.data.init_args"),
        ("{}", "experiments.factors.factors is missing"),
        ("{seeds: 2}", "experiments.factors.factors is missing"),
        ("{width: [64, 128], widths: [units]}", "names the width 'units', which is none of its factors"),
        ("{width: [64, 128], batch_size: 8192}", "a batch of 8192 makes 1 steps of 10k examples, fewer than 2"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_place(factors: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        asked(factors)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("task", "name", "path"),
    [
        ("{factory: 'shop.net:build'}", "width", "task.overrides.width"),
        ("{factory: 'shop.net:build'}", "trainer.precision", "task.trainer.precision"),
        ("{config: run.yaml}", "width", "task.overrides.model.init_args.width"),
        ("{config: run.yaml, cli: 'shop.main:CLI'}", "model.width", "task.overrides.model.width"),
        ("{config: run.yaml}", "task.data.init_args.share", "task.overrides.data.init_args.share"),
    ],
)
def test_entries_of_a_config_and_arguments_of_a_factory_are_factors(
    tmp_path: Path, task: str, name: str, path: str
) -> None:
    (tmp_path / "run.yaml").write_text("model: {class_path: shop.Net}\n")
    recipe = parse_recipe(
        f"name: x\ntask: {task}\nexperiments:\n  scaling: {{batch_sizes: [32], horizon: 10k examples}}\n"
        f"  factors: {{factors: {{{name}: [1, 2]}}}}\n",
        root=tmp_path,
    )
    factors = recipe.experiments.factors
    assert factors is not None
    (levels,) = factors.levels(recipe.task).values()
    assert [dict(level.overrides) for level in levels] == [{path: 1}, {path: 2}]
    other = variant_recipe(recipe, levels[1].overrides, where="experiments.factors")
    resolved = other.task.resolved(tmp_path)
    for part in path.split(".")[1:]:
        resolved = resolved[part]
    assert resolved == 2
    # Without a factor the task is what it was, and keeps the ids of its trials.
    assert "overrides" not in recipe.task.resolved(tmp_path)


def test_what_every_trial_hands_to_a_factory_is_no_factor() -> None:
    with pytest.raises(RecipeError, match="batch_size, which every trial hands to the factory by itself"):
        parse_recipe(
            "name: x\ntask: {factory: 'shop.net:build'}\nexperiments:\n"
            "  scaling: {batch_sizes: [32], horizon: 10k examples}\n"
            "  factors: {factors: {task.batch_size: [1, 2]}}\n"
        )


def test_overrides_beside_a_model_are_refused() -> None:
    with pytest.raises(RecipeError, match="has overrides beside model"):
        parse_recipe("name: x\ntask: {model: {class_path: shop.Net}, overrides: {width: 2}}\n")


def test_without_a_sweep_batch_and_horizon_are_needed() -> None:
    with pytest.raises(RecipeError, match=r"need factors\.batch_size while scaling is off"):
        parse_recipe("name: x\ntask: {model: {class_path: shop.Net}}\nexperiments:\n  factors: {width: [1, 2]}\n")
