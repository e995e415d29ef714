"""A search finds the best setting of a known truth from few trials, whatever happens to them."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrscale.launch import TrialRequest
from lrscale.laws.lr_slice.lattice import lattice_index, lattice_lr
from lrscale.recipe import Recipe
from lrscale.recipe.schema import Cost
from lrscale.recommend import Refusal, recommend
from lrscale.store import StudyFolder, StudyView, TrialRecord
from lrscale.study import Study, read_findings
from lrscale.study.experiments import EXPERIMENTS
from lrscale.study.experiments.scaling import scaling_cells
from lrscale.study.finding import Finding
from lrscale.study.progress import AbstractProgress, SilentProgress
from lrscale.study.search.answer import _equal
from lrscale.study.search.setup import Setup
from lrscale.testing.synthetic import SyntheticStudy, Truth
from lrscale.testing.synthetic_launcher import SyntheticLauncher
from tests.study.searched import check, context, regret

SIZES = [16, 64, 256, 1024]
EXAMPLES = 40_000
SEARCH = EXPERIMENTS["search"]


def recipe(experiments: dict[str, Any] | None = None, **search: object) -> Recipe:
    """Return a recipe that asks for a search over the synthetic task."""
    return Recipe.model_validate(
        {
            "name": "synthetic",
            "task": SyntheticStudy().task,
            "layout": {"devices": 2, "max_per_device_batch_size": 64},
            "experiments": {
                "range_test": None,
                "equivalence": None,
                "search": {"batch_sizes": SIZES, "horizon": f"{EXAMPLES} examples", **search},
                **(experiments or {}),
            },
        }
    )


def found(folder: Path, asked: Recipe, launcher: SyntheticLauncher | None = None) -> Finding:
    """Run a study and return the finding of its search."""
    study = Study(asked, StudyFolder(folder))
    study.run(launcher or SyntheticLauncher(SyntheticStudy()), progress=SilentProgress())
    return next(finding for finding in read_findings(StudyFolder(folder)) if finding.key == "search")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that has ended."""
    folder = tmp_path_factory.mktemp("search")
    found(folder, recipe())
    return folder


def test_ten_trials_name_a_setting_whose_cost_is_below_the_noise_of_a_run(finished: Path) -> None:
    (finding,) = read_findings(StudyFolder(finished))
    assert finding.status == "ok"
    assert regret(finding, Truth(), SIZES, EXAMPLES) < Truth().noise_sd
    searched = [row for row in finding.tables["trials"] if row["phase"] == "search"]
    assert len(searched) <= 10


def test_the_interval_of_the_lr_holds_the_best_one_of_that_batch_size(finished: Path) -> None:
    (finding,) = read_findings(StudyFolder(finished))
    lr, size = finding.numbers["best_lr"], finding.numbers["best_batch_size"].value
    assert lr.lo is not None
    assert lr.hi is not None
    assert size is not None
    assert lr.lo < Truth().best_lr(size) < lr.hi
    assert lr.hi / lr.lo < 2


def test_the_confirmation_has_seeds_of_its_own_and_the_same_for_each_of_its_settings(finished: Path) -> None:
    (finding,) = read_findings(StudyFolder(finished))
    rows = finding.tables["trials"]
    searched = {row["seed"] for row in rows if row["phase"] == "search"}
    fresh = [row for row in rows if row["phase"] == "confirmation"]
    by_lr: dict[float, set[int]] = {}
    for row in fresh:
        by_lr.setdefault(row["lr"], set()).add(row["seed"])
    assert len(by_lr) == 3
    assert set(map(frozenset, by_lr.values())) == {frozenset({1, 2})}
    assert not searched & {1, 2}
    assert check(finding, "search confirmed").status in ("PASS", "INFO")
    assert check(finding, "search prediction").status == "PASS"


@pytest.mark.slow
def test_seeds_that_shift_every_loss_change_neither_the_course_nor_the_name(tmp_path: Path) -> None:
    # Lucky and unlucky seeds by much more than settings differ, and by less: every seed is compared with itself alone.
    named = []
    for seed_sd in (0.02, 0.3):
        truth = Truth(noise_sd=0.001, seed_sd=seed_sd)
        launcher = SyntheticLauncher(SyntheticStudy(truth=truth))
        finding = found(tmp_path / str(seed_sd), recipe(trials=12), launcher)
        rows = [row for row in finding.tables["trials"] if row["phase"] == "search"]
        named.append([(row["lr"], row["batch_size"], row["seed"]) for row in rows])
        assert regret(finding, truth, SIZES, EXAMPLES) < 0.01
        later = [key for key in named[-1] if key[2] > 0]
        assert all(sum(other[2] == key[2] for other in later) >= 2 for key in later)
    assert named[0] == named[1]


