"""The forecast experiment: small cells, each begun where its smaller neighbour ended, carried to the target."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrscale.errors import LrscaleError, RecipeError
from lrscale.laws.forecast import Forecast
from lrscale.recipe import Recipe, parse_recipe
from lrscale.recipe.experiments import Target
from lrscale.recipe.variants import label_of, overrides_of
from lrscale.store import StudyView, Trial, TrialRecord, TrialSpec
from lrscale.study.experiments import EXPERIMENTS, Context
from lrscale.study.finding import Finding
from lrscale.study.forecast.answer import read_cells, target_place
from lrscale.study.variants import variant_recipe
from tests.laws.forecast.simulated import loss, optimum

WIDTHS = {32: 5e7, 64: 1e8, 128: 2e8}
"""Parameters that the module of each width is said to have."""
TOKENS = 4096
"""Of the simulated law in one example."""


def _recipe(**changes: Any) -> Recipe:
    forecast = {
        "factors": {"task.model.init_args.width": list(WIDTHS)},
        "horizons": ["1.5M examples", "6M examples"],
        "batch_sizes": [16, 64, 256],
        **changes,
    }
    return Recipe.model_validate(
        {
            "name": "scales",
            "task": {"model": {"class_path": "shop.Net", "init_args": {"width": 64}}},
            "experiments": {"range_test": False, "forecast": forecast},
            "target": {"params": 8e8, "horizon": "20M examples"},
        }
    )


def _record(spec: TrialSpec) -> TrialRecord:
    params = WIDTHS[spec.task["model"]["init_args"]["width"]]
    value = loss(params, spec.examples * TOKENS, spec.peak_lr, spec.global_batch_size * TOKENS)
    best = optimum(params, spec.examples * TOKENS)[0]
    facts = {"parameters": int(params), "sequence_length": TOKENS}
    if spec.peak_lr > 8 * best:
        return TrialRecord(trial_id=spec.trial_id, status="diverged", facts=facts)
    return TrialRecord(trial_id=spec.trial_id, status="completed", final_loss=value, monitor="val_loss", facts=facts)


def _run(
    recipe: Recipe, record: Callable[[TrialSpec], TrialRecord] = _record
) -> tuple[Finding, dict[str, Trial], list[int]]:
    trials: dict[str, Trial] = {}
    context = Context(recipe=recipe, view=StudyView(trials, lambda _: None), facts={"reference_lr": 1e-3}, findings={})  # type: ignore[arg-type, return-value]
    experiment = EXPERIMENTS["forecast"]
    rounds = []
    for _ in range(100):
        missing = [spec for spec in experiment.plan(context) if spec.trial_id not in trials]
        if not missing:
            return experiment.analyse(context), trials, rounds
        rounds.append(len(missing))
        for spec in missing:
            trials[spec.trial_id] = Trial(spec, record(spec))
    raise AssertionError("the plan does not end")


@pytest.fixture(scope="module")
def ran() -> tuple[Finding, dict[str, Trial], list[int]]:
    """One whole run."""
    return _run(_recipe())


def test_the_setting_at_four_times_the_size_is_within_a_factor_of_the_truth(
    ran: tuple[Finding, dict[str, Trial], list[int]],
) -> None:
    finding = ran[0]
    best_lr, best_batch = optimum(8e8, 2e7 * TOKENS)
    lr, batch = finding.numbers["lr"], finding.numbers["batch_size"]
    assert finding.status == "ok", finding.sentence
    assert lr.value == pytest.approx(best_lr, rel=0.4)
    assert lr.lo is not None
    assert lr.hi is not None
    assert lr.lo <= best_lr <= lr.hi
    assert batch.value is not None
    assert abs(math.log(batch.value * TOKENS / best_batch)) < math.log(2)


def test_a_model_is_as_large_as_its_trials_counted(ran: tuple[Finding, dict[str, Trial], list[int]]) -> None:
    cells = read_cells(ran[0])
    assert [cell.params for cell in cells] == [5e7, 5e7, 1e8, 1e8, 2e8, 2e8]
    assert [cell.horizon for cell in cells] == [1.5e6, 6e6] * 3
    assert cells[0].label == "width 32, 1.5M examples"
    assert ran[0].data["tokens_per_example"] == TOKENS


def test_a_cell_starts_from_its_smaller_neighbour(ran: tuple[Finding, dict[str, Trial], list[int]]) -> None:
    _, trials, rounds = ran
    first = [trial for trial in trials.values() if trial.spec.task["model"]["init_args"]["width"] == 32]
    last = [trial for trial in trials.values() if trial.spec.task["model"]["init_args"]["width"] == 128]
    # The walk over LRs is paid once; a neighbour's best is then a step or two away.
    assert len(last) <= len(first)
    assert len(trials) <= 6 * 3 * 6
    assert len(rounds) > 3


def test_trials_of_two_widths_are_different_trials(ran: tuple[Finding, dict[str, Trial], list[int]]) -> None:
    widths = {trial.spec.task["model"]["init_args"]["width"] for trial in ran[1].values()}
    assert widths == set(WIDTHS)
    assert len({trial.spec.trial_id for trial in ran[1].values()}) == len(ran[1])


def test_published_laws_stand_beside_it_with_the_tokens_of_an_example(
    ran: tuple[Finding, dict[str, Trial], list[int]],
) -> None:
    by_law = {row["law"]: row for row in ran[0].tables["published"]}
    tokens = 2e7 * TOKENS
    assert by_law["step_law"]["lr"] == pytest.approx(1.79 * 8e8**-0.713 * tokens**0.307)
    assert by_law["step_law"]["batch"] == pytest.approx(0.58 * tokens**0.571 / TOKENS)
    assert by_law["bjorck"]["lr"] is not None
    assert by_law["power_lines"]["lr"] is None


def test_the_finding_holds_the_whole_forecast(ran: tuple[Finding, dict[str, Trial], list[int]]) -> None:
    found = Forecast.from_dict(ran[0].data["forecast"])
    assert found.family == "surface"
    assert [row["family"] for row in ran[0].tables["families"]] == [one.family for one in found.families]
    assert "held out" in ran[0].sentence
    assert Finding.from_dict(ran[0].to_dict()).to_dict() == ran[0].to_dict()


def test_without_a_target_the_cells_are_kept_and_the_remedy_named() -> None:
    plain = _recipe().dump()
    plain["target"] = None
    finding, _, _ = _run(Recipe.model_validate(plain))
    assert finding.status == "ok"
    assert finding.numbers == {}
    assert "lrscale recommend --params" in finding.sentence
    assert len(read_cells(finding)) == 6


def test_batch_sizes_that_do_not_reach_the_best_one_are_named() -> None:
    finding, _, _ = _run(_recipe(batch_sizes=[16, 32]))
    notes = [check.sentence for check in finding.checks if check.status == "INFO"]
    assert any("the largest batch tried has the lowest loss" in note for note in notes)
    assert "at batch 32" in finding.sentence


def test_one_batch_size_over_horizons_is_forecast_at_that_batch_alone() -> None:
    finding, _, _ = _run(_recipe(batch_sizes=[64]))
    found = Forecast.from_dict(finding.data["forecast"])
    assert found.batch is None
    assert found.fixed_batch == pytest.approx(64)
    assert "at batch 64" in finding.sentence


def test_a_space_in_which_all_diverge_is_said() -> None:
    finding, _, _ = _run(_recipe(), lambda spec: TrialRecord(trial_id=spec.trial_id, status="diverged"))
    assert finding.status == "cannot_tell"


def test_factors_move_together_and_take_names() -> None:
    named = {"factors": [{"name": "small", "task.model.init_args.width": 32}, {"task.model.init_args.width": 64}]}
    settings = _recipe(**named).experiments.forecast
    assert settings is not None
    assert [label_of(one) for one in settings.factors] == ["small", "width 64"]
    both = {"factors": {"task.model.init_args.width": [32, 64], "task.model.init_args.depth": [2, 4]}}
    paired = _recipe(**both).experiments.forecast
    assert paired is not None
    assert [overrides_of(one) for one in paired.factors] == [
        {"task.model.init_args.width": 32, "task.model.init_args.depth": 2},
        {"task.model.init_args.width": 64, "task.model.init_args.depth": 4},
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("factors: {task.model.init_args.width: [1, 2], task.model.init_args.depth: [1]}", "depth has 1"),
        ("factors: {task.model.init_args.width: 3}", "no list of values"),
        ("factors: {seed: [1, 2]}", "sets seed, which is no entry of the task"),
        ("factors: {task.model.init_args.width: [1, 1]}", "twice"),
        ("horizons: [1M tokens]", "tokens an example has"),
    ],
)
def test_a_wrong_entry_is_named(line: str, said: str) -> None:
    text = (
        "name: a\ntask: {model: {class_path: shop.Net}}\n"
        f"experiments:\n  forecast:\n    batch_sizes: [8, 16]\n    {line}\n"
        + ("" if line.startswith("horizons") else "    horizons: [1k examples]\n")
    )
    with pytest.raises(RecipeError, match=said):
        parse_recipe(text)


def test_an_override_that_does_not_fit_the_task_is_refused() -> None:
    with pytest.raises(LrscaleError, match=r"factors cannot set task\.lr"):
        variant_recipe(_recipe(), {"task.lr": 3}, where="experiments.forecast.factors")


def test_a_recipe_keeps_its_folder_under_overrides(tmp_path: Path) -> None:
    recipe = parse_recipe(
        "name: a\ntask: {model: {class_path: shop.Net}}\nexperiments: {range_test: {}}\n", root=tmp_path
    )
    assert variant_recipe(recipe, {"task.model.init_args.width": 3}, where="here").root == tmp_path


def test_a_target_of_factors_has_the_size_that_its_module_was_counted_to_have() -> None:
    target = Target.model_validate({"factors": {"task.model.init_args.width": 256}, "horizon": "3 epochs"})
    assert target_place(target, 1000, None, 19_210) == (19_210.0, 3000.0)
    assert target_place(target, 1000, None) is None
    # What was counted for another recipe is not taken for a target that states its own.
    stated = Target.model_validate({"params": 5e4, "horizon": "3 epochs"})
    assert target_place(stated, 1000, None, 19_210) == (5e4, 3000.0)
