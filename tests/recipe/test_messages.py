"""What a person reads when a recipe is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrscale.errors import RecipeError
from lrscale.recipe import parse_recipe

BASE = """\
name: demo
task:
  model: {class_path: shop.Net}
"""
SEARCH = "experiments:\n  search: {horizon: 40k examples, batch_sizes: [16], engine: "
GRID = "experiments:\n  scaling: {horizon: 40k examples, batch_sizes: "


def message(text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, overrides=overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "name: demo\ntask:\n  modle: {class_path: shop.Net}\n",
            "recipe.yaml line 3: task.modle is not known; did you mean model?",
        ),
        (
            f"{BASE}{GRID}[]}}\n",
            "recipe.yaml line 5: experiments.scaling.batch_sizes is an empty list: there is nothing to compare",
        ),
        (
            f"{BASE}{GRID}[16], learning_rates: [0]}}\n",
            "recipe.yaml line 5: experiments.scaling.learning_rates[0] must be a positive learning rate, not 0",
        ),
        (
            f"{BASE}{GRID}[16], learning_rates: [1e-3, -1e-3]}}\n",
            "recipe.yaml line 5: experiments.scaling.learning_rates[1] must be a positive learning rate, not -0.001",
        ),
        (
            f"{BASE}{GRID}[-4]}}\n",
            "recipe.yaml line 5: experiments.scaling.batch_sizes[0] must be at least 1, not -4",
        ),
        (
            f"{BASE}{GRID}[0]}}\n",
            "recipe.yaml line 5: experiments.scaling.batch_sizes[0] must be at least 1, not 0",
        ),
        (
            f"{BASE}{GRID}[16.5]}}\n",
            "recipe.yaml line 5: experiments.scaling.batch_sizes[0] must be a whole number, not 16.5",
        ),
        (
            f"{BASE}{GRID}[true]}}\n",
            "recipe.yaml line 5: experiments.scaling.batch_sizes[0] must be a whole number, not true",
        ),
        (
            f"{BASE}{GRID}[16, 16]}}\n",
            "recipe.yaml line 5: experiments.scaling names 16 twice; remove one",
        ),
        (
            f"{BASE}{GRID}[16], schedule: cosin}}\n",
            "recipe.yaml line 5: experiments.scaling.schedule names the unknown schedule 'cosin'; did you mean cosine?",
        ),
        (
            f"{BASE}{GRID}[16], schedule: {{name: wsd, settings: {{decay_fration: 0.1}}}}}}\n",
            "recipe.yaml line 5: experiments.scaling.schedule cannot be used: schedule wsd has no setting "
            "decay_fration; did you mean decay_fraction?",
        ),
        (
            f"{BASE}{GRID}[16], schedule: {{name: cosine, settings: {{final_factor: low}}}}}}\n",
            "recipe.yaml line 5: experiments.scaling.schedule cannot be used: final_factor of schedule cosine must be "
            "a number, not 'low'",
        ),
        (
            "name: demo\ntask: {monitor: val_loss}\n",
            "recipe.yaml line 2: task names nothing to train; give it model (and data), or config, or factory",
        ),
        (
            f"{BASE}  factory: shop.build:make\n",
            "recipe.yaml line 2: task names what to train in 2 ways (model and factory); keep one of them",
        ),
        (
            "name: demo\ntask: {factory: shop.build}\n",
            "recipe.yaml line 2: task.factory must be written package.module:name, not 'shop.build'",
        ),
        (
            f"{BASE}instruments: {{noise_scale: {{budget: 2}}}}\n",
            "recipe.yaml line 4: instruments.noise_scale.budget must be less than 1, not 2",
        ),
        (
            f"{BASE}instruments: {{noise_scal: true}}\n",
            "recipe.yaml line 4: instruments.noise_scal is not known; did you mean noise_scale?",
        ),
        (
            f"{BASE}experiments: {{range_test: {{batch_size: 8, batch_sizes: [8, 16]}}}}\n",
            "recipe.yaml line 4: experiments.range_test has both batch_size and batch_sizes; keep one of them",
        ),
        (
            f"{BASE}experiments: {{range_test: {{steps: 100, hold: 10}}}}\n",
            "recipe.yaml line 4: experiments.range_test has 10 LRs of 10 steps each, and a curve needs 15; raise steps "
            "to 150",
        ),
        (
            f"{BASE}experiments: {{range_test: {{steps: 100, hold: 6}}}}\n",
            "recipe.yaml line 4: experiments.range_test has 100 steps, no multiple of hold 6; use 102 steps",
        ),
        (
            f"{BASE}experiments: {{range_test: {{confirm: {{max_runs: 3}}}}}}\n",
            "recipe.yaml line 4: experiments.range_test.confirm.max_runs must be at least 4, not 3",
        ),
        (
            f"{BASE}experiments: {{range_test: {{lr_min: 1, lr_max: 1e-3}}}}\n",
            "recipe.yaml line 4: experiments.range_test must have lr_min below lr_max, not 1 and 0.001",
        ),
        (
            f"{BASE}experiments:\n  scaling:\n    batch_sizes: [16]\n    horizon: 40k\n",
            "recipe.yaml line 7: experiments.scaling.horizon has no unit: 40k; write for example 40k examples; "
            "units are steps, examples, epochs, tokens",
        ),
        (
            f"{BASE}experiments:\n  scaling:\n    batch_sizes: [16]\n    horizon: 4000\n",
            "recipe.yaml line 7: experiments.scaling.horizon has no unit: 4000; write for example 4000 examples; "
            "units are steps, examples, epochs, tokens",
        ),
        (
            f"{BASE}experiments:\n  scaling: {{batch_sizes: [16, 32], horizon: 100 steps}}\n",
            "recipe.yaml line 5: experiments.scaling compares 2 batch sizes over 100 steps, which are not the same "
            "data; state the horizon in examples",
        ),
        (
            f"{BASE}experiments:\n  scaling: {{batch_sizes: [64], horizon: 100 examples}}\n",
            "recipe.yaml line 5: experiments.scaling.batch_sizes[0]: a batch of 64 makes 1 steps of 100 examples, "
            "fewer than 2; use a smaller batch, or a horizon of at least 128 examples",
        ),
        (
            f"{BASE}experiments:\n  scaling: {{batch_sizes: [16], horizon: 100 examples}}\n"
            "  search: {batch_sizes: [64]}\n",
            "recipe.yaml line 6: experiments.search.batch_sizes[0]: a batch of 64 makes 1 steps of 100 examples, "
            "fewer than 2; use a smaller batch, or a horizon of at least 128 examples",
        ),
        (
            f"{BASE}experiments:\n  forecast: {{batch_sizes: [16, 64], horizons: [100 examples, 1k examples]}}\n",
            "recipe.yaml line 5: experiments.forecast.batch_sizes[1]: a batch of 64 makes 1 steps of 100 examples, "
            "fewer than 2; use a smaller batch, or a horizon of at least 128 examples",
        ),
        (
            f"{BASE}layout: {{devices: 2}}\n"
            "experiments: {forecast: {batch_sizes: [32, 33], horizons: [1k examples]}}\n",
            "recipe.yaml line 5: experiments.forecast.batch_sizes[1]: global batch 33 is not a multiple of 2 devices; "
            "use 32 or 34",
        ),
        (
            f"{BASE}{SEARCH}optna}}\n",
            "recipe.yaml line 5: experiments.search.engine must be one of planner, optuna, ray, not 'optna'; did you "
            "mean optuna?",
        ),
        (
            f"{BASE}{SEARCH}{{name: optuna, samplr: gp}}}}\n",
            "recipe.yaml line 5: experiments.search.engine.samplr is not known; did you mean sampler?",
        ),
        (
            f"{BASE}{SEARCH}{{sampler: gp}}}}\n",
            "recipe.yaml line 5: experiments.search.engine.sampler is not known; known: name, pruner",
        ),
        (
            f"{BASE}{SEARCH}{{name: optuna, sampler: bohb}}}}\n",
            "recipe.yaml line 5: experiments.search.engine.sampler must be one of tpe, gp, cmaes, random, not 'bohb'; "
            "known: cmaes, gp, random, tpe",
        ),
        (
            f"{BASE}{SEARCH}planner, prior: bjorck}}\n",
            "recipe.yaml line 5: experiments.search.prior cannot be bjorck: the law has exponents only, and starts "
            "from a measured setting; name one of step_law, deepseek, minicpm",
        ),
        (
            f"{BASE}{SEARCH}planner, prior: {{law: steplaw}}}}\n",
            "recipe.yaml line 5: experiments.search.prior names the unknown law 'steplaw'; did you mean step_law?",
        ),
        (
            f"{BASE}{SEARCH}optuna, prior: step_law}}\n",
            "recipe.yaml line 5: experiments.search has a prior, which the engine optuna takes no part of; leave one "
            "of them out",
        ),
        (
            f"{BASE}{SEARCH}{{name: optuna, sampler: cmaes}}}}\n",
            "recipe.yaml line 5: experiments.search has one batch size, and CMA-ES needs two axes; set engine.sampler: "
            "tpe, or name more sizes",
        ),
        (
            f"{BASE}{SEARCH}{{name: optuna, pruner: hyperbnd}}}}\n",
            "recipe.yaml line 5: experiments.search.engine.pruner names the unknown pruner 'hyperbnd'; did you mean "
            "hyperband?",
        ),
        (
            f"{BASE}{SEARCH}{{name: optuna, pruner: {{name: hyperband, settings: {{reduction_factor: 1}}}}}}}}\n",
            "recipe.yaml line 5: experiments.search.engine.pruner cannot be used: reduction_factor must be at least 2, "
            "not 1",
        ),
        (
            f"{BASE}{SEARCH}{{name: ray, algorithm: sigopt}}}}\n",
            "recipe.yaml line 5: experiments.search.engine.algorithm cannot be sigopt: SigOpt's service has ended, and "
            "Ray has no SigOptSearch any more; use algorithm: bayesopt, or optuna, for a model of the same kind",
        ),
        (
            f"{BASE}{SEARCH}{{name: ray, scheduler: {{name: asha, settings: {{reduction: 4}}}}}}}}\n",
            "recipe.yaml line 5: experiments.search.engine.scheduler cannot be used: scheduler of Ray Tune asha has no "
            "setting reduction; did you mean reduction_factor?",
        ),
        (
            f"{BASE}{SEARCH}{{name: ray, scheduler: pbt, algorithm: optuna}}}}\n",
            "recipe.yaml line 5: experiments.search.engine has scheduler pbt, which goes with algorithm random, "
            "not optuna",
        ),
        (
            f"{BASE}{SEARCH}{{name: ray, algorithm: bohb}}}}\n",
            "recipe.yaml line 5: experiments.search.engine has algorithm bohb, which goes with scheduler bohb, "
            "not asha",
        ),
        ("", "recipe.yaml is empty; write one: lrscale init"),
        (
            "- a\n",
            "recipe.yaml is a list, and a recipe is a mapping; begin with a line such as name: my-study",
        ),
        (
            f"{BASE}seed: 1\nseed: 2\n",
            "recipe.yaml line 5: seed is written twice, first on line 4",
        ),
        (
            f"{BASE}layout:\n  devices: 2\n{GRID}[64, 33]}}\n",
            "recipe.yaml line 7: experiments.scaling.batch_sizes[1]: global batch 33 is not a multiple of 2 devices; "
            "use 32 or 34",
        ),
        (
            f"{BASE}layout: {{trials_at_once: all}}\n",
            "recipe.yaml line 4: layout.trials_at_once must be a whole number or auto, not 'all'",
        ),
        (
            f"{BASE}layout: {{trials_at_once: 0}}\n",
            "recipe.yaml line 4: layout.trials_at_once must be at least 1, not 0; write 1 or auto",
        ),
        (
            f"{BASE}layout: {{per_device_batch_size: 64, max_per_device_batch_size: 32}}\n",
            "recipe.yaml line 4: layout has per_device_batch_size 64 above max_per_device_batch_size 32; "
            "keep one of them",
        ),
        (
            f"{BASE}target: {{objective: tiem}}\n",
            "recipe.yaml line 4: target.objective must be one of loss, time, cost, time_price, not 'tiem'; "
            "did you mean time?",
        ),
        (
            f"{BASE}experiments:\n  schedules:\n  - cosine\n  - wsdd\n"
            "  scaling: {batch_sizes: [16], horizon: 1k examples}\n",
            "recipe.yaml line 7: experiments.schedules[1] names the unknown schedule 'wsdd'; did you mean wsd?",
        ),
        (
            f"{BASE}experiments: {{schedules: [cosine]}}\n",
            "recipe.yaml line 4: experiments need schedules.batch_size while scaling is off; "
            "set experiments.schedules.batch_size",
        ),
        (
            f"{BASE}experiments: {{range_test: false}}\n",
            "recipe.yaml line 4: experiments are all turned off; turn on one of range_test, scaling, schedules, "
            "search, forecast, factors, horizons, growing_batch, critical_batch, noise_scale, throughput, memory, "
            "equivalence",
        ),
        (
            "name: [a\nb: c",
            "recipe.yaml line 2: this is not YAML: expected ',' or ']', but got ':'; "
            "close the bracket that is opened on line 1",
        ),
        (
            "name:\n\tx: 1\n",
            "recipe.yaml line 2: this is not YAML: found character '\\t' that cannot start any token; "
            "indent with spaces",
        ),
        (
            f"{BASE}target: {{params: 1e9, factors: {{task.model.init_args.width: 64}}}}\n",
            "recipe.yaml line 4: target has params and factors, which both say how large the model is; keep one of "
            "them",
        ),
        (
            f"{BASE}target: {{factors: {{layout.devices: 64}}}}\n",
            "recipe.yaml line 4: target sets layout.devices, which is no entry of the task; write for example "
            "task.model.init_args.width",
        ),
        (
            f"{BASE}target: {{horizon: 1M tokens}}\n",
            "recipe.yaml line 4: target has horizon 1M tokens, and how many tokens an example has is the task's "
            "affair; use examples",
        ),
        (
            "name: demo\ntask: {config: missing.yaml}\n",
            "recipe.yaml line 2: task.config: there is no file missing.yaml; the path is relative to the recipe",
        ),
    ],
)
def test_one_problem_names_line_field_rule_and_remedy(text: str, expected: str) -> None:
    assert message(text) == expected


def test_all_problems_are_reported_at_once_in_the_order_of_their_lines() -> None:
    text = (
        "name: demo\ntask:\n  model: {class_path: Net}\n  data: 3\nlayuot: {devices: 3}\nseed: -1\n"
        "layout: {devices: 0}\nseed: 1\n"
    )
    lines = message(text).splitlines()
    assert lines[0] == "recipe.yaml has 5 errors:"
    said = "\n".join(lines)
    for part in ("task.model.class_path", "task.data", "did you mean layout?", "layout.devices", "written twice"):
        assert part in said
    numbers = [int(line.split()[1].rstrip(":")) for line in lines[1:]]
    assert numbers == sorted(numbers)


def test_a_batch_that_does_not_divide_is_reported_beside_an_unrelated_typo() -> None:
    said = message(f"{BASE}sed: 1\nlayout: {{devices: 2}}\n{GRID}[33]}}\n")
    assert "sed is not known; did you mean seed?" in said
    assert "experiments.scaling.batch_sizes[0]: global batch 33 is not a multiple of 2 devices" in said


def test_a_tag_is_refused_and_nothing_is_executed(tmp_path: Path) -> None:
    path = tmp_path / "made"
    said = message(f"{BASE}  trainer: !!python/object/apply:os.mkdir ['{path}']\n")
    assert said == (
        "recipe.yaml line 4: task.trainer has the tag !!python/object/apply:os.mkdir, and a recipe runs no code; "
        "write a plain value"
    )
    assert not path.exists()


@pytest.mark.parametrize("tag", ["!!python/name:os.system", "!!python/tuple", "!!binary", "!custom", "!!set"])
def test_no_tag_beyond_plain_values_is_understood(tag: str) -> None:
    assert "and a recipe runs no code" in message(f"{BASE}  monitor: {tag} x\n")


def test_pydantic_is_never_quoted() -> None:
    text = "name: 3\nseed: a\ntask: []\nlayout: 5\nexperiments: {range_test: 3, scaling: [], throughput: {steps: x}}\n"
    said = message(text)
    for jargon in ("Input should", "pydantic", "type=", "Extra inputs", "Field required", "model_type", "NoneType"):
        assert jargon not in said


@pytest.mark.parametrize("number", ["nan", ".nan", ".inf", "-.inf"])
def test_a_learning_rate_that_is_not_finite_is_refused(number: str) -> None:
    assert "experiments.range_test.lr_max" in message(f"{BASE}experiments: {{range_test: {{lr_max: {number}}}}}\n")


def test_an_argument_that_json_cannot_hold_is_refused_with_its_line() -> None:
    said = message("name: demo\ntask:\n  model:\n    class_path: shop.Net\n    init_args:\n      clip: .inf\n")
    assert said == "recipe.yaml line 6: task.model.init_args.clip must be finite, not .inf"