def test_a_search_killed_again_and_again_ends_as_an_undisturbed_one(finished: Path, tmp_path: Path) -> None:
    for after in (0, 2, 3, 1, 4):
        with pytest.raises(KeyboardInterrupt):
            found(tmp_path, recipe(), SyntheticLauncher(SyntheticStudy(), stop_after=after))
    found(tmp_path, recipe())
    assert StudyFolder(tmp_path).records() == StudyFolder(finished).records()
    assert json.loads((tmp_path / "findings.json").read_text()) == json.loads((finished / "findings.json").read_text())


class Backwards(SyntheticLauncher):
    """Ends the trials of a round in the opposite order."""

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        """Yield the last one first."""
        yield from super().run(requests[::-1], progress)


def test_the_order_in_which_trials_end_changes_nothing(tmp_path: Path) -> None:
    asked = recipe(at_once=4, trials=12)
    first = found(tmp_path / "a", asked)
    second = found(tmp_path / "b", asked, Backwards(SyntheticStudy()))
    assert first == second


def test_a_plan_asked_twice_is_the_same_and_holds_what_has_run(finished: Path) -> None:
    here = context(recipe(), finished)
    plan = SEARCH.plan(here)
    assert plan == SEARCH.plan(here)
    assert {spec.trial_id for spec in plan} == set(here.view.trials)


def test_several_at_once_are_different_settings_and_find_it_too(tmp_path: Path) -> None:
    finding = found(tmp_path, recipe(at_once=4, trials=12))
    rows = [row for row in finding.tables["trials"] if row["phase"] == "search"]
    for start in range(0, len(rows), 4):
        settings = {(row["lr"], row["batch_size"], row["seed"]) for row in rows[start : start + 4]}
        assert len(settings) == len(rows[start : start + 4])
    assert regret(finding, Truth(), SIZES, EXAMPLES) < Truth().noise_sd


@pytest.mark.parametrize("peak", [pytest.param(3e-5, marks=pytest.mark.slow), 30.0])
def test_the_ladder_grows_until_the_best_lr_is_inside(tmp_path: Path, peak: float) -> None:
    # The module's own LR, 1e-3, is a factor of 16 or 400 away from the best one, outside of the box about it.
    truth = Truth(peak=peak)
    finding = found(tmp_path, recipe(trials=18), SyntheticLauncher(SyntheticStudy(truth=truth)))
    assert finding.status == "ok"
    assert check(finding, "search inside").status == "PASS"
    assert regret(finding, truth, SIZES, EXAMPLES) < 3 * truth.noise_sd


def test_a_confirmed_range_test_spares_trials(finished: Path, tmp_path: Path) -> None:
    finding = found(tmp_path, recipe({"range_test": {"seeds": 2}}))
    searched = [row for row in finding.tables["trials"] if row["phase"] == "search"]
    (alone,) = read_findings(StudyFolder(finished))
    assert len(searched) < len([row for row in alone.tables["trials"] if row["phase"] == "search"])
    assert regret(finding, Truth(), SIZES, EXAMPLES) < Truth().noise_sd


def test_where_everything_diverges_it_says_how_far_down_it_looked(tmp_path: Path) -> None:
    finding = found(tmp_path, recipe(), SyntheticLauncher(SyntheticStudy(all_diverge=True)))
    assert finding.status == "cannot_tell"
    assert "all 10 trials diverged" in finding.sentence
    assert min(row["lr"] for row in finding.tables["trials"]) < 1e-6
    assert not finding.numbers


class Flat(SyntheticLauncher):
    """Gives every trial the same loss."""

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        """Yield it."""
        for record in super().run(requests, progress):
            yield dataclasses.replace(record, final_loss=1.5, status="completed", reason=None)


