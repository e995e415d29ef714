"""Horizons from trunks with cooldowns, on studies whose truth is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from lrscale.launch import SilentProgress
from lrscale.laws import fit_lr_slice
from lrscale.laws.horizons import fit_horizons
from lrscale.recipe import parse_recipe
from lrscale.store import StudyFolder, StudyView
from lrscale.study import Study
from lrscale.study.experiments import EXPERIMENTS, Context
from lrscale.study.experiments.horizons import _trunks
from lrscale.study.finding import Finding
from lrscale.study.horizons.curves import curve_check
from lrscale.testing.synthetic import SyntheticStudy, Truth
from lrscale.testing.synthetic_launcher import FACTS, SyntheticLauncher

RECIPE = """
name: horizons
task: {model: {class_path: m.Net}}
experiments:
  range_test: false
  equivalence: false
  horizons:
    lengths: [10k examples, 20k examples, 40k examples, 80k examples]
    batch_size: 64
"""
QUIET = SyntheticStudy(truth=Truth(noise_sd=0.002, seed_sd=0.01, horizon_power=-0.3))


def run(path: Path, launcher: SyntheticLauncher, recipe: str = RECIPE) -> Finding:
    outcome = Study(parse_recipe(recipe), StudyFolder(path)).run(launcher, progress=SilentProgress())
    return outcome.findings[0]


def context(view: StudyView | None = None, recipe: str = RECIPE) -> Context:
    empty = StudyView({}, pytest.fail)
    return Context(recipe=parse_recipe(recipe), view=view or empty, facts=FACTS, findings={})


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finding, StudyView]:
    path = tmp_path_factory.mktemp("horizons")
    finding = run(path, SyntheticLauncher(QUIET))
    return finding, StudyView.of(StudyFolder(path))


def test_four_cooldowns_on_a_trunk_cost_at_most_0_65_of_four_runs_of_their_own() -> None:
    # Hägele et al. 2024: T_4 (1 - c) + c (T_1 + ... + T_4) against their sum, 1.175 against 1.875 of T_4 at c = 0.2.
    asked = RECIPE.replace("batch_size: 64", "batch_size: 64\n    learning_rates: [0.002, 0.004]\n    own_runs: false")
    trunks = _trunks(context(recipe=asked))
    planned = EXPERIMENTS["horizons"].plan(context(recipe=asked))
    shared = sum(spec.own_examples for spec in planned)
    own = sum(
        trunks.alone(context(), lr, seed, horizon).own_examples
        for lr in (0.002, 0.004)
        for seed in (0, 1)
        for horizon in trunks.horizons
    )
    assert shared / own == pytest.approx(trunks.cost_ratio)
    assert trunks.cost_ratio <= 0.65
    assert trunks.cost_ratio == pytest.approx(1.175 / 1.875, abs=0.003)


def test_a_trunk_with_a_cooldown_has_the_lr_of_the_run_of_its_own_at_every_step() -> None:
    trunks = _trunks(context())
    parts = trunks.trunk(context(), 0.01, 0)
    assert [part.horizon for part in parts] == list(trunks.stops)
    trunk = parts[-1]
    assert trunk.lr_schedule is not None
    for horizon in trunks.horizons:
        alone, cooled = (one(context(), 0.01, 0, horizon) for one in (trunks.alone, trunks.cooldown))
        assert alone.lr_schedule is not None
        assert cooled.branch is not None
        position = cooled.branch.position
        schedules = [next(part for part in parts if step < part.horizon) for step in range(position)]
        factors = [
            part.lr_schedule.factor(step, part.horizon)
            for step, part in enumerate(schedules)
            if part.lr_schedule is not None
        ]
        assert factors == [alone.lr_schedule.factor(step, horizon) for step in range(position)]
        assert dataclasses.replace(cooled, branch=None) == alone
        # One step more on the trunk would be one too many.
        assert alone.lr_schedule.factor(position + 1, horizon) < 1
    assert trunk.horizon == trunks.branch_position(trunks.horizons[-1])


def test_the_law_of_the_best_lr_is_found_with_its_miss_at_the_longest_horizon(
    answered: tuple[Finding, StudyView],
) -> None:
    finding, _ = answered
    slope = finding.numbers["lr_exponent"]
    assert slope.lo is not None
    assert slope.hi is not None
    assert slope.lo <= -0.3 <= slope.hi
    assert slope.value == pytest.approx(-0.3, abs=0.1)
    assert abs(finding.numbers["lr_miss"].value or 1) < 0.25
    assert abs(finding.numbers["loss_miss"].value or 1) < 0.02
    assert finding.status == "ok"
    # A trunk goes as far as one of the horizons asks for its LR: the shorter ones cost next to nothing besides.
    ratio = finding.numbers["cost_ratio"].value
    assert ratio is not None
    assert 0.62 <= ratio <= 0.68
    assert f"{ratio:.2f} of the examples of runs of their own" in finding.sentence


def test_each_horizon_has_its_own_best_lr_inside(answered: tuple[Finding, StudyView]) -> None:
    finding, _ = answered
    for row in finding.tables["horizons"]:
        truth = QUIET.truth.best_lr(64, row["examples"])
        assert row["lr_lo"] <= truth * 1.05
        assert row["lr_hi"] >= truth / 1.05
    own = finding.tables["horizons"][-1]
    assert (own["source"], own["examples"]) == ("own runs", 19_968)
    assert finding.data["agrees"] is True


def test_walking_over_trunks_costs_at_most_0_65_of_searching_at_each_horizon_by_runs_of_their_own(
    tmp_path: Path, answered: tuple[Finding, StudyView]
) -> None:
    _, view = answered
    horizons = {spec.horizon for spec in (trial.spec for trial in view) if spec.schedule.name == "wsd" and spec.branch}
    shared = sum(trial.record.examples for trial in view if not _is_own_run(trial.spec))
    alone = 0
    for horizon in sorted(horizons):
        settings = "{name: wsd, settings: {decay: one_minus_sqrt, decay_fraction: 0.2}}"
        scaling = f"scaling: {{batch_sizes: [64], horizon: {horizon} steps, seeds: 2, schedule: {settings}}}"
        recipe = RECIPE[: RECIPE.index("  horizons:")] + f"  {scaling}\n"
        run(tmp_path / str(horizon), SyntheticLauncher(QUIET), recipe)
        alone += sum(trial.record.examples for trial in StudyView.of(StudyFolder(tmp_path / str(horizon))))
    assert shared / alone <= 0.65


def _is_own_run(spec: Any) -> bool:
    return spec.schedule.name == "wsd" and spec.branch is None


def test_a_trunk_is_trained_no_further_than_a_horizon_asks_for(answered: tuple[Finding, StudyView]) -> None:
    _, view = answered
    own = context(view)
    specs = [spec for spec in EXPERIMENTS["horizons"].plan(own) if not _is_own_run(spec)]
    begun = {spec.branch.trial_id for spec in specs if spec.branch is not None}
    trunks = [spec for spec in specs if spec.schedule.name == "constant"]
    assert all(spec.trial_id in begun for spec in trunks)
    longest = _trunks(own).stops[-1]
    places = {(spec.peak_lr, spec.seed) for spec in trunks}
    assert 0 < sum(spec.horizon == longest for spec in trunks) < len(places)


def test_what_is_there_is_planned_again_and_nothing_else(answered: tuple[Finding, StudyView]) -> None:
    _, view = answered
    planned = EXPERIMENTS["horizons"].plan(context(view))
    assert {spec.trial_id for spec in planned} == set(view.trials)


@pytest.mark.parametrize("place", [20, *(pytest.param(place, marks=pytest.mark.slow) for place in (0, 4, 9, 41))])
def test_a_study_that_is_killed_anywhere_ends_with_the_trials_of_one_that_was_not(
    tmp_path: Path, answered: tuple[Finding, StudyView], place: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, SyntheticLauncher(QUIET, stop_after=place))
    finding = run(tmp_path, SyntheticLauncher(QUIET))
    whole, view = answered
    assert set(StudyView.of(StudyFolder(tmp_path)).trials) == set(view.trials)
    assert finding.sentence == whole.sentence
    assert not list(tmp_path.glob("trials/*/states"))


def test_a_horizon_asked_for_later_trains_its_parts_of_the_trunks_and_the_states_that_are_gone(tmp_path: Path) -> None:
    short = RECIPE.replace(", 80k examples]", "]\n    own_runs: false\n    learning_rates: [0.002, 0.004, 0.008]")
    run(tmp_path, SyntheticLauncher(QUIET), short)
    there = set(StudyView.of(StudyFolder(tmp_path)).trials)
    launcher = SyntheticLauncher(QUIET)
    # Its part branches off from the second one, whose state is gone and that of the first one too: both train again.
    run(tmp_path, launcher, short.replace("20k examples, ", "20k examples, 30k examples, "))
    again = [trial_id for trial_id in launcher.ran if trial_id in there]
    assert len(again) == 6 * 2
    assert all(StudyFolder(tmp_path).spec(trial_id).schedule.name == "constant" for trial_id in again)
    # Then two parts with a cooldown each: the longest horizon's begins where the new one ends.
    assert len(launcher.ran) == 6 * 6
    assert not list(tmp_path.glob("trials/*/states"))


def test_a_trunk_that_diverges_after_its_first_branches_still_gives_those(tmp_path: Path) -> None:
    class Unstable(SyntheticLauncher):
        def adjusted(self, spec: Any, record: Any) -> Any:
            if spec.schedule.name != "constant" or spec.horizon < 300 or spec.peak_lr < 0.005:
                return record
            steps = 300 - spec.branch.position
            return dataclasses.replace(record, status="diverged", final_loss=None, reason="it left", steps=steps)

    finding = run(tmp_path, Unstable(QUIET), RECIPE.replace("batch_size: 64", "batch_size: 64\n    own_runs: false"))
    trials = StudyView.of(StudyFolder(tmp_path))
    hot = [trial.spec for trial in trials if trial.spec.peak_lr > 0.005]
    assert {spec.horizon for spec in hot if spec.schedule.name == "wsd"} == {156, 312}
    assert max(spec.horizon for spec in hot) == _trunks(context()).stops[2]
    assert finding.status == "ok"


def test_too_few_horizons_say_so() -> None:
    lrs = [2.0**-power for power in range(10, 3, -1)]
    one = fit_lr_slice(lrs, [2 + 0.1 * (0.01 / lr + lr / 0.01) for lr in lrs])
    fit = fit_horizons({1e4: one}, {1e4: {0: 2.2}}, 64)
    assert (fit.lr, fit.lr_held_out, fit.loss, fit.loss_held_out) == (None, None, None, None)


def test_a_schedule_law_of_shorter_horizons_is_held_against_the_longest(
    answered: tuple[Finding, StudyView],
) -> None:
    finding, view = answered
    own = context(view)
    trunks = _trunks(own)
    found = curve_check(own, trunks, 0.004)
    assert found is not None
    rows = [row for row in finding.tables["held_out"] if row["what"].startswith("loss along")]
    if found.held_out is None:
        assert any(check.name == "Law of the loss along training" for check in finding.checks)
        assert rows == []
        return
    assert found.held_out.horizon == 80_000
    assert found.held_out.lo <= found.held_out.predicted <= found.held_out.hi
    assert len(rows) == 1
    outside = [check for check in finding.checks if check.name.startswith("Law of the loss along")]
    assert bool(outside) != bool(rows[0]["inside"])
