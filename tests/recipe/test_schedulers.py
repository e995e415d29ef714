"""Schedulers that a recipe names by their class path."""

from __future__ import annotations

import json

import pytest

from lrscale.errors import RecipeError
from lrscale.recipe import Recipe, parse_recipe

BASE = """name: demo
task:
  model: {class_path: shop.Net}
experiments:
  scaling: {batch_sizes: [8], horizon: 1k examples}
"""
STEP = "{class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 30}"


def choices(text: str):
    schedules = parse_recipe(f"{BASE}  schedules: [{text}]\n").experiments.schedules
    assert schedules is not None
    return schedules.schedules


def test_a_class_path_is_a_schedule_with_a_label_of_its_own() -> None:
    found = choices(f"cosine, {STEP}}}, {STEP}, interval: epoch, warmup: 5 %}}, {{class_path: shop.Sawtooth}}")
    assert [choice.label for choice in found] == [
        "cosine",
        "StepLR (step_size=30)",
        "StepLR (step_size=30, each epoch) + 5 % warm-up",
        "Sawtooth",
    ]
    assert found[1].name == "scheduler"


def test_the_default_interval_and_empty_arguments_make_no_other_schedule() -> None:
    short, long = (
        choices(f"{{class_path: shop.Saw}}, {STEP}}}")[0],
        choices("{name: scheduler, settings: {class_path: shop.Saw, init_args: {}, interval: step}}")[0],
    )
    assert short == long


def test_a_dump_reads_back() -> None:
    recipe = parse_recipe(f"{BASE}  schedules: [cosine, {STEP}, interval: epoch}}]\n")
    assert Recipe.model_validate(json.loads(json.dumps(recipe.dump()))) == recipe


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{class_path: StepLR}", "has no class_path of a scheduler: 'StepLR'"),
        ("{class_path: shop.Saw, interval: batch}", "has the unknown interval 'batch'"),
        ("{name: scheduler, settings: {init_args: {}}}", "has no class_path of a scheduler: empty"),
        ("{class_path: shop.Saw, init_arg: {}}", "init_arg"),
    ],
)
def test_what_cannot_be_a_scheduler_is_refused(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        choices(text)


OPTIMIZERS = "schedules: {schedules: [cosine], batch_size: 8, optimizers: "


def test_an_optimizer_is_a_name_a_name_with_settings_or_a_class_path() -> None:
    node = "{class_path: torch.optim.NAdam, init_args: {eps: 1e-7}}"
    text = f"{BASE}  {OPTIMIZERS}[module, {{name: sgd, settings: {{momentum: 0.9, nesterov: true}}}}, {node}]}}\n"
    section = parse_recipe(text).experiments.schedules
    assert section is not None
    assert [one.label for one in section.optimizers] == ["module", "sgd (nesterov=True)", "NAdam (eps=1e-07)"]
    assert [one.to_spec() for one in section.optimizers[:2]] == [{}, {"name": "sgd", "settings": {"nesterov": True}}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[lionn]", "unknown optimizer 'lionn'; did you mean lion"),
        ("[{name: lion, settings: {momentum: 0.9}}]", "gives lion the setting 'momentum', which it does not have"),
        ("[{class_path: NAdam}]", "has no class_path of an optimizer: 'NAdam'"),
        ("[{class_path: torch.optim.NAdam, init_args: {lr: 0.1}}]", "gives an optimizer an lr"),
        ("[sgd, {name: sgd, settings: {momentum: 0.9}}]", "names 'sgd' twice"),
        ("[]", "optimizers"),
    ],
)
def test_what_is_no_optimizer_is_refused(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(f"{BASE}  {OPTIMIZERS}{text}}}\n")
    assert said in str(caught.value).replace("\n", " ")


def test_schedule_free_among_the_schedules_is_shown_its_place() -> None:
    with pytest.raises(RecipeError, match="is an optimizer that needs no schedule") as caught:
        choices("schedule_free")
    assert "schedule_free_adamw" in str(caught.value)


def test_other_optimizers_and_the_modules_own_schedule_do_not_go_together() -> None:
    text = BASE.replace("shop.Net}\n", "shop.Net}\n  schedule: module\n")
    with pytest.raises(RecipeError, match="lion would train without the module's own schedulers"):
        parse_recipe(f"{text}  {OPTIMIZERS}[module, lion]}}\n")