def test_a_flat_loss_is_said_and_nothing_named(tmp_path: Path) -> None:
    finding = found(tmp_path, recipe(), Flat(SyntheticStudy()))
    assert finding.status == "cannot_tell"
    assert "the same loss, 1.5" in finding.sentence
    # More trials of the same would tell no more.
    answer = recommend(recipe(), StudyView.of(StudyFolder(tmp_path)), [finding])
    assert isinstance(answer, Refusal)
    assert answer.needs == "Lengthen experiments.search.horizon, or set another task.monitor, in a new study."


class Offset(SyntheticLauncher):
    """Adds a constant to every loss."""

    def __init__(self, study: SyntheticStudy, constant: float) -> None:
        super().__init__(study)
        self._constant = constant

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        """Yield it."""
        for record in super().run(requests, progress):
            loss = None if record.final_loss is None else record.final_loss + self._constant
            yield dataclasses.replace(record, final_loss=loss)


@pytest.mark.parametrize("constant", [-1e6, 1e6])
def test_a_huge_constant_in_the_loss_neither_ends_a_search_early_nor_moves_its_name(
    tmp_path: Path, constant: float
) -> None:
    plain = found(tmp_path / "plain", recipe(tolerance=0.0))
    launcher = Offset(SyntheticStudy(), constant)
    finding = found(tmp_path / "offset", recipe(), launcher)
    # A thousandth of a million is more than any two losses differ by: it counts as saying nothing.
    assert sum(row["phase"] == "search" for row in finding.tables["trials"]) == 10
    for name in ("best_lr", "best_batch_size"):
        assert finding.numbers[name].value == plain.numbers[name].value
    told = check(finding, "search tolerance")
    assert told.status == "WARNING"
    assert "the loss has a constant in it" in told.sentence
    assert told.remedy is not None
    assert "lower experiments.search.tolerance to" in told.remedy
    assert re.search(r"with loss -?\d{3}[\d,]*\.?\d* \(95 % (\S+) to (?!\1)", finding.sentence), finding.sentence
    assert not any(one.name == "search tolerance" for one in plain.checks)


def test_fewer_trials_than_a_name_takes_say_so_and_are_not_confirmed(tmp_path: Path) -> None:
    launcher = SyntheticLauncher(SyntheticStudy())
    finding = found(tmp_path, recipe(trials=4), launcher)
    assert finding.status == "cannot_tell"
    assert "fewer than 5" in finding.sentence
    assert len(launcher.ran) == 4


def test_one_lr_and_one_batch_size_are_measured_with_their_noise(tmp_path: Path) -> None:
    finding = found(tmp_path, recipe(batch_sizes=[64], learning_rates=[1.1e-3, 1.1e-3]))
    assert finding.status == "ok"
    assert finding.numbers["best_lr"].value == 1.1e-3
    seeds = [row["seed"] for row in finding.tables["trials"]]
    assert seeds == list(range(len(seeds)))
    assert check(finding, "search inside").sentence.startswith("LR 1.1e-3 is the only one allowed")


def test_learning_rates_of_the_recipe_are_never_left_and_their_end_is_a_warning(tmp_path: Path) -> None:
    finding = found(tmp_path, recipe(learning_rates=[1e-4, 1e-3], batch_sizes=[64, 256]))
    assert finding.status == "ok"
    assert all(1e-4 <= row["lr"] <= 1e-3 for row in finding.tables["trials"])
    assert check(finding, "search inside").status == "WARNING"


class Failing(SyntheticLauncher):
    """Ends the trials of some batch sizes for a reason of their own."""

    def __init__(self, study: SyntheticStudy, status: str, sizes: Sequence[int]) -> None:
        super().__init__(study)
        self.status = status
        self.sizes = sizes

    def run(self, requests: Sequence[TrialRequest], progress: AbstractProgress) -> Iterator[TrialRecord]:
        """Yield failures there."""
        sizes = {request.spec.trial_id: request.spec.global_batch_size for request in requests}
        for record in super().run(requests, progress):
            if sizes[record.trial_id] in self.sizes:
                yield dataclasses.replace(record, status=self.status, reason="no memory", final_loss=None)
            else:
                yield record


@pytest.mark.slow
def test_a_batch_that_does_not_fit_takes_larger_ones_with_it(tmp_path: Path) -> None:
    finding = found(tmp_path, recipe(), Failing(SyntheticStudy(), "out_of_memory", [256, 1024]))
    rows = finding.tables["trials"]
    assert sum(row["batch_size"] >= 256 for row in rows) == 1
    assert regret(finding, Truth(), [16, 64], EXAMPLES) < Truth().noise_sd
    assert "out_of_memory" in check(finding, "search trials ran").sentence


@pytest.mark.slow
def test_noise_is_answered_with_replicates_and_a_smoothed_name(tmp_path: Path) -> None:
    truth = Truth(noise_sd=0.05)
    finding = found(tmp_path, recipe(trials=16), SyntheticLauncher(SyntheticStudy(truth=truth)))
    rows = [row for row in finding.tables["trials"] if row["phase"] == "search"]
    assert max(row["seed"] for row in rows) > 0
    assert check(finding, "search noise").status == "WARNING"
    assert 0.02 < (finding.numbers["noise_sd"].value or 0) < 0.12


def test_a_smaller_budget_leaves_a_beginning_of_the_same_course(finished: Path) -> None:
    asked = recipe()
    whole = [spec.trial_id for spec in SEARCH.plan(context(asked, finished))]
    for settings in SEARCH.reductions(asked):
        fewer = recipe(**settings)
        plan = [spec.trial_id for spec in SEARCH.plan(context(fewer, finished))]
        count = int(settings["trials"])
        assert plan[:count] == whole[:count]
        assert len(SEARCH.at_most(context(fewer, finished))) < len(SEARCH.at_most(context(asked, finished)))


def test_a_budget_is_spent_on_the_form_that_fits_it_to_its_end(tmp_path: Path) -> None:
    asked = recipe().model_copy(update={"cost": Cost.model_validate({"budget": "9 trials"})})
    launcher = SyntheticLauncher(SyntheticStudy())
    finding = found(tmp_path, asked, launcher)
    assert finding.status == "ok"
    # Five trials, and one fresh seed of three settings.
    assert [row["phase"] for row in finding.tables["trials"]] == ["search"] * 5 + ["confirmation"] * 3
    assert len(launcher.ran) == 8


def test_its_trials_are_those_of_the_sweep_at_every_second_lr(finished: Path) -> None:
    asked = recipe({"scaling": {"batch_sizes": SIZES, "horizon": f"{EXAMPLES} examples"}})
    here = context(asked, finished)
    cell = scaling_cells(here)[64]
    for lr in Setup.of(asked).ladder(here).lrs:
        if lattice_lr(lattice_index(lr, cell.ratio), cell.ratio) == lr:
            assert Setup.of(asked).spec(here, lr, 64, 1) == cell.spec(here, lr, 1)
    doubled = {lattice_lr(index, cell.ratio) for index in range(-4, 5)}
    assert doubled <= set(Setup.of(asked).ladder(here).lrs)


def test_a_course_that_another_planner_took_still_names_its_setting(finished: Path) -> None:
    # Without its first trial the replay stops at once, as where another version asked for another one.
    here = context(recipe(), finished)
    first = SEARCH.plan(here)[0].trial_id
    view = StudyView({key: trial for key, trial in here.view.trials.items() if key != first}, here.view.load_trajectory)
    without = dataclasses.replace(here, view=view)
    assert [spec.trial_id for spec in SEARCH.plan(without)] == [first]
    finding, whole = SEARCH.analyse(without), SEARCH.analyse(here)
    assert finding.status == "ok"
    assert abs(regret(finding, Truth(), SIZES, EXAMPLES)) < 2 * Truth().noise_sd
    assert len(finding.tables["trials"]) == len([r for r in whole.tables["trials"] if r["phase"] == "search"]) - 1


def test_lrs_that_count_as_equal_are_those_whose_expected_loss_is_within_the_tolerance() -> None:
    # A parabola in ln LR: an excess of 0.04 a step away, so that 0.01 is half a step.
    lrs = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    excess = np.array([0.16, 0.04, 0.0, 0.04, 0.16])
    assert _equal(lrs, excess, 4.0, 0.01) == pytest.approx(4.0 * 2**0.5)
    assert _equal(lrs[::-1], excess[::-1], 4.0, 0.01) == pytest.approx(4.0 / 2**0.5)
    assert _equal(lrs, excess, 4.0, 1.0) == 16.0
